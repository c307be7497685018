//! One suite for every way to a disk: what it asks is the contract in `mod.rs`, and each backend has to pass all of it.
//!
//! Method: every test is written once over [`Disk`] and run against the ring, the system calls, the mapping and the simulated
//! disk. Where io_uring cannot be had, its run says why and passes; with `WALRUS_REQUIRE_PRIVILEGED=1` it fails instead, so
//! that a gate does not take a machine that forbids it for a success.
//!
//! The last test kills a child that writes through a ring, and takes its folder over.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::buffer::{SLOT_LARGE_BYTES, SLOT_SMALL_BYTES};
use super::*;

const PAGE: usize = ALIGN_MIN;

/// A folder that can be opened again, and by others.
trait Place {
    fn open(&self, access: Access) -> Result<Disk>;
}

struct HostPlace {
    folder: tempfile::TempDir,
    io: IoMode,
    by_cache: bool,
}

impl Place for HostPlace {
    fn open(&self, access: Access) -> Result<Disk> {
        let disk = Disk::open(self.folder.path(), self.io, access)?;
        if self.by_cache {
            disk.write_through_cache();
        }
        Ok(disk)
    }
}

#[cfg(feature = "sim")]
impl Place for sim::SimDisk {
    fn open(&self, access: Access) -> Result<Disk> {
        sim::SimDisk::open(self, access)
    }
}

fn host(io: IoMode) -> HostPlace {
    HostPlace { folder: tempfile::tempdir().unwrap(), io, by_cache: false }
}

fn on_uring(test: fn(&dyn Place)) {
    if_there_is_a_ring(host(IoMode::Uring), test);
}

/// What is lazy is copied by the caller, what is durable goes through the ring.
fn on_uring_by_cache(test: fn(&dyn Place)) {
    if_there_is_a_ring(HostPlace { by_cache: true, ..host(IoMode::Uring) }, test);
}

fn if_there_is_a_ring(place: HostPlace, test: fn(&dyn Place)) {
    match place.open(Access::Write).map(drop) {
        Ok(()) => test(&place),
        Err(error) if std::env::var_os("WALRUS_REQUIRE_PRIVILEGED").is_some_and(|value| value == "1") => {
            panic!("{error}")
        }
        Err(error) => println!("skipped: {error}"),
    }
}

fn on_syscall(test: fn(&dyn Place)) {
    test(&host(IoMode::Syscall));
}

fn on_mmap(test: fn(&dyn Place)) {
    test(&host(IoMode::Mmap));
}

#[cfg(feature = "sim")]
fn on_sim(test: fn(&dyn Place)) {
    for seed in 0..8 {
        test(&sim::SimDisk::new(seed));
    }
}

macro_rules! suite {
    ($($test:ident)*) => {
        mod uring_run { $(#[test] fn $test() { super::on_uring(super::$test) })* }
        mod uring_by_cache_run { $(#[test] fn $test() { super::on_uring_by_cache(super::$test) })* }
        mod syscall_run { $(#[test] fn $test() { super::on_syscall(super::$test) })* }
        mod mmap_run { $(#[test] fn $test() { super::on_mmap(super::$test) })* }
        #[cfg(feature = "sim")]
        mod sim_run { $(#[test] fn $test() { super::on_sim(super::$test) })* }
    };
}

suite! {
    a_new_file_is_all_zeros
    what_is_written_and_flushed_is_read_back
    a_queued_write_is_read_back_lazy_and_durable
    many_in_flight_complete_each_under_its_own_token
    a_slot_comes_back_with_its_completion
    with_nothing_in_flight_there_is_a_slot_of_every_size
    a_wake_before_the_wait_is_not_lost
    a_wake_seen_by_a_poll_still_ends_the_next_wait
    a_wake_from_another_thread_ends_a_wait
    a_wake_ends_a_park_or_the_wait_after_it
    a_write_by_another_thread_is_complete_when_it_returns
    every_wake_among_many_is_answered
    a_queue_works_in_the_thread_it_is_moved_to
    dropping_a_queue_waits_for_what_is_in_flight
    an_idle_queue_may_be_dropped_in_another_thread
    writes_of_a_megabyte_arrive_whole
    names_are_made_changed_listed_and_removed
    an_open_file_outlives_its_name
    a_small_file_is_replaced_whole
    a_second_writer_is_locked_out_until_the_first_is_gone
    a_queue_holds_the_lock_and_an_open_file_does_not
    readers_share_and_keep_a_writer_out
    a_reader_changes_nothing
    a_read_past_the_end_says_so
    an_error_names_what_failed
    the_same_file_is_known_under_two_handles
    no_more_is_available_than_there_is
}

fn writer(place: &dyn Place) -> Disk {
    place.open(Access::Write).unwrap()
}

fn pattern(seed: u64, len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| (at as u64).wrapping_mul(31).wrapping_add(seed.wrapping_mul(7919)).to_le_bytes()[1] ^ seed as u8)
        .collect()
}

fn filled(bytes: &[u8]) -> AlignedBuf {
    let mut buf = AlignedBuf::new(bytes.len());
    buf.copy_from_slice(bytes);
    buf
}

fn read(file: &File, offset: u64, len: usize) -> Vec<u8> {
    let mut cached = vec![0xaa; len];
    file.read_at(&mut cached, offset).unwrap();
    let mut direct = AlignedBuf::new(len);
    file.read_direct(&mut direct, offset, len).unwrap();
    assert_eq!(cached, direct[..], "the page cache and the device differ");
    cached
}

/// Puts bytes into a slot and writes it.
fn submit(queue: &mut Queue, token: u64, file: &File, offset: u64, bytes: &[u8], sync: Sync) {
    let mut slot = queue.slot(bytes.len()).expect("a slot");
    queue.slot_bytes(&mut slot)[..bytes.len()].copy_from_slice(bytes);
    queue.write(Token(token), file, offset, slot, bytes.len(), sync);
}

/// Waits until nothing is in flight; every completion must be a success.
fn finish(queue: &mut Queue) -> Vec<u64> {
    let mut tokens = Vec::new();
    while queue.in_flight() > 0 {
        let mut done = Vec::new();
        queue.wait(&mut done);
        tokens.extend(done.into_iter().map(|completion| {
            completion.result.unwrap();
            completion.token.0
        }));
    }
    tokens
}

fn a_new_file_is_all_zeros(place: &dyn Place) {
    let disk = writer(place);
    let file = disk.create("superblock", 3 * PAGE as u64).unwrap();
    assert_eq!(file.len().unwrap(), 3 * PAGE as u64);
    assert_eq!(read(&file, 0, 3 * PAGE), vec![0; 3 * PAGE]);
    assert!(disk.create("superblock", PAGE as u64).is_err(), "a file is made once");
    assert_eq!(disk.create("empty", 0).unwrap().len().unwrap(), 0);
    assert!(disk.align() >= ALIGN_MIN && disk.align().is_power_of_two());
    assert!(disk.total_bytes().unwrap() > 0);
}

fn what_is_written_and_flushed_is_read_back(place: &dyn Place) {
    let disk = writer(place);
    let file = disk.create("file", 4 * PAGE as u64).unwrap();
    file.write_at(&filled(&pattern(1, 2 * PAGE)), 2 * PAGE, PAGE as u64).unwrap();
    file.flush().unwrap();
    assert_eq!(read(&file, 0, PAGE), vec![0; PAGE]);
    assert_eq!(read(&file, PAGE as u64, 2 * PAGE), pattern(1, 2 * PAGE));
    assert_eq!(read(&file, 3 * PAGE as u64, PAGE), vec![0; PAGE]);
    // Again by another handle, and only a part of the buffer.
    let again = disk.open_file("file").unwrap();
    again.write_at(&filled(&pattern(2, 2 * PAGE)), PAGE, 0).unwrap();
    again.flush().unwrap();
    assert_eq!(
        read(&file, 0, 2 * PAGE),
        [pattern(2, 2 * PAGE)[..PAGE].to_vec(), pattern(1, 2 * PAGE)[..PAGE].to_vec()].concat()
    );
}

fn a_queued_write_is_read_back_lazy_and_durable(place: &dyn Place) {
    let disk = writer(place);
    let file = disk.create("file", 4 * PAGE as u64).unwrap();
    let mut queue = disk.queue().unwrap();
    assert_eq!(queue.name(), disk.io().name);
    submit(&mut queue, 1, &file, 0, &pattern(1, PAGE), Sync::Lazy);
    submit(&mut queue, 2, &file, PAGE as u64, &pattern(2, 2 * PAGE), Sync::Durable);
    assert_eq!(queue.in_flight(), 2);
    finish(&mut queue);
    queue.flush(Token(3), &file);
    assert_eq!(finish(&mut queue), [3]);
    assert_eq!(read(&file, 0, 3 * PAGE), [pattern(1, PAGE), pattern(2, 2 * PAGE)].concat());
}

fn many_in_flight_complete_each_under_its_own_token(place: &dyn Place) {
    let disk = writer(place);
    let files: Vec<File> = (0..3).map(|n| disk.create(&format!("file-{n}"), 64 * PAGE as u64).unwrap()).collect();
    let mut queue = disk.queue().unwrap();
    let mut want = BTreeMap::new();
    for round in 0..4u64 {
        let mut tokens = Vec::new();
        for number in 0..60u64 {
            let token = (round << 32) | (number * 3);
            let file = number as usize % 3;
            if number % 10 == 9 {
                queue.flush(Token(token), &files[file]);
            } else {
                let sync = if number % 2 == 0 { Sync::Lazy } else { Sync::Durable };
                submit(&mut queue, token, &files[file], number * PAGE as u64, &pattern(token, PAGE), sync);
                want.insert((file, number), token);
            }
            tokens.push(token);
            let mut done = Vec::new();
            if number == 30 {
                queue.poll(&mut done);
            }
            tokens.retain(|token| done.iter().all(|completion| completion.token.0 != *token));
        }
        let mut got = finish(&mut queue);
        got.sort_unstable();
        assert_eq!(got, tokens);
    }
    for ((file, number), token) in want {
        assert_eq!(read(&files[file], number * PAGE as u64, PAGE), pattern(token, PAGE));
    }
}

fn a_slot_comes_back_with_its_completion(place: &dyn Place) {
    let disk = writer(place);
    let file = disk.create("file", 256 * PAGE as u64).unwrap();
    let mut queue = disk.queue().unwrap();
    for _ in 0..3 {
        // Each of the 64 small slots is used; a backend that works at once has them back sooner.
        for number in 0..64 {
            submit(&mut queue, number, &file, number * PAGE as u64, &pattern(number, PAGE), Sync::Lazy);
        }
        assert_eq!(finish(&mut queue).len(), 64);
    }
    assert_eq!(std::iter::from_fn(|| queue.slot(PAGE)).count(), 64);
}

fn with_nothing_in_flight_there_is_a_slot_of_every_size(place: &dyn Place) {
    let disk = writer(place);
    let mut queue = disk.queue().unwrap();
    for len in [1, PAGE, SLOT_SMALL_BYTES, SLOT_SMALL_BYTES + 1, SLOT_LARGE_BYTES] {
        let mut slot = queue.slot(len).unwrap();
        let bytes = queue.slot_bytes(&mut slot);
        assert!(bytes.len() >= len);
        assert_eq!(bytes.as_ptr() as usize % PAGE, 0);
    }
    drop(queue);
    let mut queue = disk.queue().unwrap();
    let group: Vec<Slot> =
        (0..8).map(|_| queue.slot(BLOCK_BYTES_MAX).expect("a largest group has its slots")).collect();
    assert_eq!(group.len(), 8);
}

fn a_wake_before_the_wait_is_not_lost(place: &dyn Place) {
    let mut queue = writer(place).queue().unwrap();
    for _ in 0..100 {
        queue.waker().wake();
        queue.waker().wake();
        queue.wait(&mut Vec::new());
    }
}

fn a_wake_seen_by_a_poll_still_ends_the_next_wait(place: &dyn Place) {
    let mut queue = writer(place).queue().unwrap();
    for _ in 0..100 {
        queue.poll(&mut Vec::new());
        queue.waker().wake();
        queue.poll(&mut Vec::new());
        queue.poll(&mut Vec::new());
        queue.wait(&mut Vec::new());
    }
}

fn a_wake_from_another_thread_ends_a_wait(place: &dyn Place) {
    let mut queue = writer(place).queue().unwrap();
    let rung = Arc::new(AtomicBool::new(false));
    let ringer = thread::spawn({
        let (rung, waker) = (Arc::clone(&rung), queue.waker());
        move || {
            thread::sleep(Duration::from_millis(50));
            rung.store(true, Ordering::SeqCst);
            waker.wake();
        }
    });
    while !rung.load(Ordering::SeqCst) {
        queue.wait(&mut Vec::new());
    }
    ringer.join().unwrap();
}

/// Each round puts down a number, wakes, and wants an answer before it goes on: one lost wake and nobody moves any more.
fn asker(waker: Waker) -> (thread::JoinHandle<()>, mpsc::Receiver<u32>, mpsc::Sender<u32>) {
    let (ask, asked) = mpsc::channel();
    let (answer, answered) = mpsc::channel();
    let asker = thread::spawn(move || {
        for number in 0..2000 {
            ask.send(number).unwrap();
            waker.wake();
            assert_eq!(answered.recv_timeout(Duration::from_secs(20)), Ok(number), "a wake was lost");
        }
    });
    (asker, asked, answer)
}

fn every_wake_among_many_is_answered(place: &dyn Place) {
    let disk = writer(place);
    let file = disk.create("file", PAGE as u64).unwrap();
    let mut queue = disk.queue().unwrap();
    let (asker, asked, answer) = asker(queue.waker());
    let mut last = None;
    while last != Some(1999) {
        while let Ok(number) = asked.try_recv() {
            // A write now and then, so that wakes and completions meet.
            if number % 16 == 0 && queue.in_flight() == 0 {
                submit(&mut queue, u64::from(number), &file, 0, &pattern(1, PAGE), Sync::Lazy);
            }
            answer.send(number).unwrap();
            last = Some(number);
        }
        if last != Some(1999) {
            queue.wait(&mut Vec::new());
        }
    }
    asker.join().unwrap();
}

/// The same with a thread that parks, or waits, or has just begun to do either.
fn a_wake_ends_a_park_or_the_wait_after_it(place: &dyn Place) {
    let mut queue = writer(place).queue().unwrap();
    let waker = queue.waker();
    let (asker, asked, answer) = asker(queue.waker());
    let mut last = None;
    while last != Some(1999) {
        while let Ok(number) = asked.try_recv() {
            answer.send(number).unwrap();
            last = Some(number);
        }
        // Odd numbers find it in the queue's own wait.
        let waits = last.is_some_and(|last| last % 2 == 1);
        if last != Some(1999) && (waits || !waker.park()) {
            queue.wait(&mut Vec::new());
        }
    }
    asker.join().unwrap();
}

fn a_write_by_another_thread_is_complete_when_it_returns(place: &dyn Place) {
    let disk = writer(place);
    let file = disk.create("file", 4 * PAGE as u64).unwrap();
    let mut queue = disk.queue().unwrap();
    let mut done = Vec::new();
    for round in 0..4 {
        // Its own thread first, so that a ring is bound to it.
        submit(&mut queue, 100 + round, &file, 0, &pattern(round, PAGE), Sync::Durable);
        finish(&mut queue);
        thread::scope(|scope| {
            scope.spawn(|| {
                for (page, sync) in [(1, Sync::Lazy), (2, Sync::Durable)] {
                    let mut slot = queue.slot(PAGE).unwrap();
                    queue.slot_bytes(&mut slot)[..PAGE].copy_from_slice(&pattern(round + page, PAGE));
                    queue.write_now(Token(page), &file, page * PAGE as u64, slot, PAGE, sync);
                    queue.take_done(&mut done);
                }
            });
        });
        let tokens: Vec<_> =
            done.drain(..).map(|Completion { token, result }| result.map(|()| token.0).unwrap()).collect();
        assert_eq!((tokens, queue.in_flight()), (vec![1, 2], 0));
        let wanted = [round, round + 1, round + 2].map(|seed| pattern(seed, PAGE)).concat();
        assert_eq!(read(&file, 0, 3 * PAGE), wanted);
    }
}

fn a_queue_works_in_the_thread_it_is_moved_to(place: &dyn Place) {
    let disk = writer(place);
    let file = disk.create("file", PAGE as u64).unwrap();
    let mut queue = disk.queue().unwrap();
    let waker = queue.waker();
    waker.wake();
    thread::spawn({
        let file = file.clone();
        move || {
            submit(&mut queue, 1, &file, 0, &pattern(9, PAGE), Sync::Durable);
            finish(&mut queue);
        }
    })
    .join()
    .unwrap();
    // The queue is gone, and its waker does no harm.
    waker.wake();
    assert_eq!(read(&file, 0, PAGE), pattern(9, PAGE));
}

fn dropping_a_queue_waits_for_what_is_in_flight(place: &dyn Place) {
    let disk = writer(place);
    let file = disk.create("file", 1 << 20).unwrap();
    let mut queue = disk.queue().unwrap();
    for number in 0..8 {
        submit(
            &mut queue,
            number,
            &file,
            number * SLOT_SMALL_BYTES as u64,
            &pattern(number, SLOT_SMALL_BYTES),
            Sync::Lazy,
        );
    }
    drop(queue);
    for number in 0..8 {
        assert_eq!(read(&file, number * SLOT_SMALL_BYTES as u64, SLOT_SMALL_BYTES), pattern(number, SLOT_SMALL_BYTES));
    }
}

fn an_idle_queue_may_be_dropped_in_another_thread(place: &dyn Place) {
    let disk = writer(place);
    let file = disk.create("file", PAGE as u64).unwrap();
    for _ in 0..3 {
        let mut queue = disk.queue().unwrap();
        submit(&mut queue, 1, &file, 0, &pattern(1, PAGE), Sync::Durable);
        finish(&mut queue);
        thread::spawn(move || drop(queue)).join().unwrap();
    }
    drop(disk);
    let began = Instant::now();
    writer(place);
    assert!(began.elapsed() < Duration::from_secs(1), "the ring kept LOCK after it was closed");
}

fn writes_of_a_megabyte_arrive_whole(place: &dyn Place) {
    let disk = writer(place);
    let file = disk.create("file", 8 << 20).unwrap();
    let mut queue = disk.queue().unwrap();
    for number in 0..8 {
        submit(&mut queue, number, &file, number << 20, &pattern(number, 1 << 20), Sync::Lazy);
    }
    assert_eq!(finish(&mut queue).len(), 8);
    queue.flush(Token(8), &file);
    finish(&mut queue);
    for number in 0..8 {
        assert!(read(&file, number << 20, 1 << 20) == pattern(number, 1 << 20));
    }
}

fn names_are_made_changed_listed_and_removed(place: &dyn Place) {
    let disk = writer(place);
    assert_eq!(disk.list("wal").unwrap(), [""; 0]);
    assert!(disk.create("wal/spare-1.tmp", PAGE as u64).unwrap_err().is_not_found());
    disk.make_folder("wal").unwrap();
    disk.make_folder("wal").unwrap();
    disk.make_folder("quarantine").unwrap();
    disk.make_folder("quarantine/1").unwrap();
    disk.flush_folder("").unwrap();
    disk.create("wal/spare-2.tmp", PAGE as u64).unwrap();
    disk.create("wal/spare-1.tmp", PAGE as u64).unwrap();
    assert_eq!(disk.list("wal").unwrap(), ["spare-1.tmp", "spare-2.tmp"]);
    disk.rename("wal/spare-2.tmp", "wal/0000000000000001.seg").unwrap();
    disk.rename("wal/spare-1.tmp", "quarantine/1/x.seg").unwrap();
    disk.flush_folder("wal").unwrap();
    disk.flush_folder("quarantine/1").unwrap();
    assert_eq!(disk.list("wal").unwrap(), ["0000000000000001.seg"]);
    assert_eq!(disk.list("quarantine/1").unwrap(), ["x.seg"]);
    disk.remove("wal/0000000000000001.seg").unwrap();
    assert_eq!(disk.list("wal").unwrap(), [""; 0]);
    assert!(disk.open_file("wal/0000000000000001.seg").err().unwrap().is_not_found());
    assert!(disk.remove("wal/0000000000000001.seg").unwrap_err().is_not_found());
    assert!(disk.rename("nothing", "something").unwrap_err().is_not_found());
    assert!(disk.flush_folder("nothing").unwrap_err().is_not_found());
}

fn an_open_file_outlives_its_name(place: &dyn Place) {
    let disk = writer(place);
    let file = disk.create("spare", PAGE as u64).unwrap();
    let other = disk.create("other", PAGE as u64).unwrap();
    disk.rename("spare", "segment").unwrap();
    file.write_at(&filled(&pattern(5, PAGE)), PAGE, 0).unwrap();
    assert_eq!(read(&disk.open_file("segment").unwrap(), 0, PAGE), pattern(5, PAGE));
    disk.rename("other", "segment").unwrap();
    assert_eq!(read(&file, 0, PAGE), pattern(5, PAGE));
    disk.remove("segment").unwrap();
    other.flush().unwrap();
    assert_eq!(read(&other, 0, PAGE), vec![0; PAGE]);
}

fn no_more_is_available_than_there_is(place: &dyn Place) {
    let disk = writer(place);
    let available = disk.available_bytes().unwrap();
    assert!(available > 0 && available <= disk.total_bytes().unwrap());
}

fn a_small_file_is_replaced_whole(place: &dyn Place) {
    let disk = writer(place);
    assert_eq!(disk.read_small("base", 100).unwrap(), None);
    assert_eq!(disk.read_small("no/base", 100).unwrap(), None);
    for len in [10, 0, 4096, 5000, 3] {
        disk.replace_small("base", &pattern(len as u64, len)).unwrap();
        assert_eq!(disk.read_small("base", 5000).unwrap(), Some(pattern(len as u64, len)));
        disk.replace_lazily("base", &pattern(1 + len as u64, len)).unwrap();
        assert_eq!(disk.read_small("base", 5000).unwrap(), Some(pattern(1 + len as u64, len)));
    }
    assert_eq!(disk.list("").unwrap().iter().filter(|name| name.contains("base")).count(), 1);
    let error = disk.read_small("base", 2).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
}

fn a_second_writer_is_locked_out_until_the_first_is_gone(place: &dyn Place) {
    let disk = writer(place);
    let handle = disk.clone();
    let error = place.open(Access::Write).err().unwrap();
    assert!(error.is_locked(), "{error}");
    assert!(place.open(Access::Read).err().unwrap().is_locked());
    drop(disk);
    assert!(place.open(Access::Write).err().unwrap().is_locked(), "one handle is left");
    drop(handle);
    writer(place);
}

fn a_queue_holds_the_lock_and_an_open_file_does_not(place: &dyn Place) {
    let disk = writer(place);
    let file = disk.create("file", PAGE as u64).unwrap();
    let mut queue = disk.queue().unwrap();
    drop(disk);
    assert!(place.open(Access::Write).err().unwrap().is_locked());
    submit(&mut queue, 1, &file, 0, &pattern(1, PAGE), Sync::Durable);
    finish(&mut queue);
    drop(queue);
    let began = Instant::now();
    writer(place);
    assert!(began.elapsed() < Duration::from_secs(1), "the ring kept LOCK after it was closed");
    assert_eq!(read(&file, 0, PAGE), pattern(1, PAGE));
}

fn readers_share_and_keep_a_writer_out(place: &dyn Place) {
    drop(writer(place));
    let one = place.open(Access::Read).unwrap();
    let two = place.open(Access::Read).unwrap();
    assert!(place.open(Access::Write).err().unwrap().is_locked());
    drop((one, two));
    writer(place);
}

fn a_reader_changes_nothing(place: &dyn Place) {
    let disk = writer(place);
    disk.create("file", PAGE as u64).unwrap();
    drop(disk);
    let disk = place.open(Access::Read).unwrap();
    let before = disk.list("").unwrap();
    let file = disk.open_file("file").unwrap();
    file.flush().unwrap();
    disk.flush_folder("").unwrap();
    assert!(file.write_at(&filled(&pattern(1, PAGE)), PAGE, 0).is_err());
    assert!(disk.create("other", PAGE as u64).is_err());
    assert!(disk.make_folder("wal").is_err());
    assert!(disk.replace_small("base", b"x").is_err());
    assert!(disk.replace_lazily("base", b"x").is_err());
    assert!(disk.rename("file", "other").is_err());
    assert!(disk.remove("file").is_err());
    assert!(disk.queue().is_err());
    assert_eq!(disk.list("").unwrap(), before);
    assert_eq!(read(&file, 0, PAGE), vec![0; PAGE]);
}

fn a_read_past_the_end_says_so(place: &dyn Place) {
    let disk = writer(place);
    let file = disk.create("file", 2 * PAGE as u64).unwrap();
    for (offset, len) in [(PAGE, 2 * PAGE), (2 * PAGE, PAGE), (100 * PAGE, PAGE)] {
        let error = file.read_at(&mut vec![0; len], offset as u64).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
        let error = file.read_direct(&mut AlignedBuf::new(len), offset as u64, len).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
    }
}

fn an_error_names_what_failed(place: &dyn Place) {
    let disk = writer(place);
    let file = disk.create("superblock", PAGE as u64).unwrap();
    let error = file.read_at(&mut [0; 8192], 4096).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("read of 8192 bytes at offset 4096 of superblock failed: "), "{text}");
    let text = disk.open_file("base").err().unwrap().to_string();
    assert!(text.starts_with("open of base failed: "), "{text}");
}

fn the_same_file_is_known_under_two_handles(place: &dyn Place) {
    let disk = writer(place);
    let one = disk.create("one", PAGE as u64).unwrap();
    let two = disk.create("two", PAGE as u64).unwrap();
    disk.rename("one", "three").unwrap();
    assert!(one.same_file(&disk.open_file("three").unwrap()));
    assert!(one.same_file(&one.clone()));
    assert!(!one.same_file(&two));
}

// -- what only a ring can do ----------------------------------------------------------------------------------------

/// The kernel refuses a second submitter (SINGLE_ISSUER), which is an error of the ring itself.
fn a_broken_ring_fails_everything_and_stays_awake(place: &dyn Place) {
    let disk = writer(place);
    let file = disk.create("file", 64 * PAGE as u64).unwrap();
    let mut queue = disk.queue().unwrap();
    queue.poll(&mut Vec::new());
    let Queue::Uring(ring) = &queue else { panic!("{} is no ring", queue.name()) };
    if !ring.is_bound() {
        return println!("skipped: this kernel binds no ring to a thread");
    }
    let broken = thread::spawn({
        let file = file.clone();
        move || {
            for token in 0..64 {
                submit(&mut queue, token, &file, token * PAGE as u64, &pattern(token, PAGE), Sync::Durable);
            }
            queue.flush(Token(64), &file);
            let mut done = Vec::new();
            queue.wait(&mut done);
            (queue, done)
        }
    });
    let (mut queue, mut done) = broken.join().unwrap();
    assert_eq!(done.len(), 65);
    assert!(done.iter().all(|completion| completion.result.is_err()));
    assert!(
        done[0]
            .result
            .as_ref()
            .unwrap_err()
            .to_string()
            .starts_with("write of 4096 bytes at offset 0 of file failed: ")
    );
    assert_eq!(queue.in_flight(), 0);

    // Later operations fail at once, though there are slots for them.
    submit(&mut queue, 1, &file, 0, &pattern(1, PAGE), Sync::Lazy);
    done.clear();
    queue.poll(&mut done);
    assert!(done.len() == 1 && done[0].result.is_err());
    // The first wait may answer the break itself, each one behind it a wake.
    queue.wait(&mut done);
    for _ in 0..3 {
        queue.waker().wake();
        queue.wait(&mut done);
    }
    // A write may land at any time, so nobody else gets the folder.
    drop((queue, disk));
    assert!(place.open(Access::Write).err().unwrap().is_locked());
}

#[test]
fn a_ring_used_from_a_second_thread_breaks_safely() {
    on_uring(a_broken_ring_fails_everything_and_stays_awake);
}

// -- what only a real machine shows ---------------------------------------------------------------------------------

#[test]
fn a_folder_is_made_with_those_above_it_and_for_us_alone() {
    use std::os::unix::fs::PermissionsExt;
    let outer = tempfile::tempdir().unwrap();
    let path = outer.path().join("a/b/data");
    assert!(Disk::open(&path, IoMode::Syscall, Access::Read).err().unwrap().is_not_found(), "a reader makes nothing");
    assert!(!outer.path().join("a").exists());
    let disk = Disk::open(&path, IoMode::Syscall, Access::Write).unwrap();
    disk.create("file", PAGE as u64).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join("file")), 0o600);
    assert_eq!(mode(&path.join("LOCK")), 0o600);
}

#[test]
fn a_reader_of_a_folder_without_lock_leaves_it_without() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), [7; 10]).unwrap();
    let disk = Disk::open(folder.path(), IoMode::Auto, Access::Read).unwrap();
    assert_eq!(disk.read_small("file", 10).unwrap(), Some(vec![7; 10]));
    assert_eq!(disk.list("").unwrap(), ["file"]);
}

#[test]
fn a_link_is_not_followed_out_of_the_folder() {
    let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(outside.path().join("file"), "secret").unwrap();
    std::os::unix::fs::symlink(outside.path().join("file"), folder.path().join("file")).unwrap();
    std::os::unix::fs::symlink(outside.path(), folder.path().join("wal")).unwrap();
    let disk = Disk::open(folder.path(), IoMode::Syscall, Access::Write).unwrap();
    assert!(disk.open_file("file").is_err());
    assert!(disk.open_file("wal/file").is_err());
    assert!(disk.create("wal/new", PAGE as u64).is_err());
    assert!(!outside.path().join("new").exists());
}

#[test]
fn auto_takes_the_ring_where_there_is_one_and_says_why_where_there_is_none() {
    let place = host(IoMode::Auto);
    let disk = place.open(Access::Write).unwrap();
    let queue = disk.queue().unwrap();
    let report = disk.io();
    assert_eq!(report.name, queue.name());
    assert_eq!(report.fallback.is_none(), report.name == "uring");
    assert_eq!("auto".parse(), Ok(IoMode::Auto));
    assert_eq!(IoMode::Uring.to_string().parse(), Ok(IoMode::Uring));
    assert_eq!("mmap".parse(), Ok(IoMode::Mmap));
    assert_eq!(
        "fast".parse::<IoMode>().unwrap_err().to_string(),
        r#"io is "fast", and must be one of auto, uring, syscall, mmap"#
    );
}

#[test]
fn a_file_larger_than_allowed_is_full() {
    // /dev/full is no file system, so the size limit stands in for a full one: EFBIG says the same to us.
    let error = Error::new("write", "wal/0000000000000001.seg", rustix::io::Errno::FBIG).at(8192, 4096);
    assert!(error.is_full() && !error.is_locked());
    assert_eq!(
        error.to_string(),
        "write of 4096 bytes at offset 8192 of wal/0000000000000001.seg failed: File too large (os error 27)"
    );
}

/// Tells the child of the next test what to hold, and how.
const CHILD_FOLDER: &str = "WALRUS_TEST_CHILD_FOLDER";
const CHILD_BYTES: u64 = 64 << 20;

/// Not a test of its own: what the child of the next test runs. It never ends by itself.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else { return };
    let disk = Disk::open(Path::new(&folder), IoMode::Auto, Access::Write).unwrap();
    let file = disk.create("file", CHILD_BYTES).unwrap();
    let mut queue = disk.queue().unwrap();
    println!("\nholding {}", queue.name());
    for token in 0.. {
        let offset = (token << 20) % CHILD_BYTES;
        match queue.slot(1 << 20) {
            Some(mut slot) => {
                queue.slot_bytes(&mut slot)[..1 << 20].fill(token as u8);
                queue.write(Token(token), &file, offset, slot, 1 << 20, Sync::Durable);
                queue.poll(&mut Vec::new());
            }
            None => queue.wait(&mut Vec::new()),
        }
    }
}

/// Kills and reaps the child also when the test fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// LOCK in the ring: the writes of the killed child are over when its folder can be had, and that is within two seconds.
#[test]
fn a_killed_writers_folder_is_free_within_two_seconds_and_still() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "storage::conformance::child_that_writes_until_it_is_killed",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD_FOLDER, folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map(Killed)
        .unwrap();
    let mut said = BufReader::new(child.0.stdout.take().unwrap()).lines().map_while(std::io::Result::ok);
    let holding = said.find(|line| line.starts_with("holding ")).expect("the child opens the folder");
    thread::sleep(Duration::from_millis(100));

    child.0.kill().unwrap();
    let killed = Instant::now();
    let disk = Disk::open(folder.path(), IoMode::Auto, Access::Write).unwrap();
    println!("{holding}: had the folder {} ms after SIGKILL", killed.elapsed().as_millis());

    let file = disk.open_file("file").unwrap();
    let contents = || {
        let mut all = AlignedBuf::new(CHILD_BYTES as usize);
        file.read_direct(&mut all, 0, CHILD_BYTES as usize).unwrap();
        all
    };
    let first = contents();
    thread::sleep(Duration::from_millis(300));
    assert!(first[..] == contents()[..], "a write landed after the folder was given away");
}
