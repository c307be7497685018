//! Packing a full segment: the same portable blocks back to back, without the padding. docs/FORMAT.md#packed-segments
//!
//! ```text
//!   |B....|B....|B....|B....|      a trickle of single appends costs a sector each
//!   |BBBB|                         packed: same LSNs, same chain, a new salt
//! ```
//!
//! The padding keeps a sector from being written twice while the log grows; in a segment that is full it is of no use. The packed form is
//! made beside the segment and takes its name in one step, so there is always one of the two.
//!
//! Layer: log. Uses `segment`, `walk`. Knows nothing of when it is worth it.

use std::sync::Arc;

use super::meta::BlockMeta;
use super::segment::{NotMade, Segment, replace_with_packed};
use super::tail::Tail;
use super::walk::{SegmentMap, Walker};
use crate::format::block::{ENVELOPE_BYTES, seal};
use crate::format::segment::SegmentHeader;
use crate::lsn::Position;
use crate::storage::{self, AlignedBuf, Disk, File};

/// Bytes written at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Bytes of a block in a packed segment.
fn packed_len(header: &SegmentHeader, block: &BlockMeta) -> usize {
    (ENVELOPE_BYTES + block.body_len as usize).next_multiple_of(header.block_align() as usize)
}

/// The header of the packed form of a segment with these blocks, the first of them at `start`.
pub(super) fn packed_header(old: &SegmentHeader, start: Position, blocks: &[BlockMeta], salt: u64) -> SegmentHeader {
    let header = SegmentHeader { packed: true, salt, ..*old };
    let bytes: usize = blocks.iter().map(|block| packed_len(&header, block)).sum();
    let around = u64::from(start.offset()) + u64::from(header.first_block_offset());
    SegmentHeader { bytes: (around + bytes as u64).next_multiple_of(header.align.into()), ..header }
}

/// Packs a segment. `blocks` are all that it holds, `from` the place of the first, which it keeps.
///
/// Returns the packed form, with its blocks published,
/// and where they are now.
pub(super) fn pack(
    disk: &Disk,
    old: &Arc<Segment>,
    header: SegmentHeader,
    from: Tail,
    blocks: &[BlockMeta],
) -> Result<(Segment, Vec<BlockMeta>), NotMade> {
    let mut moved = Vec::with_capacity(blocks.len());
    let packed = replace_with_packed(disk, header, |file| {
        let one = SegmentMap::from([(old.number(), Arc::clone(old))]);
        let mut walker = Walker::new(&one, &[], from);
        let mut filler = Filler::new(file, from.position.offset(), header.align);
        for block in blocks {
            let unsound = |corrupt: crate::format::Corrupt| {
                let reason = format!("lsn {} is damaged: {corrupt}", block.lsn);
                storage::Error::new(
                    "pack",
                    old.file.name(),
                    std::io::Error::new(std::io::ErrorKind::InvalidData, reason),
                )
            };
            let view = walker.step()?.map_err(unsound)?;
            let mut bytes = vec![0; packed_len(&header, block)];
            let body = view.portable.bytes();
            bytes[ENVELOPE_BYTES..ENVELOPE_BYTES + body.len()].copy_from_slice(body);
            let position = Position::new(header.number, filler.offset());
            let envelope = crate::format::block::Envelope { position, ..view.envelope };
            seal(&mut bytes, header.salt, &envelope, body.len());
            filler.add(&bytes)?;
            moved.push(BlockMeta { position, total_len: bytes.len() as u32, ..block.clone() });
        }
        filler.finish()
    })?;
    moved.iter().for_each(|block| packed.publish(block));
    Ok((packed, moved))
}

/// Writes bytes one behind the other, in whole units of the device.
struct Filler<'a> {
    file: &'a File,
    chunk: AlignedBuf,
    /// Where the chunk begins, and how much of it is filled.
    start: u32,
    filled: usize,
}

impl Filler<'_> {
    /// From `offset` on; what lies before it in its sector is zeros.
    fn new(file: &File, offset: u32, align: u32) -> Filler<'_> {
        let before = offset % align;
        Filler { file, chunk: AlignedBuf::new(CHUNK_BYTES), start: offset - before, filled: before as usize }
    }

    fn offset(&self) -> u32 {
        self.start + self.filled as u32
    }

    fn add(&mut self, mut bytes: &[u8]) -> storage::Result<()> {
        while !bytes.is_empty() {
            let n = bytes.len().min(CHUNK_BYTES - self.filled);
            self.chunk[self.filled..self.filled + n].copy_from_slice(&bytes[..n]);
            self.filled += n;
            bytes = &bytes[n..];
            if self.filled == CHUNK_BYTES {
                self.file.write_at(&self.chunk, CHUNK_BYTES, self.start.into())?;
                (self.start, self.filled) = (self.start + CHUNK_BYTES as u32, 0);
            }
        }
        Ok(())
    }

    fn finish(mut self) -> storage::Result<()> {
        let len = self.filled.next_multiple_of(crate::limits::ALIGN_MAX).min(CHUNK_BYTES);
        self.chunk[self.filled..len].fill(0);
        let room = self.file.len()? - u64::from(self.start);
        let len = len.min(room as usize);
        if len > 0 { self.file.write_at(&self.chunk, len, self.start.into()) } else { Ok(()) }
    }
}
