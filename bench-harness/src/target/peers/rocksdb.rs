//! RocksDB, for its log.
//!
//! ```text
//!   batch --> write group: one leader writes and flushes the log for all --> memtable, which is never full here
//!   read  <-- the log itself (get_updates_since), sums checked
//! ```
//!
//! Every entry is a key and a value, and goes into the memtable too: that belongs to the price of this log. Writing tables is kept away
//! by limits that no round reaches. In service a log file takes the place of an old one, whose blocks were all written before; a fresh
//! database gets there by filling one that it then no longer needs.

use std::fs;
use std::path::{Path, PathBuf};

use ::rocksdb::{DB, Options, WriteBatch, WriteBatchIterator, WriteOptions};
use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;

use super::{Keys, Level, MIB, is_fresh, name_and_version, prepared_bytes, refuses_any, settle};
use crate::result::Spec;
use crate::target::{Kind, Producer, ReadBack, Target};

const NEVER_FULL_BYTES: usize = 16 << 30;

/// What preparing may cost in memory and time: every byte goes through a memtable.
const PREPARED_BYTES_MAX: u64 = 1024 * MIB;

/// Log files that are gone through until the prepared one is in use.
const LOG_FILES_MAX: u32 = 16;

/// What a write batch has besides payload: a head, and with each payload a tag, a key, and two lengths.
const BATCH_HEAD_BYTES: usize = 12;
const PUT_BYTES_MAX: usize = 1 + 8 + 5 + 5;

/// In the folder, beside the database: the sequence number behind which our entries begin.
const FIRST: &str = "first-sequence-number";

pub(super) struct RocksDb;

impl Kind for RocksDb {
    fn name(&self) -> String {
        // `librocksdb-sys 0.19.0+11.8.1`
        let package = name_and_version("librocksdb-sys");
        format!("RocksDB {}", package.rsplit_once('+').map_or(&package[..], |(_, version)| version))
    }

    fn refuses(&self, spec: &Spec) -> Option<String> {
        Keys::refuses(spec).or_else(|| refuses_any(spec))
    }

    fn open(&self, folder: &Path, spec: &Spec) -> Result<Box<dyn Target>> {
        if let Some(reason) = self.refuses(spec) {
            bail!("RocksDB: {reason}");
        }
        let is_fresh = is_fresh(folder)?;
        let database = DB::open(&options()?, folder.join("db"))
            .with_context(|| format!("opening RocksDB in {}", folder.display()))?;
        let first = folder.join(FIRST);
        let mut prepared = 0;
        if is_fresh {
            prepared = prepared_bytes(spec).min(PREPARED_BYTES_MAX);
            prepare(&database, prepared).context("preparing the log of RocksDB")?;
            fs::write(&first, database.latest_sequence_number().to_string())
                .with_context(|| format!("writing {}", first.display()))?;
            settle(folder)?;
        }
        let first = fs::read_to_string(&first).with_context(|| format!("reading {}", first.display()))?;
        let first = first.parse().with_context(|| format!("{FIRST} in {} says {first:?}", folder.display()))?;
        Ok(Box::new(Log {
            database,
            first,
            level: Level::of(spec),
            topics: spec.topics,
            prepared,
            folder: folder.to_owned(),
        }))
    }
}

fn options() -> Result<Options> {
    let mut options = Options::default();
    // A log that is opened again stays a log, and is not made into tables first.
    let mut options = options.get_options_from_string("avoid_flush_during_recovery=true;allow_fallocate=false")?;
    options.create_if_missing(true);
    options.set_enable_pipelined_write(true);
    // Otherwise each thread of a group is woken twice: on two cores that costs a third of 16 threads' throughput.
    options.set_allow_concurrent_memtable_write(false);
    options.set_write_buffer_size(NEVER_FULL_BYTES);
    options.set_max_total_wal_size(NEVER_FULL_BYTES as u64);
    options.set_recycle_log_file_num(2);
    options.set_compression_type(::rocksdb::DBCompressionType::None);
    Ok(options)
}

/// Fills the log file in use, and makes a table of it, so that it is not needed any more and waits to be used again; then goes through
/// small ones until it is.
fn prepare(database: &DB, bytes: u64) -> Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    go_on_in_next_log_file(database, bytes)?;
    // Files that are not needed any more are found in the background.
    for _ in 0..LOG_FILES_MAX {
        go_on_in_next_log_file(database, MIB)?;
        if log_file_bytes(database.path())? >= bytes {
            return Ok(());
        }
    }
    bail!(
        "RocksDB has gone through {LOG_FILES_MAX} log files in {}, none with {bytes} bytes to use again",
        database.path().display()
    );
}

fn go_on_in_next_log_file(database: &DB, bytes: u64) -> Result<()> {
    let filler = vec![0; MIB as usize];
    // One key, so that the table has next to nothing.
    for _ in 0..bytes.div_ceil(MIB) {
        database.put(b"filler", &filler)?;
    }
    database.delete(b"filler")?;
    database.flush()?;
    Ok(())
}

/// Length of the log file in use, that of the highest number: `000042.log`.
fn log_file_bytes(folder: &Path) -> Result<u64> {
    let files = fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))?;
    let paths = files.flatten().map(|file| file.path());
    let newest = paths.filter(|path| path.extension().is_some_and(|extension| extension == "log")).max();
    let newest = newest.with_context(|| format!("no log file in {}", folder.display()))?;
    Ok(fs::metadata(&newest).with_context(|| format!("looking at {}", newest.display()))?.len())
}

struct Log {
    database: DB,
    first: u64,
    level: Level,
    topics: u32,
    prepared: u64,
    folder: PathBuf,
}

impl Target for Log {
    fn settings(&self) -> String {
        format!(
            "sync = {}; pipelined write, the memtable written by one thread of a group; a log file that was written before ({} MiB); \
             keys of 8 bytes; no compression; memtable and log without limit",
            self.level == Level::Durable,
            self.prepared / MIB
        )
    }

    fn producer(&self, number: u32) -> Result<Box<dyn Producer + '_>> {
        let last_up_to = |key: u64| {
            let mut at = self.database.raw_iterator();
            at.seek_for_prev(key.to_be_bytes());
            at.status().context("looking for the last key of RocksDB")?;
            let last = at.key().map(|key| key.try_into().context("a key of RocksDB that is not ours")).transpose()?;
            Ok(last.map(u64::from_be_bytes))
        };
        let keys = Keys::new(number, self.topics, last_up_to)?;
        let mut options = WriteOptions::default();
        options.set_sync(self.level == Level::Durable);
        Ok(Box::new(Appender { log: self, keys, options }))
    }

    fn read_back(&self) -> Result<ReadBack> {
        let last = self.database.latest_sequence_number();
        let mut count = Count(ReadBack::default());
        if last == self.first {
            return Ok(count.0);
        }
        let reading =
            || format!("reading the log of RocksDB in {} from {} to {last}", self.folder.display(), self.first);
        let mut updates = self.database.get_updates_since(self.first).with_context(reading)?;
        for update in &mut updates {
            let (_, batch) = update.with_context(reading)?;
            batch.iterate(&mut count);
        }
        updates.status().with_context(reading)?;
        let expected = last - self.first;
        ensure!(count.0.entries == expected, "{}: {} entries came, and not {expected}", reading(), count.0.entries);
        Ok(count.0)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

struct Count(ReadBack);

impl WriteBatchIterator for Count {
    fn put(&mut self, _: &[u8], value: &[u8]) {
        self.0.entries += 1;
        self.0.payload_bytes += value.len() as u64;
    }

    fn delete(&mut self, _: &[u8]) {}
}

struct Appender<'log> {
    log: &'log Log,
    keys: Keys,
    options: WriteOptions,
}

impl Producer for Appender<'_> {
    fn append(&mut self, topic: u32, batch: &[Bytes]) -> Result<()> {
        let bytes = batch.iter().map(|payload| payload.len() + PUT_BYTES_MAX).sum::<usize>();
        let mut write = WriteBatch::with_capacity_bytes(BATCH_HEAD_BYTES + bytes);
        for payload in batch {
            write.put(self.keys.take(topic)?, payload);
        }
        self.log
            .database
            .write_opt(write, &self.options)
            .with_context(|| format!("appending {} entries to RocksDB", batch.len()))
    }
}
