//! The files of indexes: which of them can be believed, and what follows from them.
//!
//! ```text
//!   base --index--> end of segment 1 --index--> end of segment 2 --(none)--> walk from here
//! ```
//!
//! An index is taken only if it goes on exactly where the ones before have ended: same LSN, same chain. So a stale one, or one of another
//! history, is passed over like one that is missing, and the log is read instead.
//!
//! Layer: log. Uses `storage`, `format`.

use std::collections::BTreeMap;

use super::IDX;
use super::segment::parse_number;
use super::tail::Tail;
use crate::format::index::{INDEX_BYTES_MAX, SegmentIndex};
use crate::format::meta::BlockMeta;
use crate::format::superblock::Fence;
use crate::ids::{LogId, SegmentNo};
use crate::storage::{self, Disk};

/// The indexes of a folder that are sound and made for this log.
pub(crate) type Indexes = BTreeMap<SegmentNo, SegmentIndex>;

/// The file name of the index of segment `number`.
pub(crate) fn file_name(number: SegmentNo) -> String {
    format!("{IDX}/{:016x}.idx", number.get())
}

/// Loads what is there. Whatever is wrong with an index, the log knows better: it is left out.
pub(crate) fn load(disk: &Disk, log_id: LogId, fences: &[Fence]) -> storage::Result<Indexes> {
    let mut indexes = Indexes::new();
    for number in numbers(disk)? {
        let Ok(Some(bytes)) = disk.read_small(&file_name(number), INDEX_BYTES_MAX) else { continue };
        let Ok(index) = SegmentIndex::parse(&bytes) else { continue };
        if index.header.number == number && index.header.log_id == log_id && !is_fenced(&index, fences) {
            indexes.insert(number, index);
        }
    }
    Ok(indexes)
}

/// Whether a fence may have killed a block that the index names.
fn is_fenced(index: &SegmentIndex, fences: &[Fence]) -> bool {
    let last = index.blocks.last().expect("a parsed index has blocks");
    fences.iter().any(|fence| fence.kills(last.position, index.incarnation))
}

/// Writes the index of a segment. It may fail, or be lost or torn by a power cut: it is derived and has a sum, and the next open reads
/// the segment instead. So nobody waits for a flush of it, and no commit waits behind that (docs/decisions/0012).
pub(crate) fn write(disk: &Disk, index: &SegmentIndex) -> storage::Result<()> {
    let Some(bytes) = index.encode() else { return Ok(()) };
    disk.make_folder(IDX)?;
    disk.replace_lazily(&file_name(index.header.number), &bytes)
}

/// Removes the indexes of other segments, durably, and what an interrupted write has left.
pub(crate) fn remove_stale(disk: &Disk, is_there: impl Fn(SegmentNo) -> bool) -> storage::Result<()> {
    let names = disk.list(IDX)?;
    let stale: Vec<_> = names.iter().filter(|name| !parse_number(name, ".idx").is_some_and(&is_there)).collect();
    stale.iter().try_for_each(|name| disk.remove(&format!("{IDX}/{name}")))?;
    if stale.is_empty() { Ok(()) } else { disk.flush_folder(IDX) }
}

fn numbers(disk: &Disk) -> storage::Result<Vec<SegmentNo>> {
    Ok(disk.list(IDX)?.iter().filter_map(|name| parse_number(name, ".idx")).collect())
}

impl SegmentIndex {
    /// The blocks from `at` on, if the index goes on from there: the log up to `at` is the one that it was made of.
    pub(crate) fn into_blocks_from(self, at: &Tail) -> Option<Vec<BlockMeta>> {
        let first = self.blocks.first()?.lsn;
        let skip = usize::try_from(at.lsn.get().checked_sub(first.get())?).ok()?;
        let chain = if skip == 0 { self.prev_chain } else { self.blocks.get(skip - 1)?.chain };
        let mut blocks = self.blocks;
        (chain == at.chain && skip < blocks.len()).then(|| blocks.split_off(skip))
    }
}
