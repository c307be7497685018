//! Reading a topic: by offset, in whole entries, with their sums checked.
//!
//! Layer: topic. Uses `log` for blocks. Shows what is published, and nothing else is in the index.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use super::index::{BlockRef, Index, Topic};
use crate::ids::TopicId;
use crate::limits::ALIGN_MIN;
use crate::log::damage::Damage;
use crate::log::read_pool::POOLED_BYTES;
use crate::log::segments::{BlockError, PortableBlock, Segments};
use crate::lsn::Lsn;
use crate::storage;

/// One entry as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its dense number in its topic, from 0.
    pub offset: u64,
    /// When its block was written: nanoseconds since 1970, never running backwards in a log.
    pub ts_ns: u64,
    /// The bytes that were appended.
    pub payload: Bytes,
}

/// How much one read may return. At least one entry is returned if there is one.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimit {
    /// Entries at most.
    pub entries: usize,
    /// Bytes of payload at most.
    pub bytes: usize,
}

impl Default for ReadLimit {
    fn default() -> ReadLimit {
        ReadLimit { entries: 4096, bytes: 1 << 20 }
    }
}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The log has no such topic.
    #[error("there is no topic `{0}`")]
    UnknownTopic(String),
    /// The offset lies behind the end.
    #[error("topic `{topic}` ends before offset {next_offset}; offset {asked} is not there yet")]
    BeyondEnd {
        /// The topic.
        topic: String,
        /// The offset asked for.
        asked: u64,
        /// The topic's next offset.
        next_offset: u64,
    },
    /// The entries were taken away by retention.
    #[error("topic `{topic}` begins at offset {first_offset}; offset {asked} has been given away")]
    Trimmed {
        /// The topic.
        topic: String,
        /// The offset asked for.
        asked: u64,
        /// The first offset that is still there.
        first_offset: u64,
    },
    /// The bytes are damaged.
    #[error("offset {asked} of topic `{topic}` is damaged: {damage}")]
    Damaged {
        /// The topic.
        topic: String,
        /// The first offset that cannot be had.
        asked: u64,
        /// Where, and what is wrong.
        damage: Damage,
        /// The next offset of the topic that can be read, if there is any.
        next_good_offset: Option<u64>,
    },
    /// A block that was asked for by number is not in this log.
    #[error(transparent)]
    Block(BlockMissing),
    /// A read failed.
    #[error(transparent)]
    Storage(storage::Error),
}

/// A block that is not published here, or not any more.
#[derive(Debug, thiserror::Error)]
#[error("block {0} is not in this log")]
pub struct BlockMissing(pub crate::lsn::Lsn);

impl From<BlockError> for ReadError {
    fn from(error: BlockError) -> ReadError {
        match error {
            BlockError::NotThere(lsn) => ReadError::Block(BlockMissing(lsn)),
            BlockError::Storage(error) => ReadError::Storage(error),
            BlockError::Damaged(damage) => {
                ReadError::Damaged { topic: "(any)".into(), asked: 0, damage, next_good_offset: None }
            }
        }
    }
}

/// Blocks looked up at a time.
const REFS_AT_A_TIME: usize = 256;
/// Bytes read ahead when a topic's blocks follow each other.
const READ_AHEAD_BYTES: usize = POOLED_BYTES;

/// Reads topics of one log.
pub(crate) struct Reader<'a> {
    pub(crate) index: &'a Index,
    pub(crate) segments: &'a Segments,
}

impl Reader<'_> {
    fn topic(&self, name: &str) -> Result<Topic, ReadError> {
        self.index.topic(name).ok_or_else(|| ReadError::UnknownTopic(name.to_owned()))
    }

    /// Entries from `offset` on; none at the end of the topic.
    pub(crate) fn read(&self, name: &str, offset: u64, limit: ReadLimit) -> Result<Vec<LogEntry>, ReadError> {
        let topic = self.topic(name)?;
        let info = topic.info().expect("a topic that is found is defined");
        if offset > info.next_offset {
            return Err(ReadError::BeyondEnd { topic: name.into(), asked: offset, next_offset: info.next_offset });
        }
        if offset < info.first_offset {
            return Err(ReadError::Trimmed { topic: name.into(), asked: offset, first_offset: info.first_offset });
        }
        let mut batch = Gathered::new(&topic, offset..info.next_offset, limit);
        while !batch.is_full() && batch.next_offset < info.next_offset {
            let refs = topic.blocks_from(batch.next_offset, REFS_AT_A_TIME);
            let before = batch.next_offset;
            let gathered = self.gather(&mut batch, &refs);
            if gathered.is_err() && !batch.entries.is_empty() {
                break; // what was read is good; the next read begins with the error
            }
            gathered.map_err(|damage| self.unreadable(&topic, before, damage))?;
            if batch.next_offset == before {
                if !batch.entries.is_empty() {
                    break; // as above: what lies before the gap is good
                }
                // The index jumps over this offset: a survey of a damaged log found only what lies around it.
                let damage = BlockError::NotThere(refs.first().map_or(Lsn::FIRST, |block| block.lsn.next()));
                return Err(self.unreadable(&topic, before, damage));
            }
        }
        Ok(batch.entries)
    }

    fn gather(&self, batch: &mut Gathered, refs: &[BlockRef]) -> Result<(), BlockError> {
        let mut ahead: VecDeque<PortableBlock> = VecDeque::new();
        for (i, block) in refs.iter().enumerate() {
            if batch.is_full() {
                return Ok(()); // no block is read only to find that nothing of it is wanted
            }
            while ahead.front().is_some_and(|read| read.lsn < block.lsn) {
                ahead.pop_front();
            }
            if ahead.front().is_none_or(|read| read.lsn != block.lsn) {
                let bytes = batch.disk_bytes_left().min(READ_AHEAD_BYTES);
                ahead = self.segments.blocks(block.lsn, batch.blocks_left(&refs[i..]), bytes)?.into();
            }
            let read = ahead.pop_front().expect("a read of blocks returns at least one");
            if !batch.take(&read, block.first_offset, self.segments)? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn unreadable(&self, topic: &Topic, asked: u64, error: BlockError) -> ReadError {
        let name = topic.slot.name();
        let damage = match error {
            // Between the look into the index and the read: whoever gives away moves the index first.
            BlockError::NotThere(_) if topic.first_offset() > asked => {
                return ReadError::Trimmed { topic: name.into(), asked, first_offset: topic.first_offset() };
            }
            BlockError::Storage(error) => return ReadError::Storage(error),
            BlockError::Damaged(damage) => damage,
            BlockError::NotThere(lsn) => Damage {
                segment: crate::ids::SegmentNo::new(0),
                file_offset: 0,
                lsn,
                reason: "the block cannot be found".into(),
            },
        };
        let readable = |block: &BlockRef| block.first_offset > asked && self.segments.block(block.lsn).is_ok();
        let next_good_offset =
            topic.blocks_from(asked, usize::MAX).iter().find(|b| readable(b)).map(|b| b.first_offset);
        ReadError::Damaged { topic: name.to_owned(), asked, damage, next_good_offset }
    }

    /// The offset of the first entry at or after `ts_ns`; the topic's next offset if there is none yet.
    pub(crate) fn offset_at_time(&self, name: &str, ts_ns: u64) -> Result<u64, ReadError> {
        let topic = self.topic(name)?;
        let range = topic.block_numbers();
        let (mut low, mut high) = (range.start, range.end);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.is_before(&topic, middle, ts_ns)? { low = middle + 1 } else { high = middle }
        }
        Ok(topic.first_offset_of(low))
    }

    /// Whether a topic's block was written before `ts_ns`. One that is given away while we search counts as early enough.
    fn is_before(&self, topic: &Topic, number: usize, ts_ns: u64) -> Result<bool, ReadError> {
        let Some(block) = topic.block_at(number) else { return Ok(true) };
        if let Some(committed) = topic.committed_ts(block.first_offset) {
            return Ok(committed < ts_ns);
        }
        match self.segments.block(block.lsn) {
            Ok(read) => Ok(read.view(self.segments.log_id()).head.ts_ns < ts_ns),
            Err(BlockError::NotThere(_)) if topic.block_at(number).is_none() => Ok(true),
            Err(error) => Err(self.unreadable(topic, block.first_offset, error)),
        }
    }
}

/// Entries on their way to the caller.
struct Gathered<'a> {
    topic: &'a Topic,
    id: TopicId,
    next_offset: u64,
    /// The end of the topic when the read began: what has been published since may be cut within a batch.
    end: u64,
    limit: ReadLimit,
    bytes: usize,
    /// The next entry would pass the limit.
    full: bool,
    entries: Vec<LogEntry>,
}

impl Gathered<'_> {
    fn new(topic: &Topic, offsets: Range<u64>, limit: ReadLimit) -> Gathered<'_> {
        let id = topic.slot.id().expect("a topic that is found is defined");
        let Range { start: next_offset, end } = offsets;
        Gathered { topic, id, next_offset, end, limit, bytes: 0, full: false, entries: Vec::new() }
    }

    fn is_full(&self) -> bool {
        let has_enough_bytes = self.bytes >= self.limit.bytes && !self.entries.is_empty();
        self.full || has_enough_bytes || self.next_offset >= self.end || self.entries.len() >= self.limit.entries.max(1)
    }

    /// What the entries still wanted take on disk, where an entry is not much smaller than 256 bytes; for smaller ones it takes more reads.
    fn disk_bytes_left(&self) -> usize {
        let payload = self.limit.bytes.saturating_sub(self.bytes);
        payload.saturating_add(payload / 8 + ALIGN_MIN)
    }

    /// How many of these blocks follow each other in the log and begin before enough entries are gathered; the first at least.
    fn blocks_left(&self, refs: &[BlockRef]) -> usize {
        let entries = (self.limit.entries.max(1) - self.entries.len()) as u64;
        let last_offset = self.next_offset.saturating_add(entries - 1);
        let goes_on = |pair: &&[BlockRef]| pair[1].lsn == pair[0].lsn.next() && pair[1].first_offset <= last_offset;
        1 + refs.windows(2).take_while(goes_on).count()
    }

    /// Takes this topic's entries of a block, the first of which has `first_offset`; false when enough is gathered, or one is missing.
    fn take(&mut self, block: &PortableBlock, first_offset: u64, segments: &Segments) -> Result<bool, BlockError> {
        let view = block.view(segments.log_id());
        let id = self.id;
        let mine = || view.entries().filter(move |entry| entry.topic == id);
        // In a staged block offsets are relative to its batch.
        let relative = mine().find(|entry| entry.is_first()).map_or(0, |entry| entry.offset);
        let base = if view.head.txn.is_some() { first_offset - relative } else { 0 };
        for entry in mine().filter(|entry| entry.is_first()) {
            let offset = base + entry.offset;
            if offset < self.next_offset {
                continue;
            }
            self.full |= self.bytes + entry.payload.len() > self.limit.bytes && !self.entries.is_empty();
            if self.is_full() || offset != self.next_offset {
                return Ok(false);
            }
            let payload = match entry.is_last() {
                true => block.bytes.slice(entry.payload_at..entry.payload_at + entry.payload.len()),
                false => rest_of_entry(entry.payload, block.lsn, view.head.txn, id, segments)?,
            };
            let ts_ns = view.head.txn.and_then(|_| self.topic.committed_ts(offset)).unwrap_or(view.head.ts_ns);
            self.bytes += payload.len();
            self.entries.push(LogEntry { offset, ts_ns, payload });
            self.next_offset += 1;
        }
        Ok(true)
    }
}

/// Puts an entry together that begins in block `lsn` and goes on in later ones: in the very next, or, when its batch was staged, in
/// the next ones of that batch.
fn rest_of_entry(
    begun: &[u8],
    lsn: Lsn,
    txn: Option<Lsn>,
    topic: TopicId,
    segments: &Segments,
) -> Result<Bytes, BlockError> {
    let (mut payload, mut lsn) = (begun.to_vec(), lsn);
    loop {
        lsn = lsn.next();
        let block = segments.block(lsn)?;
        let view = block.view(segments.log_id());
        if view.head.txn != txn {
            continue;
        }
        let fragment = view.entries().next().filter(|entry| entry.topic == topic && !entry.is_first());
        let Some(fragment) = fragment else { return Err(BlockError::NotThere(lsn)) };
        payload.extend_from_slice(fragment.payload);
        if fragment.is_last() {
            return Ok(payload.into());
        }
    }
}
