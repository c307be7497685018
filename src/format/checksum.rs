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
use twox_hash::xxhash3_64::{DEFAULT_SECRET_LENGTH, RawHasher, SecretBuffer};

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

/// XXH3 takes so many bytes in one step, without a state that is made and kept in memory.
const ONE_STEP_BYTES: usize = 240;

/// The chain behind a block whose header (without its chain field) and descriptors are these.
pub(crate) fn chain_sum(log_id: LogId, header: &[u8], descriptors: &[u8]) -> Chain {
    let seed = log_id.chain_seed();
    let mut both = [0; ONE_STEP_BYTES];
    if let Some(both) = both.get_mut(..header.len() + descriptors.len()) {
        both[..header.len()].copy_from_slice(header);
        both[header.len()..].copy_from_slice(descriptors);
        return Chain::new(XxHash3_64::oneshot_with_seed(seed, both));
    }
    let secret = SecretBuffer::with_seed(seed, [0; DEFAULT_SECRET_LENGTH]).expect("it is as long as it must be");
    let mut hash = RawHasher::new(secret);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_one_sum_over_header_and_descriptors_whether_they_fit_one_step_or_not() {
        let log_id = LogId::new(0x1234_5678_9abc_def0_1122_3344_5566_7788);
        let bytes: Vec<u8> = (0..64 + 24 * 300).map(|i| (i * 7 % 251) as u8).collect();
        for n in (0..20).chain([256, 300]) {
            let (header, descriptors) = bytes[..64 + 24 * n].split_at(64);
            let whole = XxHash3_64::oneshot_with_seed(log_id.chain_seed(), &bytes[..64 + 24 * n]);
            assert_eq!(chain_sum(log_id, header, descriptors).get(), whole, "{n} descriptors");
        }
    }
}
