//! A fence in the middle of a log's life: after a failed write or flush.
//!
//! Layer: log. Uses `open` for the table of fences. Knows nothing of what is written again.

use super::{Keeper, Published, Worker};
use crate::format::superblock::{Fence, FenceReason};
use crate::ids::Incarnation;
use crate::limits::FAILURE_FENCES_MAX;
use crate::log::open::set_fence;
use crate::lsn::Position;

/// What is to be cut off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// The end of what is kept.
    published: Published,
    /// Blocks at or behind it, of the incarnation so far, are dead.
    at: Position,
    /// Where the log goes on.
    resume: Position,
}

impl Keeper {
    /// Cuts off everything that was written at or behind `at`, durably and in both slots. Returns the incarnation of what is written
    /// from now on. `published` is the end of what is kept.
    ///
    /// # Errors
    /// When the superblock cannot be written, or has no room for another fence: whether the fence is there is not known then.
    pub(crate) fn fence(&self, published: Published, at: Position, resume: Position) -> Result<Incarnation, String> {
        let mut state = self.shared.lock();
        assert!(state.fence.is_none() && state.fenced.is_none(), "the commit thread asks for one fence at a time");
        state.fence = Some(Cut { published, at, resume });
        self.shared.changed.notify_all();
        loop {
            if let Some(fenced) = state.fenced.take() {
                return fenced;
            }
            if let Some(reason) = state.failed.clone() {
                return Err(reason);
            }
            state = self.shared.wait(state);
        }
    }
}

impl Worker {
    /// Sets the fence: the table, the incarnation and the hint go into both slots before anything relies on them.
    pub(super) fn set_fence(&mut self, cut: Cut) {
        let Cut { published, at, resume } = cut;
        let now = &mut self.superblock.now;
        let fence = Fence {
            incarnation: now.incarnation,
            reason: FenceReason::Failed,
            cut: at,
            cut_lsn: published.tail.lsn,
            resume,
            chain: published.tail.chain,
            ts_ns: published.tail.ts_ns,
        };
        let fenced = set_fence(&mut now.fences, fence, FAILURE_FENCES_MAX).map(|()| {
            now.incarnation = now.incarnation.next();
            now.hint = published.tail.hint();
            now.epoch = published.epoch;
            now.run_id = published.run_id;
            now.incarnation
        });
        let fenced = fenced.and_then(|incarnation| {
            self.superblock.write_both().map(|()| incarnation).map_err(|error| error.to_string())
        });
        let mut state = self.shared.lock();
        match &fenced {
            Ok(_) => state.recorded = published,
            Err(reason) => state.failed = Some(reason.clone()),
        }
        state.published = published;
        state.fence = None;
        state.fenced = Some(fenced);
        self.shared.changed.notify_all();
    }
}
