//! fjall 3: an LSM tree, for its journal.
//!
//! ```text
//!   batch --> journal (one lock, held through the flush) --> memtable, which is never full here
//! ```
//!
//! Every entry is a key and a value; the memtable that each also goes into belongs to the price of this journal, as it cannot be had
//! without. Writing tables is kept away: limits that no round reaches.

use std::path::Path;

use ::fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use anyhow::{Context, Result, bail};
use bytes::Bytes;

use super::{Keys, Level, name_and_version, refuses_any};
use crate::result::Spec;
use crate::target::{Kind, Producer, ReadBack, Target};

const NEVER_FULL_BYTES: u64 = 1 << 40;

pub(super) struct Fjall;

impl Kind for Fjall {
    fn name(&self) -> String {
        name_and_version("fjall")
    }

    fn refuses(&self, spec: &Spec) -> Option<String> {
        if spec.kind == "read" {
            return Some("reads from memory and tables, and not from its journal".into());
        }
        Keys::refuses(spec).or_else(|| refuses_any(spec))
    }

    fn open(&self, folder: &Path, spec: &Spec) -> Result<Box<dyn Target>> {
        if let Some(reason) = self.refuses(spec) {
            bail!("fjall: {reason}");
        }
        let open = || {
            let database = Database::builder(folder).max_journaling_size(NEVER_FULL_BYTES).open()?;
            let options = || KeyspaceCreateOptions::default().max_memtable_size(NEVER_FULL_BYTES);
            let entries = database.keyspace("entries", options)?;
            Ok::<_, ::fjall::Error>((database, entries))
        };
        let (database, entries) = open().with_context(|| format!("opening fjall in {}", folder.display()))?;
        let mode = if Level::of(spec) == Level::Durable { PersistMode::SyncData } else { PersistMode::Buffer };
        Ok(Box::new(Log { database, entries, mode, topics: spec.topics }))
    }
}

struct Log {
    database: Database,
    entries: Keyspace,
    mode: PersistMode,
    topics: u32,
}

impl Target for Log {
    fn settings(&self) -> String {
        let mode = self.mode;
        format!(
            "a write batch with durability {mode:?}; keys of 8 bytes; no compression; memtable and journal without limit"
        )
    }

    fn producer(&self, number: u32) -> Result<Box<dyn Producer + '_>> {
        let last_up_to = |key: u64| {
            let Some(last) = self.entries.range(..=key.to_be_bytes()).next_back() else { return Ok(None) };
            let key = last.key().context("looking for the last key of fjall")?;
            Ok(Some(u64::from_be_bytes(key[..].try_into().context("a key of fjall that is not ours")?)))
        };
        Ok(Box::new(Appender { log: self, keys: Keys::new(number, self.topics, last_up_to)? }))
    }

    /// Counts what is there. Its journal was read, and its sums checked, when it was opened.
    fn read_back(&self) -> Result<ReadBack> {
        let mut read = ReadBack::default();
        for entry in self.entries.iter() {
            let value = entry.value().context("reading the entries of fjall")?;
            read.entries += 1;
            read.payload_bytes += value.len() as u64;
        }
        Ok(read)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.database.persist(PersistMode::SyncAll).context("closing fjall")
    }
}

struct Appender<'log> {
    log: &'log Log,
    keys: Keys,
}

impl Producer for Appender<'_> {
    fn append(&mut self, topic: u32, batch: &[Bytes]) -> Result<()> {
        let Log { database, entries, mode, .. } = self.log;
        let mut write = ::fjall::OwnedWriteBatch::with_capacity(database.clone(), batch.len()).durability(Some(*mode));
        for payload in batch {
            write.insert(entries, self.keys.take(topic)?, &payload[..]);
        }
        write.commit().with_context(|| format!("appending {} entries to fjall", batch.len()))
    }
}
