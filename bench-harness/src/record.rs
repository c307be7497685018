//! Times as they are recorded: histograms in nanoseconds with three digits that grow and never clamp, one a thread, added up interval
//! by interval.
//!
//! ```text
//!   thread: Recorder --local histogram--> at the end of an interval --> Timeline[interval]  --> Latency, Interval
//! ```
//!
//! Which samples there are, and which entries count, are two questions:
//!
//! | | a time is a sample when | an entry counts when |
//! |---|---|---|
//! | closed loop | acknowledged within the window | acknowledged within the window |
//! | open loop | **due** within the window, whenever it was acknowledged, and also if it never was | acknowledged within the window |
//!
//! An open loop that took its samples by acknowledgement would leave out the slowest: those under way when the window ends.
//!
//! Knows nothing of targets or of how load is made.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

use crate::result::{Interval, Latency};

/// Three digits: a thousandth of each value.
const DIGITS: u8 = 3;
/// A percentile is told when so many samples lie beyond it.
const SAMPLES_BEYOND: f64 = 10.0;

/// Times in nanoseconds.
#[derive(Clone)]
pub(crate) struct Times(Histogram<u64>);

impl Times {
    pub(crate) fn new() -> Times {
        let mut histogram = Histogram::new(DIGITS).expect("three digits are allowed");
        histogram.auto(true);
        Times(histogram)
    }

    /// What a result carries as `hdr`.
    ///
    /// # Errors
    /// It is not what [`Latency::hdr`] is.
    pub(crate) fn of_hdr(hdr: &str) -> Result<Times> {
        let packed = STANDARD.decode(hdr).context("the histogram is not base64")?;
        let read = Deserializer::new().deserialize(&mut packed.as_slice());
        let mut histogram: Histogram<u64> = read.context("the histogram is not V2 deflate")?;
        histogram.auto(true);
        Ok(Times(histogram))
    }

    pub(crate) fn record(&mut self, time: Duration) {
        let ns = time.as_nanos().min(u128::from(u64::MAX)) as u64;
        self.0.record(ns).expect("it grows to what is recorded");
    }

    pub(crate) fn add(&mut self, other: &Times) {
        self.0.add(&other.0).expect("it grows to what is added");
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.reset();
    }

    /// Microseconds; 0 of none.
    pub(crate) fn quantile_us(&self, quantile: f64) -> f64 {
        us(self.0.value_at_quantile(quantile))
    }

    /// All there is to say of them; `None` of none.
    pub(crate) fn latency(&self) -> Option<Latency> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let told = |quantile: f64| {
            let enough = count as f64 * (1.0 - quantile) >= SAMPLES_BEYOND * (1.0 - 1e-9);
            enough.then(|| self.quantile_us(quantile))
        };
        Some(Latency {
            count,
            min_us: us(self.0.min()),
            mean_us: self.0.mean() / 1e3,
            p50_us: self.quantile_us(0.5),
            p90_us: self.quantile_us(0.9),
            p99_us: self.quantile_us(0.99),
            p999_us: self.quantile_us(0.999),
            p9999_us: told(0.9999),
            p99999_us: told(0.99999),
            max_us: us(self.0.max()),
            curve: self.curve(),
            hdr: self.encoded(),
        })
    }

    /// Points on an axis of nines, ten a nine, up to the last sample.
    fn curve(&self) -> Vec<(f64, f64)> {
        let last = 1.0 - 1.0 / self.count() as f64;
        let share = |step: i32| 1.0 - 10f64.powf(-f64::from(step) / 10.0);
        let shares = (0..).map(share).take_while(|share| *share < last).chain([last]);
        shares.map(|share| (share * 100.0, self.quantile_us(share))).collect()
    }

    fn encoded(&self) -> String {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(&self.0, &mut bytes).expect("a vector takes what is written to it");
        STANDARD.encode(bytes)
    }
}

fn us(ns: u64) -> f64 {
    ns as f64 / 1e3
}

/// When a load is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
}

impl Window {
    /// A second each, or a fifth of a short window.
    fn interval(&self) -> Duration {
        Duration::from_secs(1).min(self.duration / 5).max(Duration::from_millis(1))
    }

    pub(crate) fn end(&self) -> Duration {
        self.warmup + self.duration
    }
}

/// What one interval of a round was like.
#[derive(Clone)]
struct Spans {
    service: Times,
    response: Times,
}

impl Spans {
    fn new() -> Spans {
        Spans { service: Times::new(), response: Times::new() }
    }

    fn add(&mut self, other: &Spans) {
        self.service.add(&other.service);
        self.response.add(&other.response);
    }

    fn clear(&mut self) {
        self.service.clear();
        self.response.clear();
    }

    fn is_empty(&self) -> bool {
        self.service.count() == 0 && self.response.count() == 0
    }

    /// What a caller saw.
    fn seen(&self) -> &Times {
        if self.response.count() > 0 { &self.response } else { &self.service }
    }
}

/// What was acknowledged.
#[derive(Clone, Copy, Default)]
struct Done {
    entries: u64,
    batches: u64,
}

impl Done {
    fn add(&mut self, other: Done) {
        self.entries += other.entries;
        self.batches += other.batches;
    }
}

/// One interval of a round, of all threads.
struct Slot {
    spans: Spans,
    done: Done,
}

impl Slot {
    fn new() -> Slot {
        Slot { spans: Spans::new(), done: Done::default() }
    }
}

/// The intervals of a round, as threads add to them.
pub(crate) struct Timeline {
    window: Window,
    slots: Vec<Mutex<Slot>>,
}

/// What a round came to, within its window.
pub(crate) struct Measured {
    pub(crate) seconds: f64,
    /// Acknowledged within the window.
    pub(crate) entries: u64,
    pub(crate) batches: u64,
    pub(crate) service: Times,
    /// Empty of a closed loop, where it is the same. Of an open one it has a time of each batch that was due, also of those that were
    /// never sent: as long as they had waited when they were given up, which is less than they would have taken.
    pub(crate) response: Times,
    pub(crate) intervals: Vec<Interval>,
}

impl Timeline {
    pub(crate) fn new(window: Window) -> Timeline {
        let slots = window.duration.div_duration_f64(window.interval()).ceil() as usize;
        Timeline { window, slots: (0..slots.max(1)).map(|_| Mutex::new(Slot::new())).collect() }
    }

    fn with(&self, at: usize, add: impl FnOnce(&mut Slot)) {
        add(&mut self.slots[at].lock().expect("no holder of this lock panics"));
    }

    /// The interval in which something was, so long after the start; `None`: not within the window.
    fn interval_at(&self, since_start: Duration) -> Option<usize> {
        let inside = since_start.checked_sub(self.window.warmup).filter(|inside| *inside < self.window.duration)?;
        Some((inside.as_nanos() / self.window.interval().as_nanos()) as usize)
    }

    /// Throughput and p99 of the last interval that is over, for the progress bar.
    pub(crate) fn live(&self, since_start: Duration) -> Option<(f64, f64)> {
        let over = since_start.checked_sub(self.window.warmup)?.div_duration_f64(self.window.interval()) as usize;
        // The threads hand in an interval when they are past it; the one before the last is whole.
        let at = over.checked_sub(2)?.min(self.slots.len() - 1);
        let slot = self.slots[at].lock().expect("no holder of this lock panics");
        Some((slot.done.entries as f64 / self.seconds_of(at), slot.spans.seen().quantile_us(0.99)))
    }

    fn seconds_of(&self, at: usize) -> f64 {
        let from = self.window.interval() * at as u32;
        self.window.interval().min(self.window.duration - from).as_secs_f64()
    }

    /// Everything together. Call it when all threads have ended.
    pub(crate) fn measured(self) -> Measured {
        let mut all = Slot::new();
        let mut intervals = Vec::new();
        for (at, slot) in self.slots.iter().enumerate() {
            let slot = slot.lock().expect("no holder of this lock panics");
            let times = slot.spans.seen();
            intervals.push(Interval {
                at_s: (self.window.interval() * at as u32).as_secs_f64(),
                seconds: self.seconds_of(at),
                entries: slot.done.entries,
                p50_us: times.quantile_us(0.5),
                p99_us: times.quantile_us(0.99),
            });
            all.spans.add(&slot.spans);
            all.done.add(slot.done);
        }
        let Slot { spans: Spans { service, response }, done: Done { entries, batches } } = all;
        Measured { seconds: self.window.duration.as_secs_f64(), entries, batches, service, response, intervals }
    }
}

/// A thread's pen.
pub(crate) struct Recorder<'a> {
    timeline: &'a Timeline,
    start: Instant,
    /// Times, and the interval that they belong to.
    spans: (usize, Spans),
    /// Entries, and theirs: where an open loop is late, it is another one.
    done: (usize, Done),
}

/// One batch, from when it was meant to go out until it was acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acked {
    /// `None` in a closed loop: there is no plan but "when the last one is there".
    pub(crate) intended: Option<Instant>,
    pub(crate) sent: Instant,
    pub(crate) acked: Instant,
    pub(crate) entries: u64,
}

impl<'a> Recorder<'a> {
    pub(crate) fn new(timeline: &'a Timeline, start: Instant) -> Recorder<'a> {
        Recorder { timeline, start, spans: (0, Spans::new()), done: (0, Done::default()) }
    }

    pub(crate) fn record(&mut self, batch: Acked) {
        if let Some(at) = self.timeline.interval_at(batch.acked - self.start) {
            self.count(at, batch.entries);
        }
        let Some(at) = self.timeline.interval_at(batch.intended.unwrap_or(batch.acked) - self.start) else { return };
        let spans = self.spans_of(at);
        spans.service.record(batch.acked - batch.sent);
        if let Some(intended) = batch.intended {
            spans.response.record(batch.acked - intended);
        }
    }

    /// A batch that was due and had not gone out when it was given up: it would have taken longer than this, and is no less of a sample.
    pub(crate) fn given_up(&mut self, intended: Instant, given_up: Instant) {
        if let Some(at) = self.timeline.interval_at(intended - self.start) {
            self.spans_of(at).response.record(given_up - intended);
        }
    }

    fn spans_of(&mut self, at: usize) -> &mut Spans {
        if at != self.spans.0 {
            self.hand_in_spans();
            self.spans.0 = at;
        }
        &mut self.spans.1
    }

    fn count(&mut self, at: usize, entries: u64) {
        if at != self.done.0 {
            self.hand_in_done();
            self.done.0 = at;
        }
        self.done.1.add(Done { entries, batches: 1 });
    }

    fn hand_in_spans(&mut self) {
        let (at, spans) = &mut self.spans;
        if !spans.is_empty() {
            self.timeline.with(*at, |slot| slot.spans.add(spans));
            spans.clear();
        }
    }

    fn hand_in_done(&mut self) {
        let (at, done) = (self.done.0, std::mem::take(&mut self.done.1));
        if done.batches > 0 {
            self.timeline.with(at, |slot| slot.done.add(done));
        }
    }
}

impl Drop for Recorder<'_> {
    fn drop(&mut self) {
        self.hand_in_spans();
        self.hand_in_done();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn times(of: impl IntoIterator<Item = u64>) -> Times {
        let mut times = Times::new();
        of.into_iter().for_each(|us| times.record(Duration::from_micros(us)));
        times
    }

    #[test]
    fn a_time_of_hours_is_neither_refused_nor_clamped() {
        let hours = times([3, 4 * 3600 * 1_000_000]).latency().unwrap();
        assert!((hours.max_us / 1.44e10 - 1.0).abs() < 0.001, "{}", hours.max_us);
        assert_eq!(hours.count, 2);
    }

    #[test]
    fn a_percentile_is_told_only_with_ten_samples_beyond_it() {
        let of = |n: u64| times(0..n).latency().unwrap();
        assert!(of(99_999).p9999_us.is_none());
        assert!(of(100_000).p9999_us.is_some() && of(100_000).p99999_us.is_none());
        assert!(of(1_000_000).p99999_us.is_some());
        assert!(times([]).latency().is_none());
    }

    #[test]
    fn percentiles_and_the_curve_follow_from_the_samples() {
        let latency = times(1..=1000).latency().unwrap();
        for (got, expected) in [(latency.p50_us, 500.0), (latency.p90_us, 900.0), (latency.p99_us, 990.0)] {
            assert!((got / expected - 1.0).abs() < 0.002, "{got} {expected}");
        }
        let curve = &latency.curve;
        assert!(curve.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1), "{curve:?}");
        assert!((curve.last().unwrap().0 - 99.9).abs() < 1e-9 && (28..=32).contains(&curve.len()), "{curve:?}");
    }

    #[test]
    fn what_is_encoded_reads_back_as_the_same_histogram() {
        let times = times([1, 50, 50, 7000]);
        let mut back = Times::of_hdr(&times.latency().unwrap().hdr).unwrap();
        assert_eq!(back.0, times.0);
        back.record(Duration::from_secs(90_000));
        assert_eq!(back.count(), 5, "it still grows");
        let error = |hdr| format!("{:#}", Times::of_hdr(hdr).err().unwrap());
        assert!(error("no, not base64").contains("base64") && error("AAAA").contains("V2"));
    }

    #[test]
    fn what_is_acknowledged_outside_the_window_is_no_sample() {
        let window = Window { warmup: 100 * MS, duration: 100 * MS };
        let (timeline, start) = (Timeline::new(window), Instant::now());
        let mut recorder = Recorder::new(&timeline, start);
        for ms in [0, 99, 100, 150, 199, 200, 5000] {
            let acked = start + ms * MS;
            recorder.record(Acked { intended: None, sent: start, acked, entries: 2 });
        }
        drop(recorder);
        let measured = timeline.measured();
        assert_eq!((measured.batches, measured.entries, measured.service.count()), (3, 6, 3));
        assert_eq!(measured.response.count(), 0);
    }

    #[test]
    fn of_an_open_loop_what_was_due_in_the_window_is_a_sample_whenever_it_was_acknowledged() {
        let window = Window { warmup: 100 * MS, duration: 100 * MS };
        let (timeline, start) = (Timeline::new(window), Instant::now());
        let mut recorder = Recorder::new(&timeline, start);
        // Of the warm-up and acknowledged in the window; of the window; of the window and acknowledged long after it; of no window.
        for (due_ms, acked_ms) in [(99, 150), (150, 160), (199, 5199), (200, 201)] {
            let (intended, acked) = (start + due_ms * MS, start + acked_ms * MS);
            recorder.record(Acked { intended: Some(intended), sent: acked - MS, acked, entries: 2 });
        }
        // One that never went out, and one of the warm-up.
        recorder.given_up(start + 170 * MS, start + 200 * MS);
        recorder.given_up(start + 90 * MS, start + 200 * MS);
        drop(recorder);
        let measured = timeline.measured();
        let longest_ms = measured.response.quantile_us(1.0) / 1000.0;
        assert_eq!((measured.response.count(), measured.service.count()), (3, 2));
        assert!((longest_ms / 5000.0 - 1.0).abs() < 0.01, "{longest_ms}");
        assert!((measured.response.quantile_us(0.5) / 30_000.0 - 1.0).abs() < 0.01, "as long as it had waited");
        assert_eq!(
            (measured.batches, measured.entries),
            (2, 4),
            "throughput is what was acknowledged within the window"
        );
    }

    #[test]
    fn intervals_add_up_to_the_window_and_hold_what_was_acknowledged_in_them() {
        let window = Window { warmup: Duration::ZERO, duration: 2500 * MS };
        let (timeline, start) = (Timeline::new(window), Instant::now());
        for _thread in 0..2 {
            let mut recorder = Recorder::new(&timeline, start);
            for ms in (0..2500).step_by(100) {
                let acked = start + ms * MS;
                recorder.record(Acked { intended: Some(acked - 3 * MS), sent: acked - MS, acked, entries: 1 });
            }
        }
        assert!(timeline.live(Duration::from_millis(900)).is_none());
        let (per_s, p99_us) = timeline.live(Duration::from_millis(2000)).unwrap();
        assert!((per_s - 20.0).abs() < 1e-9 && (p99_us / 3000.0 - 1.0).abs() < 0.01, "{per_s} {p99_us}");
        let measured = timeline.measured();
        let got: Vec<_> = measured.intervals.iter().map(|i| (i.at_s, i.seconds, i.entries)).collect();
        let expected: Vec<_> = (0..5).map(|i| (f64::from(i) * 0.5, 0.5, 10)).collect();
        assert_eq!(got, expected);
        assert!((measured.response.quantile_us(0.5) / 3000.0 - 1.0).abs() < 0.01);
        assert!((measured.service.quantile_us(0.5) / 1000.0 - 1.0).abs() < 0.01);
    }
}
