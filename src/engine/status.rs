//! One look at a log.
//!
//! Layer: engine.

use super::Engine;
use crate::format::superblock::Role;
use crate::ids::{Chain, Epoch, Incarnation, LogId, NodeId, RunId};
use crate::log::keeper::SpaceState;
use crate::log::scrub::Scrubbed;
use crate::lsn::Lsn;

/// The state of a log at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// Leader or follower.
    pub role: Role,
    /// The reign of the last block.
    pub epoch: Epoch,
    /// Its random name.
    pub run_id: RunId,
    /// The log, the same on every node that mirrors it.
    pub log_id: LogId,
    /// This node's folder.
    pub node_id: NodeId,
    /// The stretch of this disk's writing.
    pub incarnation: Incarnation,
    /// Everything below is durable.
    pub durable_lsn: Lsn,
    /// The chain before it.
    pub durable_chain: Chain,
    /// How the disk is reached: `uring`, `syscall` or `mmap`.
    pub io: &'static str,
    /// How a group is made durable.
    pub flush: &'static str,
    /// What an acknowledgement means where the append does not say: `durable` or `written`.
    pub durability: &'static str,
    /// Everything below has been acknowledged; ahead of `durable_lsn` by what was acknowledged as written only.
    pub published_lsn: Lsn,
    /// Bytes that packing full segments has saved since the log was opened.
    pub packed_bytes_saved: u64,
    /// Commit groups written since the log was opened.
    pub groups: u64,
    /// Flushes asked of the device, writes that carry one among them.
    pub flushes: u64,
    /// Calls into the kernel for commits: to write, to flush, and to wait for both. 0 where they are not counted (mmap).
    pub syscalls: u64,
    /// Failed writes and flushes that were survived: fenced off, and written again elsewhere.
    pub failures_survived: u64,
    /// The last of them.
    pub last_failure: Option<String>,
    /// Why the log takes no writes, if it takes none.
    pub halted: Option<String>,
    /// What an operator should know: a fallback, with cause and cure.
    pub warnings: Vec<String>,
    /// Bytes of the segment files in use.
    pub log_bytes: u64,
    /// The first block that is still there.
    pub first_lsn: Lsn,
    /// Bytes that are free on the file system, as far as that is known.
    pub free_bytes: u64,
    /// Whether there is room to go on.
    pub space: SpaceState,
    /// What reading full segments again has found since the log was opened.
    pub scrubbed: Scrubbed,
    /// Topics in the log.
    pub topics: usize,
}

impl Engine {
    /// Failed writes and flushes that were survived since the log was opened, and the last of them in words.
    #[cfg(feature = "replication")]
    pub(crate) fn failures_survived(&self) -> (u64, Option<String>) {
        self.inner.progress.survived()
    }

    /// Why the log takes no writes, if it takes none.
    #[cfg(feature = "replication")]
    pub(crate) fn halted(&self) -> Option<String> {
        self.inner.halted.lock().expect("no holder of this lock panics").clone()
    }

    /// The damage that the scrub has found, as a warning.
    #[cfg(feature = "replication")]
    pub(crate) fn scrub_warning(&self) -> Option<String> {
        self.inner.scrub.scrubbed(self.inner.segments.beginning().lsn).warning()
    }

    /// What the commit thread has asked of the disk and waits for now, in words, and since when: how to tell a disk that hangs.
    pub fn waits_for(&self) -> Option<(&'static str, std::time::Instant)> {
        self.inner.progress.waits.now().map(|(what, since)| (what.name(), since))
    }

    /// The state of the log now.
    pub fn status(&self) -> Status {
        let inner = &self.inner;
        let tip = self.tip();
        // A file system that does not tell is taken for one with room: the next segment finds out.
        let free_bytes = inner.disk.available_bytes().unwrap_or(u64::MAX);
        let space = inner.keeper.space(free_bytes);
        let mut warnings = inner.warnings.clone();
        if inner.reign.is_pending() {
            warnings.push(
                "there was no room for the first block of a reign: the first append that finds room begins it".into(),
            );
        }
        warnings.extend(space.warning);
        warnings.extend(inner.keeper.retention_trouble().map(|trouble| trouble.to_string()));
        let first_lsn = inner.segments.beginning().lsn;
        let scrubbed = inner.scrub.scrubbed(first_lsn);
        warnings.extend(scrubbed.warning());
        let (failures_survived, last_failure) = inner.progress.survived();
        Status {
            published_lsn: inner.progress.published.lsn(),
            packed_bytes_saved: inner.keeper.packed_bytes_saved(),
            groups: inner.progress.groups(),
            flushes: inner.progress.flushes(),
            syscalls: inner.progress.syscalls(),
            failures_survived,
            last_failure,
            role: inner.role,
            epoch: tip.epoch,
            run_id: tip.run_id,
            log_id: inner.log_id,
            node_id: inner.node_id,
            incarnation: inner.progress.incarnation(),
            durable_lsn: tip.lsn,
            durable_chain: tip.chain,
            io: inner.io,
            flush: "write with RWF_DSYNC; fdatasync for groups of more than eight blocks",
            durability: inner.level.name(),
            halted: inner.halted.lock().expect("no holder of this lock panics").clone(),
            warnings,
            log_bytes: inner.segments.bytes(),
            first_lsn,
            free_bytes,
            space: space.state,
            scrubbed,
            topics: inner.index.len(),
        }
    }
}
