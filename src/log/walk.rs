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

/// Bytes of a window: a huge page, and room for the largest block.
const WINDOW_BYTES: usize = 2 << 20;

/// Bytes read at a time: enough for the device's bandwidth; with more it gives less (docs/decisions/0008).
const READ_BYTES: usize = 1 << 20;

const _: () = assert!(WINDOW_BYTES >= BLOCK_BYTES_MAX + 2 * ALIGN_MAX && WINDOW_BYTES >= READ_BYTES + ALIGN_MAX);

/// A piece of a segment in memory, read directly.
pub(crate) struct Window {
    buffer: AlignedBuf,
    /// At a time, where no more is needed.
    read_bytes: usize,
    segment: Option<SegmentNo>,
    start: u32,
    len: usize,
}

impl Window {
    /// A window as large as these segments can use.
    pub(crate) fn new(segments: &SegmentMap) -> Window {
        Window::of(segments, WINDOW_BYTES, READ_BYTES)
    }

    /// One that reads about so many bytes at a time, and any block of up to that size.
    pub(crate) fn of_bytes(segments: &SegmentMap, bytes: u32) -> Window {
        let align = segments.values().map(|segment| segment.header.align as usize).max().unwrap_or(ALIGN_MAX);
        // In a packed segment a block begins and ends within a sector.
        let bytes = (bytes as usize + 2 * align).next_multiple_of(align);
        Window::of(segments, bytes, bytes)
    }

    fn of(segments: &SegmentMap, bytes: usize, read_bytes: usize) -> Window {
        let largest = segments.values().map(|segment| segment.header.bytes as usize).max().unwrap_or(BLOCK_BYTES_MAX);
        Window { buffer: AlignedBuf::new(bytes.min(largest)), read_bytes, segment: None, start: 0, len: 0 }
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
        let wanted = ((offset - start) as usize + need).next_multiple_of(segment.header.align as usize);
        let len = wanted.max(self.read_bytes).min(blocks_end.saturating_sub(start) as usize).min(self.buffer.len());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::segment::SegmentHeader;
    use crate::ids::LogId;
    use crate::log::WAL;
    use crate::log::segment::prepare;
    use crate::storage::Haste;
    use crate::storage::{Access, sim::SimDisk};

    #[test]
    fn wherever_and_however_much_is_asked_for_the_bytes_are_those_of_the_segment() {
        const BYTES: u32 = 256 << 10;
        let disk = SimDisk::new(1).open(Access::Write).unwrap();
        disk.make_folder(WAL).unwrap();
        let (log_id, number) = (LogId::new(1), SegmentNo::new(1));
        let (bytes, salt) = (BYTES.into(), 5);
        let header =
            SegmentHeader { align: 4096, log_id, number, bytes, packed: false, generation: 0, salt, prepared_ts_ns: 0 };
        let segment = prepare(&disk, header, &|| Haste::Full).unwrap();
        let mut content = AlignedBuf::new(BYTES as usize);
        content.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * 31 / 7) as u8);
        segment.file.write_at(&content, BYTES as usize, 0).unwrap();

        let segments = SegmentMap::from([(number, Arc::new(segment))]);
        let segment = &segments[&number];
        for (window_bytes, read_bytes) in [(64 << 10, 8 << 10), (16 << 10, 16 << 10), (1 << 20, 4096)] {
            let mut window = Window::of(&segments, window_bytes, read_bytes);
            let largest = window_bytes.min(BYTES as usize) - 4096;
            let mut offset = 4096;
            for step in (1..).take(400) {
                let need = step * 1_237 % largest;
                let end = (offset as usize + need).min(header.blocks_end() as usize);
                let loaded = window.load(segment, offset, need).unwrap();
                assert!(loaded.len() >= end - offset as usize, "{need} at {offset}: {}", loaded.len());
                assert_eq!(&loaded[..end - offset as usize], &content[offset as usize..end], "{need} at {offset}");
                // Mostly on, as a walk goes, and sometimes back.
                offset = 4096 + (offset + if step % 7 == 0 { 150_000 } else { 2_345 }) % (BYTES - 8192);
            }
        }
    }
}
