//! What is remembered of a block when its bytes are let go: enough for every index that is derived from the log.
//!
//! Layer: log. Topic ids are opaque numbers here.

use crate::format::base::BaseTopic;
use crate::format::block::{Kind, PortableView};
use crate::format::control::Reign;
use crate::ids::{Chain, TopicId};
use crate::lsn::{Lsn, Position};

/// Consecutive entries of one topic that begin in one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) topic: TopicId,
    pub(crate) first_offset: u64,
    pub(crate) entries: u32,
}

/// One block of the log.
#[derive(Clone, Debug)]
pub(crate) struct BlockMeta {
    pub(crate) lsn: Lsn,
    pub(crate) position: Position,
    pub(crate) total_len: u32,
    pub(crate) chain: Chain,
    pub(crate) ts_ns: u64,
    pub(crate) kind: Kind,
    /// The staged batch that it belongs to: its runs count relative to the batch, and wait for a COMMIT.
    pub(crate) txn: Option<Lsn>,
    /// The entries that begin in it, of each topic, in order. Empty for control blocks.
    pub(crate) runs: Vec<Run>,
    /// A control block's body.
    pub(crate) control: Option<Vec<u8>>,
}

impl BlockMeta {
    pub(crate) fn of(view: &PortableView<'_>, position: Position, total_len: u32) -> BlockMeta {
        let (mut runs, mut control) = (Vec::new(), None);
        for entry in view.entries() {
            match view.head.kind {
                Kind::Data if entry.is_first() => extend_runs(&mut runs, entry.topic, entry.offset),
                Kind::Data => {} // it began in an earlier block
                _ => control = Some(entry.payload.to_vec()),
            }
        }
        BlockMeta {
            lsn: view.head.lsn,
            position,
            total_len,
            chain: view.chain,
            ts_ns: view.head.ts_ns,
            kind: view.head.kind,
            txn: view.head.txn,
            runs,
            control,
        }
    }
}

/// Adds one entry to the runs of a block.
pub(crate) fn extend_runs(runs: &mut Vec<Run>, topic: TopicId, offset: u64) {
    match runs.last_mut() {
        Some(run) if run.topic == topic && run.first_offset + u64::from(run.entries) == offset => run.entries += 1,
        _ => runs.push(Run { topic, first_offset: offset, entries: 1 }),
    }
}

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
