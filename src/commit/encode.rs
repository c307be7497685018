//! A block from what was submitted: decided once, encoded as often as it must be written.
//!
//! ```text
//!   BlockShape (what) + Head (LSN, time, chain before) + offsets  =  BlockPlan
//!   BlockPlan + submissions  --encode-->  the same portable bytes, every time
//! ```
//!
//! A group keeps its plans and its submissions until it is durable. So when a write or a flush fails, its blocks can be written
//! again byte for byte without a copy of them having been kept: portable bytes never change, whatever happens to the disk below.
//!
//! Layer: commit. Uses `format`. Knows nothing of places, segments or devices.

use super::early_block::EarlyBlock;
use super::plan::{BlockShape, Content, Piece};
use super::submission::{Append, Payload, Submission};
use crate::format::block::{EntryIn, Head, PortableView, encode_portable, entry_flags};
use crate::format::checksum::payload_sum;
use crate::ids::{Chain, LogId, TopicId};
use crate::log::meta::{BlockMeta, Run};
use crate::lsn::Position;

/// A block with everything decided but where it lies.
pub(crate) struct BlockPlan {
    pub(crate) shape: BlockShape,
    pub(crate) head: Head,
    /// A control block's body.
    pub(crate) control: Option<Vec<u8>>,
}

impl BlockPlan {
    /// Writes the portable block over `out`, which is exactly as long, and returns the chain behind it.
    pub(crate) fn encode(&self, out: &mut [u8], log_id: LogId, taken: &[Submission]) -> Chain {
        match &self.shape.content {
            Content::Entries(pieces) => {
                let entries = pieces.iter().flat_map(|piece| piece.entries(taken));
                encode_portable(out, log_id, &self.head, entries, self.shape.n_entries)
            }
            Content::Verbatim(index, block) => {
                let view = verbatim(taken, *index, *block, log_id);
                out.copy_from_slice(view.bytes());
                view.chain
            }
            Content::Early(index) => {
                let entries = early(taken, *index).entries();
                encode_portable(out, log_id, &self.head, entries, self.shape.n_entries)
            }
            Content::Topic(_) | Content::Reign(_) | Content::EndBatch(_) => {
                let body = self.control.as_deref().expect("a control block has a body");
                let (topic, sum) = (TopicId::CONTROL, payload_sum(body));
                let entry = EntryIn { topic, offset: 0, flags: entry_flags::WHOLE, sum, payload: body };
                encode_portable(out, log_id, &self.head, std::iter::once(entry), 1)
            }
        }
    }

    /// What the indexes keep of it, once it has its chain and its place.
    pub(crate) fn meta(
        &self,
        chain: Chain,
        position: Position,
        total_len: usize,
        taken: &[Submission],
        log_id: LogId,
    ) -> BlockMeta {
        let total_len = total_len as u32;
        let Head { kind, lsn, ts_ns, remaining, txn, .. } = self.head;
        match &self.shape.content {
            Content::Verbatim(index, block) => {
                BlockMeta::of(&verbatim(taken, *index, *block, log_id), position, total_len)
            }
            content => {
                let runs = match content {
                    Content::Entries(pieces) => runs_of(pieces, taken),
                    Content::Early(index) => early(taken, *index).runs(),
                    _ => Vec::new(),
                };
                let control = self.control.clone();
                let body_len = self.shape.portable_len as u32;
                BlockMeta { lsn, position, total_len, body_len, chain, ts_ns, kind, remaining, txn, runs, control }
            }
        }
    }
}

/// A leader's block, as it was submitted.
pub(crate) fn verbatim(taken: &[Submission], index: usize, block: usize, log_id: LogId) -> PortableView<'_> {
    let Submission::Verbatim(verbatim) = &taken[index] else { unreachable!("shaped from blocks") };
    PortableView::parse(&verbatim.blocks[block], log_id).expect("checked before it was queued")
}

/// A block that callers have filled.
pub(crate) fn early(taken: &[Submission], index: usize) -> &EarlyBlock {
    let Submission::Early(block) = &taken[index] else { unreachable!("shaped from an early block") };
    block
}

impl Piece {
    /// The submission that it is cut from.
    pub(crate) fn append<'a>(&self, taken: &'a [Submission]) -> &'a Append {
        let Submission::Append(append) = &taken[self.submission] else { unreachable!("shaped from an append") };
        append
    }

    fn payloads<'a>(&self, taken: &'a [Submission]) -> &'a [Payload] {
        &self.append(taken).payloads[self.payloads.clone()]
    }

    /// Bytes of payload.
    pub(crate) fn bytes(&self, taken: &[Submission]) -> usize {
        self.payloads(taken).iter().map(|payload| payload.bytes.len()).sum()
    }

    /// How many entries begin in it.
    pub(crate) fn n_entries(&self, taken: &[Submission]) -> usize {
        let append = self.append(taken);
        match append.n_entries == append.payloads.len() {
            true => self.payloads.len(),
            false => self.payloads(taken).iter().filter(|payload| payload.begins_an_entry()).count(),
        }
    }

    /// Its entries, with the offsets that were given to them. A fragment that does not begin an entry has the offset of the one
    /// before.
    fn entries<'a>(&self, taken: &'a [Submission]) -> impl Iterator<Item = EntryIn<'a>> + use<'a> {
        let topic = self.append(taken).topic.id().expect("its TOPIC block was planned before");
        let mut next_offset = self.next_offset;
        self.payloads(taken).iter().map(move |payload| {
            next_offset += u64::from(payload.begins_an_entry());
            EntryIn { topic, offset: next_offset - 1, flags: payload.flags, sum: payload.sum, payload: &payload.bytes }
        })
    }
}

fn runs_of(pieces: &[Piece], taken: &[Submission]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for piece in pieces {
        let topic = piece.append(taken).topic.id().expect("its TOPIC block was planned before");
        let entries = piece.n_entries(taken) as u32;
        match runs.last_mut() {
            Some(run) if run.topic == topic => run.entries += entries,
            _ if entries == 0 => {} // it began in an earlier block
            _ => runs.push(Run { topic, first_offset: piece.next_offset, entries }),
        }
    }
    runs
}
