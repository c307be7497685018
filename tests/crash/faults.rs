//! Every write, flush, creation and read of a run fails once: the log must say so, keep what it has acknowledged, and be whole again
//! after a restart.
//!
//! What the log does about it is drawn in `src/commit/fence.rs`.

use walrus_node::sim::{Fault, FaultError, FaultKind, SimDisk, Survivors};
use walrus_node::{AppendError, Engine, FlushEvery, Level, Options};

use crate::enumerate::{Effort, Recording, Writing, enumerate_within, look};
use crate::leader::{batch, batch_of_any_level, batch_of_many_blocks, options};
use crate::mirror::{catch_up, leader_history};
use crate::oracle::{Batch, Promised, Submitted, mark_acknowledged, mark_may_go};
use crate::random::Random;

/// What kind of run is struck.
#[derive(Clone, Copy, Default)]
struct Shape {
    /// Bytes that retention keeps.
    retain_bytes: Option<u64>,
    /// Appends at both durability levels, and flushes that nobody waits for.
    mixed: bool,
    /// Two batches have more blocks than are flushed one by one: a flush of its own covers it.
    long: bool,
}

impl Shape {
    fn options(self, seed: u64) -> Options {
        let flush_every = FlushEvery { entries: self.mixed.then_some(30), interval: None };
        Options { retain_bytes: self.retain_bytes, flush_every, ..options(seed) }
    }
}

/// How a run with faults in it went.
struct Faulted {
    disk: SimDisk,
    /// Everything that may be in the log: what was acknowledged, and what nothing is known of. Not what was rolled back.
    submitted: Submitted,
    acknowledged: usize,
    /// Those of them that a power cut must leave: up to the last that was acknowledged as durable.
    durable: usize,
    /// A batch that was rolled back, if one was: it may be seen before the answer, and never after it.
    rolled_back: Vec<Batch>,
    shape: Shape,
    fired: u64,
    halted: bool,
    survived: u64,
    /// The operations from before the append that the first fault struck.
    struck_from: usize,
}

const BATCHES: usize = 16;

fn run_with(faults: &[Fault], seed: u64, shape: Shape) -> Faulted {
    let disk = SimDisk::new(seed);
    let log = Engine::open_sim(&disk, shape.options(seed)).expect("the fault comes later");
    faults.iter().for_each(|fault| disk.fail(*fault));
    let mut random = Random(seed);
    let (mut submitted, mut rolled_back) = (Submitted::default(), Vec::new());
    let (mut acknowledged, mut durable, mut struck_from) = (0, 0, 0);
    for number in 0..BATCHES {
        if disk.faults_fired() == 0 {
            struck_from = disk.trace_len();
        }
        let batch = match shape {
            Shape { mixed: true, .. } => batch_of_any_level(&mut random, number),
            Shape { long: true, .. } if number % 12 == 2 => batch_of_many_blocks(number),
            _ => batch(&mut random, number),
        };
        mark_may_go(&disk, if shape.retain_bytes.is_some() { number } else { 0 });
        match batch.append_and_wait(&log, number) {
            Ok(_) => {
                assert_eq!(acknowledged, number, "nothing is acknowledged behind a failure");
                acknowledged += 1;
                // Between a failed flush and the rewrite behind it a SIGKILL may take what was acknowledged as written, too.
                if batch.level == Level::Durable {
                    durable = acknowledged;
                    mark_acknowledged(&disk, durable, Level::Durable);
                }
                submitted.batches.push(batch);
            }
            Err(AppendError::Full { .. }) => break,
            Err(AppendError::RolledBack { .. }) => {
                rolled_back.push(batch);
                break;
            }
            Err(AppendError::Indeterminate { .. } | AppendError::Halted { .. }) => {
                submitted.batches.push(batch); // it may be there after the restart, whole or not at all
                break;
            }
            Err(other) => panic!("{faults:?}: {other}"),
        }
    }
    let status = log.status();
    let halted = status.halted.is_some();
    if halted {
        let refused = log.append("orders", "after").unwrap_err();
        assert!(matches!(refused, AppendError::Halted { .. }), "{faults:?}: {refused}");
        assert!(log.close().is_err(), "{faults:?}: a halted log is not closed in order");
    }
    let readable: u64 = log.topics().iter().map(|topic| topic.next_offset).sum();
    let expected: usize = submitted.batches[..acknowledged].iter().map(|batch| batch.entries.len()).sum();
    assert_eq!(readable, expected as u64, "{faults:?}: a log shows what is acknowledged, also when it has halted");
    drop(log);
    let fired = disk.faults_fired();
    Faulted {
        disk,
        submitted,
        acknowledged,
        durable,
        rolled_back,
        shape,
        fired,
        halted,
        survived: status.failures_survived,
        struck_from,
    }
}

/// The disk of a run after a restart at its end: everything acknowledged is there, nothing rolled back is, and the log goes on.
fn restart(run: &Faulted, what: &str, nth: u64) {
    let end = run.disk.trace_len();
    for survivors in [Survivors::Nothing, Survivors::Everything, Survivors::Seeded(nth), Survivors::Seeded(nth + 999)] {
        let restarted = run.disk.crash(end, &survivors);
        let promised = Promised { batches: run.durable, ..Promised::before(&run.disk, end, Level::Durable) };
        let seen = look(&run.submitted, &restarted, &promised)
            .unwrap_or_else(|error| panic!("{error}\n  {what}, {survivors:?}"));
        let log =
            Engine::open_sim(&restarted, run.shape.options(nth)).unwrap_or_else(|error| panic!("{error}: {what}"));
        log.append("later", "after the restart").unwrap().wait().unwrap();
        let shown: u64 = log.topics().iter().map(|topic| topic.next_offset).sum();
        let expected: usize = run.submitted.batches[..seen.end].iter().map(|batch| batch.entries.len()).sum();
        assert_eq!(shown, expected as u64 + 1, "{what}, {survivors:?}");
    }
}

/// How a row of runs ended.
#[derive(Debug, Default)]
struct Tally {
    struck: u64,
    survived: u64,
    rolled_back: u64,
    halted: u64,
    crash_states: usize,
}

/// Strikes the first, second, ... operation of a kind until the run has no more of them; each run is restarted, and, where `crashes`
/// says so, cut at every operation from the struck one on.
fn strike_each(name: &str, faults: impl Fn(u64) -> Vec<Fault>, crashes: bool) -> Tally {
    strike_each_of(name, faults, crashes, Shape::default())
}

/// The same in runs of another kind.
fn strike_each_of(name: &str, faults: impl Fn(u64) -> Vec<Fault>, crashes: bool, shape: Shape) -> Tally {
    let mut tally = Tally::default();
    for nth in 1.. {
        let run = run_with(&faults(nth), 7, shape);
        if run.fired == 0 {
            crate::report(&format!("{name}: {tally:?}"));
            assert!(nth > 1, "a fault that never fires proves nothing");
            return tally;
        }
        restart(&run, &format!("{:?}", faults(nth)), nth);
        tally.struck += 1;
        tally.survived += run.survived;
        tally.rolled_back += run.rolled_back.len() as u64;
        tally.halted += u64::from(run.halted);
        if crashes {
            tally.crash_states += crash_around(run);
        }
    }
    unreachable!("the run has an end")
}

/// Cuts the power before every operation from the struck append on, as far as the failure path reaches.
fn crash_around(run: Faulted) -> usize {
    let end = run.disk.trace_len();
    let answered = run.disk.trace_len();
    let range = run.struck_from..(run.struck_from + OPERATIONS_AROUND).min(end);
    let mut submitted = run.submitted;
    // Cut before the second fence is durable, a batch that is to be rolled back may still be seen.
    submitted.batches.extend(run.rolled_back);
    let writing = if run.shape.retain_bytes.is_some() { Writing::Trimming } else { Writing::Leader };
    let recording = Recording { disk: run.disk, submitted, writing };
    assert!(range.end <= answered);
    enumerate_within(&recording, range, Effort::FAULTS)
}

/// The operations of the append that was struck, of the fence, and of the rewrite.
const OPERATIONS_AROUND: usize = 40;

fn one(kind: FaultKind, nth: u64, error: FaultError, from_then_on: bool) -> Fault {
    Fault { kind, nth, error, from_then_on }
}

#[test]
fn a_write_that_fails_or_stops_short_is_written_again_behind_a_fence_and_the_caller_never_knows() {
    for error in [FaultError::Io, FaultError::Short] {
        let name = format!("each write {error:?}");
        let tally = strike_each(&name, |nth| vec![one(FaultKind::Write, nth, error, false)], true);
        // A write of the superblock or of a spare's header is no append's: it halts the log, or is made again.
        assert!(tally.survived > 10 && tally.rolled_back == 0, "{tally:?}");
    }
}

#[test]
fn a_failed_flush_is_never_tried_again_on_its_file_and_its_group_is_written_again_behind_a_fence() {
    let faults = |nth| vec![one(FaultKind::Flush, nth, FaultError::Io, false)];
    let long = Shape { long: true, ..Shape::default() };
    let tally = strike_each_of("each flush", faults, true, long);
    assert!(tally.survived > 3 && tally.rolled_back == 0, "{tally:?}");
}

#[test]
fn a_failure_with_written_entries_above_the_durable_end_costs_nothing_that_was_acknowledged_as_durable() {
    let mixed = Shape { mixed: true, ..Shape::default() };
    for kind in [FaultKind::Write, FaultKind::Flush] {
        let name = format!("each {kind:?} at mixed levels");
        let crashes = kind == FaultKind::Flush;
        let tally = strike_each_of(&name, |nth| vec![one(kind, nth, FaultError::Io, false)], crashes, mixed);
        assert!(tally.survived > 3, "{tally:?}");
    }
    let for_good = |nth| vec![one(FaultKind::Flush, nth, FaultError::Io, true)];
    assert!(strike_each_of("each Flush at mixed levels and all behind it", for_good, false, mixed).halted > 3);
}

#[test]
fn when_nothing_works_any_more_the_log_halts_and_a_restart_has_every_acknowledged_entry() {
    for kind in [FaultKind::Write, FaultKind::Flush] {
        let name = format!("each {kind:?} and all behind it");
        let tally = strike_each(&name, |nth| vec![one(kind, nth, FaultError::Io, true)], false);
        assert!(tally.halted > 5, "{tally:?}");
    }
}

#[test]
fn a_batch_whose_rewrite_fails_too_is_rolled_back_and_never_comes_back() {
    // The second fault strikes a write of the fence, the rewrite, or a write of the second fence.
    let mut rolled_back = 0;
    for behind in 1..8 {
        let name = format!("each write and the {behind}. after it");
        let both = |nth| [nth, nth + behind].map(|nth| one(FaultKind::Write, nth, FaultError::Io, false)).to_vec();
        rolled_back += strike_each(&name, both, matches!(behind, 3 | 4)).rolled_back;
    }
    assert!(
        rolled_back > 10,
        "only {rolled_back} batches were rolled back: the second fault never strikes the rewrite"
    );
}

#[test]
fn a_full_disk_rejects_the_append_before_it_has_an_offset() {
    let run = run_with(&[one(FaultKind::Create, 1, FaultError::Full, true)], 7, Shape::default());
    assert!(run.fired > 0 && !run.halted);
    assert!(run.acknowledged < BATCHES, "the run needs more segments than there were");
    look(&run.submitted, &run.disk.copy(), &Promised::batches(run.acknowledged)).unwrap();
}

/// Three segments of 64 KiB: those of the run come round several times.
const KEEP: Shape = Shape { retain_bytes: Some(3 * (64 << 10)), mixed: false, long: false };

#[test]
fn a_failure_while_segments_come_round_costs_no_acknowledged_entry() {
    for kind in [FaultKind::Rename, FaultKind::FlushFolder, FaultKind::Create, FaultKind::Write, FaultKind::Flush] {
        for from_then_on in [false, true] {
            let name = format!(
                "each {kind:?} of a log that keeps its size{}",
                if from_then_on { ", and all behind it" } else { "" }
            );
            let crashes = !from_then_on && matches!(kind, FaultKind::Write | FaultKind::Flush);
            let tally = strike_each_of(&name, |nth| vec![one(kind, nth, FaultError::Io, from_then_on)], crashes, KEEP);
            assert!(tally.struck > 2, "{name}: {tally:?}");
        }
    }
}

#[test]
fn a_follower_whose_disk_is_full_for_a_moment_takes_nothing_behind_the_gap_and_goes_on_after_a_restart() {
    let (history, submitted) = leader_history(3, 16);
    let disk = SimDisk::new(3);
    let log = Engine::open_mirror_sim(&disk, Some(history.log_id), options(3)).expect("the fault comes later");
    // Three times only: two spares are kept ready, and behind each that is taken one may be struck that nobody waits for yet; the third
    // is the one that is waited for. The next can be made again, so whatever is queued behind would find room.
    for nth in [1, 2, 3] {
        disk.fail(Fault { kind: FaultKind::Create, nth, error: FaultError::Full, from_then_on: false });
    }
    let tickets: Vec<_> = history.groups.iter().map_while(|group| log.apply(group.blocks.clone()).ok()).collect();
    let outcomes: Vec<_> = tickets.into_iter().map(|ticket| ticket.wait()).collect();
    assert!(disk.faults_fired() > 0 && outcomes.iter().any(Result::is_err), "the full disk was not noticed");
    let first_failure = outcomes.iter().position(Result::is_err).unwrap_or(outcomes.len());
    assert!(
        outcomes[first_failure..].iter().all(Result::is_err),
        "a block was taken behind one that was not: {outcomes:?}"
    );
    if let Some(reason) = log.status().halted {
        assert!(!reason.contains("panicked"), "{reason}");
    }
    drop(log);
    let disk = disk.copy(); // a fault that has not struck yet does not strike here
    let log = Engine::open_mirror_sim(&disk, Some(history.log_id), options(4)).expect("a restart recovers");
    catch_up(&log, &history, usize::MAX);
    drop(log);
    let all = submitted.batches.len();
    assert_eq!(look(&submitted, &disk.copy(), &Promised::batches(all)), Ok(0..all));
}
