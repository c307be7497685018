//! What load is driven against: this log, a node over the network, or somebody else's log.
//!
//! ```text
//!   load loop --append, send, wait_oldest--> Producer (one a thread) --> Target --> folder on the disk that is measured
//! ```
//!
//! A target that cannot do what a case asks (batches, several in flight, reading back) says so before the case begins, and the case is
//! left out with that reason. It never does something weaker in silence.

#[cfg(feature = "net")]
pub(crate) mod net;
pub(crate) mod ours;
#[cfg(feature = "peers")]
pub(crate) mod peers;

use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;

use crate::result::{Check, Lag, Spec};

/// A log that has been opened for one round.
pub(crate) trait Target: Send + Sync {
    /// How it was set up, in words that let somebody else do it again.
    fn settings(&self) -> String;

    /// The end of a thread that appends. `number` counts from 0: a target that does better with a topic or a file a thread may use it.
    fn producer(&self, number: u32) -> Result<Box<dyn Producer + '_>>;

    /// The log's own counters since it was opened, if it has any.
    fn counters(&self) -> Counters {
        Counters::default()
    }

    /// Reads one entry, the first that is there: a log that can do that is open. One whose `open` has read everything has done more.
    fn read_first(&self) -> Result<()> {
        Ok(())
    }

    /// Reads everything back, in order and with its sums verified; returns entries and bytes of payload that came.
    fn read_back(&self) -> Result<ReadBack>;

    /// How far followers were behind within the window of the load, where there are any. Asked once the load is over.
    fn lag(&self, window: &Range<Instant>) -> Option<Lag> {
        let _ = window;
        None
    }

    /// Invariants of its own, beside those that every target is held to: that a follower equals its leader. Asked once the load is over.
    fn checks(&self) -> Result<Vec<Check>> {
        Ok(Vec::new())
    }

    /// Processor time so far of processes that are not this one: a server that was started for the case. It is part of the cost.
    fn cpu_elsewhere(&self) -> Option<Duration> {
        None
    }

    /// Entries that the last reading back did not find because the log keeps no more than it was told to.
    fn given_away(&self) -> u64 {
        0
    }

    /// Closes it in order.
    fn close(self: Box<Self>) -> Result<()>;
}

/// A thread's way to append. Topics are numbers below the spec's `topics`.
pub(crate) trait Producer {
    /// Appends a batch, all or nothing, and waits until it is acknowledged at the level of the case.
    fn append(&mut self, topic: u32, batch: &[Bytes]) -> Result<()>;

    /// Begins to append a batch. Only with `outstanding` above 1.
    fn send(&mut self, topic: u32, batch: &[Bytes]) -> Result<()> {
        let _ = (topic, batch);
        anyhow::bail!("this target has one batch of a thread in flight")
    }

    /// Waits until the oldest batch that was sent is acknowledged.
    fn wait_oldest(&mut self) -> Result<()> {
        anyhow::bail!("this target has one batch of a thread in flight")
    }
}

/// What a log counts itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) groups: Option<u64>,
    pub(crate) flushes: Option<u64>,
    pub(crate) syscalls: Option<u64>,
}

impl Counters {
    /// What lies between an earlier look and this one.
    pub(crate) fn since(self, before: Counters) -> Counters {
        let between = |after: Option<u64>, before: Option<u64>| Some(after?.saturating_sub(before?));
        Counters {
            groups: between(self.groups, before.groups),
            flushes: between(self.flushes, before.flushes),
            syscalls: between(self.syscalls, before.syscalls),
        }
    }
}

/// What came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReadBack {
    pub(crate) entries: u64,
    pub(crate) payload_bytes: u64,
}

/// A kind of log: makes targets in fresh folders, and opens what a killed process left.
pub(crate) trait Kind: Sync {
    /// `walrus-node`, or a peer's name and version: `raft-engine 0.4.2`.
    fn name(&self) -> String;

    /// Why it cannot do a case, if so; said before anything is run.
    fn refuses(&self, spec: &Spec) -> Option<String>;

    /// Opens, or makes, the log in a folder of its own.
    fn open(&self, folder: &Path, spec: &Spec) -> Result<Box<dyn Target>>;
}

/// The ways to reach our own log.
pub(crate) fn ours(fills_before: bool) -> Vec<Box<dyn Kind>> {
    vec![
        Box::new(ours::Ours { fills_before }),
        #[cfg(feature = "net")]
        net::ours(fills_before),
    ]
}

/// Every kind that there is.
pub(crate) fn all(fills_before: bool) -> Vec<Box<dyn Kind>> {
    ours(fills_before).into_iter().chain(peers()).collect()
}

/// Other logs, as far as they were compiled in.
pub(crate) fn peers() -> Vec<Box<dyn Kind>> {
    let kinds = std::iter::empty::<Box<dyn Kind>>();
    #[cfg(feature = "peers")]
    let kinds = kinds.chain(peers::kinds());
    #[cfg(feature = "net")]
    let kinds = kinds.chain(net::peers());
    kinds.collect()
}
