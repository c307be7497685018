//! Every hard limit, with its reason and the neighbour it is checked against.
//!
//! Layer 0. Uses std. Knows nothing of who obeys.

/// Entries in one batch. The seed's limit: one submission of a 2,048-deep ring, with room to spare.
pub const BATCH_ENTRIES_MAX: usize = 2_000;

/// Bytes of one batch: 10 GiB, the seed's limit. Counted with [`BATCH_ENTRY_OVERHEAD`] an entry.
pub(crate) const BATCH_BYTES_MAX: u64 = 10 << 30;

/// What an entry counts beside its bytes: its descriptor.
pub(crate) const BATCH_ENTRY_OVERHEAD: u64 = 24;

/// Entries in one block. Bounds the descriptors of a block (6 KiB), so that the commit thread's own hashing stays
/// small, and what a reader has to skip to find one entry.
pub(crate) const BLOCK_ENTRIES_MAX: usize = 256;

/// Bytes of a block on disk, padding included. One wire frame and one read; every length from disk or from a peer is
/// checked against it before it is used.
pub(crate) const BLOCK_BYTES_MAX: usize = 1 << 20;

/// Bytes of a group that is written in one commit group, as it lies on disk. Larger batches are staged, so that no caller
/// holds up the others for longer than this takes to write.
pub(crate) const GROUP_BYTES_MAX: usize = 8 << 20;

/// The smallest unit of writing. A device with larger physical sectors raises it (see `Disk::align`).
pub(crate) const ALIGN_MIN: usize = 4096;

/// The largest unit of writing that a superblock can name and a segment can hold.
pub(crate) const ALIGN_MAX: usize = 64 << 10;

/// Bytes of a segment: the smallest is what the simulated runs use, the largest what 32 bits of offset reach.
pub(crate) const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// See [`SEGMENT_BYTES_MIN`].
pub(crate) const SEGMENT_BYTES_MAX: u64 = 4 << 30;

/// Bytes of a topic's name, so that it fits a length byte and a line on a terminal.
pub(crate) const TOPIC_NAME_BYTES_MAX: usize = 255;

/// Bytes of the file of cursors: 10,000 topics of the longest names, each with a cursor. Every change writes all of it, and so much takes
/// no longer than a few flushes.
pub(crate) const CURSORS_BYTES_MAX: usize = 4 << 20;

/// How far past the durable hint any write may go. Bounds the search for evidence after a crash.
pub(crate) const HINT_WINDOW_BYTES: u64 = 128 << 20;

/// How far past the hint the tail runs before the hint is refreshed; half the window, so that the commit path
/// practically never waits for the refresh.
pub(crate) const HINT_REFRESH_BYTES: u64 = 64 << 20;

/// Fences that fit a superblock slot.
pub(crate) const FENCES_MAX: usize = 64;

/// How many of them failures while the log runs may use: an open needs room for its own.
pub(crate) const FAILURE_FENCES_MAX: usize = 60;

/// Commit groups in flight. Beyond 32 the device gains nothing (4 KiB: 104k a second at 32, measured in engine.md 9).
pub(crate) const GROUPS_IN_FLIGHT_MAX: usize = 32;

/// Blocks of a group whose writes each carry a flush; a longer group is written plainly and flushed once. The device shares the flushes of
/// what is in flight, and a flush that stands alone begins behind the last write, in a worker of the kernel (docs/decisions/0006).
pub(crate) const OWN_FLUSH_BLOCKS_MAX: usize = 8;

/// Bytes waiting for the commit thread; beyond it `append` waits. Two group limits, and time for the producers.
pub(crate) const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Submissions waiting for the commit thread; beyond it `append` waits.
pub(crate) const QUEUE_SUBMISSIONS_MAX: usize = 64 << 10;

/// Behind each group in flight another one is worth its write from so many more waiting entries on...
pub(crate) const WORTH_ENTRIES: usize = 32;
/// ... or so many bytes: a lone small entry would cost a sector of its own (engine.md section 4).
pub(crate) const WORTH_BYTES: usize = 16 << 10;

/// Bytes of entries acknowledged as written that wait for a flush: they are kept in memory, to be written again if it fails.
pub(crate) const UNFLUSHED_BYTES_MAX: u64 = 32 << 20;

/// Blocks that callers may fill before the commit thread has written them: one that is being filled, one that is being written, and two for
/// a commit thread that is late.
pub(crate) const EARLY_SLOTS: usize = 4;
/// Bytes of such a block on disk: 256 entries of 256 bytes, and as much again.
pub(crate) const EARLY_BLOCK_BYTES_MAX: usize = 128 << 10;

/// Bytes of an entry that such a block takes; a longer one has a block nearly for itself.
pub(crate) const EARLY_ENTRY_BYTES_MAX: usize = EARLY_BLOCK_BYTES_MAX / EARLY_ENTRY_SHARE;
/// ... and of a smaller block in a small log the same share.
pub(crate) const EARLY_ENTRY_SHARE: usize = 4;

const _: () = assert!(EARLY_BLOCK_BYTES_MAX <= BLOCK_BYTES_MAX && EARLY_BLOCK_BYTES_MAX.is_multiple_of(ALIGN_MAX));
const _: () = assert!(10_000 * (16 + 64 + TOPIC_NAME_BYTES_MAX) <= CURSORS_BYTES_MAX);
const _: () = assert!(TOPIC_NAME_BYTES_MAX <= u16::MAX as usize);
/// Log bytes between the durable end and the planned one: no further group is submitted beyond, and what waits for a flush gets it. Twice
/// what may wait for a flush, which does not count what segments leave free at their ends; and with the largest group still within the
/// window past a hint at the durable end.
pub(crate) const NOT_DURABLE_BYTES_MAX: u64 = 2 * UNFLUSHED_BYTES_MAX;

const _: () = assert!(NOT_DURABLE_BYTES_MAX + 2 * GROUP_BYTES_MAX as u64 <= HINT_WINDOW_BYTES);
const _: () = assert!(BATCH_ENTRIES_MAX <= u32::MAX as usize);
const _: () = assert!(BLOCK_ENTRIES_MAX <= u16::MAX as usize);
const _: () = assert!(BLOCK_BYTES_MAX.is_multiple_of(ALIGN_MAX) && ALIGN_MAX.is_multiple_of(ALIGN_MIN));
const _: () = assert!(BLOCK_BYTES_MAX < GROUP_BYTES_MAX && GROUP_BYTES_MAX < QUEUE_BYTES_MAX);
const _: () = assert!(HINT_REFRESH_BYTES + GROUP_BYTES_MAX as u64 * 2 <= HINT_WINDOW_BYTES);
// An entry's length stands in 24 bits.
const _: () = assert!(BLOCK_BYTES_MAX <= 1 << 24);
