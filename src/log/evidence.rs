//! What lies behind a place where the log ends: the evidence that tells damage from a torn tail.
//!
//! Two questions are asked of the same pass. Before a log is opened: does any block behind P prove that the block that should
//! be at P was durable? And when it is opened: which blocks there look alive, so that they must be erased?
//!
//! Layer: log. Decides nothing.

use super::segment::Segment;
use super::walk::{SegmentMap, Window};
use crate::format::superblock::{Fence, Hint};
use crate::ids::Incarnation;
use crate::limits::HINT_WINDOW_BYTES;
use crate::lsn::{Lsn, Position};
use crate::storage;

/// A self-consistent block behind the end of the log, at its own position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Straggler {
    pub(crate) position: Position,
    pub(crate) total_len: u32,
    pub(crate) lsn: Lsn,
    pub(crate) incarnation: Incarnation,
    /// What its writer knew to be durable: docs/FORMAT.md#durable-marks
    pub(crate) durable_lsn: Lsn,
    /// An existing fence has cut it off already.
    pub(crate) fenced: bool,
}

/// Every self-consistent block at or behind `from`, at every `align`, up to the window past the hint: nothing is ever written
/// further than that. The way from a fence's cut to its resume does not count.
pub(crate) fn stragglers(
    segments: &SegmentMap,
    fences: &[Fence],
    hint: &Hint,
    from: Position,
) -> storage::Result<Vec<Straggler>> {
    let mut found = Vec::new();
    let mut window = Window::new(segments);
    let past_hint = |at: Position| {
        let between = segments.range(hint.position.segment()..at.segment());
        let bytes: i64 = between.map(|(_, segment)| segment.header.bytes as i64).sum();
        bytes + i64::from(at.offset()) - i64::from(hint.position.offset())
    };
    let jumps = fences.iter().filter(|fence| fence.resume != fence.cut && fence.cut >= hint.position);
    let jumps: Vec<_> = jumps.map(|fence| (fence.resume, past_hint(fence.resume) - past_hint(fence.cut))).collect();
    for (number, segment) in segments.range(hint.position.segment().max(from.segment())..) {
        let skipped: i64 = jumps.iter().filter(|jump| jump.0.segment() <= *number).map(|jump| jump.1).sum();
        let reach = HINT_WINDOW_BYTES as i64 - (past_hint(Position::new(*number, 0)) - skipped);
        let start = if *number == from.segment() { from.offset() } else { 0 };
        search(segment, start, reach, fences, &mut window, &mut found)?;
    }
    Ok(found)
}

/// One segment's share of the search: from offset `start`, not further than offset `reach`.
pub(super) fn search(
    segment: &Segment,
    start: u32,
    reach: i64,
    fences: &[Fence],
    window: &mut Window,
    found: &mut Vec<Straggler>,
) -> storage::Result<()> {
    let header = &segment.header;
    let mut offset = start.max(header.first_block_offset()).next_multiple_of(header.block_align());
    while offset < header.blocks_end() && i64::from(offset) <= reach {
        let position = Position::new(segment.number(), offset);
        if let Ok(view) = window.block(segment, position)? {
            let incarnation = view.envelope.incarnation;
            found.push(Straggler {
                position,
                total_len: view.total_len,
                lsn: view.portable.head.lsn,
                incarnation,
                durable_lsn: view.envelope.durable_lsn,
                fenced: fences.iter().any(|fence| fence.kills(position, incarnation)),
            });
        }
        offset += header.block_align();
    }
    Ok(())
}
