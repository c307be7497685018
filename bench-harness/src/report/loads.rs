//! Load by load, every target in it: percentiles, throughput and p99 over time, and how far followers were behind.

use std::fmt::Write as _;

use super::html::escape;
use super::svg::{Axis, Dot, Line, Plot};
use super::{View, spec};
use crate::figures;
use crate::result::{Case, Interval, Latency};

/// With more loads than this, those of a sweep are folded up.
const OPEN_MAX: usize = 10;
/// Percentiles that tell their figures when pointed at.
const NAMED: [f64; 6] = [50.0, 90.0, 99.0, 99.9, 99.99, 99.999];

pub(super) fn write(view: &View<'_>, out: &mut String) {
    let loads = view.loads();
    if loads.is_empty() {
        return;
    }
    out.push_str(
        "<section><h2>Load by load</h2><p class=\"sub\">Percentiles: solid is the response, from the time at which an operation was \
         due; dashed is the service, from the call. A closed loop has only one of them. Over time: rounds stand one after the other, \
         upright lines between them.</p>",
    );
    let few = loads.len() <= OPEN_MAX;
    for (_, cases) in loads {
        load(view, &cases, few || is_of_interest(&cases), out);
    }
    out.push_str("</section>\n");
}

/// Whether there is more to see than what the table of a sweep says already.
fn is_of_interest(cases: &[&Case]) -> bool {
    let is_broken = |case: &Case| case.searched.as_ref().is_some_and(|searched| !searched.holds);
    let doubtful = |case: &Case| {
        !case.steady.steady || case.overloaded || is_broken(case) || case.checks.iter().any(|check| !check.ok)
    };
    cases.len() > 1 || cases.iter().any(|case| case.lag.is_some() || case.spec.rate_per_s.is_some() || doubtful(case))
}

fn load(view: &View<'_>, cases: &[&Case], is_open: bool, out: &mut String) {
    let words = spec::words(&cases[0].spec);
    let open = if is_open { " open" } else { "" };
    let _ = write!(out, "<article><details{open}><summary><h3>{}</h3></summary><ul class=\"legend\">", escape(&words));
    for case in cases {
        let _ = write!(
            out,
            "<li><span class=\"key {}\">{}</span> {} entries/s{}</li>",
            view.colour(&case.target),
            escape(&case.target),
            figures::count(case.entries_per_s),
            view.badges(case)
        );
    }
    out.push_str("</ul><div class=\"plots\">");
    let plots = [
        ("Percentiles", percentiles(view, cases, &words)),
        ("Entries a second over time", over_time(view, cases, &words, "entries a second", entries_per_s)),
        (
            "p99 over time",
            over_time(view, cases, &words, "p99", |interval| Some(interval.p99_us).filter(|us| *us > 0.0)),
        ),
        ("Followers behind the leader, over time", lag(view, cases, &words)),
    ];
    for (title, plot) in plots {
        if let Some(plot) = plot {
            let _ = write!(out, "<figure><figcaption>{title}</figcaption>{}</figure>", plot.svg());
        }
    }
    out.push_str("</div>");
    behind(cases, out);
    set_up(cases, out);
    out.push_str("</details></article>\n");
}

fn percentiles(view: &View<'_>, cases: &[&Case], words: &str) -> Option<Plot> {
    let mut lines = Vec::new();
    let mut times = Vec::new();
    let mut last: f64 = 99.0;
    for case in cases {
        let is_open = case.spec.rate_per_s.is_some();
        let response = case.response.as_ref().or(case.service.as_ref());
        let service = case.service.as_ref().filter(|_| is_open && case.response.is_some());
        for (latency, name, dashed) in [(service, "service", " dashed"), (response, "response", "")] {
            let Some(latency) = latency else { continue };
            times.extend(latency.curve.iter().map(|(_, us)| *us));
            last = latency.curve.iter().map(|(at, _)| *at).filter(|at| *at < 100.0).fold(last, f64::max);
            let name = if is_open { name } else { "latency" };
            let class = view.colour(&case.target) + dashed;
            lines.push(Line { class, pieces: vec![latency.curve.clone()], dots: named(case, latency, name) });
        }
    }
    let times: Vec<f64> = times.into_iter().filter(|us| *us > 0.0).collect();
    (!times.is_empty()).then(|| Plot {
        label: format!("percentiles of {words}"),
        x: Axis::nines("percentile, each nine as wide as the one before", last),
        y: Axis::log("", times, figures::time_us),
        rules: Vec::new(),
        lines,
    })
}

/// The percentiles that have names and samples enough.
fn named(case: &Case, latency: &Latency, what: &str) -> Vec<Dot> {
    let known = [
        Some(latency.p50_us),
        Some(latency.p90_us),
        Some(latency.p99_us),
        Some(latency.p999_us),
        latency.p9999_us,
        latency.p99999_us,
    ];
    let dots = NAMED.into_iter().zip(known).filter_map(|(percentile, us)| {
        let title = format!("{}, {what}: p{percentile} {}", case.target, figures::time_us(us?));
        Some(Dot { at: (percentile, us?), title, visible: false })
    });
    dots.collect()
}

fn entries_per_s(interval: &Interval) -> Option<f64> {
    (interval.seconds > 0.0).then(|| interval.entries as f64 / interval.seconds)
}

fn over_time(
    view: &View<'_>,
    cases: &[&Case],
    words: &str,
    name: &str,
    of: fn(&Interval) -> Option<f64>,
) -> Option<Plot> {
    let is_time = name == "p99";
    let text: fn(f64) -> String = if is_time { figures::time_us } else { figures::short };
    let (mut lines, mut rules, mut values, mut end) = (Vec::new(), Vec::new(), Vec::new(), 0.0_f64);
    for (at, case) in cases.iter().enumerate() {
        let mut line = Line { class: view.colour(&case.target), ..Line::default() };
        let mut began = 0.0;
        for (number, round) in case.rounds.iter().enumerate() {
            if at == 0 && number > 0 {
                rules.push(began);
            }
            let points = round
                .intervals
                .iter()
                .filter_map(|interval| Some((began + interval.at_s + interval.seconds / 2.0, of(interval)?)));
            let points: Vec<(f64, f64)> = points.collect();
            values.extend(points.iter().map(|(_, value)| *value));
            line.dots.extend(points.iter().map(|point| Dot {
                at: *point,
                title: format!("{}, round {}: {name} {}", case.target, number + 1, text(point.1)),
                // A line through one point is not seen.
                visible: points.len() == 1,
            }));
            line.pieces.push(points);
            began += round.seconds;
        }
        end = end.max(began);
        lines.push(line);
    }
    let most = values.iter().copied().fold(0.0, f64::max);
    (!values.is_empty()).then(|| Plot {
        label: format!("{name} over time of {words}"),
        x: Axis::linear("seconds of load", end, figures::short),
        y: if is_time { Axis::log("", values, text) } else { Axis::linear("", most, text) },
        rules,
        lines,
    })
}

fn lag(view: &View<'_>, cases: &[&Case], words: &str) -> Option<Plot> {
    let lags: Vec<(&Case, Vec<(f64, f64)>)> = cases
        .iter()
        .filter_map(|case| {
            let positive = case.lag.as_ref()?.timeline.iter().filter(|(_, us)| *us > 0.0);
            Some((*case, positive.copied().collect::<Vec<_>>())).filter(|(_, points)| !points.is_empty())
        })
        .collect();
    let all = || lags.iter().flat_map(|(_, points)| points);
    let end = all().map(|(at, _)| *at).fold(0.0, f64::max);
    let lines = lags.iter().map(|(case, points)| {
        let dots = points.iter().map(|point| Dot {
            at: *point,
            title: format!("{}: {} behind", case.target, figures::time_us(point.1)),
            visible: points.len() == 1,
        });
        Line { class: view.colour(&case.target), dots: dots.collect(), pieces: vec![points.clone()] }
    });
    (!lags.is_empty()).then(|| Plot {
        label: format!("how far followers were behind, over time, of {words}"),
        x: Axis::linear("seconds of the round", end, figures::short),
        y: Axis::log("", all().map(|(_, us)| *us), figures::time_us),
        rules: Vec::new(),
        lines: lines.collect(),
    })
}

/// The lag in words.
fn behind(cases: &[&Case], out: &mut String) {
    for (case, lag) in cases.iter().filter_map(|case| Some((case, case.lag.as_ref()?))) {
        let _ = write!(
            out,
            "<p class=\"sub\">{}: followers behind by {} (p50), {} (p99), {} (most); everything there {} after the last \
             acknowledgement.</p>",
            escape(&case.target),
            figures::time_us(lag.p50_us),
            figures::time_us(lag.p99_us),
            figures::time_us(lag.max_us),
            figures::time_us(lag.drained_us)
        );
    }
}

/// How each target was set up, and what was checked: for whoever wants to do it again.
fn set_up(cases: &[&Case], out: &mut String) {
    out.push_str("<details><summary>Set-up and checks</summary><dl>");
    for case in cases {
        let _ = write!(out, "<dt>{}</dt><dd>{}", escape(&case.id), escape(&case.settings));
        for check in &case.checks {
            let (class, word) = if check.ok { ("good", "held") } else { ("bad", "failed") };
            let _ = write!(
                out,
                "<br><span class=\"badge {class}\">{word}</span> {}: {}",
                escape(&check.name),
                escape(&check.detail)
            );
        }
        out.push_str("</dd>");
    }
    out.push_str("</dl></details>");
}
