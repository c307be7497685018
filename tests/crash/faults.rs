//! Every write, flush, creation and read of a run fails once: the log must say so, keep what it has acknowledged, and be whole again
//! after a restart.
//!
//! Until the rewrite after a failed flush is built, any failed write or flush halts the log.

use walrus_node::sim::{Fault, FaultError, FaultKind, SimDisk, Survivors};
use walrus_node::{AppendError, Engine, Options};

use crate::enumerate::look;
use crate::leader::{batch, options};
use crate::mirror::{catch_up, leader_history};
use crate::oracle::{Promised, Submitted};
use crate::random::Random;

/// How a run with a fault in it went.
struct Faulted {
    disk: SimDisk,
    submitted: Submitted,
    acknowledged: usize,
    may_be_gone: usize,
    fired: bool,
    halted: bool,
}

fn run_with(fault: Fault, seed: u64, retain_bytes: Option<u64>) -> Faulted {
    let disk = SimDisk::new(seed);
    let log = Engine::open_sim(&disk, Options { retain_bytes, ..options(seed) }).expect("the fault comes later");
    disk.fail(fault);
    let mut random = Random(seed);
    let (mut submitted, mut acknowledged) = (Submitted::default(), 0);
    for number in 0..16 {
        let batch = batch(&mut random, number);
        let outcome = log.append_batch(batch.topic, batch.entries.clone()).and_then(|ticket| ticket.wait());
        match outcome {
            Ok(_) => {
                assert_eq!(acknowledged, number, "nothing is acknowledged behind a failure");
                submitted.batches.push(batch);
                acknowledged += 1;
            }
            Err(AppendError::Full { .. }) => break,
            Err(AppendError::Indeterminate { .. } | AppendError::Halted { .. }) => {
                submitted.batches.push(batch); // it may be there after the restart, whole or not at all
                break;
            }
            Err(other) => panic!("{fault:?}: {other}"),
        }
    }
    let halted = log.status().halted.is_some();
    if halted {
        let refused = log.append("orders", "after").unwrap_err();
        assert!(matches!(refused, AppendError::Halted { .. }), "{fault:?}: {refused}");
        assert!(log.close().is_err(), "{fault:?}: a halted log is not closed in order");
    }
    let readable: u64 = log.topics().iter().map(|topic| topic.next_offset).sum();
    let expected: usize = submitted.batches[..acknowledged].iter().map(|batch| batch.entries.len()).sum();
    assert_eq!(readable, expected as u64, "{fault:?}: a log shows what is acknowledged, also when it has halted");
    let fired = disk.faults_fired() > 0;
    let may_be_gone = if retain_bytes.is_some() { acknowledged } else { 0 };
    Faulted { disk, submitted, acknowledged, may_be_gone, fired, halted }
}

/// Strikes the first, second, ... operation of a kind until the run has no more of them. Returns how often the log halted.
fn strike_each(kind: FaultKind, error: FaultError, from_then_on: bool) -> usize {
    strike_each_of(kind, error, from_then_on, None)
}

/// The same in a run that keeps so many bytes.
fn strike_each_of(kind: FaultKind, error: FaultError, from_then_on: bool, retain_bytes: Option<u64>) -> usize {
    let mut halts = 0;
    for nth in 1.. {
        let fault = Fault { kind, nth, error, from_then_on };
        let run = run_with(fault, 7, retain_bytes);
        if !run.fired {
            crate::report(&format!("{kind:?} {error:?}: struck {} times, halted {halts} times", nth - 1));
            assert!(nth > 1, "a fault that never fires proves nothing");
            return halts;
        }
        halts += usize::from(run.halted);
        let end = run.disk.trace_len();
        for survivors in
            [Survivors::Nothing, Survivors::Everything, Survivors::Seeded(nth), Survivors::Seeded(nth + 999)]
        {
            let restarted = run.disk.crash(end, &survivors);
            let promised = Promised { batches: run.acknowledged, gone: 0..=run.may_be_gone };
            let seen = look(&run.submitted, &restarted, &promised)
                .unwrap_or_else(|what| panic!("{what}\n  {fault:?}, {survivors:?}"));
            let log = Engine::open_sim(&restarted, Options { retain_bytes, ..options(nth) })
                .unwrap_or_else(|error| panic!("{error}: {fault:?}"));
            log.append("later", "after the restart").unwrap().wait().unwrap();
            let shown: u64 = log.topics().iter().map(|topic| topic.next_offset).sum();
            let expected: usize = run.submitted.batches[..seen.end].iter().map(|batch| batch.entries.len()).sum();
            assert_eq!(shown, expected as u64 + 1, "{fault:?}, {survivors:?}");
        }
    }
    unreachable!("the run has an end")
}

#[test]
fn a_failed_or_short_write_halts_the_log_and_a_restart_recovers_every_acknowledged_entry() {
    for error in [FaultError::Io, FaultError::Short] {
        assert!(strike_each(FaultKind::Write, error, false) > 10);
        assert!(strike_each(FaultKind::Write, error, true) > 10);
    }
}

#[test]
fn a_failed_flush_halts_the_log_and_is_never_tried_again() {
    assert!(strike_each(FaultKind::Flush, FaultError::Io, false) > 3);
    assert!(strike_each(FaultKind::Flush, FaultError::Io, true) > 3);
}

#[test]
fn a_full_disk_rejects_the_append_before_it_has_an_offset() {
    let run = run_with(Fault { kind: FaultKind::Create, nth: 1, error: FaultError::Full, from_then_on: true }, 7, None);
    assert!(run.fired && !run.halted);
    assert!(run.acknowledged < 16, "the run needs more segments than there were");
    look(&run.submitted, &run.disk.copy(), &Promised::batches(run.acknowledged)).unwrap();
}

/// Three segments of 64 KiB: those of the run come round several times.
const KEEP: Option<u64> = Some(3 * (64 << 10));

#[test]
fn a_failure_while_segments_come_round_costs_no_acknowledged_entry() {
    for kind in [FaultKind::Rename, FaultKind::FlushFolder, FaultKind::Create] {
        strike_each_of(kind, FaultError::Io, false, KEEP);
        strike_each_of(kind, FaultError::Io, true, KEEP);
    }
    for kind in [FaultKind::Write, FaultKind::Flush] {
        assert!(strike_each_of(kind, FaultError::Io, false, KEEP) > 3);
    }
}

#[test]
fn a_follower_whose_disk_is_full_for_a_moment_takes_nothing_behind_the_gap_and_goes_on_after_a_restart() {
    let (history, submitted) = leader_history(3, 16);
    let disk = SimDisk::new(3);
    let log = Engine::open_mirror_sim(&disk, Some(history.log_id), options(3)).expect("the fault comes later");
    // Twice only: the first may strike a spare that nobody waits for yet, the second strikes the one that is waited for. The next can
    // be made again, so whatever is queued behind would find room.
    for nth in [1, 2] {
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
