//! Batches and entries of any size, conditional appends, and appends that do not wait.

use bytes::Bytes;
use walrus_node::sim::{Fault, FaultError, FaultKind, SimDisk};
use walrus_node::{AppendError, AppendOptions, Engine, Options, QueueBounds};

use crate::support::{folder, open, payloads, small};

/// An entry of a size that tells which one it is, whatever its neighbours are.
fn entry(number: usize, bytes: usize) -> Bytes {
    let mut entry = format!("{number}:").into_bytes();
    entry.resize(bytes.max(entry.len()), b'a' + (number % 26) as u8);
    entry.into()
}

fn expecting(offset: u64) -> AppendOptions {
    AppendOptions { expect_offset: Some(offset), ..AppendOptions::default() }
}

#[test]
fn an_entry_larger_than_a_block_comes_back_whole_also_after_a_restart() {
    let folder = folder();
    let log = open(folder.path());
    // Segments of 256 KiB, so blocks of 248 KiB: fragments in two, and in nine blocks.
    let sizes = [10, 250 << 10, 300 << 10, 1, 2 << 20, 0, 253_832, 253_833];
    let entries: Vec<_> = sizes.iter().enumerate().map(|(i, bytes)| entry(i, *bytes)).collect();
    for each in &entries[..5] {
        log.append("big", each.clone()).unwrap().wait().unwrap();
    }
    let receipt = log.append_batch("big", entries[5..].to_vec()).unwrap().wait().unwrap();
    assert_eq!((receipt.first_offset, receipt.last_offset), (5, 7));
    assert_eq!(payloads(&log, "big"), entries);
    drop(log);
    assert_eq!(payloads(&open(folder.path()), "big"), entries);
}

#[test]
fn a_batch_above_eight_megabytes_is_staged_and_comes_back_whole_beside_the_appends_of_others() {
    let folder = folder();
    let log = open(folder.path());
    log.append("t", entry(0, 10)).unwrap().wait().unwrap();
    let batch: Vec<_> = (1..200).map(|i| entry(i, 70_000 + i)).collect();
    std::thread::scope(|scope| {
        let writer = log.clone();
        let entries = batch.clone();
        let large = scope.spawn(move || writer.append_batch("t", entries).unwrap().wait().unwrap());
        let mut others = 0;
        while !large.is_finished() {
            log.append("other", entry(others, 100)).unwrap().wait().unwrap();
            others += 1;
        }
        let receipt = large.join().unwrap();
        assert_eq!((receipt.first_offset, receipt.last_offset), (1, 199));
        assert!(others > 3, "the others went on: {others}");
    });
    log.append("t", entry(200, 10)).unwrap().wait().unwrap();
    let expected: Vec<_> = [entry(0, 10)].into_iter().chain(batch).chain([entry(200, 10)]).collect();
    assert_eq!(payloads(&log, "t"), expected);
    drop(log);
    assert_eq!(payloads(&open(folder.path()), "t"), expected);
}

#[test]
fn a_batch_that_is_dropped_halfway_leaves_nothing_behind() {
    let folder = folder();
    let log = open(folder.path());
    let mut batch = log.begin_batch("new", AppendOptions::default()).unwrap();
    for i in 0..20 {
        batch.push(entry(i, 100_000)).unwrap();
    }
    log.append("other", "beside it").unwrap().wait().unwrap();
    drop(batch);
    log.flush().unwrap().wait().unwrap();
    assert!(log.topic("new").is_none());
    assert!(log.topics().iter().all(|topic| topic.name != "new"));
    drop(log);
    let log = open(folder.path());
    assert!(log.topic("new").is_none());
    assert_eq!(log.append("new", "first").unwrap().wait().unwrap().first_offset, 0);
}

#[test]
fn a_batch_beyond_its_limits_is_refused_and_changes_nothing() {
    let folder = folder();
    let log = open(folder.path());
    let before = log.status().durable_lsn;
    let mebibyte = Bytes::from(vec![7; 1 << 20]);
    // 2,000 slices of one buffer: nothing of this size is ever in memory.
    let buffer = Bytes::from(vec![7; 6 << 20]);
    let largest = |extra: usize| -> Vec<Bytes> {
        let whole = (10u64 << 30) - 2_000 * 24;
        let each = whole / 2_000;
        let last = whole - 1_999 * each + extra as u64;
        (0..2_000u64).map(|i| buffer.slice(..(if i == 1_999 { last } else { each }) as usize)).collect()
    };
    assert!(matches!(log.append_batch("t", largest(1)), Err(AppendError::TooLarge { .. })));
    assert!(matches!(log.append_batch("t", vec![mebibyte; 2_001]), Err(AppendError::InvalidBatch { .. })));
    let mut fed = log.begin_batch("t", AppendOptions::default()).unwrap();
    for _ in 0..2_000 {
        fed.push("x").unwrap();
    }
    assert!(matches!(fed.push("x"), Err(AppendError::InvalidBatch { entries: 2_001, .. })));
    assert!(matches!(fed.commit(), Err(AppendError::Closed)), "a batch that broke a rule is lost");
    let empty = log.begin_batch("t", AppendOptions::default()).unwrap();
    assert!(matches!(empty.commit(), Err(AppendError::InvalidBatch { entries: 0, .. })));
    assert_eq!(log.status().durable_lsn, before);
    assert!(log.topics().is_empty());
}

#[test]
fn an_append_that_expects_another_offset_is_refused_and_one_that_is_tried_twice_is_there_once() {
    let folder = folder();
    let log = open(folder.path());
    let append = |n: usize, offset| log.append_with("t", vec![Bytes::from("x"); n], expecting(offset)).unwrap();
    // All queued before the first is answered: the offsets are known by then.
    let tickets = [append(2, 0), append(1, 2), append(1, 2), append(3, 3), append(1, 0)];
    let outcomes = tickets.map(|ticket| ticket.wait());
    assert_eq!(outcomes[1].as_ref().unwrap().first_offset, 2);
    for (refused, expected, next) in [(&outcomes[2], 2, 3), (&outcomes[4], 0, 6)] {
        let error = AppendError::UnexpectedOffset { topic: "t".into(), expected, next };
        assert_eq!(refused.as_ref().unwrap_err(), &error);
    }
    assert_eq!(log.topic("t").unwrap().next_offset, 6);

    let mut fed = log.begin_batch("t", expecting(5)).unwrap();
    for i in 0..4 {
        fed.push(entry(i, 200_000)).unwrap();
    }
    assert!(matches!(fed.commit().unwrap().wait(), Err(AppendError::UnexpectedOffset { next: 6, .. })));
    assert_eq!(log.topic("t").unwrap().next_offset, 6);
    assert!(log.append_with("new", vec!["x".into()], expecting(1)).unwrap().wait().is_err());
    assert!(log.topic("new").is_none());
}

#[test]
fn an_append_that_will_not_wait_is_told_that_the_log_is_busy() {
    let folder = folder();
    let log = Engine::open(folder.path(), Options { segment_bytes_first: 8 << 20, ..small() }).unwrap();
    let megabyte = Bytes::from(vec![1; 1 << 20]);
    let (mut accepted, mut busy) = (Vec::new(), 0);
    while busy == 0 {
        match log.try_append("t", vec![megabyte.clone(); 4]) {
            Ok(ticket) => accepted.push(ticket),
            Err(AppendError::Busy { .. }) => busy += 1,
            Err(error) => panic!("{error}"),
        }
    }
    let n = accepted.len();
    for ticket in accepted {
        ticket.wait().unwrap();
    }
    assert_eq!(log.topic("t").unwrap().next_offset, 4 * n as u64, "what was refused left nothing");
    assert!(matches!(log.try_append("t", vec![megabyte; 8]), Err(AppendError::Busy { .. })), "too large not to wait");
}

#[test]
fn what_may_wait_for_a_slow_disk_is_bounded_as_the_options_say() {
    let tight = [
        QueueBounds { submissions: 3, ..QueueBounds::default() },
        QueueBounds { bytes: 300, ..QueueBounds::default() },
    ];
    for queue in tight.into_iter().chain([QueueBounds { bytes: 0, submissions: 0 }]) {
        let disk = SimDisk::new(1);
        let log = Engine::open_sim(&disk, Options { queue, seed: Some(1), ..small() }).unwrap();
        log.append("t", "first").unwrap().wait().unwrap();
        let hold = disk.hold();
        // A few are in flight, three wait; of the default bounds these are a thousandth.
        let (mut accepted, mut busy) = (Vec::new(), 0);
        while busy == 0 && accepted.len() < 60 {
            match log.try_append("t", vec![Bytes::from(vec![1; 100])]) {
                Ok(ticket) => accepted.push(ticket),
                Err(AppendError::Busy { .. }) => busy += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(busy, 1, "{queue:?}: {} accepted", accepted.len());
        let waits = std::thread::spawn({
            let log = log.clone();
            move || log.append("t", "waits for room").unwrap().wait().unwrap()
        });
        drop(hold);
        let n = accepted.len() as u64;
        for ticket in accepted {
            ticket.wait().unwrap();
        }
        assert_eq!(waits.join().unwrap().first_offset, n + 1);
    }
}

/// The first part of a batch finds no room, the second, which is shorter, would: it goes on in an entry that has not begun.
#[test]
fn of_a_batch_that_found_no_room_no_later_and_shorter_part_is_written() {
    let disk = SimDisk::new(1);
    let bytes = 64 << 10;
    let options = Options { segment_bytes_first: bytes, segment_bytes_max: bytes, seed: Some(1), ..Options::default() };
    let log = Engine::open_sim(&disk, options).unwrap();
    disk.fail(Fault { kind: FaultKind::Create, nth: 1, error: FaultError::Full, from_then_on: true });
    let mut entries = 0;
    while log.append("t", vec![1; 20_000]).unwrap().wait().is_ok() {
        entries += 1;
    }
    let mut batch = log.begin_batch("t", AppendOptions::default()).unwrap();
    batch.push(vec![2; 60_000]).unwrap();
    // Behind the first part, or rejected with it: when one is taken, that part is decided.
    let taken = (0..100).any(|_| log.append("t", "short").unwrap().wait().is_ok());
    assert!(taken, "there is no room for a short one either, so nothing is proven");
    let error = batch.commit().expect_err("its first fragment takes nearly a segment, and there is none");
    assert!(matches!(error, AppendError::Full { .. }), "{error}");
    assert!(disk.faults_fired() > 0 && log.status().halted.is_none());
    assert_eq!(payloads(&log, "t").len() as u64, entries + 1);
}
