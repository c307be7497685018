//! One run as one page: what was measured, on what, how far from the device, and the JSON that all of it comes from.
//!
//! ```text
//!   Outcome --page--> glance   what, where, percentage of the floor by case
//!                     peers    ratios with their intervals
//!                     sweeps   a table where two things vary, a line where one does
//!                     loads    percentiles, throughput and p99 over time, how far followers were behind
//!                     tables   every figure, the device alone, the host
//!                     <script type="application/json" id="result">  --embedded--> Outcome again
//! ```
//!
//! One file, no script that runs, nothing fetched: it can be mailed, and opened in ten years. What was not measured is `n/a`.
//!
//! Knows nothing of: how anything was measured.

mod glance;
mod html;
mod loads;
mod peers;
mod spec;
mod svg;
mod sweeps;
mod tables;

use std::fmt::Write as _;

use anyhow::Result;

use crate::result::{Case, OURS, Outcome};
use html::escape;

const STYLE: &str = include_str!("style.css");
/// How many colours `style.css` has for targets; more targets than that share the last one.
const COLOURS: usize = 8;

/// The whole page.
pub(crate) fn page(outcome: &Outcome) -> Result<String> {
    let view = View::new(outcome);
    let title = format!("walrus-bench {}, {}", outcome.kind, crate::figures::date(outcome.started_unix_s));
    let mut out = String::new();
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{}</title><style>{STYLE}</style></head><body><main>\n",
        escape(&title)
    );
    glance::write(&view, &mut out);
    peers::write(&view, &mut out);
    sweeps::write(&view, &mut out);
    loads::write(&view, &mut out);
    tables::write(&view, &mut out);
    let _ = writeln!(out, "</main>\n{}\n</body></html>", html::json_element(&serde_json::to_string(outcome)?));
    Ok(out)
}

/// The JSON within a page that [`page`] made.
pub(crate) fn embedded(page: &str) -> Result<&str> {
    html::json_of(page)
}

/// A result, and who has which colour in it.
struct View<'a> {
    outcome: &'a Outcome,
    /// Ours first, then the others as they come.
    targets: Vec<&'a str>,
}

impl<'a> View<'a> {
    fn new(outcome: &'a Outcome) -> View<'a> {
        let mut targets: Vec<&str> = Vec::new();
        let ours_first = |case: &&Case| case.target != OURS;
        let mut cases: Vec<&Case> = outcome.cases.iter().collect();
        cases.sort_by_key(ours_first);
        for case in cases {
            if !targets.contains(&case.target.as_str()) {
                targets.push(&case.target);
            }
        }
        View { outcome, targets }
    }

    /// The class of a target's colour.
    fn colour(&self, target: &str) -> String {
        let at = self.targets.iter().position(|known| *known == target).unwrap_or(COLOURS);
        format!("s{}", at.min(COLOURS - 1))
    }

    /// Cases of ours, or of everybody if there are none.
    fn own_cases(&self) -> Vec<&'a Case> {
        let ours: Vec<&Case> = self.outcome.cases.iter().filter(|case| case.target == OURS).collect();
        if ours.is_empty() { self.outcome.cases.iter().collect() } else { ours }
    }

    /// Cases under the same load, side by side: the loads as they come, in each the targets as they have colours.
    fn loads(&self) -> Vec<(&'a str, Vec<&'a Case>)> {
        let mut loads: Vec<(&str, Vec<&Case>)> = Vec::new();
        for case in &self.outcome.cases {
            match loads.iter_mut().find(|(load, _)| *load == case.load()) {
                Some((_, cases)) => cases.push(case),
                None => loads.push((case.load(), vec![case])),
            }
        }
        for (_, cases) in &mut loads {
            cases.sort_by_key(|case| self.targets.iter().position(|target| *target == case.target));
        }
        loads
    }

    /// The words that must stand beside a figure of this case.
    fn badges(&self, case: &Case) -> String {
        let mut out = String::new();
        let mut badge = |class: &str, word: &str, title: &str| {
            let _ = write!(out, r#" <span class="badge {class}" title="{}">{}</span>"#, escape(title), escape(word));
        };
        for check in case.checks.iter().filter(|check| !check.ok) {
            badge("bad", "check failed", &format!("{}: {}", check.name, check.detail));
        }
        if case.failed_rounds > 0 {
            let title = format!("{} rounds failed, {} are in the figures", case.failed_rounds, case.rounds.len());
            badge("bad", "rounds failed", &title);
        }
        if case.overloaded {
            badge(
                "bad",
                "overloaded",
                "the offered rate was not reached for the whole window: percentiles have no bound",
            );
        }
        if let Some(searched) = &case.searched {
            let words = searched.words(case.rounds.len());
            let title = "the rate was looked for once, by short steps: another search may find another";
            match searched.holds {
                true => badge("", "rate searched", &format!("{words}; {title}")),
                false => badge("bad", "does not hold", &format!("{words}; {title}")),
            }
        }
        if !case.steady.steady {
            let word = if case.steady.verdict.starts_with("not steady") { "not steady" } else { &case.steady.verdict };
            badge("warn", word, &case.steady.verdict);
        }
        if self.outcome.noise.noisy {
            badge("warn", "noisy", "the machine had other things to do while this was measured");
        }
        out
    }
}

#[cfg(test)]
mod tests;
