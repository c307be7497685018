//! Cutting a damaged log off where it is still whole, on an operator's word: docs/FORMAT.md#loss-accepted
//!
//! ```text
//!   1  the rest of the cut's segment is copied to quarantine/             nothing is deleted
//!   2  later segments are renamed into it; so is the cut's own, if nothing of it is left
//!   3  a packed segment that is cut is replaced by its head
//!   4  fence at the cut, incarnation + 1, hint = cut                      in both superblock slots
//!   5  blocks behind the cut that look alive are erased                   flush
//! ```
//!
//! Cut short by a crash before the fence, the log ends where it would have been cut, and the same cut can be made again; after it, it is
//! repaired. Later segments go before the fence: once that is dropped, nothing would tell their blocks from living ones.
//!
//! Layer: log. Uses `recovery`, `open`, `pack`. Knows nothing of topics; decides nothing about what may be lost.

use std::sync::Arc;

use super::evidence::{Straggler, search};
use super::indexes;
use super::open::{remove_temporaries, set_fence};
use super::pack::{pack, packed_header};
use super::recovery::{LastSegment, OpenError, Recovered, first_position};
use super::segment::{Segment, file_name};
use super::tail::Tail;
use super::walk::{SegmentMap, Window};
use super::{QUARANTINE, WAL};
use crate::format::superblock::{Fence, FenceReason};
use crate::ids::{Incarnation, SegmentNo};
use crate::limits::FENCES_MAX;
use crate::lsn::Position;
use crate::storage::{self, AlignedBuf, Disk};

/// Bytes that are copied at a time, each into a file of its own: a segment may have more than fits in memory.
const PIECE_BYTES: usize = 64 << 20;

/// What a cut needs from outside.
pub(crate) struct Circumstances {
    pub(crate) now_ns: u64,
    /// Random: of the file that takes a packed segment's place.
    pub(crate) salt: u64,
}

/// Cuts a damaged log at the end of its last whole group before the damage. Returns the files in `quarantine/` that hold what was cut.
pub(crate) fn cut_off(disk: &Disk, recovered: Recovered, now: &Circumstances) -> Result<Vec<String>, OpenError> {
    let Recovered { mut superblock, segments, broken, tail, last_segment, .. } = recovered;
    let cut = tail.position;
    let incarnation = superblock.now.incarnation;
    // Only at the very start of a log: elsewhere the tail lies behind a block, in that block's segment.
    let nothing_left = last_segment.blocks.is_empty();
    let (mut kept, mut behind) = (Vec::new(), broken.iter().map(|(number, _)| *number).collect::<Vec<_>>());
    behind.extend(segments.keys().copied().filter(|number| *number > cut.segment()));
    let cut_segment = segments.get(&cut.segment());
    if nothing_left {
        behind.extend(cut_segment.map(|segment| segment.number()));
    }
    behind.retain(|number| *number >= cut.segment());
    behind.sort();

    // An interrupted repair may have left some, and on a full disk they are in the way.
    remove_temporaries(disk)?;
    // No index may be left of what is cut off: an open that believes it would name blocks that are not there.
    indexes::remove_stale(disk, |number| number < cut.segment())?;
    disk.make_folder(QUARANTINE)?;
    disk.flush_folder("")?;
    let head = cut_segment.filter(|_| !nothing_left);
    if let Some(segment) = head {
        copy_rest(disk, segment, cut, incarnation, &mut kept)?;
    }
    for number in behind {
        kept.push(set_aside(disk, number, incarnation)?);
    }
    disk.flush_folder(QUARANTINE)?;
    disk.flush_folder(WAL)?;
    let packed = head.filter(|segment| segment.header.packed);
    if let Some(segment) = packed {
        replace_by_head(disk, segment, &last_segment, now.salt)?;
    }

    // Before the fence, which moves the hint back: an open behind a crash between the two would not look far enough for what is left.
    if let (Some(segment), None) = (head, packed) {
        erase_behind(&segments, segment, cut)?;
    }
    let sb = &mut superblock.now;
    set_fence(&mut sb.fences, fence(incarnation, &tail, nothing_left, sb.align, now.now_ns), FENCES_MAX)
        .map_err(|reason| OpenError::Halted { reason })?;
    sb.incarnation = sb.incarnation.next();
    sb.hint = tail.hint();
    sb.clean = false;
    superblock.write_both()?;
    Ok(kept)
}

/// The fence of the cut. One that leaves nothing goes on in a later segment: so it stays, and says for as long as the log is empty that
/// this is known: docs/FORMAT.md#loss-accepted
fn fence(incarnation: Incarnation, tail: &Tail, nothing_left: bool, align: u32, ts_ns: u64) -> Fence {
    let cut = tail.position;
    let resume = match nothing_left {
        true => Position::new(cut.segment().next(), first_position(align).offset()),
        false => cut,
    };
    Fence { incarnation, reason: FenceReason::LossAccepted, cut, cut_lsn: tail.lsn, resume, chain: tail.chain, ts_ns }
}

/// Renames a segment into `quarantine/`, over nothing that is there. The caller flushes both folders.
fn set_aside(disk: &Disk, number: SegmentNo, incarnation: Incarnation) -> storage::Result<String> {
    let plain = format!("{:016x}.seg", number.get());
    // Somebody has put a segment back that was set aside before: the first copy is not given up for the second.
    let again = format!("{:016x}-{:08x}.seg", number.get(), incarnation.get());
    let name = if disk.list(QUARANTINE)?.contains(&plain) { again } else { plain };
    let aside = format!("{QUARANTINE}/{name}");
    disk.rename(&file_name(number), &aside)?;
    Ok(aside)
}

/// Copies what lies behind the cut in its segment, but for zeros.
fn copy_rest(
    disk: &Disk,
    segment: &Segment,
    cut: Position,
    incarnation: Incarnation,
    kept: &mut Vec<String>,
) -> storage::Result<()> {
    let (end, align) = (segment.header.blocks_end(), segment.header.align);
    let mut offset = cut.offset();
    let mut buffer = AlignedBuf::new(PIECE_BYTES.min(segment.header.bytes as usize));
    while offset < end {
        // In a packed segment a block ends anywhere; a direct read does not begin there.
        let start = offset - offset % align;
        let len = buffer.len().min((end - start) as usize);
        segment.file.read_direct(&mut buffer, start.into(), len)?;
        let piece = &buffer[(offset - start) as usize..len];
        let used = piece.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        if used > 0 {
            let place = format!("{QUARANTINE}/{:016x}-{offset:08x}-{:08x}", segment.number().get(), incarnation.get());
            kept.push(keep(disk, &place, &piece[..used])?);
        }
        offset = start + len as u32;
    }
    Ok(())
}

/// Keeps bytes under a name that begins so. With the incarnation in it, since what is written at the cut later may be cut off, too; and
/// with a number where an interrupted repair has kept the whole and erased a part.
fn keep(disk: &Disk, place: &str, bytes: &[u8]) -> storage::Result<String> {
    let names = std::iter::once(format!("{place}.blocks")).chain((2..).map(|n| format!("{place}-{n}.blocks")));
    for name in names {
        match disk.read_small(&name, PIECE_BYTES)? {
            Some(there) if there == bytes => return Ok(name),
            Some(_) => {}
            None => {
                disk.replace_small(&name, bytes)?;
                return Ok(name);
            }
        }
    }
    unreachable!("there is always another name")
}

/// Puts a segment that holds only the blocks before the cut in the place of a packed one, in one step. Beside packed blocks nothing can be
/// erased, since they share sectors; under a new salt nothing behind them is alive.
fn replace_by_head(disk: &Disk, old: &Arc<Segment>, head: &LastSegment, salt: u64) -> storage::Result<()> {
    let first = &head.blocks[0];
    let from = Tail { position: first.position, lsn: first.lsn, chain: head.prev_chain, ts_ns: first.ts_ns };
    let header = packed_header(&old.header, first.position, &head.blocks, salt);
    pack(disk, old, header, from, &head.blocks).map(|_| ()).map_err(|not_made| not_made.error)
}

/// Overwrites the first sector of every self-consistent block behind the cut in its segment.
fn erase_behind(segments: &SegmentMap, segment: &Segment, cut: Position) -> storage::Result<()> {
    let mut found: Vec<Straggler> = Vec::new();
    search(segment, cut.offset(), i64::MAX, &[], &mut Window::new(segments), &mut found)?;
    let align = segment.header.align as usize;
    let zeros = AlignedBuf::new(align);
    found.iter().try_for_each(|block| segment.file.write_at(&zeros, align, block.position.offset().into()))?;
    segment.file.flush()
}

/// The highest number of a segment that was set aside: it is never used again.
pub(super) fn last_set_aside(disk: &Disk) -> storage::Result<Option<SegmentNo>> {
    Ok(disk.list(QUARANTINE)?.iter().filter_map(|name| super::segment::parse_file_name(name)).max())
}
