//! Appends that are acknowledged before their block is written, and reads that wait for it: `commit::early` from the outside.
//!
//! ```text
//!   open     blocks found in `early` -> written with their own LSNs, durable -> file removed -> memory for this reign
//!   append   one entry, `written`    -> shared memory, or by the queue as any other
//!   read                             -> what has been acknowledged is published first
//!   close                            -> file removed
//! ```
//!
//! Layer: engine. Uses `commit`, `log`.

use std::time::Duration;

use super::{AppendOptions, Engine, Inner};
use crate::commit::early::{EarlyMemory, early_block_bytes};
use crate::commit::early_block::EarlyBlock;
use crate::commit::submission::{Level, Payload, Submission, TopicSlot};
use crate::commit::ticket::{Receipt, ticket};
use crate::entropy::Entropy;
use crate::format::block::entry_flags;
use crate::format::superblock::Role;
use crate::limits::EARLY_ENTRY_BYTES_MAX;
use crate::log::early::{self, FoundBlock};
use crate::log::recovery::OpenError;
use crate::storage;

impl Engine {
    /// Writes what an earlier reign acknowledged, before anything else, in that reign's epoch.
    pub(super) fn write_found(&self, found: Vec<FoundBlock>) -> Result<(), OpenError> {
        let reigns = self.inner.index.history().lineage;
        let Some(reign) = reigns.last().filter(|_| !found.is_empty()) else { return Ok(()) };
        let mut last = None;
        for FoundBlock { lsn, entries } in found {
            let (ticket, reply) = ticket();
            let block = EarlyBlock::found(lsn, reign.epoch, entries, reply);
            self.inner.queue.push(Submission::Early(block)).map_err(not_written)?;
            last = Some(ticket);
        }
        // The last one's answer is all of theirs: a flush covers what lies before.
        last.map_or(Ok(()), |ticket| ticket.wait().map(drop).map_err(not_written))
    }

    /// Makes the memory, for a log whose entries need no flush. Where it cannot be had, on a full disk or a file system that maps nothing,
    /// every entry goes by the queue: slower, and as safe. Returns what an operator should know of that.
    pub(super) fn begin_early(&self, entropy: &mut Entropy) -> Result<Option<String>, OpenError> {
        let Inner { disk, limit, .. } = &*self.inner;
        let is_wanted = self.inner.role == Role::Leader && self.inner.level == Level::Written;
        let reigns = self.inner.index.history().lineage;
        let Some(reign) = reigns.last().filter(|_| is_wanted && !self.inner.reign.is_pending()) else {
            early::remove(disk)?;
            return Ok(None);
        };
        let block_bytes = early_block_bytes(limit.bytes_max, limit.align);
        let header = EarlyMemory::layout(self.inner.log_id, reign.epoch, entropy.next_u64(), block_bytes);
        match early::create(disk, &header) {
            Ok(shared) => self.inner.queue.early.install(EarlyMemory::new(shared, header), block_bytes),
            Err(error) => return Ok(Some(slower(&error))),
        }
        Ok(None)
    }

    /// Appends an entry that waits for no flush without the commit thread, if that can be done; else it comes back.
    pub(super) fn append_early(
        &self,
        topic: &TopicSlot,
        entries: &mut Vec<bytes::Bytes>,
        options: &AppendOptions,
        may_wait: bool,
    ) -> Option<Receipt> {
        let level = options.level.unwrap_or(self.inner.level);
        let early = &self.inner.queue.early;
        if level != Level::Written || options.expect_offset.is_some() || !early.is_lent() {
            return None;
        }
        if entries.len() != 1 || entries[0].len() > EARLY_ENTRY_BYTES_MAX {
            return None;
        }
        let topic = topic.id()?;
        let payload = Payload::new(entries.pop()?, entry_flags::WHOLE);
        early.append(topic, payload, may_wait).map_err(|payload| entries.push(payload.bytes)).ok()
    }

    /// Waits until readers see everything that has been acknowledged.
    pub(super) fn settle(&self) {
        let (end, published) = (self.inner.queue.early.end(), &self.inner.progress.published);
        while published.lsn() < end && !published.has_ended() {
            published.wait_past(published.lsn(), Duration::MAX);
        }
    }
}

impl Inner {
    /// A log that was closed in order has everything in its blocks.
    pub(super) fn end_early(&self) {
        if self.role == Role::Leader && self.level == Level::Written {
            let _ = early::remove(&self.disk); // what stays holds nothing that is not in the log, and the next open sees that
        }
    }
}

fn slower(error: &storage::Error) -> String {
    format!(
        "the file `early` could not be made, so entries acknowledged as written wait for their block: {error}; make room, on a file \
         system that can map files, and open the log again"
    )
}

fn not_written(error: impl std::fmt::Display) -> OpenError {
    let reason =
        format!("entries acknowledged before the process ended, kept in `early`, could not be written: {error}");
    OpenError::Halted { reason }
}
