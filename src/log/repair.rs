//! Cutting a damaged log off where it is still whole, on an operator's word: docs/FORMAT.md#fences
//!
//! ```text
//!   1  the rest of the cut's segment is copied to quarantine/, later segments are renamed into it      nothing is deleted
//!   2  fence at the cut, incarnation + 1, hint = cut                                                   in both superblock slots
//!   3  blocks behind the cut that look alive are erased                                                flush
//! ```
//!
//! Cut short by a crash before the fence, the log is as damaged as before, and the same cut can be made again; after it, it is repaired.
//! Later segments go first: once the fence is dropped, nothing would tell their blocks from living ones.
//!
//! Layer: log. Uses `recovery`, `open`. Knows nothing of topics; decides nothing about what may be lost.

use super::evidence::{Straggler, search};
use super::indexes;
use super::open::set_fence;
use super::recovery::{OpenError, Recovered};
use super::segment::{Segment, file_name};
use super::walk::{SegmentMap, Window};
use super::{QUARANTINE, WAL};
use crate::format::superblock::{Fence, FenceReason};
use crate::ids::SegmentNo;
use crate::limits::FENCES_MAX;
use crate::lsn::Position;
use crate::storage::{self, AlignedBuf, Disk};

/// Cuts a damaged log at the end of its last whole group before the damage. Returns the files in `quarantine/` that hold what was cut.
pub(crate) fn cut_off(disk: &Disk, recovered: Recovered, now_ns: u64) -> Result<Vec<String>, OpenError> {
    let Recovered { mut superblock, segments, broken, tail, .. } = recovered;
    let cut = tail.position;
    let mut kept = Vec::new();
    disk.make_folder(QUARANTINE)?;
    disk.flush_folder("")?;
    if let Some(segment) = segments.get(&cut.segment()) {
        kept.extend(copy_rest(disk, segment, cut)?);
    }
    let behind = segments.keys().copied().chain(broken.iter().map(|(number, _)| *number));
    for number in behind.filter(|number| *number > cut.segment()) {
        let aside = format!("{QUARANTINE}/{:016x}.seg", number.get());
        disk.rename(&file_name(number), &aside)?;
        kept.push(aside);
    }
    disk.flush_folder(QUARANTINE)?;
    disk.flush_folder(WAL)?;
    indexes::remove_stale(disk, |number| number < cut.segment())?;

    let sb = &mut superblock.now;
    let packed = segments.get(&cut.segment()).is_some_and(|segment| segment.header.packed);
    // Beside the blocks of a packed segment nothing is written, so nothing can be erased there: its fence stays.
    let resume = if packed { Position::new(cut.segment().next(), cut.offset()) } else { cut };
    let fence = Fence {
        incarnation: sb.incarnation,
        reason: FenceReason::LossAccepted,
        cut,
        cut_lsn: tail.lsn,
        resume,
        chain: tail.chain,
        ts_ns: now_ns,
    };
    set_fence(&mut sb.fences, fence, FENCES_MAX).map_err(|reason| OpenError::Halted { reason })?;
    sb.incarnation = sb.incarnation.next();
    sb.hint = tail.hint();
    sb.clean = false;
    superblock.write_both()?;
    if !packed {
        erase_behind(&segments, cut)?;
    }
    Ok(kept)
}

/// Copies what lies behind the cut in its segment, but for the zeros at its end.
fn copy_rest(disk: &Disk, segment: &Segment, cut: Position) -> storage::Result<Option<String>> {
    let align = segment.header.align;
    let start = cut.offset() - cut.offset() % align;
    let len = segment.header.blocks_end().saturating_sub(start) as usize;
    if len == 0 {
        return Ok(None);
    }
    let mut buffer = AlignedBuf::new(len);
    segment.file.read_direct(&mut buffer, start.into(), len)?;
    let rest = &buffer[(cut.offset() - start) as usize..];
    let used = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    if used == 0 {
        return Ok(None);
    }
    let name = format!("{QUARANTINE}/{:016x}-{:08x}.blocks", cut.segment().get(), cut.offset());
    disk.replace_small(&name, &rest[..used])?;
    Ok(Some(name))
}

/// Overwrites the first sector of every self-consistent block behind the cut in its segment.
fn erase_behind(segments: &SegmentMap, cut: Position) -> storage::Result<()> {
    let Some(segment) = segments.get(&cut.segment()) else { return Ok(()) };
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
