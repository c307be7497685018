//! How a handle behaves, and what that means for the engine.
//!
//! Layer: faces.

use std::sync::atomic::{AtomicBool, Ordering};

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

/// When what is appended is flushed.
#[derive(Clone, Copy, Debug)]
pub enum FsyncSchedule {
    /// At least every so many milliseconds.
    Milliseconds(u64),
    /// Before the append returns.
    SyncEach,
    /// When the system likes: no promise across a power cut.
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

/// How the engine is opened for a schedule of flushes.
pub(super) fn engine_options(schedule: FsyncSchedule) -> Options {
    let io = if fd_backend() { IoMode::Auto } else { IoMode::Mmap };
    match schedule {
        // The engine knows one level: durable before the append returns. That is what the strictest asks for, and more than the others do.
        FsyncSchedule::SyncEach | FsyncSchedule::Milliseconds(_) | FsyncSchedule::NoFsync => {
            Options { io, ..Options::default() }
        }
    }
}
