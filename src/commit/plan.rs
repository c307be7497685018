//! The shape of a commit group: which submissions it takes, and how they fall into blocks. Pure.
//!
//! ```text
//!   waiting   a(1) b(1) c(1) | D(600 entries)          | e(1)
//!   blocks    [ a b c ]        [D 256] [D 256] [D 88]    [ e ]
//!   remaining    0                2       1      0         0
//! ```
//!
//! Submissions that fit whole share a block; one that needs several blocks starts a block and shares none, so that an atomic
//! group is a row of blocks of its own: docs/FORMAT.md#atomic-groups. The first entry of a topic that is not in the log yet is
//! preceded by a TOPIC block.
//!
//! Layer: commit. Knows nothing of places, LSNs or offsets: those are given when the group has room.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use super::submission::{Append, Level, Submission, TopicSlot};
use crate::format::block::{payload_bytes_max, portable_len, total_len};
use crate::format::control::{Abort, Commit, Reign, TopicDefinition};
use crate::limits::{BLOCK_BYTES_MAX, BLOCK_ENTRIES_MAX};

/// A group takes no further submission once its blocks have so many bytes: a flush of a megabyte is bandwidth-bound, more in one
/// group would only delay its acknowledgement. A single submission may go beyond, up to `limits::GROUP_BYTES_MAX`.
const GROUP_BYTES_TARGET: usize = 1 << 20;

/// Entries of one submission within one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Which of the group's submissions.
    pub(crate) submission: usize,
    /// Which of its payloads.
    pub(crate) payloads: Range<usize>,
    /// The topic offset of the next entry that begins here. Given when the group has room; 0 before.
    pub(crate) next_offset: u64,
}

/// What goes into a block.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// Entries of one submission, or of several whole ones.
    Entries(Vec<Piece>),
    /// A topic's number and name.
    Topic(Arc<TopicSlot>),
    /// A new reign: which submission.
    Reign(usize),
    /// The end of a staged batch: which submission.
    EndBatch(usize),
    /// A leader's block: which submission, which of its blocks.
    Verbatim(usize, usize),
    /// A block that callers have filled: which submission.
    Early(usize),
}

/// One block to be.
#[derive(Clone, Debug)]
pub(crate) struct BlockShape {
    pub(crate) content: Content,
    pub(crate) n_entries: usize,
    pub(crate) portable_len: usize,
    /// Blocks still to come in its atomic group. Of a leader's block its own header knows.
    pub(crate) remaining: u32,
}

impl BlockShape {
    pub(crate) fn total_len(&self, align: usize) -> usize {
        let len = total_len(self.portable_len, align);
        assert!(len <= BLOCK_BYTES_MAX);
        len
    }
}

/// One commit group to be.
#[derive(Debug, Default)]
pub(crate) struct GroupShape {
    pub(crate) blocks: Vec<BlockShape>,
    /// How many submissions it takes from the front.
    pub(crate) taken: usize,
    /// Somebody in it waits for a flush.
    pub(crate) wants_flush: bool,
}

/// What a block may be on this disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockLimit {
    /// Its length is a multiple of it.
    pub(crate) align: usize,
    /// Its length is at most this: no more than the smallest segment has room for.
    pub(crate) bytes_max: usize,
}

impl BlockLimit {
    /// The limit of a log whose smallest segment has `segment_bytes`.
    pub(crate) fn new(align: usize, segment_bytes: u64) -> BlockLimit {
        let room = segment_bytes - 2 * align as u64;
        BlockLimit { align, bytes_max: BLOCK_BYTES_MAX.min(usize::try_from(room).unwrap_or(usize::MAX)) }
    }

    /// Bytes of payload that a block of `n_entries` can hold.
    pub(crate) fn payload_bytes_max(&self, n_entries: usize) -> usize {
        payload_bytes_max(self.bytes_max, n_entries)
    }
}

/// Shapes a group from the front of what is waiting.
pub(crate) fn shape(waiting: &VecDeque<Submission>, limit: BlockLimit) -> GroupShape {
    let align = limit.align;
    let mut shaper = Shaper::new(limit);
    for (index, submission) in waiting.iter().enumerate() {
        if index > 0 && shaper.bytes(align) + submission.bytes() > GROUP_BYTES_TARGET {
            break;
        }
        shaper.wants_flush |= submission.level() == Level::Durable;
        match submission {
            Submission::Append(append) => shaper.append(index, append),
            Submission::EndBatch(end) => {
                let body_bytes = if end.commit { Commit::BYTES } else { Abort::BYTES };
                shaper.control(Content::EndBatch(index), body_bytes);
            }
            Submission::NewReign(_) => shaper.control(Content::Reign(index), Reign::BYTES),
            Submission::Flush(_) => {}
            Submission::Early(block) => {
                let n = block.n_entries();
                shaper.whole_block(Content::Early(index), n, portable_len(n, block.payload_bytes()), 0);
            }
            Submission::Verbatim(verbatim) => {
                for (block, bytes) in verbatim.blocks.iter().enumerate() {
                    shaper.whole_block(Content::Verbatim(index, block), 0, bytes.len(), 0);
                }
            }
        }
        shaper.taken = index + 1;
    }
    shaper.finish()
}

struct Shaper {
    limit: BlockLimit,
    blocks: Vec<BlockShape>,
    taken: usize,
    wants_flush: bool,
    closed_bytes: usize,
    /// The block that further small submissions may share.
    shared: Vec<Piece>,
    shared_entries: usize,
    shared_bytes: usize,
    /// Topics whose TOPIC block is in this group.
    introduced: HashSet<*const TopicSlot>,
}

impl Shaper {
    fn new(limit: BlockLimit) -> Shaper {
        Shaper {
            limit,
            blocks: Vec::new(),
            taken: 0,
            wants_flush: false,
            closed_bytes: 0,
            shared: Vec::new(),
            shared_entries: 0,
            shared_bytes: 0,
            introduced: HashSet::new(),
        }
    }

    fn append(&mut self, index: usize, append: &Append) {
        if append.topic.id().is_none() && self.introduced.insert(Arc::as_ptr(&append.topic)) {
            let body_bytes = TopicDefinition::bytes(append.topic.name());
            self.control(Content::Topic(Arc::clone(&append.topic)), body_bytes);
        }
        let n = append.payloads.len();
        if append.staging.is_some() || n > BLOCK_ENTRIES_MAX || append.payload_bytes > self.limit.payload_bytes_max(n) {
            self.split(index, append);
            return;
        }
        let entries = self.shared_entries + n;
        if entries > BLOCK_ENTRIES_MAX
            || self.shared_bytes + append.payload_bytes > self.limit.payload_bytes_max(entries)
        {
            self.close_shared();
        }
        self.shared.push(Piece { submission: index, payloads: 0..n, next_offset: 0 });
        self.shared_entries += n;
        self.shared_bytes += append.payload_bytes;
    }

    /// A submission that needs several blocks: a row of its own, counting down. A part of a staged batch has blocks that are groups
    /// of their own, since it is their COMMIT that makes them one.
    fn split(&mut self, index: usize, append: &Append) {
        self.close_shared();
        let first = self.blocks.len();
        let (mut start, mut bytes) = (0, 0);
        for (i, payload) in append.payloads.iter().enumerate() {
            let n = i - start;
            if n == BLOCK_ENTRIES_MAX || n > 0 && bytes + payload.bytes.len() > self.limit.payload_bytes_max(n + 1) {
                self.piece(index, start..i, bytes);
                (start, bytes) = (i, 0);
            }
            bytes += payload.bytes.len();
        }
        self.piece(index, start..append.payloads.len(), bytes);
        if append.staging.is_none() {
            for (remaining, block) in self.blocks[first..].iter_mut().rev().enumerate() {
                block.remaining = remaining as u32;
            }
        }
    }

    fn piece(&mut self, submission: usize, payloads: Range<usize>, bytes: usize) {
        let n = payloads.len();
        let content = Content::Entries(vec![Piece { submission, payloads, next_offset: 0 }]);
        self.whole_block(content, n, portable_len(n, bytes), 0);
    }

    fn control(&mut self, content: Content, body_bytes: usize) {
        self.close_shared();
        self.whole_block(content, 1, portable_len(1, body_bytes), 0);
    }

    fn close_shared(&mut self) {
        if self.shared.is_empty() {
            return;
        }
        let (n, bytes) = (self.shared_entries, self.shared_bytes);
        let content = Content::Entries(std::mem::take(&mut self.shared));
        (self.shared_entries, self.shared_bytes) = (0, 0);
        self.push(BlockShape { content, n_entries: n, portable_len: portable_len(n, bytes), remaining: 0 });
    }

    fn whole_block(&mut self, content: Content, n_entries: usize, portable_len: usize, remaining: u32) {
        self.close_shared();
        self.push(BlockShape { content, n_entries, portable_len, remaining });
    }

    fn push(&mut self, block: BlockShape) {
        self.closed_bytes += block.portable_len;
        self.blocks.push(block);
    }

    fn bytes(&self, align: usize) -> usize {
        self.closed_bytes + self.blocks.len() * align / 2 + self.shared_bytes
    }

    fn finish(mut self) -> GroupShape {
        self.close_shared();
        GroupShape { blocks: self.blocks, taken: self.taken, wants_flush: self.wants_flush }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::commit::submission::{Payload, Payloads};
    use crate::commit::ticket::ticket;
    use crate::format::block::entry_flags;
    use crate::ids::TopicId;

    const LIMIT: BlockLimit = BlockLimit { align: 4096, bytes_max: BLOCK_BYTES_MAX };

    fn append(topic: &Arc<TopicSlot>, n: usize, bytes_each: usize) -> Submission {
        let payload = Payload::new(Bytes::from(vec![b'x'; bytes_each]), entry_flags::WHOLE);
        Submission::Append(Append {
            topic: Arc::clone(topic),
            payloads: Payloads::Many(vec![payload; n]),
            n_entries: n,
            payload_bytes: n * bytes_each,
            level: Level::Durable,
            expect_offset: None,
            staging: None,
            reply: ticket().1,
        })
    }

    fn known_topic() -> Arc<TopicSlot> {
        let topic = TopicSlot::undefined("t");
        topic.define(TopicId::new(1));
        Arc::new(topic)
    }

    fn counts(group: &GroupShape) -> Vec<(usize, u32)> {
        group.blocks.iter().map(|block| (block.n_entries, block.remaining)).collect()
    }

    #[test]
    fn small_submissions_share_a_block_and_a_large_one_has_a_row_of_its_own() {
        let topic = known_topic();
        let waiting: VecDeque<_> = [1, 1, 1, 600, 1].map(|n| append(&topic, n, 10)).into();
        let group = shape(&waiting, LIMIT);
        assert_eq!(group.taken, 5);
        assert_eq!(counts(&group), [(3, 0), (256, 2), (256, 1), (88, 0), (1, 0)]);
    }

    #[test]
    fn a_batch_is_never_split_to_fill_a_shared_block() {
        let topic = known_topic();
        let waiting: VecDeque<_> = [200, 100].map(|n| append(&topic, n, 10)).into();
        assert_eq!(counts(&shape(&waiting, LIMIT)), [(200, 0), (100, 0)]);
    }

    #[test]
    fn entries_near_the_largest_size_get_blocks_of_their_own_length() {
        let topic = known_topic();
        let waiting: VecDeque<_> = [append(&topic, 2, LIMIT.payload_bytes_max(1)), append(&topic, 1, 1)].into();
        let group = shape(&waiting, LIMIT);
        assert_eq!(counts(&group), [(1, 1), (1, 0)]);
        assert_eq!(group.blocks[0].total_len(4096), BLOCK_BYTES_MAX);
        assert_eq!(group.taken, 1, "a group over its target takes no more");
    }

    #[test]
    fn an_entry_larger_than_a_block_is_cut_into_fragments_that_fill_blocks_of_one_row() {
        let topic = known_topic();
        let max = LIMIT.payload_bytes_max(1);
        let entry = Bytes::from(vec![7; 2 * max + 10]);
        let payloads: Vec<_> = Payload::cut(entry.clone(), max).collect();
        assert_eq!(payloads.iter().map(|payload| payload.flags).collect::<Vec<_>>(), [1, 0, 2]);
        assert_eq!(payloads.iter().flat_map(|payload| payload.bytes.to_vec()).collect::<Vec<_>>(), entry);
        let Submission::Append(one) = append(&topic, 1, 1) else { unreachable!() };
        let payloads = Payloads::Many(payloads);
        let large = Append { payloads, n_entries: 1, payload_bytes: entry.len(), ..one };
        let group = shape(&[Submission::Append(large)].into(), LIMIT);
        assert_eq!(counts(&group), [(1, 2), (1, 1), (1, 0)]);
        assert_eq!(Payload::cut(Bytes::new(), max).count(), 1, "an entry of no bytes is an entry");
    }

    #[test]
    fn the_blocks_of_a_staged_batch_share_nothing_and_are_groups_of_their_own() {
        let topic = known_topic();
        let Submission::Append(part) = append(&topic, 300, 10) else { unreachable!() };
        let part = Append { staging: Some(Arc::default()), ..part };
        let waiting = [append(&topic, 1, 1), Submission::Append(part), append(&topic, 1, 1)].into();
        assert_eq!(counts(&shape(&waiting, LIMIT)), [(1, 0), (256, 0), (44, 0), (1, 0)]);
    }

    #[test]
    fn a_new_topic_is_introduced_once_before_its_first_entry() {
        let topic = Arc::new(TopicSlot::undefined("new"));
        let waiting: VecDeque<_> = [append(&topic, 1, 1), append(&topic, 1, 1)].into();
        let group = shape(&waiting, LIMIT);
        assert!(matches!(group.blocks[0].content, Content::Topic(_)));
        assert_eq!(counts(&group), [(1, 0), (2, 0)]);
    }
}
