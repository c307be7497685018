//! The index of each segment that is full, so that the next open need not read it.
//!
//! The commit thread hands over what it remembers of durable blocks instead of dropping it; when they go on in the next segment, the index
//! of the one before is written. Segments that were found without an index are read again when there is nothing else to do.
//!
//! Layer: log. Uses `indexes`, `walk`. Knows nothing of topics.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{State, Worker};
use crate::format::index::SegmentIndex;
use crate::ids::{Chain, SegmentNo};
use crate::log::indexes;
use crate::log::meta::BlockMeta;
use crate::log::recovery::LastSegment;
use crate::log::segment::Segment;
use crate::log::tail::Tail;
use crate::log::walk::{SegmentMap, Walker};
use crate::storage;

/// At a clean stop the segment that is not full gets an index if the next open would have to read more than this of it.
const WORTH_AN_INDEX_BYTES: u32 = 1 << 20;

/// Durable blocks that no index names yet, by segment: each is handed on whole, for it may be thousands of them, and the commit thread
/// waits for the lock.
pub(super) struct Unindexed {
    segments: VecDeque<Sealed>,
    /// The chain behind the last of them.
    chain: Chain,
}

/// The blocks of one segment, from the first of them that is known.
pub(super) struct Sealed {
    number: SegmentNo,
    prev_chain: Chain,
    blocks: Vec<BlockMeta>,
}

impl Unindexed {
    pub(super) fn new(last: LastSegment) -> Unindexed {
        let mut unindexed = Unindexed { segments: VecDeque::new(), chain: last.prev_chain };
        unindexed.extend(last.blocks);
        unindexed
    }

    pub(super) fn extend(&mut self, blocks: Vec<BlockMeta>) {
        for block in blocks {
            let (number, prev_chain) = (block.position.segment(), self.chain);
            self.chain = block.chain;
            match self.segments.back_mut() {
                Some(last) if last.number == number => last.blocks.push(block),
                _ => self.segments.push_back(Sealed { number, prev_chain, blocks: vec![block] }),
            }
        }
    }

    /// The blocks of the first segment, if the log has gone on into a later one; with `active`, also if it has not.
    pub(super) fn take_sealed(&mut self, active: bool) -> Option<Sealed> {
        if active || self.segments.len() > 1 { self.segments.pop_front() } else { None }
    }
}

impl State {
    pub(super) fn take_sealed(&mut self) -> Option<Sealed> {
        if self.failed.is_some() { None } else { self.unindexed.take_sealed(false) }
    }
}

impl Worker {
    /// Writes the index of a segment that is full. That it fails, on a full disk say, costs the next open a read.
    pub(super) fn write_index(&mut self, sealed: Sealed) {
        let segments = self.kept.segments.up_to(sealed.number);
        let Some(segment) = segments.last().filter(|segment| segment.number() == sealed.number) else {
            return; // given away meanwhile
        };
        // Never the room that the next spare or the next base needs: an index only saves time.
        if self.want_of_room(self.next_bytes()).is_some() {
            return;
        }
        let Sealed { number, prev_chain, blocks } = sealed;
        let incarnation = self.superblock.now.incarnation;
        let index = SegmentIndex { header: segment.header, incarnation, prev_chain, blocks };
        if indexes::write(&self.disk, &index).is_ok() {
            self.packing.to_look_at.push(number);
        }
    }

    /// What an ordered end leaves for the next open.
    pub(super) fn write_last_indexes(&mut self) {
        loop {
            let sealed = self.shared.lock().unindexed.take_sealed(true);
            let Some(sealed) = sealed else { return };
            let is_last = self.shared.lock().unindexed.segments.is_empty();
            let end = sealed.blocks.last().map_or(0, |block| block.position.offset());
            if !is_last || end > WORTH_AN_INDEX_BYTES {
                self.write_index(sealed);
            }
        }
    }

    /// Reads one segment again that was found without an index.
    pub(super) fn index_one_more(&mut self) {
        let Some(segment) = self.to_index.pop() else { return };
        if let Ok(Some(sealed)) = self.read_again(&segment) {
            self.write_index(sealed);
        }
    }

    fn read_again(&self, segment: &Arc<Segment>) -> storage::Result<Option<Sealed>> {
        let (Some(first), Some(last)) = (segment.first_lsn(), segment.last_lsn()) else { return Ok(None) };
        let Ok(block) = self.kept.segments.block(first) else { return Ok(None) };
        let prev_chain = block.view(self.log_id).head.prev_chain;
        let Some(position) = self.kept.segments.position(first) else { return Ok(None) };
        let one = SegmentMap::from([(segment.number(), Arc::clone(segment))]);
        let mut walker = Walker::new(&one, &[], Tail { position, lsn: first, chain: prev_chain, ts_ns: 0 });
        let mut blocks = Vec::new();
        while walker.at.lsn <= last {
            let Ok(view) = walker.step()? else { return Ok(None) };
            blocks.push(BlockMeta::of(&view.portable, view.envelope.position, view.total_len));
        }
        Ok(Some(Sealed { number: segment.number(), prev_chain, blocks }))
    }
}
