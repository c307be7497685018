//! A result for people: a row a case, and below it what they should know before they believe it.
//!
//! Pure: text from a result.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::floors;
use crate::result::{Case, Latency, Outcome, Ratio};
use crate::stats::interval_name;

const COLUMNS: usize = 10;
const HEAD: [&str; COLUMNS] =
    ["case", "entries/s", "MiB/s", "p50", "p99", "p99.9", "p99.99", "of floor", "CPU us", "verdict"];

/// The whole result.
pub(crate) fn render(outcome: &Outcome) -> String {
    let mut text = host(outcome);
    for floor in &outcome.device {
        let times = format!("p50 {}, p99 {}", time_us(floor.p50_us), time_us(floor.p99_us));
        let _ = writeln!(text, "  device: {:<26} {:>9}/s   {times}", floor.name, count(floor.per_s));
    }
    if !outcome.cases.is_empty() {
        text.push('\n');
        text.push_str(&rows(outcome.cases.iter().map(row)));
        text.push_str(&legend(&outcome.cases));
    }
    if !outcome.ratios.is_empty() {
        text.push('\n');
        outcome.ratios.iter().for_each(|ratio| text.push_str(&self::ratio(ratio)));
    }
    let broken = outcome
        .cases
        .iter()
        .flat_map(|case| case.checks.iter().filter(|check| !check.ok).map(move |check| (case, check)));
    for lost in &outcome.lost {
        let _ = writeln!(text, "FAILED: {}: nothing was measured: {}", lost.id, lost.why);
    }
    for (case, check) in broken {
        let _ = writeln!(text, "FAILED: {}: {}: {}", case.id, check.name, check.detail);
    }
    for note in &outcome.notes {
        let _ = writeln!(text, "note: {note}");
    }
    text
}

fn host(outcome: &Outcome) -> String {
    let host = &outcome.host;
    let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".into());
    let noisy = if outcome.noise.noisy { "   NOISY: see the notes" } else { "" };
    format!(
        "walrus-bench {}: {} on {}, kernel {}, {} x {}{noisy}\n",
        outcome.kind,
        or_unknown(&host.file_system),
        or_unknown(&host.device),
        host.kernel,
        host.cores,
        or_unknown(&host.cpu)
    )
}

/// What the rows have no room for.
fn legend(cases: &[Case]) -> String {
    let mut text = String::new();
    if cases.iter().any(|case| case.spec.rate_per_s.is_some()) {
        text.push_str("  times of an open loop: response / service\n");
    }
    let mut told = BTreeSet::new();
    for case in cases.iter().filter(|case| case.floor.is_some() && told.insert(case.load())) {
        let remark = floors::remark(&case.spec).map(|remark| format!("  of floor: {}: {remark}\n", case.load()));
        text.push_str(&remark.unwrap_or_default());
    }
    text
}

/// From the time at which it was due; of an open loop beside it that from the call, which is all that a caller would see who did not wait.
fn times(case: &Case, of: impl Fn(&Latency) -> Option<f64>) -> String {
    let time = |latency: &Option<Latency>| latency.as_ref().and_then(&of).map_or("-".into(), time_us);
    match case.spec.rate_per_s {
        Some(_) => format!("{} / {}", time(&case.response), time(&case.service)),
        None => time(&case.response),
    }
}

fn row(case: &Case) -> [String; COLUMNS] {
    let share = case.floor.as_ref().map_or("-".into(), |floor| percent(floor.share));
    let cpu = case.cost.cpu_us_per_entry.map_or("-".into(), |us| format!("{us:.2}"));
    [
        case.id.clone(),
        count(case.entries_per_s),
        count(case.mib_per_s),
        times(case, |latency| Some(latency.p50_us)),
        times(case, |latency| Some(latency.p99_us)),
        times(case, |latency| Some(latency.p999_us)),
        times(case, |latency| latency.p9999_us),
        share,
        cpu,
        verdict(case),
    ]
}

fn verdict(case: &Case) -> String {
    let failed = case.checks.iter().any(|check| !check.ok);
    let words = [(failed, "FAILED"), (case.overloaded, "overloaded")];
    let mut words: Vec<String> = words.into_iter().filter(|(is, _)| *is).map(|(_, word)| word.to_owned()).collect();
    words.extend((case.failed_rounds > 0).then(|| failed_rounds(case)));
    words.extend(case.searched.as_ref().map(|searched| searched.words(case.rounds.len())));
    // Passes over a whole log have no course that could be steady.
    if matches!(case.spec.kind.as_str(), "durable" | "written") {
        words.push(case.steady.verdict.clone());
    }
    if words.is_empty() { "ok".into() } else { words.join(", ") }
}

fn failed_rounds(case: &Case) -> String {
    format!("{} of {} rounds FAILED", case.failed_rounds, case.rounds.len() + case.failed_rounds as usize)
}

fn ratio(ratio: &Ratio) -> String {
    let bounds =
        ratio.low.zip(ratio.high).map(|(low, high)| format!(" ({} {low:.2} to {high:.2})", interval_name(ratio.pairs)));
    let bounds = bounds.unwrap_or_default();
    let Ratio { case, peer, of, median, pairs, searched, .. } = ratio;
    let searched = if *searched { "; rates searched once, so no interval" } else { "" };
    format!("  {case}: {median:.2} x {peer}{bounds}, {of}, {pairs} pairs{searched}\n")
}

/// The first column and the last to the left, the others to the right.
fn rows(rows: impl Iterator<Item = [String; COLUMNS]>) -> String {
    let all: Vec<[String; COLUMNS]> = std::iter::once(HEAD.map(String::from)).chain(rows).collect();
    let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let mut text = String::new();
    for row in &all {
        let [first, middle @ .., last] = row;
        let _ = write!(text, "  {first:<0$}", widths[0]);
        for (cell, width) in middle.iter().zip(&widths[1..]) {
            let _ = write!(text, "  {cell:>width$}");
        }
        let _ = writeln!(text, "  {last}");
    }
    text
}

/// `1,234,567`; with a place after the point where it is small.
pub(crate) fn count(value: f64) -> String {
    if value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let from_behind = digits.len() % 3;
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && i % 3 == from_behind {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `18 us`, `1.24 ms`, `2.50 s`.
pub(crate) fn time_us(us: f64) -> String {
    match us {
        us if us < 10.0 => format!("{us:.1} us"),
        us if us < 1e3 => format!("{us:.0} us"),
        us if us < 1e6 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

/// `94 %`, and of what shares its flushes `13.2 x`.
fn percent(share: f64) -> String {
    if share < 2.0 { format!("{:.1} %", share * 100.0) } else { format!("{share:.1} x") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_as_people_read_them() {
        assert_eq!(
            [0.5, 99.94, 100.0, 999.6, 1234.5, 1_234_567.0].map(count),
            ["0.5", "99.9", "100", "1,000", "1,234", "1,234,567"]
        );
        assert_eq!([1.26, 18.4, 999.0, 1240.0, 2.5e6].map(time_us), ["1.3 us", "18 us", "999 us", "1.24 ms", "2.50 s"]);
        assert_eq!([0.941, 1.5, 13.24].map(percent), ["94.1 %", "150.0 %", "13.2 x"]);
    }

    #[test]
    fn a_case_whose_rounds_do_not_keep_the_promise_says_so_in_its_verdict() {
        let mut case = crate::fixture::outcome().cases.remove(0);
        assert_eq!(verdict(&case), "steady");
        case.searched = Some(crate::fixture::searched(false));
        assert_eq!(verdict(&case), "does not hold p99 <= 2000 us in 1 of 5 rounds, steady");
        let searched = Ratio { searched: true, low: None, high: None, ..crate::fixture::outcome().ratios.remove(0) };
        assert!(ratio(&searched).contains("searched once"), "{}", ratio(&searched));
    }

    #[test]
    fn rounds_and_cases_that_failed_are_shown() {
        let mut outcome = crate::fixture::outcome();
        outcome.cases[0].failed_rounds = 2;
        outcome.lost = vec![crate::fixture::lost(&outcome.cases[1])];
        let text = render(&outcome);
        assert!(text.contains("2 of 7 rounds FAILED, steady"), "{text}");
        assert!(
            text.contains(&format!("FAILED: {}: nothing was measured: round 1: no disk", outcome.cases[1].id)),
            "{text}"
        );
    }

    #[test]
    fn an_open_loop_has_both_times_side_by_side_and_what_cannot_be_told_is_a_dash() {
        let outcome = crate::fixture::outcome();
        let open = outcome.cases.iter().find(|case| case.spec.rate_per_s.is_some()).unwrap();
        let (response, service) = (open.response.as_ref().unwrap(), open.service.as_ref().unwrap());
        assert_eq!(row(open)[4], format!("{} / {}", time_us(response.p99_us), time_us(service.p99_us)));
        assert_eq!((HEAD[6], row(open)[6].as_str()), ("p99.99", "- / -"), "20,000 samples are too few");
        let mut closed = outcome.cases[0].clone();
        closed.response.as_mut().unwrap().p9999_us = Some(1240.0);
        assert_eq!(row(&closed)[6], "1.24 ms");
        let text = render(&outcome);
        assert!(text.contains("open loop: response / service"));
        assert!(text.contains("the floor pipelined 4 deep; the case has 64 in flight"), "{text}");
        assert!(text.contains("(range ") && !text.contains("95 %"), "five pairs: {text}");
    }

    #[test]
    fn columns_stand_under_their_heads() {
        let row = ["a long name of a case", "1", "2", "3", "4", "5", "6", "7", "8", "steady"].map(String::from);
        let text = rows(std::iter::once(row));
        let [head, row] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
        assert_eq!(head.find("verdict"), row.find("steady"));
        assert_eq!(head.find("entries/s").map(|at| at + "entries/s".len() - 1), row.find('1'));
    }
}
