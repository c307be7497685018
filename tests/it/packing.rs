//! Packed segments: a trickle of single appends does not cost a sector each for ever, and nothing else changes.

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
