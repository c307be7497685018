//! What the mirror asks of a log: blocks out on the leader, blocks in on the follower, and the proofs that both have one history.
//!
//! Layer: engine. Knows nothing of the network.

use std::collections::HashSet;

use bytes::Bytes;

use super::Engine;
use crate::commit::error::AppendError;
use crate::commit::submission::{Submission, Verbatim};
use crate::commit::ticket::{Ticket, ticket};
use crate::format::Corrupt;
use crate::format::block::{Kind, PortableView};
use crate::format::control::{Reign, TopicDefinition};
use crate::format::superblock::Role;
use crate::ids::{Chain, Epoch, RunId, TopicId};
use crate::log::segments::{BlockError, PortableBlock};
use crate::log::tail::Tail;
use crate::lsn::Lsn;
use crate::topic::check_name;
use crate::topic::index::Index;
use crate::topic::reader::ReadError;

/// The published end of a log: where it is, and what it proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// Exclusive.
    pub lsn: Lsn,
    /// The chain of the block before.
    pub chain: Chain,
    /// The reign of the last EPOCH block: its random name.
    pub run_id: RunId,
    /// Its number.
    pub epoch: Epoch,
}

/// Why a leader's blocks were not taken. None of them was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// A block's sums or fields are wrong.
    #[error("block {lsn} of the leader is corrupt: {what}")]
    Corrupt {
        /// The block that was expected.
        lsn: Lsn,
        /// What is wrong with it.
        what: String,
    },
    /// A block does not follow this log's end.
    #[error("block {lsn} of the leader does not follow this log, which ends before lsn {ours} with chain {chain}")]
    Diverged {
        /// The leader's block.
        lsn: Lsn,
        /// The block that would follow here.
        ours: Lsn,
        /// The chain before it.
        chain: Chain,
    },
    /// The last group is cut short.
    #[error("the leader's blocks end within an atomic group, {remaining} blocks before its end")]
    NotWhole {
        /// Blocks that are missing.
        remaining: u32,
    },
    /// The log takes nothing.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// How far a leader's blocks have been queued: ahead of the published end by what is in flight.
#[derive(Debug)]
pub(super) struct Applied {
    lsn: Lsn,
    chain: Chain,
    ts_ns: u64,
    /// The next offset of each topic by number; one more than the topics there are.
    next_offsets: Vec<u64>,
    names: HashSet<String>,
}

impl Applied {
    pub(super) fn at(index: &Index, tail: Tail) -> Applied {
        Applied {
            lsn: tail.lsn,
            chain: tail.chain,
            ts_ns: tail.ts_ns,
            next_offsets: index.next_offsets(),
            names: index.all().into_iter().map(|topic| topic.name).collect(),
        }
    }
}

/// What a row of blocks would do to [`Applied`]: planned on copies, put in place once the blocks are queued.
struct NextApplied {
    lsn: Lsn,
    chain: Chain,
    ts_ns: u64,
    remaining: u32,
    topics: Vec<TopicDefinition>,
    /// Topic numbers and the offsets that come next in them.
    offsets: Vec<(TopicId, u64)>,
}

impl Engine {
    /// Every reign of the log, oldest first.
    pub fn lineage(&self) -> Vec<Reign> {
        self.inner.index.history().lineage
    }

    /// The published, durable end.
    pub fn tip(&self) -> Tip {
        let history = self.inner.index.history();
        let (epoch, run_id) = match history.lineage.last() {
            Some(reign) => (reign.epoch, reign.run_id),
            None => (Epoch::new(0), RunId::new(0)),
        };
        Tip { lsn: history.lsn, chain: history.chain, run_id, epoch }
    }

    /// The chain of the block before `lsn`; `None` where this log cannot tell: beyond its end, or given away.
    ///
    /// # Errors
    /// When the block is damaged or cannot be read.
    pub fn chain_before(&self, lsn: Lsn) -> Result<Option<Chain>, ReadError> {
        let tip = self.tip();
        if lsn == tip.lsn {
            return Ok(Some(tip.chain));
        }
        if lsn > tip.lsn || lsn < Lsn::FIRST {
            return Ok(None);
        }
        let beginning = self.inner.segments.beginning();
        if lsn <= beginning.lsn {
            return Ok((lsn == beginning.lsn).then_some(beginning.chain));
        }
        match self.inner.segments.block(Lsn::new(lsn.get() - 1)) {
            Ok(block) => Ok(Some(block.chain)),
            Err(BlockError::NotThere(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Durable blocks from `from` on, verified, as many as lie together in about `bytes_max` bytes; none at the end.
    ///
    /// # Errors
    /// When the block at `from` is damaged or cannot be read, or has been given away.
    pub fn portable_blocks(&self, from: Lsn, bytes_max: usize) -> Result<Vec<PortableBlock>, ReadError> {
        let durable = self.inner.watermark.lsn();
        if from >= durable {
            return Ok(Vec::new());
        }
        let mut blocks = self.inner.segments.blocks(from, bytes_max)?;
        // Blocks are readable a moment before the watermark says so. It is the watermark that decides.
        blocks.retain(|block| block.lsn < durable);
        Ok(blocks)
    }

    /// Queues a leader's blocks: whole atomic groups, behind everything queued before. Checks sums, chain and order first; on an error
    /// none is queued.
    ///
    /// # Errors
    /// As [`ApplyError`] says.
    ///
    /// # Panics
    /// On a leader's log, which takes no blocks from others.
    pub fn apply(&self, blocks: Vec<Bytes>) -> Result<Ticket, ApplyError> {
        assert_eq!(self.inner.role, Role::Follower, "a leader's log takes no blocks from others");
        let mut applied = self.inner.applied.lock().expect("no holder of this lock panics");
        let next = self.check_blocks(&applied, &blocks)?;
        let (ticket, reply) = ticket();
        self.inner.queue.push(Submission::Verbatim(Verbatim { blocks, reply }))?;
        applied.advance(next);
        Ok(ticket)
    }

    fn check_blocks(&self, applied: &Applied, blocks: &[Bytes]) -> Result<NextApplied, ApplyError> {
        let mut next = NextApplied {
            lsn: applied.lsn,
            chain: applied.chain,
            ts_ns: applied.ts_ns,
            remaining: 0,
            topics: Vec::new(),
            offsets: Vec::new(),
        };
        for bytes in blocks {
            let lsn = next.lsn;
            let corrupt = |error: Corrupt| ApplyError::Corrupt { lsn, what: error.to_string() };
            let view = PortableView::parse(bytes, self.inner.log_id).map_err(corrupt)?;
            view.verify_payloads().map_err(corrupt)?;
            let head = view.head;
            if head.lsn != next.lsn || head.prev_chain != next.chain {
                return Err(ApplyError::Diverged { lsn: head.lsn, ours: next.lsn, chain: next.chain });
            }
            if next.remaining > 0 && head.remaining != next.remaining - 1 {
                return Err(corrupt(Corrupt::field("block: remaining does not count down", 40)));
            }
            if head.ts_ns < next.ts_ns {
                return Err(corrupt(Corrupt::field("block: time runs backwards", 16)));
            }
            applied.check_entries(&view, &mut next).map_err(corrupt)?;
            (next.lsn, next.chain, next.ts_ns, next.remaining) =
                (head.lsn.next(), view.chain, head.ts_ns, head.remaining);
        }
        if next.remaining > 0 {
            return Err(ApplyError::NotWhole { remaining: next.remaining });
        }
        Ok(next)
    }
}

impl Applied {
    /// Topics are numbered in order and offsets are dense: a leader that breaks this would break every index built from its log.
    fn check_entries(&self, view: &PortableView<'_>, next: &mut NextApplied) -> Result<(), Corrupt> {
        match view.head.kind {
            Kind::Data => view.entries().try_for_each(|entry| self.check_offset(entry.topic, entry.offset, next)),
            Kind::Epoch => view.entries().try_for_each(|entry| Reign::parse(entry.payload).map(|_| ())),
            Kind::Topic => view.entries().try_for_each(|entry| self.check_topic(entry.payload, next)),
            Kind::Skippable(_) => Ok(()),
        }
    }

    fn check_topic(&self, body: &[u8], next: &mut NextApplied) -> Result<(), Corrupt> {
        let definition = TopicDefinition::parse(body)?;
        let known = self.names.contains(&definition.name) || next.topics.iter().any(|t| t.name == definition.name);
        let id = (self.next_offsets.len() + next.topics.len()) as u32;
        if known || definition.id.get() != id || check_name(&definition.name).is_err() {
            return Err(Corrupt::field("TOPIC block: not the next topic", 0));
        }
        next.topics.push(definition);
        Ok(())
    }

    fn check_offset(&self, topic: TopicId, offset: u64, next: &mut NextApplied) -> Result<(), Corrupt> {
        let topics = self.next_offsets.len() + next.topics.len();
        if topic == TopicId::CONTROL || topic.get() as usize >= topics {
            return Err(Corrupt::field("descriptor: no such topic", 0));
        }
        let wrong = Err(Corrupt::field("descriptor: offsets are not dense", 8));
        // The last topic used is looked at first: runs of one topic are the rule.
        if let Some((_, expected)) = next.offsets.iter_mut().rev().find(|(id, _)| *id == topic) {
            *expected += 1;
            return if *expected == offset + 1 { Ok(()) } else { wrong };
        }
        let expected = self.next_offsets.get(topic.get() as usize).copied().unwrap_or(0);
        next.offsets.push((topic, offset + 1));
        if expected == offset { Ok(()) } else { wrong }
    }

    fn advance(&mut self, next: NextApplied) {
        (self.lsn, self.chain, self.ts_ns) = (next.lsn, next.chain, next.ts_ns);
        for topic in next.topics {
            self.next_offsets.push(0);
            self.names.insert(topic.name);
        }
        for (topic, offset) in next.offsets {
            self.next_offsets[topic.get() as usize] = offset;
        }
    }
}
