//! What is appended: bytes that are made once, handed out for next to nothing, and told apart when they come back.
//!
//! ```text
//!   producer | slots | slot | mark | random ...      the first eight bytes name the producer and the turn, where there is room for them
//!       u16     u16     u16    u16
//! ```
//!
//! A producer has so many slots and hands them out in turn, so what is lost, doubled or out of order between two entries of a producer
//! breaks the turn. (A loss of exactly one whole turn does not; the count of entries finds that.)
//!
//! Knows nothing of logs.

use anyhow::{Result, ensure};
use bytes::{Bytes, BytesMut};

/// All producers together have about so many bytes: an appender's data is fresh from its caches in life, too.
const POOL_BYTES: u64 = 8 << 20;
const SLOTS_MIN: u64 = 16;
const SLOTS_MAX: u64 = 4096;
/// Entries of one allocation share a count of references; not all do, for the log lets go of old ones while new ones are taken.
const CHUNK_BYTES: u64 = 16 << 10;

const NAME_BYTES: usize = 8;
const MARK: u16 = 0xB5A1;

/// The entries of one producer.
pub(crate) struct Payloads {
    entries: Vec<Bytes>,
    next: usize,
}

impl Payloads {
    /// Of producer `number` among `producers`.
    pub(crate) fn new(seed: u64, number: u32, producers: u32, payload_bytes: u64) -> Payloads {
        let slots = (POOL_BYTES / u64::from(producers) / payload_bytes.max(1)).clamp(SLOTS_MIN, SLOTS_MAX);
        let chunk_slots = (CHUNK_BYTES / payload_bytes.max(1)).clamp(1, slots) as usize;
        let mut random = fastrand::Rng::with_seed(seed ^ u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let len = payload_bytes as usize;
        let mut entries = Vec::with_capacity(slots as usize);
        let all: Vec<u16> = (0..slots as u16).collect();
        for chunk in all.chunks(chunk_slots) {
            let mut memory = BytesMut::zeroed(chunk.len() * len);
            random.fill(&mut memory);
            if len >= NAME_BYTES {
                for (place, slot) in memory.chunks_exact_mut(len).zip(chunk) {
                    name(place, [number as u16, slots as u16, *slot, MARK]);
                }
            }
            let memory = memory.freeze();
            entries.extend((0..chunk.len()).map(|i| memory.slice(i * len..(i + 1) * len)));
        }
        Payloads { entries, next: 0 }
    }

    /// Puts the next `n` entries into `batch`, in place of what was there.
    pub(crate) fn fill(&mut self, batch: &mut Vec<Bytes>, n: u32) {
        batch.clear();
        for _ in 0..n {
            batch.push(self.entries[self.next].clone());
            self.next = if self.next + 1 == self.entries.len() { 0 } else { self.next + 1 };
        }
    }
}

fn name(place: &mut [u8], fields: [u16; 4]) {
    for (field, bytes) in fields.iter().zip(place.chunks_exact_mut(2)) {
        bytes.copy_from_slice(&field.to_le_bytes());
    }
}

/// The turn of each producer, as the entries of one topic come back.
#[derive(Default)]
pub(crate) struct Turns {
    /// By producer: the slot that was seen last.
    last: Vec<Option<u16>>,
}

impl Turns {
    /// # Errors
    /// An entry that is not of this load, or not the one that its producer appended next.
    pub(crate) fn see(&mut self, payload: &[u8]) -> Result<()> {
        let Some(bytes) = payload.first_chunk::<NAME_BYTES>() else { return Ok(()) };
        let field = |i: usize| u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]);
        let [producer, slots, slot, mark] = [0, 1, 2, 3].map(field);
        ensure!(mark == MARK && slot < slots, "an entry came back that nobody appended: it begins with {bytes:02x?}");
        let at = usize::from(producer);
        if self.last.len() <= at {
            self.last.resize(at + 1, None);
        }
        let expected = self.last[at].map(|last| if last + 1 == slots { 0 } else { last + 1 });
        ensure!(
            expected.is_none_or(|expected| expected == slot),
            "producer {producer}: after entry {} of its turn came {slot}; something between them is missing or out of order",
            self.last[at].unwrap_or_default()
        );
        self.last[at] = Some(slot);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(payload_bytes: u64, n: u32) -> Vec<Bytes> {
        let mut batch = Vec::new();
        Payloads::new(7, 3, 4, payload_bytes).fill(&mut batch, n);
        batch
    }

    #[test]
    fn entries_have_the_length_asked_for_and_follow_from_the_seed() {
        for bytes in [0, 1, 7, 8, 9, 256, 65536] {
            let entries = first(bytes, 40);
            assert!(entries.iter().all(|entry| entry.len() as u64 == bytes), "{bytes}");
            assert_eq!(entries, first(bytes, 40));
        }
        assert_ne!(first(256, 1)[0], first(256, 2)[1]);
    }

    #[test]
    fn the_turns_of_several_producers_are_seen_in_order_over_many_rounds() {
        let (mut one, mut two) = (Payloads::new(1, 0, 2, 100_000), Payloads::new(1, 1, 2, 100_000));
        let (mut turns, mut batch) = (Turns::default(), Vec::new());
        for _ in 0..200 {
            one.fill(&mut batch, 3);
            batch.iter().for_each(|entry| turns.see(entry).unwrap());
            two.fill(&mut batch, 1);
            batch.iter().for_each(|entry| turns.see(entry).unwrap());
        }
    }

    #[test]
    fn a_missing_a_doubled_a_swapped_and_a_foreign_entry_are_found() {
        let entries = first(256, 5);
        let see = |order: &[usize]| {
            let mut turns = Turns::default();
            order.iter().try_for_each(|i| turns.see(&entries[*i]))
        };
        assert!(see(&[0, 1, 2, 3]).is_ok());
        for broken in [&[0, 1, 3][..], &[0, 1, 1], &[1, 0]] {
            assert!(see(broken).unwrap_err().to_string().contains("producer 3"), "{broken:?}");
        }
        assert!(Turns::default().see(&[0; 256]).is_err());
    }
}
