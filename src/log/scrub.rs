//! The scrub: reads durable blocks of full segments again, slowly, so that rot is found while a mirror still has the bytes.
//!
//! ```text
//!   segment 1: block, block, ... rest ... block | segment 2: ... | (a day) | segment 1: ...
//! ```
//!
//! It reads past the page cache, whose copy says nothing of the device, and checks what recovery checks: sums, place, chain. Its
//! findings are told and change nothing: entries before and behind a damaged block are served, a read of the block itself fails.
//!
//! A thread of its own: a disk may take half a minute over a sector that it can hardly read, and nobody may wait for that.
//!
//! Layer: log. Uses `segments`, `walk`. Knows nothing of topics.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use super::damage::Damage;
use super::segment::Segment;
use super::segments::Segments;
use super::walk::{SegmentMap, Window};
use crate::ids::Chain;
use crate::lsn::{Lsn, Position};

/// Read between two rests. Small, so that a commit waits behind little of it.
const PIECE_BYTES: u32 = 1 << 20;

/// Places that are kept by name; of more there is a number. The first ones say what happened, and a disk that dies has millions.
const NAMED_MAX: usize = 16;

/// How eagerly full segments are read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubPace {
    /// Bytes read in a second, at most.
    pub bytes_per_second: u64,
    /// From the end of one pass to the beginning of the next.
    pub every: Duration,
}

impl Default for ScrubPace {
    /// 20 MB a second: a hundredth of what an NVMe device reads, and a terabyte in fourteen hours. Once a day.
    fn default() -> ScrubPace {
        ScrubPace { bytes_per_second: 20_000_000, every: Duration::from_secs(24 * 60 * 60) }
    }
}

/// What the scrub has done since the log was opened.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Scrubbed {
    /// Passes over all full segments that are complete.
    pub passes: u64,
    /// Bytes of blocks looked at, in all passes.
    pub bytes: u64,
    /// Damaged blocks found and still part of the log.
    pub damaged_blocks: u64,
    /// The first of them, by place.
    pub damage: Vec<Damage>,
}

impl Scrubbed {
    /// For an operator, if there is something to say.
    pub(crate) fn warning(&self) -> Option<String> {
        let first = self.damage.first()?;
        let blocks = if self.damaged_blocks == 1 { "block is" } else { "blocks are" };
        Some(format!(
            "{} {blocks} damaged on this disk, the first: {first}; what lies before and behind is served, another node may have the rest",
            self.damaged_blocks
        ))
    }
}

/// A handle on the thread. Dropping it ends the thread.
pub(crate) struct Scrub {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    stopped: Condvar,
}

#[derive(Default)]
struct State {
    scrubbed: Scrubbed,
    /// Every damaged block that was found.
    found: BTreeSet<Lsn>,
    stop: bool,
}

struct Worker {
    shared: Arc<Shared>,
    segments: Arc<Segments>,
    /// Blocks below are durable: they stay where they are, but for packing.
    durable: Box<dyn Fn() -> Lsn + Send>,
    pace: ScrubPace,
    /// Bytes since the last rest.
    unrested: u32,
    /// The block behind the last one that was sound, and the chain before it.
    expected: Option<(Lsn, Chain)>,
}

/// The log is being closed.
struct Stopped;

impl Scrub {
    /// Starts the thread; without a pace there is none.
    pub(crate) fn start(
        segments: Arc<Segments>,
        durable: impl Fn() -> Lsn + Send + 'static,
        pace: Option<ScrubPace>,
    ) -> std::io::Result<Scrub> {
        let shared = Arc::new(Shared::default());
        let mut thread = None;
        if let Some(pace) = pace {
            let (shared, durable) = (Arc::clone(&shared), Box::new(durable));
            let worker = Worker { shared, segments, durable, pace, unrested: 0, expected: None };
            thread = Some(std::thread::Builder::new().name("walrus-scrub".into()).spawn(move || worker.run())?);
        }
        Ok(Scrub { shared, thread: Mutex::new(thread) })
    }

    /// What it has found in a log that begins with block `first`.
    pub(crate) fn scrubbed(&self, first: Lsn) -> Scrubbed {
        let mut state = self.shared.lock();
        // What retention has given away is no concern of anybody any more.
        state.found.retain(|lsn| *lsn >= first);
        state.scrubbed.damage.retain(|damage| damage.lsn >= first);
        Scrubbed { damaged_blocks: state.found.len() as u64, ..state.scrubbed.clone() }
    }

    /// Ends the thread, after at most one more read.
    pub(crate) fn stop(&self) {
        self.shared.lock().stop = true;
        self.shared.stopped.notify_all();
        if let Some(thread) = self.thread.lock().expect("no holder of this lock panics").take() {
            // That it panicked is told by the panic itself, and is nobody's loss.
            let _ = thread.join();
        }
    }
}

impl Drop for Scrub {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    fn rest(&self, time: Duration) -> Result<(), Stopped> {
        let state = self.lock();
        let waited = self.stopped.wait_timeout_while(state, time, |state| !state.stop);
        if waited.expect("no holder of this lock panics").0.stop { Err(Stopped) } else { Ok(()) }
    }
}

impl Worker {
    fn run(mut self) {
        while self.pass().is_ok() {
            self.shared.lock().scrubbed.passes += 1;
            if self.shared.rest(self.pace.every).is_err() {
                return;
            }
        }
    }

    fn pass(&mut self) -> Result<(), Stopped> {
        self.expected = None;
        let mut after = None;
        while let Some(segment) = self.segments.full_after(after) {
            self.scrub(&segment)?;
            after = Some(segment.number());
        }
        Ok(())
    }

    fn scrub(&mut self, segment: &Arc<Segment>) -> Result<(), Stopped> {
        let (Some(first), Some(last)) = (segment.first_lsn(), segment.last_lsn()) else { return Ok(()) };
        let one = SegmentMap::from([(segment.number(), Arc::clone(segment))]);
        let mut window = Window::of_bytes(&one, PIECE_BYTES);
        let mut lsn = first;
        while lsn <= last && lsn < (self.durable)() {
            // Held while it is read, a segment that is given away is not written over; and not held for longer, its room is wanted.
            let still_wanted = lsn >= self.segments.beginning().lsn;
            let Some(stretch) = segment.locate(lsn, 1, 0).filter(|_| still_wanted) else { return Ok(()) };
            let position = Position::new(segment.number(), stretch.offset);
            let mut looked = self.look_at(&mut window, segment, position, lsn);
            if looked.is_err() {
                // By itself: a sector that cannot be read is the fault of one block, and not of all in a piece.
                let mut narrow = Window::of_bytes(&one, stretch.block_end - stretch.offset);
                looked = self.look_at(&mut narrow, segment, position, lsn);
            }
            if let Err(reason) = looked {
                self.shared.lock().add(Damage::at(position, lsn, reason));
            }
            let bytes = stretch.block_end - stretch.offset;
            self.shared.lock().scrubbed.bytes += u64::from(bytes);
            self.rest_after(bytes)?;
            lsn = lsn.next();
        }
        Ok(())
    }

    fn look_at(&mut self, window: &mut Window, segment: &Segment, at: Position, lsn: Lsn) -> Result<(), String> {
        let view = window.block(segment, at).map_err(|error| format!("it cannot be read: {error}"))?;
        let view = view.map_err(|corrupt| corrupt.to_string())?;
        let head = &view.portable.head;
        if head.lsn != lsn {
            return Err(format!("another block's LSN: {}", head.lsn));
        }
        if self.expected.is_some_and(|(next, chain)| next == lsn && chain != head.prev_chain) {
            return Err("another history's block".into());
        }
        self.expected = Some((lsn.next(), view.portable.chain));
        Ok(())
    }

    fn rest_after(&mut self, bytes: u32) -> Result<(), Stopped> {
        self.unrested += bytes;
        if self.unrested < PIECE_BYTES {
            return Ok(());
        }
        let read = std::mem::take(&mut self.unrested);
        self.shared.rest(Duration::from_secs(1).mul_f64(f64::from(read) / self.pace.bytes_per_second.max(1) as f64))
    }
}

impl State {
    /// Once for each place, whatever the number of passes.
    fn add(&mut self, damage: Damage) {
        if self.found.insert(damage.lsn) && self.scrubbed.damage.len() < NAMED_MAX {
            self.scrubbed.damage.push(damage);
        }
    }
}
