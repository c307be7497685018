//! The embeddable log: open, append, read, follow, close.
//!
//! ```text
//!   Engine::append --topic, sum--> commit queue        (two files on the caller's side)
//!   Engine::read   --> topic index --> segments        published blocks only
//!   Engine::apply  --check--> commit queue             a leader's blocks, on a follower
//! ```
//!
//! Layer: engine. Uses everything below. Knows nothing of tokio, QUIC or the command line.

mod applied;
mod batch;
mod build;
mod cursors;
mod early;
mod mirror;
mod options;
mod reign;
mod repair;
mod retry;
mod space;
mod status;
mod tailer;
mod viewer;

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bytes::Bytes;

pub use batch::BatchWriter;
pub use mirror::{ApplyError, Following, Tip};
pub use options::{AppendOptions, Options};
#[cfg(feature = "sim")]
pub use repair::accept_loss_sim;
pub use repair::{Repaired, accept_loss};
pub use retry::RetryPolicy;
pub use status::Status;
pub use tailer::Tailer;
pub use viewer::{BlockInfo, EntryInfo, Verification, Viewer};

use crate::commit::committer::Committer;
use crate::commit::error::AppendError;
use crate::commit::plan::BlockLimit;
use crate::commit::progress::Progress;
use crate::commit::queue::Queue;
use crate::commit::submission::{Append, Flush, Level, Payloads, Submission};
use crate::commit::ticket::{Outcome, Ticket, ticket};
use crate::commit::watermark::Watermark;
use crate::commit::writer::HaltReason;
use crate::format::superblock::Role;
use crate::ids::{LogId, NodeId};
use crate::limits::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, BATCH_ENTRY_OVERHEAD, GROUP_BYTES_MAX};
use crate::log::keeper::Keeper;
use crate::log::recovery::OpenError;
use crate::log::scrub::Scrub;
use crate::log::segments::Segments;
use crate::storage::Disk;
use crate::topic::check_name;
use crate::topic::cursor::CursorFile;
use crate::topic::index::{Index, TopicInfo};
use crate::topic::reader::{LogEntry, ReadError, ReadLimit, Reader};

/// The payload of the largest batch that is written in one group; larger ones are staged.
const PLAIN_BYTES_MAX: usize = GROUP_BYTES_MAX - (1 << 20);

/// A write-ahead log in a folder. Clones share it; the last one to go closes it.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    role: Role,
    log_id: LogId,
    node_id: NodeId,
    limit: BlockLimit,
    level: Level,
    io: &'static str,
    warnings: Vec<String>,
    queue: Arc<Queue>,
    committer: Arc<Committer>,
    keeper: Arc<Keeper>,
    reign: reign::PendingReign,
    segments: Arc<Segments>,
    index: Arc<Index>,
    cursors: CursorFile,
    scrub: Scrub,
    progress: Arc<Progress>,
    /// How many follow this log now.
    followers: Arc<AtomicU64>,
    halted: HaltReason,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// How far a leader's blocks have been queued, on a follower.
    applied: Mutex<applied::Applied>,
    /// Keeps the folder ours until the last clone is gone.
    disk: Disk,
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

    /// Appends 1 to 2,000 entries to one topic, all or nothing: for readers, for followers, and across a power cut. Up to 10 GiB,
    /// counted with 24 bytes an entry; above 7 MiB it is written part by part, waiting for the disk, before the ticket is returned.
    ///
    /// # Errors
    /// As [`Engine::append`].
    pub fn append_batch(&self, topic: &str, entries: Vec<Bytes>) -> Result<Ticket, AppendError> {
        self.append_with(topic, entries, AppendOptions::default())
    }

    /// The same with options of its own: a durability level, the offset that is expected.
    ///
    /// # Errors
    /// As [`Engine::append`]; the ticket ends with [`AppendError::UnexpectedOffset`] if the topic does not end where it should.
    pub fn append_with(&self, topic: &str, entries: Vec<Bytes>, options: AppendOptions) -> Result<Ticket, AppendError> {
        self.submit(topic, entries, options, true, |inner, submission| inner.queue.push(submission))
    }

    /// Appends and waits: as [`Engine::append_with`] and [`Ticket::wait`], and faster where nobody else appends just then, for the calling
    /// thread commits by itself. With others it is the same.
    ///
    /// # Errors
    /// As both of them.
    pub fn append_and_wait(&self, topic: &str, entries: Vec<Bytes>, options: AppendOptions) -> Outcome {
        let commit = |inner: &Inner, submission| match inner.committer.commit_here(submission) {
            Ok(()) => Ok(()),
            Err(submission) => inner.queue.push(submission),
        };
        self.submit(topic, entries, options, true, commit)?.wait()
    }

    /// Appends without waiting for room in the queue.
    ///
    /// # Errors
    /// [`AppendError::Busy`] where [`Engine::append`] would wait, and for batches above 7 MiB, which have to.
    pub fn try_append(&self, topic: &str, entries: Vec<Bytes>) -> Result<Ticket, AppendError> {
        if entries.iter().map(Bytes::len).sum::<usize>() > PLAIN_BYTES_MAX {
            return Err(AppendError::Busy { reason: "a batch of this size has to wait for the disk" });
        }
        self.submit(topic, entries, AppendOptions::default(), false, |inner, submission| {
            inner.queue.try_push(submission)
        })
    }

    fn submit(
        &self,
        topic: &str,
        mut entries: Vec<Bytes>,
        options: AppendOptions,
        may_wait: bool,
        push: impl FnOnce(&Inner, Submission) -> Result<(), AppendError>,
    ) -> Result<Ticket, AppendError> {
        let payload_bytes = self.check_append(topic, &entries)?;
        if payload_bytes > PLAIN_BYTES_MAX {
            let mut batch = self.begin_batch(topic, options)?;
            entries.into_iter().try_for_each(|entry| batch.push(entry))?;
            return batch.commit();
        }
        self.begin_reign()?;
        let topic = self.inner.index.topic_for_append(topic);
        if let Some(receipt) = self.append_early(&topic, &mut entries, &options, may_wait) {
            return Ok(receipt.into());
        }
        let (ticket, reply) = ticket();
        let (n_entries, fragment_bytes_max) = (entries.len(), self.inner.limit.payload_bytes_max(1));
        let payloads = Payloads::of(entries, fragment_bytes_max);
        let AppendOptions { level, expect_offset } = options;
        let level = level.unwrap_or(self.inner.level);
        let append = Append { topic, payloads, n_entries, payload_bytes, level, expect_offset, staging: None, reply };
        push(&self.inner, Submission::Append(append))?;
        Ok(ticket)
    }

    /// Begins a batch that is fed entry by entry and need not fit in memory; up to 2,000 entries and 10 GiB. It takes its place among
    /// the appends to its topic when it is committed.
    ///
    /// # Errors
    /// An invalid topic, a follower's log; a disk that was full when the log was opened, and still is.
    pub fn begin_batch(&self, topic: &str, options: AppendOptions) -> Result<BatchWriter, AppendError> {
        self.check_topic(topic)?;
        self.begin_reign()?;
        let topic = self.inner.index.topic_for_append(topic);
        Ok(BatchWriter::new(self.clone(), topic, options))
    }

    /// Makes everything that was queued so far durable, whatever its level. The ticket's receipt says nothing but the LSN.
    ///
    /// # Errors
    /// A log that is closed or has halted.
    pub fn flush(&self) -> Result<Ticket, AppendError> {
        let (ticket, reply) = ticket();
        self.inner.queue.push(Submission::Flush(Flush { reply }))?;
        Ok(ticket)
    }

    fn check_topic(&self, topic: &str) -> Result<(), AppendError> {
        if self.inner.role != Role::Leader {
            return Err(AppendError::NotLeader);
        }
        check_name(topic).map_err(|invalid| {
            let name = topic.chars().take(40).flat_map(char::escape_debug).collect();
            AppendError::InvalidTopic { name, reason: invalid.reason }
        })
    }

    /// Refuses what cannot be appended, before anything is reserved for it. Returns the bytes of payload.
    pub(crate) fn check_append(&self, topic: &str, entries: &[Bytes]) -> Result<usize, AppendError> {
        self.check_topic(topic)?;
        if entries.is_empty() || entries.len() > BATCH_ENTRIES_MAX {
            return Err(AppendError::InvalidBatch { entries: entries.len(), max: BATCH_ENTRIES_MAX });
        }
        let payload_bytes: usize = entries.iter().map(Bytes::len).sum();
        let bytes = payload_bytes as u64 + entries.len() as u64 * BATCH_ENTRY_OVERHEAD;
        if bytes > BATCH_BYTES_MAX {
            return Err(AppendError::TooLarge { what: "a batch", bytes, max: BATCH_BYTES_MAX });
        }
        Ok(payload_bytes)
    }

    /// Reads entries of a topic from `offset` on; none at its end. Only what was acknowledged, and whole batches as far as the limit goes.
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
        self.settle();
        Reader { index: &self.inner.index, segments: &self.inner.segments }
    }

    /// Reads a topic from `offset` on and goes on with what is appended later, as one stream.
    pub fn tail(&self, topic: &str, offset: u64) -> Tailer {
        Tailer::new(self.clone(), topic.to_owned(), offset)
    }

    /// A topic, if the log has it.
    pub fn topic(&self, name: &str) -> Option<TopicInfo> {
        self.settle();
        self.inner.index.topic(name)?.info()
    }

    /// Every topic of the log, by number.
    pub fn topics(&self) -> Vec<TopicInfo> {
        self.settle();
        self.inner.index.all()
    }

    /// The durable watermark: how far the log survives a power cut, and is shipped to followers.
    pub fn durable(&self) -> Watermark {
        self.inner.progress.durable.clone()
    }

    /// The published watermark: how far appends have been acknowledged, and reads go. Ahead of the durable one only by entries that
    /// were acknowledged as [written](Level::Written).
    pub fn published(&self) -> Watermark {
        self.inner.progress.published.clone()
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
        self.scrub.stop();
        let halted = self.halted.lock().expect("no holder of this lock panics").clone();
        if halted.is_none() {
            self.end_early();
        }
        halted.map_or(Ok(()), |reason| Err(CloseError { reason }))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Whoever wants to know how it ended calls `close` before.
        let _ = self.close();
    }
}
