//! What is remembered of a block when its bytes are let go: enough for every index that is derived from the log.
//!
//! Layer: format. Topic ids are opaque numbers here.

use super::block::{Kind, PortableView};
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
    /// Bytes on disk, padding included; and of the portable block.
    pub(crate) total_len: u32,
    pub(crate) body_len: u32,
    pub(crate) chain: Chain,
    pub(crate) ts_ns: u64,
    pub(crate) kind: Kind,
    /// Blocks still to come in its atomic group.
    pub(crate) remaining: u32,
    /// The staged batch that it belongs to: its runs count relative to the batch, and wait for a COMMIT.
    pub(crate) txn: Option<Lsn>,
    /// The entries that begin in it, of each topic, in order. Empty for control blocks.
    pub(crate) runs: Vec<Run>,
    /// A control block's body.
    pub(crate) control: Option<Vec<u8>>,
}

impl BlockMeta {
    /// How many entries begin in it.
    pub(crate) fn n_entries(&self) -> u32 {
        self.runs.iter().map(|run| run.entries).sum()
    }

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
            body_len: view.bytes().len() as u32,
            chain: view.chain,
            ts_ns: view.head.ts_ns,
            kind: view.head.kind,
            remaining: view.head.remaining,
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
