//! A change planted in made-up rounds is told as what it is: the log's, the device's, or none.

use super::*;
use crate::fixture;

const THRESHOLDS: Thresholds = Thresholds { throughput: 0.05, p99: 0.25 };

/// The first case of the fixture before, and after `change`.
fn changed(change: impl FnOnce(&mut Outcome)) -> Comparison {
    let (a, mut b) = (fixture::outcome(), fixture::outcome());
    change(&mut b);
    compare(&a, &b, THRESHOLDS)
}

/// The one case of the fixture whose rate was looked for.
fn is_searched(case: &CaseChange) -> bool {
    case.id.contains("+2fol")
}

#[test]
fn a_rate_that_was_searched_is_information_and_no_verdict() {
    let slower = changed(|b| {
        let case = b.cases.iter_mut().find(|case| case.searched.is_some()).unwrap();
        fixture::scale_entries_per_s(case, 0.5);
        (case.overloaded, case.searched) = (true, Some(fixture::searched(false)));
    });
    assert_eq!(slower.verdict, Overall::NoDifference);
    let case = slower.cases.iter().find(|case| is_searched(case)).unwrap();
    assert_eq!(case.verdict, CaseVerdict::Searched);
    let ratio = case.entries_per_s.unwrap().ratio;
    assert!((ratio.value - 0.5).abs() < 0.02 && ratio.low.is_none() && ratio.high.is_none(), "{ratio:?}");
    assert!(case.notes.contains(&"B: does not hold p99 <= 2000 us in 1 of 5 rounds".to_owned()), "{:?}", case.notes);

    let failed = changed(|b| b.cases.iter_mut().find(|case| case.searched.is_some()).unwrap().checks[0].ok = false);
    assert_eq!(failed.verdict, Overall::Worse, "a check is no figure");
}

#[test]
fn the_same_rounds_are_no_difference_in_any_case() {
    let same = changed(|_| ());
    assert_eq!(same.verdict, Overall::NoDifference);
    let expected =
        |case: &CaseChange| if is_searched(case) { CaseVerdict::Searched } else { CaseVerdict::NoDifference };
    assert!(same.cases.iter().all(|case| case.verdict == expected(case)));
    assert_eq!(same.cases.len(), fixture::outcome().cases.len());
    assert!(same.hosts.is_empty() && same.only_in_a.is_empty() && same.only_in_b.is_empty());
}

#[test]
fn a_log_that_lost_ten_percent_on_the_same_device_is_worse() {
    let slower = changed(|b| fixture::scale_entries_per_s(&mut b.cases[0], 0.9));
    assert_eq!(slower.verdict, Overall::Worse);
    assert_eq!(slower.cases[0].verdict, CaseVerdict::Worse);
    let others = slower.cases[1..].iter().filter(|case| !is_searched(case));
    assert!(others.into_iter().all(|case| case.verdict == CaseVerdict::NoDifference));
}

#[test]
fn a_device_that_lost_twelve_percent_is_told_from_a_log_that_did() {
    let slower = changed(|b| {
        fixture::scale_floor(&mut b.cases[0], 0.88);
        fixture::scale_entries_per_s(&mut b.cases[0], 0.88);
    });
    assert_eq!((slower.verdict, slower.cases[0].verdict), (Overall::NoDifference, CaseVerdict::DeviceChanged));
    let notes = slower.cases[0].notes.join("; ");
    assert!(notes.contains("the device itself changed by -12 %"), "{notes}");
}

#[test]
fn a_log_that_lost_more_than_its_device_is_worse_all_the_same() {
    let slower = changed(|b| {
        fixture::scale_floor(&mut b.cases[0], 0.88);
        fixture::scale_entries_per_s(&mut b.cases[0], 0.75);
    });
    assert_eq!(slower.cases[0].verdict, CaseVerdict::Worse);
}

#[test]
fn an_open_loop_is_judged_by_its_p99_and_a_closed_one_is_not() {
    let slower = changed(|b| {
        for round in b.cases.iter_mut().flat_map(|case| &mut case.rounds) {
            round.p99_us *= 1.5;
        }
    });
    for case in slower.cases.iter().filter(|case| !is_searched(case)) {
        let is_open = case.id.contains('@');
        let expected = if is_open { CaseVerdict::Worse } else { CaseVerdict::NoDifference };
        assert_eq!(case.verdict, expected, "{}", case.id);
    }
    assert!(slower.cases.iter().any(|case| case.verdict == CaseVerdict::Worse), "the fixture has an open loop");
}

#[test]
fn an_overload_or_a_failed_check_that_is_new_is_worse_whatever_the_figures_say() {
    let overloaded = changed(|b| b.cases[0].overloaded = true);
    assert_eq!(overloaded.cases[0].verdict, CaseVerdict::Worse);
    let failed = changed(|b| b.cases[2].checks[0].ok = false);
    assert_eq!(failed.cases[2].verdict, CaseVerdict::Worse);
    assert!(failed.cases[2].notes[0].starts_with("a check failed: read back"), "{:?}", failed.cases[2].notes);
}

#[test]
fn two_rounds_are_not_judged_and_alone_they_are_nothing_to_compare() {
    let few = changed(|b| b.cases.iter_mut().for_each(|case| case.rounds.truncate(2)));
    assert!(few.cases.iter().all(|case| is_searched(case) || case.verdict == CaseVerdict::TooFewRounds));
    assert_eq!(few.verdict, Overall::NothingToCompare);
    let some = changed(|b| b.cases[0].rounds.truncate(2));
    assert_eq!(some.verdict, Overall::NoDifference);
}

#[test]
fn cases_of_one_side_are_listed_and_no_common_case_is_nothing_to_compare() {
    let other = changed(|b| b.cases.iter_mut().for_each(|case| case.id.push_str(" on tmpfs")));
    assert_eq!((other.verdict, other.cases.len()), (Overall::NothingToCompare, 0));
    assert_eq!(other.only_in_a.len(), other.only_in_b.len());
    assert!(other.only_in_b[0].ends_with(" on tmpfs"));
}

#[test]
fn a_case_that_b_lost_by_failure_and_a_round_that_fails_in_b_only_are_worse() {
    let lost = changed(|b| {
        let case = b.cases.remove(0);
        b.lost = vec![fixture::lost(&case)];
    });
    assert_eq!(lost.verdict, Overall::Worse);
    let expected = LostCase { id: fixture::outcome().cases[0].id.clone(), why: "round 1: no disk".into() };
    assert_eq!((&lost.lost[..], lost.only_in_a.len()), (&[expected][..], 0));

    let fails = changed(|b| b.cases[0].failed_rounds = 1);
    assert_eq!(fails.cases[0].verdict, CaseVerdict::Worse);
    assert_eq!(fails.cases[0].notes, ["B: 1 of 6 rounds failed"]);

    let (mut a, b) = (fixture::outcome(), fixture::outcome());
    a.cases[0].failed_rounds = 1;
    a.lost = vec![fixture::lost(&a.cases.remove(1))];
    assert_eq!(compare(&a, &b, THRESHOLDS).verdict, Overall::NoDifference, "what A lost is no fault of B");
}

#[test]
fn host_facts_that_differ_are_named_with_both_values() {
    let moved = changed(|b| b.host.kernel = "6.19.0".into());
    let expected = Difference { fact: "kernel".into(), a: "6.18.1".into(), b: "6.19.0".into() };
    assert_eq!(moved.hosts, [expected]);
}

#[test]
fn what_makes_a_result_less_to_be_believed_is_a_warning() {
    let doubtful = changed(|b| (b.release, b.smoke, b.noise.noisy) = (false, true, true));
    assert_eq!(doubtful.warnings.len(), 3);
    assert!(doubtful.warnings.iter().all(|warning| warning.starts_with("B ")), "{:?}", doubtful.warnings);
}
