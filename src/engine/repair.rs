//! Repairing a damaged folder, on an operator's word.
//!
//! Layer: engine. Uses `log::repair` for the cut; says what is lost.

use std::path::Path;

use super::build::wall_clock_ns;
use crate::log::damage::Damage;
use crate::log::recovery::{Contents, OpenError, open_parts};
use crate::log::repair::cut_off;
use crate::log::survey::survey;
use crate::log::{QUARANTINE, recovery::Recovered};
use crate::lsn::Lsn;
use crate::storage::{Access, Disk, IoMode};
use crate::topic::cursor::CursorFile;
use crate::topic::index::Index;

/// What a repair has cut off.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Repaired {
    /// The damage that made it necessary; none if only the file of cursors was damaged.
    pub damage: Option<Damage>,
    /// The log ends before this block now.
    pub cut_lsn: Lsn,
    /// It ended before this one, as far as is known.
    pub was_lsn: Lsn,
    /// Entries that could still be read behind the damage, and are gone now: topic, first offset, end.
    pub lost: Vec<(String, u64, u64)>,
    /// Where everything that was cut is kept: files in the folder.
    pub kept: Vec<String>,
}

/// Cuts a damaged log off at the end of the last whole batch before the damage, so that it can be written again. What is cut is kept in
/// `quarantine/`. None for a folder without damage: nothing is changed then.
///
/// # Errors
/// [`OpenError::Locked`] while a process has the folder; [`OpenError::SuperblockDamaged`], [`OpenError::FileDamaged`] where even the place
/// to cut is not known; a failed read or write: the repair can be begun again then.
pub fn accept_loss(path: &Path, io: IoMode) -> Result<Option<Repaired>, OpenError> {
    repair(&Disk::open(path, io, Access::Write)?)
}

/// The same on a simulated disk.
///
/// # Errors
/// As [`accept_loss`].
#[cfg(feature = "sim")]
pub fn accept_loss_sim(disk: &crate::storage::sim::SimDisk) -> Result<Option<Repaired>, OpenError> {
    repair(&disk.open(Access::Write)?)
}

fn repair(disk: &Disk) -> Result<Option<Repaired>, OpenError> {
    let Contents::Log(parts) = open_parts(disk, u64::MAX)? else { return Err(OpenError::NoLog) };
    let (index, base_lsn) = (Index::new(&parts.base), parts.base.first_lsn);
    let recovered = parts.recover(&index)?;
    let cursors = set_aside_cursors(disk, &recovered)?;
    let Some(damage) = recovered.damage.clone() else {
        let (cut_lsn, was_lsn) = (recovered.tail.lsn, recovered.tail.lsn);
        let only_cursors = Repaired { damage: None, cut_lsn, was_lsn, lost: Vec::new(), kept: Vec::new() };
        return Ok(cursors.map(|file| Repaired { kept: vec![file], ..only_cursors }));
    };
    let cut_lsn = recovered.tail.lsn;
    if cut_lsn == base_lsn && cut_lsn > Lsn::FIRST {
        // Nothing would be left behind what retention has given away; an empty log of this history cannot be told from a damaged one.
        return Err(OpenError::Damaged(damage));
    }
    let before: Vec<_> = index.all();
    let surveyed = survey(&recovered, &index)?;
    let was_lsn = surveyed.tail.lsn.max(recovered.superblock.now.hint.lsn).max(cut_lsn);
    let end_before = |name: &str| before.iter().find(|topic| topic.name == name).map_or(0, |topic| topic.next_offset);
    let lost = index.all().into_iter().map(|topic| (end_before(&topic.name), topic));
    let lost = lost.filter(|(end, topic)| topic.next_offset > *end);
    let lost = lost.map(|(end, topic)| (topic.name, end, topic.next_offset)).collect();
    let mut kept = cut_off(disk, recovered, wall_clock_ns())?;
    kept.extend(cursors);
    Ok(Some(Repaired { damage: Some(damage), cut_lsn, was_lsn, lost, kept }))
}

/// A damaged file of cursors refuses an open; the cursors begin anew.
fn set_aside_cursors(disk: &Disk, recovered: &Recovered) -> Result<Option<String>, OpenError> {
    match CursorFile::load(disk, recovered.superblock.now.log_id) {
        Err(OpenError::FileDamaged { .. }) => {
            disk.make_folder(QUARANTINE)?;
            let aside = format!("{QUARANTINE}/cursors-{:08x}", recovered.superblock.now.incarnation.get());
            disk.rename("cursors", &aside)?;
            disk.flush_folder("")?;
            disk.flush_folder(QUARANTINE)?;
            Ok(Some(aside))
        }
        Err(error) => Err(error),
        Ok(_) => Ok(None),
    }
}
