//! Block numbers and places on disk, as types that cannot be mixed up.
//!
//! Layer 0. Uses std. Knows nothing of files, blocks or topics.

use std::fmt;

use crate::ids::SegmentNo;

/// The number of a block in the node's one log: +1 per block, from 1.
///
/// As a watermark or a tail it is exclusive: "durable LSN 5" means that blocks 1 to 4 are durable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(u64);

impl Lsn {
    /// The first block of every log.
    pub const FIRST: Lsn = Lsn(1);

    /// An LSN from its number, as a user types it or a peer sends it.
    pub const fn new(number: u64) -> Lsn {
        Lsn(number)
    }

    /// The plain number, for printing and for bytes on disk.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The LSN behind this one.
    ///
    /// # Panics
    /// After 2^64 blocks, which no log reaches.
    #[must_use]
    pub const fn next(self) -> Lsn {
        self.plus(1)
    }

    /// The LSN `blocks` further on.
    ///
    /// # Panics
    /// When it would pass 2^64: callers bound `blocks` before.
    #[must_use]
    pub const fn plus(self, blocks: u64) -> Lsn {
        match self.0.checked_add(blocks) {
            Some(number) => Lsn(number),
            None => panic!("LSN overflow"),
        }
    }

    /// How many blocks lie in `[earlier, self)`; 0 when `earlier` is not earlier.
    pub const fn blocks_since(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lsn {}", self.0)
    }
}

/// Where a block lies on this node's disk, `seg_no << 32 | offset`: docs/FORMAT.md#positions
///
/// Positions order like the log does: a later segment has the higher number. They are local and never shipped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

impl Position {
    /// The place `offset` bytes into segment `segment`.
    pub const fn new(segment: SegmentNo, offset: u32) -> Position {
        Position((segment.get() as u64) << 32 | offset as u64)
    }

    /// A position as it stands on disk. Every u64 is one; whether a segment is there is the reader's question.
    pub const fn from_bits(bits: u64) -> Position {
        Position(bits)
    }

    /// The number that stands on disk.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The segment it lies in.
    pub const fn segment(self) -> SegmentNo {
        SegmentNo::new((self.0 >> 32) as u32)
    }

    /// Bytes from the start of that segment's file.
    pub const fn offset(self) -> u32 {
        self.0 as u32
    }

    /// The place `bytes` further in the same segment, or `None` past 4 GiB.
    pub fn checked_add(self, bytes: u32) -> Option<Position> {
        let offset = self.offset().checked_add(bytes)?;
        Some(Position::new(self.segment(), offset))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {} offset {}", self.segment(), self.offset())
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_keeps_segment_and_offset_and_orders_by_segment_first() {
        let early = Position::new(SegmentNo::new(1), u32::MAX);
        let late = Position::new(SegmentNo::new(2), 0);
        assert!(early < late);
        assert_eq!((early.segment().get(), early.offset()), (1, u32::MAX));
        assert_eq!(early.checked_add(1), None);
        assert_eq!(Position::from_bits(late.bits()), late);
    }
}
