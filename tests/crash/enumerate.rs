//! Every crash of a recorded run, and what is done with the disk afterwards.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use walrus_node::sim::{SimDisk, Survivors};
use walrus_node::{Engine, Level, Viewer};

use crate::leader::{early_options, options};
use crate::mirror::{History, catch_up};
use crate::oracle::{Batch, Promised, Submitted, mark_acknowledged, mark_gone, mark_may_go, shown};
use crate::random::Random;
use crate::retention;

/// A recorded run. Its marks say how many batches had been acknowledged by then.
pub(crate) struct Recording {
    pub(crate) disk: SimDisk,
    pub(crate) submitted: Submitted,
    pub(crate) writing: Writing,
}

/// How the log is written.
pub(crate) enum Writing {
    Leader,
    /// A leader whose single entries are acknowledged before their blocks.
    Early,
    Mirror(History),
    /// A leader that keeps as much as [`retention::options`] say.
    Trimming,
}

/// How thoroughly a recording is searched.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    /// Undecided sectors up to which every prefix and every single gap is tried.
    pub(crate) sectors_at_once: usize,
    /// Seeded subsets at each operation.
    pub(crate) subsets: u64,
    /// Of so many crashes one is followed by writing and further crashes; all are recovered and checked.
    pub(crate) go_on_every: usize,
    /// Crashes of the disk that was recovered.
    pub(crate) second_crashes: usize,
}

impl Effort {
    pub(crate) const FULL: Effort = Effort { sectors_at_once: 64, subsets: 4, go_on_every: 6, second_crashes: 3 };
    /// For the many short stretches around a fault.
    pub(crate) const FAULTS: Effort = Effort { sectors_at_once: 6, subsets: 1, go_on_every: 6, second_crashes: 2 };
}

/// Searches a recording; returns how many disks were recovered and checked.
///
/// # Panics
/// At the first state that must not be, with what makes it again.
pub(crate) fn enumerate(recording: &Recording, effort: Effort) -> usize {
    enumerate_within(recording, 0..recording.disk.trace_len() + 1, effort)
}

/// The same for crashes before the operations of a range.
pub(crate) fn enumerate_within(recording: &Recording, operations: Range<usize>, effort: Effort) -> usize {
    let (states, next) = (AtomicUsize::new(0), AtomicUsize::new(operations.start));
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= operations.end {
                        return;
                    }
                    states.fetch_add(crash_at(recording, at, effort), Ordering::Relaxed);
                }
            });
        }
    });
    states.into_inner()
}

/// Every crash just before operation `at`.
fn crash_at(recording: &Recording, at: usize, effort: Effort) -> usize {
    let pending = recording.disk.pending_sectors(at);
    let mut survivors = vec![Survivors::Nothing, Survivors::Everything];
    // Where much is undecided, every so many of the prefixes and of the gaps; which ones changes from operation to operation.
    let step = pending.div_ceil(effort.sectors_at_once).max(1);
    survivors.extend((1 + at % step..pending).step_by(step).map(Survivors::Prefix));
    survivors.extend((at % step..pending).step_by(step).map(Survivors::Missing));
    if pending > 1 {
        survivors.extend((0..effort.subsets).map(|i| Survivors::Seeded(i + 1000 * at as u64)));
    }
    let mut states = 0;
    for (i, survivors) in survivors.iter().enumerate() {
        let crashed = recording.disk.crash(at, survivors);
        let go_on = (at + i).is_multiple_of(effort.go_on_every);
        let promised = Promised::before(&recording.disk, at, Level::Durable);
        states += examine(recording, crashed, at, &promised, &format!("{survivors:?}"), go_on.then_some(effort));
    }
    let killed = recording.disk.kill(at, at as u64);
    let promised = Promised::before(&recording.disk, at, Level::Written);
    states + examine(recording, killed, at, &promised, "SIGKILL", Some(effort))
}

/// Recovers one disk and checks it; with `effort`, writes on it and crashes it again.
fn examine(
    recording: &Recording,
    disk: SimDisk,
    at: usize,
    promised: &Promised,
    how: &str,
    effort: Option<Effort>,
) -> usize {
    let verdict = catch_unwind(AssertUnwindSafe(|| {
        crate::slots::no_block_is_younger_than_a_slot(&disk)?;
        let seen = look(&recording.submitted, &disk, promised)?;
        match effort {
            None => Ok(1),
            Some(effort) => go_on(recording, &disk, seen, at, effort).map(|states| 1 + states),
        }
    }));
    let verdict = verdict.unwrap_or_else(|_| Err("the program panicked".to_owned()));
    verdict.unwrap_or_else(|what| {
        panic!(
            "{what}\n  cut before operation {at} of {}: {}\n  survivors: {how}",
            recording.disk.trace_len(),
            recording.disk.op(at)
        )
    })
}

/// Opens a disk for looking. What was promised must be there, whole and in order; returns which batches are.
///
/// What was acknowledged before its block is there only once somebody has opened the log for writing: a copy of the disk, for that.
pub(crate) fn look(submitted: &Submitted, disk: &SimDisk, promised: &Promised) -> Result<Range<usize>, String> {
    if !has_early(disk) {
        return look_at_blocks(submitted, disk, promised);
    }
    let written = disk.copy();
    let log = Engine::open_sim(&written, options(7)).map_err(|error| format!("does not open for writing: {error}"))?;
    log.close().map_err(|error| error.to_string())?;
    drop(log);
    look_at_blocks(submitted, &written, promised)
}

fn has_early(disk: &SimDisk) -> bool {
    disk.files().iter().any(|(name, _)| name == "early")
}

fn look_at_blocks(submitted: &Submitted, disk: &SimDisk, promised: &Promised) -> Result<Range<usize>, String> {
    let floor = promised.batches;
    let viewer = match Viewer::open_sim(disk) {
        Ok(viewer) => viewer,
        // Cut before the superblock was durable: there is no log yet, and nothing can have been acknowledged.
        Err(walrus_node::OpenError::NoLog) if floor == 0 => return Ok(0..0),
        Err(error) => return Err(format!("the log does not open: {error}")),
    };
    let seen = submitted.whole_batches(&shown(&viewer)?)?;
    if seen.end < floor {
        return Err(format!(
            "{floor} batches were acknowledged or seen before, only those up to {} are there",
            seen.end
        ));
    }
    if !promised.gone.contains(&seen.start) {
        return Err(format!("the first {} batches are gone, and it should be {:?}", seen.start, promised.gone));
    }
    Ok(seen)
}

/// Takes the log over for writing, appends what was cut and something new, and crashes it anywhere on the way.
fn go_on(
    recording: &Recording,
    disk: &SimDisk,
    seen: Range<usize>,
    at: usize,
    effort: Effort,
) -> Result<usize, String> {
    let submitted = Submitted { batches: recording.submitted.batches[..seen.end].to_vec() };
    mark_what_was_seen(recording, &submitted, disk, &seen);
    let submitted = match &recording.writing {
        Writing::Leader | Writing::Early | Writing::Trimming => write_on(recording, submitted, disk, at)?,
        Writing::Mirror(history) => mirror_on(recording, history, disk, at, seen.end)?,
    };
    crate::slots::no_block_is_younger_than_a_slot(disk)?;
    rotten_slots_take_nothing(&submitted, disk)?;
    crash_again(&submitted, disk, seen.start, at, effort)
}

/// What was shown must never disappear, and what was gone never come back; of what has no block yet a power cut may take some, until
/// the log has been opened.
fn mark_what_was_seen(recording: &Recording, submitted: &Submitted, disk: &SimDisk, seen: &Range<usize>) {
    mark_acknowledged(disk, seen.end, Level::Written);
    if !has_early(disk) {
        mark_acknowledged(disk, seen.end, Level::Durable);
    } else if let Ok(blocks) = look_at_blocks(submitted, disk, &Promised::batches(0)) {
        mark_acknowledged(disk, blocks.end, Level::Durable);
    }
    mark_gone(disk, seen.start);
    let trims = matches!(recording.writing, Writing::Trimming);
    mark_may_go(disk, if trims { seen.end } else { seen.start });
}

/// A leader goes on behind what was seen. Returns what its log has then.
fn write_on(recording: &Recording, mut submitted: Submitted, disk: &SimDisk, at: usize) -> Result<Submitted, String> {
    let seed = at as u64;
    let (options, trims, early) = match recording.writing {
        Writing::Trimming => (retention::options(seed), true, false),
        Writing::Early => (early_options(seed), false, true),
        _ => (options(seed), false, false),
    };
    let log = Engine::open_sim(disk, options).map_err(|error| format!("does not open: {error}"))?;
    let seen = submitted.batches.len();
    mark_acknowledged(disk, seen, Level::Durable);
    the_indexes_agree(&log, &submitted)?;
    let cut = recording.submitted.batches[seen..].iter().take(2).cloned();
    let entries = vec![Bytes::from(format!("after {at}"))];
    let new = Batch { topic: "later", entries, is_fed: false, level: Level::Durable };
    for batch in cut.chain([new]) {
        let level = if early { batch.level } else { Level::Durable };
        let batch = Batch { level, ..batch };
        if trims {
            mark_may_go(disk, submitted.batches.len());
        }
        let ticket = batch.append(&log).map_err(|error| error.to_string())?;
        submitted.batches.push(batch);
        ticket.wait().map_err(|error| error.to_string())?;
        mark_acknowledged(disk, submitted.batches.len(), level);
    }
    if trims {
        retention::trim_and_close(&log)?;
    }
    Ok(submitted)
}

/// A follower goes on behind what was seen. Returns what its log has then.
fn mirror_on(
    recording: &Recording,
    history: &History,
    disk: &SimDisk,
    at: usize,
    seen: usize,
) -> Result<Submitted, String> {
    let log = Engine::open_mirror_sim(disk, Some(history.log_id), options(at as u64));
    let log = log.map_err(|error| format!("does not open: {error}"))?;
    let batches = catch_up(&log, history, 3).max(seen);
    mark_acknowledged(disk, batches, Level::Durable);
    Ok(Submitted { batches: recording.submitted.batches[..batches].to_vec() })
}

/// With either slot of the superblock rotten, everything is there all the same.
fn rotten_slots_take_nothing(submitted: &Submitted, disk: &SimDisk) -> Result<(), String> {
    let all = Promised::before(disk, disk.trace_len(), Level::Durable);
    for slot in [0, 1] {
        let rotten = disk.copy();
        if crate::slots::let_rot(&rotten, slot) {
            look(submitted, &rotten, &all).map_err(|what| format!("{what}\n  with slot {slot} rotten"))?;
        }
    }
    Ok(())
}

/// Cuts the power, and kills the process, anywhere on the way from the first crash to the end. Returns how often.
fn crash_again(submitted: &Submitted, disk: &SimDisk, gone: usize, at: usize, effort: Effort) -> Result<usize, String> {
    let mut random = Random(at as u64);
    for _ in 0..effort.second_crashes {
        let second = random.below(disk.trace_len() + 1);
        let survivors = match random.below(4) {
            0 => Survivors::Nothing,
            1 => Survivors::Everything,
            _ => Survivors::Seeded(random.next()),
        };
        let mut promised = Promised::before(disk, second, Level::Durable);
        // What may go was noted before the first crash, on another disk.
        promised.gone = *promised.gone.start()..=gone.max(*promised.gone.end());
        look(submitted, &disk.crash(second, &survivors), &promised).map_err(|what| {
            format!("{what}\n  after a second crash before operation {second}: {} ({survivors:?})", disk.op(second))
        })?;
        promised.batches = Promised::before(disk, second, Level::Written).batches;
        look(submitted, &disk.kill(second, random.next()), &promised)
            .map_err(|what| format!("{what}\n  killed before operation {second}: {}", disk.op(second)))?;
    }
    Ok(2 * effort.second_crashes)
}

/// An open for writing believes the indexes in the folder; a look has just read the blocks. Both must have come to the same.
fn the_indexes_agree(log: &Engine, submitted: &Submitted) -> Result<(), String> {
    let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
    for batch in &submitted.batches {
        *expected.entry(batch.topic).or_default() += batch.entries.len() as u64;
    }
    let topics = log.topics();
    let found: BTreeMap<&str, u64> = topics.iter().map(|topic| (&*topic.name, topic.next_offset)).collect();
    if found == expected { Ok(()) } else { Err(format!("the blocks say {expected:?}, the indexes {found:?}")) }
}
