//! okaywal 0.3: a log to put in front of something else.
//!
//! ```text
//!   batch --> one entry: a chunk for each payload --> wal-1, prepared, flushed for all who wait --> replay: every chunk, its sum checked
//! ```
//!
//! It means to be checkpointed: a full segment is handed to the program and then written over. Here it is never full, for then nothing
//! could be read back. It has no topics, and no append without a flush.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ::okaywal::{Configuration, Entry, EntryId, LogManager, ReadChunkResult, SegmentReader, WriteAheadLog};
use anyhow::{Context, Result, bail};
use bytes::Bytes;

use super::{MIB, is_fresh, name_and_version, prepared_bytes, refuses_any, settle};
use crate::result::Spec;
use crate::target::{Kind, Producer, ReadBack, Target};

const BUFFER_BYTES: usize = 1 << 20;

pub(super) struct OkayWal;

impl Kind for OkayWal {
    fn name(&self) -> String {
        name_and_version("okaywal")
    }

    fn refuses(&self, spec: &Spec) -> Option<String> {
        if spec.kind == "written" {
            return Some("flushes every append: has no other level than durable".into());
        }
        if spec.topics > 1 {
            return Some("has no topics".into());
        }
        refuses_any(spec)
    }

    fn open(&self, folder: &Path, spec: &Spec) -> Result<Box<dyn Target>> {
        if let Some(reason) = self.refuses(spec) {
            bail!("okaywal: {reason}");
        }
        let is_fresh = is_fresh(folder)?;
        let prepared = u32::try_from(prepared_bytes(spec).max(MIB))?;
        let (wal, _) = open(folder, prepared)?;
        if is_fresh {
            settle(folder)?;
        }
        Ok(Box::new(Log { wal, folder: folder.to_owned(), prepared }))
    }
}

/// Opens, and with that replays, a log.
fn open(folder: &Path, prepared: u32) -> Result<(WriteAheadLog, ReadBack)> {
    let found = Arc::new(Mutex::new(ReadBack::default()));
    let wal = Configuration::default_for(folder)
        .preallocate_bytes(prepared)
        .checkpoint_after_bytes(u64::MAX)
        .buffer_bytes(BUFFER_BYTES)
        .open(Replay { found: found.clone(), payload: Vec::new(), is_torn: false })
        .with_context(|| format!("opening okaywal in {}", folder.display()))?;
    let found = *found.lock().expect("the replay is over");
    Ok((wal, found))
}

/// Reads each entry that is recovered. To skip one would cost more: two system calls a chunk.
#[derive(Debug)]
struct Replay {
    found: Arc<Mutex<ReadBack>>,
    payload: Vec<u8>,
    /// An entry was not whole: the end of what was written before a crash, unless another one follows.
    is_torn: bool,
}

impl Replay {
    /// `None`: the entry is not whole.
    fn read(&mut self, entry: &mut Entry<'_>) -> io::Result<Option<ReadBack>> {
        let mut whole = ReadBack::default();
        loop {
            match entry.read_chunk()? {
                ReadChunkResult::Chunk(mut chunk) => {
                    self.payload.clear();
                    chunk.read_to_end(&mut self.payload)?;
                    if chunk.bytes_remaining() > 0 || !chunk.check_crc()? {
                        return Ok(None);
                    }
                    whole.entries += 1;
                    whole.payload_bytes += self.payload.len() as u64;
                }
                ReadChunkResult::EndOfEntry => return Ok(Some(whole)),
                ReadChunkResult::AbortedEntry => return Ok(None),
            }
        }
    }
}

impl LogManager for Replay {
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        if self.is_torn {
            let id = entry.id();
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("the entry before {id:?} is damaged")));
        }
        match self.read(entry)? {
            Some(whole) => {
                let mut found = self.found.lock().expect("nobody else is there");
                found.entries += whole.entries;
                found.payload_bytes += whole.payload_bytes;
            }
            None => self.is_torn = true,
        }
        Ok(())
    }

    fn checkpoint_to(&mut self, last: EntryId, _: &mut SegmentReader, _: &WriteAheadLog) -> io::Result<()> {
        Err(io::Error::other(format!("okaywal checkpoints up to {last:?}, though it was told not to")))
    }
}

struct Log {
    wal: WriteAheadLog,
    folder: PathBuf,
    prepared: u32,
}

impl Target for Log {
    fn settings(&self) -> String {
        format!(
            "a batch is an entry, a payload a chunk; one segment with {} MiB prepared, never checkpointed; buffer of {} KiB",
            u64::from(self.prepared) / MIB,
            BUFFER_BYTES >> 10
        )
    }

    fn producer(&self, _: u32) -> Result<Box<dyn Producer + '_>> {
        Ok(Box::new(Appender { wal: &self.wal }))
    }

    /// By a replay into nothing: there is no other way to read all of it.
    fn read_back(&self) -> Result<ReadBack> {
        let (wal, found) = open(&self.folder, MIB as u32)?;
        wal.shutdown().context("ending a replay of okaywal")?;
        Ok(found)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.wal.shutdown().context("closing okaywal")
    }
}

struct Appender<'log> {
    wal: &'log WriteAheadLog,
}

impl Producer for Appender<'_> {
    fn append(&mut self, _: u32, batch: &[Bytes]) -> Result<()> {
        let append = || {
            let mut entry = self.wal.begin_entry()?;
            for payload in batch {
                entry.write_chunk(payload)?;
            }
            entry.commit()
        };
        append().map(drop).with_context(|| format!("appending {} entries to okaywal", batch.len()))
    }
}
