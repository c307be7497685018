//! One segment file: spare, then active, then sealed.
//!
//! The file does not change when it goes from one to the next: a spare has its number, salt and header already, so going on
//! into it costs the commit path nothing.
//!
//! Layer: log. Knows nothing of the other segments.

use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::meta::BlockMeta;
use crate::format::segment::{HEADER_BYTES, SegmentHeader};
use crate::format::{Corrupt, block};
use crate::ids::{LogId, SegmentNo};
use crate::lsn::{Lsn, Position};
use crate::storage::{self, AlignedBuf, Disk, File, Haste};

/// In place of an offset: this block is damaged. No block lies where the header is.
const NO_BLOCK: u32 = 0;

/// A segment and where its published blocks begin.
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    pub(crate) file: File,
    published: RwLock<Published>,
    condemned: AtomicBool,
}

/// The published blocks of a segment: their LSNs are consecutive, so the place of each is one number.
#[derive(Default)]
struct Published {
    first_lsn: Option<Lsn>,
    offsets: Vec<u32>,
    end: u32,
    last_ts_ns: u64,
}

/// Where a block lies in its segment, and what follows it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) offset: u32,
    /// Where the block ends.
    pub(crate) block_end: u32,
    /// Where the last block ends of those that were asked for.
    pub(crate) end: u32,
}

impl Segment {
    pub(crate) fn new(header: SegmentHeader, file: File) -> Segment {
        Segment { header, file, published: RwLock::default(), condemned: AtomicBool::new(false) }
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

    /// Opens a segment whose header an index knows: nothing of it is read. None if the file has not the length of that segment.
    pub(crate) fn open_indexed(disk: &Disk, header: SegmentHeader) -> storage::Result<Option<Segment>> {
        let file = disk.open_file(&file_name(header.number))?;
        Ok((file.len()? == header.bytes).then(|| Segment::new(header, file)))
    }

    pub(crate) fn number(&self) -> SegmentNo {
        self.header.number
    }

    /// What a block at `position` in this segment must agree with.
    pub(crate) fn place(&self, position: Position) -> block::Place {
        assert_eq!(position.segment(), self.number());
        block::Place {
            log_id: self.header.log_id,
            salt: self.header.salt,
            position,
            align: self.header.block_align() as usize,
        }
    }

    /// Where the first block goes.
    pub(crate) fn start(&self) -> Position {
        Position::new(self.number(), self.header.first_block_offset())
    }

    /// How many blocks of `block_bytes` there is room for, from its start on.
    pub(crate) fn room_for(&self, block_bytes: usize) -> usize {
        self.room_behind(self.header.first_block_offset(), block_bytes)
    }

    /// The same from an offset on.
    pub(crate) fn room_behind(&self, offset: u32, block_bytes: usize) -> usize {
        self.header.blocks_end().saturating_sub(offset) as usize / block_bytes
    }

    /// A write or a flush of it failed: it is never made a spare again by this process, which would have to flush it.
    pub(crate) fn condemn(&self) {
        self.condemned.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_condemned(&self) -> bool {
        self.condemned.load(Ordering::Relaxed)
    }

    /// Adds one block behind those already published.
    pub(crate) fn publish(&self, block: &BlockMeta) {
        let mut published = self.published.write().expect("no holder of this lock panics");
        let first = *published.first_lsn.get_or_insert(block.lsn);
        assert_eq!(block.lsn.blocks_since(first), published.offsets.len() as u64, "blocks are published in order");
        published.offsets.push(block.position.offset());
        published.end = block.position.offset() + block.total_len;
        published.last_ts_ns = block.ts_ns;
    }

    /// Adds one block behind a damaged stretch, whose blocks have no place any more.
    pub(crate) fn publish_behind_damage(&self, lsn: Lsn, position: Position, total_len: u32) {
        let blocks_max = u64::from(self.header.blocks_end() / self.header.block_align());
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

    /// The last published block, if there is one.
    pub(crate) fn last_lsn(&self) -> Option<Lsn> {
        let published = self.published.read().expect("no holder of this lock panics");
        let blocks = published.offsets.len() as u64;
        published.first_lsn.map(|first| Lsn::new(first.get() + blocks - 1))
    }

    /// The first published block, if there is one.
    pub(crate) fn first_lsn(&self) -> Option<Lsn> {
        self.published.read().expect("no holder of this lock panics").first_lsn
    }

    /// When its last published block was written, if there is one: nanoseconds since 1970.
    pub(crate) fn last_ts_ns(&self) -> Option<u64> {
        let published = self.published.read().expect("no holder of this lock panics");
        published.first_lsn.map(|_| published.last_ts_ns)
    }

    /// Where block `lsn` lies, and where the last one ends that lies whole within `bytes_max` bytes, of `blocks_max` at most.
    pub(crate) fn locate(&self, lsn: Lsn, blocks_max: usize, bytes_max: usize) -> Option<Stretch> {
        let published = self.published.read().expect("no holder of this lock panics");
        let first = published.first_lsn.filter(|first| *first <= lsn)?;
        let index = usize::try_from(lsn.blocks_since(first)).ok()?;
        let offset = *published.offsets.get(index).filter(|offset| **offset != NO_BLOCK)?;
        let behind = published.offsets[index + 1..].iter().copied().filter(|offset| *offset != NO_BLOCK);
        let mut ends = behind.chain([published.end]);
        let block_end = ends.next().expect("the last of them at least");
        let reach = offset.saturating_add(u32::try_from(bytes_max).unwrap_or(u32::MAX));
        let end = ends.take(blocks_max.saturating_sub(1)).take_while(|end| *end <= reach).last().unwrap_or(block_end);
        Some(Stretch { offset, block_end, end })
    }
}

/// The file name of segment `number`.
pub(crate) fn file_name(number: SegmentNo) -> String {
    format!("{}/{:016x}.seg", super::WAL, number.get())
}

/// What a segment is called until it is ready.
fn temporary_name(number: SegmentNo) -> String {
    format!("{}/spare-{number}.tmp", super::WAL)
}

/// The number in a segment's file name, or `None` for any other name.
pub(crate) fn parse_file_name(name: &str) -> Option<SegmentNo> {
    parse_number(name, ".seg")
}

/// The number before a suffix: sixteen hex digits.
pub(super) fn parse_number(name: &str, suffix: &str) -> Option<SegmentNo> {
    let digits = name.strip_suffix(suffix).filter(|digits| digits.len() == 16)?;
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
///
/// With what `haste` the zeros are written is asked again and again.
pub(crate) fn prepare(disk: &Disk, header: SegmentHeader, haste: &dyn Fn() -> Haste) -> Result<Segment, NotMade> {
    let temporary = temporary_name(header.number);
    let file = disk.create_with(&temporary, header.bytes, haste)?;
    finish(disk, header, file, &temporary)
}

/// Makes a spare of a segment that was given away, and that nobody reads any more: renamed away, flush of the folder, and only then
/// the headers. No zeroing: its number is new, and position and salt kill what is in it: docs/FORMAT.md#segments
///
/// The header's length is that of the file.
pub(crate) fn recycle(disk: &Disk, old: Segment, header: SegmentHeader) -> Result<Segment, NotMade> {
    assert_eq!(header.bytes, old.header.bytes);
    assert!(header.number > old.number(), "a number is never used twice");
    let temporary = temporary_name(header.number);
    disk.rename(&file_name(old.number()), &temporary)?;
    // Until the old name is durably gone, a crash could bring it back with a header that names another segment.
    disk.flush_folder(super::WAL).map_err(NotMade::names_in_doubt)?;
    drop(old);
    let file = disk.open_file(&temporary)?;
    finish(disk, header, file, &temporary)
}

/// Makes the packed form of a segment, which takes its name: the blocks that `fill` writes, headers, flush, name. Until it has the
/// name nothing has changed.
pub(super) fn replace_with_packed(
    disk: &Disk,
    header: SegmentHeader,
    fill: impl FnOnce(&File) -> storage::Result<()>,
) -> Result<Segment, NotMade> {
    let temporary = format!("{}/pack-{}.tmp", super::WAL, header.number);
    let file = disk.create(&temporary, header.bytes)?;
    if let Err(error) = fill(&file) {
        let _ = disk.remove(&temporary);
        return Err(error.into());
    }
    finish(disk, header, file, &temporary)
}

/// From a file of the right length to a segment: headers, flush, name. What could not be finished is removed.
fn finish(disk: &Disk, header: SegmentHeader, file: File, temporary: &str) -> Result<Segment, NotMade> {
    let named = write_headers(&file, &header).and_then(|()| disk.rename(temporary, &file_name(header.number)));
    if let Err(error) = named {
        // If this fails, too, the next opening removes it.
        let _ = disk.remove(temporary);
        return Err(error.into());
    }
    disk.flush_folder(super::WAL).map_err(NotMade::names_in_doubt)?;
    Ok(Segment::new(header, file))
}

fn write_headers(file: &File, header: &SegmentHeader) -> storage::Result<()> {
    let align = header.align as usize;
    let mut buffer = AlignedBuf::new(align);
    buffer[..HEADER_BYTES].copy_from_slice(&header.encode());
    file.write_at(&buffer, align, 0)?;
    buffer.fill(0);
    buffer[align - HEADER_BYTES..].copy_from_slice(&header.encode());
    file.write_at(&buffer, align, header.bytes - align as u64)?;
    file.flush()
}

/// Why a segment could not be made.
#[derive(Debug)]
pub(crate) struct NotMade {
    pub(crate) error: storage::Error,
    /// A flush of the folder failed. It is never tried again, so no name that is made there later could be relied on.
    pub(crate) names_in_doubt: bool,
}

impl NotMade {
    fn names_in_doubt(error: storage::Error) -> NotMade {
        NotMade { error, names_in_doubt: true }
    }
}

impl From<storage::Error> for NotMade {
    fn from(error: storage::Error) -> NotMade {
        NotMade { error, names_in_doubt: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Access, sim::SimDisk};

    #[test]
    fn only_segment_files_have_numbers() {
        let number = SegmentNo::new(0x1f);
        assert_eq!(parse_file_name(file_name(number).strip_prefix("wal/").unwrap()), Some(number));
        for other in ["spare-1.tmp", "1f.seg", "00000000000000zz.seg", "000000010000001f.seg"] {
            assert_eq!(parse_file_name(other), None, "{other}");
        }
    }

    #[test]
    fn a_stretch_is_of_whole_blocks_no_more_than_asked_for_and_the_first_at_least() {
        let disk = SimDisk::new(1).open(Access::Write).unwrap();
        let file = disk.create("segment", 64 << 10).unwrap();
        let header = SegmentHeader {
            align: 4096,
            log_id: LogId::new(1),
            number: SegmentNo::new(1),
            bytes: 64 << 10,
            packed: false,
            generation: 0,
            salt: 5,
            prepared_ts_ns: 0,
        };
        let segment = Segment::new(header, file);
        // Blocks 7 and 8, a hole of one, and block 10: 4 KiB, 8 KiB, -, 4 KiB.
        for (lsn, offset, len) in [(7, 4096, 4096), (8, 8192, 8192), (10, 20480, 4096)] {
            segment.publish_behind_damage(Lsn::new(lsn), Position::new(SegmentNo::new(1), offset), len);
        }
        let end = |lsn, blocks_max, bytes_max| segment.locate(Lsn::new(lsn), blocks_max, bytes_max).map(|s| s.end);
        assert_eq!(segment.locate(Lsn::new(7), 9, 0), Some(Stretch { offset: 4096, block_end: 8192, end: 8192 }));
        for (bytes_max, wanted) in [(4096, 8192), (16383, 8192), (16384, 20480), (20479, 20480), (usize::MAX, 24576)] {
            assert_eq!(end(7, usize::MAX, bytes_max), Some(wanted), "{bytes_max} bytes");
        }
        for (blocks_max, wanted) in [(0, 8192), (1, 8192), (2, 20480), (3, 24576), (4, 24576)] {
            assert_eq!(end(7, blocks_max, usize::MAX), Some(wanted), "{blocks_max} blocks");
        }
        assert_eq!(end(10, 1, 0), Some(24576));
        assert_eq!((end(9, 1, 0), end(11, 1, 0), end(6, 1, 0)), (None, None, None));
    }
}
