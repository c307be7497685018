//! Load on a target: so many threads, each of which appends by one of three rules.
//!
//! ```text
//!   closed   the next batch goes out when the last one is there              one in flight a thread
//!   window   the next batch goes out when the oldest one is there            `outstanding` in flight a thread
//!   open     the next batch goes out when the schedule says so, or at once if that has passed
//!
//!   start --- warm-up ---|------------- window -------------|--- what is in flight
//!                        ^ meters are read                  ^ and read again
//! ```
//!
//! Everything that is sent is waited for: a load ends when all of it is acknowledged, and says how much that was.
//!
//! Knows the target by its contract only.

mod closed;
mod open;
mod window;

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;

use crate::payload::Payloads;
use crate::record::{Measured, Recorder, Timeline, Window};
use crate::result::Spec;
use crate::schedule::{Arrivals, Schedule};
use crate::target::{Counters, Producer, Target};

/// How often the progress is told.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// A load as it is asked for.
pub(crate) struct Load<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) window: Window,
    pub(crate) milestone: Option<Milestone<'a>>,
    pub(crate) seed: u64,
}

/// A number of entries, and what is done when so many are acknowledged.
pub(crate) struct Milestone<'a> {
    pub(crate) entries: u64,
    pub(crate) then: &'a (dyn Fn(u64) -> Next + Sync),
}

/// Whether a load goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    GoOn,
    Stop,
}

/// What is looked at when the window opens, and when it closes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meters<M> {
    pub(crate) counters: Counters,
    pub(crate) usage: M,
}

/// What a load came to.
pub(crate) struct Loaded<M> {
    pub(crate) measured: Measured,
    /// When it was measured.
    pub(crate) window: Range<Instant>,
    /// Everything that was acknowledged, the warm-up among it.
    pub(crate) acked: Acked,
    /// Batches that an open loop should have sent within the window, and those of them that it did send in it.
    pub(crate) due: Option<Due>,
    pub(crate) before: Meters<M>,
    pub(crate) after: Meters<M>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Acked {
    pub(crate) entries: u64,
    pub(crate) batches: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) due: u64,
    pub(crate) sent: u64,
}

/// What a thread has when it ends.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    acked: Acked,
    due: Due,
}

/// What all threads see.
struct Shared<'a> {
    load: &'a Load<'a>,
    timeline: &'a Timeline,
    /// Given once all threads are ready: they begin together.
    start: OnceLock<Instant>,
    /// One has failed, or there is enough: the others need not go on.
    stop: AtomicBool,
    entries: AtomicU64,
}

/// A thread that appends.
struct Worker<'a> {
    producer: Box<dyn Producer + 'a>,
    payloads: Payloads,
    topics: Topics,
    batch: Vec<Bytes>,
    recorder: Recorder<'a>,
    shared: &'a Shared<'a>,
    start: Instant,
    end: Instant,
    tally: Tally,
}

/// The topics of a producer's batches: in turn, and beginning elsewhere for each.
struct Topics {
    next: u32,
    step: u32,
    count: u32,
}

impl Topics {
    fn new(number: u32, spec: &Spec) -> Topics {
        Topics { next: number % spec.topics, step: spec.producers % spec.topics, count: spec.topics }
    }

    fn next(&mut self) -> u32 {
        let topic = self.next;
        self.next = (self.next + self.step) % self.count;
        topic
    }
}

impl Load<'_> {
    /// Runs it. `meter` is read when the window opens and when it closes; `tell` hears throughput and p99 now and then.
    ///
    /// # Errors
    /// The first append that failed.
    pub(crate) fn run<M: Default>(
        &self,
        target: &dyn Target,
        meter: impl Fn() -> M,
        mut tell: impl FnMut(Option<(f64, f64)>),
    ) -> Result<Loaded<M>> {
        let timeline = Timeline::new(self.window);
        let shared = Shared {
            load: self,
            timeline: &timeline,
            start: OnceLock::new(),
            stop: AtomicBool::new(false),
            entries: AtomicU64::new(0),
        };
        let read = || Meters { counters: target.counters(), usage: meter() };
        let (mut before, mut after) = (Meters::default(), Meters::default());
        let tally = thread::scope(|scope| {
            let (ready, done) = (channel(), channel());
            for number in 0..self.spec.producers {
                let (shared, ready, done) = (&shared, ready.0.clone(), done.0.clone());
                let body = move || drop(done.send(shared.work(target, number, ready)));
                let spawned = thread::Builder::new().name(format!("producer {number}")).spawn_scoped(scope, body);
                spawned.with_context(|| format!("starting thread {number} of {}", self.spec.producers)).inspect_err(
                    |_| {
                        shared.stop.store(true, Ordering::Relaxed);
                        shared.start.get_or_init(Instant::now);
                    },
                )?;
            }
            drop((ready.0, done.0));
            // Each of them lets go of its end when it is ready, or has failed.
            while ready.1.recv().is_ok() {}
            let start = *shared.start.get_or_init(Instant::now);
            let mut gathered = Gathered::default();
            gathered.until(&done.1, start + self.window.warmup, &shared, &mut tell);
            before = read();
            gathered.until(&done.1, start + self.window.end(), &shared, &mut tell);
            after = read();
            gathered.rest(&done.1)
        })?;
        let start = *shared.start.wait();
        let window = start + self.window.warmup..start + self.window.end();
        let measured = timeline.measured();
        let due = self.spec.rate_per_s.map(|_| tally.due);
        Ok(Loaded { measured, window, acked: tally.acked, due, before, after })
    }
}

/// What has ended so far.
#[derive(Default)]
struct Gathered {
    tally: Tally,
    failed: Option<anyhow::Error>,
}

impl Gathered {
    /// Hears of those that end until `time`, and tells how it goes.
    fn until(
        &mut self,
        ended: &Receiver<Result<Tally>>,
        time: Instant,
        shared: &Shared<'_>,
        tell: &mut impl FnMut(Option<(f64, f64)>),
    ) {
        loop {
            let left = time.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            match ended.recv_timeout(left.min(TELL_EVERY)) {
                Ok(one) => self.hear(one),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    let since = shared.start.get().map_or(Duration::ZERO, Instant::elapsed);
                    tell(shared.timeline.live(since));
                }
            }
        }
    }

    fn rest(mut self, ended: &Receiver<Result<Tally>>) -> Result<Tally> {
        while let Ok(one) = ended.recv() {
            self.hear(one);
        }
        self.failed.map_or(Ok(self.tally), Err)
    }

    fn hear(&mut self, one: Result<Tally>) {
        match one {
            Ok(Tally { acked, due }) => {
                self.tally.acked.entries += acked.entries;
                self.tally.acked.batches += acked.batches;
                self.tally.due.due += due.due;
                self.tally.due.sent += due.sent;
            }
            // The first is the cause; the others are what followed from it.
            Err(error) => drop(self.failed.get_or_insert(error)),
        }
    }
}

impl Shared<'_> {
    /// A thread, from its first line to its last.
    fn work(&self, target: &dyn Target, number: u32, ready: Sender<()>) -> Result<Tally> {
        let Spec { producers, payload_bytes, .. } = *self.load.spec;
        let producer = target.producer(number);
        let payloads = Payloads::new(self.load.seed, number, producers, payload_bytes);
        drop(ready);
        let start = *self.start.wait();
        let worker = Worker {
            producer: producer.inspect_err(|_| self.stop.store(true, Ordering::Relaxed))?,
            payloads,
            topics: Topics::new(number, self.load.spec),
            batch: Vec::with_capacity(self.load.spec.batch as usize),
            recorder: Recorder::new(self.timeline, start),
            shared: self,
            start,
            end: start + self.load.window.end(),
            tally: Tally::default(),
        };
        worker.run(number).inspect_err(|_| self.stop.store(true, Ordering::Relaxed))
    }
}

impl Worker<'_> {
    fn run(mut self, number: u32) -> Result<Tally> {
        let spec = self.shared.load.spec;
        let result = match (spec.rate_per_s, spec.outstanding) {
            (Some(rate_per_s), 1) => {
                let arrivals = if spec.arrivals.as_deref() == Some(Arrivals::Poisson.name()) {
                    Arrivals::Poisson
                } else {
                    Arrivals::Uniform
                };
                let schedule = Schedule::new(arrivals, rate_per_s, number, spec.producers, self.shared.load.seed);
                open::run(&mut self, schedule)
            }
            (Some(_), more) => Err(anyhow!("an open loop has one batch a producer in flight, not {more}")),
            (None, 1) => closed::run(&mut self),
            (None, outstanding) => window::run(&mut self, outstanding as usize),
        };
        let Spec { payload_bytes, batch, .. } = spec;
        let after = self.tally.acked.batches;
        result.with_context(|| {
            format!("producer {number}: a batch of {batch} x {payload_bytes} B was not acknowledged, after {after} that were")
        })?;
        Ok(self.tally)
    }

    /// Whether there is time for another batch that would be sent now.
    fn goes_on(&self, now: Instant) -> bool {
        now < self.end && !self.shared.stop.load(Ordering::Relaxed)
    }

    /// Takes note of a batch that is acknowledged.
    fn acked(&mut self, intended: Option<Instant>, sent: Instant, acked: Instant) {
        let entries = u64::from(self.shared.load.spec.batch);
        self.tally.acked.batches += 1;
        self.tally.acked.entries += entries;
        self.recorder.record(crate::record::Acked { intended, sent, acked, entries });
        let Some(milestone) = &self.shared.load.milestone else { return };
        let before = self.shared.entries.fetch_add(entries, Ordering::Relaxed);
        let is_passed = (before..before + entries).contains(&(milestone.entries - 1));
        if is_passed && (milestone.then)(before + entries) == Next::Stop {
            self.shared.stop.store(true, Ordering::Relaxed);
        }
    }

    /// The next batch into `self.batch`, and its topic.
    fn fill(&mut self) -> u32 {
        self.payloads.fill(&mut self.batch, self.shared.load.spec.batch);
        self.topics.next()
    }
}

#[cfg(test)]
mod tests;
