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
//! Layer: log. Uses `segment`, `superblock`. Knows nothing of blocks in flight.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use super::open::Writable;
use super::segment::{Segment, prepare};
use super::superblock::SuperblockFile;
use super::tail::Tail;
use crate::entropy::Entropy;
use crate::format::segment::SegmentHeader;
use crate::ids::{Epoch, LogId, RunId, SegmentNo};
use crate::limits::{ALIGN_MAX, HINT_REFRESH_BYTES, HINT_WINDOW_BYTES};
use crate::storage::{self, Disk, Waker};

/// Spares kept ready. One is enough for the straight line; the rewrite after a failed flush will want a second.
const SPARES_READY: usize = 1;

/// How long the log must be idle before its hint is refreshed.
const IDLE: Duration = Duration::from_secs(1);

/// A new segment has this share of the log, between the bounds.
const LOG_SHARE: u64 = 8;

/// How large segments are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentSizes {
    /// The segments of a new log.
    pub(crate) first: u64,
    /// The size up to which they grow with the log.
    pub(crate) max: u64,
}

impl SegmentSizes {
    /// The next segment of a log whose segments have `log_bytes` together. An eighth of that: zeros are written at the speed of
    /// the device, beside the commits, so a young log must not make a spare larger than itself.
    fn next(&self, log_bytes: u64) -> u64 {
        let grown = log_bytes / LOG_SHARE / ALIGN_MAX as u64 * ALIGN_MAX as u64;
        grown.clamp(self.first, self.max)
    }
}

/// The published end of the log, as the superblock is to record it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Published {
    pub(crate) tail: Tail,
    /// Log bytes from the start of the segment in which this opening began: a measure for the window, not a place.
    pub(crate) linear: u64,
    pub(crate) epoch: Epoch,
    pub(crate) run_id: RunId,
}

/// Why there is no spare.
#[derive(Clone, Debug)]
pub(crate) struct NoSpare {
    /// How making one failed.
    pub(crate) reason: String,
    /// It failed for want of space: later it may succeed.
    pub(crate) full: bool,
}

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

impl State {
    fn refresh_due(&self) -> bool {
        let (published, recorded) = (&self.published, &self.recorded);
        self.refresh_demanded && published.tail.lsn > recorded.tail.lsn
            || published.linear - recorded.linear >= HINT_REFRESH_BYTES
            || published.tail.position.segment() > recorded.tail.position.segment()
    }

    fn spare_due(&self) -> bool {
        self.spares.is_empty() && self.spare_demanded || self.spares.len() < SPARES_READY && self.no_spare.is_none()
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
    Refresh(Published),
    Spare { ts_ns: u64 },
    Stop(Stop, Published),
}

impl Worker {
    fn run(mut self) {
        loop {
            match self.next_job() {
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

    /// Writes the superblock with the hint at the published tail.
    fn record(&mut self, published: Published, clean: bool) {
        if self.shared.lock().failed.is_some() {
            return; // never again after a failure: the next open looks for itself
        }
        let now = &mut self.superblock.now;
        now.hint = published.tail.hint();
        now.epoch = published.epoch;
        now.run_id = published.run_id;
        now.clean = clean;
        let written = self.superblock.write();
        let mut state = self.shared.lock();
        match written {
            Ok(()) => {
                state.recorded = published;
                state.refresh_demanded = false;
            }
            Err(error) => {
                state.failed = Some(error.to_string());
                self.shared.commit.wake();
            }
        }
        self.shared.changed.notify_all();
    }

    fn make_spare(&mut self, ts_ns: u64) {
        let made = self.prepare_next(ts_ns);
        let mut state = self.shared.lock();
        state.spare_demanded = false;
        match made {
            Ok(segment) => state.spares.push_back(Arc::new(segment)),
            Err(error) => {
                state.no_spare = Some(NoSpare { reason: error.to_string(), full: error.is_full() });
            }
        }
        self.shared.changed.notify_all();
    }

    fn prepare_next(&mut self, ts_ns: u64) -> storage::Result<Segment> {
        let bytes = self.sizes.next(self.log_bytes);
        let header = SegmentHeader {
            align: self.align,
            log_id: self.log_id,
            number: self.next_segment,
            bytes,
            generation: 0,
            salt: self.entropy.next_u64(),
            prepared_ts_ns: ts_ns,
        };
        // A number is never used twice, whatever became of the attempt.
        self.next_segment = self.next_segment.next();
        let segment = prepare(&self.disk, header)?;
        self.log_bytes += bytes;
        Ok(segment)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_grow_with_the_log_between_their_bounds() {
        let sizes = SegmentSizes { first: 16 << 20, max: 256 << 20 };
        assert_eq!(
            [0, 128 << 20, 256 << 20, 4 << 30].map(|log| sizes.next(log)),
            [16 << 20, 16 << 20, 32 << 20, 256 << 20]
        );
        assert!(sizes.next((300 << 20) + 12345).is_multiple_of(ALIGN_MAX as u64));
    }
}
