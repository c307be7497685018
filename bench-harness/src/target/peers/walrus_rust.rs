//! walrus-rust 0.2: the log that ours succeeds.
//!
//! ```text
//!   WALRUS_DATA_DIR=/proc/self/fd, key "17"  -->  /proc/self/fd/17/  -->  the folder of the round, held open as descriptor 17
//! ```
//!
//! It takes its folder from the environment of the process, and prints a line for each step of each append unless the environment says
//! not to. A process cannot change its own environment safely once it has threads; so [`super::enter_environment`] runs this program again
//! with both set, and a key that is a descriptor's number leads to any folder.
//!
//! What it keeps for the life of the process is made even here:
//! - the schedule of the first log decides whether the files of all are opened with O_SYNC, beside the flush that each append does
//!   anyway: pinned to no;
//! - files are kept open by path: so a descriptor is never closed, and its number never used for another folder;
//! - removed files are therefore not freed: cut to nothing, or the disk would fill;
//! - how it reaches files is a switch: set by each opening, since one log is open at a time.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ::walrus_rust::{FsyncSchedule, ReadConsistency, Walrus, disable_fd_backend, enable_fd_backend};
use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;

use super::{Level, name_and_version, refuses_any};
use crate::result::Spec;
use crate::target::{Kind, Producer, ReadBack, Target};

/// What it must find in the environment.
pub(super) const ENVIRONMENT: [(&str, &str); 2] = [("WALRUS_QUIET", "1"), ("WALRUS_DATA_DIR", "/proc/self/fd")];

/// Its own limits: entries of a batch; a block, which an entry with its 64-byte head must fit into to be found again by recovery.
const BATCH_ENTRIES_MAX: u32 = 2000;
const BLOCK_BYTES: u64 = 10 << 20;
const HEAD_BYTES: u64 = 64;

/// What [`super::enter_environment`] does.
pub(super) fn enter_environment() -> Result<()> {
    if is_environment_ready() {
        return Ok(());
    }
    let program = std::env::current_exe().context("finding this program, to run it again for walrus-rust")?;
    let mut command = Command::new(&program);
    command.args(std::env::args_os().skip(1)).envs(ENVIRONMENT);
    let error = command.exec();
    Err(error).with_context(|| format!("running {} again, with {ENVIRONMENT:?} for walrus-rust", program.display()))
}

pub(super) fn is_environment_ready() -> bool {
    ENVIRONMENT.iter().all(|(name, value)| std::env::var_os(name).is_some_and(|is| is == *value))
}

/// One topic for all threads, as a case asks, or a topic for each: a topic's appends go one after the other.
pub(super) struct WalrusRust {
    pub(super) topic_a_thread: bool,
}

impl Kind for WalrusRust {
    fn name(&self) -> String {
        let topics = if self.topic_a_thread { ", a topic a thread" } else { "" };
        name_and_version("walrus-rust") + topics
    }

    fn refuses(&self, spec: &Spec) -> Option<String> {
        if !is_environment_ready() {
            let wanted = ENVIRONMENT.map(|(name, value)| format!("{name}={value}")).join(" ");
            return Some(format!("takes its folder, and silence, from the environment only: run again with {wanted}"));
        }
        if spec.batch > BATCH_ENTRIES_MAX {
            return Some(format!("a batch has {BATCH_ENTRIES_MAX} entries at most"));
        }
        if spec.payload_bytes + HEAD_BYTES > BLOCK_BYTES {
            return Some(format!("its recovery does not find entries of more than {}", BLOCK_BYTES - HEAD_BYTES));
        }
        if spec.kind == "read" {
            return Some("its entries are consumed as they are read: a second pass, cache warm, finds none".into());
        }
        refuses_any(spec)
    }

    fn open(&self, folder: &Path, spec: &Spec) -> Result<Box<dyn Target>> {
        if let Some(reason) = self.refuses(spec) {
            bail!("walrus-rust: {reason}");
        }
        fs::create_dir_all(folder).with_context(|| format!("making the folder {}", folder.display()))?;
        free_removed_files();
        pin_schedule(folder)?;
        let level = Level::of(spec);
        let schedule = if level == Level::Durable { FsyncSchedule::SyncEach } else { FsyncSchedule::NoFsync };
        let is_mapped = ["written", "open"].contains(&spec.kind.as_str());
        if is_mapped {
            disable_fd_backend()
        } else {
            enable_fd_backend()
        }
        let wal = open(folder, schedule)?;
        let topic_a_thread = self.topic_a_thread;
        Ok(Box::new(Log {
            wal,
            folder: folder.to_owned(),
            level,
            is_mapped,
            topic_a_thread,
            spec: spec.clone(),
            retries: AtomicU64::new(0),
            was_read: AtomicBool::new(false),
        }))
    }
}

/// A log in any folder.
fn open(folder: &Path, schedule: FsyncSchedule) -> Result<Walrus> {
    static DESCRIPTORS: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let descriptor = File::open(folder).with_context(|| format!("opening the folder {}", folder.display()))?;
    let key = descriptor.as_raw_fd().to_string();
    DESCRIPTORS.lock().expect("nobody panics here").push(descriptor);
    // Positions of readers are kept in memory only: a log that is opened again is read from its start.
    let reading = ReadConsistency::AtLeastOnce { persist_every: u32::MAX };
    Walrus::with_consistency_and_schedule_for_key(&key, reading, schedule)
        .with_context(|| format!("opening walrus-rust in {}", folder.display()))
}

/// Opens the first log of this process without flushes, for good: the files of later ones are then not opened with O_SYNC, and a
/// durable append flushes once and not twice.
fn pin_schedule(folder: &Path) -> Result<()> {
    static PINNED: Mutex<bool> = Mutex::new(false);
    let mut pinned = PINNED.lock().expect("nobody panics while he pins");
    if !*pinned {
        let first = folder.join("first.tmp");
        fs::create_dir(&first).with_context(|| format!("making the folder {}", first.display()))?;
        drop(open(&first, FsyncSchedule::NoFsync)?);
        fs::remove_dir_all(&first).with_context(|| format!("removing the folder {}", first.display()))?;
        *pinned = true;
    }
    Ok(())
}

/// Files of logs that were closed. walrus-rust holds them open until the process ends, so removing them frees nothing.
static CLOSED: Mutex<Vec<File>> = Mutex::new(Vec::new());

fn remember_files(folder: &Path) {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let open = |path: PathBuf| File::options().write(true).open(path).ok();
    CLOSED.lock().expect("nobody panics here").extend(files.filter_map(|file| open(file.path())));
}

/// Gives the space of those files back that have been removed since.
fn free_removed_files() {
    CLOSED.lock().expect("nobody panics here").retain(|file| {
        let is_removed = file.metadata().is_ok_and(|metadata| metadata.nlink() == 0);
        !(is_removed && file.set_len(0).is_ok())
    });
}

struct Log {
    wal: Walrus,
    folder: PathBuf,
    level: Level,
    is_mapped: bool,
    topic_a_thread: bool,
    spec: Spec,
    retries: AtomicU64,
    was_read: AtomicBool,
}

impl Log {
    /// Names of seven bytes at most are kept within an entry's head at no cost.
    fn topic(&self, producer: u32, topic: u32) -> String {
        if self.topic_a_thread { format!("{producer}.{topic}") } else { format!("t{topic}") }
    }

    /// Every topic that producers of this case append to.
    fn topics(&self) -> impl Iterator<Item = String> {
        let producers = if self.topic_a_thread { self.spec.producers } else { 1 };
        (0..producers).flat_map(move |producer| (0..self.spec.topics).map(move |topic| self.topic(producer, topic)))
    }
}

impl Target for Log {
    fn settings(&self) -> String {
        let schedule = match self.level {
            Level::Durable => "SyncEach, files without O_SYNC (it would flush twice)",
            Level::Written => "NoFsync (a batch is flushed all the same)",
        };
        let topics = if self.topic_a_thread { "a topic for each thread" } else { "topics shared by all threads" };
        let retries = self.retries.load(Ordering::Relaxed);
        let way = if self.is_mapped { "mapped files" } else { "pwrite and io_uring (its default)" };
        format!("{schedule}; {topics}; {way}; refused (WouldBlock) and tried again: {retries}")
    }

    fn producer(&self, number: u32) -> Result<Box<dyn Producer + '_>> {
        Ok(Box::new(Appender { log: self, number, topics: HashMap::new() }))
    }

    fn read_back(&self) -> Result<ReadBack> {
        // What is read is consumed; there is no way back to the start but to open it again.
        ensure!(!self.was_read.swap(true, Ordering::Relaxed), "walrus-rust reads a log once: open it again");
        // A call that is cut off by bytes, and not by its 2,000 entries, can go on in the wrong block.
        let bytes_max = 2000 * (self.spec.payload_bytes + HEAD_BYTES).max(4096);
        let mut read = ReadBack::default();
        for topic in self.topics() {
            loop {
                let entries = self
                    .wal
                    .batch_read_for_topic(&topic, bytes_max as usize, true)
                    .with_context(|| format!("reading topic {topic} of walrus-rust in {}", self.folder.display()))?;
                if entries.is_empty() {
                    break;
                }
                read.entries += entries.len() as u64;
                read.payload_bytes += entries.iter().map(|entry| entry.data.len() as u64).sum::<u64>();
            }
        }
        Ok(read)
    }

    fn close(self: Box<Self>) -> Result<()> {
        remember_files(&self.folder);
        Ok(())
    }
}

struct Appender<'log> {
    log: &'log Log,
    number: u32,
    topics: HashMap<u32, String>,
}

impl Producer for Appender<'_> {
    fn append(&mut self, topic: u32, batch: &[Bytes]) -> Result<()> {
        let name = self.topics.entry(topic).or_insert_with(|| self.log.topic(self.number, topic));
        let slices: Vec<&[u8]> = batch.iter().map(|entry| &entry[..]).collect();
        loop {
            let done = match &slices[..] {
                [entry] => self.log.wal.append_for_topic(name, entry),
                entries => self.log.wal.batch_append_for_topic(name, entries),
            };
            match done {
                // Somebody else's batch is on its way to this topic.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.log.retries.fetch_add(1, Ordering::Relaxed);
                    std::thread::yield_now();
                }
                done => {
                    return done
                        .with_context(|| format!("appending {} entries to topic {name} of walrus-rust", batch.len()));
                }
            }
        }
    }
}
