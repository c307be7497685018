//! What the handles on one folder share: the engine, and what each topic needs beside it.
//!
//! The original lets a process open a folder twice. Here a second handle finds the first one's log, by the folder's identity and not by
//! its path, so both see one another's entries and consume one position.
//!
//! Layer: faces.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};

use super::options::{FsyncSchedule, engine_options};
use super::read::Position;
use super::{error, folder, topic_name};
use crate::engine::Engine;
use crate::topic::cursor::Cursor;

/// The cursor that holds a topic's read position.
pub(super) const CURSOR: &str = "walrus";

/// One log of this process.
pub(super) struct Shared {
    pub(super) log: Engine,
    /// The log is reached through mapped files, because `disable_fd_backend` had been called. Whoever hands over a log that is open already
    /// has chosen by other means, and no backend is asked for.
    pub(super) mapped: bool,
    topics: RwLock<HashMap<Box<str>, Arc<Topic>>>,
    /// Bytes consumed since files were last given back.
    consumed_bytes: AtomicU64,
}

/// After so many bytes have been consumed it is looked whether files can be given back: a look costs a few writes of the disk, a file is
/// 16 MiB and more.
const LOOK_AFTER_BYTES: u64 = 4 << 20;

/// What is known of a topic beside the log.
pub(super) struct Topic {
    /// Its name in the log.
    pub(super) name: String,
    pub(super) batch_in_progress: AtomicBool,
    position: Mutex<Position>,
}

impl Topic {
    /// Whoever holds it reads and consumes; nobody else does meanwhile, so no entry is consumed twice.
    pub(super) fn position(&self) -> MutexGuard<'_, Position> {
        // Every step leaves a position that can be read from, also one that panicked.
        self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Device and inode of a folder.
type Identity = (u64, u64);

/// The logs that this process has open.
fn open_logs() -> &'static Mutex<HashMap<Identity, Weak<Shared>>> {
    static OPEN: OnceLock<Mutex<HashMap<Identity, Weak<Shared>>>> = OnceLock::new();
    OPEN.get_or_init(Mutex::default)
}

/// The log in `root`, opened if it is not open in this process. Whoever opens it first decides how it is flushed and reached.
pub(super) fn open(root: &Path, schedule: FsyncSchedule) -> io::Result<Arc<Shared>> {
    folder::make(root)?;
    let metadata = root.metadata()?;
    let identity = (metadata.dev(), metadata.ino());
    // Held while a log is opened, or two threads would open one folder and one of them find it locked.
    let mut logs = open_logs().lock().unwrap_or_else(PoisonError::into_inner);
    logs.retain(|_, shared| shared.strong_count() > 0);
    if let Some(shared) = logs.get(&identity).and_then(Weak::upgrade) {
        return Ok(shared);
    }
    // A handle that is going just now still holds LOCK; the engine waits for it.
    let log = Engine::open(root, engine_options(schedule)).map_err(error::of_open)?;
    let shared = Arc::new(Shared { mapped: log.status().io == "mmap", ..Shared::new(log) });
    logs.insert(identity, Arc::downgrade(&shared));
    Ok(shared)
}

impl Shared {
    pub(super) fn new(log: Engine) -> Shared {
        Shared { log, mapped: false, topics: RwLock::default(), consumed_bytes: AtomicU64::new(0) }
    }

    /// What is known of a topic; its read position is the durable one when it is first asked for.
    ///
    /// # Errors
    /// `InvalidInput`: a name no topic can have.
    pub(super) fn topic(&self, name: &str) -> io::Result<Arc<Topic>> {
        if let Some(topic) = self.topics.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(Arc::clone(topic));
        }
        let in_the_log = topic_name::to_log(name)?;
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let topic = topics.entry(name.into()).or_insert_with(|| {
            let position = Position::at(self.log.cursor(CURSOR, &in_the_log).unwrap_or(0));
            let (batch_in_progress, position) = (AtomicBool::new(false), Mutex::new(position));
            Arc::new(Topic { name: in_the_log, batch_in_progress, position })
        });
        Ok(Arc::clone(topic))
    }

    /// Gives back the files whose entries have all been consumed, durably, by the readers of their topics; now and then. A topic that was
    /// never read here keeps its files. That it fails is no matter of the reader, and is tried again.
    pub(super) fn give_back_after(&self, bytes: usize) {
        let consumed = self.consumed_bytes.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        if consumed < LOOK_AFTER_BYTES {
            return;
        }
        self.consumed_bytes.store(0, Ordering::Relaxed);
        let _ = self.log.trim_topics(&needed(self.log.cursors()));
    }

    /// Entries behind a topic's read position.
    pub(super) fn unread(&self, topic: &Topic) -> u64 {
        let next = topic.position().next();
        let Some(info) = self.log.topic(&topic.name) else { return 0 };
        info.next_offset.saturating_sub(next.max(info.first_offset))
    }
}

/// The first offset of each topic that is read here which some reader still needs: the log may have other users with cursors of their own.
fn needed(cursors: Vec<Cursor>) -> BTreeMap<String, u64> {
    let (ours, others): (Vec<_>, Vec<_>) = cursors.into_iter().partition(|cursor| cursor.name == CURSOR);
    let mut needed: BTreeMap<_, _> = ours.into_iter().map(|cursor| (cursor.topic, cursor.offset)).collect();
    for other in others {
        if let Some(offset) = needed.get_mut(&other.topic) {
            *offset = other.offset.min(*offset);
        }
    }
    needed
}
