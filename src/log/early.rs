//! What callers were told is written, and the commit thread had not come to, when the process ended: docs/FORMAT.md#early
//!
//! Found when the log is opened, as the blocks that come next; gone once these are part of it. Whoever makes the history shorter, or
//! another's, puts the file aside first: nothing in it may follow what it did not follow.
//!
//! Layer: log. Uses `format`, `storage`. Knows nothing of how blocks are written.

use bytes::Bytes;

use super::QUARANTINE;
use super::recovery::OpenError;
use crate::format::Corrupt;
use crate::format::early::{EARLY_BYTES_MAX, EarlyFile, EarlyHeader, Record};
use crate::ids::{Epoch, Incarnation, LogId};
use crate::lsn::Lsn;
use crate::storage::{self, Disk, Shared};

const EARLY: &str = "early";

/// One block to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FoundBlock {
    pub(crate) lsn: Lsn,
    pub(crate) entries: Vec<(Record, Bytes)>,
}

/// Where a log ends.
pub(crate) struct End {
    pub(crate) log_id: LogId,
    /// The last reign that has begun.
    pub(crate) epoch: Epoch,
    /// The next block.
    pub(crate) lsn: Lsn,
    /// How many entries begin in the last one.
    pub(crate) last_entries: u32,
}

/// The blocks that follow, in topics that go on at `next_offsets`, and then behind them. Changes nothing on disk.
///
/// # Errors
/// When a newer version wrote the file, or it cannot be read. One that was not finished, or is another reign's, holds nothing.
pub(crate) fn load(disk: &Disk, end: &End, next_offsets: &mut [u64]) -> Result<Vec<FoundBlock>, OpenError> {
    let Some(bytes) = disk.read_small(EARLY, EARLY_BYTES_MAX)?.map(Bytes::from) else { return Ok(Vec::new()) };
    let file = match EarlyFile::parse(&bytes, end.log_id, end.epoch) {
        Ok(file) => file,
        Err(Corrupt::Newer { what, value }) => return Err(OpenError::Newer { what: format!("{what} {value}") }),
        Err(_) => return Ok(Vec::new()),
    };
    let (mut blocks, mut lsn, mut before) = (Vec::new(), end.lsn, end.last_entries);
    loop {
        let in_slot = file.block(lsn, before);
        let entries: Vec<_> = in_slot
            .iter()
            .take_while(|(record, _)| take_offset(record, next_offsets))
            .map(|(record, payload)| (*record, bytes.slice_ref(payload)))
            .collect();
        if entries.is_empty() {
            return Ok(blocks);
        }
        let is_whole = entries.len() == in_slot.len();
        before = entries.len() as u32;
        blocks.push(FoundBlock { lsn, entries });
        if !is_whole {
            return Ok(blocks);
        }
        lsn = lsn.next();
    }
}

/// Whether the entry is the next of its topic.
fn take_offset(record: &Record, next_offsets: &mut [u64]) -> bool {
    let next = next_offsets.get_mut(record.topic.get() as usize).filter(|next| **next == record.offset);
    next.map(|next| *next += 1).is_some()
}

/// Makes the memory for a reign to come.
pub(crate) fn create(disk: &Disk, header: &EarlyHeader) -> storage::Result<Shared> {
    remove(disk)?;
    disk.create_shared(EARLY, header.file_bytes().next_multiple_of(disk.align()) as u64)
}

/// Removes the file, durably: what it held is part of the log.
pub(crate) fn remove(disk: &Disk) -> storage::Result<()> {
    match disk.remove(EARLY) {
        Err(error) if error.is_not_found() => Ok(()),
        removed => removed.and_then(|()| disk.flush_folder("")),
    }
}

/// Keeps the file where no open looks for it, durably. Returns its new name, if there was one.
pub(crate) fn set_aside(disk: &Disk, incarnation: Incarnation) -> storage::Result<Option<String>> {
    if disk.read_small(EARLY, EARLY_BYTES_MAX)?.is_none() {
        return Ok(None);
    }
    let aside = format!("{QUARANTINE}/early-{:08x}", incarnation.get());
    disk.make_folder(QUARANTINE)?;
    disk.rename(EARLY, &aside)?;
    disk.flush_folder(QUARANTINE)?;
    disk.flush_folder("")?;
    Ok(Some(aside))
}
