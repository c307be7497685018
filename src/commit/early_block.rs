//! A block whose entries were acknowledged before it was written: docs/FORMAT.md#early
//!
//! Its entries have their offsets and it has its LSN already; all that is left is to put it somewhere.
//!
//! Layer: commit. Uses `format`. Knows nothing of who filled it, nor where it lies.

use bytes::Bytes;

use super::submission::Level;
use super::ticket::Reply;
use crate::format::block::{ENVELOPE_BYTES, EntryIn, entry_flags, portable_len};
use crate::format::early::Record;
use crate::ids::{Epoch, TopicId};
use crate::limits::BLOCK_ENTRIES_MAX;
use crate::log::meta::Run;
use crate::lsn::Lsn;

/// One block that callers have filled.
#[derive(Debug)]
pub(crate) struct EarlyBlock {
    pub(crate) lsn: Lsn,
    /// Where it stands in shared memory; none for one that an open has found there, and that is safe until that open is done with it.
    pub(super) slot: Option<usize>,
    entries: Vec<EarlyEntry>,
    payload_bytes: usize,
    /// Entries that begin in the block before.
    pub(super) before: u32,
    /// The reign that acknowledged it, if it is not this one.
    pub(crate) epoch: Option<Epoch>,
    pub(crate) level: Level,
    pub(crate) reply: Reply,
}

/// A whole entry, with the sum of its payload.
#[derive(Debug)]
pub(super) struct EarlyEntry {
    pub(super) topic: TopicId,
    pub(super) offset: u64,
    pub(super) sum: u64,
    pub(super) payload: Bytes,
}

impl EarlyBlock {
    /// An empty one behind a block in which `before` entries begin.
    pub(super) fn new(lsn: Lsn, slot: Option<usize>, before: u32) -> EarlyBlock {
        let entries = Vec::with_capacity(BLOCK_ENTRIES_MAX);
        EarlyBlock {
            lsn,
            slot,
            entries,
            payload_bytes: 0,
            before,
            epoch: None,
            level: Level::Written,
            reply: Reply::none(),
        }
    }

    /// One that an open has found. It is to be durable before anything is written behind it.
    pub(crate) fn found(lsn: Lsn, epoch: Epoch, entries: Vec<(Record, Bytes)>, reply: Reply) -> EarlyBlock {
        let mut block =
            EarlyBlock { epoch: Some(epoch), level: Level::Durable, reply, ..EarlyBlock::new(lsn, None, 0) };
        for (Record { topic, offset, sum, .. }, payload) in entries {
            block.push(EarlyEntry { topic, offset, sum, payload });
        }
        block
    }

    pub(super) fn push(&mut self, entry: EarlyEntry) {
        self.payload_bytes += entry.payload.len();
        self.entries.push(entry);
    }

    pub(crate) fn n_entries(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// Its entries, as they go into the portable block.
    pub(crate) fn entries(&self) -> impl Iterator<Item = EntryIn<'_>> {
        self.entries.iter().map(|EarlyEntry { topic, offset, sum, payload }| EntryIn {
            topic: *topic,
            offset: *offset,
            flags: entry_flags::WHOLE,
            sum: *sum,
            payload,
        })
    }

    /// What the indexes keep of it.
    pub(crate) fn runs(&self) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for EarlyEntry { topic, offset, .. } in &self.entries {
            match runs.last_mut() {
                Some(run) if run.topic == *topic => run.entries += 1,
                _ => runs.push(Run { topic: *topic, first_offset: *offset, entries: 1 }),
            }
        }
        runs
    }

    /// Whether one more entry fits a block of `block_bytes` on disk.
    pub(super) fn has_room(&self, payload_bytes: usize, block_bytes: usize) -> bool {
        let n = self.entries.len() + 1;
        n <= BLOCK_ENTRIES_MAX && ENVELOPE_BYTES + portable_len(n, self.payload_bytes + payload_bytes) <= block_bytes
    }
}
