//! The index of one segment: what is remembered of its blocks, so that an open need not read them. docs/FORMAT.md#index
//!
//! Derived from the segment and never believed over it: it is taken only if it continues the log where the open stands (LSN and chain),
//! and was made of this use of the file (salt).
//!
//! Layer: format. Knows nothing of files, nor of when an index is written.

use super::block::Kind;
use super::checksum::plain_sum;
use super::field::{Reader, get_u64, is_zero};
use super::meta::{BlockMeta, Run};
use super::segment::SegmentHeader;
use super::{Corrupt, FORMAT_VERSION};
use crate::ids::{Chain, Incarnation, LogId, SegmentNo, TopicId};
use crate::limits::{ALIGN_MAX, ALIGN_MIN, BLOCK_BYTES_MAX, BLOCK_ENTRIES_MAX, SEGMENT_BYTES_MAX};
use crate::lsn::{Lsn, Position};

const MAGIC: &[u8; 8] = b"WALRIDX1";

/// Beside the align, which is a power of two and at most 64 KiB.
const PACKED: u32 = 1 << 31;

/// Bytes of the largest index. A segment that would need more, hundreds of topics in each of its blocks, has none and is read.
pub(crate) const INDEX_BYTES_MAX: usize = 256 << 20;

/// What an index holds.
#[derive(Clone, Debug)]
pub(crate) struct SegmentIndex {
    /// The segment's header, so that not even that need be read.
    pub(crate) header: SegmentHeader,
    /// The latest incarnation of a block in it: a fence that came later may kill some.
    pub(crate) incarnation: Incarnation,
    /// The chain before its first block.
    pub(crate) prev_chain: Chain,
    /// Its blocks from the first on; not all of them while the segment is being written.
    pub(crate) blocks: Vec<BlockMeta>,
}

impl SegmentIndex {
    /// Nothing for a segment without blocks, or with more in them than an index holds.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let first = self.blocks.first()?;
        let mut out = Vec::with_capacity(128 + self.blocks.len() * 80);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.incarnation.get().to_le_bytes());
        out.extend_from_slice(&self.header.log_id.get().to_le_bytes());
        out.extend_from_slice(&u64::from(self.header.number.get()).to_le_bytes());
        out.extend_from_slice(&self.header.bytes.to_le_bytes());
        out.extend_from_slice(&self.header.generation.to_le_bytes());
        out.extend_from_slice(&self.header.salt.to_le_bytes());
        out.extend_from_slice(&self.header.prepared_ts_ns.to_le_bytes());
        let packed = if self.header.packed { PACKED } else { 0 };
        out.extend_from_slice(&(self.header.align | packed).to_le_bytes());
        out.extend_from_slice(&(self.blocks.len() as u32).to_le_bytes());
        out.extend_from_slice(&first.lsn.get().to_le_bytes());
        out.extend_from_slice(&self.prev_chain.get().to_le_bytes());
        for block in &self.blocks {
            encode_block(&mut out, block);
            if out.len() > INDEX_BYTES_MAX - 8 {
                return None;
            }
        }
        let sum = plain_sum(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        Some(out)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<SegmentIndex, Corrupt> {
        let body_len = bytes.len().checked_sub(8).ok_or(Corrupt::Short { what: "index" })?;
        let (body, sum) = bytes.split_at(body_len);
        if get_u64(sum, 0) != plain_sum(body) {
            return Err(Corrupt::field("index: sum", body_len));
        }
        let mut reader = Reader::new(body, "index");
        if reader.bytes(8)? != MAGIC {
            return Err(Corrupt::field("index: magic", 0));
        }
        let version = reader.u16()?;
        if version != FORMAT_VERSION || !is_zero(reader.bytes(2)?) {
            return Err(Corrupt::Newer { what: "index format", value: version.into() });
        }
        let incarnation = Incarnation::new(reader.u32()?);
        let (header, n_blocks) = parse_header(&mut reader)?;
        let (mut lsn, prev_chain) = (Lsn::new(reader.u64()?), Chain::new(reader.u64()?));
        // No reservation by a count from disk: the vector grows as the bytes bear it out.
        let mut blocks: Vec<BlockMeta> = Vec::new();
        for _ in 0..n_blocks {
            let from = blocks.last().map_or(header.first_block_offset(), end_of);
            blocks.push(parse_block(&mut reader, &header, lsn, from)?);
            lsn = Lsn::new(lsn.get().checked_add(1).ok_or(Corrupt::field("index: LSN", 0))?);
        }
        if reader.left() != 0 || blocks.is_empty() {
            return Err(Corrupt::field("index: its length", body_len));
        }
        Ok(SegmentIndex { header, incarnation, prev_chain, blocks })
    }
}

fn end_of(block: &BlockMeta) -> u32 {
    block.position.offset() + block.total_len
}

fn parse_header(reader: &mut Reader<'_>) -> Result<(SegmentHeader, u32), Corrupt> {
    let log_id = LogId::new(reader.u128()?);
    let number = u32::try_from(reader.u64()?).map_err(|_| Corrupt::field("index: number of the segment", 32))?;
    let (bytes, generation, salt, prepared_ts_ns) = (reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?);
    let (align_and_packed, n_blocks) = (reader.u32()?, reader.u32()?);
    let (align, packed) = (align_and_packed & !PACKED, align_and_packed & PACKED != 0);
    let sizes = align.is_power_of_two() && (ALIGN_MIN..=ALIGN_MAX).contains(&(align as usize));
    if !sizes || !(2 * u64::from(align)..=SEGMENT_BYTES_MAX).contains(&bytes) || !bytes.is_multiple_of(align.into()) {
        return Err(Corrupt::field("index: sizes of the segment", 40));
    }
    let number = SegmentNo::new(number);
    Ok((SegmentHeader { align, log_id, number, bytes, packed, generation, salt, prepared_ts_ns }, n_blocks))
}

fn encode_block(out: &mut Vec<u8>, block: &BlockMeta) {
    let control = block.control.as_deref().unwrap_or(&[]);
    out.extend_from_slice(&block.position.offset().to_le_bytes());
    out.extend_from_slice(&block.total_len.to_le_bytes());
    out.extend_from_slice(&block.body_len.to_le_bytes());
    out.extend_from_slice(&block.remaining.to_le_bytes());
    out.extend_from_slice(&[block.kind.number(), u8::from(block.control.is_some())]);
    out.extend_from_slice(&(block.runs.len() as u16).to_le_bytes());
    out.extend_from_slice(&(control.len() as u32).to_le_bytes());
    out.extend_from_slice(&block.ts_ns.to_le_bytes());
    out.extend_from_slice(&block.chain.get().to_le_bytes());
    out.extend_from_slice(&block.txn.map_or(0, Lsn::get).to_le_bytes());
    for run in &block.runs {
        out.extend_from_slice(&run.topic.get().to_le_bytes());
        out.extend_from_slice(&run.entries.to_le_bytes());
        out.extend_from_slice(&run.first_offset.to_le_bytes());
    }
    out.extend_from_slice(control);
}

/// Reads one block, which must lie at or behind `from`.
fn parse_block(reader: &mut Reader<'_>, header: &SegmentHeader, lsn: Lsn, from: u32) -> Result<BlockMeta, Corrupt> {
    let wrong = |what| Err(Corrupt::field(what, 0));
    let (offset, total_len, body_len, remaining) = (reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?);
    let kind = reader.bytes(2)?;
    let (kind, has_control) = (Kind::parse(kind[0])?, kind[1] == 1);
    let (n_runs, control_len) = (usize::from(reader.u16()?), reader.u32()? as usize);
    let (ts_ns, chain, txn) = (reader.u64()?, Chain::new(reader.u64()?), reader.u64()?);
    let align = header.block_align();
    let whole = offset.is_multiple_of(align) && total_len.is_multiple_of(align) && total_len > body_len;
    if !whole
        || offset < from
        || total_len as usize > BLOCK_BYTES_MAX
        || header.blocks_end() - offset.min(header.blocks_end()) < total_len
    {
        return wrong("index: place of a block");
    }
    if n_runs > BLOCK_ENTRIES_MAX || control_len > BLOCK_BYTES_MAX {
        return wrong("index: contents of a block");
    }
    let runs = (0..n_runs).map(|_| parse_run(reader)).collect::<Result<_, _>>()?;
    let control = reader.bytes(control_len)?.to_vec();
    Ok(BlockMeta {
        lsn,
        position: Position::new(header.number, offset),
        total_len,
        body_len,
        chain,
        ts_ns,
        kind,
        remaining,
        txn: (txn != 0).then(|| Lsn::new(txn)),
        runs,
        control: has_control.then_some(control),
    })
}

fn parse_run(reader: &mut Reader<'_>) -> Result<Run, Corrupt> {
    let (topic, entries) = (TopicId::new(reader.u32()?), reader.u32()?);
    let first_offset = reader.u64()?;
    if first_offset.checked_add(entries.into()).is_none() {
        return Err(Corrupt::field("index: offsets beyond all numbers", 0));
    }
    Ok(Run { topic, first_offset, entries })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_comes_back_as_it_went_and_every_flipped_bit_is_found() {
        let header = SegmentHeader {
            align: 4096,
            log_id: LogId::new(1),
            number: SegmentNo::new(3),
            bytes: 64 << 10,
            packed: false,
            generation: 2,
            salt: 9,
            prepared_ts_ns: 5,
        };
        let block = |lsn: u64, offset, kind, control: Option<&[u8]>| BlockMeta {
            lsn: Lsn::new(lsn),
            position: Position::new(header.number, offset),
            total_len: 4096,
            body_len: 300,
            chain: Chain::new(lsn * 7),
            ts_ns: lsn * 100,
            kind,
            remaining: 1,
            txn: Some(Lsn::new(2)),
            runs: vec![Run { topic: TopicId::new(1), first_offset: 40, entries: 3 }],
            control: control.map(<[u8]>::to_vec),
        };
        let blocks = vec![block(10, 4096, Kind::Data, None), block(11, 12288, Kind::Topic, Some(b"body"))];
        let index = SegmentIndex { header, incarnation: Incarnation::new(4), prev_chain: Chain::new(6), blocks };
        let good = index.encode().unwrap();
        let again = SegmentIndex::parse(&good).unwrap();
        assert_eq!(format!("{again:?}"), format!("{index:?}"));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentIndex::parse(&bad).is_err(), "bit {bit}");
        }
        // Sound sums, impossible places: an index must not name a block that no segment can hold.
        for offset in [0, 4097, 60 << 10, u32::MAX - 4095] {
            let blocks = vec![block(10, offset, Kind::Data, None)];
            assert!(
                SegmentIndex::parse(&SegmentIndex { blocks, ..index.clone() }.encode().unwrap()).is_err(),
                "{offset}"
            );
        }
    }
}
