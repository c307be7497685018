//! What the commit thread waits for, and since when: for somebody who has to end the process though it does not come.
//!
//! ```text
//!   begin --> (nothing completes) --> begin again: the same wait goes on --> something completes: end
//! ```
//!
//! Layer: commit. Time is an argument.

use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

/// What has not come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitsFor {
    Write,
    Flush,
    /// A write or a flush has failed: the fence, and what is written again behind it.
    Rewrite,
    /// The next segment.
    Segment,
    /// The last indexes and the superblock.
    Closing,
}

impl WaitsFor {
    /// As the subject of a sentence.
    pub(crate) fn name(self) -> &'static str {
        match self {
            WaitsFor::Write => "a write of blocks",
            WaitsFor::Flush => "a flush of blocks",
            WaitsFor::Rewrite => "what is written again after a failure",
            WaitsFor::Segment => "the making of a segment",
            WaitsFor::Closing => "the last write of the superblock",
        }
    }
}

/// One thread writes it, others look.
#[derive(Debug, Default)]
pub(crate) struct Waits(Mutex<Option<(WaitsFor, Instant)>>);

impl Waits {
    fn lock(&self) -> MutexGuard<'_, Option<(WaitsFor, Instant)>> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// A wait begins, or goes on.
    pub(crate) fn begin(&self, what: WaitsFor, now: Instant) {
        let mut waits = self.lock();
        let since = waits.map_or(now, |(_, since)| since);
        *waits = Some((what, since));
    }

    /// It has come.
    pub(crate) fn end(&self) {
        *self.lock() = None;
    }

    /// What is waited for now.
    pub(crate) fn now(&self) -> Option<(WaitsFor, Instant)> {
        *self.lock()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_wait_that_is_only_interrupted_is_as_old_as_its_beginning() {
        let (waits, start) = (Waits::default(), Instant::now());
        waits.begin(WaitsFor::Write, start);
        waits.begin(WaitsFor::Flush, start + Duration::from_secs(3));
        assert_eq!(waits.now(), Some((WaitsFor::Flush, start)));
        waits.end();
        assert_eq!(waits.now(), None);
        waits.begin(WaitsFor::Write, start + Duration::from_secs(4));
        assert_eq!(waits.now(), Some((WaitsFor::Write, start + Duration::from_secs(4))));
    }
}
