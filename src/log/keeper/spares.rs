//! Spares: the segments that the log goes on into, made ahead of need.
//!
//! Layer: log. Uses `segment`. Knows nothing of the superblock.

use std::sync::Arc;

use super::{State, Worker};
use crate::format::segment::SegmentHeader;
use crate::limits::ALIGN_MAX;
use crate::log::segment::{Segment, prepare};
use crate::storage;

/// Spares kept ready. One is enough for the straight line; the rewrite after a failed flush will want a second.
const SPARES_READY: usize = 1;

/// A new segment has this share of the log, between the bounds.
const LOG_SHARE: u64 = 8;

/// How large segments are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentSizes {
    /// The segments of a new log.
    pub(crate) first: u64,
    /// The size up to which they grow with the log.
    pub(crate) max: u64,
}

impl SegmentSizes {
    /// The next segment of a log whose segments have `log_bytes` together. An eighth of that: zeros are written at the speed of
    /// the device, beside the commits, so a young log must not make a spare larger than itself.
    fn next(&self, log_bytes: u64) -> u64 {
        let grown = log_bytes / LOG_SHARE / ALIGN_MAX as u64 * ALIGN_MAX as u64;
        grown.clamp(self.first, self.max)
    }
}

/// Why there is no spare.
#[derive(Clone, Debug)]
pub(crate) struct NoSpare {
    /// How making one failed.
    pub(crate) reason: String,
    /// It failed for want of space: later it may succeed.
    pub(crate) full: bool,
}

impl State {
    /// Whether a spare should be made: the commit thread waits for one, or fewer are ready than should be.
    pub(super) fn spare_due(&self) -> bool {
        self.spares.is_empty() && self.spare_demanded || self.spares.len() < SPARES_READY && self.no_spare.is_none()
    }
}

impl Worker {
    /// Makes one spare, or says why there is none.
    pub(super) fn make_spare(&mut self, ts_ns: u64) {
        let made = self.prepare_next(ts_ns);
        let mut state = self.shared.lock();
        state.spare_demanded = false;
        match made {
            Ok(segment) => state.spares.push_back(Arc::new(segment)),
            Err(error) => {
                state.no_spare = Some(NoSpare { reason: error.to_string(), full: error.is_full() });
            }
        }
        self.shared.changed.notify_all();
    }

    fn prepare_next(&mut self, ts_ns: u64) -> storage::Result<Segment> {
        let bytes = self.sizes.next(self.log_bytes);
        let header = SegmentHeader {
            align: self.align,
            log_id: self.log_id,
            number: self.next_segment,
            bytes,
            generation: 0,
            salt: self.entropy.next_u64(),
            prepared_ts_ns: ts_ns,
        };
        // A number is never used twice, whatever became of the attempt.
        self.next_segment = self.next_segment.next();
        let segment = prepare(&self.disk, header)?;
        self.log_bytes += bytes;
        Ok(segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_grow_with_the_log_between_their_bounds() {
        let sizes = SegmentSizes { first: 16 << 20, max: 256 << 20 };
        assert_eq!(
            [0, 128 << 20, 256 << 20, 4 << 30].map(|log| sizes.next(log)),
            [16 << 20, 16 << 20, 32 << 20, 256 << 20]
        );
        assert!(sizes.next((300 << 20) + 12345).is_multiple_of(ALIGN_MAX as u64));
    }
}
