//! When entries acknowledged as written are flushed, though nobody waits for it.
//!
//! Layer: commit. Time is an argument.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::alarm::Alarm;
use super::inflight::{Durability, Group};
use crate::limits::UNFLUSHED_BYTES_MAX;

/// While somebody follows, what is written is flushed at least this often: followers are shipped only what is durable.
const FOLLOWED_INTERVAL: Duration = Duration::from_millis(20);
/// ... and at least every so many bytes.
const FOLLOWED_BYTES: u64 = 8 << 20;

/// How often entries acknowledged as [written](super::submission::Level::Written) are flushed. The first limit that is reached counts;
/// with none, only [`Engine::flush`](crate::Engine::flush), a durable append behind them, a clean close, and a bound on memory
/// (32 MiB) flush them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlushEvery {
    /// So many entries, counted as their blocks are written.
    pub entries: Option<u64>,
    /// So long after the first that is not flushed.
    pub interval: Option<Duration>,
}

/// The pace of flushes of one log.
pub(crate) struct Pace {
    pub(crate) every: FlushEvery,
    /// How many follow the log; kept by the mirror.
    pub(crate) followers: Arc<AtomicU64>,
    pub(crate) alarm: Alarm,
    pub(crate) now: fn() -> Instant,
}

impl Pace {
    fn is_followed(&self) -> bool {
        self.followers.load(Ordering::Relaxed) > 0
    }

    fn interval(&self) -> Option<Duration> {
        match self.is_followed() {
            true => Some(self.every.interval.map_or(FOLLOWED_INTERVAL, |every| every.min(FOLLOWED_INTERVAL))),
            false => self.every.interval,
        }
    }

    fn bytes_max(&self) -> u64 {
        if self.is_followed() { FOLLOWED_BYTES } else { UNFLUSHED_BYTES_MAX }
    }
}

/// What waits for a flush.
#[derive(Debug, Default)]
pub(super) struct Flushing {
    entries: u64,
    bytes: u64,
    /// When a flush must have begun, where the pace has an interval.
    deadline: Option<Instant>,
    /// What waited when the flush under way was begun.
    begun: (u64, u64),
}

impl Flushing {
    /// A group has been published.
    pub(super) fn published(&mut self, group: &Group, pace: &Pace) {
        if group.durability() != Durability::Later {
            return;
        }
        self.entries += group.n_entries();
        self.bytes += group.bytes();
        if self.deadline.is_none()
            && let Some(interval) = pace.interval()
        {
            self.deadline = Some((pace.now)() + interval);
        }
    }

    /// A group has become durable.
    pub(super) fn durable(&mut self, group: &Group) {
        if group.durability() == Durability::Later {
            self.entries = self.entries.saturating_sub(group.n_entries());
            self.bytes = self.bytes.saturating_sub(group.bytes());
            let (entries, bytes) = self.begun;
            self.begun = (entries.saturating_sub(group.n_entries()), bytes.saturating_sub(group.bytes()));
        }
        if self.bytes == 0 {
            self.deadline = None;
        }
    }

    /// Whether a flush should begin. If it should later, the alarm is set: whoever looks before he sleeps is woken in time, also where an
    /// alarm has gone off for what did not wait any more.
    pub(super) fn is_due(&self, pace: &Pace) -> bool {
        let (entries, bytes) = (self.entries - self.begun.0, self.bytes - self.begun.1);
        if pace.every.entries.is_some_and(|every| entries >= every.max(1)) || bytes >= pace.bytes_max() {
            return true;
        }
        let Some(deadline) = self.deadline.filter(|_| bytes > 0) else { return false };
        let is_due = (pace.now)() >= deadline;
        if !is_due {
            pace.alarm.set(deadline);
        }
        is_due
    }

    /// A flush of everything that waits has begun.
    pub(super) fn begun(&mut self) {
        self.begun = (self.entries, self.bytes);
        self.deadline = None;
    }

    /// Everything has been written again and flushed.
    pub(super) fn clear(&mut self) {
        *self = Flushing::default();
    }
}
