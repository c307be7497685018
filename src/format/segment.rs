//! The header of a segment file: docs/FORMAT.md#segment-header
//!
//! It stands in the first 4096 bytes and once more in the last: the salt must survive a bad first sector, or every block of
//! the file would be lost with it.
//!
//! Layer: format. Knows nothing of files.

use super::checksum::{HASH_KIND_XXH3, plain_sum};
use super::field::{get_u16, get_u32, get_u64, get_u128, is_zero, put_u16, put_u32, put_u64, put_u128};
use super::{Corrupt, FORMAT_VERSION};
use crate::ids::{LogId, SegmentNo};
use crate::limits::{ALIGN_MAX, ALIGN_MIN, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};

const MAGIC: &[u8; 8] = b"WALRSEG1";

const MAGIC_AT: usize = 0;
const FORMAT_AT: usize = MAGIC_AT + 8;
const ALIGN_LOG2_AT: usize = FORMAT_AT + 2;
const HASH_KIND_AT: usize = ALIGN_LOG2_AT + 1;
const FLAGS_AT: usize = HASH_KIND_AT + 1;
const LOG_ID_AT: usize = FLAGS_AT + 4;
const SEGMENT_NO_AT: usize = LOG_ID_AT + 16;
const ZERO_AT: usize = SEGMENT_NO_AT + 8;
const SEGMENT_BYTES_AT: usize = ZERO_AT + 8;
const GENERATION_AT: usize = SEGMENT_BYTES_AT + 8;
const SALT_AT: usize = GENERATION_AT + 8;
const PREPARED_TS_AT: usize = SALT_AT + 8;
const REST_AT: usize = PREPARED_TS_AT + 8;
const SUM_AT: usize = 4088;

/// Bytes of a header, and where the first block of a segment lies when `align` is not larger.
pub(crate) const HEADER_BYTES: usize = 4096;

const _: () = assert!(LOG_ID_AT == 16 && SEGMENT_BYTES_AT == 48 && SALT_AT == 64 && PREPARED_TS_AT == 72);

/// What a segment file says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Everything in the file is written in multiples of it.
    pub(crate) align: u32,
    pub(crate) log_id: LogId,
    pub(crate) number: SegmentNo,
    /// The file's whole length.
    pub(crate) bytes: u64,
    /// Its blocks stand back to back: docs/FORMAT.md#packed-segments
    pub(crate) packed: bool,
    /// How often the file has been recycled.
    pub(crate) generation: u64,
    /// Random at each use: the seed of every envelope sum in it.
    pub(crate) salt: u64,
    pub(crate) prepared_ts_ns: u64,
}

/// Blocks of a packed segment begin at multiples of this.
const PACKED_ALIGN: u32 = 8;

/// The flag of a packed segment.
const FLAG_PACKED: u32 = 1;

impl SegmentHeader {
    /// Blocks begin at multiples of it, and so are their lengths.
    pub(crate) fn block_align(&self) -> u32 {
        if self.packed { PACKED_ALIGN } else { self.align }
    }

    /// Where the first block lies.
    pub(crate) fn first_block_offset(&self) -> u32 {
        self.align.max(HEADER_BYTES as u32)
    }

    /// Where the room for blocks ends: the last `align` bytes hold the copy of the header.
    pub(crate) fn blocks_end(&self) -> u32 {
        let end = self.bytes - u64::from(self.first_block_offset());
        u32::try_from(end).expect("a segment's bytes are bounded by SEGMENT_BYTES_MAX when it is made or parsed")
    }

    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        assert!(self.align.is_power_of_two());
        assert!(self.bytes.is_multiple_of(u64::from(self.align)));
        assert!((self.bytes_min()..=SEGMENT_BYTES_MAX).contains(&self.bytes));
        let mut out = [0; HEADER_BYTES];
        out[MAGIC_AT..MAGIC_AT + 8].copy_from_slice(MAGIC);
        put_u16(&mut out, FORMAT_AT, FORMAT_VERSION);
        out[ALIGN_LOG2_AT] = self.align.trailing_zeros() as u8;
        out[HASH_KIND_AT] = HASH_KIND_XXH3;
        put_u32(&mut out, FLAGS_AT, if self.packed { FLAG_PACKED } else { 0 });
        put_u128(&mut out, LOG_ID_AT, self.log_id.get());
        put_u64(&mut out, SEGMENT_NO_AT, u64::from(self.number.get()));
        put_u64(&mut out, SEGMENT_BYTES_AT, self.bytes);
        put_u64(&mut out, GENERATION_AT, self.generation);
        put_u64(&mut out, SALT_AT, self.salt);
        put_u64(&mut out, PREPARED_TS_AT, self.prepared_ts_ns);
        let sum = plain_sum(&out[..SUM_AT]);
        put_u64(&mut out, SUM_AT, sum);
        out
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<SegmentHeader, Corrupt> {
        let bytes = bytes.get(..HEADER_BYTES).ok_or(Corrupt::Short { what: "segment header" })?;
        if &bytes[MAGIC_AT..MAGIC_AT + 8] != MAGIC {
            return Err(Corrupt::field("segment header: magic", MAGIC_AT));
        }
        if get_u64(bytes, SUM_AT) != plain_sum(&bytes[..SUM_AT]) {
            return Err(Corrupt::field("segment header: sum", SUM_AT));
        }
        let version = get_u16(bytes, FORMAT_AT);
        if version != FORMAT_VERSION {
            return Err(Corrupt::Newer { what: "segment format", value: version.into() });
        }
        if bytes[HASH_KIND_AT] != HASH_KIND_XXH3 {
            return Err(Corrupt::Newer { what: "hash kind", value: bytes[HASH_KIND_AT].into() });
        }
        let flags = get_u32(bytes, FLAGS_AT);
        if flags & !FLAG_PACKED != 0 {
            return Err(Corrupt::Newer { what: "segment flags", value: flags.into() });
        }
        if !is_zero(&bytes[ZERO_AT..SEGMENT_BYTES_AT]) || !is_zero(&bytes[REST_AT..SUM_AT]) {
            return Err(Corrupt::field("segment header: reserved bytes", ZERO_AT));
        }
        let align = parse_align(bytes[ALIGN_LOG2_AT], ALIGN_LOG2_AT)?;
        let number = get_u64(bytes, SEGMENT_NO_AT);
        let segment_bytes = get_u64(bytes, SEGMENT_BYTES_AT);
        let header = SegmentHeader {
            align,
            log_id: LogId::new(get_u128(bytes, LOG_ID_AT)),
            number: SegmentNo::new(
                u32::try_from(number).map_err(|_| Corrupt::field("segment header: number", SEGMENT_NO_AT))?,
            ),
            bytes: segment_bytes,
            packed: flags & FLAG_PACKED != 0,
            generation: get_u64(bytes, GENERATION_AT),
            salt: get_u64(bytes, SALT_AT),
            prepared_ts_ns: get_u64(bytes, PREPARED_TS_AT),
        };
        if !(header.bytes_min()..=SEGMENT_BYTES_MAX).contains(&segment_bytes)
            || !segment_bytes.is_multiple_of(align.into())
        {
            return Err(Corrupt::field("segment header: length", SEGMENT_BYTES_AT));
        }
        Ok(header)
    }

    /// A packed segment is as small as its blocks.
    fn bytes_min(&self) -> u64 {
        if self.packed { 3 * u64::from(self.first_block_offset()) } else { SEGMENT_BYTES_MIN }
    }
}

/// An `align` from its logarithm, bounded by what the format allows.
pub(super) fn parse_align(log2: u8, at: usize) -> Result<u32, Corrupt> {
    let align = 1usize.checked_shl(log2.into()).unwrap_or(0);
    if !(ALIGN_MIN..=ALIGN_MAX).contains(&align) {
        return Err(Corrupt::field("align", at));
    }
    Ok(align as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            align: 4096,
            log_id: LogId::new(7),
            number: SegmentNo::new(3),
            bytes: 64 << 10,
            packed: false,
            generation: 1,
            salt: 99,
            prepared_ts_ns: 5,
        }
    }

    #[test]
    fn a_header_comes_back_as_it_went() {
        assert_eq!(SegmentHeader::parse(&header().encode()), Ok(header()));
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_found() {
        let good = header().encode();
        for bit in 0..good.len() * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::parse(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn the_largest_segment_leaves_an_offset_of_32_bits() {
        let largest = SegmentHeader { bytes: SEGMENT_BYTES_MAX, ..header() };
        assert_eq!(largest.blocks_end(), u32::MAX - 4095);
    }
}
