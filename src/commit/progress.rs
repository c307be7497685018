//! How far the log has come, for everybody outside the commit thread.
//!
//! Layer: commit. Uses `log`, `lsn`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::waits::Waits;
use super::watermark::Watermark;
use crate::ids::Incarnation;
use crate::log::tail::Tail;

/// The two ends of the log, and what it took to get there.
#[derive(Debug)]
pub(crate) struct Progress {
    /// What callers have been told of and readers see.
    pub(crate) published: Watermark,
    /// What survives a power cut, and may be shipped.
    pub(crate) durable: Watermark,
    durable_tail: Mutex<Tail>,
    incarnation: AtomicU32,
    counters: Counters,
    /// What the commit thread waits for.
    pub(crate) waits: Waits,
    last_failure: Mutex<Option<String>>,
}

/// Counted since the log was opened.
#[derive(Debug, Default)]
struct Counters {
    groups: AtomicU64,
    flushes: AtomicU64,
    syscalls: AtomicU64,
    survived: AtomicU64,
}

impl Progress {
    pub(crate) fn new(tail: Tail, incarnation: Incarnation) -> Progress {
        Progress {
            published: Watermark::new(tail.lsn),
            durable: Watermark::new(tail.lsn),
            durable_tail: Mutex::new(tail),
            incarnation: AtomicU32::new(incarnation.get()),
            counters: Counters::default(),
            waits: Waits::default(),
            last_failure: Mutex::default(),
        }
    }

    /// The durable end, with the chain that proves it.
    pub(crate) fn durable_tail(&self) -> Tail {
        *self.durable_tail.lock().expect("no holder of this lock panics")
    }

    pub(crate) fn advance_durable(&self, tail: Tail) {
        *self.durable_tail.lock().expect("no holder of this lock panics") = tail;
        self.durable.advance(tail.lsn);
    }

    /// Neither end will move again.
    pub(crate) fn end(&self) {
        self.published.end();
        self.durable.end();
    }

    pub(crate) fn count_group(&self) {
        self.counters.groups.fetch_add(1, Ordering::Relaxed);
    }

    /// Flushes, and writes that carry one.
    pub(crate) fn count_flushes(&self, n: usize) {
        self.counters.flushes.fetch_add(n as u64, Ordering::Relaxed);
    }

    /// Takes note of how many calls into the kernel it were so far.
    pub(crate) fn note_syscalls(&self, n: u64) {
        self.counters.syscalls.store(n, Ordering::Relaxed);
    }

    /// Calls into the kernel for commits.
    pub(crate) fn syscalls(&self) -> u64 {
        self.counters.syscalls.load(Ordering::Relaxed)
    }

    /// The stretch of this disk's writing: each fence begins another.
    pub(crate) fn incarnation(&self) -> Incarnation {
        Incarnation::new(self.incarnation.load(Ordering::Relaxed))
    }

    /// A write or a flush has failed, and everything has been written again elsewhere.
    pub(crate) fn count_survived(&self, reason: &str, incarnation: Incarnation) {
        self.incarnation.store(incarnation.get(), Ordering::Relaxed);
        self.counters.survived.fetch_add(1, Ordering::Relaxed);
        *self.last_failure.lock().expect("no holder of this lock panics") = Some(reason.to_owned());
    }

    /// Commit groups written.
    pub(crate) fn groups(&self) -> u64 {
        self.counters.groups.load(Ordering::Relaxed)
    }

    /// Flushes asked of the device.
    pub(crate) fn flushes(&self) -> u64 {
        self.counters.flushes.load(Ordering::Relaxed)
    }

    /// Failures survived, and the last of them in words.
    pub(crate) fn survived(&self) -> (u64, Option<String>) {
        let last = self.last_failure.lock().expect("no holder of this lock panics").clone();
        (self.counters.survived.load(Ordering::Relaxed), last)
    }
}
