//! A batch too large for one group: its blocks are written as they come, and wait for their COMMIT.
//!
//! ```text
//!   append_batch / BatchWriter   --part--> [ staged ] [ staged ]  ...  [ staged ]  --end--> [ COMMIT ]
//!   other callers                             [ data ]      [ data ]
//! ```
//!
//! Nothing of it is visible before the COMMIT: offsets in staged blocks are relative to the batch, and the COMMIT gives the base. An
//! ABORT gives it up; so does the next reign, for batches that a crash has left open: docs/FORMAT.md#staged-batches
//!
//! Layer: commit. Knows nothing of who feeds it.

use std::sync::{Mutex, MutexGuard, OnceLock};

use super::error::AppendError;
use crate::lsn::Lsn;

/// One staged batch, shared by whoever feeds it and by the commit thread.
#[derive(Debug, Default)]
pub(crate) struct Staging {
    planned: Mutex<Planned>,
    lost: OnceLock<AppendError>,
}

/// What of the batch has been given a place. Only the commit thread changes it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Planned {
    /// Its name: the LSN of its first block.
    pub(crate) txn: Option<Lsn>,
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
    /// Entries that have begun; the relative offset of the next.
    pub(crate) entries: u64,
}

impl Staging {
    pub(crate) fn planned(&self) -> MutexGuard<'_, Planned> {
        self.planned.lock().expect("no holder of this lock panics")
    }

    /// A part was rejected: what comes behind it goes on in nothing, though there may be room for it.
    pub(super) fn lose(&self, error: &AppendError) {
        let _ = self.lost.set(error.clone()); // the first reason stands
    }

    /// Why it is lost, if it is.
    pub(super) fn lost(&self) -> Option<&AppendError> {
        self.lost.get()
    }
}
