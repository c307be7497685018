//! What is in a folder: the log up to its end, and whether that end is torn or something is damaged. Changes nothing.
//!
//! ```text
//!   flush folders, superblock, segments       so that whatever is seen is durable
//!   walk from the base                        as far as the chain goes, whole groups to the sink
//!   at its end P, expected LSN n:
//!       hint LSN > n, or a block behind P with durable_lsn > n, unfenced   -> damage: n was durable
//!       otherwise                                                         -> torn: the log ends at the last whole group
//! ```
//!
//! Layer: log. Uses `storage`, `format`. Knows nothing of topics; writes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::damage::Damage;
use super::evidence::{Straggler, stragglers};
use super::indexes::{self, Indexes};
use super::meta::{BlockMeta, Sink};
use super::segment::{Segment, file_name, parse_file_name};
use super::superblock::{Found, SuperblockFile};
use super::tail::Tail;
use super::walk::{SegmentMap, Walker, Window};
use super::{IDX, QUARANTINE, WAL};
use crate::format::base::{BASE_BYTES_MAX, Base};
use crate::format::block::{ENVELOPE_BYTES, peek_position};
use crate::format::field::is_zero;
use crate::format::index::SegmentIndex;
use crate::format::superblock::{Fence, FenceReason, Hint, Role, Superblock};
use crate::format::{Corrupt, segment::HEADER_BYTES};
use crate::ids::{Chain, SegmentNo};
use crate::lsn::{Lsn, Position};
use crate::storage::{self, Disk};

/// Why a folder cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Something durable is damaged; nothing was changed.
    #[error("the log is damaged: {0}")]
    Damaged(Damage),
    /// Neither slot of the superblock is sound, though there are segments; nothing was changed.
    #[error("the superblock is damaged (slot 0: {first}; slot 1: {second}), so where the log ends cannot be told")]
    SuperblockDamaged {
        /// What is wrong with slot 0.
        first: String,
        /// What is wrong with slot 1.
        second: String,
    },
    /// A small file is damaged; nothing was changed.
    #[error("the file `{file}` is damaged: {reason}")]
    FileDamaged {
        /// Its name in the folder.
        file: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process has the folder.
    #[error("the folder is in use by another process: {0}")]
    Locked(storage::Error),
    /// The folder belongs to the other role.
    #[error("this is a {is}'s folder")]
    Role {
        /// What the folder is for.
        is: &'static str,
    },
    /// There is no log in the folder, and none was to be made.
    #[error("there is no log in this folder")]
    NoLog,
    /// The folder holds another log.
    #[error("the folder holds log {here}, not log {wanted}")]
    OtherLog {
        /// The log that is here.
        here: crate::ids::LogId,
        /// The log that was asked for.
        wanted: crate::ids::LogId,
    },
    /// Written by a version that knows more than this one; nothing was changed.
    #[error("the folder was written by a newer version of this program: {what}")]
    Newer {
        /// What was not understood.
        what: String,
    },
    /// A folder, a read or a write failed.
    #[error(transparent)]
    Storage(storage::Error),
    /// The first block of a reign could not be committed.
    #[error("the log took no writes: {reason}")]
    Halted {
        /// Why.
        reason: String,
    },
}

impl From<storage::Error> for OpenError {
    fn from(error: storage::Error) -> OpenError {
        if error.is_locked() { OpenError::Locked(error) } else { OpenError::Storage(error) }
    }
}

/// A folder as it was found.
pub(crate) struct Recovered {
    pub(crate) superblock: SuperblockFile,
    pub(crate) segments: SegmentMap,
    /// Segment files whose header cannot be read, and why.
    pub(crate) broken: Vec<(SegmentNo, Corrupt)>,
    /// Segments that lie before the base: given away, but not gone when the process ended.
    pub(crate) given_away: Vec<SegmentNo>,
    /// The end of the last whole group.
    pub(crate) tail: Tail,
    /// Where the chain ends: behind blocks of a group that is not whole, if there are any.
    pub(crate) end: Tail,
    /// The folder was closed in order: there is nothing behind the tail.
    pub(crate) clean: bool,
    /// Self-consistent blocks behind the tail.
    pub(crate) stragglers: Vec<Straggler>,
    /// What was durable and is not there, if anything.
    pub(crate) damage: Option<Damage>,
    /// The blocks of the segment that the tail lies in.
    pub(crate) last_segment: LastSegment,
    /// Full segments without an index that covers them.
    pub(crate) unindexed: Vec<Arc<Segment>>,
}

/// What is known of the segment that is written next: its index is made from it once it is full.
#[derive(Debug)]
pub(crate) struct LastSegment {
    pub(crate) blocks: Vec<BlockMeta>,
    /// The chain before the first of them.
    pub(crate) prev_chain: Chain,
    /// It has an index that was believed.
    pub(crate) is_indexed: bool,
}

/// Blocks on their way into the log: whole groups go to the sink and to their segments.
struct Gathering<'a> {
    segments: &'a SegmentMap,
    sink: &'a dyn Sink,
    hint: Hint,
    /// Behind the last block, and behind the last whole group.
    at: Tail,
    tail: Tail,
    hint_disagrees: bool,
    group: Vec<BlockMeta>,
    /// The published blocks of the last segment, and the chain before them.
    last: Vec<BlockMeta>,
    before_last: Chain,
}

impl<'a> Gathering<'a> {
    fn new(segments: &'a SegmentMap, sink: &'a dyn Sink, start: Tail, hint: Hint) -> Gathering<'a> {
        let hint_disagrees = start.lsn == hint.lsn && start.chain != hint.chain;
        let (at, tail, before_last) = (start, start, start.chain);
        Gathering { segments, sink, hint, at, tail, hint_disagrees, group: Vec::new(), last: Vec::new(), before_last }
    }

    fn take(&mut self, block: BlockMeta) {
        let position = Position::new(block.position.segment(), block.position.offset() + block.total_len);
        self.at = Tail { position, lsn: block.lsn.next(), chain: block.chain, ts_ns: block.ts_ns };
        self.hint_disagrees |= self.at.lsn == self.hint.lsn && self.at.chain != self.hint.chain;
        let ends_group = block.remaining == 0;
        self.group.push(block);
        if !ends_group {
            return;
        }
        publish(self.segments, self.sink, &self.group);
        self.tail = self.at;
        for block in self.group.drain(..) {
            if let Some(before) = self.last.last()
                && before.position.segment() != block.position.segment()
            {
                self.before_last = before.chain;
                self.last.clear();
            }
            self.last.push(block);
        }
    }
}

/// What a folder has before anybody reads its blocks.
pub(crate) enum Contents {
    /// Nothing of a log, or the rest of an interrupted creation.
    Empty,
    /// A log.
    Log(Box<Parts>),
}

/// The parts of a log, flushed and opened.
pub(crate) struct Parts {
    pub(crate) superblock: SuperblockFile,
    both_slots_sound: bool,
    segments: SegmentMap,
    broken: Vec<(SegmentNo, Corrupt)>,
    given_away: Vec<SegmentNo>,
    indexes: Indexes,
    /// The log is believed as far as they go.
    believes_indexes: bool,
    pub(crate) base: Base,
}

/// Flushes what is there, and opens it. Logs of more than `check_bytes_max` are believed as far as their indexes go; shorter ones, with
/// `u64::MAX` all, are read from their beginning.
pub(crate) fn open_parts(disk: &Disk, check_bytes_max: u64) -> Result<Contents, OpenError> {
    // The indexes' too: a process that was killed may have removed one without a flush, and it must not come back later.
    for folder in ["", WAL, QUARANTINE, IDX] {
        match disk.flush_folder(folder) {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
    }
    let numbers: Vec<_> = disk.list(WAL)?.iter().filter_map(|name| parse_file_name(name)).collect();
    let base = disk.read_small("base", BASE_BYTES_MAX)?;
    let (superblock, both_slots_sound) = match SuperblockFile::open(disk)? {
        Found::Sound { file, both_sound } => (file, both_sound),
        Found::Nothing(slots) => return without_superblock(slots, numbers.is_empty() && base.is_none()),
    };
    let base = parse_base(base.as_deref(), &superblock.now)?;
    let (mut segments, mut broken) = (SegmentMap::new(), Vec::new());
    let (given_away, numbers): (Vec<_>, Vec<_>) =
        numbers.into_iter().partition(|number| *number < base.first_position.segment());
    let (mut indexes, mut believes_indexes) = (Indexes::new(), false);
    if check_bytes_max < u64::MAX {
        indexes = indexes::load(disk, superblock.now.log_id, &superblock.now.fences)?;
        believes_indexes = bytes_of(disk, &numbers)? > check_bytes_max;
    }
    for number in numbers {
        match open_segment(disk, number, &superblock.now, &mut indexes, believes_indexes)? {
            Ok(segment) => {
                if number >= superblock.now.hint.position.segment() {
                    segment.file.flush()?;
                }
                segments.insert(number, Arc::new(segment));
            }
            Err(Corrupt::Newer { what, value }) => {
                return Err(OpenError::Newer { what: format!("{what} {value} in segment {number}") });
            }
            Err(corrupt) => broken.push((number, corrupt)),
        }
    }
    indexes.retain(|number, _| segments.contains_key(number)); // of a segment that is missing, it names nothing
    Ok(Contents::Log(Box::new(Parts {
        superblock,
        both_slots_sound,
        segments,
        broken,
        given_away,
        indexes,
        believes_indexes,
        base,
    })))
}

/// Opens a segment; of those before the last, what their index knows of the header need not be read.
fn open_segment(
    disk: &Disk,
    number: SegmentNo,
    superblock: &Superblock,
    indexes: &mut Indexes,
    believes_indexes: bool,
) -> storage::Result<Result<Segment, Corrupt>> {
    let sealed = number < superblock.hint.position.segment();
    if let Some(index) = indexes.get(&number).filter(|_| sealed && believes_indexes) {
        if let Some(segment) = Segment::open_indexed(disk, index.header)? {
            return Ok(Ok(segment));
        }
        indexes.remove(&number);
    }
    let opened = Segment::open(disk, number, superblock.log_id)?;
    let is_made_of_it = |index: &SegmentIndex| opened.as_ref().is_ok_and(|segment| segment.header == index.header);
    if indexes.get(&number).is_some_and(|index| !is_made_of_it(index)) {
        indexes.remove(&number); // of an earlier use of the file
    }
    Ok(opened)
}

fn bytes_of(disk: &Disk, numbers: &[SegmentNo]) -> storage::Result<u64> {
    numbers.iter().map(|number| disk.open_file(&file_name(*number))?.len()).sum()
}

/// Segments are made only after the superblock is durable, so a folder without both was never finished.
fn without_superblock(slots: [Option<Corrupt>; 2], nothing_else: bool) -> Result<Contents, OpenError> {
    if let Some(Corrupt::Newer { what, value }) = slots[0] {
        return Err(OpenError::Newer { what: format!("{what} {value}") });
    }
    if nothing_else {
        return Ok(Contents::Empty);
    }
    let [first, second] = slots.map(|slot| slot.map_or("missing".to_owned(), |corrupt| corrupt.to_string()));
    Err(OpenError::SuperblockDamaged { first, second })
}

fn parse_base(bytes: Option<&[u8]>, superblock: &Superblock) -> Result<Base, OpenError> {
    match bytes.map(Base::parse) {
        Some(Ok(base)) => Ok(base),
        Some(Err(Corrupt::Newer { what, value })) => Err(OpenError::Newer { what: format!("{what} {value}") }),
        Some(Err(corrupt)) => Err(OpenError::FileDamaged { file: "base", reason: corrupt.to_string() }),
        None => Ok(Base {
            first_lsn: Lsn::FIRST,
            first_position: first_position(superblock.align),
            chain: Chain::START,
            lineage: Vec::new(),
            topics: Vec::new(),
        }),
    }
}

/// Where the first block of every log goes.
pub(crate) fn first_position(align: u32) -> Position {
    Position::new(SegmentNo::new(1), align.max(HEADER_BYTES as u32))
}

impl Parts {
    /// The place where the log begins.
    fn start(&self) -> Tail {
        let Base { first_position, first_lsn, chain, .. } = self.base;
        Tail { position: first_position, lsn: first_lsn, chain, ts_ns: 0 }
    }

    /// Walks the log and judges its end. Whole groups go to `sink`, and to their segments.
    ///
    /// # Errors
    /// When a read fails, or a block was written by a newer version. Damage is not an error here: it is in the answer.
    pub(crate) fn recover(mut self, sink: &dyn Sink) -> Result<Recovered, OpenError> {
        let indexes = std::mem::take(&mut self.indexes);
        let sb = &self.superblock.now;
        let clean = sb.clean && self.both_slots_sound;
        let mut gathering = Gathering::new(&self.segments, sink, self.start(), sb.hint);
        let mut indexed = BTreeMap::new();
        for (number, index) in indexes {
            let last = index.blocks.last().map_or(Lsn::FIRST, |last| last.lsn);
            if !self.believes_indexes {
                indexed.insert(number, last);
            } else if let Some(blocks) = index.into_blocks_from(&gathering.at) {
                indexed.insert(number, last);
                blocks.into_iter().for_each(|block| gathering.take(block));
            }
        }
        let mut walker = Walker::new(&self.segments, &sb.fences, gathering.at);
        let why = loop {
            if clean && walker.at.lsn >= sb.hint.lsn {
                break None;
            }
            match walker.step()? {
                Ok(view) => {
                    gathering.take(BlockMeta::of(&view.portable, view.envelope.position, view.total_len));
                }
                Err(corrupt) => break Some(corrupt),
            }
        };
        let Gathering { tail, at: end, hint_disagrees, last, before_last, .. } = gathering;
        let unindexed = self.unindexed(&indexed, &tail);
        if let Some(Corrupt::Newer { what, value }) = why {
            return Err(OpenError::Newer { what: format!("{what} {value} at {} (lsn {})", end.position, end.lsn) });
        }
        let stragglers =
            if clean { Vec::new() } else { stragglers(&self.segments, &sb.fences, &sb.hint, tail.position)? };
        let damage = if hint_disagrees {
            let reason = format!("the history up to lsn {} is not the one that the superblock recorded", sb.hint.lsn);
            Some(Damage::at(sb.hint.position, sb.hint.lsn, reason))
        } else {
            match why {
                Some(why) => self.judge(&tail, &end, why, &stragglers)?,
                None => None,
            }
        };
        let last_is_indexed = self.believes_indexes && indexed.contains_key(&tail.position.segment());
        let last_segment = LastSegment { blocks: last, prev_chain: before_last, is_indexed: last_is_indexed };
        let Parts { superblock, segments, broken, given_away, .. } = self;
        Ok(Recovered {
            superblock,
            segments,
            broken,
            given_away,
            tail,
            end,
            clean,
            stragglers,
            damage,
            last_segment,
            unindexed,
        })
    }

    /// Full segments that an open would have to read again the next time.
    fn unindexed(&self, indexed: &BTreeMap<SegmentNo, Lsn>, tail: &Tail) -> Vec<Arc<Segment>> {
        let full = self.segments.range(..tail.position.segment()).map(|(_, segment)| segment);
        let is_unindexed = |segment: &&Arc<Segment>| {
            let last = segment.last_lsn();
            last.is_some() && indexed.get(&segment.number()) != last.as_ref()
        };
        full.filter(is_unindexed).cloned().collect()
    }

    /// Torn or damaged: docs/FORMAT.md#torn-or-damaged
    fn judge(
        &self,
        tail: &Tail,
        end: &Tail,
        why: Corrupt,
        stragglers: &[Straggler],
    ) -> Result<Option<Damage>, OpenError> {
        let missing = end.lsn;
        let hint = self.superblock.now.hint.lsn;
        let witness = stragglers.iter().find(|block| !block.fenced && block.durable_lsn > missing);
        let evidence = if hint > missing {
            format!("the superblock records everything below lsn {hint} as durable")
        } else if tail.lsn == self.base.first_lsn && tail.lsn > Lsn::FIRST && !self.is_given_up(tail) {
            // A log always keeps a group that was durable when the base was written.
            format!("the base says that the log begins with lsn {}", tail.lsn)
        } else {
            let Some(Straggler { position, durable_lsn, .. }) = witness else { return Ok(None) };
            format!("the block at {position} was written when everything below lsn {durable_lsn} was durable")
        };
        let position = self.damaged_position(end)?;
        let why = match self.broken.iter().find(|(number, _)| *number == position.segment()) {
            Some((_, header)) => *header,
            None => why,
        };
        Ok(Some(Damage::at(position, missing, format!("{why}; {evidence}"))))
    }

    /// Whether somebody has accepted that nothing is left of the log from `tail` on.
    fn is_given_up(&self, tail: &Tail) -> bool {
        let mut fences = self.superblock.now.fences.iter();
        fences.any(|fence| {
            fence.reason == FenceReason::LossAccepted && fence.cut == tail.position && fence.cut_lsn == tail.lsn
        })
    }

    /// Where the missing block should lie: at the end of the chain, or, when nothing was ever written there, at the start of the
    /// next segment.
    fn damaged_position(&self, end: &Tail) -> Result<Position, OpenError> {
        let here = end.position;
        let next = self.segments.keys().chain(self.broken.iter().map(|(number, _)| number));
        let Some(next) = next.filter(|number| **number > here.segment()).min() else { return Ok(here) };
        let start_of_next = Position::new(*next, first_position(self.superblock.now.align).offset());
        let Some(segment) = self.segments.get(&here.segment()) else { return Ok(start_of_next) };
        // Behind the blocks of a packed segment less room may be left than any block needs.
        if segment.header.blocks_end().saturating_sub(here.offset()) < ENVELOPE_BYTES as u32 {
            return Ok(start_of_next);
        }
        let mut window = Window::new(&self.segments);
        let envelope = &window.load(segment, here.offset(), ENVELOPE_BYTES)?[..ENVELOPE_BYTES];
        // A recycled segment is not zeroed: what lies there may be another segment's, and prove nothing.
        let untouched = is_zero(envelope) || segment.header.generation > 0 && peek_position(envelope) != here;
        let hint = self.superblock.now.hint.position;
        let recorded = hint.segment() == here.segment() && hint > here;
        let lost_here = !untouched || recorded || self.goes_on_behind(segment, end, start_of_next)?;
        Ok(if lost_here { here } else { start_of_next })
    }

    /// Whether a later block lies behind the end in this segment, or begins the next: then the zeros at the end are a lost write, and
    /// the block that is missing should be there.
    fn goes_on_behind(&self, segment: &Segment, end: &Tail, start_of_next: Position) -> Result<bool, OpenError> {
        let mut window = Window::new(&self.segments);
        let offsets =
            (end.position.offset()..segment.header.blocks_end()).step_by(segment.header.block_align() as usize);
        let here = offsets.map(|offset| (segment, Position::new(segment.number(), offset)));
        let next = self.segments.get(&start_of_next.segment()).map(|next| (&**next, start_of_next));
        for (segment, position) in here.chain(next) {
            if let Ok(view) = window.block(segment, position)? {
                let dead =
                    self.superblock.now.fences.iter().any(|fence| fence.kills(position, view.envelope.incarnation));
                if !dead && view.portable.head.lsn > end.lsn {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// Makes a whole group part of the log in memory.
pub(crate) fn publish(segments: &SegmentMap, sink: &dyn Sink, group: &[BlockMeta]) {
    for block in group {
        segments[&block.position.segment()].publish(block);
    }
    sink.publish(group);
}

impl Recovered {
    /// Refuses a folder of the other role.
    pub(crate) fn expect_role(&self, wanted: Role) -> Result<(), OpenError> {
        match self.superblock.now.role {
            Some(role) if role != wanted => Err(OpenError::Role { is: role.name() }),
            _ => Ok(()),
        }
    }

    /// The fences in force.
    pub(crate) fn fences(&self) -> &[Fence] {
        &self.superblock.now.fences
    }
}
