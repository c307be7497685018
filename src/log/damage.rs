//! Damage: something durable that is not there any more.
//!
//! Layer: log. Knows nothing of topics.

use crate::ids::SegmentNo;
use crate::lsn::{Lsn, Position};

/// Where durable bytes fail their checks, and how it is known that they were durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub segment: SegmentNo,
    /// Bytes from the start of the segment's file.
    pub file_offset: u32,
    /// The block that should be there.
    pub lsn: Lsn,
    /// What is wrong, and the evidence.
    pub reason: String,
}

impl Damage {
    pub(crate) fn at(position: Position, lsn: Lsn, reason: String) -> Damage {
        Damage { segment: position.segment(), file_offset: position.offset(), lsn, reason }
    }
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Damage { segment, file_offset, lsn, reason } = self;
        write!(f, "segment {segment} (wal/{:016x}.seg), file offset {file_offset}, lsn {lsn}: {reason}", segment.get())
    }
}
