//! `compare`: two results, one verdict, one exit code.
//!
//! 0 no difference or better, 1 some case is worse or lost, 2 nothing to compare.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use crate::comparison::{CaseChange, CaseVerdict, Change, Comparison, Overall, Thresholds, compare};
use crate::figures;
use crate::input;
use crate::result::Outcome;
use crate::stats::interval_name;

const WORSE: u8 = 1;
const NOTHING: u8 = 2;

/// Compare two results case by case, and fail if the second is worse
#[derive(Args)]
#[command(
    after_help = "Exit codes: 0 no difference or better, 1 some case is worse or was lost by failure, 2 nothing to compare\n\n\
    Example:\n  walrus-bench compare before.json after.html --fail-over 5%"
)]
pub(crate) struct Compare {
    /// Before: a result, or a report of one
    #[arg(value_name = "A")]
    a: PathBuf,
    /// After
    #[arg(value_name = "B")]
    b: PathBuf,
    /// A change is one when its interval lies beyond this: 95 %, of fewer than six rounds their range
    #[arg(long, value_name = "PERCENT", default_value = "5%", value_parser = share)]
    fail_over: f64,
    /// The same for the p99 of an open loop, which differs more between runs of one build
    #[arg(long, value_name = "PERCENT", default_value = "25%", value_parser = share)]
    fail_over_p99: f64,
    /// Print one JSON object [default: a table]
    #[arg(long)]
    json: bool,
}

impl Compare {
    /// Reads both and says what changed.
    pub(crate) fn run(&self, out: &mut dyn Write) -> Result<ExitCode> {
        Ok(match self.compare(out) {
            Ok(Overall::Worse) => ExitCode::from(WORSE),
            Ok(Overall::Better | Overall::NoDifference) => ExitCode::SUCCESS,
            Ok(Overall::NothingToCompare) => ExitCode::from(NOTHING),
            Err(error) => {
                // Not the code of a worse result: who waits for that one must not mistake a missing file for it.
                eprintln!("error: {error:#}");
                ExitCode::from(NOTHING)
            }
        })
    }

    fn compare(&self, out: &mut dyn Write) -> Result<Overall> {
        let (a, b) = (input::read(&self.a)?, input::read(&self.b)?);
        if a.cases.is_empty() || b.cases.is_empty() {
            let empty = if a.cases.is_empty() { &self.a } else { &self.b };
            bail!("{} has no cases: a result of `device` cannot be compared", empty.display());
        }
        let thresholds = Thresholds { throughput: self.fail_over, p99: self.fail_over_p99 };
        let comparison = compare(&a, &b, thresholds);
        if self.json {
            serde_json::to_writer_pretty(&mut *out, &comparison)?;
            writeln!(out)?;
        } else {
            writeln!(out, "A  {}  {}", self.a.display(), headline(&a))?;
            writeln!(out, "B  {}  {}", self.b.display(), headline(&b))?;
            print(&comparison, out)?;
        }
        Ok(comparison.verdict)
    }
}

/// `5%`, `5` or `0.5 %`.
fn share(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim_end();
    match number.parse::<f64>() {
        Ok(percent) if (0.0..100.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err("a percentage from 0 to below 100, as in `5%`".into()),
    }
}

fn headline(outcome: &Outcome) -> String {
    let Outcome { kind, version, started_unix_s, seconds, .. } = outcome;
    format!("({kind}, {}, {seconds:.0} s, walrus-bench {version})", figures::date(*started_unix_s))
}

fn print(comparison: &Comparison, out: &mut dyn Write) -> Result<()> {
    for difference in &comparison.hosts {
        writeln!(out, "the hosts differ: {}: {} -> {}", difference.fact, difference.a, difference.b)?;
    }
    for warning in &comparison.warnings {
        writeln!(out, "beware: {warning}")?;
    }
    let width = comparison.cases.iter().map(|case| case.id.chars().count()).max().unwrap_or(0).max("case".len());
    writeln!(out)?;
    writeln!(
        out,
        "{:<width$}  {:>11}  {:>11}  {:<22}  {:>7}  {:>7}  verdict",
        "case",
        "A entries/s",
        "B entries/s",
        ratio_heading(comparison),
        "p99",
        "CPU"
    )?;
    for case in &comparison.cases {
        print_case(case, width, out)?;
    }
    for (side, ids) in [("A", &comparison.only_in_a), ("B", &comparison.only_in_b)] {
        for id in ids {
            writeln!(out, "{id:<width$}  NOT COMPARED: only in {side}")?;
        }
    }
    for lost in &comparison.lost {
        writeln!(out, "{:<width$}  LOST: A has it, B failed: {}", lost.id, lost.why)?;
    }
    writeln!(out, "\n{}{}", last_line(comparison), left_alone(comparison))?;
    Ok(())
}

/// `B/A [range]`: what the intervals are.
fn ratio_heading(comparison: &Comparison) -> String {
    let rounds = comparison.cases.iter().filter_map(|case| Some(case.entries_per_s?.ratio.rounds));
    let names: BTreeSet<&str> = rounds.map(interval_name).collect();
    format!("B/A [{}]", names.into_iter().collect::<Vec<_>>().join(", "))
}

fn print_case(case: &CaseChange, width: usize, out: &mut dyn Write) -> Result<()> {
    let change = |change: &Option<Change>| change.map_or(figures::UNKNOWN.into(), |c| figures::change(c.ratio.value));
    let [a, b, ratio] = match case.entries_per_s {
        None => [figures::UNKNOWN.to_owned(), figures::UNKNOWN.to_owned(), String::new()],
        Some(Change { a, b, ratio, .. }) => {
            let interval =
                ratio.low.zip(ratio.high).map_or(String::new(), |(low, high)| format!(" [{low:.3}..{high:.3}]"));
            [figures::count(a), figures::count(b), format!("{:.3}{interval}", ratio.value)]
        }
    };
    let (p99, cpu) = (change(&case.p99_us), change(&case.cpu_us_per_entry));
    let verdict = words(case.verdict);
    writeln!(out, "{:<width$}  {a:>11}  {b:>11}  {ratio:<22}  {p99:>7}  {cpu:>7}  {verdict}", case.id)?;
    for note in &case.notes {
        writeln!(out, "    {note}")?;
    }
    Ok(())
}

fn words(verdict: CaseVerdict) -> &'static str {
    match verdict {
        CaseVerdict::Better => "better",
        CaseVerdict::Worse => "worse",
        CaseVerdict::NoDifference => "no difference",
        CaseVerdict::DeviceChanged => "the device changed, the log did not",
        CaseVerdict::TooFewRounds => "too few rounds (three are needed)",
        CaseVerdict::Searched => "information only: the rate was searched, once on each side",
    }
}

/// What the verdict does not speak of, behind it.
fn left_alone(comparison: &Comparison) -> String {
    let sides = [("A", comparison.only_in_a.len()), ("B", comparison.only_in_b.len())];
    let told = sides.iter().filter(|(_, cases)| *cases > 0).map(|(side, cases)| format!("{cases} only in {side}"));
    let told: Vec<String> = told.collect();
    if told.is_empty() { String::new() } else { format!("; NOT COMPARED: {}", told.join(", ")) }
}

fn last_line(comparison: &Comparison) -> String {
    let of = |verdict: CaseVerdict| comparison.cases.iter().filter(|case| case.verdict == verdict).count();
    let all = comparison.cases.iter().filter(|case| case.verdict.is_one()).count();
    let threshold = figures::percent(comparison.thresholds.throughput);
    match comparison.verdict {
        Overall::Worse if !comparison.lost.is_empty() => {
            let (lost, worse) = (comparison.lost.len(), of(CaseVerdict::Worse));
            format!("worse: {lost} cases that A has were lost by failure, and {worse} of {all} others are worse")
        }
        Overall::Worse => format!("worse: {} of {all} cases by more than {threshold}", of(CaseVerdict::Worse)),
        Overall::Better => {
            format!("better: {} of {all} cases by more than {threshold}, none worse", of(CaseVerdict::Better))
        }
        Overall::NoDifference => match of(CaseVerdict::DeviceChanged) {
            0 => format!("no difference beyond {threshold} in {all} cases"),
            moved => format!(
                "no difference beyond {threshold} in {all} cases that is the log's: in {moved} the device changed"
            ),
        },
        Overall::NothingToCompare if comparison.cases.is_empty() => "nothing to compare: no case is in both".into(),
        Overall::NothingToCompare => {
            "nothing to compare: no case has three rounds in both at a rate that was not searched. \
             `walrus-bench run` with more rounds gives them"
                .into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    /// The exit code, and what was printed.
    fn compared(change: impl FnOnce(&mut Outcome), json: bool) -> (ExitCode, String) {
        let dir = tempfile::tempdir().unwrap();
        let mut b = fixture::outcome();
        change(&mut b);
        let write = |name: &str, outcome: &Outcome| {
            let path = dir.path().join(name);
            std::fs::write(&path, serde_json::to_string(outcome).unwrap()).unwrap();
            path
        };
        let (a, b) = (write("a.json", &fixture::outcome()), write("b.json", &b));
        let command = Compare { a, b, fail_over: 0.05, fail_over_p99: 0.25, json };
        let mut out = Vec::new();
        let code = command.run(&mut out).unwrap();
        (code, String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_same_result_twice_is_no_difference() {
        let (code, text) = compared(|_| (), false);
        assert_eq!(code, ExitCode::SUCCESS);
        assert!(text.trim_end().lines().last().unwrap().starts_with("no difference"), "{text}");
    }

    #[test]
    fn a_case_that_lost_ten_percent_is_named_and_the_last_line_says_worse() {
        let (code, text) = compared(|b| fixture::scale_entries_per_s(&mut b.cases[0], 0.9), false);
        assert_eq!(code, ExitCode::from(1));
        let id = &fixture::outcome().cases[0].id;
        let line = text.lines().find(|line| line.starts_with(id.as_str())).unwrap();
        assert!(line.ends_with("worse") && line.contains("0.900"), "{line}");
        assert!(text.contains("B/A [range]") && !text.contains("95 %"), "five rounds: {text}");
        assert!(text.trim_end().lines().last().unwrap().starts_with("worse: 1 of"), "{text}");
    }

    #[test]
    fn what_cannot_be_compared_is_not_taken_for_a_worse_result() {
        let (code, text) = compared(|b| b.cases.iter_mut().for_each(|case| case.id.push('!')), false);
        assert_eq!(code, ExitCode::from(2), "no case in both");
        assert!(
            text.contains("only in A") && text.contains("only in B") && text.contains("nothing to compare"),
            "{text}"
        );
        assert_eq!(compared(|b| b.cases.clear(), false).0, ExitCode::from(2), "no case at all");
        let (a, b) = ("/nowhere/a.json".into(), "/nowhere/b.json".into());
        let missing = Compare { a, b, fail_over: 0.05, fail_over_p99: 0.25, json: false };
        assert_eq!(missing.run(&mut Vec::new()).unwrap(), ExitCode::from(2));
    }

    #[test]
    fn a_case_that_was_lost_by_failure_ends_with_1_and_one_that_was_left_out_is_said_aloud() {
        let lost = |b: &mut Outcome| {
            let case = b.cases.remove(0);
            b.lost = vec![fixture::lost(&case)];
        };
        let (code, text) = compared(lost, false);
        assert_eq!(code, ExitCode::from(1));
        let last = text.trim_end().lines().last().unwrap();
        assert!(
            last.starts_with("worse: 1 cases that A has were lost")
                && text.contains("LOST: A has it, B failed: round 1"),
            "{text}"
        );

        let (code, text) = compared(|b| drop(b.cases.remove(0)), false);
        assert_eq!(code, ExitCode::SUCCESS, "it may have been left out on purpose");
        let last = text.trim_end().lines().last().unwrap();
        assert!(last.starts_with("no difference") && last.ends_with("NOT COMPARED: 1 only in A"), "{text}");
    }

    #[test]
    fn a_case_that_gained_is_better_and_no_failure() {
        let (code, text) = compared(|b| fixture::scale_entries_per_s(&mut b.cases[0], 1.2), false);
        assert_eq!(code, ExitCode::SUCCESS);
        assert!(text.trim_end().lines().last().unwrap().starts_with("better: 1 of"), "{text}");
    }

    #[test]
    fn hosts_that_differ_are_told_before_any_figure() {
        let (_, text) = compared(|b| b.host.kernel = "6.19.0".into(), false);
        let host = text.find("the hosts differ: kernel: ").unwrap();
        assert!(host < text.find("entries/s").unwrap(), "{text}");
    }

    #[test]
    fn the_json_has_the_verdicts_and_the_intervals() {
        let (_, text) = compared(|b| fixture::scale_entries_per_s(&mut b.cases[0], 0.9), true);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&json["verdict"], &json["cases"][0]["verdict"]), (&"worse".into(), &"worse".into()));
        assert!(json["cases"][0]["entries_per_s"]["ratio"]["low"].as_f64().unwrap() <= 0.9 + 1e-9);
    }

    #[test]
    fn thresholds_are_percentages() {
        assert_eq!((share("5%"), share("0.5 %"), share("12")), (Ok(0.05), Ok(0.005), Ok(0.12)));
        assert!(share("-1%").is_err() && share("many").is_err() && share("100%").is_err());
    }
}
