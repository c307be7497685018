//! Retention: what is given away is gone for good, what is left is whole, and the files come round again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use walrus_node::sim::{Fault, FaultError, FaultKind, SimDisk};
use walrus_node::{AppendOptions, Engine, IoMode, Lsn, Options, ReadError, ReadLimit, SpaceState, Viewer};

use crate::support::{folder, io_mode, until};

/// The smallest segments: 56 KiB of blocks each.
fn tiny() -> Options {
    Options { io: io_mode(), segment_bytes_first: 64 << 10, segment_bytes_max: 64 << 10, ..Options::default() }
}

fn open(path: &Path, options: &Options) -> Engine {
    Engine::open(path, options.clone()).expect("the log opens")
}

/// Entry `n` of a topic: about a quarter of a segment when `n` is even, little otherwise.
fn entry(topic: &str, n: u64) -> Bytes {
    Bytes::from(format!("{topic} {n} {}", "x".repeat(if n.is_multiple_of(2) { 13_000 } else { 10 })))
}

fn append(log: &Engine, topic: &str, numbers: std::ops::Range<u64>) -> Lsn {
    let mut lsn = Lsn::FIRST;
    for n in numbers {
        let receipt = log.append(topic, entry(topic, n)).unwrap().wait().unwrap();
        assert_eq!(receipt.first_offset, n);
        lsn = receipt.lsn;
    }
    lsn
}

/// Everything from `first` on, entry by entry, and nothing before.
fn assert_holds(log: &Engine, topic: &str, next: u64) {
    let info = log.topic(topic).unwrap();
    assert_eq!(info.next_offset, next);
    let mut offset = info.first_offset;
    while offset < next {
        for read in log.read(topic, offset, ReadLimit::default()).unwrap() {
            assert_eq!((read.offset, read.payload), (offset, entry(topic, offset)));
            offset += 1;
        }
    }
    if let Some(gone) = info.first_offset.checked_sub(1) {
        let error = log.read(topic, gone, ReadLimit::default()).unwrap_err();
        assert!(
            matches!(error, ReadError::Trimmed { first_offset, .. } if first_offset == info.first_offset),
            "{error}"
        );
    }
}

fn wal(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(path.join("wal"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_trimmed_log_holds_the_rest_before_and_after_it_is_opened_again() {
    let folder = folder();
    let log = open(folder.path(), &tiny());
    append(&log, "early", 0..4);
    let middle = append(&log, "t", 0..40);
    append(&log, "t", 40..80);
    append(&log, "late", 0..4);
    assert_eq!(log.trim(Lsn::FIRST).unwrap(), Lsn::FIRST, "nothing lies before the first block");

    let first = log.trim(middle).unwrap();
    assert!(first > Lsn::FIRST && first <= middle);
    assert_eq!(log.trim(first).unwrap(), first, "trimming as far again changes nothing");
    let t = log.topic("t").unwrap();
    assert!((1..=39).contains(&t.first_offset), "{t:?}");
    assert_eq!(log.topic("early").unwrap().first_offset, 4, "a topic with no entries left keeps its next offset");
    let topics = log.topics();

    let check = |log: &Engine| {
        assert_eq!(log.topics(), topics);
        assert_holds(log, "t", 80);
        assert_holds(log, "early", 4);
        assert_holds(log, "late", 4);
        assert_eq!(log.status().first_lsn, first);
    };
    check(&log);
    log.close().unwrap();
    drop(log);

    let viewer = Viewer::open(folder.path(), IoMode::Auto).unwrap();
    assert_eq!((viewer.first_lsn(), viewer.topics()), (first, topics.clone()));
    assert!(viewer.verification().is_ok());
    assert_eq!(viewer.blocks(first).unwrap()[0].lsn, first);
    assert!(viewer.blocks(Lsn::FIRST).is_err());
    drop(viewer);

    let log = open(folder.path(), &tiny());
    check(&log);
    assert_eq!(append(&log, "early", 4..5).get(), log.tip().lsn.get() - 1);
    assert_eq!(log.lineage().len(), 2, "the first reign is remembered");
    assert_eq!(log.topic("new"), None);
    append(&log, "new", 0..1);
    assert_eq!(log.topic("new").unwrap().id.get(), 4, "numbers of topics go on behind those of the base");
}

#[test]
fn a_batch_that_reaches_over_segments_goes_whole_or_stays_whole() {
    let folder = folder();
    let log = open(folder.path(), &tiny());
    // Twelve blocks of about 14 KB: three segments and a bit.
    let batch: Vec<Bytes> = (0..12).map(|n| Bytes::from(format!("{n} {}", "y".repeat(40_000)))).collect();
    let mut ends = Vec::new();
    for _ in 0..6 {
        ends.push(log.append_batch("batches", batch.clone()).unwrap().wait().unwrap().lsn);
        append(&log, &format!("between {}", ends.len()), 0..1);
    }
    drop(log);
    let mut first = 0;
    for end in &ends[..5] {
        for before in [end.get() - 5, end.get(), end.get() + 1, end.get() + 3] {
            let log = open(folder.path(), &tiny());
            assert_eq!(log.topic("batches").unwrap().first_offset, first);
            assert!(log.trim(Lsn::new(before)).unwrap() <= Lsn::new(before));
            first = log.topic("batches").unwrap().first_offset;
            assert!(first.is_multiple_of(12), "trimmed at lsn {before}: a batch begins at offset {first}?");
        }
    }
    assert!(first >= 48, "{first}");
    let log = open(folder.path(), &tiny());
    let entries = log.read("batches", first, ReadLimit { entries: 12, bytes: usize::MAX }).unwrap();
    assert!(entries.into_iter().map(|entry| entry.payload).eq(batch));
}

#[test]
fn a_log_that_keeps_so_many_bytes_uses_its_segments_again_and_makes_no_more_files() {
    let folder = folder();
    let options = Options { retain_bytes: Some(8 * (64 << 10)), ..tiny() };
    let log = open(folder.path(), &options);
    append(&log, "t", 0..400);
    until("only what is to be kept is kept", || log.status().log_bytes <= 8 * (64 << 10));
    // Nine in use at the moment of a rollover, two spares, and those on their way from the one to the other.
    until("the files are those in use and the spares", || wal(folder.path()).len() <= 8 + 2);
    assert_holds(&log, "t", 400);
    assert!(log.topic("t").unwrap().first_offset > 300);
    let generations = generations(folder.path());
    assert!(generations.iter().any(|generation| *generation > 3), "segments come round again: {generations:?}");
    log.close().unwrap();
    drop(log);

    let log = open(folder.path(), &options);
    assert_holds(&log, "t", 400);
    append(&log, "t", 400..500);
    until("only what is to be kept is kept", || log.status().log_bytes <= 8 * (64 << 10));
    assert_holds(&log, "t", 500);
}

#[test]
fn what_is_given_away_at_once_goes_file_by_file_also_after_a_restart() {
    let folder = folder();
    let log = open(folder.path(), &tiny());
    append(&log, "t", 0..150);
    let before = wal(folder.path()).len();
    assert!(before > 30);
    log.trim(log.tip().lsn).unwrap();
    drop(log); // long before the last of them is removed
    assert!(wal(folder.path()).len() > 10);
    let viewer = Viewer::open(folder.path(), IoMode::Auto).unwrap();
    assert!(viewer.verification().is_ok() && viewer.verification().segments < 6);
    drop(viewer);
    let log = open(folder.path(), &tiny());
    assert_holds(&log, "t", 150);
    until("only the segment that is written is left, and the spares", || wal(folder.path()).len() <= 3);
    assert_holds(&log, "t", 150);
}

/// How often each file has been recycled: docs/FORMAT.md#segment-header
fn generations(path: &Path) -> Vec<u64> {
    let generation = |name: &String| {
        let bytes = std::fs::read(path.join("wal").join(name)).unwrap();
        u64::from_le_bytes(bytes[56..64].try_into().unwrap())
    };
    wal(path).iter().filter(|name| name.ends_with(".seg")).map(generation).collect()
}

#[test]
fn entries_of_no_age_at_all_stay_only_in_the_segment_that_is_written() {
    let folder = folder();
    let log = open(folder.path(), &Options { retain_age: Some(Duration::ZERO), ..tiny() });
    append(&log, "t", 0..100);
    until("sealed segments go", || log.status().log_bytes <= 2 * (64 << 10));
    assert_holds(&log, "t", 100);
    drop(log);
    let log = open(folder.path(), &Options { retain_age: Some(Duration::from_secs(1 << 40)), ..tiny() });
    let first = log.topic("t").unwrap().first_offset;
    append(&log, "t", 100..150);
    assert_eq!(log.topic("t").unwrap().first_offset, first, "nothing is that old");
}

#[test]
fn what_every_topic_has_done_with_goes_and_a_topic_that_is_not_named_keeps_everything() {
    let folder = folder();
    let log = open(folder.path(), &tiny());
    for n in 0..60 {
        append(&log, "a", n..n + 1);
        append(&log, "b", n..n + 1);
    }
    let needed = |a, b| BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), b)]);
    assert_eq!(log.trim_topics(&BTreeMap::from([("a".to_owned(), 60)])).unwrap(), Lsn::FIRST);
    assert_eq!(log.trim_topics(&needed(60, 0)).unwrap(), Lsn::FIRST);
    assert!(log.trim_topics(&needed(60, 30)).unwrap() > Lsn::FIRST);
    let (a, b) = (log.topic("a").unwrap(), log.topic("b").unwrap());
    assert!(b.first_offset <= 30 && b.first_offset > 20 && a.first_offset.abs_diff(b.first_offset) <= 1, "{a:?} {b:?}");
    log.trim_topics(&needed(60, 60)).unwrap();
    assert!(log.topic("b").unwrap().first_offset > 50);
    assert_holds(&log, "a", 60);
    assert_holds(&log, "b", 60);
}

#[test]
fn time_is_found_in_what_is_left() {
    let folder = folder();
    let log = open(folder.path(), &tiny());
    let lsn = append(&log, "t", 0..40);
    log.trim(lsn).unwrap();
    let first = log.topic("t").unwrap().first_offset;
    assert!(first > 0);
    assert_eq!(log.offset_at_time("t", 0).unwrap(), first);
    assert_eq!(log.offset_at_time("t", u64::MAX).unwrap(), 40);
    let last = log.read("t", 39, ReadLimit::default()).unwrap();
    assert!(log.offset_at_time("t", last[0].ts_ns).unwrap() <= 39);
}

#[test]
fn two_copies_of_a_log_are_equal_whatever_each_has_given_away() {
    let (ours, theirs) = (folder(), folder());
    let log = open(ours.path(), &tiny());
    let middle = append(&log, "t", 0..60);
    let mirror = Engine::open_mirror(theirs.path(), Some(log.status().log_id), tiny()).unwrap();
    copy(&log, &mirror);
    log.trim(middle).unwrap();
    log.close().unwrap();
    mirror.close().unwrap();
    let compare = |expected: Option<Lsn>| {
        let ours = Viewer::open(ours.path(), IoMode::Auto).unwrap();
        let theirs = Viewer::open(theirs.path(), IoMode::Auto).unwrap();
        assert!(ours.first_lsn() > theirs.first_lsn());
        assert_eq!(ours.first_difference(&theirs).unwrap(), expected);
        assert_eq!(theirs.first_difference(&ours).unwrap(), expected);
    };
    drop((log, mirror));
    compare(None);

    // A new reign is in one of them only; then one goes on where the other ended long ago.
    let end = open(ours.path(), &tiny()).tip().lsn.get() - 1;
    compare(Some(Lsn::new(end)));
    let log = open(ours.path(), &tiny());
    let far = append(&log, "t", 60..120);
    log.trim(far).unwrap();
    assert!(log.status().first_lsn.get() > end);
    drop(log);
    compare(Some(Lsn::new(end)));
}

/// Everything that a mirror does not have yet.
fn copy(log: &Engine, mirror: &Engine) {
    let mut blocks = Vec::new();
    while mirror.tip().lsn.get() + (blocks.len() as u64) < log.tip().lsn.get() {
        let next = Lsn::new(mirror.tip().lsn.get() + blocks.len() as u64);
        blocks.extend(log.portable_blocks(next, 1 << 20).unwrap().into_iter().map(|block| block.bytes));
    }
    mirror.apply(blocks).unwrap().wait().unwrap();
}

#[test]
fn readers_see_every_entry_or_are_told_that_they_came_too_late() {
    let folder = folder();
    let log = open(folder.path(), &Options { retain_bytes: Some(4 * (64 << 10)), ..tiny() });
    append(&log, "t", 0..1);
    std::thread::scope(|scope| {
        let log = &log;
        let readers: Vec<_> = (1..=2).map(|at_once| scope.spawn(move || read_to(log, 1_000, at_once))).collect();
        append(log, "t", 1..1_000);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
    assert_eq!(log.status().space, SpaceState::Ok);
}

/// Reads everything that can be had of the first `end` entries, and looks for a time now and then. Returns how many those were.
fn read_to(log: &Engine, end: u64, at_once: usize) -> u64 {
    let (mut tailer, mut read) = (log.tail("t", 0), 0);
    while tailer.next_offset() < end {
        let next = tailer.next_offset();
        match tailer.next(ReadLimit { entries: at_once, bytes: 1 << 20 }, Duration::from_secs(60)) {
            Ok(entries) => {
                for (offset, got) in (next..).zip(entries) {
                    assert_eq!(got.offset, offset);
                    assert!(got.payload == entry("t", offset));
                    read += 1;
                }
            }
            Err(ReadError::Trimmed { asked, first_offset, .. }) => {
                assert!(asked == next && first_offset > next);
                assert!(log.offset_at_time("t", 1).unwrap() >= first_offset);
                tailer = log.tail("t", first_offset);
            }
            Err(other) => panic!("{other}"),
        }
    }
    read
}

#[test]
fn the_loss_of_everything_that_a_log_begins_with_is_damage_and_no_empty_log() {
    let disk = SimDisk::new(3);
    let log = Engine::open_sim(&disk, tiny()).unwrap();
    let last = append(&log, "t", 0..30);
    assert!(log.trim(last).unwrap() > Lsn::FIRST);
    // As a crash leaves it: one slot as it was when the log was opened. The other, which knows better, rots with all the blocks.
    let crashed = disk.crash(disk.trace_len(), &walrus_node::sim::Survivors::Everything);
    let versions = [0, 4096].map(|slot| {
        let bytes = crashed.read_file("superblock");
        u64::from_le_bytes(bytes[slot + 8..slot + 16].try_into().unwrap())
    });
    crashed.flip_bit("superblock", if versions[0] > versions[1] { 100 } else { 4096 + 100 }, 1);
    for (name, bytes) in crashed.files().iter().filter(|(name, _)| name.ends_with(".seg")) {
        (4096..bytes - 4096).step_by(4096).for_each(|at| crashed.flip_bit(name, at + 4, 0));
    }
    let viewer = Viewer::open_sim(&crashed).unwrap();
    let damage = &viewer.verification().damage;
    assert!(damage.len() == 1 && damage[0].reason.contains("the base says"), "{damage:?}");
    drop(viewer);
    assert!(matches!(Engine::open_sim(&crashed, tiny()), Err(walrus_node::OpenError::Damaged(_))));
}

#[test]
fn a_staged_batch_goes_whole_or_stays_whole_and_one_without_a_commit_holds_on_to_the_log() {
    let folder = folder();
    let log = open(folder.path(), &tiny());
    let part = |n: usize| Bytes::from(format!("{n} {}", "p".repeat(30_000)));
    let mut next = 0;
    let mut single = |log: &Engine| {
        let receipt = log.append("t", entry("t", next)).unwrap().wait().unwrap();
        assert_eq!(receipt.first_offset, next);
        next += 1;
        receipt.lsn
    };
    single(&log);
    let mut batch = log.begin_batch("t", AppendOptions::default()).unwrap();
    let mut amid = Vec::new();
    for n in 0..8 {
        batch.push(part(n)).unwrap();
        log.flush().unwrap().wait().unwrap();
        amid.push(single(&log));
    }
    // The first part was sent when the second entry did not fit it any more, before the second single.
    for lsn in &amid {
        assert!(log.trim(*lsn).unwrap() <= amid[1], "the batch has no COMMIT yet");
    }
    let receipt = batch.commit().unwrap().wait().unwrap();
    assert_eq!(
        (receipt.first_offset, receipt.last_offset),
        (9, 16),
        "singles that came meanwhile have the lower offsets"
    );
    next = 17;
    let mut single = |log: &Engine| {
        let receipt = log.append("t", entry("t", next)).unwrap().wait().unwrap();
        next += 1;
        receipt.lsn
    };
    let behind: Vec<_> = (0..20).map(|_| single(&log)).collect();
    for lsn in amid.iter().chain([&receipt.lsn]) {
        assert!(log.trim(*lsn).unwrap() <= amid[1]);
    }
    let needed = BTreeMap::from([("t".to_owned(), 5)]);
    log.trim_topics(&needed).unwrap();
    assert!(log.topic("t").unwrap().first_offset <= 2);
    let log = reopened(log, folder.path());
    let read = log.read("t", 9, ReadLimit { entries: 8, bytes: usize::MAX }).unwrap();
    assert!(read.into_iter().map(|entry| entry.payload).eq((0..8).map(part)));

    assert!(log.trim(*behind.last().unwrap()).unwrap() > receipt.lsn);
    let info = log.topic("t").unwrap();
    assert!(info.first_offset >= 17 && info.next_offset == 37, "{info:?}");
    let log = reopened(log, folder.path());
    assert_eq!(log.topic("t").unwrap(), info);
    assert_holds(&log, "t", 37);
}

fn reopened(log: Engine, path: &Path) -> Engine {
    log.close().unwrap();
    drop(log);
    assert!(Viewer::open(path, IoMode::Auto).unwrap().verification().is_ok());
    open(path, &tiny())
}

/// The numbers of segments in which a write has failed, and of those that were made spares again.
fn failed_and_recycled(disk: &SimDisk) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let (mut failed, mut recycled) = (BTreeSet::new(), BTreeSet::new());
    for op in (0..disk.trace_len()).map(|at| disk.op(at)) {
        // A file keeps the name that it was made under.
        if let Some((_, rest)) = op.split_once("failed: wal/spare-") {
            failed.insert(rest.split_once('.').unwrap().0.parse().unwrap());
        }
        if let Some((from, _)) = op.split_once(".seg to wal/spare-") {
            recycled.insert(u64::from_str_radix(&from["renamed: wal/".len()..], 16).unwrap());
        }
    }
    (failed, recycled)
}

/// How many fences the newest slot of the superblock has: docs/FORMAT.md#superblock
fn fences(disk: &SimDisk) -> u16 {
    let bytes = disk.read_file("superblock");
    let version = |slot: usize| u64::from_le_bytes(bytes[slot + 8..slot + 16].try_into().unwrap());
    let newest = if version(0) > version(4096) { 0 } else { 4096 };
    u16::from_le_bytes(bytes[newest + 112..newest + 114].try_into().unwrap())
}

#[test]
fn fences_go_with_their_segments_so_a_log_that_gives_away_survives_more_failures_than_the_superblock_holds() {
    let disk = SimDisk::new(7);
    let log = Engine::open_sim(&disk, Options { seed: Some(7), ..tiny() }).unwrap();
    let (mut next, mut most) = (0, 0);
    // A fault may strike the headers of a spare, which is made again, so it takes some more of them.
    for round in (1..=300).take_while(|_| log.status().failures_survived < 70) {
        until("spares are ready", || {
            let files: Vec<_> = disk.files().into_iter().filter(|(name, _)| name.starts_with("wal/")).collect();
            let in_use = log.status().log_bytes / (64 << 10);
            files.iter().all(|(name, _)| name.ends_with(".seg")) && files.len() as u64 >= in_use + 2
        });
        // Nothing is given away, but the hint is where the log ends: the next write is an append's.
        log.trim(Lsn::FIRST).unwrap();
        disk.fail(Fault { kind: FaultKind::Write, nth: 1, error: FaultError::Io, from_then_on: false });
        append(&log, "t", next..next + 1);
        // And so far on that there are segments, too, in which nothing has failed.
        let lsn = append(&log, "t", next + 1..next + 10);
        next += 10;
        most = most.max(fences(&disk));
        if round % 10 == 0 {
            log.trim(lsn).unwrap();
        }
    }
    let status = log.status();
    assert_eq!((status.failures_survived, &status.halted), (70, &None), "{status:?}");
    assert!(most > 5, "at most {most} fences at a time: too few to prove anything");
    let (failed, recycled) = failed_and_recycled(&disk);
    assert!(failed.len() > 60 && recycled.len() > 10, "{} failed, {} recycled", failed.len(), recycled.len());
    assert!(failed.is_disjoint(&recycled), "what a write failed in is never flushed again, so it is no spare again");
    append(&log, "t", next..next + 10);
    log.trim(log.tip().lsn).unwrap();
    log.close().unwrap();
    drop(log);
    assert_eq!(fences(&disk), 0, "no segment is left that they could be about");
    let log = Engine::open_sim(&disk, tiny()).unwrap();
    assert_holds(&log, "t", next + 10);
}
