//! The beginning of a leader's reign: an EPOCH block, durable before the first append is taken, so that each reign's history differs
//! in its chain.
//!
//! On a full disk there may be no room even for that. The log opens all the same, for whoever wants to read or to trim it, and the
//! first append that finds room begins the reign.
//!
//! Layer: engine.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Engine;
use crate::commit::error::AppendError;
use crate::commit::submission::{NewReign, Submission};
use crate::commit::ticket::ticket;
use crate::ids::{Epoch, RunId};
use crate::log::recovery::OpenError;

/// A reign that this opening is to begin, until it has begun.
pub(super) struct PendingReign {
    /// For everybody who comes later: one look instead of a lock.
    is_pending: AtomicBool,
    reign: Mutex<Option<(Epoch, RunId)>>,
}

impl PendingReign {
    /// `None` on a follower, which begins none.
    pub(super) fn new(reign: Option<(Epoch, RunId)>) -> PendingReign {
        PendingReign { is_pending: AtomicBool::new(reign.is_some()), reign: Mutex::new(reign) }
    }

    pub(super) fn is_pending(&self) -> bool {
        self.is_pending.load(Ordering::Acquire)
    }
}

impl Engine {
    /// Begins the reign, unless that has been done; waits until it is durable.
    pub(super) fn begin_reign(&self) -> Result<(), AppendError> {
        let pending = &self.inner.reign;
        if !pending.is_pending() {
            return Ok(());
        }
        // Whoever comes meanwhile waits here: no append may be queued before the reign's block.
        let mut reign = pending.reign.lock().expect("no holder of this lock panics");
        let Some((epoch, run_id)) = *reign else { return Ok(()) };
        let (ticket, reply) = ticket();
        self.inner.queue.push(Submission::NewReign(NewReign { epoch, run_id, reply }))?;
        ticket.wait().map_err(|error| match error {
            // Whether the reign has begun is not known; of the append that waits for it nothing was written.
            AppendError::Indeterminate { reason } => AppendError::Halted { reason },
            error => error,
        })?;
        *reign = None;
        pending.is_pending.store(false, Ordering::Release);
        Ok(())
    }

    /// The same when the log is opened, where a full disk is no reason not to.
    pub(super) fn begin_reign_if_there_is_room(&self) -> Result<(), OpenError> {
        match self.begin_reign() {
            Ok(()) | Err(AppendError::Full { .. }) => Ok(()),
            Err(AppendError::Halted { reason }) => Err(OpenError::Halted { reason }),
            Err(error) => Err(OpenError::Halted { reason: error.to_string() }),
        }
    }
}
