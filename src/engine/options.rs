//! How a log is opened.
//!
//! Layer: engine.

use std::time::Duration;

use crate::commit::flushing::FlushEvery;
use crate::commit::queue::QueueBounds;
use crate::commit::submission::Level;
use crate::limits::{ALIGN_MAX, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use crate::log::scrub::ScrubPace;
use crate::storage::IoMode;

/// A segment takes at most this share of the file system, so that a small disk is not full after two of them.
const DISK_SHARE: u64 = 32;

/// What stays free when nobody says otherwise: enough for an administrator to get out of trouble, on small disks and large.
const MIN_FREE_SHARE: u64 = 50;
const MIN_FREE_MAX: u64 = 1 << 30;

/// Options of a log. [`Options::default`] is right for most servers.
#[derive(Clone, Debug)]
pub struct Options {
    /// How to reach the disk. Default: io_uring, plain system calls where it cannot be had. Change it to find out which of the two
    /// a problem belongs to.
    pub io: IoMode,
    /// Bytes of a segment of a new log; later ones are up to an eighth of the log. Default 16 MiB, 64 KiB to 4 GiB. Smaller for tests
    /// and very small disks.
    pub segment_bytes_first: u64,
    /// Bytes that a segment grows to. Default 256 MiB; never more than 1/32 of the file system.
    pub segment_bytes_max: u64,
    /// Bytes of log to keep: the oldest segments go when the segments with entries in them have more. Whole segments only, never the one
    /// that is written; one or two that are prepared come on top. Default: all.
    pub retain_bytes: Option<u64>,
    /// Age of entries to keep: a segment goes when its last block is older. Looked at when a segment is full, and once a second when
    /// the log is idle. Default: all.
    pub retain_age: Option<Duration>,
    /// Bytes that the log leaves free on the file system: no segment is prepared that would leave less, and appends are rejected when
    /// what is prepared is full. Default: 2 % of the file system, at most 1 GiB. 0 takes the last byte.
    pub min_free: Option<u64>,
    /// What an acknowledgement promises where the append does not say. Default: durable. Change it where losing the last moments in a
    /// power cut is worth not waiting for the disk; `status` names it. A log opened as written goes through the page cache: an append is
    /// a copy then, a durable one among them pays for it.
    pub level: Level,
    /// How often entries acknowledged as written are flushed. Default: never for its own sake. See [`FlushEvery`].
    pub flush_every: FlushEvery,
    /// How much may wait for the commit thread. Default: 64 MiB and 65,536 appends. Smaller where memory is dear, or where callers would
    /// rather hear of a slow disk early.
    pub queue: QueueBounds,
    /// An open reads a log of up to so many bytes from its beginning, so that damage anywhere refuses it; a longer one is believed as far
    /// as its indexes go, and only its last segment is looked at. Default 0: no log is read whole. The command takes 1 GiB, which is
    /// about a second.
    pub check_bytes_max: u64,
    /// How eagerly full segments are read again to find damage, for [`Status::scrubbed`](super::Status::scrubbed). Default: 20 MB a
    /// second, once a day. `None` where something else reads the disk again, as ZFS does.
    pub scrub: Option<ScrubPace>,
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
        self.min_free.get_or_insert((disk_bytes / MIN_FREE_SHARE).min(MIN_FREE_MAX));
        self
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            io: IoMode::Auto,
            segment_bytes_first: 16 << 20,
            segment_bytes_max: 256 << 20,
            retain_bytes: None,
            retain_age: None,
            min_free: None,
            level: Level::Durable,
            flush_every: FlushEvery::default(),
            queue: QueueBounds::default(),
            check_bytes_max: 0,
            scrub: Some(ScrubPace::default()),
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
