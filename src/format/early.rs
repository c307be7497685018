//! The file `early`: entries that were acknowledged before their block was written: docs/FORMAT.md#early
//!
//! ```text
//!   header (4096)   slot 0   slot 1   ...                     a slot holds one block to be
//!   slot            record 0 .. record 255   payload 0 payload 1 ...       each payload behind the one before
//! ```
//!
//! The file is memory that its owner stores into, and a crash may come between any two stores: so each record has a mark of its own, and
//! what a slot holds is its records up to the first that does not belong to it. Nothing is ever cleared: a record of an earlier
//! use of the slot has another LSN, one of an earlier file another salt.
//!
//! Layer: format. Knows nothing of files, nor of who is told what.

use super::checksum::{early_mark, payload_sum, plain_sum};
use super::field::{get_u16, get_u32, get_u64, get_u128, put_u16, put_u32, put_u64, put_u128};
use super::{Corrupt, FORMAT_VERSION};
use crate::ids::{Epoch, LogId, TopicId};
use crate::limits::{ALIGN_MAX, BLOCK_ENTRIES_MAX, EARLY_BLOCK_BYTES_MAX, EARLY_SLOTS};
use crate::lsn::Lsn;

const MAGIC: &[u8; 8] = b"WALREAR1";

const FORMAT_AT: usize = 8;
const SLOTS_AT: usize = 12;
const LOG_ID_AT: usize = 16;
const SALT_AT: usize = 32;
const PAYLOAD_BYTES_AT: usize = 40;
const EPOCH_AT: usize = 48;
const SUM_AT: usize = 4088;

/// Bytes of the header.
pub(crate) const HEADER_BYTES: usize = 4096;

/// Bytes of a record.
pub(crate) const RECORD_BYTES: usize = 40;

const TOPIC_AT: usize = 0;
const LEN_AT: usize = 4;
const OFFSET_AT: usize = 8;
const PAYLOAD_SUM_AT: usize = 16;
const LSN_AT: usize = 24;
const MARK_AT: usize = 32;

const RECORDS_BYTES: usize = BLOCK_ENTRIES_MAX * RECORD_BYTES;

/// The longest such file, whatever the unit of writing.
pub(crate) const EARLY_BYTES_MAX: usize =
    (HEADER_BYTES + EARLY_SLOTS * (RECORDS_BYTES + EARLY_BLOCK_BYTES_MAX)).next_multiple_of(ALIGN_MAX);

const _: () = assert!(MARK_AT + 8 == RECORD_BYTES && EPOCH_AT + 4 <= SUM_AT);

/// What the file says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EarlyHeader {
    pub(crate) log_id: LogId,
    /// Whose reign it is. What stands in it counts as long as no other has begun.
    pub(crate) epoch: Epoch,
    /// Random: the seed of every mark in it.
    pub(crate) salt: u64,
    pub(crate) slots: usize,
    /// Bytes of payload that a slot has room for.
    pub(crate) payload_bytes: usize,
}

impl EarlyHeader {
    fn slot_at(&self, slot: usize) -> usize {
        HEADER_BYTES + slot * (RECORDS_BYTES + self.payload_bytes)
    }

    /// Bytes of the file.
    pub(crate) fn file_bytes(&self) -> usize {
        self.slot_at(self.slots)
    }

    /// Where a record stands.
    pub(crate) fn record_at(&self, slot: usize, record: usize) -> usize {
        self.slot_at(slot) + record * RECORD_BYTES
    }

    /// Where the payload stands that has so many bytes of others before it.
    pub(crate) fn payload_at(&self, slot: usize, bytes_before: usize) -> usize {
        self.slot_at(slot) + RECORDS_BYTES + bytes_before
    }

    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        assert!(self.slots <= EARLY_SLOTS && self.payload_bytes <= EARLY_BLOCK_BYTES_MAX);
        let mut out = [0; HEADER_BYTES];
        out[..MAGIC.len()].copy_from_slice(MAGIC);
        put_u16(&mut out, FORMAT_AT, FORMAT_VERSION);
        put_u32(&mut out, SLOTS_AT, self.slots as u32);
        put_u128(&mut out, LOG_ID_AT, self.log_id.get());
        put_u64(&mut out, SALT_AT, self.salt);
        put_u32(&mut out, EPOCH_AT, self.epoch.get());
        put_u64(&mut out, PAYLOAD_BYTES_AT, self.payload_bytes as u64);
        let sum = plain_sum(&out[..SUM_AT]);
        put_u64(&mut out, SUM_AT, sum);
        out
    }

    fn parse(bytes: &[u8]) -> Result<EarlyHeader, Corrupt> {
        let bytes = bytes.get(..HEADER_BYTES).ok_or(Corrupt::Short { what: "header of early entries" })?;
        if &bytes[..MAGIC.len()] != MAGIC {
            return Err(Corrupt::field("header of early entries: magic", 0));
        }
        if get_u64(bytes, SUM_AT) != plain_sum(&bytes[..SUM_AT]) {
            return Err(Corrupt::field("header of early entries: sum", SUM_AT));
        }
        let format = get_u16(bytes, FORMAT_AT);
        if format != FORMAT_VERSION {
            return Err(Corrupt::Newer { what: "format of early entries", value: format.into() });
        }
        let (slots, payload_bytes) = (get_u32(bytes, SLOTS_AT) as usize, get_u64(bytes, PAYLOAD_BYTES_AT));
        if slots > EARLY_SLOTS || payload_bytes > EARLY_BLOCK_BYTES_MAX as u64 {
            return Err(Corrupt::field("header of early entries: slots", SLOTS_AT));
        }
        let (log_id, epoch) = (LogId::new(get_u128(bytes, LOG_ID_AT)), Epoch::new(get_u32(bytes, EPOCH_AT)));
        Ok(EarlyHeader { log_id, epoch, salt: get_u64(bytes, SALT_AT), slots, payload_bytes: payload_bytes as usize })
    }
}

/// One entry of a block to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) topic: TopicId,
    pub(crate) payload_bytes: u32,
    pub(crate) offset: u64,
    /// Of its payload.
    pub(crate) sum: u64,
    /// The block's.
    pub(crate) lsn: Lsn,
}

impl Record {
    /// The record as number `index` of its slot. The first says how many entries begin in the block before: where a power cut has left that
    /// one shorter, this one does not follow it.
    pub(crate) fn encode(&self, salt: u64, index: usize, before: u32) -> [u8; RECORD_BYTES] {
        let mut out = [0; RECORD_BYTES];
        put_u32(&mut out, TOPIC_AT, self.topic.get());
        put_u32(&mut out, LEN_AT, self.payload_bytes);
        put_u64(&mut out, OFFSET_AT, self.offset);
        put_u64(&mut out, PAYLOAD_SUM_AT, self.sum);
        put_u64(&mut out, LSN_AT, self.lsn.get());
        let mark = early_mark(salt, &out[..MARK_AT], index, if index == 0 { before } else { 0 });
        put_u64(&mut out, MARK_AT, mark);
        out
    }

    fn parse(bytes: &[u8], salt: u64, index: usize, before: u32) -> Option<Record> {
        let before = if index == 0 { before } else { 0 };
        let sound = get_u64(bytes, MARK_AT) == early_mark(salt, &bytes[..MARK_AT], index, before);
        sound.then(|| Record {
            topic: TopicId::new(get_u32(bytes, TOPIC_AT)),
            payload_bytes: get_u32(bytes, LEN_AT),
            offset: get_u64(bytes, OFFSET_AT),
            sum: get_u64(bytes, PAYLOAD_SUM_AT),
            lsn: Lsn::new(get_u64(bytes, LSN_AT)),
        })
    }
}

/// Such a file, as a crash has left it.
pub(crate) struct EarlyFile<'a> {
    header: EarlyHeader,
    bytes: &'a [u8],
}

impl<'a> EarlyFile<'a> {
    /// # Errors
    /// When it was not finished, is another log's or another reign's, or a newer version's.
    pub(crate) fn parse(bytes: &'a [u8], log_id: LogId, epoch: Epoch) -> Result<EarlyFile<'a>, Corrupt> {
        let header = EarlyHeader::parse(bytes)?;
        if header.log_id != log_id {
            return Err(Corrupt::field("header of early entries: another log's", LOG_ID_AT));
        }
        if header.epoch != epoch {
            return Err(Corrupt::field("header of early entries: another reign's", EPOCH_AT));
        }
        if bytes.len() < header.file_bytes() {
            return Err(Corrupt::Short { what: "file of early entries" });
        }
        Ok(EarlyFile { header, bytes })
    }

    /// The entries that block `lsn` was to have, up to the first that is not whole; none if no slot was its, or if in the block before not
    /// this many entries begin.
    pub(crate) fn block(&self, lsn: Lsn, before: u32) -> Vec<(Record, &'a [u8])> {
        let slots = 0..self.header.slots;
        let mut found = slots.map(|slot| self.slot(slot, lsn, before)).filter(|entries| !entries.is_empty());
        found.next().unwrap_or_default()
    }

    fn slot(&self, slot: usize, lsn: Lsn, before: u32) -> Vec<(Record, &'a [u8])> {
        let (mut entries, mut bytes_before) = (Vec::new(), 0);
        for index in 0..BLOCK_ENTRIES_MAX {
            let at = self.header.record_at(slot, index);
            let record = Record::parse(&self.bytes[at..at + RECORD_BYTES], self.header.salt, index, before);
            let Some(record) = record.filter(|record| record.lsn == lsn) else { break };
            let len = record.payload_bytes as usize;
            if len > self.header.payload_bytes - bytes_before {
                break;
            }
            let at = self.header.payload_at(slot, bytes_before);
            let payload = &self.bytes[at..at + len];
            if payload_sum(payload) != record.sum {
                break;
            }
            entries.push((record, payload));
            bytes_before += len;
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: EarlyHeader =
        EarlyHeader { log_id: LogId::new(7), epoch: Epoch::new(3), salt: 11, slots: 2, payload_bytes: 100 };
    /// Entries of the block before the first in these tests.
    const BEFORE: u32 = 2;

    struct Built {
        bytes: Vec<u8>,
    }

    impl Built {
        fn new() -> Built {
            let mut bytes = HEADER.encode().to_vec();
            bytes.resize(HEADER.file_bytes(), 0);
            Built { bytes }
        }

        fn put(&mut self, slot: usize, index: usize, lsn: u64, payload: &[u8], before: usize) -> &mut Built {
            let record = Record {
                topic: TopicId::new(1),
                payload_bytes: payload.len() as u32,
                offset: index as u64,
                sum: payload_sum(payload),
                lsn: Lsn::new(lsn),
            };
            let at = HEADER.payload_at(slot, before);
            self.bytes[at..at + payload.len()].copy_from_slice(payload);
            let at = HEADER.record_at(slot, index);
            self.bytes[at..at + RECORD_BYTES].copy_from_slice(&record.encode(HEADER.salt, index, BEFORE));
            self
        }

        fn payloads(&self, lsn: u64) -> Vec<&[u8]> {
            self.behind(BEFORE, lsn)
        }

        fn behind(&self, before: u32, lsn: u64) -> Vec<&[u8]> {
            let file = EarlyFile::parse(&self.bytes, HEADER.log_id, HEADER.epoch).unwrap();
            file.block(Lsn::new(lsn), before).into_iter().map(|(_, payload)| payload).collect()
        }
    }

    #[test]
    fn a_slot_holds_its_records_up_to_the_first_of_an_earlier_use() {
        let mut built = Built::new();
        built.put(0, 0, 5, b"old", 0).put(0, 1, 5, b"older", 3).put(0, 2, 5, b"oldest", 8);
        built.put(0, 0, 9, b"new", 0).put(0, 1, 9, b"newer", 3).put(1, 0, 10, b"next", 0);
        assert_eq!(built.payloads(9), [b"new".as_slice(), b"newer"]);
        assert_eq!(built.payloads(10), [b"next"]);
        assert!(built.payloads(5).is_empty() && built.payloads(11).is_empty());
    }

    #[test]
    fn a_block_follows_the_one_before_only_as_long_as_that_one_was() {
        let mut built = Built::new();
        built.put(0, 0, 5, b"one", 0).put(0, 1, 5, b"two", 3);
        assert_eq!(built.behind(BEFORE, 5).len(), 2);
        assert!(built.behind(BEFORE - 1, 5).is_empty());
    }

    #[test]
    fn no_flipped_bit_of_a_slot_is_taken_for_an_entry() {
        let mut built = Built::new();
        built.put(0, 0, 5, b"one", 0).put(0, 1, 5, b"two", 3);
        let slot = HEADER.record_at(0, 0)..HEADER.record_at(1, 0);
        for at in slot {
            for bit in 0..8 {
                built.bytes[at] ^= 1 << bit;
                let payloads = built.payloads(5);
                assert!([b"one".as_slice(), b"two"].starts_with(&payloads), "byte {at}, bit {bit}: {payloads:?}");
                built.bytes[at] ^= 1 << bit;
            }
        }
        assert_eq!(built.payloads(5).len(), 2);
    }

    #[test]
    fn a_record_is_not_taken_for_another_place_another_file_or_a_longer_payload() {
        let mut built = Built::new();
        built.put(0, 0, 5, &[1; 60], 0).put(0, 1, 5, &[2; 40], 60).put(0, 2, 5, &[3; 1], 100);
        assert_eq!(built.payloads(5), [&[1; 60][..], &[2; 40]], "a hundred and one bytes do not fit a hundred");
        let record = HEADER.record_at(0, 0);
        let moved = built.bytes[record..record + RECORD_BYTES].to_vec();
        built.bytes[record + RECORD_BYTES..][..RECORD_BYTES].copy_from_slice(&moved);
        assert_eq!(built.payloads(5).len(), 1);
        let other = EarlyHeader { salt: 12, ..HEADER };
        built.bytes[..HEADER_BYTES].copy_from_slice(&other.encode());
        assert!(built.payloads(5).is_empty());
        assert!(EarlyFile::parse(&built.bytes, LogId::new(8), HEADER.epoch).is_err());
        assert!(EarlyFile::parse(&built.bytes, HEADER.log_id, Epoch::new(4)).is_err());
        assert!(EarlyFile::parse(&built.bytes[..HEADER_BYTES], HEADER.log_id, HEADER.epoch).is_err());
    }
}
