//! Durability levels: what an acknowledgement promises, and what it costs.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use walrus_node::{AppendOptions, Engine, FlushEvery, Level, Options};

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
