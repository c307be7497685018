//! raft-engine 0.4: TiKV's log.
//!
//! ```text
//!   thread 3, topic 0 --> raft group 3 * topics + 0 + 1 --> LogBatch --> one queue of files for all groups, one flush for those who wait
//! ```
//!
//! A group is the log of one raft peer, its entries numbered without a gap: so each thread has groups of its own. Entries are TiKV's
//! (`eraftpb::Entry`). In service it writes into files that it wrote before; a fresh log gets there by preparing them (its own
//! `prefill-for-recycle`) and by filling its first file, which is never a prepared one.

use std::path::Path;

use ::raft_engine::{Command, Config, Engine, LogBatch, MessageExt, ReadableSize};
use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use raft_proto::eraftpb::Entry;

use super::{Level, MIB, is_fresh, name_and_version, prepared_bytes, refuses_any, settle};
use crate::result::Spec;
use crate::target::{Kind, Producer, ReadBack, Target};

/// Its own limit of a batch.
const BATCH_BYTES_MAX: u64 = i32::MAX as u64;

/// Entries that are read in one call.
const READ_ENTRIES: u64 = 1024;

/// The group that fills the first file, and is cleaned before anybody appends.
const FILLER: u64 = u64::MAX;

struct Entries;

impl MessageExt for Entries {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.index
    }
}

pub(super) struct RaftEngine;

impl Kind for RaftEngine {
    fn name(&self) -> String {
        name_and_version("raft-engine")
    }

    fn refuses(&self, spec: &Spec) -> Option<String> {
        let batch_bytes = (spec.payload_bytes + 64).saturating_mul(spec.batch.into());
        if batch_bytes > BATCH_BYTES_MAX {
            return Some(format!("a batch has {BATCH_BYTES_MAX} bytes at most"));
        }
        refuses_any(spec)
    }

    fn open(&self, folder: &Path, spec: &Spec) -> Result<Box<dyn Target>> {
        if let Some(reason) = self.refuses(spec) {
            bail!("raft-engine: {reason}");
        }
        let is_fresh = is_fresh(folder)?;
        let (config, settings) = configured(folder, spec)?;
        let file_bytes = config.target_file_size.0;
        let engine = Engine::open(config).with_context(|| format!("opening raft-engine in {}", folder.display()))?;
        if is_fresh && prepared_bytes(spec) > 0 {
            fill_first_file(&engine, file_bytes).context("filling the first file of raft-engine")?;
            settle(folder)?;
        }
        Ok(Box::new(Log { engine, level: Level::of(spec), topics: spec.topics, settings }))
    }
}

fn configured(folder: &Path, spec: &Spec) -> Result<(Config, String)> {
    let dir = folder.to_str().with_context(|| format!("the folder {} is no UTF-8", folder.display()))?.to_owned();
    let prepared = prepared_bytes(spec);
    // Small files are soon full, and the next one is a prepared one; but each costs three flushes.
    let file_bytes = if prepared > 512 * MIB || prepared == 0 { 128 * MIB } else { 16 * MIB };
    let config = Config {
        dir,
        target_file_size: ReadableSize(file_bytes),
        batch_compression_threshold: ReadableSize(0),
        enable_log_recycle: true,
        prefill_for_recycle: prepared > 0,
        // It prepares half as much again.
        prefill_limit: (prepared > 0).then_some(ReadableSize((prepared * 2 / 3).max(file_bytes))),
        ..Config::default()
    };
    let files =
        if prepared > 0 { format!("{} MiB prefilled for recycling", prepared / MIB) } else { "no prefill".into() };
    let settings = format!(
        "sync = {}; no compression; files of {} MiB, {files}; a raft group for each thread and topic",
        Level::of(spec) == Level::Durable,
        file_bytes / MIB
    );
    Ok((config, settings))
}

/// Writes until the log goes on in its second file, and forgets what it wrote.
fn fill_first_file(engine: &Engine, file_bytes: u64) -> Result<()> {
    let files_bytes = engine.get_used_size();
    let mut batch = LogBatch::default();
    for index in 1.. {
        let entry = Entry { index, data: vec![0; MIB as usize].into(), ..Entry::default() };
        batch.add_entries::<Entries>(FILLER, &[entry])?;
        engine.write(&mut batch, false)?;
        if engine.get_used_size() > files_bytes {
            break;
        }
        ensure!(index * MIB <= 2 * file_bytes, "{index} MiB do not fill a file of {file_bytes} bytes");
    }
    batch.add_command(FILLER, Command::Clean);
    engine.write(&mut batch, true)?;
    Ok(())
}

struct Log {
    engine: Engine,
    level: Level,
    topics: u32,
    settings: String,
}

impl Target for Log {
    fn settings(&self) -> String {
        self.settings.clone()
    }

    fn producer(&self, number: u32) -> Result<Box<dyn Producer + '_>> {
        let first_group = u64::from(number) * u64::from(self.topics) + 1;
        let groups = first_group..first_group + u64::from(self.topics);
        let next = groups.map(|group| self.engine.last_index(group).map_or(1, |last| last + 1)).collect();
        Ok(Box::new(Appender { log: self, first_group, next, batch: LogBatch::default(), entries: Vec::new() }))
    }

    fn read_back(&self) -> Result<ReadBack> {
        // Its cache of one block belongs to the thread, and does not know one log from another: so each reading has its own thread.
        let read = std::thread::scope(|scope| scope.spawn(|| self.read_groups()).join());
        read.expect("a panic while reading raft-engine")
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

impl Log {
    fn read_groups(&self) -> Result<ReadBack> {
        let mut read = ReadBack::default();
        let mut entries = Vec::new();
        let mut groups = self.engine.raft_groups();
        groups.sort_unstable();
        for group in groups {
            let (Some(first), Some(last)) = (self.engine.first_index(group), self.engine.last_index(group)) else {
                continue;
            };
            for begin in (first..=last).step_by(READ_ENTRIES as usize) {
                let end = (begin + READ_ENTRIES).min(last + 1);
                entries.clear();
                self.engine
                    .fetch_entries_to::<Entries>(group, begin, end, None, &mut entries)
                    .with_context(|| format!("reading entries {begin}..{end} of group {group} of raft-engine"))?;
                read.entries += entries.len() as u64;
                read.payload_bytes += entries.iter().map(|entry| entry.data.len() as u64).sum::<u64>();
            }
        }
        Ok(read)
    }
}

struct Appender<'log> {
    log: &'log Log,
    first_group: u64,
    /// By topic: the index of the next entry.
    next: Vec<u64>,
    batch: LogBatch,
    entries: Vec<Entry>,
}

impl Producer for Appender<'_> {
    fn append(&mut self, topic: u32, batch: &[Bytes]) -> Result<()> {
        let group = self.first_group + u64::from(topic);
        let next = self.next[topic as usize];
        self.entries.clear();
        let entries = (next..).zip(batch).map(|(index, data)| Entry { index, data: data.clone(), ..Entry::default() });
        self.entries.extend(entries);
        self.batch.add_entries::<Entries>(group, &self.entries)?;
        self.log.engine.write(&mut self.batch, self.log.level == Level::Durable).with_context(|| {
            format!("appending {} entries from {next} to group {group} of raft-engine", batch.len())
        })?;
        self.next[topic as usize] += batch.len() as u64;
        Ok(())
    }
}
