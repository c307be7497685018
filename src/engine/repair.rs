//! Repairing a damaged folder, on an operator's word.
//!
//! Layer: engine. Uses `log::repair` for the cut; says what is lost.

use std::path::Path;

use super::build::wall_clock_ns;
use crate::entropy::Entropy;
use crate::format::superblock::Role;
use crate::log::damage::Damage;
use crate::log::recovery::{Contents, OpenError, open_parts};
use crate::log::repair::{Circumstances, cut_off};
use crate::log::survey::survey;
use crate::log::{QUARANTINE, early, recovery::Recovered};
use crate::lsn::Lsn;
use crate::storage::{Access, Disk, IoMode};
use crate::topic::cursor::CursorFile;
use crate::topic::index::Index;

/// What a repair has cut off.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Repaired {
    /// Whose folder it is.
    pub role: Option<Role>,
    /// Every damaged place, the one that it was cut off at first; none if only the file of cursors was damaged.
    pub damage: Vec<Damage>,
    /// The log ends before this block now.
    pub cut_lsn: Lsn,
    /// It ended before this one, as far as is known.
    pub was_lsn: Lsn,
    /// Entries that are gone: topic, first offset, end. As many at least: how far a topic went is known only as far as its blocks could
    /// be read.
    pub lost: Vec<(String, u64, u64)>,
    /// The file of cursors was damaged: there are none now.
    pub cursors_lost: bool,
    /// Where everything that was cut is kept: files in the folder. A repair that was cut short may have left others there.
    pub kept: Vec<String>,
}

/// Cuts a damaged log off at the end of the last whole batch before the damage, so that it can be written again. What is cut is kept in
/// `quarantine/`. None for a folder without damage: nothing is changed then.
///
/// # Errors
/// [`OpenError::Locked`] while a process has the folder; [`OpenError::SuperblockDamaged`], [`OpenError::FileDamaged`] where even the place
/// to cut is not known; a failed read or write: the repair can be begun again then.
pub fn accept_loss(path: &Path, io: IoMode) -> Result<Option<Repaired>, OpenError> {
    repair(&Disk::open(path, io, Access::Write)?, Entropy::new(None))
}

/// The same on a simulated disk.
///
/// # Errors
/// As [`accept_loss`].
#[cfg(feature = "sim")]
pub fn accept_loss_sim(disk: &crate::storage::sim::SimDisk) -> Result<Option<Repaired>, OpenError> {
    repair(&disk.open(Access::Write)?, Entropy::new(Some(1)))
}

fn repair(disk: &Disk, mut entropy: Entropy) -> Result<Option<Repaired>, OpenError> {
    let Contents::Log(parts) = open_parts(disk, u64::MAX)? else { return Err(OpenError::NoLog) };
    let index = Index::new(&parts.base);
    let recovered = parts.recover(&index)?;
    // Looked at before anything is changed: a file of a newer version refuses the repair.
    let cursors_lost = match CursorFile::load(disk, recovered.superblock.now.log_id) {
        Err(OpenError::FileDamaged { .. }) => true,
        Err(error) => return Err(error),
        Ok(_) => false,
    };
    let sb = &recovered.superblock.now;
    let (incarnation, end) = (sb.incarnation, recovered.tail.lsn);
    let mut repaired = Repaired {
        role: sb.role,
        damage: Vec::new(),
        cut_lsn: end,
        was_lsn: end,
        lost: Vec::new(),
        cursors_lost,
        kept: Vec::new(),
    };
    if recovered.damage.is_some() {
        see_what_is_lost(&recovered, &index, &mut repaired)?;
        // Before the cut: nothing in it may follow a shorter history.
        repaired.kept.extend(early::set_aside(disk, incarnation)?);
        let now = Circumstances { now_ns: wall_clock_ns(), salt: entropy.next_u64() };
        repaired.kept.extend(cut_off(disk, recovered, &now)?);
    }
    if cursors_lost {
        // A damaged file of cursors refuses an open; they begin anew.
        let aside = format!("{QUARANTINE}/cursors-{:08x}", incarnation.get());
        disk.make_folder(QUARANTINE)?;
        disk.rename("cursors", &aside)?;
        disk.flush_folder(QUARANTINE)?;
        disk.flush_folder("")?;
        repaired.kept.push(aside);
    }
    Ok((cursors_lost || !repaired.damage.is_empty()).then_some(repaired))
}

/// Reads on behind the damage, as far as that goes.
fn see_what_is_lost(recovered: &Recovered, index: &Index, repaired: &mut Repaired) -> Result<(), OpenError> {
    let before = index.all();
    let surveyed = survey(recovered, index)?;
    repaired.damage = surveyed.damage;
    repaired.was_lsn = surveyed.tail.lsn.max(recovered.superblock.now.hint.lsn).max(repaired.cut_lsn);
    let end_before = |name: &str| before.iter().find(|topic| topic.name == name).map_or(0, |topic| topic.next_offset);
    let lost = index.all().into_iter().map(|topic| (end_before(&topic.name), topic));
    let lost = lost.filter(|(end, topic)| topic.next_offset > *end);
    repaired.lost = lost.map(|(end, topic)| (topic.name, end, topic.next_offset)).collect();
    Ok(())
}
