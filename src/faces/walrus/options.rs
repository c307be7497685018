//! How a handle behaves, and what that means for the engine.
//!
//! Layer: faces.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::commit::flushing::FlushEvery;
use crate::commit::submission::Level;
use crate::engine::Options;
use crate::storage::IoMode;

/// When a consumed position becomes durable.
#[derive(Clone, Copy, Debug)]
pub enum ReadConsistency {
    /// Before the read that consumes returns: nothing is read twice.
    StrictlyAtOnce,
    /// With every so many entries consumed: after a restart fewer than that are read again. It saves flushes.
    AtLeastOnce {
        /// Entries from one durable position to the next; 0 is taken as 1.
        persist_every: u32,
    },
}

impl ReadConsistency {
    /// Entries from one durable position to the next.
    pub(super) fn persist_every(self) -> u64 {
        match self {
            ReadConsistency::StrictlyAtOnce => 1,
            ReadConsistency::AtLeastOnce { persist_every } => u64::from(persist_every.max(1)),
        }
    }
}

/// When single entries are flushed. Whatever it says, an entry that was appended survives the death of the process, a batch is flushed
/// before its append returns, and closing flushes everything.
#[derive(Clone, Copy, Debug)]
pub enum FsyncSchedule {
    /// At most so many milliseconds after the append: a power cut takes those of that time.
    Milliseconds(u64),
    /// Before the append returns.
    SyncEach,
    /// When there is another reason to: no promise across a power cut.
    NoFsync,
}

/// Chosen for the process, as in the original.
static FD_BACKEND: AtomicBool = AtomicBool::new(true);

/// Logs opened from now on use file descriptors: io_uring where it can be had, plain system calls where not. So it is from the start.
pub fn enable_fd_backend() {
    FD_BACKEND.store(true, Ordering::Relaxed);
}

/// Logs opened from now on use memory mapped to the files, without io_uring; batches are written sequentially, and are still atomic.
pub fn disable_fd_backend() {
    FD_BACKEND.store(false, Ordering::Relaxed);
}

/// Whether batches are asked to go by file descriptors.
pub(super) fn fd_backend() -> bool {
    FD_BACKEND.load(Ordering::Relaxed)
}

/// What a schedule is to the engine: what a single append promises, and how often what is merely written is flushed. A batch is flushed
/// before it returns whatever the schedule, as in the original.
fn durability(schedule: FsyncSchedule) -> (Level, FlushEvery) {
    let every = |interval| FlushEvery { entries: None, interval };
    match schedule {
        FsyncSchedule::SyncEach => (Level::Durable, every(None)),
        // 0 ms would be a flush for each group, and is one millisecond there too.
        FsyncSchedule::Milliseconds(ms) => (Level::Written, every(Some(Duration::from_millis(ms.max(1))))),
        FsyncSchedule::NoFsync => (Level::Written, every(None)),
    }
}

/// What a single append of a handle promises.
pub(super) fn append_level(schedule: FsyncSchedule) -> Level {
    durability(schedule).0
}

/// How the engine is opened for a schedule of flushes.
pub(super) fn engine_options(schedule: FsyncSchedule) -> Options {
    let io = if fd_backend() { IoMode::Auto } else { IoMode::Mmap };
    let (level, flush_every) = durability(schedule);
    Options { io, level, flush_every, ..Options::default() }
}
