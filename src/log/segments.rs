//! Reading published blocks, by LSN.
//!
//! Through the page cache first: what was written a moment ago is asked for again. A sum that fails there is looked at once more past
//! the cache before it is called damage.
//!
//! Layer: log. Knows nothing of topics; hands out portable blocks.

use std::sync::{Arc, RwLock, RwLockReadGuard};

use bytes::Bytes;

use super::damage::Damage;
use super::meta::BlockMeta;
use super::read_pool::ReadPool;
use super::segment::{Segment, Stretch};
use super::walk::SegmentMap;
use crate::format::Corrupt;
use crate::format::base::Base;
use crate::format::block::{BlockView, PortableView};
use crate::ids::{Chain, LogId, SegmentNo};
use crate::limits::BLOCK_BYTES_MAX;
use crate::lsn::{Lsn, Position};
use crate::storage::{self, AlignedBuf};

/// A portable block in memory, as it is shipped and served. Header and chain are sound.
#[derive(Clone, Debug)]
pub struct PortableBlock {
    /// Its number.
    pub lsn: Lsn,
    /// Blocks still to come in its atomic group.
    pub remaining: u32,
    /// The chain behind it.
    pub chain: Chain,
    /// The block, byte for byte as on every node.
    pub bytes: Bytes,
}

impl PortableBlock {
    /// The block again as a view. It was parsed when it was read.
    pub(crate) fn view(&self, log_id: LogId) -> PortableView<'_> {
        PortableView::parse(&self.bytes, log_id).expect("the bytes are shared and immutable, and were parsed once")
    }
}

/// Why a published block cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlockError {
    /// There is no such block here: not published yet, or taken away by retention.
    #[error("block {0} is not in this log")]
    NotThere(Lsn),
    /// It is there no more.
    #[error("the log is damaged: {0}")]
    Damaged(Damage),
    /// The read failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

/// Where a log begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beginning {
    /// The first block that is still there, or that will be.
    pub(crate) lsn: Lsn,
    /// The chain before it.
    pub(crate) chain: Chain,
}

impl Beginning {
    pub(crate) fn of(base: &Base) -> Beginning {
        Beginning { lsn: base.first_lsn, chain: base.chain }
    }
}

/// The segments with published blocks, and the one that is next.
pub(crate) struct Segments {
    held: RwLock<Held>,
    log_id: LogId,
    pool: ReadPool,
}

struct Held {
    map: SegmentMap,
    beginning: Beginning,
}

impl Segments {
    pub(crate) fn new(map: SegmentMap, log_id: LogId, beginning: Beginning) -> Segments {
        Segments { held: RwLock::new(Held { map, beginning }), log_id, pool: ReadPool::default() }
    }

    fn held(&self) -> RwLockReadGuard<'_, Held> {
        self.held.read().expect("no holder of this lock panics")
    }

    /// Adds a segment that the log goes on into.
    pub(crate) fn add(&self, segment: Arc<Segment>) {
        self.held.write().expect("no holder of this lock panics").map.insert(segment.number(), segment);
    }

    /// Puts the packed form of a segment in its place. Whoever reads the old file reads on.
    pub(crate) fn replace(&self, packed: Arc<Segment>) {
        let mut held = self.held.write().expect("no holder of this lock panics");
        let old = held.map.insert(packed.number(), packed);
        assert!(old.is_some(), "a segment is packed while it is there");
    }

    /// Where the log begins.
    pub(crate) fn beginning(&self) -> Beginning {
        self.held().beginning
    }

    /// Lets the log begin later, in segment `first`. Returns the segments before it, oldest first: no new reader finds them.
    pub(crate) fn begin_at(&self, beginning: Beginning, first: SegmentNo) -> SegmentMap {
        let mut held = self.held.write().expect("no holder of this lock panics");
        assert!(beginning.lsn > held.beginning.lsn, "a log does not get its beginning back");
        held.beginning = beginning;
        let kept = held.map.split_off(&first);
        std::mem::replace(&mut held.map, kept)
    }

    /// The segments up to `last`, oldest first.
    pub(crate) fn up_to(&self, last: SegmentNo) -> Vec<Arc<Segment>> {
        self.held().map.range(..=last).map(|(_, segment)| Arc::clone(segment)).collect()
    }

    /// Makes blocks readable. They are durable, and end with a whole group.
    pub(crate) fn publish(&self, blocks: &[BlockMeta]) {
        let held = self.held();
        for block in blocks {
            held.map[&block.position.segment()].publish(block);
        }
    }

    /// The same for blocks that were readable in earlier segments and were written a second time. In one step: at no time has one of them
    /// no place.
    pub(crate) fn move_here<'a>(&self, blocks: impl Iterator<Item = &'a BlockMeta> + Clone) {
        let held = self.held.write().expect("no holder of this lock panics");
        let Some(first) = blocks.clone().next() else { return };
        for block in blocks {
            held.map[&block.position.segment()].publish(block);
        }
        for (_, segment) in held.map.range(..first.position.segment()) {
            segment.unpublish_from(first.lsn);
        }
    }

    /// The next segment behind `after`, or the first, if the log has gone on into a later one.
    pub(crate) fn full_after(&self, after: Option<SegmentNo>) -> Option<Arc<Segment>> {
        let held = self.held();
        let mut behind = held.map.range(after.map_or(SegmentNo::new(0), SegmentNo::next)..);
        let (_, segment) = behind.next()?;
        behind.next().map(|_| Arc::clone(segment))
    }

    /// The segments from `first` to `last`, both included.
    pub(crate) fn between(&self, first: SegmentNo, last: SegmentNo) -> Vec<Arc<Segment>> {
        self.held().map.range(first..=last).map(|(_, segment)| Arc::clone(segment)).collect()
    }

    /// Bytes of all segment files.
    pub(crate) fn bytes(&self) -> u64 {
        self.held().map.values().map(|segment| segment.header.bytes).sum()
    }

    fn locate(&self, lsn: Lsn, blocks_max: usize, bytes_max: usize) -> Option<(Arc<Segment>, Stretch)> {
        let held = self.held();
        // In the first segment there may be blocks left of a group whose beginning is gone.
        if lsn < held.beginning.lsn {
            return None;
        }
        // From the end: the newest blocks are asked for most.
        let holds = |segment: &&Arc<Segment>| segment.first_lsn().is_some_and(|first| first <= lsn);
        let segment = held.map.values().rev().find(holds)?;
        Some((Arc::clone(segment), segment.locate(lsn, blocks_max, bytes_max)?))
    }

    /// Where block `lsn` lies.
    pub(crate) fn position(&self, lsn: Lsn) -> Option<Position> {
        self.locate(lsn, 1, 0).map(|(segment, stretch)| Position::new(segment.number(), stretch.offset))
    }

    /// The block `lsn`.
    pub(crate) fn block(&self, lsn: Lsn) -> Result<PortableBlock, BlockError> {
        let mut blocks = self.blocks(lsn, 1, 0)?;
        Ok(blocks.swap_remove(0))
    }

    /// Up to `blocks_max` blocks from `from` on, as many as lie together in `bytes_max` bytes of one segment, at least one. One read, which
    /// ends with a block: so those of a reader that goes on follow each other, and the kernel reads ahead for him.
    pub(crate) fn blocks(
        &self,
        from: Lsn,
        blocks_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<PortableBlock>, BlockError> {
        let (segment, stretch) = self.locate(from, blocks_max, bytes_max).ok_or(BlockError::NotThere(from))?;
        let mut buffer = self.pool.take((stretch.end - stretch.offset) as usize);
        segment.file.read_at(&mut buffer, stretch.offset.into())?;
        let bytes = Bytes::from_owner(buffer);

        let (mut blocks, mut at, mut lsn) = (Vec::new(), 0, from);
        while at < bytes.len() {
            let position = Position::new(segment.number(), stretch.offset + at as u32);
            match self.parse(&segment, &bytes, at, position, lsn) {
                Ok((block, total_len)) => {
                    blocks.push(block);
                    at += total_len;
                    lsn = lsn.next();
                }
                Err(Corrupt::Short { .. }) if !blocks.is_empty() => break, // the read ended within it
                Err(corrupt) if blocks.is_empty() => {
                    let block = self.read_again(&segment, &stretch, position, from, corrupt)?;
                    blocks.push(block);
                    break;
                }
                Err(_) => break, // the next call begins with it, and looks again
            }
        }
        Ok(blocks)
    }

    fn parse(
        &self,
        segment: &Segment,
        bytes: &Bytes,
        at: usize,
        position: Position,
        lsn: Lsn,
    ) -> Result<(PortableBlock, usize), Corrupt> {
        let view = BlockView::parse(&bytes[at..], &segment.place(position))?;
        view.portable.verify_payloads()?;
        if view.portable.head.lsn != lsn {
            return Err(Corrupt::field("another block's LSN", 48));
        }
        let range = view.portable_range();
        let block = PortableBlock {
            lsn,
            remaining: view.portable.head.remaining,
            chain: view.portable.chain,
            bytes: bytes.slice(at + range.start..at + range.end),
        };
        Ok((block, view.total_len as usize))
    }

    /// Looks past the page cache at a block that failed its checks.
    fn read_again(
        &self,
        segment: &Segment,
        stretch: &Stretch,
        position: Position,
        lsn: Lsn,
        first: Corrupt,
    ) -> Result<PortableBlock, BlockError> {
        let len = (stretch.block_end - stretch.offset) as usize;
        assert!(len <= BLOCK_BYTES_MAX);
        let align = segment.header.align;
        let (start, end) = (stretch.offset - stretch.offset % align, stretch.block_end.next_multiple_of(align));
        let mut buffer = AlignedBuf::new((end - start) as usize);
        segment.file.read_direct(&mut buffer, start.into(), (end - start) as usize)?;
        let bytes = Bytes::copy_from_slice(&buffer[(stretch.offset - start) as usize..][..len]);
        let parsed = self.parse(segment, &bytes, 0, position, lsn);
        parsed.map(|(block, _)| block).map_err(|_| BlockError::Damaged(Damage::at(position, lsn, first.to_string())))
    }

    pub(crate) fn log_id(&self) -> LogId {
        self.log_id
    }
}
