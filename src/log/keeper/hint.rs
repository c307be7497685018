//! The hint: how far the superblock says that the log is durable.
//!
//! Layer: log. Uses `superblock`. Knows nothing of spares.

use super::{State, Worker};
use crate::ids::{Epoch, RunId};
use crate::limits::HINT_REFRESH_BYTES;
use crate::log::tail::Tail;

/// The published end of the log, as the superblock is to record it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Published {
    pub(crate) tail: Tail,
    /// Log bytes from the start of the segment in which this opening began: a measure for the window, not a place.
    pub(crate) linear: u64,
    pub(crate) epoch: Epoch,
    pub(crate) run_id: RunId,
}

impl State {
    /// Whether the superblock should be written without waiting for idleness.
    pub(super) fn refresh_due(&self) -> bool {
        let (published, recorded) = (&self.published, &self.recorded);
        self.refresh_demanded && published.tail.lsn > recorded.tail.lsn
            || published.linear - recorded.linear >= HINT_REFRESH_BYTES
            || published.tail.position.segment() > recorded.tail.position.segment()
    }
}

impl Worker {
    /// Writes the superblock with the hint at the published tail.
    pub(super) fn record(&mut self, published: Published, clean: bool) {
        if self.shared.lock().failed.is_some() {
            return; // never again after a failure: the next open looks for itself
        }
        let now = &mut self.superblock.now;
        now.hint = published.tail.hint();
        now.epoch = published.epoch;
        now.run_id = published.run_id;
        now.clean = clean;
        let written = self.superblock.write();
        let mut state = self.shared.lock();
        match written {
            Ok(()) => {
                state.recorded = published;
                state.refresh_demanded = false;
            }
            Err(error) => {
                state.failed = Some(error.to_string());
                self.shared.commit.wake();
            }
        }
        self.shared.changed.notify_all();
    }
}
