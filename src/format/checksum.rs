//! The sums of the format, all XXH3-64 (`hash_kind` 1): docs/FORMAT.md#sums
//!
//! - payload sum: made once by the producer, carried unchanged to the reader at the far end;
//! - chain: seeded with the log's id, over header and descriptors, and thereby over all history;
//! - envelope sum: seeded with the segment's salt, so that no stale block of a recycled file can pass;
//! - early mark: seeded with the file's salt and the record's place, for entries that have no block yet.
//!
//! Layer: format. Knows nothing of layouts.

use std::hash::Hasher;

use twox_hash::XxHash3_64;

use crate::ids::{Chain, LogId};

/// The number that names XXH3-64 in headers.
pub(crate) const HASH_KIND_XXH3: u8 = 1;

/// The sum of one entry's payload.
pub(crate) fn payload_sum(payload: &[u8]) -> u64 {
    XxHash3_64::oneshot(payload)
}

/// The sum of a superblock slot, a segment header or a small file.
pub(crate) fn plain_sum(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

/// The chain behind a block whose header (without its chain field) and descriptors are these.
pub(crate) fn chain_sum(log_id: LogId, header: &[u8], descriptors: &[u8]) -> Chain {
    let mut hash = XxHash3_64::with_seed(log_id.chain_seed());
    hash.write(header);
    hash.write(descriptors);
    Chain::new(hash.finish())
}

/// The sum of an envelope: its first 32 bytes and the chain of the portable block that it holds.
pub(crate) fn envelope_sum(salt: u64, envelope: &[u8], chain: Chain) -> u64 {
    let mut bytes = [0; 40];
    bytes[..32].copy_from_slice(&envelope[..32]);
    bytes[32..].copy_from_slice(&chain.get().to_le_bytes());
    XxHash3_64::oneshot_with_seed(salt, &bytes)
}

/// The mark of a record of `early`: its first 32 bytes, at this place in its slot, and how many entries the block before has.
pub(crate) fn early_mark(salt: u64, record: &[u8], index: usize, before: u32) -> u64 {
    XxHash3_64::oneshot_with_seed(salt ^ index as u64 ^ u64::from(before) << 32, record)
}
