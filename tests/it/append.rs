//! Appends and batches: they come back as they went, in order, whole, also after the log is opened again.

use bytes::Bytes;
use walrus_node::{AppendError, Engine, ReadError, ReadLimit};

use crate::support::{folder, open, payloads, small};

#[test]
fn what_is_appended_is_read_back_and_is_still_there_after_a_clean_close() {
    let folder = folder();
    let log = open(folder.path());
    for i in 0..1000 {
        let ticket = log.append("numbers", format!("{i}")).unwrap();
        if i % 97 == 0 {
            assert_eq!(ticket.wait().unwrap().first_offset, i);
        }
    }
    log.close().unwrap();
    assert_eq!(log.append("numbers", "late").unwrap_err(), AppendError::Closed);
    drop(log);

    let log = open(folder.path());
    let expected: Vec<_> = (0..1000).map(|i| Bytes::from(format!("{i}"))).collect();
    assert_eq!(payloads(&log, "numbers"), expected);
    assert_eq!(log.append("numbers", "1000").unwrap().wait().unwrap().first_offset, 1000);
}

#[test]
fn a_log_that_is_dropped_without_close_keeps_everything_accepted() {
    let folder = folder();
    let log = open(folder.path());
    for i in 0..100 {
        drop(log.append("t", format!("{i}")).unwrap()); // the ticket goes, the append does not
    }
    drop(log);
    assert_eq!(payloads(&open(folder.path()), "t").len(), 100);
}

#[test]
fn batches_of_every_size_come_back_in_order_across_segments() {
    let folder = folder();
    let log = open(folder.path());
    let mut expected = Vec::new();
    for (round, n) in [1, 255, 256, 257, 2000, 3, 1999].into_iter().enumerate() {
        let batch: Vec<_> = (0..n).map(|i| Bytes::from(format!("{round}/{i}/{}", "x".repeat(i % 300)))).collect();
        let receipt = log.append_batch("batches", batch.clone()).unwrap().wait().unwrap();
        assert_eq!(receipt.first_offset, expected.len() as u64);
        expected.extend(batch);
        assert_eq!(receipt.last_offset, expected.len() as u64 - 1);
    }
    assert_eq!(payloads(&log, "batches"), expected);
    drop(log);
    assert_eq!(payloads(&open(folder.path()), "batches"), expected);
}

#[test]
fn bad_input_is_refused_with_its_reason_and_changes_nothing() {
    let folder = folder();
    let log = open(folder.path());
    let before = log.status().durable_lsn;
    for name in ["", "a/b", "nul\0", &"x".repeat(256)] {
        assert!(matches!(log.append(name, "x"), Err(AppendError::InvalidTopic { .. })), "{name:?}");
    }
    for n in [0, 2001] {
        let batch = vec![Bytes::from_static(b"x"); n];
        assert_eq!(log.append_batch("t", batch).unwrap_err(), AppendError::InvalidBatch { entries: n, max: 2000 });
    }
    assert!(matches!(log.read("nobody", 0, ReadLimit::default()), Err(ReadError::UnknownTopic(_))));
    assert_eq!(log.status().durable_lsn, before);
    log.append("t", "x").unwrap().wait().unwrap();
    assert!(matches!(log.read("t", 2, ReadLimit::default()), Err(ReadError::BeyondEnd { .. })));
}

#[test]
fn threads_that_append_to_many_topics_at_once_get_dense_offsets_in_each() {
    let folder = folder();
    let log = open(folder.path());
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let log = &log;
            scope.spawn(move || {
                for i in 0..200 {
                    let topic = format!("topic {}", (thread + i) % 5);
                    log.append(&topic, format!("{thread}:{i}")).unwrap().wait().unwrap();
                }
            });
        }
    });
    let total: u64 = log.topics().iter().map(|topic| topic.next_offset).sum();
    assert_eq!((total, log.topics().len()), (1600, 5));
    for topic in log.topics() {
        assert_eq!(payloads(&log, &topic.name).len() as u64, topic.next_offset);
    }
}

#[test]
fn a_tail_catches_up_and_goes_on_live_without_gap_or_duplicate() {
    let folder = folder();
    let log = open(folder.path());
    let reader = log.clone();
    let wait = std::time::Duration::from_secs(30);
    let collected = std::thread::spawn(move || {
        let mut tail = reader.tail("live", 0);
        let mut seen = Vec::new();
        while seen.len() < 3000 {
            seen.extend(
                tail.next(ReadLimit { entries: 100, bytes: 10_000 }, wait).unwrap().into_iter().map(|e| e.offset),
            );
        }
        seen
    });
    for i in 0..3000 {
        let ticket = log.append("live", format!("{i}")).unwrap();
        if i % 10 == 0 {
            ticket.wait().unwrap();
        }
    }
    assert_eq!(collected.join().unwrap(), (0..3000).collect::<Vec<_>>());
}

#[test]
fn a_hundred_openings_in_a_row_that_end_without_order_do_not_fill_the_table_of_fences() {
    // Each leaves its fence in the superblock: a simulated disk is cut before the idle refresh could drop it.
    let mut disk = walrus_node::sim::SimDisk::new(1);
    for opening in 0..100 {
        let log = Engine::open_sim(&disk, walrus_node::Options { seed: Some(opening), ..small() }).unwrap();
        log.append("t", "x").unwrap().wait().unwrap();
        let cut_here = disk.trace_len();
        disk = disk.crash(cut_here, &walrus_node::sim::Survivors::Nothing);
        drop(log);
    }
    assert_eq!(payloads(&Engine::open_sim(&disk, small()).unwrap(), "t").len(), 100);
}

#[test]
fn an_append_that_finds_the_disk_full_is_tried_again_until_there_is_room_or_no_try_is_left() {
    use walrus_node::sim::SimDisk;
    use walrus_node::{AppendOptions, RetryPolicy};
    let disk = SimDisk::new(3);
    let options = walrus_node::Options { min_free: Some(0), seed: Some(3), ..small() };
    let log = Engine::open_sim(&disk, options).unwrap();
    log.append("t", "first").unwrap().wait().unwrap();
    disk.set_capacity(0);
    let entry = || vec![Bytes::from(vec![7; 200_000])];
    let policy = |tries| RetryPolicy { tries, ..RetryPolicy::default() };
    let fill = || log.append_retrying("t", entry(), AppendOptions::default(), policy(1));
    let full = std::iter::from_fn(|| Some(fill())).find_map(Result::err).unwrap();
    assert!(matches!(full, AppendError::Full { .. }), "{full}");
    let before = log.topic("t").unwrap().next_offset;
    assert!(log.append_retrying("t", entry(), AppendOptions::default(), policy(3)).is_err());
    assert_eq!(log.topic("t").unwrap().next_offset, before, "nothing is left of tries that failed");

    std::thread::scope(|scope| {
        let trying = scope.spawn(|| log.append_retrying("t", entry(), AppendOptions::default(), policy(1000)));
        disk.set_capacity(1 << 30);
        assert_eq!(trying.join().unwrap().unwrap().first_offset, before);
    });
    let expects = AppendOptions { expect_offset: Some(0), ..AppendOptions::default() };
    let refused = log.append_retrying("t", entry(), expects, policy(1000)).unwrap_err();
    assert!(matches!(refused, AppendError::UnexpectedOffset { .. }), "not an error that goes away: {refused}");
}
