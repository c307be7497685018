//! The largest batch: 2,000 entries of one buffer, in bounded memory, while another topic's durable appends go on; and a SIGKILL in its
//! middle.
//!
//! Each runs in a process of its own, so that its memory can be measured. Entries have 640 KiB here (1.2 GiB in all), and with
//! `WALRUS_SLOW=1` 5 MiB (9.8 GiB).

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use walrus_node::{Engine, IoMode, Options, ReadLimit};

const FOLDER: &str = "WALRUS_TEST_LARGE_FOLDER";
const ENTRIES: usize = 2_000;
/// How much the process may grow by the batch.
const GROWTH_MAX: u64 = 128 << 20;

fn entry_bytes() -> usize {
    if std::env::var_os("WALRUS_SLOW").is_some() { 5 << 20 } else { 640 << 10 }
}

fn options() -> Options {
    let io = std::env::var("WALRUS_IO").map_or(IoMode::Auto, |mode| mode.parse().expect("WALRUS_IO is a backend"));
    Options { io, ..Options::default() }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder can be made in the target directory")
}

/// The buffer that all entries are slices of: each byte tells where it is.
fn buffer() -> Bytes {
    (0..entry_bytes() + ENTRIES).map(|i| (i % 251) as u8).collect::<Vec<_>>().into()
}

fn batch(buffer: &Bytes) -> Vec<Bytes> {
    (0..ENTRIES).map(|i| buffer.slice(i..i + entry_bytes())).collect()
}

fn start(child: &str, folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([child, "--exact", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn child_folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// Bytes of memory of this process that are its own: what is mapped from files can be dropped at any time.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

#[test]
fn a_batch_of_two_thousand_large_entries_is_committed_in_bounded_memory_beside_the_appends_of_others() {
    let folder = folder();
    let child = start("the_batch_as_a_process", folder.path());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    said.lines().filter(|line| line.contains("MiB")).for_each(|line| drop(writeln!(std::io::stderr(), "{line}")));

    let (log, buffer) = (Engine::open(folder.path(), options()).unwrap(), buffer());
    assert_eq!(log.topic("large").unwrap().next_offset, 1 + ENTRIES as u64);
    for (i, expected) in batch(&buffer).into_iter().enumerate().step_by(97) {
        let limit = ReadLimit { entries: 1, bytes: 1 };
        assert!(log.read("large", 1 + i as u64, limit).unwrap()[0].payload == expected, "entry {i}");
    }
}

#[test]
#[ignore = "the child of the test above"]
fn the_batch_as_a_process() {
    let Some(folder) = child_folder() else { return };
    let log = Engine::open(&folder, options()).unwrap();
    log.append("large", "first").unwrap().wait().unwrap();
    let buffer = buffer();
    let (before, mut most, mut others) = (memory(), 0, 0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let receipt = log.append_batch("large", batch(&buffer)).unwrap().wait().unwrap();
            assert_eq!((receipt.first_offset, receipt.last_offset), (1, ENTRIES as u64));
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            log.append("other", format!("{others}")).unwrap().wait().unwrap();
            assert_eq!(log.topic("large").unwrap().next_offset % ENTRIES as u64, 1, "all of the batch, or nothing");
            most = most.max(memory());
            others += 1;
        }
    });
    let growth = most.saturating_sub(before);
    println!(
        "a batch of {ENTRIES} x {} MiB: memory grew by {} MiB, {others} durable appends to another topic meanwhile",
        entry_bytes() as f64 / f64::from(1 << 20),
        growth >> 20
    );
    assert!(growth < GROWTH_MAX, "memory grew by {} MiB", growth >> 20);
    assert!(others >= 10, "only {others} appends went on beside it");
}

#[test]
fn a_kill_in_the_middle_of_a_large_batch_leaves_the_topic_as_before() {
    let folder = folder();
    let mut child = start("the_batch_that_is_killed", folder.path());
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let begun = lines.filter(|line| line.starts_with("staged")).nth(3);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(begun.is_some(), "the child ended before it had staged much");
    let log = Engine::open(folder.path(), options()).unwrap();
    assert_eq!(log.topic("large").unwrap().next_offset, 1);
    assert_eq!(log.append("large", "second").unwrap().wait().unwrap().first_offset, 1);
    log.close().unwrap();
    drop(log);
    let log = Engine::open(folder.path(), options()).unwrap();
    assert_eq!(log.topic("large").unwrap().next_offset, 2);
}

#[test]
#[ignore = "the child of the test above"]
fn the_batch_that_is_killed() {
    let Some(folder) = child_folder() else { return };
    let log = Engine::open(&folder, options()).unwrap();
    log.append("large", "first").unwrap().wait().unwrap();
    let (buffer, mut staged) = (buffer(), 0);
    let mut large = log.begin_batch("large", Default::default()).unwrap();
    for entry in batch(&buffer) {
        large.push(entry).unwrap();
        staged += entry_bytes();
        if staged > 20 << 20 {
            // Flushed, so that the next open finds it: it must know by itself that it is not whole.
            log.append("other", "durable").unwrap().wait().unwrap();
            println!("staged {staged}");
            staged = 0;
        }
    }
}

const TOPICS: usize = 10_000;

/// A log of 10,000 topics and 2 GiB.
#[test]
#[ignore = "the child of the test below"]
fn the_log_of_many_topics() {
    let Some(folder) = child_folder() else { return };
    let level = walrus_node::Level::Written;
    let log = Engine::open(&folder, Options { level, ..options() }).unwrap();
    let (buffer, bytes) = (buffer(), 2 << 30);
    let mut last = None;
    for i in 0..TOPICS {
        let entries = (0..8).map(|j| buffer.slice(i % 251 + j..i % 251 + j + bytes / TOPICS / 8)).collect();
        last = Some(log.append_batch(&format!("topic {i}"), entries).unwrap());
    }
    last.unwrap().wait().unwrap();
    log.flush().unwrap().wait().unwrap();
    println!("written");
    std::thread::park(); // until it is killed
}

#[test]
fn a_log_of_ten_thousand_topics_opens_again_after_a_kill_and_after_a_clean_close() {
    let folder = folder();
    let mut child = start("the_log_of_many_topics", folder.path());
    let written =
        BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap).any(|line| line == "written");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(written);
    for how in ["after SIGKILL", "after a clean close"] {
        let begun = std::time::Instant::now();
        let log = Engine::open(folder.path(), options()).unwrap();
        let took = begun.elapsed();
        let bytes = log.status().log_bytes;
        let _ = writeln!(std::io::stderr(), "{TOPICS} topics, {} MiB of log: opened {how} in {took:.1?}", bytes >> 20);
        assert_eq!(log.topics().len(), TOPICS);
        for i in (0..TOPICS).step_by(997) {
            let entries = log.read(&format!("topic {i}"), 0, ReadLimit::default()).unwrap();
            assert_eq!(entries.len(), 8, "topic {i}");
        }
        log.close().unwrap();
    }
}
