//! Ours against each peer: a dot for the ratio, whiskers for how sure it is, on a scale on which twice and half are as far apart.

use std::fmt::Write as _;

use super::View;
use super::html::escape;
use super::spec;
use super::svg::{Axis, Strip};
use crate::figures;
use crate::result::Ratio;
use crate::stats::interval_name;

pub(super) fn write(view: &View<'_>, out: &mut String) {
    let mut kinds: Vec<&str> = Vec::new();
    for ratio in &view.outcome.ratios {
        if !kinds.contains(&ratio.of.as_str()) {
            kinds.push(&ratio.of);
        }
    }
    if kinds.is_empty() {
        return;
    }
    out.push_str(
        "<section><h2>Against the others</h2><p class=\"sub\">Ours over theirs, in this run, turn by turn on the same disk; the median \
         of the pairs and its interval: 95 % by bootstrap, of fewer than six pairs their range. A hollow dot has \
         none: too few pairs, or rates that were searched once.</p>",
    );
    for of in kinds {
        let ratios: Vec<&Ratio> = view.outcome.ratios.iter().filter(|ratio| ratio.of == of).collect();
        forest(view, of, &ratios, out);
    }
    out.push_str("</section>\n");
}

fn forest(view: &View<'_>, of: &str, ratios: &[&Ratio], out: &mut String) {
    let heading = match of {
        "entries_per_s" => "Entries a second: right of 1 is more",
        "cpu_us_per_entry" => "CPU for each entry: left of 1 is less",
        other => other,
    };
    let ends = ratios.iter().flat_map(|ratio| [ratio.low.unwrap_or(ratio.median), ratio.high.unwrap_or(ratio.median)]);
    let axis = Axis::log("", ends.chain([1.0]), |value| format!("{value}"));
    let _ = write!(out, "<h3>{}</h3><div class=\"rows\">", escape(heading));
    let mut case = "";
    for ratio in ratios {
        if ratio.case != case {
            case = &ratio.case;
            let _ = write!(out, "<div class=\"group\">{}</div>", escape(&words(view, case)));
        }
        row(view, ratio, &axis, out);
    }
    let mut scale = Strip::default();
    for (value, text) in axis.ticks() {
        scale.text(axis.share(*value), text);
    }
    let _ = write!(
        out,
        "<div class=\"row scale\"><div class=\"bar\">{}</div></div></div>",
        scale.svg("the scale of the ratios")
    );
}

fn row(view: &View<'_>, ratio: &Ratio, axis: &Axis, out: &mut String) {
    let interval = ratio.low.zip(ratio.high);
    let text = figures::times(ratio.median);
    let words = match interval {
        Some((low, high)) => {
            let name = interval_name(ratio.pairs);
            format!("{name} {} to {} in {} pairs", figures::times(low), figures::times(high), ratio.pairs)
        }
        None if ratio.searched => format!("{} pairs, at rates that were searched once: no interval", ratio.pairs),
        None => format!("{} pairs: too few for an interval", ratio.pairs),
    };
    let mut strip = Strip::default();
    for (value, _) in axis.ticks() {
        strip.mark(axis.share(*value), "grid");
    }
    strip.mark(axis.share(1.0), "hundred");
    let class = view.colour(&ratio.peer) + if interval.is_none() { " hollow" } else { "" };
    strip.whisker(axis.share(ratio.median), interval.map(|(low, high)| (axis.share(low), axis.share(high))), &class);
    let svg = strip.svg(&format!("ours over {}: {text}, {words}", ratio.peer));
    let _ = write!(
        out,
        "<div class=\"row\"><div class=\"what\"><span class=\"key {}\">{}</span></div><div class=\"bar\">{svg}</div>\
         <div class=\"num\">{text}</div><div class=\"detail\">{}</div></div>",
        view.colour(&ratio.peer),
        escape(&ratio.peer),
        escape(&words)
    );
}

/// The load in words, if a case of it is there; else as it is called.
fn words(view: &View<'_>, load: &str) -> String {
    let case = view.outcome.cases.iter().find(|case| case.load() == load);
    case.map_or_else(|| load.to_owned(), |case| spec::words(&case.spec))
}
