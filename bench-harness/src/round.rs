//! One round of one case: a fresh log, a load, and the proof that everything which was acknowledged is there.
//!
//! ```text
//!   append   open | load: warm-up, window, what is in flight | read everything back | close
//!   read     open | fill | read everything back, again and again, for the window    | close
//!   open     a child fills, and is killed | open until the first entry can be read  | read everything back | close
//! ```
//!
//! Knows targets by their contract.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::check::{self, Flushing};
use crate::cost::{Spent, Usage};
use crate::device::Device;
use crate::fill;
use crate::load::{Due, Load, Loaded, Milestone, Next};
use crate::plan::CasePlan;
use crate::record::{Acked, Measured, Recorder, Timeline, Window};
use crate::result::{Check, Lag, Spec};
use crate::target::{Kind, ReadBack, Target};

/// How long a log may take to be filled before it is read or opened.
const FILL_TIME_MAX: Duration = Duration::from_secs(600);

/// Everything that a round needs besides its target.
pub(crate) struct Bench<'a> {
    pub(crate) device: &'a Device,
    /// The device counts its flushes, as measuring the floor has shown.
    pub(crate) counts_flushes: bool,
    pub(crate) seed: u64,
}

/// What came of a round.
pub(crate) struct Played {
    pub(crate) settings: String,
    pub(crate) measured: Measured,
    pub(crate) spent: Spent,
    pub(crate) checks: Vec<Check>,
    pub(crate) due: Option<Due>,
    pub(crate) lag: Option<Lag>,
}

impl Bench<'_> {
    /// Plays a round in `folder`, which is there and empty.
    ///
    /// # Errors
    /// The target failed. A check that did not hold is no error: it is in the result.
    pub(crate) fn play(
        &self,
        kind: &dyn Kind,
        case: &CasePlan,
        folder: &Path,
        tell: &mut dyn FnMut(Option<(f64, f64)>),
    ) -> Result<Played> {
        match case.spec.kind.as_str() {
            "read" => self.play_read(kind, case, folder),
            "open" => self.play_open(kind, case, folder),
            _ => self.play_append(kind, case, folder, tell),
        }
    }

    fn play_append(
        &self,
        kind: &dyn Kind,
        case: &CasePlan,
        folder: &Path,
        tell: &mut dyn FnMut(Option<(f64, f64)>),
    ) -> Result<Played> {
        let target = kind.open(folder, &case.spec)?;
        let window = Window { warmup: case.warmup, duration: case.duration };
        let load = Load { spec: &case.spec, window, milestone: None, seed: self.seed };
        let (counters, usage) = (target.counters(), self.look());
        let meter = || {
            let own = self.look();
            Usage { cpu: own.cpu + target.cpu_elsewhere().unwrap_or_default(), ..own }
        };
        let loaded = load.run(&*target, meter, tell)?;
        let flushing = Flushing {
            acked: loaded.acked,
            own: target.counters().since(counters),
            device: (self.look() - usage).device.filter(|_| self.counts_flushes),
        };
        let lag = target.lag(&loaded.window);
        let own_checks = target.checks().context("the target's own checks")?;
        let back = target.read_back().context("reading everything back")?;
        let mut checks = vec![check::all_came_back(loaded.acked.entries, back, target.given_away(), &case.spec)];
        checks.extend(check::flushed(&case.spec, flushing));
        checks.extend(own_checks);
        let settings = target.settings();
        target.close().context("closing the log")?;
        let Loaded { measured, due, before, after, .. } = loaded;
        let spent = Spent {
            entries: measured.entries,
            seconds: measured.seconds,
            usage: after.usage - before.usage,
            counters: after.counters.since(before.counters),
        };
        Ok(Played { settings, measured, spent, checks, due, lag })
    }

    fn play_read(&self, kind: &dyn Kind, case: &CasePlan, folder: &Path) -> Result<Played> {
        let target = kind.open(folder, &case.spec)?;
        let acked = self.fill(&*target, case)?;
        let first = target.read_back().context("reading everything back")?;
        let check = check::all_came_back(acked, first, target.given_away(), &case.spec);
        let settings = target.settings();
        let start = Instant::now();
        let (mut times, usage) = (Vec::new(), self.look());
        while times.last().is_none_or(|(_, end): &(Instant, Instant)| *end - start < case.duration) {
            let from = times.last().map_or(start, |(_, end)| *end);
            let back = target.read_back()?;
            ensure!(back == first, "{} entries came back at first, {} later", first.entries, back.entries);
            times.push((from, Instant::now()));
        }
        let played = whole_operations(&times, first, self.look() - usage);
        target.close().context("closing the log")?;
        Ok(Played { settings, checks: vec![check], ..played })
    }

    fn play_open(&self, kind: &dyn Kind, case: &CasePlan, folder: &Path) -> Result<Played> {
        let acked = fill::by_a_child_that_is_killed(&kind.name(), case, folder, self.seed)?;
        self.open_what_was_left(kind, case, folder, acked)
    }

    /// What it costs ends where its time does: at the first entry. That everything else is there, too, is looked at behind it.
    fn open_what_was_left(&self, kind: &dyn Kind, case: &CasePlan, folder: &Path, acked: u64) -> Result<Played> {
        let (usage, start) = (self.look(), Instant::now());
        let target = kind.open(folder, &case.spec).context("opening what the killed process left")?;
        target.read_first().context("the first read after opening")?;
        let times = [(start, Instant::now())];
        let usage = self.look() - usage;
        let back = target.read_back().context("reading everything back")?;
        let check = check::all_is_there_after_a_kill(acked, back);
        let played = whole_operations(&times, back, usage);
        let settings = target.settings();
        target.close().context("closing the log")?;
        Ok(Played { settings, checks: vec![check], ..played })
    }

    /// So much load that `fill_bytes` are in the log. Returns the entries that were acknowledged.
    fn fill(&self, target: &dyn Target, case: &CasePlan) -> Result<u64> {
        self.fill_and(target, case, &|_| Next::Stop)
    }

    /// The same, and what `then` says when so much is acknowledged.
    pub(crate) fn fill_and(
        &self,
        target: &dyn Target,
        case: &CasePlan,
        then: &(dyn Fn(u64) -> Next + Sync),
    ) -> Result<u64> {
        let entries = case.fill_bytes.div_ceil(case.spec.payload_bytes);
        let milestone = Some(Milestone { entries, then });
        let window = Window { warmup: FILL_TIME_MAX, duration: Duration::from_secs(1) };
        let load = Load { spec: &case.spec, window, milestone, seed: self.seed };
        let filled = load.run(target, || (), |_| ()).context("filling the log")?.acked.entries;
        ensure!(filled >= entries, "{filled} of {entries} entries were written in {FILL_TIME_MAX:?}");
        Ok(filled)
    }

    fn look(&self) -> Usage {
        Usage::now(self.device)
    }
}

/// A round whose samples are a few operations over the whole log.
fn whole_operations(times: &[(Instant, Instant)], each: ReadBack, usage: Usage) -> Played {
    let (start, end) = (times[0].0, times[times.len() - 1].1);
    let window = Window { warmup: Duration::ZERO, duration: end - start + Duration::from_nanos(1) };
    let timeline = Timeline::new(window);
    let mut recorder = Recorder::new(&timeline, start);
    for (sent, acked) in times {
        recorder.record(Acked { intended: None, sent: *sent, acked: *acked, entries: each.entries });
    }
    drop(recorder);
    let measured = timeline.measured();
    let spent = Spent {
        entries: measured.entries,
        seconds: measured.seconds,
        usage,
        counters: crate::target::Counters::default(),
    };
    Played { settings: String::new(), measured, spent, checks: Vec::new(), due: None, lag: None }
}

/// The bytes of payload a second of a round.
pub(crate) fn mib_per_s(spec: &Spec, entries_per_s: f64) -> f64 {
    entries_per_s * spec.payload_bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::target::Counters;

    /// A closed round of one second with so many entries, each of 100 us.
    pub(crate) fn played(entries: u32) -> Played {
        let window = Window { warmup: Duration::ZERO, duration: Duration::from_secs(1) };
        let (timeline, start) = (Timeline::new(window), Instant::now());
        let mut recorder = Recorder::new(&timeline, start);
        for i in 0..entries {
            let sent = start + window.duration / entries * i;
            recorder.record(Acked { intended: None, sent, acked: sent + Duration::from_micros(100), entries: 1 });
        }
        drop(recorder);
        let measured = timeline.measured();
        let usage = Usage { cpu: Duration::from_millis(10), ..Usage::default() };
        let spent = Spent { entries: measured.entries, seconds: 1.0, usage, counters: Counters::default() };
        Played { settings: "as it was".into(), measured, spent, checks: Vec::new(), due: None, lag: None }
    }

    /// A log whose opening and whose first read write so often to the device, and whose reading back does it a thousand times.
    struct Writes(std::path::PathBuf);

    impl Writes {
        fn writes(&self, more: u64) -> Result<()> {
            let before = Device::of_stat(&self.0).counts().context("the counts")?.writes;
            Ok(std::fs::write(&self.0, format!("0 0 0 0 {} 0 0", before + more))?)
        }
    }

    impl Kind for Writes {
        fn name(&self) -> String {
            "writes".into()
        }

        fn refuses(&self, _: &Spec) -> Option<String> {
            None
        }

        fn open(&self, _: &Path, _: &Spec) -> Result<Box<dyn Target>> {
            self.writes(3)?;
            Ok(Box::new(Writes(self.0.clone())))
        }
    }

    impl Target for Writes {
        fn settings(&self) -> String {
            String::new()
        }

        fn producer(&self, _: u32) -> Result<Box<dyn crate::target::Producer + '_>> {
            anyhow::bail!("nobody appends")
        }

        fn read_first(&self) -> Result<()> {
            self.writes(4)
        }

        fn read_back(&self) -> Result<ReadBack> {
            self.writes(1000)?;
            Ok(ReadBack { entries: 5, payload_bytes: 0 })
        }

        fn close(self: Box<Self>) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_an_opening_costs_ends_with_its_first_entry() {
        let dir = tempfile::tempdir().unwrap();
        let stat = dir.path().join("stat");
        std::fs::write(&stat, "0 0 0 0 100 0 0").unwrap();
        let device = Device::of_stat(&stat);
        let bench = Bench { device: &device, counts_flushes: false, seed: 1 };
        let case = crate::plan::Plan::parse("[load]\nmeasure = \"open\"\n").unwrap().cases.remove(0);
        let played = bench.open_what_was_left(&Writes(stat.clone()), &case, dir.path(), 5).unwrap();
        assert_eq!(played.spent.usage.device.unwrap().writes, 7);
        assert!(played.checks[0].ok && device.counts().unwrap().writes == 1107, "and everything was read back");
    }
}
