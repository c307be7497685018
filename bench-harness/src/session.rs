//! A run: every round of every case, in an order that shows drift, with the floors between them.
//!
//! ```text
//!   rest, floors | case 1 of A | rest, floors | case 1 of B | rest, floors | case 2 of A | ...      round 1
//!   rest, floors | case 1 of B | rest, floors | case 1 of A | ...                                   round 2: each begins once
//! ```
//!
//! A case that fails leaves the others alone: it is told at the end, and the run has failed.
//!
//! Knows targets by their contract, and nothing of how results are shown.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, anyhow};

use crate::Usage;
use crate::device::Device;
use crate::floors::{FloorKind, Floors};
use crate::noise::{Listening, REST, REST_SMOKE};
use crate::plan::{CasePlan, Plan};
use crate::progress::Progress;
use crate::result::Lost;
use crate::round::{Bench, Played};
use crate::target::Kind;
use crate::{assemble, search};

/// A case of one target, and its rounds so far.
pub(crate) struct Entry {
    pub(crate) target: String,
    pub(crate) case: CasePlan,
    pub(crate) rounds: Vec<PlayedRound>,
    pub(crate) failed: Failed,
}

/// Rounds of a case that came to nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failed {
    pub(crate) rounds: u32,
    /// What was said of the first; also of the search for a rate, without which no round is played.
    pub(crate) why: Option<String>,
}

impl Entry {
    fn new(target: String, case: CasePlan) -> Entry {
        Entry { target, case, rounds: Vec::new(), failed: Failed::default() }
    }
}

/// A round, and its floor just before and just after it, in writes a second.
pub(crate) struct PlayedRound {
    /// From 1, in the order of the run. One that failed leaves a gap.
    pub(crate) number: u32,
    pub(crate) played: Played,
    pub(crate) floors_per_s: Vec<f64>,
}

/// What came of everything.
pub(crate) struct Ran {
    /// Those of which at least one round was played.
    pub(crate) entries: Vec<Entry>,
    pub(crate) lost: Vec<Lost>,
    pub(crate) floors: Floors,
    pub(crate) listening: Listening,
    pub(crate) notes: Vec<String>,
    /// Cases that could not be played to their end, with the reason.
    pub(crate) failures: Vec<String>,
}

/// What a run works with.
pub(crate) struct Session<'a> {
    pub(crate) kinds: &'a [Box<dyn Kind>],
    pub(crate) plan: &'a Plan,
    /// Fresh, and removed by whoever made it.
    pub(crate) folder: &'a Path,
    pub(crate) device: &'a Device,
    pub(crate) seed: u64,
    pub(crate) smoke: bool,
}

/// One round of one entry.
#[derive(Clone, Copy)]
struct Turn {
    entry: usize,
    round: u32,
}

impl Session<'_> {
    /// Runs all of it.
    ///
    /// # Errors
    /// Every target refuses every case, as [`Usage`]; the floor cannot be measured, or the folder cannot be worked in. A target that fails
    /// is among the failures.
    pub(crate) fn run(&self, progress: &Progress) -> Result<Ran> {
        let mut notes = Vec::new();
        let (entries, sources) = self.entries(&mut notes);
        if entries.is_empty() {
            let why = notes.join("\n  ");
            return Err(Usage(anyhow!(
                "no target does any case of this plan, so there is nothing to measure:\n  {why}"
            ))
            .into());
        }
        progress.say("the floor of the device");
        let floors = Floors::new(self.folder, self.device, self.plan.floor_time, self.smoke)?;
        let mut ran =
            Ran { entries, lost: Vec::new(), floors, listening: Listening::begin(), notes, failures: Vec::new() };
        self.search_rates(&mut ran, &sources, progress)?;
        let turns = turns(&ran.entries);
        progress.length(turns.len());
        let mut before: Option<usize> = None;
        for turn in turns {
            let between = self.between(&mut ran, before, Some(turn.entry))?;
            close_round(&mut ran, before, &between);
            before = self.turn(&mut ran, &sources, turn, &between, progress)?;
        }
        let between = self.between(&mut ran, before, None)?;
        close_round(&mut ran, before, &between);
        let (played, lost): (Vec<_>, Vec<_>) = ran.entries.into_iter().partition(|entry| !entry.rounds.is_empty());
        (ran.entries, ran.lost) = (played, lost.into_iter().map(assemble::lost).collect());
        Ok(ran)
    }

    /// Each case of each target that can do it, and by entry which target that is.
    fn entries(&self, notes: &mut Vec<String>) -> (Vec<Entry>, Vec<usize>) {
        let (mut entries, mut sources) = (Vec::new(), Vec::new());
        let mut left_out = LeftOut::default();
        for case in &self.plan.cases {
            let mut refusals = Vec::new();
            let any = entries.len();
            for (source, kind) in self.kinds.iter().enumerate() {
                let target = kind.name();
                match kind.refuses(&case.spec) {
                    Some(reason) => refusals.push((target, reason)),
                    None => {
                        entries.push(Entry::new(target, case.clone()));
                        sources.push(source);
                    }
                }
            }
            // Two ways to reach one log share its name; what one of them does, the other need not.
            let done: BTreeSet<String> = entries[any..].iter().map(|entry| entry.target.clone()).collect();
            let told = refusals.into_iter().filter(|(target, _)| !done.contains(target));
            told.for_each(|(target, reason)| left_out.add(target, reason, case.name()));
        }
        notes.extend(left_out.notes(self.plan.cases.len()));
        (entries, sources)
    }

    fn search_rates(&self, ran: &mut Ran, sources: &[usize], progress: &Progress) -> Result<()> {
        for (at, source) in sources.iter().enumerate() {
            let Some(slo) = ran.entries[at].case.slo else { continue };
            let case = ran.entries[at].case.clone();
            let name = format!("{} {}", ran.entries[at].target, case.name());
            let bench = self.bench(&ran.floors);
            let play = |case: &CasePlan| {
                self.in_a_folder(|folder| bench.play(&*self.kinds[*source], case, folder, &mut |_| ()))
            };
            let mut tell = |text: &str| progress.say(&format!("{name}: {text}"));
            match search::highest_rate(&case, slo, play, &mut tell) {
                Ok(rate_per_s) => ran.entries[at].case.spec.rate_per_s = Some(rate_per_s),
                Err(error) => {
                    ran.entries[at].failed.why = Some(format!("no rate was found: {error:#}"));
                    ran.failures.push(format!("{name}: {error:#}"));
                }
            }
        }
        let found = |entry: &Entry| entry.case.slo.is_none() || entry.case.spec.rate_per_s.is_some();
        // One whose rate was not found has no round to play.
        ran.entries.iter_mut().filter(|entry| !found(entry)).for_each(|entry| entry.case.rounds = 0);
        Ok(())
    }

    /// Plays a round; returns its entry if there is a result that waits for the floor after it.
    fn turn(
        &self,
        ran: &mut Ran,
        sources: &[usize],
        turn: Turn,
        before: &BTreeMap<FloorKind, f64>,
        progress: &Progress,
    ) -> Result<Option<usize>> {
        let entry = &ran.entries[turn.entry];
        let kind = &*self.kinds[sources[turn.entry]];
        let name = format!("{} {}", entry.target, entry.case.name());
        progress.begin(&name, turn.round + 1, entry.case.rounds);
        let bench = self.bench(&ran.floors);
        let mut tell = |live| progress.live(live);
        let played = self.in_a_folder(|folder| bench.play(kind, &entry.case, folder, &mut tell));
        let entry = &mut ran.entries[turn.entry];
        match played {
            Ok(played) => {
                progress.end(&played);
                let floor = FloorKind::of(&entry.case.spec).and_then(|floor| before.get(&floor).copied());
                let floors_per_s = floor.into_iter().collect();
                entry.rounds.push(PlayedRound { number: turn.round + 1, played, floors_per_s });
                Ok(Some(turn.entry))
            }
            Err(error) => {
                progress.failed(&error);
                entry.failed.rounds += 1;
                entry.failed.why.get_or_insert_with(|| format!("round {}: {error:#}", turn.round + 1));
                ran.failures.push(format!("{name}, round {}: {error:#}", turn.round + 1));
                Ok(None)
            }
        }
    }

    fn bench(&self, floors: &Floors) -> Bench<'_> {
        Bench { device: self.device, counts_flushes: floors.counts_flushes, seed: self.seed }
    }

    /// A folder for one log, gone behind it.
    fn in_a_folder<T>(&self, work: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let folder = tempfile::Builder::new().prefix("log-").tempdir_in(self.folder).context("a folder for a log")?;
        let done = work(folder.path());
        folder.close().context("removing the folder of a log")?;
        done
    }

    /// Between two rounds: rests, then measures the floors of both, and the lone one in any case.
    fn between(&self, ran: &mut Ran, before: Option<usize>, after: Option<usize>) -> Result<BTreeMap<FloorKind, f64>> {
        // Where the file system discards what was removed, it does so behind the commit of the removal: not beside the next round.
        if !self.smoke {
            std::fs::File::open(self.folder)?.sync_all().context("flushing the folder of the run")?;
        }
        ran.listening.rest(if self.smoke { REST_SMOKE } else { REST });
        let both = [before, after].into_iter().flatten();
        let beside_both = both.flat_map(|at| FloorKind::beside(&ran.entries[at].case.spec));
        let wanted: BTreeSet<FloorKind> = beside_both.chain([FloorKind::LONE]).collect();
        let mut measured = BTreeMap::new();
        for kind in wanted {
            match ran.floors.measure(kind) {
                Ok(floor) => drop(measured.insert(kind, floor.per_second)),
                Err(error) if kind == FloorKind::LONE => return Err(error),
                Err(error) => note_once(&mut ran.notes, format!("no floor \"{}\": {error:#}", kind.name())),
            }
        }
        Ok(measured)
    }
}

/// Who was not measured in what, and why: a note for all that have the reason and the cases in common.
#[derive(Default)]
struct LeftOut {
    /// By target and reason, in the order in which they came: the cases.
    cases: Vec<((String, String), Vec<String>)>,
}

impl LeftOut {
    fn add(&mut self, target: String, reason: String, case: String) {
        let key = (target, reason);
        match self.cases.iter_mut().find(|(known, _)| *known == key) {
            Some((_, cases)) => cases.push(case),
            None => self.cases.push((key, vec![case])),
        }
    }

    fn notes(self, cases_in_all: usize) -> Vec<String> {
        let mut shared: Vec<(String, Vec<String>, Vec<String>)> = Vec::new();
        for ((target, reason), cases) in self.cases {
            match shared.iter_mut().find(|(why, of, _)| *why == reason && *of == cases) {
                Some((_, _, targets)) => targets.push(target),
                None => shared.push((reason, cases, vec![target])),
            }
        }
        let say = |(reason, cases, targets): (String, Vec<String>, Vec<String>)| {
            let of = if cases.len() == cases_in_all { "everything".to_owned() } else { cases.join("; ") };
            format!("left out of {of}: {}: {reason}", targets.join("; "))
        };
        shared.into_iter().map(say).collect()
    }
}

/// The floor after a round, once it is known.
fn close_round(ran: &mut Ran, before: Option<usize>, after: &BTreeMap<FloorKind, f64>) {
    let Some(entry) = before.map(|at| &mut ran.entries[at]) else { return };
    let floor = FloorKind::of(&entry.case.spec).and_then(|floor| after.get(&floor));
    let round = entry.rounds.last_mut().expect("a round was played");
    round.floors_per_s.extend(floor);
}

fn note_once(notes: &mut Vec<String>, note: String) {
    if !notes.contains(&note) {
        notes.push(note);
    }
}

/// Round 1 of everything, then round 2. Entries of one case stand together, and who of them begins changes with each round.
fn turns(entries: &[Entry]) -> Vec<Turn> {
    let mut cases: Vec<Vec<usize>> = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        match cases.last_mut() {
            Some(case) if entries[case[0]].case.name() == entry.case.name() => case.push(at),
            _ => cases.push(vec![at]),
        }
    }
    let rounds = entries.iter().map(|entry| entry.case.rounds).max().unwrap_or(0);
    let of_round = |round: u32| {
        let in_turn = cases.iter().flat_map(move |case| {
            let begins = round as usize % case.len();
            (0..case.len()).map(move |i| case[(begins + i) % case.len()])
        });
        in_turn.filter(move |at| round < entries[*at].case.rounds).map(move |entry| Turn { entry, round })
    };
    (0..rounds).flat_map(of_round).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says that it can do lone appends, and cannot.
    struct Broken;

    impl Kind for Broken {
        fn name(&self) -> String {
            "broken".into()
        }

        fn refuses(&self, spec: &crate::result::Spec) -> Option<String> {
            (spec.batch > 1).then(|| "it has no batches".into())
        }

        fn open(&self, _: &Path, _: &crate::result::Spec) -> Result<Box<dyn crate::target::Target>> {
            anyhow::bail!("no such device")
        }
    }

    #[test]
    fn a_target_that_fails_or_refuses_is_told_and_the_others_are_measured_between_their_floors() {
        let text = "floor = \"5ms\"\n[load]\nduration = \"20ms\"\nwarmup = \"0s\"\nrounds = 2\nbatch = [1, 4]\n";
        let plan = Plan::parse(text).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let kinds: [Box<dyn Kind>; 2] = [Box::new(Broken), Box::new(crate::target::ours::Ours { fills_before: false })];
        let device = Device::under(dir.path(), None);
        let session = Session { kinds: &kinds, plan: &plan, folder: dir.path(), device: &device, seed: 1, smoke: true };
        let ran = session.run(&Progress::new()).unwrap();

        let played: Vec<_> = ran.entries.iter().map(|entry| (entry.target.as_str(), entry.case.spec.batch)).collect();
        assert_eq!(played, [("walrus-node", 1), ("walrus-node", 4)]);
        for round in ran.entries.iter().flat_map(|entry| &entry.rounds) {
            assert!(round.floors_per_s.len() == 2 && round.floors_per_s.iter().all(|per_s| *per_s > 0.0));
            assert!(round.played.checks.iter().all(|check| check.ok), "{:?}", round.played.checks);
        }
        assert!(ran.entries.iter().all(|entry| entry.rounds.len() == 2));
        assert_eq!(ran.failures.len(), 2);
        let lost: Vec<_> =
            ran.lost.iter().map(|lost| (lost.id.as_str(), lost.failed_rounds, lost.why.as_str())).collect();
        assert_eq!(lost, [("broken durable 256B x1thr", 2, "round 1: no such device")]);
        assert_eq!(ran.failures[1], "broken durable 256B x1thr, round 2: no such device");
        assert_eq!(ran.notes, ["left out of durable 4x256B x1thr: broken: it has no batches"]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "logs of rounds are removed");
    }

    /// Ours, but for the first time that it is opened.
    struct Flaky(std::sync::atomic::AtomicBool);

    impl Kind for Flaky {
        fn name(&self) -> String {
            "flaky".into()
        }

        fn refuses(&self, _: &crate::result::Spec) -> Option<String> {
            None
        }

        fn open(&self, folder: &Path, spec: &crate::result::Spec) -> Result<Box<dyn crate::target::Target>> {
            let was_opened = self.0.swap(true, std::sync::atomic::Ordering::Relaxed);
            anyhow::ensure!(was_opened, "not yet");
            crate::target::ours::Ours { fills_before: false }.open(folder, spec)
        }
    }

    #[test]
    fn a_round_that_fails_is_counted_and_those_behind_it_keep_their_numbers() {
        let text = "floor = \"5ms\"\n[load]\nduration = \"20ms\"\nwarmup = \"0s\"\nrounds = 3\n";
        let plan = Plan::parse(text).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let kinds: [Box<dyn Kind>; 1] = [Box::new(Flaky(false.into()))];
        let device = Device::under(dir.path(), None);
        let session = Session { kinds: &kinds, plan: &plan, folder: dir.path(), device: &device, seed: 1, smoke: true };
        let ran = session.run(&Progress::new()).unwrap();
        let case = assemble::case(ran.entries.into_iter().next().unwrap());
        assert_eq!(case.failed_rounds, 1);
        assert_eq!(case.rounds.iter().map(|round| round.number).collect::<Vec<_>>(), [Some(2), Some(3)]);
        assert!(ran.lost.is_empty());
    }

    #[test]
    fn a_plan_that_every_target_refuses_is_an_error_that_says_why() {
        let plan = Plan::parse("[load]\nbatch = [2, 4]\n").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let kinds: [Box<dyn Kind>; 1] = [Box::new(Broken)];
        let device = Device::under(dir.path(), None);
        let session = Session { kinds: &kinds, plan: &plan, folder: dir.path(), device: &device, seed: 1, smoke: true };
        let error = session.run(&Progress::new()).err().unwrap();
        assert!(error.is::<Usage>(), "it is the plan that makes no sense");
        assert!(error.to_string().contains("left out of everything: broken: it has no batches"), "{error}");
    }

    #[test]
    fn who_is_left_out_of_the_same_for_the_same_reason_stands_in_one_note() {
        let mut left_out = LeftOut::default();
        for (target, reason, case) in
            [("a", "slow", "1"), ("b", "slow", "1"), ("a", "slow", "2"), ("b", "slow", "2"), ("b", "old", "3")]
        {
            left_out.add(target.into(), reason.into(), case.into());
        }
        assert_eq!(left_out.notes(2), ["left out of everything: a; b: slow", "left out of 3: b: old"]);
    }

    #[test]
    fn rounds_are_interleaved_and_targets_take_turns_in_beginning() {
        let case = |text: &str| Plan::parse(text).unwrap().cases.remove(0);
        let entry = |target: &str, case: &CasePlan| Entry::new(target.into(), case.clone());
        let (one, two) = (case("[load]\nrounds = 3"), case("[load]\nrounds = 2\nbatch = 4"));
        let entries = [entry("a", &one), entry("b", &one), entry("a", &two)];
        let got: Vec<_> = turns(&entries).iter().map(|turn| (turn.round, turn.entry)).collect();
        assert_eq!(got, [(0, 0), (0, 1), (0, 2), (1, 1), (1, 0), (1, 2), (2, 0), (2, 1)]);
    }
}
