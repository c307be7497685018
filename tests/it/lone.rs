//! Callers who commit in their own thread: what is promised does not depend on who does the work.

use std::collections::BTreeSet;

use bytes::Bytes;
use walrus_node::sim::{Fault, FaultError, FaultKind, SimDisk};
use walrus_node::{AppendError, AppendOptions, Engine, Level, Options};

use crate::support::{folder, open, payloads, small, until};

fn options(level: Level) -> AppendOptions {
    AppendOptions { level: Some(level), ..AppendOptions::default() }
}

#[test]
fn callers_who_wait_and_callers_who_do_not_share_a_log_each_in_his_order() {
    for default in [Level::Durable, Level::Written] {
        let folder = folder();
        let log = Engine::open(folder.path(), Options { level: default, ..small() }).unwrap();
        let offsets: Vec<Vec<u64>> = std::thread::scope(|scope| {
            let callers = (0..4).map(|caller| {
                let log = &log;
                scope.spawn(move || {
                    let entry = |i| vec![Bytes::from(format!("{caller} {i}"))];
                    let level = |i| if i % 5 == 0 { Level::Durable } else { Level::Written };
                    let mut tickets = Vec::new();
                    for i in 0..300 {
                        if caller % 2 == 0 {
                            tickets.push(Ok(log.append_and_wait("t", entry(i), options(level(i))).unwrap()));
                        } else {
                            tickets.push(Err(log.append_with("t", entry(i), options(level(i))).unwrap()));
                        }
                    }
                    let receipts = tickets.into_iter().map(|t| t.unwrap_or_else(|ticket| ticket.wait().unwrap()));
                    receipts.map(|receipt| receipt.first_offset).collect::<Vec<_>>()
                })
            });
            let callers: Vec<_> = callers.collect();
            callers.into_iter().map(|caller| caller.join().unwrap()).collect()
        });
        let all: BTreeSet<u64> = offsets.iter().flatten().copied().collect();
        assert_eq!(all, (0..1200).collect());
        let entries = payloads(&log, "t");
        for (caller, offsets) in offsets.iter().enumerate() {
            assert!(offsets.is_sorted(), "caller {caller}");
            for (i, offset) in offsets.iter().enumerate() {
                assert_eq!(entries[*offset as usize], format!("{caller} {i}"));
            }
        }
        log.close().unwrap();
        drop(log);
        assert!(payloads(&open(folder.path()), "t") == entries);
    }
}

#[test]
fn a_lone_caller_is_refused_as_any_other() {
    let disk = SimDisk::new(1);
    let log = Engine::open_sim(&disk, Options { seed: Some(1), ..small() }).unwrap();
    let append = |entries: Vec<Bytes>, options| log.append_and_wait("t", entries, options);
    let expecting = |offset| AppendOptions { expect_offset: Some(offset), ..AppendOptions::default() };
    assert_eq!(append(vec!["a".into()], expecting(0)).unwrap().last_offset, 0);
    assert_eq!(append(vec!["b".into(), "c".into()], expecting(1)).unwrap().last_offset, 2);
    let refused = append(vec!["d".into()], expecting(2)).unwrap_err();
    assert!(matches!(refused, AppendError::UnexpectedOffset { expected: 2, next: 3, .. }), "{refused}");
    assert!(matches!(append(Vec::new(), expecting(3)), Err(AppendError::InvalidBatch { .. })));
    // Larger than a block, and than a group.
    assert_eq!(append(vec![vec![1; 3 << 20].into()], expecting(3)).unwrap().last_offset, 3);
    assert_eq!(append(vec![vec![1; 5 << 20].into(); 2], expecting(4)).unwrap().last_offset, 5);
    log.close().unwrap();
    assert!(matches!(append(vec!["e".into()], expecting(6)), Err(AppendError::Closed)));
    assert_eq!(log.topic("t").unwrap().next_offset, 6);
}

#[test]
fn a_write_that_fails_in_a_callers_thread_is_survived_by_the_commit_thread() {
    for from_then_on in [false, true] {
        let disk = SimDisk::new(2);
        let log = Engine::open_sim(&disk, Options { seed: Some(1), ..small() }).unwrap();
        for i in 0..20 {
            log.append_and_wait("t", vec![format!("{i}").into()], AppendOptions::default()).unwrap();
        }
        disk.fail(Fault { kind: FaultKind::Write, nth: 1, error: FaultError::Io, from_then_on });
        let struck = log.append_and_wait("t", vec!["struck".into()], AppendOptions::default());
        assert!(disk.faults_fired() > 0);
        if from_then_on {
            assert!(matches!(struck, Err(AppendError::Indeterminate { .. } | AppendError::RolledBack { .. })));
            let after = log.append_and_wait("t", vec!["after".into()], AppendOptions::default());
            assert!(matches!(after, Err(AppendError::Halted { .. })), "{after:?}");
        } else {
            assert_eq!(struck.unwrap().first_offset, 20);
            assert_eq!(
                log.append_and_wait("t", vec!["after".into()], AppendOptions::default()).unwrap().last_offset,
                21
            );
        }
    }
}

#[test]
fn what_a_lone_caller_leaves_unflushed_is_flushed_as_the_log_was_told() {
    let disk = SimDisk::new(3);
    let flush_every = walrus_node::FlushEvery { entries: Some(10), interval: None };
    let log =
        Engine::open_sim(&disk, Options { level: Level::Written, flush_every, seed: Some(1), ..small() }).unwrap();
    for i in 0..25 {
        log.append_and_wait("t", vec![format!("{i}").into()], AppendOptions::default()).unwrap();
    }
    // Where a flush begins, later entries count for the next one: so fewer than ten are left, wherever that was.
    let all = log.published().lsn().get();
    until("fewer than ten are not durable", || log.durable().lsn().get() + 10 > all);
}

#[test]
fn a_lone_caller_whose_write_does_not_come_back_can_be_told_what_it_waits_for() {
    let disk = SimDisk::new(4);
    let log = Engine::open_sim(&disk, Options { seed: Some(1), ..small() }).unwrap();
    let append = || log.append_and_wait("t", vec!["x".into()], AppendOptions::default()).unwrap();
    for offset in 0..20 {
        assert_eq!(append().first_offset, offset);
    }
    let hold = disk.hold();
    std::thread::scope(|scope| {
        let stuck = scope.spawn(append);
        until("the log says what it waits for", || {
            log.waits_for().is_some_and(|(what, _)| what == "a write of blocks")
        });
        drop(hold);
        assert_eq!(stuck.join().unwrap().first_offset, 20);
    });
    assert!(log.waits_for().is_none());
}

/// Found by a reader of the code: what waited in the queue was answered, and what the thread had taken from it was not.
#[test]
fn a_bug_that_ends_the_commit_thread_leaves_nobody_waiting() {
    let disk = SimDisk::new(5);
    let log = Engine::open_sim(&disk, Options { seed: Some(1), ..small() }).unwrap();
    let append = |i: usize| log.append("t", format!("{i}")).unwrap();
    let hold = disk.hold();
    let mut tickets = vec![append(0)];
    until("it is in flight", || log.waits_for().is_some_and(|(what, _)| what == "a write of blocks"));
    disk.fail(Fault { kind: FaultKind::Write, nth: 1, error: FaultError::Panic, from_then_on: false });
    tickets.extend((1..200).map(append));
    until("another one is in flight", || disk.faults_fired() > 0);
    drop(hold);
    for ticket in tickets {
        until("it is answered", || ticket.try_outcome().is_some());
    }
    until("the log takes no more", || log.append("t", "late").is_err());
    let reason = log.close().unwrap_err().to_string();
    assert!(reason.contains("panicked"), "{reason}");
}

/// In the caller's thread, where that found the log idle; else in the commit thread.
#[test]
fn a_bug_in_the_middle_of_a_lone_append_ends_the_log_and_leaves_nobody_waiting() {
    let disk = SimDisk::new(6);
    let log = Engine::open_sim(&disk, Options { seed: Some(1), ..small() }).unwrap();
    let append = || log.append_and_wait("t", vec!["x".into()], AppendOptions::default());
    (0..20).for_each(|_| assert!(append().is_ok()));
    disk.fail(Fault { kind: FaultKind::Write, nth: 1, error: FaultError::Panic, from_then_on: false });
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(append));
    assert_eq!(disk.faults_fired(), 1);
    assert!(matches!(ended, Err(_) | Ok(Err(AppendError::Indeterminate { .. }))), "{ended:?}");
    until("the log takes no more", || append().is_err());
}
