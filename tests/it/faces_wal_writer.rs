//! The count-batched writer: everything appended is there, in order, and is flushed by the count and not one by one.
//!
//! Flushes are counted three ways that know nothing of each other: by the writer, by the engine's status, and by the simulated disk. What
//! must wait is held up by the disk, so nothing here depends on who is faster.

use bytes::Bytes;
use walrus_node::sim::{Fault, FaultError, FaultKind, SimDisk};
use walrus_node::{AppendError, Engine, Options, Ticket, WalWriter};

use crate::support::{folder, open, payloads, small};

/// A log on a disk that can be held up; the seed decides in which order writes complete.
fn simulated(seed: u64) -> (SimDisk, Engine) {
    let disk = SimDisk::new(seed);
    let log = Engine::open_sim(&disk, Options { seed: Some(seed), ..small() }).unwrap();
    (disk, log)
}

/// How often the device has made something durable since operation `from`: a write that carries its flush, or a flush of a file of
/// the log. (A flush names its file where it begins.)
fn flushes_of(disk: &SimDisk, from: usize) -> usize {
    let is_flush = |op: &str| {
        op.starts_with("write") && op.contains("completed: wal/") && op.ends_with("durable")
            || op.starts_with("flush") && op.contains("begun: wal/")
    };
    (from..disk.trace_len()).filter(|at| is_flush(&disk.op(*at))).count()
}

fn entries(n: usize) -> Vec<Bytes> {
    (0..n).map(|i| Bytes::from(format!("entry {i}"))).collect()
}

#[test]
fn a_hundred_thousand_appends_and_a_close_are_all_there_in_order_also_after_the_log_is_opened_again() {
    let folder = folder();
    let log = open(folder.path());
    let writer = WalWriter::open(&log, "t").unwrap();
    let all = entries(100_000);
    for entry in &all {
        drop(writer.append(entry.clone()).unwrap()); // the ticket goes, the append does not
    }
    writer.close().unwrap();
    assert_eq!(payloads(&log, "t"), all);
    assert!(writer.flushes() >= 100_000_u64.div_ceil(256), "no flush covers more than 256");
    log.close().unwrap();
    drop((writer, log));
    assert_eq!(payloads(&open(folder.path()), "t"), all);
}

#[test]
fn a_full_queue_is_flushed_256_entries_at_a_time() {
    let (disk, log) = simulated(1);
    let writer = WalWriter::open(&log, "t").unwrap();
    let (groups_before, ops_before) = (log.status().groups, disk.trace_len());
    let hold = disk.hold();
    let all = entries(100_000);
    let tickets: Vec<Ticket> = all.iter().map(|entry| writer.append(entry.clone()).unwrap()).collect();
    assert_eq!(writer.flushes(), 0, "nothing is flushed while the disk is held up");
    assert!(tickets.iter().all(|ticket| ticket.try_outcome().is_none()), "and nothing acknowledged");
    drop(hold);
    writer.close().unwrap();

    // The first group is whatever was there when the thread looked: one entry or more. All others but the last are full.
    let most = 1 + (100_000 - 1_u64).div_ceil(256);
    let flushes = writer.flushes();
    assert!((most - 1..=most).contains(&flushes), "{flushes} flushes");
    assert_eq!(log.status().groups - groups_before, flushes, "each is one commit group");
    // A group that goes on into the next segment touches two files, and the keeper flushes what it prepares.
    let by_the_disk = flushes_of(&disk, ops_before) as u64;
    assert!(
        by_the_disk >= flushes && by_the_disk <= flushes + 100,
        "{by_the_disk} flushes of the disk, {flushes} groups"
    );
    for (i, ticket) in tickets.into_iter().enumerate() {
        let receipt = ticket.wait().unwrap();
        assert_eq!((receipt.first_offset, receipt.last_offset), (i as u64, i as u64));
    }
    assert_eq!(payloads(&log, "t"), all);
}

#[test]
fn an_empty_queue_is_flushed_once_for_each_append() {
    let (_, log) = simulated(2);
    let writer = WalWriter::open(&log, "t").unwrap();
    let before = log.status().groups;
    for i in 0..50 {
        assert_eq!(writer.append("x").unwrap().wait().unwrap().first_offset, i);
    }
    assert_eq!((writer.flushes(), log.status().groups - before), (50, 50));
}

#[test]
fn close_flushes_what_came_before_it_and_nothing_comes_after() {
    let (disk, log) = simulated(3);
    let writer = WalWriter::open(&log, "t").unwrap();
    let hold = disk.hold();
    let tickets: Vec<_> = (0..1000).map(|i| writer.append(format!("{i}")).unwrap()).collect();
    std::thread::scope(|scope| {
        let closed = scope.spawn(|| writer.close());
        drop(hold);
        assert_eq!(closed.join().unwrap(), Ok(()));
    });
    assert!(tickets.iter().all(|ticket| matches!(ticket.try_outcome(), Some(Ok(_)))), "close answers every ticket");
    assert_eq!(writer.append("late").unwrap_err(), AppendError::Closed);
    assert_eq!(writer.flush(), Err(AppendError::Closed));
    assert_eq!(writer.close(), Ok(()), "closing again does nothing");
    assert_eq!(payloads(&log, "t").len(), 1000);
    log.append("t", "the log itself is still open").unwrap().wait().unwrap();
}

#[test]
fn flush_covers_what_came_before_it() {
    let (disk, log) = simulated(4);
    let writer = WalWriter::open(&log, "t").unwrap();
    let hold = disk.hold();
    let tickets: Vec<_> = (0..600).map(|i| writer.append(format!("{i}")).unwrap()).collect();
    std::thread::scope(|scope| {
        let flushed = scope.spawn(|| writer.flush());
        drop(hold);
        assert_eq!(flushed.join().unwrap(), Ok(()));
    });
    assert!(tickets.iter().all(|ticket| matches!(ticket.try_outcome(), Some(Ok(_)))));
    writer.append("it goes on").unwrap().wait().unwrap();
}

#[test]
fn a_writer_that_is_dropped_keeps_everything_appended() {
    let folder = folder();
    let log = open(folder.path());
    let writer = WalWriter::open(&log, "t").unwrap();
    entries(5000).into_iter().for_each(|entry| drop(writer.append(entry).unwrap()));
    drop(writer);
    assert_eq!(payloads(&log, "t").len(), 5000);
}

#[test]
fn entries_of_any_size_keep_their_order_and_a_name_no_topic_can_have_is_refused() {
    let (disk, log) = simulated(5);
    assert!(matches!(WalWriter::open(&log, "a/b"), Err(AppendError::InvalidTopic { .. })));
    let writer = WalWriter::open(&log, "t").unwrap();
    let hold = disk.hold();
    let before = writer.append("before").unwrap();
    let large: Vec<_> = [1, 3 << 20, 3 << 20, 9 << 20, 1].map(|bytes| writer.append(vec![7; bytes]).unwrap()).into();
    drop(hold);
    assert_eq!(before.wait().unwrap().first_offset, 0);
    for (i, ticket) in (1..).zip(large) {
        assert_eq!(ticket.wait().unwrap().first_offset, i);
    }
}

#[test]
fn a_failure_is_told_to_each_ticket_and_once_to_whoever_flushes() {
    let (disk, log) = simulated(6);
    let writer = WalWriter::open(&log, "t").unwrap();
    writer.append("good").unwrap().wait().unwrap();
    disk.fail(Fault { kind: FaultKind::Write, nth: 1, error: FaultError::Io, from_then_on: true });
    let ticket = writer.append("bad").unwrap();
    let told = writer.flush().unwrap_err();
    assert_eq!(ticket.wait().unwrap_err(), told);
    assert_eq!(writer.flush(), Ok(()), "reported once");
    assert!(writer.append("worse").unwrap().wait().is_err());
    assert!(writer.close().is_err(), "a writer whose appends failed does not close as if nothing had been");
    assert_eq!(writer.flushes(), 1, "what failed is not counted");
}

#[test]
fn many_threads_append_through_one_writer_and_each_finds_its_entry_at_its_ticket() {
    let folder = folder();
    let log = open(folder.path());
    let writer = WalWriter::open(&log, "t").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let writer = &writer;
            let log = &log;
            scope.spawn(move || {
                let appended: Vec<_> =
                    (0..500).map(|i| format!("{thread}/{i}")).map(|e| (e.clone(), writer.append(e).unwrap())).collect();
                let mut last = None;
                for (entry, ticket) in appended {
                    let offset = ticket.wait().unwrap().first_offset;
                    assert!(last < Some(offset), "a thread's entries keep their order");
                    last = Some(offset);
                    let read = log.read("t", offset, walrus_node::ReadLimit { entries: 1, bytes: 100 }).unwrap();
                    assert_eq!(read[0].payload, entry);
                }
            });
        }
    });
    writer.close().unwrap();
    assert_eq!(payloads(&log, "t").len(), 4000);
}
