//! One segment file: spare, then active, then sealed.
//!
//! The file does not change when it goes from one to the next: a spare has its number, salt and header already, so going on
//! into it costs the commit path nothing.
//!
//! Layer: log. Knows nothing of the other segments.

use std::sync::RwLock;

use crate::format::segment::{HEADER_BYTES, SegmentHeader};
use crate::format::{Corrupt, block};
use crate::ids::{LogId, SegmentNo};
use crate::lsn::{Lsn, Position};
use crate::storage::{self, AlignedBuf, Disk, File};

/// In place of an offset: this block is damaged. No block lies where the header is.
const NO_BLOCK: u32 = 0;

/// A segment and where its published blocks begin.
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    pub(crate) file: File,
    published: RwLock<Published>,
}

/// The published blocks of a segment: their LSNs are consecutive, so the place of each is one number.
#[derive(Default)]
struct Published {
    first_lsn: Option<Lsn>,
    offsets: Vec<u32>,
    end: u32,
}

/// Where a block lies in its segment, and what follows it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) offset: u32,
    /// Where the block ends.
    pub(crate) block_end: u32,
    /// Where the published blocks of the segment end.
    pub(crate) end: u32,
}

impl Segment {
    pub(crate) fn new(header: SegmentHeader, file: File) -> Segment {
        Segment { header, file, published: RwLock::default() }
    }

    /// Opens the segment of that number and reads its header past the page cache.
    ///
    /// The inner error says why the file is no segment of this log: both copies of its header are unsound or speak of another.
    pub(crate) fn open(disk: &Disk, number: SegmentNo, log_id: LogId) -> storage::Result<Result<Segment, Corrupt>> {
        let file = disk.open_file(&file_name(number))?;
        let header = match read_header(disk, &file)? {
            Ok(header) if header.number != number => {
                Err(Corrupt::field("segment header: another segment's number", 32))
            }
            Ok(header) if header.log_id != log_id => Err(Corrupt::field("segment header: another log's id", 16)),
            other => other,
        };
        Ok(header.map(|header| Segment::new(header, file)))
    }

    pub(crate) fn number(&self) -> SegmentNo {
        self.header.number
    }

    /// What a block at `position` in this segment must agree with.
    pub(crate) fn place(&self, position: Position) -> block::Place {
        assert_eq!(position.segment(), self.number());
        block::Place { log_id: self.header.log_id, salt: self.header.salt, position, align: self.header.align as usize }
    }

    /// Where the first block goes.
    pub(crate) fn start(&self) -> Position {
        Position::new(self.number(), self.header.first_block_offset())
    }

    /// Adds one block behind those already published.
    pub(crate) fn publish(&self, lsn: Lsn, position: Position, total_len: u32) {
        let mut published = self.published.write().expect("no holder of this lock panics");
        let first = *published.first_lsn.get_or_insert(lsn);
        assert_eq!(lsn.blocks_since(first), published.offsets.len() as u64, "blocks are published in order");
        published.offsets.push(position.offset());
        published.end = position.offset() + total_len;
    }

    /// Adds one block behind a damaged stretch, whose blocks have no place any more.
    pub(crate) fn publish_behind_damage(&self, lsn: Lsn, position: Position, total_len: u32) {
        let blocks_max = u64::from(self.header.blocks_end() / self.header.align);
        let mut published = self.published.write().expect("no holder of this lock panics");
        let first = *published.first_lsn.get_or_insert(lsn);
        let index = lsn.blocks_since(first).min(blocks_max) as usize;
        if lsn < first || index < published.offsets.len() {
            return; // no order that a log can have: not worth a place
        }
        published.offsets.resize(index, NO_BLOCK);
        published.offsets.push(position.offset());
        published.end = position.offset() + total_len;
    }

    /// Forgets the blocks from `lsn` on: they have another place now.
    pub(crate) fn unpublish_from(&self, lsn: Lsn) {
        let mut published = self.published.write().expect("no holder of this lock panics");
        let Some(first) = published.first_lsn else { return };
        let kept = lsn.blocks_since(first) as usize;
        if kept >= published.offsets.len() {
            return;
        }
        published.end = published.offsets[kept];
        published.offsets.truncate(kept);
        if kept == 0 {
            published.first_lsn = None;
        }
    }

    /// The first published block, if there is one.
    pub(crate) fn first_lsn(&self) -> Option<Lsn> {
        self.published.read().expect("no holder of this lock panics").first_lsn
    }

    /// Where block `lsn` lies, and how far published blocks follow it here.
    pub(crate) fn locate(&self, lsn: Lsn) -> Option<Stretch> {
        let published = self.published.read().expect("no holder of this lock panics");
        let index = usize::try_from(lsn.blocks_since(published.first_lsn?)).ok()?;
        let offset = *published.offsets.get(index).filter(|offset| **offset != NO_BLOCK)?;
        let behind = published.offsets[index + 1..].iter().find(|offset| **offset != NO_BLOCK);
        let block_end = behind.copied().unwrap_or(published.end);
        Some(Stretch { offset, block_end, end: published.end })
    }
}

/// The file name of segment `number`.
pub(crate) fn file_name(number: SegmentNo) -> String {
    format!("{}/{:016x}.seg", super::WAL, number.get())
}

/// The number in a segment's file name, or `None` for any other name.
pub(crate) fn parse_file_name(name: &str) -> Option<SegmentNo> {
    let digits = name.strip_suffix(".seg").filter(|digits| digits.len() == 16)?;
    u32::from_str_radix(digits, 16).ok().map(SegmentNo::new)
}

/// Reads a header: the first copy, and where that is unsound the last.
fn read_header(disk: &Disk, file: &File) -> storage::Result<Result<SegmentHeader, Corrupt>> {
    let len = file.len()?;
    let align = disk.align();
    if len < 2 * align as u64 || !len.is_multiple_of(align as u64) {
        return Ok(Err(Corrupt::Short { what: "segment file" }));
    }
    let mut buffer = AlignedBuf::new(align);
    file.read_direct(&mut buffer, 0, align)?;
    let first = SegmentHeader::parse(&buffer);
    let header = match first {
        Ok(_) => first,
        Err(_) => {
            file.read_direct(&mut buffer, len - align as u64, align)?;
            SegmentHeader::parse(&buffer[align - HEADER_BYTES..]).or(first)
        }
    };
    Ok(match header {
        Ok(header) if header.bytes != len => Err(Corrupt::field("segment header: length of the file", 48)),
        other => other,
    })
}

/// Makes a spare: zeros, both headers, flush, rename, flush of the folder. Everything that is slow about a new segment happens
/// here, in the background, so that nothing of it happens in a commit: docs/FORMAT.md#segments
pub(crate) fn prepare(disk: &Disk, header: SegmentHeader) -> storage::Result<Segment> {
    let temporary = format!("{}/spare-{}.tmp", super::WAL, header.number);
    let file = disk.create(&temporary, header.bytes)?;
    let align = header.align as usize;
    let mut buffer = AlignedBuf::new(align);
    buffer[..HEADER_BYTES].copy_from_slice(&header.encode());
    file.write_at(&buffer, align, 0)?;
    buffer.fill(0);
    buffer[align - HEADER_BYTES..].copy_from_slice(&header.encode());
    file.write_at(&buffer, align, header.bytes - align as u64)?;
    file.flush()?;
    disk.rename(&temporary, &file_name(header.number))?;
    disk.flush_folder(super::WAL)?;
    Ok(Segment::new(header, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_segment_files_have_numbers() {
        let number = SegmentNo::new(0x1f);
        assert_eq!(parse_file_name(file_name(number).strip_prefix("wal/").unwrap()), Some(number));
        for other in ["spare-1.tmp", "1f.seg", "00000000000000zz.seg", "000000010000001f.seg"] {
            assert_eq!(parse_file_name(other), None, "{other}");
        }
    }
}
