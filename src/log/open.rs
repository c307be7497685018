//! Making a recovered log writable: docs/FORMAT.md#opening
//!
//! ```text
//!   1  fence at the tail, incarnation + 1, hint = tail    in both superblock slots
//!   2  what the fence kills is copied to quarantine/, then erased    flush
//!   3  writing goes on in place
//! ```
//!
//! The order matters. Erased before the fence were durable, a crash between the two could leave a half-erased tail that
//! recovery would judge without knowing that it had been given up. Not erased, a dead block could come back to life when
//! its successor rots.
//!
//! Layer: log. Uses `recovery`. Knows nothing of who writes afterwards.

use std::sync::Arc;

use super::evidence::Straggler;
use super::recovery::{OpenError, Recovered, first_position};
use super::segment::{Segment, file_name};
use super::superblock::SuperblockFile;
use super::tail::Tail;
use super::walk::SegmentMap;
use super::{QUARANTINE, WAL};
use crate::format::superblock::{Fence, FenceReason, Hint, Role, Superblock};
use crate::ids::{Chain, Epoch, Incarnation, LogId, NodeId, RunId, SegmentNo};
use crate::limits::FENCES_MAX;
use crate::lsn::Lsn;
use crate::storage::{self, AlignedBuf, Disk};

/// A log that may be written.
pub(crate) struct Writable {
    pub(crate) superblock: SuperblockFile,
    pub(crate) segments: SegmentMap,
    /// Prepared segments behind the tail, in the order in which the log will go on into them.
    pub(crate) spares: Vec<Arc<Segment>>,
    /// The number of the next segment to be made.
    pub(crate) next_segment: SegmentNo,
    pub(crate) tail: Tail,
}

/// Makes an empty log in an empty folder.
pub(crate) fn create(disk: &Disk, role: Role, log_id: LogId, node_id: NodeId) -> Result<(), OpenError> {
    disk.make_folder(WAL)?;
    let align = disk.align() as u32;
    let first = Superblock {
        version: 0,
        align,
        role: Some(role),
        clean: false,
        log_id,
        node_id,
        run_id: RunId::new(0),
        epoch: Epoch::new(0),
        incarnation: Incarnation::new(0),
        hint: Hint { position: first_position(align), lsn: Lsn::FIRST, chain: Chain::START },
        fences: Vec::new(),
    };
    SuperblockFile::create(disk, first)?;
    Ok(())
}

/// Takes a recovered log over for writing. `run_id` names the new reign of a leader; a follower starts none.
pub(crate) fn make_writable(
    disk: &Disk,
    recovered: Recovered,
    run_id: Option<RunId>,
    now_ns: u64,
) -> Result<Writable, OpenError> {
    if let Some(damage) = recovered.damage {
        return Err(OpenError::Damaged(damage));
    }
    let Recovered { mut superblock, segments, broken, tail, clean, stragglers, .. } = recovered;
    let sb = &mut superblock.now;
    if !clean {
        set_fence(&mut sb.fences, opening_fence(sb.incarnation, &tail, now_ns), FENCES_MAX)
            .map_err(|reason| OpenError::Halted { reason })?;
    }
    sb.clean = false;
    sb.hint = tail.hint();
    sb.incarnation = sb.incarnation.next();
    if let Some(run_id) = run_id {
        sb.epoch = sb.epoch.next();
        sb.run_id = run_id;
    }
    superblock.write_both()?;

    erase(disk, &segments, &stragglers, superblock.now.incarnation)?;
    // What these fences kill has just been erased, durably; the next write of the superblock may go without them.
    superblock.now.fences.retain(|fence| fence.resume != fence.cut);
    set_aside_broken(disk, broken.iter().map(|(number, _)| *number))?;
    remove_temporaries(disk)?;

    let here = tail.position.segment();
    let spares: Vec<_> = segments.range(here.next()..).map(|(_, segment)| Arc::clone(segment)).collect();
    let last = segments.keys().copied().chain(broken.iter().map(|(number, _)| *number)).max();
    let next_segment = last.map_or(here, |last| last.next().max(here));
    Ok(Writable { superblock, segments, spares, next_segment, tail })
}

fn opening_fence(incarnation: Incarnation, tail: &Tail, ts_ns: u64) -> Fence {
    Fence {
        incarnation,
        reason: FenceReason::Opened,
        cut: tail.position,
        cut_lsn: tail.lsn,
        resume: tail.position,
        chain: tail.chain,
        ts_ns,
    }
}

/// Adds a fence; it replaces those with a cut at or behind its own.
///
/// One of an earlier opening that lies before this one has done its work: the log went on behind it, and nothing is written before
/// what a fence kills has been erased. Without this, sixty-four crashes in a row would fill the table.
///
/// # Errors
/// When `room` fences are there already.
pub(super) fn set_fence(fences: &mut Vec<Fence>, fence: Fence, room: usize) -> Result<(), String> {
    fences.retain(|old| old.cut < fence.cut && old.resume != old.cut);
    if fences.len() >= room {
        return Err(format!("the superblock has {} fences, and no room for another here", fences.len()));
    }
    fences.push(fence);
    Ok(())
}

/// Copies the dead blocks to `quarantine/`, then overwrites the first sector of each with zeros.
fn erase(disk: &Disk, segments: &SegmentMap, dead: &[Straggler], incarnation: Incarnation) -> storage::Result<()> {
    if dead.is_empty() {
        return Ok(());
    }
    disk.make_folder(QUARANTINE)?;
    disk.flush_folder("")?;
    let copies = format!("{QUARANTINE}/open-{:08x}.blocks", incarnation.get());
    disk.replace_small(&copies, &read_whole(disk, segments, dead)?)?;

    let align = disk.align();
    let zeros = AlignedBuf::new(align);
    for block in dead {
        let segment = &segments[&block.position.segment()];
        segment.file.write_at(&zeros, align, block.position.offset().into())?;
    }
    let mut touched: Vec<_> = dead.iter().map(|block| block.position.segment()).collect();
    touched.dedup();
    touched.iter().try_for_each(|number| segments[number].file.flush())
}

/// The blocks as they stand on disk, back to back.
fn read_whole(disk: &Disk, segments: &SegmentMap, blocks: &[Straggler]) -> storage::Result<Vec<u8>> {
    let longest = blocks.iter().map(|block| block.total_len as usize).max().unwrap_or(0).max(disk.align());
    let mut buffer = AlignedBuf::new(longest);
    let mut bytes = Vec::new();
    for block in blocks {
        let len = block.total_len as usize;
        let segment = &segments[&block.position.segment()];
        segment.file.read_direct(&mut buffer, block.position.offset().into(), len)?;
        bytes.extend_from_slice(&buffer[..len]);
    }
    Ok(bytes)
}

/// A segment behind the tail whose header cannot be read holds nothing that was durable, or it would have been damage. The log
/// must not go on into it, nor stop before it.
fn set_aside_broken(disk: &Disk, broken: impl Iterator<Item = SegmentNo>) -> storage::Result<()> {
    let mut any = false;
    for number in broken {
        disk.make_folder(QUARANTINE)?;
        disk.rename(&file_name(number), &format!("{QUARANTINE}/{:016x}.seg", number.get()))?;
        any = true;
    }
    if any {
        disk.flush_folder("")?;
        disk.flush_folder(QUARANTINE)?;
        disk.flush_folder(WAL)?;
    }
    Ok(())
}

/// Spares that were being made when the process ended.
fn remove_temporaries(disk: &Disk) -> storage::Result<()> {
    let names = disk.list(WAL)?;
    names.iter().filter(|name| name.ends_with(".tmp")).try_for_each(|name| disk.remove(&format!("{WAL}/{name}")))
}
