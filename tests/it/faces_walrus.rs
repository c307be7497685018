//! The interface of `walrus-rust` 0.2: its answers, its limits, and where its read positions stand after a restart.
//!
//! What has to be in progress is held up by the simulated disk, so that nothing depends on who is faster. Positions are looked at after a
//! power cut before every operation of a recorded run.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use walrus_node::sim::{Fault, FaultError, FaultKind, SimDisk, Survivors};
use walrus_node::{AppendError, Engine, FsyncSchedule, Level, Options, ReadConsistency, ReadError, ReadLimit, Walrus};

use crate::support::{folder, small};

const STRICT: ReadConsistency = ReadConsistency::StrictlyAtOnce;

fn engine(disk: &SimDisk) -> Engine {
    Engine::open_sim(disk, Options { seed: Some(9), ..small() }).unwrap()
}

fn simulated(disk: &SimDisk) -> Walrus {
    Walrus::over(engine(disk), STRICT)
}

fn batch_of(n: usize, name: &str) -> Vec<Vec<u8>> {
    (0..n).map(|i| format!("{name} {i}").into_bytes()).collect()
}

fn append_batch(wal: &Walrus, topic: &str, batch: &[Vec<u8>]) -> std::io::Result<()> {
    let slices: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
    wal.batch_append_for_topic(topic, &slices)
}

fn read_all(wal: &Walrus, topic: &str, checkpoint: bool) -> Vec<Vec<u8>> {
    wal.batch_read_for_topic(topic, usize::MAX, checkpoint).unwrap().into_iter().map(|entry| entry.data).collect()
}

/// Blocks that the disk has been handed since operation `from`, complete or not. The headers of a spare are not among them: they are
/// short, and no such write carries a flush.
fn blocks_written(disk: &SimDisk, from: usize) -> usize {
    let is_block = |op: &str| {
        op.starts_with("write")
            && op.contains("submitted: wal/")
            && (op.ends_with(" durable") || !op.ends_with("+4096"))
    };
    (from..disk.trace_len()).filter(|at| is_block(&disk.op(*at))).count()
}

/// Waits until so many blocks are under way; what holds them up is the caller's.
fn wait_for_blocks(disk: &SimDisk, from: usize, blocks: usize) {
    for _ in 0..10_000_000 {
        if blocks_written(disk, from) >= blocks {
            return;
        }
        std::thread::yield_now();
    }
    panic!("only {} of {blocks} blocks are under way", blocks_written(disk, from));
}

#[test]
fn of_two_batches_at_once_to_one_topic_one_is_done_and_the_other_would_block() {
    let disk = SimDisk::new(1);
    let wal = simulated(&disk);
    wal.append_for_topic("t", b"first").unwrap();
    let batches = [batch_of(300, "one"), batch_of(300, "other")];
    let hold = disk.hold();
    let (done, dones) = mpsc::channel();
    std::thread::scope(|scope| {
        for batch in &batches {
            let (wal, done) = (&wal, done.clone());
            scope.spawn(move || done.send((batch, append_batch(wal, "t", batch))).unwrap());
        }
        // The disk is held up, so this is the answer of the one that did not wait for it.
        let (_, refused) = dones.recv().unwrap();
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::WouldBlock);
        // The other is in progress for sure now: single appends and further batches are refused at once, others are not.
        assert_eq!(wal.append_for_topic("t", b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(append_batch(&wal, "t", &batches[0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(read_all(&wal, "t", false), [b"first"], "nothing of it is seen");
        drop(hold);
        let (winner, result) = dones.recv().unwrap();
        result.unwrap();
        let seen = read_all(&wal, "t", true);
        assert_eq!((&seen[0][..], &seen[1..]), (&b"first"[..], &winner[..]));
    });
    wal.append_for_topic("t", b"the flag is free again").unwrap();
    append_batch(&wal, "t", &batches[0]).unwrap();
}

#[test]
fn batches_to_two_topics_go_on_together() {
    let disk = SimDisk::new(2);
    let wal = simulated(&disk);
    for topic in ["a", "b"] {
        wal.append_for_topic(topic, b"first").unwrap();
    }
    let before = disk.trace_len();
    let hold = disk.hold();
    let finished = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for topic in ["a", "b"] {
            let (wal, finished) = (&wal, &finished);
            scope.spawn(move || {
                append_batch(wal, topic, &batch_of(200, topic)).unwrap();
                finished.fetch_add(1, Ordering::SeqCst);
            });
        }
        wait_for_blocks(&disk, before, 2); // each fills a block, so both are under way at once
        assert_eq!(finished.load(Ordering::SeqCst), 0);
        drop(hold);
    });
    for topic in ["a", "b"] {
        assert_eq!(read_all(&wal, topic, true)[1..], batch_of(200, topic));
    }
}

#[test]
fn what_is_too_much_is_refused_first_and_changes_nothing() {
    let disk = SimDisk::new(3);
    let wal = simulated(&disk);
    append_batch(&wal, "t", &batch_of(2000, "most")).unwrap();
    let before = disk.trace_len();
    let error = append_batch(&wal, "t", &batch_of(2001, "more")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    let piece = vec![0; 64 << 20];
    let error = wal.batch_append_for_topic("t", &[&piece[..]; 160]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "10 x 2^30 bytes and 24 for each entry: {error}");
    assert_eq!(wal.append_for_topic(&"x".repeat(256), b"x").unwrap_err().kind(), ErrorKind::InvalidInput);
    wal.batch_append_for_topic("nothing", &[]).unwrap();
    assert_eq!(disk.trace_len(), before);
    assert_eq!(wal.topic_entry_counts(), [("t".to_owned(), 2000)].into());

    // Refused for what it is, also while a batch is in progress.
    let hold = disk.hold();
    std::thread::scope(|scope| {
        scope.spawn(|| append_batch(&wal, "t", &batch_of(300, "held")).unwrap());
        wait_for_blocks(&disk, before, 1);
        assert_eq!(append_batch(&wal, "t", &batch_of(2001, "more")).unwrap_err().kind(), ErrorKind::InvalidInput);
        drop(hold);
    });
}

#[test]
fn a_batch_that_fails_leaves_what_was_there_before_and_lets_go_of_its_flag() {
    let disk = SimDisk::new(4);
    let wal = simulated(&disk);
    append_batch(&wal, "t", &batch_of(5, "before")).unwrap();
    disk.fail(Fault { kind: FaultKind::Write, nth: 1, error: FaultError::Io, from_then_on: true });
    let error = append_batch(&wal, "t", &batch_of(300, "failed")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other);
    let inside = error.get_ref().and_then(|inside| inside.downcast_ref::<AppendError>());
    assert!(matches!(inside, Some(AppendError::RolledBack { .. } | AppendError::Indeterminate { .. })), "{error:?}");
    assert_eq!(read_all(&wal, "t", false), batch_of(5, "before"));
    for error in [wal.append_for_topic("t", b"x").unwrap_err(), append_batch(&wal, "t", &batch_of(2, "x")).unwrap_err()]
    {
        assert_eq!(error.kind(), ErrorKind::Other, "not WouldBlock: {error}");
    }
    drop(wal);
    let seen = read_all(&simulated(&disk.copy()), "t", true);
    let whole = [batch_of(5, "before"), batch_of(300, "failed")].concat();
    assert!(seen == batch_of(5, "before") || seen == whole, "{} entries", seen.len());
}

#[test]
fn a_write_that_fails_once_is_none_of_the_callers_business() {
    let disk = SimDisk::new(5);
    let wal = simulated(&disk);
    wal.append_for_topic("t", b"first").unwrap();
    disk.fail(Fault { kind: FaultKind::Write, nth: 1, error: FaultError::Io, from_then_on: false });
    append_batch(&wal, "t", &batch_of(300, "survived")).unwrap();
    assert_eq!(disk.faults_fired(), 1);
    assert_eq!(read_all(&wal, "t", true)[1..], batch_of(300, "survived"));
}

#[test]
fn a_batch_larger_than_a_commit_group_is_staged_and_seen_whole_or_not_at_all() {
    let disk = SimDisk::new(6);
    let wal = simulated(&disk);
    wal.append_for_topic("t", b"first").unwrap();
    let large: Vec<Vec<u8>> = (0..40_u8).map(|i| vec![i; 512 << 10]).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            append_batch(&wal, "t", &large).unwrap();
            done.store(true, Ordering::SeqCst);
        });
        loop {
            let was_done = done.load(Ordering::SeqCst);
            let seen = wal.topic_entry_count("t");
            assert!(seen == 1 || seen == 41, "{seen} entries are seen");
            if was_done {
                assert_eq!(seen, 41);
                break;
            }
            std::thread::yield_now();
        }
    });
    assert!(read_all(&wal, "t", true)[1..] == large);
    assert!(
        read_all(
            &simulated(&{
                drop(wal);
                disk.copy()
            }),
            "t",
            true
        )
        .is_empty(),
        "and it is consumed for good"
    );
}

#[test]
fn a_batch_is_durable_whatever_the_level_of_single_entries() {
    let disk = SimDisk::new(7);
    let log = Engine::open_sim(&disk, Options { level: Level::Written, seed: Some(9), ..small() }).unwrap();
    let wal = Walrus::over(log, STRICT);
    wal.append_for_topic("t", b"written").unwrap();
    append_batch(&wal, "t", &batch_of(10, "durable")).unwrap();
    let cut = disk.crash(disk.trace_len(), &Survivors::Nothing);
    assert_eq!(read_all(&simulated(&cut), "t", true).len(), 11);
}

#[test]
fn topic_names_that_the_engine_refuses_are_encoded_and_kept_apart() {
    let disk = SimDisk::new(8);
    let log = engine(&disk);
    let wal = Walrus::over(log.clone(), STRICT);
    let names = ["", "eu/orders", "eu%2Forders", "tab\there", "plain", "50% off"];
    for name in names {
        wal.append_for_topic(name, name.as_bytes()).unwrap();
    }
    for name in names {
        assert_eq!(read_all(&wal, name, true), [name.as_bytes()]);
    }
    assert!(log.topic("eu%2Forders").is_some() && log.topic("plain").is_some() && log.topic("50% off").is_some());
    let counts = wal.topic_entry_counts();
    assert_eq!(counts.len(), names.len());
    assert!(names.iter().all(|name| counts[*name] == 0));
}

#[test]
fn a_look_does_not_consume_and_limits_bound_payload_but_one_entry_always_comes() {
    let disk = SimDisk::new(9);
    let wal = simulated(&disk);
    assert!(wal.read_next("nobody", true).unwrap().is_none());
    assert!(wal.batch_read_for_topic("nobody", 100, true).unwrap().is_empty());
    let batches: Vec<_> = (0..3).map(|n| batch_of(1000, &format!("b{n}"))).collect();
    batches.iter().for_each(|batch| append_batch(&wal, "t", batch).unwrap());
    let all = batches.concat();
    assert_eq!(wal.topic_entry_count("t"), 3000);

    assert_eq!(wal.read_next("t", false).unwrap().unwrap().data, all[0]);
    assert_eq!(wal.batch_read_for_topic("t", 1, false).unwrap().len(), 1);
    assert_eq!(wal.batch_read_for_topic("t", 0, false).unwrap()[0].data, all[0]);
    let ten: usize = all[..10].iter().map(Vec::len).sum();
    assert_eq!(wal.batch_read_for_topic("t", ten, false).unwrap().len(), 10);
    assert_eq!(wal.batch_read_for_topic("t", ten - 1, false).unwrap().len(), 9);
    assert_eq!(wal.topic_entry_count("t"), 3000);

    // Single and batch reads take turns on one position.
    let mut seen = Vec::new();
    for round in 0..20 {
        seen.push(wal.read_next("t", true).unwrap().unwrap().data);
        assert_eq!(wal.read_next("t", false).unwrap().unwrap().data, all[seen.len()]);
        if round % 3 == 0 {
            seen.extend(wal.batch_read_for_topic("t", ten, true).unwrap().into_iter().map(|entry| entry.data));
        }
    }
    assert_eq!(wal.topic_entry_count("t"), 3000 - seen.len() as u64);
    let rest = read_all(&wal, "t", true);
    assert_eq!(rest.len(), 2000, "a read returns no more than 2,000");
    seen.extend(rest);
    seen.extend(read_all(&wal, "t", true));
    assert_eq!(seen, all);
    assert!(wal.read_next("t", true).unwrap().is_none());
}

/// Consumes 60 entries with both kinds of reads, and notes each time how many the caller has got.
fn consume_sixty(disk: &SimDisk, wal: &Walrus) {
    append_batch(wal, "t", &batch_of(60, "e")).unwrap();
    let (mut got, mut round) = (0, 0);
    while got < 60 {
        got += match round % 4 {
            3 => wal.batch_read_for_topic("t", 40, true).unwrap().len(),
            _ => usize::from(wal.read_next("t", true).unwrap().is_some()),
        };
        disk.mark(got as u64);
        round += 1;
    }
}

/// Where the reader goes on after a power cut before each operation, with what it had got and, one call later, would have got.
fn positions_after_power_cuts(mode: ReadConsistency, seed: u64, check: impl Fn(usize, usize, usize, &str)) {
    let disk = SimDisk::new(seed);
    let wal = Walrus::over(engine(&disk), mode);
    consume_sixty(&disk, &wal);
    drop(wal);
    let all_marks = disk.marks_before(disk.trace_len());
    let mut states = 0;
    for at in 0..=disk.trace_len() {
        let marks = disk.marks_before(at);
        let Some(&got) = marks.last() else { continue };
        let next = all_marks.get(marks.len()).copied().unwrap_or(got);
        for survivors in [Survivors::Nothing, Survivors::Everything, Survivors::Seeded(at as u64)] {
            let wal = Walrus::over(engine(&disk.crash(at, &survivors)), mode);
            let left = wal.topic_entry_count("t") as usize;
            let position = 60 - left;
            if let Some(entry) = wal.read_next("t", true).unwrap() {
                assert_eq!(entry.data, format!("e {position}").into_bytes());
            }
            check(
                position,
                got as usize,
                next as usize,
                &format!("{} {survivors:?}", disk.op(at.min(disk.trace_len() - 1))),
            );
            states += 1;
        }
    }
    assert!(states > 50, "{states} states");
}

#[test]
fn strictly_at_once_nothing_that_was_got_is_read_again_after_a_power_cut_anywhere() {
    positions_after_power_cuts(STRICT, 10, |position, got, next, at| {
        // A call that was cut off may have consumed what it was about to return; nothing else is skipped.
        assert!(position == got || position == next, "at {position}, got {got}, next {next}: {at}");
    });
}

#[test]
fn at_least_once_fewer_entries_than_persist_every_are_read_again_and_none_is_skipped() {
    for every in [1, 2, 7, 25, 1000] {
        let mode = ReadConsistency::AtLeastOnce { persist_every: every };
        positions_after_power_cuts(mode, 11, |position, got, next, at| {
            assert!(position <= next, "at {position}, next {next}: {at}");
            assert!(got.saturating_sub(position) < every as usize, "at {position}, got {got}, every {every}: {at}");
        });
    }
}

#[test]
fn a_position_that_cannot_be_made_durable_consumes_nothing() {
    let disk = SimDisk::new(12);
    let wal = simulated(&disk);
    append_batch(&wal, "t", &batch_of(3, "e")).unwrap();
    disk.fail(Fault { kind: FaultKind::Write, nth: 1, error: FaultError::Full, from_then_on: false });
    assert_eq!(wal.read_next("t", true).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(wal.read_next("t", true).unwrap().unwrap().data, b"e 0");
    disk.fail(Fault { kind: FaultKind::Write, nth: 1, error: FaultError::Full, from_then_on: false });
    assert_eq!(wal.batch_read_for_topic("t", 100, true).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(read_all(&wal, "t", true), [b"e 1", b"e 2"]);
}

#[test]
fn damage_is_an_error_and_not_the_end_of_the_topic() {
    let disk = SimDisk::new(13);
    let log = engine(&disk);
    let wal = Walrus::over(log.clone(), STRICT);
    wal.append_for_topic("t", b"a payload to be found").unwrap();
    let (name, bytes) = disk
        .files()
        .into_iter()
        .map(|(name, _)| (name.clone(), disk.read_file(&name)))
        .find(|(_, bytes)| bytes.windows(21).any(|window| window == b"a payload to be found"))
        .unwrap();
    let at = bytes.windows(21).position(|window| window == b"a payload to be found").unwrap();
    disk.flip_bit(&name, at as u64 + 3, 2);
    let error = wal.read_next("t", true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(matches!(error.get_ref().unwrap().downcast_ref(), Some(ReadError::Damaged { .. })));
}

#[test]
fn handles_on_one_folder_share_the_log_and_consume_one_position() {
    let folder = folder();
    let open = || Walrus::builder().data_dir(folder.path()).key("shared").build().unwrap();
    let (one, other) = (open(), open());
    append_batch(&one, "t", &batch_of(400, "e")).unwrap();
    let taken: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let take = |wal: &Walrus| std::iter::from_fn(|| wal.read_next("t", true).unwrap()).map(|e| e.data).collect();
        let takers: Vec<_> = [&one, &other].map(|wal| scope.spawn(move || -> Vec<_> { take(wal) })).into();
        takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect()
    });
    let (mut taken, mut expected) = (taken, batch_of(400, "e"));
    taken.sort();
    expected.sort();
    assert_eq!(taken, expected, "each entry once");
    drop(one);
    other.append_for_topic("t", b"still open").unwrap();
    drop(other);
    assert_eq!(open().read_next("t", true).unwrap().unwrap().data, b"still open");
}

#[test]
fn every_schedule_keeps_what_was_appended_across_a_clean_restart() {
    let schedules = [
        FsyncSchedule::SyncEach,
        FsyncSchedule::Milliseconds(1),
        FsyncSchedule::Milliseconds(0),
        FsyncSchedule::NoFsync,
    ];
    for schedule in schedules {
        let folder = folder();
        let open = || Walrus::builder().data_dir(folder.path()).fsync_schedule(schedule).build().unwrap();
        let wal = open();
        for i in 0..200 {
            wal.append_for_topic("t", format!("e {i}").as_bytes()).unwrap();
        }
        drop(wal);
        assert_eq!(read_all(&open(), "t", true), batch_of(200, "e"), "{schedule:?}");
    }
}

#[test]
fn files_are_kept_for_another_reader_of_the_log_who_has_a_cursor_of_its_own() {
    let folder = folder();
    let log = Engine::open(folder.path(), small()).unwrap();
    let wal = Walrus::over(log.clone(), STRICT);
    log.append("read", "first").unwrap().wait().unwrap();
    log.set_cursor("audit", "read", 1).unwrap();
    let entry = vec![7; 50_000];
    let consume = |n: u64| {
        for _ in 0..n {
            wal.append_for_topic("read", &entry).unwrap();
        }
        while wal.read_next("read", true).unwrap().is_some() {}
    };
    consume(300);
    assert_eq!(log.topic("read").unwrap().first_offset, 0, "the audit has not come further than the first file");
    assert_eq!(log.read("read", 1, ReadLimit::default()).unwrap()[0].payload, entry);
    log.set_cursor("audit", "read", 250).unwrap();
    consume(100);
    let first = log.topic("read").unwrap().first_offset;
    assert!(first > 200 && first <= 250, "{first}");
}

/// An entry that says which batch it belongs to, how large that is, and its place in it.
#[test]
fn files_whose_entries_have_all_been_consumed_are_given_back_and_those_of_a_topic_nobody_reads_are_kept() {
    let folder = folder();
    let log = Engine::open(folder.path(), small()).unwrap();
    let wal = Walrus::over(log.clone(), STRICT);
    let entry = vec![7; 50_000];
    wal.append_for_topic("nobody", b"kept").unwrap();
    for _ in 0..300 {
        wal.append_for_topic("read", &entry).unwrap();
    }
    assert_eq!(read_all(&wal, "read", true).len(), 300);
    assert_eq!(log.topic("read").unwrap().first_offset, 0, "the first file has an entry that nobody has read");
    assert!(wal.read_next("nobody", true).unwrap().is_some());
    for _ in 0..100 {
        wal.append_for_topic("read", &entry).unwrap();
    }
    while wal.read_next("read", true).unwrap().is_some() {}
    assert!(log.topic("read").unwrap().first_offset > 200, "{:?}", log.topic("read"));
    assert!(log.status().log_bytes < 10 << 20, "{} bytes are kept", log.status().log_bytes);
    drop((wal, log));
    let wal = Walrus::over(Engine::open(folder.path(), small()).unwrap(), STRICT);
    assert!(wal.read_next("read", true).unwrap().is_none() && wal.read_next("nobody", true).unwrap().is_none());
    wal.append_for_topic("read", b"next").unwrap();
    assert_eq!(wal.read_next("read", true).unwrap().unwrap().data, b"next");
}

fn labelled(writer: usize, batch: usize, size: usize) -> Vec<Vec<u8>> {
    (0..size).map(|i| format!("{writer} {batch} {size} {i} {}", "x".repeat(i * 7 % 90)).into_bytes()).collect()
}

fn label(entry: &[u8]) -> [usize; 4] {
    let text = std::str::from_utf8(entry).unwrap();
    let mut numbers = text.split(' ').map(|word| word.parse().unwrap_or(0));
    std::array::from_fn(|_| numbers.next().unwrap())
}

/// Follows a topic and checks each entry against the one before it: batches are whole, in order, without others in between.
struct Checker {
    /// Writer, batch, size and place of the last entry.
    last: Option<[usize; 4]>,
    batches_of: [usize; 2],
}

impl Checker {
    fn see(&mut self, entry: &[u8]) {
        let now = label(entry);
        match self.last {
            Some([writer, batch, size, i]) if i + 1 < size => assert_eq!(now, [writer, batch, size, i + 1]),
            _ => {
                let [writer, batch, _, i] = now;
                assert_eq!((batch, i), (self.batches_of[writer], 0), "{now:?} after {:?}", self.last);
                self.batches_of[writer] += 1;
            }
        }
        self.last = Some(now);
    }

    fn is_at_the_end_of_a_batch(&self) -> bool {
        self.last.is_none_or(|[_, _, size, i]| i + 1 == size)
    }
}

/// Two writers a topic, which now and then find the other's batch in progress and try again, and a reader a topic, which must stand at the
/// end of a batch whenever a read was ended by the end of the topic and not by a limit. By count, and for ten seconds with WALRUS_SLOW=1.
#[test]
fn a_reader_never_sees_part_of_a_batch_while_writers_run() {
    let slow = std::env::var_os("WALRUS_SLOW").is_some_and(|value| value == "1");
    let (until, batches) = (Instant::now() + Duration::from_secs(10), if slow { usize::MAX } else { 120 });
    let folder = folder();
    let wal = Walrus::builder()
        .data_dir(folder.path())
        .consistency(ReadConsistency::AtLeastOnce { persist_every: 500 })
        .build()
        .unwrap();
    let topics = ["a", "b"];
    let writers_left = AtomicUsize::new(topics.len() * 2);
    let refused = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for (t, topic) in topics.into_iter().enumerate() {
            for writer in 0..2 {
                let (wal, writers_left, refused) = (&wal, &writers_left, &refused);
                scope.spawn(move || {
                    let mut batch = 0;
                    while batch < batches && (!slow || Instant::now() < until) {
                        let entries = labelled(writer, batch, 1 + (batch * 31 + writer * 17 + t) % 700);
                        match append_batch(wal, topic, &entries) {
                            Ok(()) => batch += 1,
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                                refused.fetch_add(1, Ordering::Relaxed);
                                std::thread::yield_now();
                            }
                        }
                    }
                    writers_left.fetch_sub(1, Ordering::SeqCst);
                });
            }
            let (wal, writers_left) = (&wal, &writers_left);
            scope.spawn(move || {
                let mut checker = Checker { last: None, batches_of: [0; 2] };
                let mut round = 0;
                loop {
                    let ended = writers_left.load(Ordering::SeqCst) == 0;
                    let looked_at = if round % 3 == 0 { read_all(wal, topic, false) } else { Vec::new() };
                    let entries = read_all(wal, topic, true);
                    assert!(entries.starts_with(&looked_at), "what was looked at is what is read");
                    entries.iter().for_each(|entry| checker.see(entry));
                    let cut_by_the_limit = entries.len() == 2000;
                    assert!(
                        cut_by_the_limit || checker.is_at_the_end_of_a_batch(),
                        "part of {:?} is seen",
                        checker.last
                    );
                    if ended && entries.is_empty() {
                        return;
                    }
                    round += 1;
                }
            });
        }
    });
    println!("{} batches were refused because another was in progress", refused.load(Ordering::Relaxed));
    assert!(topics.iter().all(|topic| wal.topic_entry_count(topic) == 0));
}
