//! Who follows, how far each is, and how far behind.
//!
//! A follower that has gone stays in the list: one that is eight days behind and not connected is the one an operator has to
//! see. Lag is told three ways, because each alone can lie: blocks (exact), bytes (what was sent is exact, the rest is estimated from the
//! log's mean), and seconds since the follower's log stopped being all of ours (0 when it is all of ours, however idle we are).
//!
//! Layer: leader. Uses `lsn`. Knows nothing of streams.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::{Phase, Server};
use crate::engine::Status;
use crate::lsn::Lsn;
use crate::net::endpoint::close;
use crate::wire::Code;
use crate::wire::leader::Progress;

/// Followers that are remembered after they have gone.
const REMEMBERED_MAX: usize = 64;

/// Moments at which the durable watermark is remembered, and how many of them: half an hour at the coarsest.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
const SAMPLES_MAX: usize = 18_000;

/// One follower, for `status`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FollowerRow {
    pub(crate) name: String,
    pub(crate) state: &'static str,
    pub(crate) durable_lsn: u64,
    pub(crate) lag_blocks: u64,
    pub(crate) lag_bytes: u64,
    pub(crate) lag_seconds: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    CatchingUp,
    Streaming,
    Disconnected,
    Diverged,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::CatchingUp => "catching-up",
            State::Streaming => "streaming",
            State::Disconnected => "disconnected",
            State::Diverged => "diverged",
        }
    }
}

#[derive(Debug)]
struct Follower {
    name: String,
    state: State,
    /// Which of its connections counts: the newest.
    serial: u64,
    connection: Option<quinn::Connection>,
    sent: Lsn,
    durable: Lsn,
    /// Ends of what was sent and is not acknowledged, with their bytes.
    unacked: VecDeque<(Lsn, u64)>,
    seen: Instant,
}

#[derive(Debug, Default)]
struct Table {
    followers: BTreeMap<u128, Follower>,
    serial: u64,
    /// When the durable watermark reached what.
    samples: VecDeque<(Lsn, Instant)>,
}

/// Every follower that this node knows of.
#[derive(Debug, Default)]
pub(super) struct Followers {
    table: Mutex<Table>,
    moved: Notify,
}

/// One connection's place in the list; gives it up when dropped.
#[derive(Debug)]
pub(super) struct Registration {
    followers: Arc<Followers>,
    node_id: u128,
    serial: u64,
}

impl Followers {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no holder of this lock panics")
    }

    /// A follower whose claim was proved. An older connection of the same node is closed: a killed follower is back before
    /// its old connection is given up, and must not have to wait for that.
    pub(super) fn register(
        self: &Arc<Followers>,
        node_id: u128,
        name: String,
        connection: quinn::Connection,
        start: Lsn,
    ) -> Registration {
        let mut table = self.table();
        table.serial += 1;
        let serial = table.serial;
        let (state, seen) = (State::CatchingUp, Instant::now());
        let follower = Follower {
            name,
            state,
            serial,
            connection: Some(connection),
            sent: start,
            durable: start,
            unacked: VecDeque::new(),
            seen,
        };
        let before = table.followers.insert(node_id, follower);
        if let Some(old) = before.and_then(|before| before.connection) {
            close(&old, Code::REPLACED, "the same follower has connected again");
        }
        table.forget_oldest();
        Registration { followers: Arc::clone(self), node_id, serial }
    }

    /// A follower whose claim was refuted.
    pub(super) fn refuted(&self, node_id: u128, name: String, durable: Lsn) {
        let mut table = self.table();
        table.serial += 1;
        let serial = table.serial;
        let (state, seen, unacked) = (State::Diverged, Instant::now(), VecDeque::new());
        let follower = Follower { name, state, serial, connection: None, sent: durable, durable, unacked, seen };
        table.followers.insert(node_id, follower);
        table.forget_oldest();
    }

    /// Resolves when every connected follower has acknowledged all below `lsn`.
    pub(super) async fn all_acknowledge(&self, lsn: Lsn) {
        loop {
            let moved = self.moved.notified();
            if self.behind(lsn).is_empty() {
                return;
            }
            moved.await;
        }
    }

    /// Connected followers that have not acknowledged all below `lsn`.
    pub(super) fn behind(&self, lsn: Lsn) -> Vec<String> {
        let table = self.table();
        let connected = table.followers.values().filter(|follower| follower.connection.is_some());
        connected.filter(|follower| follower.durable < lsn).map(|follower| follower.name.clone()).collect()
    }

    /// How each is, seen from this log.
    pub(super) fn rows(&self, log: &Status) -> Vec<FollowerRow> {
        let table = self.table();
        let blocks = log.durable_lsn.blocks_since(Lsn::FIRST).max(1);
        let mean_bytes = log.log_bytes / blocks;
        let row = |follower: &Follower| {
            let unsent = log.durable_lsn.blocks_since(follower.sent);
            let unacked: u64 = follower.unacked.iter().map(|(_, bytes)| bytes).sum();
            FollowerRow {
                name: follower.name.clone(),
                state: follower.state.name(),
                durable_lsn: follower.durable.get(),
                lag_blocks: log.durable_lsn.blocks_since(follower.durable),
                lag_bytes: unacked + unsent * mean_bytes,
                lag_seconds: table.lag_seconds(follower.durable, log.durable_lsn, Instant::now()),
            }
        };
        table.followers.values().map(row).collect()
    }
}

impl Table {
    fn forget_oldest(&mut self) {
        while self.followers.len() > REMEMBERED_MAX {
            let gone = self.followers.iter().filter(|(_, follower)| follower.connection.is_none());
            let Some(oldest) = gone.min_by_key(|(_, follower)| follower.seen).map(|(&id, _)| id) else { return };
            self.followers.remove(&oldest);
        }
    }

    fn sample(&mut self, durable: Lsn, now: Instant) {
        if self.samples.back().is_some_and(|&(last, _)| last >= durable) {
            return;
        }
        self.samples.push_back((durable, now));
        if self.samples.len() > SAMPLES_MAX {
            // Every second one of the older half: the far past needs no fine steps.
            let mut i = 0;
            self.samples.retain(|_| {
                i += 1;
                i > SAMPLES_MAX / 2 || i % 2 == 0
            });
        }
    }

    /// Seconds since our log first had something that the follower's has not.
    fn lag_seconds(&self, acked: Lsn, durable: Lsn, now: Instant) -> f64 {
        if acked >= durable {
            return 0.0;
        }
        let first_beyond = self.samples.partition_point(|&(lsn, _)| lsn <= acked);
        let since = self.samples.get(first_beyond).map_or(now, |&(_, at)| at);
        now.saturating_duration_since(since).as_secs_f64()
    }
}

impl Registration {
    /// What is done to the entry, unless a newer connection has taken it over.
    fn with(&self, change: impl FnOnce(&mut Follower)) {
        let mut table = self.followers.table();
        if let Some(follower) = table.followers.get_mut(&self.node_id)
            && follower.serial == self.serial
        {
            follower.seen = Instant::now();
            change(follower);
        }
    }

    /// Blocks below `end`, `bytes` of them, are on their way.
    pub(super) fn sent(&self, end: Lsn, bytes: u64) {
        self.with(|follower| {
            follower.sent = end;
            follower.unacked.push_back((end, bytes));
        });
    }

    /// Everything durable has been sent once: from now on it streams.
    pub(super) fn caught_up(&self) {
        self.with(|follower| follower.state = State::Streaming);
    }

    /// The follower has got on.
    pub(super) fn acknowledged(&self, progress: Progress) {
        self.with(|follower| {
            follower.durable = progress.durable;
            while follower.unacked.front().is_some_and(|&(end, _)| end <= progress.durable) {
                follower.unacked.pop_front();
            }
        });
        self.followers.moved.notify_waiters();
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.with(|follower| {
            follower.state = State::Disconnected;
            follower.connection = None;
            // What was on its way is lost with the connection.
            follower.unacked.clear();
            follower.sent = follower.durable;
        });
        self.followers.moved.notify_waiters();
    }
}

/// Remembers when the durable watermark reached what, so that lag can be told in seconds.
pub(super) async fn sample(server: Arc<Server>) {
    let (mut phase, mut told) = (server.phase.subscribe(), Told::default());
    let mut ticks = tokio::time::interval(SAMPLE_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = phase.wait_for(|&phase| phase == Phase::Closing) => {}
        }
        if let Some(log) = server.setup.log.get() {
            server.followers.table().sample(log.durable().lsn(), Instant::now());
            told.tell_of(log.failures_survived(), log.halted());
            told.tell_of_damage(log.scrub_warning());
        }
        if *phase.borrow() == Phase::Closing {
            return;
        }
    }
}

/// What an operator has been told of.
#[derive(Debug, Default)]
struct Told {
    failures: u64,
    halted: bool,
    damage: Option<String>,
}

impl Told {
    /// Says loudly, and once for each, that the log has survived a failed write or flush, or that it could not.
    fn tell_of(&mut self, (failures, last): (u64, Option<String>), halted: Option<String>) {
        if failures > self.failures {
            let last = last.unwrap_or_default();
            tracing::error!(
                failures,
                "a write or a flush has failed, and was written again elsewhere; nothing is lost, but look after the disk: {last}"
            );
            self.failures = failures;
        }
        let Some(reason) = halted.filter(|_| !self.halted) else { return };
        tracing::error!(
            "the log has halted: it takes no writes until this process is started again, reads go on: {reason}"
        );
        self.halted = true;
    }

    /// Says loudly what the scrub has found, and again when it has found more.
    fn tell_of_damage(&mut self, damage: Option<String>) {
        if damage != self.damage {
            damage.iter().for_each(|damage| tracing::error!("the scrub has found damage: {damage}"));
            self.damage = damage;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    use super::*;

    /// Every error that is logged.
    #[derive(Clone, Default)]
    struct Errors(Arc<Mutex<Vec<String>>>);

    impl Errors {
        fn take(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    impl Visit for Errors {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            if field.name() == "message" {
                self.0.lock().unwrap().push(format!("{value:?}"));
            }
        }
    }

    impl Subscriber for Errors {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            *metadata.level() == Level::ERROR
        }
        fn event(&self, event: &Event<'_>) {
            event.record(&mut self.clone());
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn a_failure_that_was_survived_and_one_that_was_not_are_each_told_once() {
        let (errors, mut told) = (Errors::default(), Told::default());
        let mut say = |failures, last: Option<&str>, halted: Option<&str>| {
            let (last, halted) = (last.map(str::to_owned), halted.map(str::to_owned));
            tracing::subscriber::with_default(errors.clone(), || told.tell_of((failures, last), halted));
            errors.take()
        };
        assert!(say(0, None, None).is_empty());
        for (failures, reason) in [(1, "first"), (3, "third")] {
            let said = say(failures, Some(reason), None);
            assert!(said.len() == 1 && said[0].contains("nothing is lost") && said[0].ends_with(reason), "{said:?}");
            assert!(say(failures, Some(reason), None).is_empty());
        }
        let said = say(3, Some("third"), Some("no more"));
        assert!(said.len() == 1 && said[0].contains("the log has halted") && said[0].ends_with("no more"), "{said:?}");
        assert!(say(3, Some("third"), Some("no more")).is_empty());
    }

    #[test]
    fn seconds_of_lag_count_from_the_first_block_that_is_missing_and_are_none_on_an_idle_leader() {
        let mut table = Table::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (lsn, seconds) in [(10, 0), (20, 5), (30, 9)] {
            table.sample(Lsn::new(lsn), at(seconds));
        }
        table.sample(Lsn::new(30), at(50));
        let lag = |acked| table.lag_seconds(Lsn::new(acked), Lsn::new(30), at(60)).round() as u64;
        assert_eq!(lag(30), 0);
        assert_eq!(lag(29), 51);
        assert_eq!(lag(20), 51);
        assert_eq!(lag(10), 55);
        assert_eq!(lag(1), 60);
    }

    #[test]
    fn samples_are_bounded_and_keep_the_past() {
        let mut table = Table::default();
        let start = Instant::now();
        for i in 1..100_000u64 {
            table.sample(Lsn::new(i), start + SAMPLE_EVERY * i as u32);
        }
        assert!(table.samples.len() <= SAMPLES_MAX);
        let lag = table.lag_seconds(Lsn::new(50_000), Lsn::new(100_000), start + SAMPLE_EVERY * 100_000);
        assert!((4_500.0..5_500.0).contains(&lag), "{lag}");
    }
}
