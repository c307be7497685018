//! The top of the page: what was measured, on what, and how far from the device.

use std::fmt::Write as _;

use serde_json::Value;

use super::html::escape;
use super::svg::Strip;
use super::{View, spec};
use crate::comparison::fact;
use crate::result::{Case, OURS, Outcome};
use crate::{figures, floors};

/// Bars end here. Many callers share one flush, and a share of 40 would make all others invisible.
const SHARE_SHOWN_MAX: f64 = 1.2;

pub(super) fn write(view: &View<'_>, out: &mut String) {
    let outcome = view.outcome;
    let Outcome { kind, version, seed, started_unix_s, seconds, .. } = outcome;
    let _ = write!(
        out,
        "<header><h1>walrus-bench <b>{}</b></h1><p class=\"sub\">{} · took {} · seed {seed} · walrus-bench {}</p>",
        escape(kind),
        figures::date(*started_unix_s),
        duration(*seconds),
        escape(version)
    );
    warnings(outcome, out);
    out.push_str("</header>\n<section class=\"tiles\">");
    tile("What", &what(view), out);
    tile("On what", &on_what(outcome), out);
    tile("How far from the device", &how_far(view), out);
    out.push_str("</section>\n");
    shares(view, out);
}

fn duration(seconds: f64) -> String {
    if seconds < 120.0 {
        format!("{seconds:.0} s")
    } else {
        format!("{:.0} min {:.0} s", (seconds / 60.0).floor(), seconds % 60.0)
    }
}

/// Everything that should make a reader doubt the figures, before the first of them.
fn warnings(outcome: &Outcome, out: &mut String) {
    let failed = outcome.cases.iter().filter(|case| case.checks.iter().any(|check| !check.ok)).count();
    let noise = &outcome.noise;
    let share = |name: &str, value: Option<f64>| value.map(|share| format!("{name} {}", figures::percent(share)));
    let mut noises: Vec<String> = [
        share("CPU pressure", noise.cpu_pressure),
        share("I/O pressure", noise.io_pressure),
        share("stolen by the hypervisor", noise.steal),
    ]
    .into_iter()
    .flatten()
    .collect();
    noises.extend(noise.floor_spread.map(|spread| format!("highest floor over lowest {spread:.2}")));
    let lines = [
        (!outcome.release, "bad", "Built without optimisations: these figures say nothing.".to_owned()),
        (failed > 0, "bad", format!("A check failed in {failed} cases: what was measured was not right.")),
        (outcome.smoke, "warn", "A smoke run: it shows that all works, not how fast.".to_owned()),
        (noise.noisy, "warn", format!("Noisy: the machine had other things to do ({}).", noises.join(", "))),
    ];
    for lost in &outcome.lost {
        let text = format!("Nothing was measured of {}: {}.", lost.id, lost.why);
        let _ = write!(out, "<p class=\"alert bad\">{}</p>", escape(&text));
    }
    for (_, class, text) in lines.iter().filter(|(is_so, ..)| *is_so) {
        let _ = write!(out, "<p class=\"alert {class}\">{}</p>", escape(text));
    }
}

/// `lines[0]` large, the others below it. They are HTML already.
fn tile(title: &str, lines: &[String], out: &mut String) {
    let _ = write!(out, "<div class=\"tile\"><h2>{title}</h2>");
    for (at, line) in lines.iter().enumerate() {
        let _ = write!(out, "<p class=\"{}\">{line}</p>", if at == 0 { "big" } else { "sub" });
    }
    out.push_str("</div>");
}

fn what(view: &View<'_>) -> Vec<String> {
    let cases = view.outcome.cases.len();
    let rounds = view.outcome.cases.iter().map(|case| case.rounds.len()).max().unwrap_or(0);
    let targets: Vec<String> = view
        .targets
        .iter()
        .map(|target| format!("<span class=\"key {}\">{}</span>", view.colour(target), escape(target)))
        .collect();
    let large = match cases {
        0 => "the device alone".to_owned(),
        1 => "1 case".to_owned(),
        _ => format!("{cases} cases"),
    };
    let rounds =
        (cases > 0).then(|| if rounds == 1 { "one round each".into() } else { format!("up to {rounds} rounds each") });
    [Some(large), rounds, Some(targets.join(" ")).filter(|targets| !targets.is_empty())].into_iter().flatten().collect()
}

/// Chosen facts in three lines; the tables below have all of them.
fn on_what(outcome: &Outcome) -> Vec<String> {
    let facts = serde_json::to_value(&outcome.host).unwrap_or(Value::Null);
    let known = |name: &str| facts.get(name).filter(|value| !value.is_null()).map(|value| fact(Some(value)));
    let memory = facts.get("memory_bytes").and_then(Value::as_u64).map(figures::bytes);
    let cores = known("cores").map(|cores| format!("{cores} cores"));
    let join = |parts: Vec<Option<String>>| escape(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "));
    let on_device = known("device").map(|device| match known("device_model") {
        Some(model) => format!("{device} ({model})"),
        None => device,
    });
    vec![
        join(vec![known("file_system"), on_device]),
        join(vec![
            known("write_cache").map(|cache| format!("write cache: {cache}")),
            known("fua").map(|fua| format!("FUA: {fua}")),
        ]),
        join(vec![
            known("cpu"),
            cores,
            memory,
            known("kernel").map(|kernel| format!("kernel {kernel}")),
            known("virtualisation"),
        ]),
    ]
    .into_iter()
    .filter(|line| !line.is_empty())
    .collect()
}

fn how_far(view: &View<'_>) -> Vec<String> {
    let all = view.own_cases().into_iter().filter_map(|case| Some((case.floor.as_ref()?.share, case)));
    let (mut shares, shared): (Vec<(f64, &Case)>, Vec<_>) = all.partition(|(share, _)| *share <= SHARE_SHOWN_MAX);
    shares.sort_by(|a, b| b.0.total_cmp(&a.0));
    let line = |what: &str, share: f64, case: &Case| {
        let floor = case.floor.as_ref().map_or("", |floor| &floor.name);
        format!("{what}{} of {}: {}", figures::percent(share), escape(floor), escape(&spec::words(&case.spec)))
    };
    let mut lines = match shares[..] {
        [] => vec![figures::UNKNOWN.into(), "no case is bound by the device's floor alone".into()],
        [(share, case)] => vec![figures::percent(share), line("", share, case)],
        [(high, best), .., (low, worst)] => vec![
            format!("{} to {}", figures::percent(low), figures::percent(high)),
            line("nearest: ", high, best),
            line("furthest: ", low, worst),
        ],
    };
    if let Some(most) = shared.iter().map(|(share, _)| *share).max_by(f64::total_cmp) {
        let (cases, are) = if shared.len() == 1 { ("case", "is") } else { ("cases", "are") };
        lines.push(format!(
            "{} {cases} with many callers to a flush {are} beyond it: up to {}",
            shared.len(),
            figures::of_floor(most)
        ));
    }
    lines
}

/// One bar a case: its share of the floor.
fn shares(view: &View<'_>, out: &mut String) {
    let own = view.own_cases();
    if own.is_empty() {
        return;
    }
    let whose = if own.iter().all(|case| case.target == OURS) { "walrus-node" } else { "each target" };
    let _ = write!(
        out,
        "<section><h2>Percentage of the device's floor</h2><p class=\"sub\">What {whose} did, over what the device did alone, in the \
         same folder, measured beside every round. The line is 100 %; a bar that goes on shares each flush among many \
         callers.</p><div class=\"rows\">"
    );
    let most = own.iter().filter_map(|case| case.floor.as_ref()).map(|floor| floor.share).fold(1.0, f64::max);
    let scale = most.min(SHARE_SHOWN_MAX) * 1.02;
    for case in own {
        share(view, case, scale, out);
    }
    out.push_str("</div></section>\n");
}

fn share(view: &View<'_>, case: &Case, scale: f64, out: &mut String) {
    let latency = case.response.as_ref().or(case.service.as_ref());
    let mut figures_ = vec![format!("{} entries/s", figures::count(case.entries_per_s))];
    figures_.extend(latency.map(|l| format!("p50 {}, p99 {}", figures::time_us(l.p50_us), figures::time_us(l.p99_us))));
    let mut floor_name = String::new();
    let (bar, number) = match &case.floor {
        None => (String::new(), format!("<span class=\"none\">{}</span>", figures::UNKNOWN)),
        Some(floor) => {
            let title = format!(
                "{}: {} a second, of {} ({})",
                case.id,
                figures::count(floor.case_per_s),
                figures::count(floor.floor_per_s),
                floor.name
            );
            let remark = floors::remark(&case.spec).map_or(String::new(), |remark| format!(": {remark}"));
            floor_name = format!("<br>of {}", escape(&(floor.name.clone() + &remark)));
            let mut strip = Strip::default();
            strip.bar(1.0, "track");
            strip.bar(floor.share / scale, &format!("fill {}", view.colour(&case.target)));
            strip.mark(1.0 / scale, "hundred");
            if floor.share > scale {
                strip.goes_on();
            }
            (strip.svg(&title), figures::of_floor(floor.share))
        }
    };
    let whose = if case.target == OURS { String::new() } else { format!("{}: ", case.target) };
    let _ = write!(
        out,
        "<div class=\"row\"><div class=\"what\">{}{}</div><div class=\"bar\">{bar}</div><div class=\"num\">{number}</div>\
         <div class=\"detail\">{}{floor_name}</div></div>",
        escape(&(whose + &spec::words(&case.spec))),
        view.badges(case),
        escape(&figures_.join(" · "))
    );
}
