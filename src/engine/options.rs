//! How a log is opened.
//!
//! Layer: engine.

use crate::commit::flushing::FlushEvery;
use crate::commit::submission::Level;
use crate::limits::{ALIGN_MAX, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use crate::storage::IoMode;

/// A segment takes at most this share of the file system, so that a small disk is not full after two of them.
const DISK_SHARE: u64 = 32;

/// Options of a log. [`Options::default`] is right for most servers.
#[derive(Clone, Debug)]
pub struct Options {
    /// How to reach the disk. Default: io_uring, plain system calls where it cannot be had. Change it to find out which of the two
    /// a problem belongs to.
    pub io: IoMode,
    /// Bytes of a segment of a new log; later ones are an eighth of the log. Default 16 MiB, 64 KiB to 4 GiB. Smaller for tests
    /// and very small disks.
    pub segment_bytes_first: u64,
    /// Bytes that a segment grows to. Default 256 MiB; never more than 1/32 of the file system.
    pub segment_bytes_max: u64,
    /// What an acknowledgement promises where the append does not say. Default: durable. Change it where losing the last moments in a
    /// power cut is worth not waiting for the disk; `status` names it.
    pub level: Level,
    /// How often entries acknowledged as written are flushed. Default: never for its own sake. See [`FlushEvery`].
    pub flush_every: FlushEvery,
    /// Seed of ids and salts, for tests that must repeat. Default: from the operating system.
    pub seed: Option<u64>,
}

impl Options {
    /// The same with sizes that a segment can have on a file system of `disk_bytes`.
    pub(super) fn bounded(mut self, disk_bytes: u64) -> Options {
        let max = (disk_bytes / DISK_SHARE).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        let bound = |bytes: u64| bytes.clamp(SEGMENT_BYTES_MIN, max) / ALIGN_MAX as u64 * ALIGN_MAX as u64;
        self.segment_bytes_first = bound(self.segment_bytes_first);
        self.segment_bytes_max = bound(self.segment_bytes_max).max(self.segment_bytes_first);
        self
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            io: IoMode::Auto,
            segment_bytes_first: 16 << 20,
            segment_bytes_max: 256 << 20,
            level: Level::Durable,
            flush_every: FlushEvery::default(),
            seed: None,
        }
    }
}

/// Options of one append.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppendOptions {
    /// What its acknowledgement promises. Default: what the log was opened with.
    pub level: Option<Level>,
    /// Append only if the first entry gets this topic offset. So a caller who does not know whether an append has arrived can
    /// try it again without writing it twice. Default: wherever the topic ends.
    pub expect_offset: Option<u64>,
}
