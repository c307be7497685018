//! Packed segments: a trickle of single appends does not cost a sector each for ever, and nothing else changes.

use walrus_node::sim::{Fault, FaultError, FaultKind, SimDisk};
use walrus_node::{Engine, Lsn, Options, Viewer};

use crate::support::{folder, io_mode, open, payloads, small};

/// Every portable block of a log, as a follower gets it.
fn blocks(log: &Engine) -> Vec<bytes::Bytes> {
    let (mut all, mut next) = (Vec::new(), Lsn::FIRST);
    loop {
        let read = log.portable_blocks(next, 1 << 20).unwrap();
        let Some(last) = read.last() else { return all };
        next = last.lsn.next();
        all.extend(read.into_iter().map(|block| block.bytes));
    }
}

fn trickle(log: &Engine, entries: usize) {
    for i in 0..entries {
        log.append(["a", "b"][i % 2], format!("{i}")).unwrap().wait().unwrap();
    }
}

#[test]
fn a_trickle_is_packed_and_the_log_is_the_same_by_every_way_of_looking_at_it() {
    let folder = folder();
    let log = open(folder.path());
    trickle(&log, 400);
    let (before, chain) = (blocks(&log), log.status().durable_chain);
    // A slow machine may have packed some by itself: what is saved counts from the opening.
    let (saved, bytes) = (log.pack(), log.status().log_bytes);
    assert!(saved > 800 << 10 && bytes < 1 << 20, "{saved} bytes saved, {bytes} left");
    assert!(blocks(&log) == before, "the portable blocks are the same, byte for byte");
    assert_eq!(log.status().durable_chain, chain);
    trickle(&log, 100);
    assert_eq!(log.pack(), log.status().packed_bytes_saved);
    let all = ["a", "b"].map(|topic| payloads(&log, topic));
    assert_eq!(all[0].len() + all[1].len(), 500);
    log.close().unwrap();
    drop(log);

    let viewer = Viewer::open(folder.path(), io_mode()).unwrap();
    assert!(viewer.verification().is_ok(), "{:?}", viewer.verification());
    assert_eq!(viewer.verification().entries, 500);
    drop(viewer);
    for check_bytes_max in [0, 1 << 30] {
        let log = Engine::open(folder.path(), Options { check_bytes_max, ..small() }).unwrap();
        assert!(["a", "b"].map(|topic| payloads(&log, topic)) == all);
        assert!(blocks(&log)[..before.len()] == before);
        log.close().unwrap();
    }
}

#[test]
fn segments_that_are_full_of_large_entries_are_left_as_they_are() {
    let folder = folder();
    let log = open(folder.path());
    for _ in 0..40 {
        log.append("large", vec![7; 60_000]).unwrap().wait().unwrap();
    }
    assert_eq!(log.pack(), 0);
}

#[test]
fn packed_segments_are_given_away_like_others() {
    let folder = folder();
    let log = open(folder.path());
    trickle(&log, 400);
    assert!(log.pack() > 0);
    let first = log.trim(log.status().durable_lsn).unwrap();
    assert!(first > Lsn::new(100), "{first}");
    trickle(&log, 200);
    log.pack();
    log.close().unwrap();
    drop(log);
    let log = open(folder.path());
    assert_eq!(log.topic("a").unwrap().next_offset, 300);
    assert!(log.topic("a").unwrap().first_offset > 0);
}

/// Found by the model, docs/decisions/0003: a removal that was not flushed may be undone by a power cut long after.
#[test]
fn every_open_makes_the_names_of_the_indexes_durable() {
    let disk = SimDisk::new(1);
    let log = Engine::open_sim(&disk, Options { seed: Some(1), ..small() }).unwrap();
    trickle(&log, 200);
    log.close().unwrap();
    drop(log);
    let from = disk.trace_len();
    drop(Engine::open_sim(&disk, Options { seed: Some(2), ..small() }).unwrap());
    let ops: Vec<_> = (from..disk.trace_len()).map(|at| disk.op(at)).collect();
    let flush = ops.iter().position(|op| op.contains("flush") && op.contains("idx")).expect("idx/ is flushed");
    let write = ops.iter().position(|op| op.contains("write")).unwrap();
    assert!(flush < write, "{ops:?}");
}

/// Found by the model, docs/decisions/0003: packing moves blocks, and the base names a place.
#[test]
fn nothing_is_packed_or_given_away_once_the_names_of_segments_are_in_doubt() {
    let packed = |fault: bool| {
        let disk = SimDisk::new(2);
        let log = Engine::open_sim(&disk, Options { seed: Some(1), scrub: None, ..small() }).unwrap();
        trickle(&log, 250);
        if fault {
            disk.fail(Fault { kind: FaultKind::FlushFolder, nth: 1, error: FaultError::Io, from_then_on: false });
        }
        // Until the next spare is made, which is when its folder is flushed.
        for _ in 0..200 {
            trickle(&log, 1);
            if disk.faults_fired() > 0 {
                break;
            }
        }
        assert_eq!(disk.faults_fired(), u64::from(fault));
        // A slow machine may have packed some by itself before.
        let before = log.status().packed_bytes_saved;
        (before, log.pack(), log.trim(log.status().durable_lsn).map(|first| first > Lsn::FIRST))
    };
    let (_, saved, trimmed) = packed(false);
    assert!(saved > 0 && trimmed.unwrap());
    let (before, saved, trimmed) = packed(true);
    assert_eq!(saved, before);
    assert!(trimmed.is_err(), "{trimmed:?}");
}

#[test]
fn nothing_is_packed_once_it_is_in_doubt_where_the_log_begins() {
    let disk = SimDisk::new(3);
    let log = Engine::open_sim(&disk, Options { seed: Some(1), scrub: None, ..small() }).unwrap();
    trickle(&log, 400);
    let full = disk.files().iter().filter(|(name, _)| name.starts_with("wal/")).count();
    assert!(full > 3);
    disk.fail(Fault { kind: FaultKind::Rename, nth: 1, error: FaultError::Io, from_then_on: true });
    log.trim(log.status().durable_lsn).unwrap_err();
    assert!(disk.faults_fired() > 0);
    let before = log.status().packed_bytes_saved;
    assert_eq!(log.pack(), before);
}
