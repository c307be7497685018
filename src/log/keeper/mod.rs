//! The background thread that keeps the commit path free of everything slow: it owns the superblock and makes spares.
//!
//! ```text
//!   commit thread  -- note(published tail) -->  keeper   hint: at rollover, every 64 MiB, when idle (once a second)
//!                  <-- take_spare() ---------   keeper   spare: zeros, header, flush, rename, flush of the folder
//!   callers        --- trim(before) --------->   keeper   retention: base, then the segments; they are recycled as spares
//! ```
//!
//! The commit thread waits for it in two cases only: no spare is ready, or the next write would go further past the durable hint
//! than recovery searches.
//!
//! A failed write of the superblock halts the log: a hint or a fence that may or may not be there is worse than none.
//!
//! This file holds the handle, what the threads share, and the thread's loop; `fence`, `hint`, `spares` and `retention` are its jobs.
//!
//! Layer: log. Uses `segment`, `superblock`. Knows nothing of blocks in flight.

mod fence;
mod hint;
mod indexing;
mod packing;
mod retention;
mod space;
mod spares;

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) use hint::Published;
use indexing::{Sealed, Unindexed};
use packing::{PackCalls, Packing};
pub use retention::TrimError;
use retention::Trims;
pub(crate) use retention::{Kept, Retention};
pub use space::SpaceState;
use spares::Maker;
pub(crate) use spares::{NoSpare, SegmentSizes};

use super::meta::BlockMeta;
use super::open::Writable;
use super::segment::Segment;
use super::superblock::SuperblockFile;
use crate::entropy::Entropy;
use crate::ids::{Incarnation, LogId, SegmentNo};
use crate::limits::HINT_WINDOW_BYTES;
use crate::lsn::Lsn;
use crate::storage::{Disk, Waker};

/// How long the log must be idle before its hint is refreshed.
const IDLE: Duration = Duration::from_secs(1);

/// How long the thread has nothing to do before it removes one file that is not needed.
const LEISURE: Duration = Duration::from_millis(100);

/// A log that grew by more than this in its last [`LEISURE`] is busy: nothing is packed and no old segment indexed, for both read whole
/// segments beside the commits. 10 MB a second, 2,500 lone appends.
const TRICKLE_BYTES: u64 = 1 << 20;

/// A handle on the thread.
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    min_free: u64,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the log may take, and what it keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    pub(crate) sizes: SegmentSizes,
    pub(crate) retention: Retention,
    /// Bytes that stay free on the file system.
    pub(crate) min_free: u64,
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
    /// It failed for want of space, but that was some time ago.
    retry_spare: bool,
    /// Bytes of the next spare.
    next_bytes: u64,
    trims: Trims,
    unindexed: Unindexed,
    pack_calls: PackCalls,
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
        policy: Policy,
        kept: Kept,
        entropy: Entropy,
        commit: Waker,
    ) -> Keeper {
        let full = writable.segments.range(..start.tail.position.segment());
        let unpacked = full.filter(|(_, segment)| !segment.header.packed).map(|(number, _)| *number);
        let packing = Packing { to_look_at: unpacked.collect() };
        let log_bytes = writable.segments.values().map(|segment| segment.header.bytes).sum();
        let mut state = State {
            spares: writable.spares.into(),
            no_spare: None,
            spare_demanded: false,
            retry_spare: false,
            next_bytes: policy.sizes.next(log_bytes),
            trims: Trims::default(),
            unindexed: Unindexed::new(writable.last_segment),
            pack_calls: PackCalls::default(),
            published: start,
            recorded: start,
            refresh_demanded: false,
            fence: None,
            fenced: None,
            failed: None,
            stop: None,
        };
        state.look_at_retention();
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), commit });
        let worker = Worker {
            shared: Arc::clone(&shared),
            log_id: writable.superblock.now.log_id,
            align: writable.superblock.now.align,
            next_segment: writable.next_segment,
            log_bytes,
            policy,
            kept,
            maker: Maker::new(writable.given_away),
            trim_failed: None,
            to_index: writable.unindexed,
            packing,
            quiet: Quiet {
                lsn: start.tail.lsn,
                linear: start.linear,
                waited: Duration::ZERO,
                since_tick: Duration::ZERO,
            },
            disk,
            superblock: writable.superblock,
            entropy,
        };
        let thread = std::thread::Builder::new()
            .name("walrus-keeper".into())
            .spawn(move || worker.run())
            .expect("the system can start a thread");
        Keeper { shared, min_free: policy.min_free, thread: Mutex::new(Some(thread)) }
    }

    /// Takes the next spare, waiting until one is made.
    pub(crate) fn take_spare(&self) -> Result<Arc<Segment>, NoSpare> {
        let mut state = self.shared.lock();
        state.no_spare = None;
        loop {
            // The last one only once retention has looked at what is published: on a full disk it may need the room of a spare, and
            // gives segments back for it.
            if state.spares.len() == 1 && state.failed.is_none() && !state.retention_is_done() {
                state = self.shared.wait(state);
                continue;
            }
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

    /// Tells the keeper how far the log is durable, and by which blocks. Cheap: the superblock is written only when it is time.
    pub(crate) fn note(&self, published: Published, blocks: Vec<BlockMeta>) {
        let mut state = self.shared.lock();
        state.published = published;
        state.unindexed.extend(blocks);
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
    /// Bytes of all segments, spares too, but for what was given away.
    log_bytes: u64,
    policy: Policy,
    kept: Kept,
    maker: Maker,
    /// Why nothing is given away any more.
    trim_failed: Option<String>,
    /// Full segments that were found without an index.
    to_index: Vec<Arc<Segment>>,
    packing: Packing,
    quiet: Quiet,
}

/// For how long nothing has happened. It counts its own waits, so it needs no clock.
struct Quiet {
    /// The published tail that has not moved meanwhile, and how many log bytes lie before the newest.
    lsn: Lsn,
    linear: u64,
    waited: Duration,
    /// Waits since the last tick, whatever was published meanwhile.
    since_tick: Duration,
}

enum Job {
    Fence(fence::Cut),
    Refresh(Published),
    Spare {
        ts_ns: u64,
    },
    Trim,
    Index(Sealed),
    IndexOneMore,
    PackOne,
    PackAll,
    /// Of what was given away.
    RemoveOne,
    Stop(Stop, Published),
}

/// What a wait in which nothing was asked of the thread has shown.
struct Lull {
    /// Nothing was published for long enough.
    idle: bool,
    /// Little was published in this wait, or nothing.
    trickle: bool,
    /// It is time to look around.
    tick: bool,
}

impl Quiet {
    fn after_wait(&mut self, waited: Duration, published: &Published) -> Lull {
        let (lsn, linear) = (published.tail.lsn, published.linear);
        self.since_tick += waited;
        self.waited = if self.lsn == lsn { self.waited + waited } else { Duration::ZERO };
        let trickle = linear.abs_diff(self.linear) <= TRICKLE_BYTES;
        (self.lsn, self.linear) = (lsn, linear);
        let (idle, tick) = (self.waited >= IDLE, self.since_tick >= IDLE);
        if tick {
            self.since_tick = Duration::ZERO;
        }
        Lull { idle, trickle, tick }
    }
}

impl Worker {
    fn run(mut self) {
        loop {
            match self.next_job() {
                Job::Fence(cut) => self.set_fence(cut),
                Job::Refresh(published) => self.record(published, false),
                Job::Spare { ts_ns } => self.make_spare(ts_ns),
                Job::Trim => self.trim(),
                Job::Index(sealed) => self.write_index(sealed),
                Job::IndexOneMore => self.index_one_more(),
                Job::PackOne => self.pack_one(),
                Job::PackAll => self.pack_all(),
                Job::RemoveOne => {
                    self.remove_one_given_away();
                }
                Job::Stop(Stop::Halted, _) => return,
                Job::Stop(Stop::Clean, published) => {
                    self.write_last_indexes();
                    self.record(published, true);
                    return;
                }
            }
        }
    }

    /// Waits for something to do. A stop comes first, a hint before a spare: the commit thread can wait for either, but only
    /// the hint is quick. What is given away comes before a spare: it may become that spare, without a zero written.
    fn next_job(&mut self) -> Job {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
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
            if state.trim_due() {
                return Job::Trim;
            }
            if state.spare_waited_for() || state.spare_due() {
                return Job::Spare { ts_ns: state.published.tail.ts_ns };
            }
            if let Some(sealed) = state.take_sealed() {
                return Job::Index(sealed);
            }
            if state.pack_calls.is_due() && state.failed.is_none() {
                return Job::PackAll;
            }
            let has_leisure_work =
                self.has_more_than_a_reserve() || !self.to_index.is_empty() || !self.packing.to_look_at.is_empty();
            let wait = if has_leisure_work { LEISURE } else { IDLE };
            let waited = shared.changed.wait_timeout(state, wait).expect("no holder of this lock panics");
            state = waited.0;
            if !waited.1.timed_out() {
                continue;
            }
            let Lull { idle, trickle, tick } = self.quiet.after_wait(wait, &state.published);
            if tick {
                state.time_has_passed_for_spares();
                state.look_at_retention();
            }
            if idle && state.failed.is_none() && state.published.tail.lsn > state.recorded.tail.lsn {
                return Job::Refresh(state.published);
            }
            if self.has_more_than_a_reserve() || idle && self.has_given_away() {
                return Job::RemoveOne;
            }
            if trickle && !self.to_index.is_empty() {
                return Job::IndexOneMore;
            }
            if trickle && !self.packing.to_look_at.is_empty() && state.failed.is_none() {
                return Job::PackOne;
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
