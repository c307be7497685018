//! Whoever derives something from the log, and what it is told.
//!
//! Layer: log. Topic ids are opaque numbers here.

use crate::format::base::BaseTopic;
use crate::format::control::Reign;
pub(crate) use crate::format::meta::{BlockMeta, Run};
use crate::lsn::Lsn;

/// What the log's own topic had said, and how far each topic went, where a block lies: what a base holds.
#[derive(Clone, Debug)]
pub(crate) struct Past {
    /// Every reign that began before it.
    pub(crate) lineage: Vec<Reign>,
    /// Every topic that was defined before it, with the offset of its first entry at or behind it.
    pub(crate) topics: Vec<BaseTopic>,
}

/// Whoever derives something from the log, when the log is to begin later: docs/FORMAT.md#base
pub(crate) trait Remembers: Send + Sync {
    /// What there was before `lsn`, the first block of a published group.
    fn before(&self, lsn: Lsn) -> Past;

    /// The first block of a staged batch that would not be whole if the log began at `lsn`: one that lies across it, or has no COMMIT yet.
    fn batch_across(&self, lsn: Lsn) -> Option<Lsn>;

    /// The log begins at `lsn` from now on. Called before the blocks below become unreadable.
    fn forget_below(&self, lsn: Lsn);
}

/// Whoever derives something from the log: told of whole atomic groups, in order, once they are part of it.
pub(crate) trait Sink: Send + Sync {
    /// These blocks, which end with a whole group, are now part of the log.
    fn publish(&self, blocks: &[BlockMeta]);
}
