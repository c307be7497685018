//! Following the log from a place: docs/FORMAT.md#following-the-log
//!
//! Take the block at P if its envelope is sound under this segment's salt, position, LSN and previous chain are as expected,
//! no fence kills it, chain and payload sums hold. If not, try the resume of the fences with cut = P, newest first, then the
//! first block of the next segment. None: the chain ends at P.
//!
//! Reads past the page cache, so what it finds is on the device.
//!
//! Layer: log. Knows nothing of what the end means.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::segment::Segment;
use super::tail::Tail;
use crate::format::Corrupt;
use crate::format::block::{BlockView, ENVELOPE_BYTES, peek_total_len};
use crate::format::superblock::Fence;
use crate::ids::SegmentNo;
use crate::limits::{ALIGN_MAX, BLOCK_BYTES_MAX};
use crate::lsn::Position;
use crate::storage::{self, AlignedBuf};

/// The segments of a log by number.
pub(crate) type SegmentMap = BTreeMap<SegmentNo, Arc<Segment>>;

/// Bytes read at a time. Large enough for the device's bandwidth, and for the largest block.
const WINDOW_BYTES: usize = 4 << 20;

const _: () = assert!(WINDOW_BYTES >= BLOCK_BYTES_MAX);

/// A piece of a segment in memory, read directly.
pub(crate) struct Window {
    buffer: AlignedBuf,
    segment: Option<SegmentNo>,
    start: u32,
    len: usize,
}

impl Window {
    /// A window as large as these segments can use.
    pub(crate) fn new(segments: &SegmentMap) -> Window {
        Window::of_bytes(segments, WINDOW_BYTES as u32)
    }

    /// One that reads about so many bytes at a time, and any block of up to that size.
    pub(crate) fn of_bytes(segments: &SegmentMap, bytes: u32) -> Window {
        let largest = segments.values().map(|segment| segment.header.bytes as usize).max().unwrap_or(BLOCK_BYTES_MAX);
        let align = segments.values().map(|segment| segment.header.align as usize).max().unwrap_or(ALIGN_MAX);
        // In a packed segment a block begins and ends within a sector.
        let bytes = bytes as usize + 2 * align;
        let bytes = bytes.next_multiple_of(align).min(largest);
        Window { buffer: AlignedBuf::new(bytes), segment: None, start: 0, len: 0 }
    }

    /// The bytes from `offset` on: `need` of them, or as many as the segment has room for blocks.
    pub(crate) fn load(&mut self, segment: &Segment, offset: u32, need: usize) -> storage::Result<&[u8]> {
        let blocks_end = segment.header.blocks_end();
        let need = need.min(blocks_end.saturating_sub(offset) as usize);
        let here = self.segment == Some(segment.number()) && offset >= self.start;
        let skip = offset.saturating_sub(self.start) as usize;
        if here && skip + need <= self.len {
            return Ok(&self.buffer[skip..self.len]);
        }
        // In a packed segment a block begins anywhere; a direct read does not.
        let start = offset - offset % segment.header.align;
        let len = (blocks_end.saturating_sub(start) as usize).min(self.buffer.len());
        self.segment = None; // nothing is in the window if the read fails
        segment.file.read_direct(&mut self.buffer, start.into(), len)?;
        (self.segment, self.start, self.len) = (Some(segment.number()), start, len);
        Ok(&self.buffer[((offset - start) as usize).min(len)..len])
    }

    /// The whole block at `position` if it is sound, payload sums too.
    pub(crate) fn block(
        &mut self,
        segment: &Segment,
        position: Position,
    ) -> storage::Result<Result<BlockView<'_>, Corrupt>> {
        let view = self.header(segment, position)?;
        Ok(view.and_then(|view| view.portable.verify_payloads().map(|()| view)))
    }

    /// The same, its payload sums left out.
    fn header(&mut self, segment: &Segment, position: Position) -> storage::Result<Result<BlockView<'_>, Corrupt>> {
        let (align, offset) = (segment.header.block_align(), position.offset());
        if !offset.is_multiple_of(align) || offset < segment.header.first_block_offset() {
            return Ok(Err(Corrupt::field("no block begins at this offset", 0)));
        }
        let head = self.load(segment, offset, ENVELOPE_BYTES)?;
        let total_len = match peek_total_len(head, align as usize) {
            Ok(total_len) => total_len,
            Err(corrupt) => return Ok(Err(corrupt)),
        };
        let bytes = self.load(segment, offset, total_len)?;
        Ok(BlockView::parse(bytes, &segment.place(position)))
    }
}

/// Follows the log block by block.
pub(crate) struct Walker<'a> {
    segments: &'a SegmentMap,
    fences: &'a [Fence],
    window: Window,
    /// The place behind the last block taken.
    pub(crate) at: Tail,
}

impl<'a> Walker<'a> {
    pub(crate) fn new(segments: &'a SegmentMap, fences: &'a [Fence], from: Tail) -> Walker<'a> {
        Walker { segments, fences, window: Window::new(segments), at: from }
    }

    /// The next block, or why there is none at the place where it should be.
    pub(crate) fn step(&mut self) -> storage::Result<Result<BlockView<'_>, Corrupt>> {
        let mut why = None;
        for position in self.candidates() {
            match self.try_take(position)? {
                Ok(segment) => {
                    let segment = &self.segments[&segment];
                    // Sound a moment ago and still in the window: this only lends it out, and sums no payload again.
                    let view = self.window.header(segment, position)?.expect("the window holds what was just checked");
                    self.at = behind(&view);
                    return Ok(Ok(view));
                }
                Err(corrupt) => why = why.or(Some(corrupt)),
            }
        }
        Ok(Err(why.unwrap_or(Corrupt::field("no such segment", 0))))
    }

    /// The places where the next block may be, in the order of the format.
    fn candidates(&self) -> Vec<Position> {
        let here = self.at.position;
        let resumes = self.fences.iter().rev().filter(|fence| fence.cut == here && fence.resume != here);
        let next = self.segments.range(here.segment().next()..).next().map(|(_, segment)| segment.start());
        let mut candidates = vec![here];
        candidates.extend(resumes.map(|fence| fence.resume));
        candidates.extend(next);
        candidates
    }

    /// Whether the block at `position` is the next one of the log.
    fn try_take(&mut self, position: Position) -> storage::Result<Result<SegmentNo, Corrupt>> {
        let Some(segment) = self.segments.get(&position.segment()) else {
            return Ok(Err(Corrupt::field("no such segment", 0)));
        };
        let view = match self.window.block(segment, position)? {
            Ok(view) => view,
            Err(corrupt) => return Ok(Err(corrupt)),
        };
        let (head, incarnation) = (&view.portable.head, view.envelope.incarnation);
        let verdict = if self.fences.iter().any(|fence| fence.kills(position, incarnation)) {
            Err(Corrupt::field("a fence has cut this block off", 4))
        } else if head.lsn != self.at.lsn {
            Err(Corrupt::field("another block's LSN", 48))
        } else if head.prev_chain != self.at.chain {
            Err(Corrupt::field("another history's block", 64))
        } else {
            Ok(position.segment())
        };
        Ok(verdict)
    }
}

/// The place behind a block.
pub(crate) fn behind(view: &BlockView<'_>) -> Tail {
    let position = view.envelope.position;
    Tail {
        position: position.checked_add(view.total_len).expect("a parsed block lies within its segment"),
        lsn: view.portable.head.lsn.next(),
        chain: view.portable.chain,
        ts_ns: view.portable.head.ts_ns,
    }
}
