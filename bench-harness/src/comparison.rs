//! Two results of the same cases: what changed, and whether it was the log or the device under it.
//!
//! ```text
//!   A.cases --by id-- B.cases
//!       `-- rounds of A, rounds of B --ratio_of_groups--> B over A: entries/s, p99, CPU per entry
//!                                                                   floor (the device alone), share of it
//! ```
//!
//! A closed loop is judged by its entries a second. In an open loop those are given, so its p99 counts as well, with its own threshold.
//! A case that moved with its floor, at the same share of it, has not changed: the device has.
//! A case whose rate was searched is not judged by its figures: each side looked once, and how far two searches of one log differ is not
//! known.
//!
//! Knows nothing of: files, how this is printed.

use serde::Serialize;
use serde_json::Value;

use crate::result::{Case, Outcome, Round};
use crate::stats::{Better, Estimate, Verdict, ratio_of_groups};

/// What is called a change: 0.05 is 5 %.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Thresholds {
    pub(crate) throughput: f64,
    /// Of an open loop's p99; far wider, as percentiles of one build differ more from run to run.
    pub(crate) p99: f64,
}

/// A before, B after.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) thresholds: Thresholds,
    /// Facts of the hosts that differ: with any, figures of one stand against another machine's.
    pub(crate) hosts: Vec<Difference>,
    /// What makes either result less to be believed.
    pub(crate) warnings: Vec<String>,
    pub(crate) cases: Vec<CaseChange>,
    /// Cases that A has and B lost: it tried, and nothing of them was measured. That is worse than any figure.
    pub(crate) lost: Vec<LostCase>,
    pub(crate) only_in_a: Vec<String>,
    pub(crate) only_in_b: Vec<String>,
    pub(crate) verdict: Overall,
}

/// A case of A that B could not measure.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct LostCase {
    pub(crate) id: String,
    pub(crate) why: String,
}

/// A fact that is not the same on both sides.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    pub(crate) fact: String,
    pub(crate) a: String,
    pub(crate) b: String,
}

/// One case, B over A.
#[derive(Debug, Serialize)]
pub(crate) struct CaseChange {
    pub(crate) id: String,
    pub(crate) entries_per_s: Option<Change>,
    pub(crate) p99_us: Option<Change>,
    pub(crate) cpu_us_per_entry: Option<Change>,
    /// The device alone, beside the rounds of this case.
    pub(crate) floor_per_s: Option<Change>,
    pub(crate) floor_share: Option<Change>,
    pub(crate) verdict: CaseVerdict,
    pub(crate) notes: Vec<String>,
}

/// One figure of a case.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Change {
    /// Medians of the rounds.
    pub(crate) a: f64,
    pub(crate) b: f64,
    pub(crate) ratio: Estimate,
    pub(crate) verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CaseVerdict {
    Better,
    Worse,
    NoDifference,
    /// The figures moved, and the device alone by as much.
    DeviceChanged,
    TooFewRounds,
    /// Information only: the rate was looked for, once on each side.
    Searched,
}

impl CaseVerdict {
    /// Whether the figures were judged at all.
    pub(crate) fn is_one(self) -> bool {
        !matches!(self, CaseVerdict::TooFewRounds | CaseVerdict::Searched)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Overall {
    /// Some case is worse, or lost.
    Worse,
    Better,
    NoDifference,
    /// No case is in both, or none can be judged: too few rounds, or a rate that was searched.
    NothingToCompare,
}

/// Compares every case that both have.
pub(crate) fn compare(a: &Outcome, b: &Outcome, thresholds: Thresholds) -> Comparison {
    let find = |outcome: &'_ Outcome, id: &str| outcome.cases.iter().position(|case| case.id == id);
    let cases: Vec<CaseChange> = (a.cases.iter())
        .filter_map(|before| find(b, &before.id).map(|at| case_change(before, &b.cases[at], thresholds)))
        .collect();
    let only = |here: &Outcome, there: &Outcome| {
        here.cases.iter().map(|case| case.id.clone()).filter(|id| find(there, id).is_none()).collect()
    };
    let lost: Vec<LostCase> = (b.lost.iter())
        .filter(|lost| find(a, &lost.id).is_some())
        .map(|lost| LostCase { id: lost.id.clone(), why: lost.why.clone() })
        .collect();
    let mut only_in_a: Vec<String> = only(a, b);
    only_in_a.retain(|id| lost.iter().all(|lost| lost.id != *id));
    Comparison {
        thresholds,
        hosts: host_differences(a, b),
        warnings: warnings("A", a).chain(warnings("B", b)).collect(),
        verdict: if lost.is_empty() { overall(&cases) } else { Overall::Worse },
        cases,
        lost,
        only_in_a,
        only_in_b: only(b, a),
    }
}

/// Facts of two hosts that are not the same, in the order in which they stand.
pub(crate) fn host_differences(a: &Outcome, b: &Outcome) -> Vec<Difference> {
    let facts = |outcome: &Outcome| match serde_json::to_value(&outcome.host) {
        Ok(Value::Object(facts)) => facts,
        _ => serde_json::Map::new(),
    };
    let (a, b) = (facts(a), facts(b));
    let names = a.keys().chain(b.keys().filter(|name| !a.contains_key(*name)));
    let differing = names.filter(|name| a.get(*name) != b.get(*name));
    differing.map(|name| Difference { fact: name.clone(), a: fact(a.get(name)), b: fact(b.get(name)) }).collect()
}

/// A fact as text.
pub(crate) fn fact(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "unknown".into(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn warnings(side: &str, outcome: &Outcome) -> impl Iterator<Item = String> {
    let warn = |is_so: bool, what: &str| is_so.then(|| format!("{side} {what}"));
    [
        warn(!outcome.release, "was built without optimisations: its figures say nothing"),
        warn(outcome.smoke, "is a smoke run: it shows that all works, not how fast"),
        warn(outcome.noise.noisy, "is noisy: the machine had other things to do"),
    ]
    .into_iter()
    .flatten()
}

fn case_change(a: &Case, b: &Case, thresholds: Thresholds) -> CaseChange {
    let change = |of: fn(&Round) -> Option<f64>, threshold: f64, better: Better| {
        let values = |case: &Case| case.rounds.iter().filter_map(of).collect::<Vec<f64>>();
        let (before, after) = (values(a), values(b));
        let ratio = ratio_of_groups(&before, &after)?;
        let ratio = if a.rate_was_searched() { Estimate { low: None, high: None, ..ratio } } else { ratio };
        let median = |values: Vec<f64>| crate::stats::median(values).unwrap_or(f64::NAN);
        Some(Change { a: median(before), b: median(after), ratio, verdict: ratio.judge(threshold, better) })
    };
    let plain = thresholds.throughput;
    let mut case = CaseChange {
        id: a.id.clone(),
        entries_per_s: change(|round| Some(round.entries_per_s), plain, Better::Higher),
        p99_us: change(|round| Some(round.p99_us), thresholds.p99, Better::Lower),
        cpu_us_per_entry: change(|round| round.cpu_us_per_entry, plain, Better::Lower),
        floor_per_s: change(|round| round.floor_per_s, plain, Better::Higher),
        floor_share: change(|round| round.floor_share, plain, Better::Higher),
        verdict: CaseVerdict::TooFewRounds,
        notes: Vec::new(),
    };
    case.notes = notes(a, b, &case, plain);
    case.verdict = verdict(a, b, &case);
    case
}

fn verdict(a: &Case, b: &Case, case: &CaseChange) -> CaseVerdict {
    let fails = b.failed_rounds > 0 && a.failed_rounds == 0;
    if fails || !failed_checks_of_b_only(a, b).is_empty() {
        return CaseVerdict::Worse;
    }
    if a.rate_was_searched() {
        return CaseVerdict::Searched;
    }
    if b.overloaded && !a.overloaded {
        return CaseVerdict::Worse;
    }
    let Some(throughput) = case.entries_per_s.map(|change| change.verdict) else { return CaseVerdict::TooFewRounds };
    let p99 = case.p99_us.map(|change| change.verdict).filter(|_| a.spec.rate_per_s.is_some());
    let moved = matches!(throughput, Verdict::Better | Verdict::Worse);
    let with_the_device = case.floor_per_s.is_some_and(|floor| floor.verdict == throughput)
        && case.floor_share.is_some_and(|share| share.verdict == Verdict::NoDifference);
    if moved && with_the_device {
        return CaseVerdict::DeviceChanged;
    }
    let of_either = |verdict: Verdict| throughput == verdict || p99 == Some(verdict);
    match () {
        () if throughput == Verdict::TooFewRounds => CaseVerdict::TooFewRounds,
        () if of_either(Verdict::Worse) => CaseVerdict::Worse,
        () if of_either(Verdict::Better) => CaseVerdict::Better,
        () => CaseVerdict::NoDifference,
    }
}

/// What a reader of the verdict should know.
fn notes(a: &Case, b: &Case, case: &CaseChange, threshold: f64) -> Vec<String> {
    let mut notes = Vec::new();
    for check in failed_checks_of_b_only(a, b) {
        notes.push(format!("a check failed: {check}"));
    }
    if a.settings != b.settings {
        notes.push(format!("set up differently: `{}`, then `{}`", a.settings, b.settings));
    }
    let changed = |change: &Change| matches!(change.verdict, Verdict::Better | Verdict::Worse);
    if let Some(floor) = case.floor_per_s.filter(changed) {
        let share = case.floor_share.map_or(String::new(), |share| {
            format!("; the share of it by {}", crate::figures::change(share.ratio.value))
        });
        notes.push(format!("the device itself changed by {}{share}", crate::figures::change(floor.ratio.value)));
    }
    let unsure =
        |change: &Change| change.verdict == Verdict::NoDifference && (change.ratio.value - 1.0).abs() > threshold;
    if case.entries_per_s.filter(unsure).is_some() {
        notes.push("the rounds differ too much among themselves to tell".into());
    }
    for (side, case) in [("A", a), ("B", b)] {
        if case.failed_rounds > 0 {
            let all = case.rounds.len() + case.failed_rounds as usize;
            notes.push(format!("{side}: {} of {all} rounds failed", case.failed_rounds));
        }
        if case.overloaded {
            notes.push(format!("{side} was overloaded"));
        }
        if let Some(searched) = &case.searched {
            notes.push(format!("{side}: {}", searched.words(case.rounds.len())));
        }
        if !case.steady.steady {
            notes.push(format!("{side}: {}", case.steady.verdict));
        }
    }
    notes
}

fn failed_checks_of_b_only<'a>(a: &Case, b: &'a Case) -> Vec<&'a str> {
    let failed_before = |name: &str| a.checks.iter().any(|check| check.name == name && !check.ok);
    let failed = b.checks.iter().filter(|check| !check.ok && !failed_before(&check.name));
    failed.map(|check| check.name.as_str()).collect()
}

fn overall(cases: &[CaseChange]) -> Overall {
    let some = |verdict: CaseVerdict| cases.iter().any(|case| case.verdict == verdict);
    match () {
        () if some(CaseVerdict::Worse) => Overall::Worse,
        () if !cases.iter().any(|case| case.verdict.is_one()) => Overall::NothingToCompare,
        () if some(CaseVerdict::Better) => Overall::Better,
        () => Overall::NoDifference,
    }
}

#[cfg(test)]
mod tests;
