//! Durability levels: what an acknowledgement promises, and what it costs.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use walrus_node::sim::{Fault, FaultError, FaultKind, SimDisk};
use walrus_node::{AppendOptions, Engine, FlushEvery, Level, Options, ReadLimit};

use crate::support::{folder, open, payloads, small, until};

const CHILD: &str = "WALRUS_TEST_WRITTEN_FOLDER";

fn written(every: FlushEvery) -> Options {
    Options { level: Level::Written, flush_every: every, ..small() }
}

#[test]
fn what_is_acknowledged_as_written_is_flushed_when_asked_and_every_so_many_entries() {
    let folder = folder();
    let log = Engine::open(folder.path(), written(FlushEvery::default())).unwrap();
    let before = log.status().flushes;
    for i in 0..200 {
        log.append("t", format!("{i}")).unwrap().wait().unwrap();
    }
    assert_eq!(payloads(&log, "t").len(), 200, "what is acknowledged can be read");
    let status = log.status();
    assert_eq!((status.durability, status.flushes), ("written", before), "nobody asked for a flush");
    assert!(status.published_lsn > status.durable_lsn);

    log.flush().unwrap().wait().unwrap();
    assert_eq!(log.status().durable_lsn, status.published_lsn);
    // A durable append flushes everything before it.
    log.append("t", "written").unwrap().wait().unwrap();
    let durable = AppendOptions { level: Some(Level::Durable), ..AppendOptions::default() };
    let receipt = log.append_with("t", vec!["durable".into()], durable).unwrap().wait().unwrap();
    assert_eq!(log.status().durable_lsn, receipt.lsn.next());
    log.append("t", "written").unwrap().wait().unwrap();
    log.close().unwrap();
    drop(log);
    assert_eq!(payloads(&open(folder.path()), "t").len(), 203, "a clean close flushes");
}

#[test]
fn a_log_that_flushes_every_ten_entries_or_milliseconds_does_so_by_itself() {
    let folder = folder();
    let entries = FlushEvery { entries: Some(10), interval: None };
    let log = Engine::open(folder.path(), written(entries)).unwrap();
    let before = log.status().flushes;
    for i in 0..100 {
        log.append("t", format!("{i}")).unwrap().wait().unwrap();
    }
    until("it has flushed", || log.status().flushes > before);
    let flushes = log.status().flushes - before;
    // At most ten times, and of two files each time where a segment ends.
    assert!((1..=20).contains(&flushes), "{flushes} flushes of 100 entries");
    drop(log);

    let interval = FlushEvery { entries: None, interval: Some(std::time::Duration::from_millis(5)) };
    let log = Engine::open(folder.path(), written(interval)).unwrap();
    let receipt = log.append("t", "waits for the alarm").unwrap().wait().unwrap();
    let durable = log.durable().wait_past(receipt.lsn, std::time::Duration::from_secs(60));
    assert!(durable > receipt.lsn, "nobody appended anything behind it, and it was flushed all the same");
}

/// Found by a reader of the code: groups were moved to their new place one by one, and what was not moved yet had no place.
#[test]
fn what_is_acknowledged_as_written_can_be_read_while_it_is_written_again() {
    const FAILURES: u64 = 10;
    const BATCHES: u64 = 1_000;
    let disk = SimDisk::new(5);
    let options = Options { segment_bytes_first: 16 << 20, segment_bytes_max: 16 << 20, seed: Some(1), ..small() };
    let log = Engine::open_sim(&disk, Options { level: Level::Written, ..options }).unwrap();
    let append = || log.append_batch("t", vec!["first".into(), "second".into()]).unwrap().wait().unwrap();
    append();
    let (read, ended) = (AtomicU64::new(0), AtomicBool::new(false));
    let read_all = || {
        while !ended.load(Ordering::Relaxed) {
            let entries = log.topic("t").unwrap().next_offset;
            for offset in (0..entries).rev() {
                let one = log.read("t", offset, ReadLimit { entries: 1, ..ReadLimit::default() });
                assert_eq!(one.expect("it was acknowledged")[0].offset, offset);
                read.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        let reader = scope.spawn(read_all);
        for failure in 1..=FAILURES {
            for _ in 0..BATCHES {
                append();
            }
            let before = read.load(Ordering::Relaxed);
            until("the reader reads", || reader.is_finished() || read.load(Ordering::Relaxed) > before);
            disk.fail(Fault { kind: FaultKind::Flush, nth: 1, error: FaultError::Io, from_then_on: false });
            log.flush().unwrap().wait().unwrap();
            assert_eq!((disk.faults_fired(), log.status().failures_survived), (failure, failure));
        }
        ended.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
}

#[test]
fn what_is_acknowledged_as_written_survives_sigkill() {
    let folder = folder();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["levels::child_that_is_killed", "--exact", "--ignored", "--nocapture"])
        .env(CHILD, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let acknowledged = lines.filter(|line| line.starts_with("acknowledged")).nth(500);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(acknowledged.is_some(), "the child ended before it had appended much");
    assert!(payloads(&open(folder.path()), "t").len() >= 500);
}

#[test]
#[ignore = "the child of the test above"]
fn child_that_is_killed() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let log = Engine::open(&PathBuf::from(folder), written(FlushEvery::default())).unwrap();
    for i in 0.. {
        log.append("t", format!("{i}")).unwrap().wait().unwrap();
        let _ = writeln!(std::io::stdout(), "acknowledged {i}");
    }
}
