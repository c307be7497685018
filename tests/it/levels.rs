//! Durability levels: what an acknowledgement promises, and what it costs.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use walrus_node::sim::{Fault, FaultError, FaultKind, SimDisk};
use walrus_node::{AppendOptions, Engine, FlushEvery, Level, Lsn, Options, ReadLimit, Receipt};

use crate::support::{folder, open, payloads, small, until};

const CHILD: &str = "WALRUS_TEST_WRITTEN_FOLDER";

fn written(every: FlushEvery) -> Options {
    Options { level: Level::Written, flush_every: every, ..small() }
}

fn every(interval: Duration) -> FlushEvery {
    FlushEvery { entries: None, interval: Some(interval) }
}

fn append(log: &Engine, entry: &str) -> Receipt {
    log.append("t", entry.to_owned()).unwrap().wait().unwrap()
}

/// Long enough for a flush that is due, however slow the machine; a test that fails takes as long.
fn assert_is_flushed(log: &Engine, lsn: Lsn, why: &str) {
    assert!(log.durable().wait_past(lsn, Duration::from_secs(30)) > lsn, "half a minute later: {why}");
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

    let log = Engine::open(folder.path(), written(every(Duration::from_millis(5)))).unwrap();
    let receipt = append(&log, "waits for the alarm");
    assert_is_flushed(&log, receipt.lsn, "nobody appended anything behind it, and it was not flushed");
}

/// The alarm of the first entry went off while the second one's time had not come, was not set again, and the second one waited for ever.
/// Where the machine is so slow that the first alarm has gone off before the second entry comes, this shows nothing.
#[test]
fn an_alarm_of_entries_that_are_durable_by_now_does_not_cost_later_entries_theirs() {
    let interval = Duration::from_millis(400);
    let log = Engine::open_sim(&SimDisk::new(1), written(every(interval))).unwrap();
    append(&log, "sets the alarm");
    let start = Instant::now();
    log.flush().unwrap().wait().unwrap();
    until("half the interval has passed", || start.elapsed() >= interval / 2);
    let receipt = append(&log, "behind the flush");
    assert_is_flushed(&log, receipt.lsn, "the alarm was of earlier entries");
}

/// What waits had been given its time, or none, when nobody followed; and nobody told the commit thread that somebody does now.
#[test]
fn who_follows_an_idle_log_gets_what_was_written_before_he_came() {
    for every in [FlushEvery::default(), every(Duration::from_secs(3_600))] {
        let log = Engine::open_sim(&SimDisk::new(2), written(every)).unwrap();
        for i in 0..99 {
            append(&log, &format!("{i}"));
        }
        let last = append(&log, "the last").lsn;
        assert!(log.published().wait_past(last, Duration::from_secs(30)) > last);
        assert!(log.durable().lsn() <= last, "nobody has asked for a flush so far");
        let following = log.following();
        assert_is_flushed(&log, last, &format!("somebody follows, and {every:?} it is still"));
        assert!(!log.portable_blocks(last, 1).unwrap().is_empty(), "what is durable can be shipped");
        drop(following);
    }
}

/// How far the log may be ahead of its durable end was counted in bytes of segments, what makes a flush due in bytes of blocks: with one
/// block of 28 or 32 KiB in each segment of 64 KiB no more blocks could come, and no flush. Even a close waited for ever.
#[test]
fn a_log_whose_segments_stay_half_empty_is_flushed_before_it_may_go_no_further() {
    let options =
        Options { segment_bytes_first: 64 << 10, segment_bytes_max: 64 << 10, ..written(FlushEvery::default()) };
    let log = Engine::open_sim(&SimDisk::new(3), options).unwrap();
    let (tell, appended) = mpsc::channel();
    // In a thread that can be left behind: a log that stands still does not let go of anybody.
    std::thread::spawn(move || {
        for kib in [28, 32].into_iter().cycle().take(1_200) {
            log.append("t", vec![0; (kib << 10) - 512]).unwrap().wait().unwrap();
            tell.send(()).unwrap();
        }
        log.close().unwrap();
        tell.send(()).unwrap();
    });
    for i in 0..=1_200 {
        let heard = appended.recv_timeout(Duration::from_secs(30));
        assert!(
            heard.is_ok(),
            "{i} entries, of 30 KiB and a segment each, and nothing more for half a minute: {heard:?}"
        );
    }
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
