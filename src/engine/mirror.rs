//! What the mirror asks of a log: blocks out on the leader, blocks in on the follower, and the proofs that both have one history.
//!
//! Layer: engine. Knows nothing of the network.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::Engine;
use crate::commit::error::AppendError;
use crate::commit::submission::{Submission, Verbatim};
use crate::commit::ticket::{Ticket, ticket};
use crate::format::control::Reign;
use crate::format::superblock::Role;
use crate::ids::{Chain, Epoch, RunId};
use crate::log::segments::{BlockError, PortableBlock};
use crate::lsn::Lsn;
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

/// Somebody follows the log, as long as this lives.
pub struct Following {
    followers: Arc<AtomicU64>,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Engine {
    /// Says that somebody follows the log: since only what is durable is shipped, entries acknowledged as written are flushed at least
    /// every 20 ms or 8 MiB from now on, those that wait already too.
    pub fn following(&self) -> Following {
        let followers = Arc::clone(&self.inner.followers);
        followers.fetch_add(1, Ordering::Relaxed);
        self.inner.committer.look_again(); // an idle log would go on with the pace it had when it fell asleep
        Following { followers }
    }

    /// Every reign of the log, oldest first.
    pub fn lineage(&self) -> Vec<Reign> {
        self.inner.index.history().lineage
    }

    /// The durable end.
    pub fn tip(&self) -> Tip {
        let tail = self.inner.progress.durable_tail();
        let history = self.inner.index.history();
        let (epoch, run_id) = match history.lineage.iter().rev().find(|reign| reign.start_lsn < tail.lsn) {
            Some(reign) => (reign.epoch, reign.run_id),
            None => (Epoch::new(0), RunId::new(0)),
        };
        Tip { lsn: tail.lsn, chain: tail.chain, run_id, epoch }
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
        let durable = self.inner.progress.durable.lsn();
        if from >= durable {
            return Ok(Vec::new());
        }
        let mut blocks = self.inner.segments.blocks(from, usize::MAX, bytes_max)?;
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
        let next = applied.check(&blocks, self.inner.log_id)?;
        let (ticket, reply) = ticket();
        self.inner.queue.push(Submission::Verbatim(Verbatim { blocks, reply }))?;
        applied.advance(next);
        Ok(ticket)
    }
}
