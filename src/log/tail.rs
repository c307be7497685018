//! The end of the log: where the next block goes, and what it follows.
//!
//! Layer: log. Knows nothing of how it moves.

use crate::format::superblock::Hint;
use crate::ids::Chain;
use crate::lsn::{Lsn, Position};

/// A place between two blocks. Copied and planned on freely: it becomes the log's tail only when it is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    /// Where the next block goes if the segment has room for it.
    pub(crate) position: Position,
    /// The next block's LSN (exclusive end).
    pub(crate) lsn: Lsn,
    /// The chain of the block before.
    pub(crate) chain: Chain,
    /// The time of the block before; time never runs backwards in a log.
    pub(crate) ts_ns: u64,
}

impl Tail {
    /// The same place as the superblock records it.
    pub(crate) fn hint(&self) -> Hint {
        Hint { position: self.position, lsn: self.lsn, chain: self.chain }
    }
}
