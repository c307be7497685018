//! The embeddable log: open, append, read, follow, close.
//!
//! ```text
//!   Engine::append --topic, sum--> commit queue        (two files on the caller's side)
//!   Engine::read   --> topic index --> segments        published blocks only
//!   Engine::apply  --check--> commit queue             a leader's blocks, on a follower
//! ```
//!
//! Layer: engine. Uses everything below. Knows nothing of tokio, QUIC or the command line.

mod build;
mod cursors;
mod mirror;
mod options;
mod status;
mod tailer;
mod viewer;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bytes::Bytes;

pub use mirror::{ApplyError, Tip};
pub use options::Options;
pub use status::Status;
pub use tailer::Tailer;
pub use viewer::{BlockInfo, EntryInfo, Verification, Viewer};

use crate::commit::error::AppendError;
use crate::commit::plan::BlockLimit;
use crate::commit::queue::Queue;
use crate::commit::submission::{Append, Payload, Submission};
use crate::commit::ticket::{Ticket, ticket};
use crate::commit::watermark::Watermark;
use crate::commit::writer::HaltReason;
use crate::format::superblock::Role;
use crate::ids::{Incarnation, LogId, NodeId};
use crate::limits::{BATCH_ENTRIES_MAX, GROUP_BYTES_MAX};
use crate::log::recovery::OpenError;
use crate::log::segments::Segments;
use crate::storage::Disk;
use crate::topic::check_name;
use crate::topic::cursor::CursorFile;
use crate::topic::index::{Index, TopicInfo};
use crate::topic::reader::{LogEntry, ReadError, ReadLimit, Reader};

/// The payload of the largest batch that is written in one group; larger ones are a later version's.
const BATCH_BYTES_MAX: usize = GROUP_BYTES_MAX - (1 << 20);

/// A write-ahead log in a folder. Clones share it; the last one to go closes it.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    role: Role,
    log_id: LogId,
    node_id: NodeId,
    incarnation: Incarnation,
    limit: BlockLimit,
    io: &'static str,
    warnings: Vec<String>,
    queue: Arc<Queue>,
    segments: Arc<Segments>,
    index: Arc<Index>,
    cursors: CursorFile,
    watermark: Watermark,
    halted: HaltReason,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// How far a leader's blocks have been queued, on a follower.
    applied: Mutex<mirror::Applied>,
    /// Keeps the folder ours until the last clone is gone.
    _disk: Disk,
}

/// Why a log could not be closed in order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log ended without order: {reason}; the next open will look for the end of the log by itself")]
pub struct CloseError {
    /// What went wrong.
    pub reason: String,
}

impl Engine {
    /// Opens the log in `path` for writing, as a leader; makes folder and log if there is none. A new reign begins.
    ///
    /// # Errors
    /// [`OpenError::Locked`] if another process has the folder, [`OpenError::Role`] if it is a follower's,
    /// [`OpenError::Damaged`] if something durable is damaged; nothing is changed then.
    pub fn open(path: &Path, options: Options) -> Result<Engine, OpenError> {
        build::open_path(path, options, build::As::Leader)
    }

    /// Opens a follower's log: it takes a leader's blocks ([`Engine::apply`]) and no appends. `log_id` is the leader's; without it only
    /// a folder that already has a log is opened.
    ///
    /// # Errors
    /// As [`Engine::open`]; [`OpenError::OtherLog`] if the folder mirrors another log.
    pub fn open_mirror(path: &Path, log_id: Option<LogId>, options: Options) -> Result<Engine, OpenError> {
        build::open_path(path, options, build::As::Mirror(log_id))
    }

    /// Opens a leader's log on a simulated disk.
    ///
    /// # Errors
    /// As [`Engine::open`].
    #[cfg(feature = "sim")]
    pub fn open_sim(disk: &crate::storage::sim::SimDisk, options: Options) -> Result<Engine, OpenError> {
        build::open_disk(disk.open(crate::storage::Access::Write)?, options, build::As::Leader)
    }

    /// Opens a follower's log on a simulated disk.
    ///
    /// # Errors
    /// As [`Engine::open_mirror`].
    #[cfg(feature = "sim")]
    pub fn open_mirror_sim(
        disk: &crate::storage::sim::SimDisk,
        log_id: Option<LogId>,
        options: Options,
    ) -> Result<Engine, OpenError> {
        build::open_disk(disk.open(crate::storage::Access::Write)?, options, build::As::Mirror(log_id))
    }

    /// Appends one entry. Returns once it is queued; the ticket says when it is durable, and where it went.
    ///
    /// Waits for room when the queue is full.
    ///
    /// # Errors
    /// An invalid topic or entry, a follower's log, a log that is closed or has halted. Nothing is written then.
    pub fn append(&self, topic: &str, entry: impl Into<Bytes>) -> Result<Ticket, AppendError> {
        self.append_batch(topic, vec![entry.into()])
    }

    /// Appends 1 to 2,000 entries to one topic, all or nothing: for readers, for followers, and across a power cut.
    ///
    /// # Errors
    /// As [`Engine::append`].
    pub fn append_batch(&self, topic: &str, entries: Vec<Bytes>) -> Result<Ticket, AppendError> {
        let payload_bytes = self.check_append(topic, &entries)?;
        let topic = Arc::clone(&self.inner.index.topic_for_append(topic).slot);
        let (ticket, reply) = ticket();
        let entries = entries.into_iter().map(Payload::new).collect();
        self.inner.queue.push(Submission::Append(Append { topic, entries, payload_bytes, reply }))?;
        Ok(ticket)
    }

    /// Refuses what cannot be appended, before anything is reserved for it. Returns the bytes of payload.
    pub(crate) fn check_append(&self, topic: &str, entries: &[Bytes]) -> Result<usize, AppendError> {
        if self.inner.role != Role::Leader {
            return Err(AppendError::NotLeader);
        }
        check_name(topic).map_err(|invalid| {
            let name = topic.chars().take(40).flat_map(char::escape_debug).collect();
            AppendError::InvalidTopic { name, reason: invalid.reason }
        })?;
        if entries.is_empty() || entries.len() > BATCH_ENTRIES_MAX {
            return Err(AppendError::InvalidBatch { entries: entries.len(), max: BATCH_ENTRIES_MAX });
        }
        let longest = entries.iter().map(Bytes::len).max().unwrap_or(0);
        let too_large =
            |what, bytes: usize, max: usize| Err(AppendError::TooLarge { what, bytes: bytes as u64, max: max as u64 });
        let entry_bytes_max = self.inner.limit.payload_bytes_max(1);
        if longest > entry_bytes_max {
            return too_large("an entry", longest, entry_bytes_max);
        }
        let payload_bytes: usize = entries.iter().map(Bytes::len).sum();
        if payload_bytes > BATCH_BYTES_MAX {
            return too_large("a batch", payload_bytes, BATCH_BYTES_MAX);
        }
        Ok(payload_bytes)
    }

    /// Reads entries of a topic from `offset` on; none at its end. Only what is durable, and whole batches as far as the limit goes.
    ///
    /// # Errors
    /// An unknown topic, an offset beyond the end or given away, damage (with the next offset that can be read).
    pub fn read(&self, topic: &str, offset: u64, limit: ReadLimit) -> Result<Vec<LogEntry>, ReadError> {
        self.reader().read(topic, offset, limit)
    }

    /// The offset of the first entry of a topic at or after a time (nanoseconds since 1970).
    ///
    /// # Errors
    /// An unknown topic, or damage.
    pub fn offset_at_time(&self, topic: &str, ts_ns: u64) -> Result<u64, ReadError> {
        self.reader().offset_at_time(topic, ts_ns)
    }

    fn reader(&self) -> Reader<'_> {
        Reader { index: &self.inner.index, segments: &self.inner.segments }
    }

    /// Reads a topic from `offset` on and goes on with what is appended later, as one stream.
    pub fn tail(&self, topic: &str, offset: u64) -> Tailer {
        Tailer::new(self.clone(), topic.to_owned(), offset)
    }

    /// A topic, if the log has it.
    pub fn topic(&self, name: &str) -> Option<TopicInfo> {
        self.inner.index.topic(name)?.info()
    }

    /// Every topic of the log, by number.
    pub fn topics(&self) -> Vec<TopicInfo> {
        self.inner.index.all()
    }

    /// The durable watermark: how far the log goes, for those who wait for more.
    pub fn durable(&self) -> Watermark {
        self.inner.watermark.clone()
    }

    /// Takes no more appends, makes everything that was accepted durable, and marks the folder as closed in order.
    /// Closing again does nothing.
    ///
    /// # Errors
    /// When the log has halted: the next open must find the end of the log by itself.
    pub fn close(&self) -> Result<(), CloseError> {
        self.inner.close()
    }
}

impl Inner {
    fn close(&self) -> Result<(), CloseError> {
        self.queue.close(AppendError::Closed);
        if let Some(thread) = self.thread.lock().expect("no holder of this lock panics").take() {
            let panicked = CloseError { reason: "the commit thread panicked".into() };
            thread.join().map_err(|_| panicked)?;
        }
        let halted = self.halted.lock().expect("no holder of this lock panics").clone();
        halted.map_or(Ok(()), |reason| Err(CloseError { reason }))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Whoever wants to know how it ended calls `close` before.
        let _ = self.close();
    }
}
