//! Other people's logs, in this process and on the same disk, each set up as suits it best.
//!
//! ```text
//!   kinds() -- walrus-rust (one topic, and a topic a thread) | raft-engine | okaywal | fjall | RocksDB (feature `peers-rocksdb`)
//! ```
//!
//! What each of them was given is said by its `settings()`, and what it cannot do by its `refuses()`: nothing weaker runs under the same
//! name. Where a peer is faster on space that was written before, it gets that space, written and flushed before the first append; where
//! it compresses, that is off, since it is the log that is measured.
//!
//! Knows nothing of how load is made, nor of our own log.

mod fjall;
mod okaywal;
mod raft_engine;
#[cfg(feature = "peers-rocksdb")]
mod rocksdb;
#[cfg(test)]
mod tests;
mod walrus_rust;

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::Kind;
use crate::result::Spec;

/// Every peer of this build.
pub(crate) fn kinds() -> Vec<Box<dyn Kind>> {
    vec![
        Box::new(walrus_rust::WalrusRust { topic_a_thread: false }),
        Box::new(walrus_rust::WalrusRust { topic_a_thread: true }),
        Box::new(raft_engine::RaftEngine),
        Box::new(okaywal::OkayWal),
        Box::new(fjall::Fjall),
        #[cfg(feature = "peers-rocksdb")]
        Box::new(rocksdb::RocksDb),
    ]
}

/// Runs this program again, in its place, with the environment that a peer needs; returns if it is there already. To be called first in
/// `main`, before there is a thread or a file: what was begun before is begun again.
pub(crate) fn enter_environment() -> Result<()> {
    walrus_rust::enter_environment()
}

/// A peer's name and the version that Cargo.lock gives it.
fn name_and_version(package: &str) -> String {
    let lock = include_str!("../../../../Cargo.lock");
    let version = lock
        .split_once(&format!("\nname = \"{package}\"\nversion = \""))
        .and_then(|(_, rest)| rest.split_once('"'))
        .map_or("of unknown version", |(version, _)| version);
    format!("{package} {version}")
}

/// When an append counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// Flushed: survives a power cut.
    Durable,
    /// With the kernel: survives SIGKILL.
    Written,
}

impl Level {
    /// Cases that only read have their log filled at the cheaper level.
    fn of(spec: &Spec) -> Level {
        if spec.kind == "durable" { Level::Durable } else { Level::Written }
    }
}

/// What no peer can do here.
fn refuses_any(spec: &Spec) -> Option<String> {
    let unknown = !["durable", "written", "read", "open"].contains(&spec.kind.as_str());
    if unknown {
        Some(format!("no peer knows a case of kind `{}`", spec.kind))
    } else if spec.outstanding > 1 {
        Some("a call returns when its batch is acknowledged: one of a thread is in flight".into())
    } else if spec.followers > 0 {
        Some("has no followers".into())
    } else if spec.network {
        Some("lives in this process: has no network".into())
    } else {
        None
    }
}

const MIB: u64 = 1 << 20;

/// Bytes of payload for which a fresh log gets space that was written before, if that makes it faster: what a round of ten seconds may
/// need on a fast disk, or the minute of an open loop, within reason.
fn prepared_bytes(spec: &Spec) -> u64 {
    let batch_bytes = spec.payload_bytes * u64::from(spec.batch);
    match (spec.kind.as_str(), spec.rate_per_s) {
        ("durable", Some(rate)) => ((rate * 60.0) as u64).saturating_mul(batch_bytes).clamp(16 * MIB, 2048 * MIB),
        ("durable", None) if batch_bytes < 16 << 10 => 512 * MIB,
        ("durable", None) => 2048 * MIB,
        _ => 0,
    }
}

/// Whether nothing was ever logged in this folder. Makes it if it is not there.
fn is_fresh(folder: &Path) -> Result<bool> {
    fs::create_dir_all(folder).with_context(|| format!("making the folder {}", folder.display()))?;
    let mut files = fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))?;
    Ok(files.next().is_none())
}

/// Flushes every file of a folder, so that the first append does not pay for what opening wrote.
fn settle(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            settle(&path)?;
        } else {
            File::open(&path)
                .and_then(|file| file.sync_all())
                .with_context(|| format!("flushing {}", path.display()))?;
        }
    }
    Ok(())
}

/// The keys of a producer's entries where a log holds keys and values: eight bytes, in the order in which he appends to a topic.
struct Keys {
    producer: u32,
    /// By topic.
    next: Vec<u64>,
}

/// Producer, topic and number in one key.
const PRODUCERS_MAX: u32 = 1 << 12;
const TOPICS_MAX: u32 = 1 << 16;
const NUMBERS_MAX: u64 = 1 << 36;

impl Keys {
    /// `last_up_to` finds the last key that is stored, up to and with a given one.
    fn new(producer: u32, topics: u32, last_up_to: impl Fn(u64) -> Result<Option<u64>>) -> Result<Keys> {
        ensure!(producer < PRODUCERS_MAX, "producer {producer} has no key: there are {PRODUCERS_MAX}");
        let mut keys = Keys { producer, next: Vec::with_capacity(topics as usize) };
        for topic in 0..topics {
            let first = keys.at(topic, 0);
            let last = last_up_to(first + (NUMBERS_MAX - 1))?.filter(|last| *last >= first);
            keys.next.push(last.map_or(0, |last| last - first + 1));
        }
        Ok(keys)
    }

    fn take(&mut self, topic: u32) -> Result<[u8; 8]> {
        let number = self.next[topic as usize];
        ensure!(number < NUMBERS_MAX, "topic {topic} has no key for entry {number}");
        self.next[topic as usize] += 1;
        Ok(self.at(topic, number).to_be_bytes())
    }

    fn at(&self, topic: u32, number: u64) -> u64 {
        u64::from(self.producer) << 52 | u64::from(topic) << 36 | number
    }

    /// Why a case has no such keys.
    fn refuses(spec: &Spec) -> Option<String> {
        (spec.topics > TOPICS_MAX || spec.producers > PRODUCERS_MAX)
            .then(|| format!("keys are made here for {TOPICS_MAX} topics and {PRODUCERS_MAX} producers at most"))
    }
}
