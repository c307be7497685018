//! The sums of the format, all XXH3-64 (`hash_kind` 1): docs/FORMAT.md#sums
//!
//! - payload sum: made once by the producer, carried unchanged to the reader at the far end;
//! - chain: seeded with the log's id, over header and descriptors, and thereby over all history;
//! - envelope sum: seeded with the segment's salt, so that no stale block of a recycled file can pass;
//! - early mark: seeded with the file's salt and the record's place, for entries that have no block yet.
//!
//! Layer: format. Knows nothing of layouts.

use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed};

use crate::ids::{Chain, LogId};

/// The number that names XXH3-64 in headers.
pub(crate) const HASH_KIND_XXH3: u8 = 1;

/// The sum of one entry's payload.
pub(crate) fn payload_sum(payload: &[u8]) -> u64 {
    xxh3_64(payload)
}

/// The sum of a superblock slot, a segment header or a small file.
pub(crate) fn plain_sum(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// The chain behind a block whose header (without its chain field) and descriptors are these.
pub(crate) fn chain_sum(log_id: LogId, header: &[u8], descriptors: &[u8]) -> Chain {
    let mut hash = Xxh3::with_seed(log_id.chain_seed());
    hash.update(header);
    hash.update(descriptors);
    Chain::new(hash.digest())
}

/// The sum of an envelope: its first 32 bytes and the chain of the portable block that it holds.
pub(crate) fn envelope_sum(salt: u64, envelope: &[u8], chain: Chain) -> u64 {
    let mut bytes = [0; 40];
    bytes[..32].copy_from_slice(&envelope[..32]);
    bytes[32..].copy_from_slice(&chain.get().to_le_bytes());
    xxh3_64_with_seed(&bytes, salt)
}

/// The mark of a record of `early`: its first 32 bytes, at this place in its slot, and how many entries the block before has.
pub(crate) fn early_mark(salt: u64, record: &[u8], index: usize, before: u32) -> u64 {
    xxh3_64_with_seed(record, salt ^ index as u64 ^ u64::from(before) << 32)
}
