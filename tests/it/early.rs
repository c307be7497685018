//! Entries acknowledged before their block is written: what was said of them holds, for readers and for the next process.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bytes::Bytes;
use walrus_node::sim::{Fault, FaultError, FaultKind, SimDisk, Survivors, accept_loss_sim};
use walrus_node::{AppendOptions, Engine, Level, Lsn, Options, Receipt, Viewer};

use crate::support::{folder, io_mode, payloads, small};

const CHILD: &str = "WALRUS_TEST_EARLY_FOLDER";

fn written() -> Options {
    Options { level: Level::Written, ..small() }
}

fn sim(disk: &SimDisk) -> Engine {
    Engine::open_sim(disk, Options { seed: Some(1), ..written() }).unwrap()
}

fn durable() -> AppendOptions {
    AppendOptions { level: Some(Level::Durable), ..AppendOptions::default() }
}

fn append(log: &Engine, entry: &str) -> Receipt {
    log.append("t", entry.to_owned()).unwrap().wait().unwrap()
}

/// Makes the topic, and the log one that lends: from here on an entry needs no disk to be acknowledged.
fn lending(disk: &SimDisk) -> Engine {
    let log = sim(disk);
    append(&log, "first");
    log
}

#[test]
fn an_entry_is_acknowledged_while_the_disk_stands_still_and_a_reader_waits_for_its_block() {
    let disk = SimDisk::new(1);
    let log = lending(&disk);
    let held = disk.hold();
    let receipt = log.append("t", "early").unwrap().try_outcome().expect("no disk is needed for it").unwrap();
    assert_eq!(receipt.first_offset, 1);
    let reader = std::thread::spawn({
        let log = log.clone();
        move || payloads(&log, "t")
    });
    drop(held);
    assert_eq!(reader.join().unwrap(), ["first", "early"]);
    assert_eq!(log.topic("t").unwrap().next_offset, 2);
}

#[test]
fn what_is_pushed_behind_early_entries_comes_behind_them_and_a_batch_is_still_whole() {
    let disk = SimDisk::new(2);
    let log = lending(&disk);
    let mut receipts = Vec::new();
    for round in 0..50 {
        receipts.push(append(&log, &format!("{round} a")));
        receipts.push(append(&log, &format!("{round} b")));
        let entries = |what: &str| (0..3).map(|i| Bytes::from(format!("{round} {what}{i}"))).collect::<Vec<_>>();
        receipts.push(log.append_batch("t", entries("batch ")).unwrap().wait().unwrap());
        receipts.push(log.append_and_wait("t", vec![format!("{round} durable").into()], durable()).unwrap());
        assert!(log.durable().lsn() > receipts.last().unwrap().lsn, "a durable one covers what lies before it");
    }
    assert!(receipts.is_sorted_by_key(|receipt| (receipt.lsn, receipt.first_offset)));
    let all = payloads(&log, "t");
    assert_eq!(all.len(), 1 + 50 * 6);
    for (round, of_round) in all[1..].chunks(6).enumerate() {
        let names = ["a", "b", "batch 0", "batch 1", "batch 2", "durable"];
        let expected: Vec<_> = names.iter().map(|name| format!("{round} {name}")).collect();
        assert_eq!(of_round, expected);
    }
}

#[test]
fn a_callers_entry_never_overtakes_what_he_has_put_into_the_queue_before() {
    let disk = SimDisk::new(9);
    let log = lending(&disk);
    let held = disk.hold();
    let batch = log.append_batch("t", vec!["one".into(), "two".into()]).unwrap();
    let behind = log.append("t", "behind").unwrap();
    assert!(behind.try_outcome().is_none(), "it was acknowledged before what lies before it");
    drop(held);
    assert_eq!((batch.wait().unwrap().first_offset, behind.wait().unwrap().first_offset), (1, 3));
}

#[test]
fn an_append_that_must_get_a_certain_offset_counts_early_entries() {
    let disk = SimDisk::new(3);
    let log = lending(&disk);
    append(&log, "early");
    let expect = |offset| AppendOptions { expect_offset: Some(offset), ..AppendOptions::default() };
    assert!(log.append_with("t", vec!["late".into()], expect(1)).unwrap().wait().is_err());
    assert_eq!(log.append_with("t", vec!["right".into()], expect(2)).unwrap().wait().unwrap().first_offset, 2);
}

#[test]
fn a_clean_close_leaves_nothing_in_shared_memory() {
    let disk = SimDisk::new(4);
    let log = lending(&disk);
    (0..300).for_each(|i| assert_eq!(append(&log, &format!("{i}")).first_offset, i + 1));
    assert!(has_early(&disk));
    log.close().unwrap();
    drop(log);
    assert!(!has_early(&disk));
    assert_eq!(payloads(&sim(&disk), "t").len(), 301);
}

#[test]
fn a_log_that_halts_gives_its_early_entries_back_when_it_is_opened_again() {
    let disk = SimDisk::new(5);
    let log = lending(&disk);
    log.flush().unwrap().wait().unwrap();
    append(&log, "lends again");
    let held = disk.hold();
    disk.fail(Fault { kind: FaultKind::Write, nth: 1, error: FaultError::Io, from_then_on: true });
    let receipts = [append(&log, "one"), append(&log, "two")];
    drop(held);
    log.close().unwrap_err();
    drop(log);
    assert!(disk.faults_fired() > 0);
    let disk = disk.copy();
    let log = sim(&disk);
    assert_eq!(payloads(&log, "t"), ["first", "lends again", "one", "two"]);
    log.close().unwrap();
    drop(log);
    let viewer = Viewer::open_sim(&disk).unwrap();
    receipts.iter().for_each(|receipt| assert_stands(&viewer, receipt.lsn, receipt.first_offset));
}

#[test]
fn a_full_disk_has_room_for_what_was_acknowledged_early() {
    let disk = SimDisk::new(6);
    let log = lending(&disk);
    append(&log, "early");
    let killed = disk.kill(disk.trace_len(), 1);
    killed.set_capacity(killed.used_bytes());
    assert_eq!(payloads(&sim(&killed), "t"), ["first", "early"]);
}

#[test]
fn a_disk_without_room_for_early_entries_is_slower_and_the_status_says_so() {
    let disk = SimDisk::new(16);
    lending(&disk).close().unwrap();
    disk.set_capacity(disk.used_bytes());
    let log = sim(&disk);
    let warnings = log.status().warnings;
    assert!(
        warnings.iter().any(|warning| warning.contains("`early`") && warning.contains("make room")),
        "{warnings:?}"
    );
    assert_eq!(append(&log, "second").first_offset, 1);
    assert_eq!(payloads(&log, "t"), ["first", "second"]);
}

#[test]
fn a_log_that_is_cut_by_hand_does_not_go_on_with_what_was_acknowledged_behind_the_cut() {
    let disk = SimDisk::new(7);
    let log = lending(&disk);
    log.flush().unwrap().wait().unwrap();
    let place = log.append_and_wait("t", vec!["durable, and rots".into()], durable()).unwrap();
    append(&log, "by the queue");
    append(&log, "early");
    let killed = disk.kill(disk.trace_len(), 1);
    let name = "wal/0000000000000001.seg";
    let rotten = killed.read_file(name).windows(17).position(|bytes| bytes == b"durable, and rots").unwrap();
    killed.flip_bit(name, rotten as u64, 0);
    assert!(Engine::open_sim(&killed, written()).is_err());
    let repaired = accept_loss_sim(&killed).unwrap().expect("there is damage");
    assert_eq!(repaired.cut_lsn, place.lsn);
    assert!(repaired.kept.iter().any(|name| name.starts_with("quarantine/early-")), "{:?}", repaired.kept);
    let log = sim(&killed);
    assert_eq!(payloads(&log, "t"), ["first"]);
    assert_eq!(append(&log, "another").first_offset, 1);
}

/// A block that has no entries of its own, a COMMIT, is lost in a power cut; the block behind it comes back in shared memory. The opening
/// finds nothing, begins a reign in the place of the lost block, and is killed: now the other one would follow.
#[test]
fn what_followed_a_lost_block_does_not_follow_the_block_of_a_new_reign_in_its_place() {
    let disk = SimDisk::new(8);
    let log = lending(&disk);
    let mut batch = log.begin_batch("t", AppendOptions::default()).unwrap();
    (0..3).for_each(|_| batch.push(vec![b'b'; 100 << 10]).unwrap());
    log.flush().unwrap().wait().unwrap();
    let before_commit = disk.trace_len();
    let commit = batch.commit().unwrap().wait().unwrap();
    assert_eq!(append(&log, "behind the batch").lsn, commit.lsn.next());
    let shared = disk.read_file("early");

    let cut = disk.crash(before_commit, &Survivors::Everything);
    let new_reign = sim(&cut);
    assert_eq!(payloads(&new_reign, "t"), ["first"]);
    let killed = cut.kill(cut.trace_len(), 1);
    let log = sim(&killed.copy_with("early", Some(&shared)));
    assert_eq!(payloads(&log, "t"), ["first"]);
}

#[test]
fn a_log_opened_with_segments_too_small_for_its_early_entries_says_how_large_they_must_be() {
    let open = |disk: &SimDisk, bytes| {
        Engine::open_sim(disk, Options { segment_bytes_first: bytes, segment_bytes_max: bytes, ..written() })
    };
    let disk = SimDisk::new(9);
    let log = open(&disk, 16 << 20).unwrap();
    append(&log, "first");
    let hold = disk.hold();
    for _ in 0..8 {
        let ticket = log.append("t", "x".repeat(20_000)).unwrap();
        assert!(ticket.try_outcome().is_some(), "no disk is needed for it");
    }
    let killed = disk.kill(disk.trace_len(), 1);
    drop(hold);
    let refused = open(&killed, 64 << 10).err().unwrap().to_string();
    assert!(refused.contains("at least 262144 bytes (segment_bytes_first)"), "{refused}");
    let log = open(&killed, 256 << 10).unwrap();
    assert_eq!(payloads(&log, "t").len(), 9, "and nothing was lost by trying");
}

fn has_early(disk: &SimDisk) -> bool {
    disk.files().iter().any(|(name, _)| name == "early")
}

/// The entry of that offset is in block `lsn`.
fn assert_stands(viewer: &Viewer, lsn: Lsn, offset: u64) {
    let block = viewer.blocks(lsn).unwrap().remove(0);
    assert!(block.lsn == lsn && block.entries.iter().any(|entry| entry.offset == offset), "{offset} in {block:?}");
}

#[test]
fn every_entry_that_was_acknowledged_before_a_sigkill_is_there_with_its_offset_and_its_lsn() {
    let folder = folder();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["early::child_that_is_killed", "--exact", "--ignored", "--nocapture"])
        .env(CHILD, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged = BTreeMap::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    for line in lines.by_ref().filter(|line| line.starts_with("acknowledged ")).take(4_000) {
        take_line(&line, &mut acknowledged);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    lines.filter(|line| line.ends_with(" .")).for_each(|line| take_line(&line, &mut acknowledged));
    assert!(folder.path().join("early").exists(), "nothing was acknowledged early, so nothing is proven");
    check_after_kill(folder.path(), &acknowledged);
}

/// (topic, offset) -> (LSN, payload)
type Acknowledged = BTreeMap<(String, u64), (Lsn, String)>;

fn take_line(line: &str, acknowledged: &mut Acknowledged) {
    let words: Vec<_> = line.split(' ').collect();
    let ["acknowledged", topic, offset, lsn, payload, "."] = words[..] else { return };
    let lsn = Lsn::new(lsn.parse().unwrap());
    acknowledged.insert((topic.to_owned(), offset.parse().unwrap()), (lsn, payload.to_owned()));
}

fn check_after_kill(folder: &Path, acknowledged: &Acknowledged) {
    let log = Engine::open(folder, small()).unwrap();
    let topics: BTreeMap<_, _> = ["t0", "t1"].map(|topic| (topic, payloads(&log, topic))).into();
    for ((topic, offset), (_, payload)) in acknowledged {
        assert_eq!(topics[&**topic][*offset as usize], *payload, "{topic} {offset}");
    }
    log.close().unwrap();
    drop(log);
    let viewer = Viewer::open(folder, io_mode()).unwrap();
    for ((_, offset), (lsn, _)) in acknowledged.iter().rev().take(200) {
        assert_stands(&viewer, *lsn, *offset);
    }
}

#[test]
#[ignore = "the child of the test above"]
fn child_that_is_killed() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let log = Engine::open(&PathBuf::from(folder), written()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let log = &log;
            scope.spawn(move || {
                for i in 0.. {
                    let (topic, payload) = (format!("t{}", i % 2), format!("{thread}.{i}.{}", "p".repeat(i % 400)));
                    let receipt = log.append(&topic, payload.clone()).unwrap().wait().unwrap();
                    let Receipt { first_offset, lsn, .. } = receipt;
                    let _ = writeln!(std::io::stdout(), "acknowledged {topic} {first_offset} {lsn} {payload} .");
                }
            });
        }
    });
}
