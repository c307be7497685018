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
    /// Since when something waits for a flush that has not begun. When that is due depends on the pace, which changes as followers come and
    /// go.
    since: Option<Instant>,
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
        self.since.get_or_insert_with(pace.now);
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
            self.since = None;
        }
    }

    /// Whether a flush should begin. If it should later, the alarm is set: whoever looks before he sleeps is woken in time, also where an
    /// alarm has gone off for what did not wait any more.
    pub(super) fn is_due(&self, pace: &Pace) -> bool {
        let Some(at) = self.due_at(pace) else { return false };
        let is_due = (pace.now)() >= at;
        if !is_due {
            pace.alarm.set(at);
        }
        is_due
    }

    /// When a flush should begin, at this pace and if nothing more comes.
    fn due_at(&self, pace: &Pace) -> Option<Instant> {
        let (entries, bytes) = (self.entries - self.begun.0, self.bytes - self.begun.1);
        let since = self.since.filter(|_| bytes > 0)?;
        if pace.every.entries.is_some_and(|every| entries >= every.max(1)) || bytes >= pace.bytes_max() {
            return Some(since);
        }
        since.checked_add(pace.interval()?)
    }

    /// A flush of everything that waits has begun.
    pub(super) fn begun(&mut self) {
        self.begun = (self.entries, self.bytes);
        self.since = None;
    }

    /// Everything has been written again and flushed.
    pub(super) fn clear(&mut self) {
        *self = Flushing::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Waker;

    /// Of a log that is followed by so many.
    fn pace(every: FlushEvery, followers: u64) -> Pace {
        let alarm = Alarm::new(Waker::Bell(Arc::default()));
        Pace { every, followers: Arc::new(AtomicU64::new(followers)), alarm, now: Instant::now }
    }

    fn waiting(entries: u64, bytes: u64, since: Instant) -> Flushing {
        Flushing { entries, bytes, since: Some(since), ..Flushing::default() }
    }

    #[test]
    fn what_waits_already_takes_the_pace_of_a_follower_who_comes_and_the_logs_own_when_he_goes() {
        let since = Instant::now();
        let own = |interval| FlushEvery { entries: None, interval };
        let due_after = |every, followers, bytes| {
            let due_at = waiting(1, bytes, since).due_at(&pace(every, followers));
            due_at.map(|at| at.duration_since(since))
        };
        let hour = Some(Duration::from_secs(3_600));
        assert_eq!(due_after(own(None), 0, 4096), None);
        assert_eq!(due_after(own(None), 1, 4096), Some(FOLLOWED_INTERVAL));
        assert_eq!(due_after(own(hour), 0, 4096), hour);
        assert_eq!(due_after(own(hour), 1, 4096), Some(FOLLOWED_INTERVAL));
        let often = Some(Duration::from_millis(1));
        assert_eq!(due_after(own(often), 1, 4096), often);
        assert_eq!(due_after(own(None), 0, FOLLOWED_BYTES), None);
        assert_eq!(due_after(own(None), 1, FOLLOWED_BYTES), Some(Duration::ZERO));
        assert_eq!(due_after(own(None), 0, UNFLUSHED_BYTES_MAX), Some(Duration::ZERO));
        assert_eq!(due_after(own(Some(Duration::MAX)), 0, 4096), None, "later than the clock goes is never");
    }

    #[test]
    fn what_a_flush_under_way_covers_makes_no_other_one_due() {
        let every = pace(FlushEvery { entries: Some(1), interval: Some(Duration::ZERO) }, 1);
        let mut flushing = waiting(1, 4096, Instant::now());
        assert!(flushing.due_at(&every).is_some());
        flushing.begun();
        assert_eq!(flushing.due_at(&every), None);
    }
}
