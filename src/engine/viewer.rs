//! Looking at a log without changing a byte of it: `verify`, `dump`, `diff`, and reads of a folder.
//!
//! Opening looks at every block, so what a viewer shows has been verified, and where something is damaged it says so and shows the
//! rest.
//!
//! Layer: engine.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::format::block::Kind;
use crate::format::control::{Abort, Commit, Reign, TopicDefinition};
use crate::format::superblock::Role;
use crate::ids::{Chain, Epoch, Incarnation, LogId, TopicId};
use crate::log::damage::Damage;
use crate::log::meta::{BlockMeta, Sink};
use crate::log::recovery::{Contents, OpenError, Recovered, open_parts};
use crate::log::segments::{Beginning, PortableBlock, Segments};
use crate::log::survey::survey;
use crate::lsn::{Lsn, Position};
use crate::storage::{Access, Disk, IoMode};
use crate::topic::index::{Index, TopicInfo};
use crate::topic::reader::{LogEntry, ReadError, ReadLimit, Reader};

/// A log in a folder, opened for looking only. No other process can write it meanwhile.
pub struct Viewer {
    role: Option<Role>,
    log_id: LogId,
    incarnation: Incarnation,
    index: Index,
    segments: Segments,
    verification: Verification,
    _disk: Disk,
}

/// What a look at every block has found.
#[derive(Clone, Debug)]
pub struct Verification {
    /// Segment files.
    pub segments: usize,
    /// Blocks that are sound, in whole groups.
    pub blocks: u64,
    /// Entries in them, those of the log's own topic left out.
    pub entries: u64,
    /// The end of the log (exclusive).
    pub durable_lsn: Lsn,
    /// The chain before it.
    pub chain: Chain,
    /// Every damaged place.
    pub damage: Vec<Damage>,
    /// Bytes of blocks behind the end that were never acknowledged: the next open for writing cuts them off.
    pub torn_tail_bytes: u64,
}

impl Verification {
    /// Whether nothing that was durable is missing.
    pub fn is_ok(&self) -> bool {
        self.damage.is_empty()
    }
}

/// One block, for people.
#[derive(Clone, Debug)]
pub struct BlockInfo {
    /// Its number.
    pub lsn: Lsn,
    /// Where it lies on this disk.
    pub position: Option<Position>,
    /// Whose reign it belongs to.
    pub epoch: Epoch,
    /// When it was written.
    pub ts_ns: u64,
    /// Blocks still to come in its atomic group.
    pub remaining: u32,
    /// The chain behind it.
    pub chain: Chain,
    /// What it is, in words: `data`, `epoch 3 run ...`, `topic 1 "orders"`.
    pub what: String,
    /// Bytes of the portable block.
    pub bytes: usize,
    /// Its entries; none for the log's own blocks.
    pub entries: Vec<EntryInfo>,
}

/// One entry of a block.
#[derive(Clone, Debug)]
pub struct EntryInfo {
    /// The topic's name.
    pub topic: String,
    /// The entry's number in it.
    pub offset: u64,
    /// Its bytes.
    pub payload: Bytes,
}

/// Counts what goes by.
struct Counting<'a> {
    index: &'a Index,
    blocks: AtomicU64,
    entries: AtomicU64,
}

impl Sink for Counting<'_> {
    fn publish(&self, blocks: &[BlockMeta]) {
        self.blocks.fetch_add(blocks.len() as u64, Ordering::Relaxed);
        let entries: u64 = blocks.iter().flat_map(|block| &block.runs).map(|run| u64::from(run.entries)).sum();
        self.entries.fetch_add(entries, Ordering::Relaxed);
        self.index.publish(blocks);
    }
}

impl Viewer {
    /// Opens the log in `path` for looking. Writes nothing.
    ///
    /// # Errors
    /// [`OpenError::Locked`] while a process writes it, [`OpenError::NoLog`] if there is none. Damaged blocks are no error here:
    /// [`Viewer::verification`] names them.
    pub fn open(path: &Path, io: IoMode) -> Result<Viewer, OpenError> {
        Viewer::open_disk(Disk::open(path, io, Access::Read)?)
    }

    /// The same on a simulated disk.
    ///
    /// # Errors
    /// As [`Viewer::open`].
    #[cfg(feature = "sim")]
    pub fn open_sim(disk: &crate::storage::sim::SimDisk) -> Result<Viewer, OpenError> {
        Viewer::open_disk(disk.open(Access::Read)?)
    }

    fn open_disk(disk: Disk) -> Result<Viewer, OpenError> {
        let Contents::Log(parts) = open_parts(&disk, u64::MAX)? else { return Err(OpenError::NoLog) };
        let index = Index::new(&parts.base);
        let beginning = Beginning::of(&parts.base);
        let sink = Counting { index: &index, blocks: AtomicU64::new(0), entries: AtomicU64::new(0) };
        let recovered = parts.recover(&sink)?;
        let (damage, tail, torn_tail_bytes) = if recovered.damage.is_some() {
            let survey = survey(&recovered, &sink)?;
            (survey.damage, survey.tail, 0)
        } else {
            (Vec::new(), recovered.tail, torn_tail_bytes(&recovered))
        };
        let verification = Verification {
            segments: recovered.segments.len() + recovered.broken.len(),
            blocks: sink.blocks.into_inner(),
            entries: sink.entries.into_inner(),
            durable_lsn: tail.lsn,
            chain: tail.chain,
            damage,
            torn_tail_bytes,
        };
        let sb = &recovered.superblock.now;
        let (role, log_id, incarnation) = (sb.role, sb.log_id, sb.incarnation);
        let segments = Segments::new(recovered.segments, log_id, beginning);
        Ok(Viewer { role, log_id, incarnation, index, segments, verification, _disk: disk })
    }

    /// What opening has found.
    pub fn verification(&self) -> &Verification {
        &self.verification
    }

    /// Whose folder it is.
    pub fn role(&self) -> Option<Role> {
        self.role
    }

    /// The log.
    pub fn log_id(&self) -> LogId {
        self.log_id
    }

    /// The last stretch of this disk's writing.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The first block that is still there.
    pub fn first_lsn(&self) -> Lsn {
        self.segments.beginning().lsn
    }

    /// Every topic, by number.
    pub fn topics(&self) -> Vec<TopicInfo> {
        self.index.all()
    }

    /// A topic, if the log has it.
    pub fn topic(&self, name: &str) -> Option<TopicInfo> {
        self.index.topic(name)?.info()
    }

    /// Every reign, oldest first.
    pub fn lineage(&self) -> Vec<Reign> {
        self.index.history().lineage
    }

    fn reader(&self) -> Reader<'_> {
        Reader { index: &self.index, segments: &self.segments }
    }

    /// Reads a topic from `offset` on; none at its end.
    ///
    /// # Errors
    /// As [`Engine::read`](super::Engine::read).
    pub fn read(&self, topic: &str, offset: u64, limit: ReadLimit) -> Result<Vec<LogEntry>, ReadError> {
        let entries = self.reader().read(topic, offset, limit).map_err(|error| self.name_the_damage(error))?;
        match self.verification.damage.first() {
            // What follows the damage in this topic may have been lost with it: the end is not the end.
            Some(damage) if entries.is_empty() => Err(ReadError::Damaged {
                topic: topic.to_owned(),
                asked: offset,
                damage: damage.clone(),
                next_good_offset: None,
            }),
            _ => Ok(entries),
        }
    }

    /// Where the index only knows that something is missing, the verification knows what.
    fn name_the_damage(&self, error: ReadError) -> ReadError {
        match error {
            ReadError::Damaged { topic, asked, damage, next_good_offset } => {
                // Blocks go missing from a damaged place on, up to where a whole group begins: so it is the last one before.
                let known = self.verification.damage.iter().rev().find(|known| known.lsn <= damage.lsn);
                ReadError::Damaged { topic, asked, damage: known.unwrap_or(&damage).clone(), next_good_offset }
            }
            error => error,
        }
    }

    /// The offset of the first entry of a topic at or after a time.
    ///
    /// # Errors
    /// As [`Engine::offset_at_time`](super::Engine::offset_at_time).
    pub fn offset_at_time(&self, topic: &str, ts_ns: u64) -> Result<u64, ReadError> {
        self.reader().offset_at_time(topic, ts_ns)
    }

    /// The blocks from `from` on, as many as lie together in one read; none at the end.
    ///
    /// # Errors
    /// When the block at `from` is damaged or cannot be read.
    pub fn blocks(&self, from: Lsn) -> Result<Vec<BlockInfo>, ReadError> {
        if from >= self.verification.durable_lsn {
            return Ok(Vec::new());
        }
        let blocks = self.segments.blocks(from, usize::MAX, 1 << 20)?;
        let names = self.index.names().into_iter().collect();
        Ok(blocks.iter().map(|block| self.describe(block, &names)).collect())
    }

    fn describe(&self, block: &PortableBlock, names: &HashMap<TopicId, String>) -> BlockInfo {
        let view = block.view(self.log_id);
        let body = view.entries().next().map_or(&[][..], |entry| entry.payload);
        let what = match view.head.kind {
            Kind::Data => match view.head.txn {
                None => "data".to_owned(),
                Some(txn) => format!("staged, of batch {txn}"),
            },
            Kind::Commit => {
                Commit::parse(body).map_or("commit".into(), |commit| format!("commit of batch {}", commit.txn))
            }
            Kind::Abort => Abort::parse(body).map_or("abort".into(), |abort| format!("abort of batch {}", abort.txn)),
            Kind::Epoch => Reign::parse(body).map_or("epoch".into(), |r| format!("epoch {} run {}", r.epoch, r.run_id)),
            Kind::Topic => {
                TopicDefinition::parse(body).map_or("topic".into(), |t| format!("topic {} {:?}", t.id, t.name))
            }
            Kind::Skippable(number) => format!("kind {number}"),
        };
        let entries = view.entries().filter(|_| view.head.kind == Kind::Data).map(|entry| EntryInfo {
            topic: names.get(&entry.topic).cloned().unwrap_or_default(),
            offset: entry.offset,
            payload: block.bytes.slice(entry.payload_at..entry.payload_at + entry.payload.len()),
        });
        BlockInfo {
            lsn: block.lsn,
            position: self.segments.position(block.lsn),
            epoch: view.head.epoch,
            ts_ns: view.head.ts_ns,
            remaining: view.head.remaining,
            chain: block.chain,
            what,
            bytes: block.bytes.len(),
            entries: entries.collect(),
        }
    }

    /// The first LSN at which two logs differ, or `None` when they are equal. A proper prefix differs from its end on. Blocks that one of
    /// them has given away are compared by the chain that was left of them.
    ///
    /// Every block was verified when the logs were opened, and the chain at an LSN stands for all history before it; so a
    /// search in halves is enough.
    ///
    /// # Errors
    /// When a block cannot be read.
    pub fn first_difference(&self, other: &Viewer) -> Result<Option<Lsn>, ReadError> {
        let ends = (self.verification.durable_lsn, other.verification.durable_lsn);
        if ends.0 == ends.1 && self.verification.chain == other.verification.chain && self.log_id == other.log_id {
            return Ok(None);
        }
        let (first, end) = (self.first_lsn().max(other.first_lsn()), ends.0.min(ends.1));
        // Where one ends before the other begins nothing can be compared, and the shorter one's end is where they differ.
        let (mut equal, mut end) = (first.min(end).get(), end.get());
        // Invariant: all blocks below `equal` are equal; those at or behind `end` are not known to be.
        while equal < end {
            let middle = equal + (end - equal) / 2;
            let same = self.segments.block(Lsn::new(middle))?.chain == other.segments.block(Lsn::new(middle))?.chain;
            if same { equal = middle + 1 } else { end = middle }
        }
        Ok(Some(Lsn::new(equal)))
    }
}

/// Bytes of the blocks behind the end that look alive.
fn torn_tail_bytes(recovered: &Recovered) -> u64 {
    recovered.stragglers.iter().filter(|block| !block.fenced).map(|block| u64::from(block.total_len)).sum()
}
