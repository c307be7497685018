//! The background thread that keeps the commit path free of everything slow: it owns the superblock and makes spares.
//!
//! ```text
//!   commit thread  -- note(published tail) -->  keeper   hint: at rollover, every 64 MiB, when idle (once a second)
//!                  <-- take_spare() ---------   keeper   spare: zeros, header, flush, rename, flush of the folder
//! ```
//!
//! The commit thread waits for it in two cases only: no spare is ready, or the next write would go further past the durable hint
//! than recovery searches.
//!
//! A failed write of the superblock halts the log: a hint or a fence that may or may not be there is worse than none.
//!
//! This file holds the handle, what the two threads share, and the thread's loop; `fence`, `hint` and `spares` are its jobs.
//!
//! Layer: log. Uses `segment`, `superblock`. Knows nothing of blocks in flight.

mod fence;
mod hint;
mod spares;

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) use hint::Published;
pub(crate) use spares::{NoSpare, SegmentSizes};

use super::open::Writable;
use super::segment::Segment;
use super::superblock::SuperblockFile;
use crate::entropy::Entropy;
use crate::ids::{Incarnation, LogId, SegmentNo};
use crate::limits::HINT_WINDOW_BYTES;
use crate::storage::{Disk, Waker};

/// How long the log must be idle before its hint is refreshed.
const IDLE: Duration = Duration::from_secs(1);

/// A handle on the thread.
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Wakes the commit thread when the log must halt.
    commit: Waker,
}

struct State {
    spares: VecDeque<Arc<Segment>>,
    /// Why the last attempt to make a spare failed; the next demand tries again.
    no_spare: Option<NoSpare>,
    spare_demanded: bool,
    published: Published,
    /// What the superblock on disk says.
    recorded: Published,
    refresh_demanded: bool,
    /// Something is to be cut off; and how that went.
    fence: Option<fence::Cut>,
    fenced: Option<Result<Incarnation, String>>,
    /// A write of the superblock failed.
    failed: Option<String>,
    stop: Option<Stop>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Nothing is in flight, the published tail is the end.
    Clean,
    /// The log has halted: the next open must look for itself.
    Halted,
}

impl Keeper {
    /// Starts the thread. `start` is the tail at open, already recorded.
    pub(crate) fn start(
        disk: Disk,
        writable: Writable,
        start: Published,
        sizes: SegmentSizes,
        entropy: Entropy,
        commit: Waker,
    ) -> Keeper {
        let state = State {
            spares: writable.spares.into(),
            no_spare: None,
            spare_demanded: false,
            published: start,
            recorded: start,
            refresh_demanded: false,
            fence: None,
            fenced: None,
            failed: None,
            stop: None,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), commit });
        let worker = Worker {
            shared: Arc::clone(&shared),
            log_id: writable.superblock.now.log_id,
            align: writable.superblock.now.align,
            next_segment: writable.next_segment,
            log_bytes: writable.segments.values().map(|segment| segment.header.bytes).sum(),
            sizes,
            disk,
            superblock: writable.superblock,
            entropy,
        };
        let thread = std::thread::Builder::new()
            .name("walrus-keeper".into())
            .spawn(move || worker.run())
            .expect("the system can start a thread");
        Keeper { shared, thread: Mutex::new(Some(thread)) }
    }

    /// Takes the next spare, waiting until one is made.
    pub(crate) fn take_spare(&self) -> Result<Arc<Segment>, NoSpare> {
        let mut state = self.shared.lock();
        state.no_spare = None;
        loop {
            if let Some(spare) = state.spares.pop_front() {
                self.shared.changed.notify_all(); // the next one can be made
                return Ok(spare);
            }
            if let Some(reason) = state.no_spare.clone() {
                return Err(reason);
            }
            if let Some(reason) = state.failed.clone() {
                return Err(NoSpare { reason, full: false });
            }
            state.spare_demanded = true;
            self.shared.changed.notify_all();
            state = self.shared.wait(state);
        }
    }

    /// Tells the keeper how far the log is published. Cheap: the superblock is written only when it is time.
    pub(crate) fn note(&self, published: Published) {
        let mut state = self.shared.lock();
        state.published = published;
        if state.refresh_due() {
            self.shared.changed.notify_all();
        }
    }

    /// Waits until a write up to `linear_end` stays within the window past the durable hint.
    pub(crate) fn wait_for_window(&self, linear_end: u64) -> Result<(), String> {
        let mut state = self.shared.lock();
        while linear_end > state.recorded.linear + HINT_WINDOW_BYTES {
            if let Some(reason) = &state.failed {
                return Err(reason.clone());
            }
            state.refresh_demanded = true;
            self.shared.changed.notify_all();
            state = self.shared.wait(state);
        }
        Ok(())
    }

    /// Why the log must halt, if it must.
    pub(crate) fn failed(&self) -> Option<String> {
        self.shared.lock().failed.clone()
    }

    /// Ends the thread. With `clean`, the superblock says that nothing lies behind the published tail.
    pub(crate) fn stop(&self, clean: bool) -> Result<(), String> {
        self.shared.lock().stop.get_or_insert(if clean { Stop::Clean } else { Stop::Halted });
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.lock().expect("no holder of this lock panics").take() {
            thread.join().map_err(|_| "the keeper thread panicked".to_owned())?;
        }
        self.failed().map_or(Ok(()), Err)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).expect("no holder of this lock panics")
    }
}

struct Worker {
    shared: Arc<Shared>,
    disk: Disk,
    superblock: SuperblockFile,
    entropy: Entropy,
    log_id: LogId,
    align: u32,
    next_segment: SegmentNo,
    log_bytes: u64,
    sizes: SegmentSizes,
}

enum Job {
    Fence(fence::Cut),
    Refresh(Published),
    Spare { ts_ns: u64 },
    Stop(Stop, Published),
}

impl Worker {
    fn run(mut self) {
        loop {
            match self.next_job() {
                Job::Fence(cut) => self.set_fence(cut),
                Job::Refresh(published) => self.record(published, false),
                Job::Spare { ts_ns } => self.make_spare(ts_ns),
                Job::Stop(Stop::Halted, _) => return,
                Job::Stop(Stop::Clean, published) => {
                    self.record(published, true);
                    return;
                }
            }
        }
    }

    /// Waits for something to do. A stop comes first, a hint before a spare: the commit thread can wait for either, but only
    /// the hint is quick.
    fn next_job(&self) -> Job {
        let mut state = self.shared.lock();
        loop {
            if let Some(stop) = state.stop {
                return Job::Stop(stop, state.published);
            }
            if let Some(cut) = state.fence.filter(|_| state.failed.is_none()) {
                return Job::Fence(cut);
            }
            if state.failed.is_none() && state.refresh_due() {
                return Job::Refresh(state.published);
            }
            if state.spare_due() {
                return Job::Spare { ts_ns: state.published.tail.ts_ns };
            }
            let seen = state.published.tail.lsn;
            let waited = self.shared.changed.wait_timeout(state, IDLE).expect("no holder of this lock panics");
            state = waited.0;
            let idle = waited.1.timed_out() && state.published.tail.lsn == seen;
            if idle && state.failed.is_none() && seen > state.recorded.tail.lsn {
                return Job::Refresh(state.published);
            }
        }
    }
}

impl Drop for Worker {
    /// A bug here must not leave the commit thread waiting for a spare that nobody makes.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut state = self.shared.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            state.failed.get_or_insert_with(|| "the keeper thread panicked".to_owned());
            self.shared.changed.notify_all();
            self.shared.commit.wake();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // A log that was not closed in order leaves its superblock as it is.
        let _ = self.stop(false);
    }
}
