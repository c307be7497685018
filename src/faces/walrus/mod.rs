//! The interface of the crate `walrus-rust` 0.2 over this log: a program written against it changes the line of its dependency.
//!
//! ```text
//!   Walrus (any number of handles)
//!     `--> Shared, one for each folder in this process (shared.rs): the engine, and for each topic
//!            its name in the log (topic_name.rs)
//!            a flag: a batch is in progress (write.rs)
//!            a position: the entry that comes next, and a cursor of the engine behind it (read.rs)
//! ```
//!
//! Names, signatures and answers are those of 0.2 (and of its later `builder`, `get_topic_entry_count`); what they promise, they keep:
//! a batch is all or nothing for readers and across a power cut, a failure leaves what was there before, a consumed position is where the
//! documentation says after a restart. Files of 0.2 are not read: the log begins anew beside them.
//!
//! Layer: faces. Uses `engine`. Knows nothing of blocks or of the network.

mod builder;
mod error;
mod folder;
mod index;
mod options;
mod read;
mod shared;
mod topic_name;
mod write;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

pub use builder::WalrusBuilder;
pub use index::{BlockPos, WalIndex};
pub use options::{FsyncSchedule, ReadConsistency, disable_fd_backend, enable_fd_backend};

use crate::commit::submission::Level;
use crate::engine::Engine;
use shared::Shared;

/// One entry as it is read.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The bytes that were appended.
    pub data: Vec<u8>,
}

/// A write-ahead log of topics, each with one durable read position: the interface of `walrus-rust` 0.2.
///
/// ```
/// use walrus_node::Walrus;
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path().to_path_buf();
/// let wal = Walrus::builder().data_dir(folder).build()?; // or Walrus::new(), in ./wal_files
/// wal.append_for_topic("orders", b"one apple")?;
/// wal.batch_append_for_topic("orders", &[b"two pears", b"no plums"])?; // all or nothing
/// assert_eq!(wal.read_next("orders", false)?.unwrap().data, b"one apple"); // a look
/// assert_eq!(wal.read_next("orders", true)?.unwrap().data, b"one apple"); // consumed
/// assert_eq!(wal.batch_read_for_topic("orders", 1 << 20, true)?.len(), 2);
/// assert!(wal.read_next("orders", true)?.is_none());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Handles on one folder in one process share the log and the read positions; how often it is flushed, and how the disk is reached, the
/// first of them decides. Another process gets an error of kind `ResourceBusy`. The
/// last handle to go closes the log.
///
/// # Errors
/// Every method says [`io::Error`], and the kind says what happened; where the engine refused or failed, its own error
/// ([`AppendError`](crate::AppendError), [`ReadError`](crate::ReadError), [`OpenError`](crate::OpenError),
/// [`CursorError`](crate::CursorError)) is inside.
///
/// | kind | what it says |
/// |---|---|
/// | `WouldBlock` | a batch to that topic is in progress; nothing was written |
/// | `InvalidInput` | too many entries or bytes, or a name no topic can have; nothing was written |
/// | `Unsupported` | a batch by io_uring on a handle without file descriptors; nothing was written |
/// | `StorageFull` | no room on the disk; nothing was written |
/// | `InvalidData` | something durable is damaged |
/// | `ResourceBusy` | another process has the folder |
/// | `BrokenPipe` | the log was closed |
/// | `Other` | the log has halted: the error inside tells "never written" from "not known until it is opened again" |
pub struct Walrus {
    shared: Arc<Shared>,
    consistency: ReadConsistency,
    /// What a single append promises; `None`: what the log was opened with.
    level: Option<Level>,
}

impl Walrus {
    /// Every consumed position is durable ([`ReadConsistency::StrictlyAtOnce`]), and entries are flushed every 200 ms or sooner.
    ///
    /// The folder is `WALRUS_DATA_DIR`, or `wal_files` in the current one, and in it the one of `WALRUS_INSTANCE_KEY`, if that is set.
    ///
    /// # Errors
    /// When the folder cannot be made, is in use by another process, or holds a damaged log.
    pub fn new() -> io::Result<Walrus> {
        Walrus::builder().build()
    }

    /// The same with another rule for read positions.
    ///
    /// # Errors
    /// As [`Walrus::new`].
    pub fn with_consistency(mode: ReadConsistency) -> io::Result<Walrus> {
        Walrus::builder().consistency(mode).build()
    }

    /// The same with other rules for read positions and for flushes.
    ///
    /// # Errors
    /// As [`Walrus::new`].
    pub fn with_consistency_and_schedule(mode: ReadConsistency, fsync_schedule: FsyncSchedule) -> io::Result<Walrus> {
        Walrus::builder().consistency(mode).fsync_schedule(fsync_schedule).build()
    }

    /// A log of its own for `key`, in a folder of that name within `WALRUS_DATA_DIR`; characters that a file name should not have become
    /// `_`.
    ///
    /// # Errors
    /// As [`Walrus::new`].
    pub fn new_for_key(key: &str) -> io::Result<Walrus> {
        Walrus::builder().key(key).build()
    }

    /// The same with another rule for read positions.
    ///
    /// # Errors
    /// As [`Walrus::new`].
    pub fn with_consistency_for_key(key: &str, mode: ReadConsistency) -> io::Result<Walrus> {
        Walrus::builder().key(key).consistency(mode).build()
    }

    /// The same with other rules for read positions and for flushes.
    ///
    /// # Errors
    /// As [`Walrus::new`].
    pub fn with_consistency_and_schedule_for_key(
        key: &str,
        mode: ReadConsistency,
        fsync_schedule: FsyncSchedule,
    ) -> io::Result<Walrus> {
        Walrus::builder().key(key).consistency(mode).fsync_schedule(fsync_schedule).build()
    }

    /// A handle to be configured step by step, without environment variables.
    pub fn builder() -> WalrusBuilder {
        WalrusBuilder::new()
    }

    /// This interface on a log that is open already, and stays open for its other users; single appends promise what it was opened with.
    /// Handles made from clones of one engine have read
    /// positions and batches of their own, so make one and share it.
    pub fn over(log: Engine, mode: ReadConsistency) -> Walrus {
        Walrus { shared: Arc::new(Shared::new(log)), consistency: mode, level: None }
    }

    /// Entries of a topic that are not consumed yet; 0 for one that does not exist.
    pub fn topic_entry_count(&self, topic: &str) -> u64 {
        // A name that no topic can have is that of none.
        self.shared.topic(topic).map_or(0, |topic| self.shared.unread(&topic))
    }

    /// The same for every topic that has ever had an entry.
    pub fn topic_entry_counts(&self) -> HashMap<String, u64> {
        let names = self.shared.log.topics().into_iter().map(|topic| topic_name::from_log(&topic.name));
        names.map(|name| (name.clone(), self.topic_entry_count(&name))).collect()
    }

    /// [`Walrus::topic_entry_count`], as later versions of the crate spell it.
    pub fn get_topic_entry_count(&self, topic: &str) -> u64 {
        self.topic_entry_count(topic)
    }

    /// [`Walrus::topic_entry_counts`], as later versions of the crate spell it.
    pub fn get_topic_entry_counts(&self) -> HashMap<String, u64> {
        self.topic_entry_counts()
    }
}
