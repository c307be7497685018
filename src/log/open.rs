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
use super::indexes;
use super::recovery::{LastSegment, OpenError, Recovered, first_position};
use super::repair::last_set_aside;
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
    /// Segments that retention has given away, and that are still there.
    pub(crate) given_away: Vec<Arc<Segment>>,
    /// What is known of the segment that the tail lies in.
    pub(crate) last_segment: LastSegment,
    /// Full segments that have no index.
    pub(crate) unindexed: Vec<Arc<Segment>>,
    /// The number of the next segment to be made.
    pub(crate) next_segment: SegmentNo,
    pub(crate) tail: Tail,
    /// What an operator should know about this opening.
    pub(crate) warnings: Vec<String>,
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
    let Recovered { mut superblock, segments, broken, given_away, tail, clean, stragglers, .. } = recovered;
    let (last_segment, unindexed) = (recovered.last_segment, recovered.unindexed);
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

    // Of what is cut off no index may be left: once the fence is dropped, nothing would tell that it is wrong.
    let here = tail.position.segment();
    indexes::remove_stale(disk, |number| {
        number < here && segments.contains_key(&number) || number == here && last_segment.is_indexed
    })?;
    // First of all, so that on a full disk there may be room for what comes next.
    remove_temporaries(disk)?;
    let mut warnings = Vec::new();
    erase(disk, &segments, &stragglers, superblock.now.incarnation, &mut warnings)?;
    // What these fences kill has just been erased, durably; the next write of the superblock may go without them.
    superblock
        .now
        .fences
        .retain(|fence| fence.resume != fence.cut && (fence.cut != tail.position || says_empty(fence)));
    set_aside_broken(disk, broken.iter().map(|(number, _)| *number), &mut warnings)?;

    let spares: Vec<_> = segments.range(here.next()..).map(|(_, segment)| Arc::clone(segment)).collect();
    let last = segments.keys().copied().chain(broken.iter().map(|(number, _)| *number)).max();
    let last = last.max(last_set_aside(disk)?);
    // The first of a log is at its first block already. A number that was used is not used again, though nothing may be left of it.
    let fresh = if tail.position == first_position(superblock.now.align) { here } else { here.next() };
    let next_segment = last.map_or(fresh, |last| last.next().max(here));
    let given_away = open_given_away(disk, &given_away, superblock.now.log_id)?;
    Ok(Writable { superblock, segments, spares, given_away, next_segment, tail, last_segment, unindexed, warnings })
}

/// What the process that gave them away did not get round to. A file that is no segment of this log is of no use.
fn open_given_away(disk: &Disk, numbers: &[SegmentNo], log_id: LogId) -> storage::Result<Vec<Arc<Segment>>> {
    let mut given_away = Vec::new();
    for number in numbers {
        match Segment::open(disk, *number, log_id)? {
            Ok(segment) => given_away.push(Arc::new(segment)),
            Err(_) => disk.remove(&file_name(*number))?,
        }
    }
    Ok(given_away)
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
/// An opening's leaves those that resume elsewhere: until everything is erased, the search behind the tail needs the way that does not
/// count. Without it, what was written again lies past the window where a segment is longer than that, and the next open, after a crash
/// in this one's erasure, would miss it: docs/decisions/0013.
///
/// One that lies before this one has done its work if the log went on in place: nothing is written at a cut before what the fence kills
/// has been erased. Without this, sixty-four crashes in a row would fill the table.
///
/// # Errors
/// When `room` fences are there already.
pub(super) fn set_fence(fences: &mut Vec<Fence>, fence: Fence, room: usize) -> Result<(), String> {
    let opens = fence.reason == FenceReason::Opened;
    let is_repair = fence.reason == FenceReason::LossAccepted;
    fences.retain(|old| {
        let has_led_on = old.cut < fence.cut && !(opens && fence.cut < old.resume);
        let still_leads = old.cut == fence.cut && (opens || says_empty(old) && !is_repair);
        old.resume != old.cut && (has_led_on || still_leads)
    });
    if fences.len() >= room {
        return Err(format!("the superblock has {} fences, and no room for another here", fences.len()));
    }
    fences.push(fence);
    Ok(())
}

/// Of those that resume elsewhere, the one that says that a log is empty because somebody has given up what was in it: only another
/// repair changes anything about that.
fn says_empty(fence: &Fence) -> bool {
    fence.reason == FenceReason::LossAccepted
}

/// Copies the dead blocks to `quarantine/`, then overwrites the first sector of each with zeros.
fn erase(
    disk: &Disk,
    segments: &SegmentMap,
    dead: &[Straggler],
    incarnation: Incarnation,
    warnings: &mut Vec<String>,
) -> storage::Result<()> {
    if dead.is_empty() {
        return Ok(());
    }
    match copy_to_quarantine(disk, &read_whole(disk, segments, dead)?, incarnation) {
        // Nobody was told that they were written. A copy is a courtesy, an open on a full disk is a promise.
        Err(error) if error.is_full() => warnings.push(format!(
            "{} blocks behind the end of the log, which were never acknowledged, were erased without a copy in \
             {QUARANTINE}: {error}",
            dead.len()
        )),
        copied => copied?,
    }

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

fn copy_to_quarantine(disk: &Disk, blocks: &[u8], incarnation: Incarnation) -> storage::Result<()> {
    disk.make_folder(QUARANTINE)?;
    disk.flush_folder("")?;
    disk.replace_small(&format!("{QUARANTINE}/open-{:08x}.blocks", incarnation.get()), blocks)
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
fn set_aside_broken(
    disk: &Disk,
    broken: impl Iterator<Item = SegmentNo>,
    warnings: &mut Vec<String>,
) -> storage::Result<()> {
    let mut any = false;
    for number in broken {
        let name = file_name(number);
        let moved = disk
            .make_folder(QUARANTINE)
            .and_then(|()| disk.rename(&name, &format!("{QUARANTINE}/{:016x}.seg", number.get())));
        match moved {
            Err(error) if error.is_full() => {
                warnings.push(format!(
                    "{name}, which has no header and held nothing of the log, was removed, not set aside: {error}"
                ));
                disk.remove(&name)?;
            }
            moved => moved?,
        }
        any = true;
    }
    if any {
        disk.flush_folder("")?;
        if !disk.list(QUARANTINE)?.is_empty() {
            disk.flush_folder(QUARANTINE)?;
        }
        disk.flush_folder(WAL)?;
    }
    Ok(())
}

/// Spares that were being made when the process ended, and small files that were being written.
pub(super) fn remove_temporaries(disk: &Disk) -> storage::Result<()> {
    for folder in [WAL, QUARANTINE] {
        for name in disk.list(folder)?.iter().filter(|name| name.ends_with(".tmp")) {
            disk.remove(&format!("{folder}/{name}"))?;
        }
    }
    match disk.remove("base.tmp") {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Position;

    const PLACE: u32 = 8192;

    fn fence(reason: FenceReason, cut: (u32, u32), resume: (u32, u32)) -> Fence {
        let place = |(segment, block): (u32, u32)| Position::new(SegmentNo::new(segment), block * PLACE);
        let (cut, resume) = (place(cut), place(resume));
        let incarnation = Incarnation::new(1);
        Fence { incarnation, reason, cut, cut_lsn: Lsn::FIRST, resume, chain: Chain::START, ts_ns: 0 }
    }

    /// What is left of `old` once an opening has set its fence at the tail.
    fn left_by_an_opening(old: Fence, tail: (u32, u32)) -> Option<Fence> {
        let opening = fence(FenceReason::Opened, tail, tail);
        let mut fences = vec![old];
        set_fence(&mut fences, opening, FENCES_MAX).unwrap();
        assert_eq!(fences.pop(), Some(opening));
        fences.pop()
    }

    #[test]
    fn a_fence_that_resumes_elsewhere_outlives_openings_at_its_cut_and_none_that_has_gone_on_in_place() {
        let failed = fence(FenceReason::Failed, (1, 4), (3, 1));
        assert_eq!(left_by_an_opening(failed, (1, 4)), Some(failed), "its blocks may not be erased yet");
        assert_eq!(left_by_an_opening(failed, (1, 5)), None, "the log went on at the cut, so they are");
        assert_eq!(left_by_an_opening(failed, (3, 2)), Some(failed), "the log leads through it");
        let again = fence(FenceReason::Failed, (3, 1), (3, 1));
        assert_eq!(left_by_an_opening(again, (1, 4)), None, "the opening's own kills more");
    }

    #[test]
    fn what_is_cut_while_the_log_runs_or_by_a_repair_replaces_every_fence_at_its_cut() {
        for reason in [FenceReason::Failed, FenceReason::LossAccepted] {
            let mut fences = vec![fence(FenceReason::Failed, (1, 4), (3, 1))];
            let new = fence(reason, (1, 4), (4, 1));
            set_fence(&mut fences, new, FENCES_MAX).unwrap();
            assert_eq!(fences, [new]);
        }
    }
}
