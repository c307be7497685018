//! From rounds to cases: medians over the rounds, all times in one histogram, and the share of the floor round by round.
//!
//! Pure.

use crate::cost::{self, Spent};
use crate::floors::FloorKind;
use crate::plan::Slo;
use crate::record::Times;
use crate::result::{Case, Check, FloorShare, Lost, Round, Searched, Spec, Steady};
use crate::round::mib_per_s;
use crate::search::{holds, kept_up};
use crate::session::{Entry, PlayedRound};
use crate::steady::{self, median};

/// The case of an entry that has been played at least once.
pub(crate) fn case(entry: Entry) -> Case {
    let Entry { target, case, rounds: played, failed } = entry;
    let spec = case.spec.clone();
    let floor = FloorKind::of(&spec);
    let rounds: Vec<Round> = played.iter().map(|round| self::round(round, floor, &case.spec)).collect();
    let middle = |of: fn(&Round) -> f64| median(&rounds.iter().map(of).collect::<Vec<_>>());
    let entries_per_s = middle(|round| round.entries_per_s);
    let service = all_times(&played, |round| &round.played.measured.service);
    let response = all_times(&played, |round| &round.played.measured.response);
    let service = service.latency();
    let spent: Vec<Spent> = played.iter().map(|round| round.played.spent).collect();
    Case {
        id: format!("{target} {}", case.name()),
        target,
        settings: played.last().map(|round| round.played.settings.clone()).unwrap_or_default(),
        entries_per_s,
        batches_per_s: middle(|round| round.batches as f64 / round.seconds),
        mib_per_s: mib_per_s(&spec, entries_per_s),
        floor: floor.and_then(|floor| share(floor, &rounds, &spec)),
        response: response.latency().or_else(|| service.clone()),
        service,
        steady: steadiness(&spec, &rounds),
        cost: cost::of_case(&spent, &spec),
        checks: checks(&played),
        failed_rounds: failed.rounds,
        searched: case.slo.map(|slo| searched(slo, &played)),
        overloaded: played.iter().any(|round| round.played.due.is_some_and(|due| !kept_up(due))),
        // Of the round with the longest tail: a median of timelines is none.
        lag: played.into_iter().filter_map(|round| round.played.lag).max_by(|a, b| a.p99_us.total_cmp(&b.p99_us)),
        rounds,
        spec,
    }
}

/// What is told of an entry of which no round was played.
pub(crate) fn lost(entry: Entry) -> Lost {
    Lost {
        id: format!("{} {}", entry.target, entry.case.name()),
        target: entry.target,
        failed_rounds: entry.failed.rounds,
        why: entry.failed.why.unwrap_or_default(),
    }
}

/// Reading and opening have no window in which something could settle.
fn steadiness(spec: &Spec, rounds: &[Round]) -> Steady {
    if matches!(spec.kind.as_str(), "read" | "open") {
        return Steady { steady: true, slope: None, halves: None, verdict: "one pass a round".into() };
    }
    steady::of_case(rounds.iter().map(|round| steady::of_round(&round.intervals)).collect())
}

/// Whether the rounds kept the promise for which the rate was looked for: steps of the search are shorter, and luckier, than rounds.
fn searched(slo: Slo, rounds: &[PlayedRound]) -> Searched {
    let (quantile, bound_us) = slo.bound();
    let rounds_held = rounds.iter().filter(|round| holds(slo, &round.played)).count();
    Searched {
        percentile: (quantile * 1000.0).round() / 10.0,
        bound_us,
        searches: 1,
        rounds_held: rounds_held as u32,
        holds: rounds_held == rounds.len(),
    }
}

fn all_times(rounds: &[PlayedRound], of: fn(&PlayedRound) -> &Times) -> Times {
    let mut all = Times::new();
    rounds.iter().for_each(|round| all.add(of(round)));
    all
}

fn round(round: &PlayedRound, floor: Option<FloorKind>, spec: &Spec) -> Round {
    let PlayedRound { number, played, floors_per_s } = round;
    let measured = &played.measured;
    let times = if measured.response.count() > 0 { &measured.response } else { &measured.service };
    let per_s = |count: u64| count as f64 / measured.seconds;
    let floor_per_s = (!floors_per_s.is_empty()).then(|| floors_per_s.iter().sum::<f64>() / floors_per_s.len() as f64);
    let share =
        floor.zip(floor_per_s).map(|(floor, floor_per_s)| floor.unit_of(spec, per_s(measured.batches)) / floor_per_s);
    Round {
        number: Some(*number),
        entries: measured.entries,
        batches: measured.batches,
        due: played.due.map(|due| due.due),
        unsent: played.due.map(|due| due.due - due.sent),
        seconds: measured.seconds,
        entries_per_s: per_s(measured.entries),
        p50_us: times.quantile_us(0.5),
        p99_us: times.quantile_us(0.99),
        floor_per_s,
        floor_share: share,
        cpu_us_per_entry: played.spent.cpu_us_per_entry(),
        intervals: measured.intervals.clone(),
    }
}

fn share(floor: FloorKind, rounds: &[Round], spec: &Spec) -> Option<FloorShare> {
    let told = |of: fn(&Round) -> Option<f64>| {
        let values: Vec<f64> = rounds.iter().filter_map(of).collect();
        (!values.is_empty()).then(|| median(&values))
    };
    let done: Vec<f64> = rounds.iter().map(|round| floor.unit_of(spec, round.batches as f64 / round.seconds)).collect();
    Some(FloorShare {
        name: floor.name(),
        case_per_s: median(&done),
        floor_per_s: told(|round| round.floor_per_s)?,
        share: told(|round| round.floor_share)?,
    })
}

/// Each invariant once: with the first round that broke it, or else with the last.
fn checks(rounds: &[PlayedRound]) -> Vec<Check> {
    let mut checks: Vec<Check> = Vec::new();
    for round in rounds {
        for check in &round.played.checks {
            let told = Check { detail: format!("round {}: {}", round.number, check.detail), ..check.clone() };
            match checks.iter_mut().find(|known| known.name == check.name) {
                Some(known) if known.ok => *known = told,
                Some(_) => {}
                None => checks.push(told),
            }
        }
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Due;
    use crate::plan::Plan;
    use crate::round::Played;
    use crate::session::Failed;

    /// A round of one second with so many entries, each of 100 us.
    fn played(entries: u32, floors_per_s: &[f64], is_ok: bool) -> PlayedRound {
        let check = Check { name: "count".into(), ok: is_ok, detail: format!("{entries}") };
        let played = Played { checks: vec![check], ..crate::round::tests::played(entries) };
        PlayedRound { number: 0, played, floors_per_s: floors_per_s.to_vec() }
    }

    fn entry(mut rounds: Vec<PlayedRound>) -> Entry {
        rounds.iter_mut().zip(1..).for_each(|(round, number)| round.number = number);
        let case = Plan::parse("").unwrap().cases.remove(0);
        Entry { target: "a log".into(), case, rounds, failed: Failed::default() }
    }

    #[test]
    fn a_case_is_the_median_of_its_rounds_and_its_share_that_of_their_own_floors() {
        // The device was half as fast in the second round, and so was the log.
        let rounds = vec![played(900, &[1000.0, 1000.0], true), played(450, &[400.0, 600.0], true)];
        let case = case(entry(rounds));
        assert_eq!(case.id, "a log durable 256B x1thr");
        assert!((case.entries_per_s - 675.0).abs() < 1e-9, "{}", case.entries_per_s);
        let floor = case.floor.unwrap();
        assert_eq!((floor.name.as_str(), floor.floor_per_s), ("4 KiB, depth 1", 750.0));
        assert!((floor.share - 0.9).abs() < 1e-9, "{floor:?}");
        let latency = case.response.unwrap();
        assert_eq!(latency.count, 1350);
        assert!((latency.p50_us / 100.0 - 1.0).abs() < 0.01);
        assert_eq!(case.rounds[1].floor_share, Some(0.9));
    }

    #[test]
    fn without_a_floor_there_is_no_share() {
        let case = case(entry(vec![played(900, &[], true)]));
        assert!(case.floor.is_none() && case.rounds[0].floor_share.is_none());
    }

    #[test]
    fn the_first_round_that_breaks_an_invariant_is_the_one_that_is_told() {
        let rounds = [true, false, false, true].map(|ok| played(10 + u32::from(ok), &[], ok));
        let check = case(entry(rounds.into())).checks.remove(0);
        assert!(!check.ok && check.detail == "round 2: 10", "{check:?}");
    }

    #[test]
    fn one_round_that_did_not_keep_up_makes_a_case_overloaded() {
        let mut rounds = vec![played(10, &[], true), played(10, &[], true)];
        rounds[0].played.due = Some(Due { due: 100, sent: 100 });
        assert!(!case(entry(rounds)).overloaded);
        let mut rounds = vec![played(10, &[], true), played(10, &[], true)];
        rounds[1].played.due = Some(Due { due: 100, sent: 50 });
        assert!(case(entry(rounds)).overloaded);
    }

    #[test]
    fn a_round_that_does_not_keep_the_promise_is_said_of_the_case_whose_rate_was_looked_for() {
        let slo = Plan::parse("[load]\nslo = { p99_us = 1000 }\n").unwrap().cases[0].slo;
        let of = |response_us: [u64; 2]| {
            let mut entry = entry(response_us.map(|_| played(10, &[], true)).into());
            entry.case.slo = slo;
            for (round, us) in entry.rounds.iter_mut().zip(response_us) {
                round.played.due = Some(Due { due: 10, sent: 10 });
                (0..10).for_each(|_| round.played.measured.response.record(std::time::Duration::from_micros(us)));
            }
            case(entry).searched.unwrap()
        };
        let (kept, broken) = (of([800, 900]), of([800, 1100]));
        assert!(kept.holds && kept.rounds_held == 2 && kept.searches == 1);
        assert!(!broken.holds && broken.rounds_held == 1);
        assert_eq!(broken.words(2), "does not hold p99 <= 1000 us in 1 of 2 rounds");
        assert!(case(entry(vec![played(10, &[], true)])).searched.is_none());
    }
}
