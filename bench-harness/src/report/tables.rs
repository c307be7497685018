//! Every figure, the device alone, the host, the plan: what a reader looks up.

use std::fmt::Write as _;

use serde_json::Value;

use super::View;
use super::html::escape;
use crate::comparison::fact;
use crate::figures::{self, UNKNOWN};
use crate::result::{Case, FloorFigure, Latency, Noise};

pub(super) fn write(view: &View<'_>, out: &mut String) {
    figures_table(view, out);
    device(&view.outcome.device, out);
    host(view, out);
}

/// A column: its name, what it is, and a case's figure in it.
type Column = (&'static str, &'static str, fn(&Case) -> Option<String>);

const COLUMNS: &[Column] = &[
    ("entries/s", "median of the rounds", |case| Some(figures::count(case.entries_per_s))),
    ("MiB/s", "payload", |case| Some(figures::count(case.mib_per_s))),
    (
        "of floor",
        "what it did, over what the device did alone; several batches in flight are held against the floor pipelined four deep",
        |case| Some(figures::of_floor(case.floor.as_ref()?.share)),
    ),
    ("p50", "response: from the time at which it was due", |case| time(case, |l| Some(l.p50_us))),
    ("p99", "response", |case| time(case, |l| Some(l.p99_us))),
    ("p99.9", "response", |case| time(case, |l| Some(l.p999_us))),
    ("p99.99", "response; n/a: too few samples", |case| time(case, |l| l.p9999_us)),
    ("p99.999", "response; n/a: too few samples", |case| time(case, |l| l.p99999_us)),
    ("max", "response", |case| time(case, |l| Some(l.max_us))),
    ("CPU/entry", "of this whole process, load generator included", |case| {
        Some(figures::time_us(case.cost.cpu_us_per_entry?))
    }),
    ("switches/entry", "context switches", |case| Some(figures::count(case.cost.context_switches_per_entry?))),
    ("calls/group", "system calls of the log for each group that it committed", |case| {
        Some(figures::count(case.cost.syscalls_per_group?))
    }),
    ("entries/group", "entries of each group that was committed", |case| {
        Some(figures::count(case.cost.entries_per_group?))
    }),
    ("entries/flush", "entries for each flush of the device, by its own counter", |case| {
        Some(figures::count(case.cost.entries_per_flush?))
    }),
    ("flushes/s", "of the device", |case| Some(figures::count(case.cost.device_flushes_per_s?))),
    ("writes/s", "of the device", |case| Some(figures::count(case.cost.device_writes_per_s?))),
    ("written/payload", "bytes that the device wrote for each byte of payload", |case| {
        Some(figures::count(case.cost.write_amplification?))
    }),
    ("memory", "most that was resident", |case| Some(figures::bytes(case.cost.rss_bytes_max?))),
];

fn time(case: &Case, of: fn(&Latency) -> Option<f64>) -> Option<String> {
    case.response.as_ref().or(case.service.as_ref()).and_then(of).map(figures::time_us)
}

fn figures_table(view: &View<'_>, out: &mut String) {
    if view.outcome.cases.is_empty() {
        return;
    }
    out.push_str("<section><h2>All figures</h2><div class=\"scroll\"><table class=\"figures cases\"><thead><tr>");
    out.push_str("<th scope=\"col\">case</th>");
    for (name, title, _) in COLUMNS {
        let _ = write!(out, "<th scope=\"col\" title=\"{}\">{name}</th>", escape(title));
    }
    out.push_str("</tr></thead><tbody>");
    for case in &view.outcome.cases {
        let _ = write!(
            out,
            "<tr><th scope=\"row\"><span class=\"key {}\">{}</span>{}</th>",
            view.colour(&case.target),
            escape(&case.id),
            view.badges(case)
        );
        for (.., of) in COLUMNS {
            out.push_str(&cell(of(case)));
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div></section>\n");
}

fn cell(figure: Option<String>) -> String {
    match figure {
        Some(text) => format!("<td>{}</td>", escape(&text)),
        None => format!("<td class=\"none\">{UNKNOWN}</td>"),
    }
}

fn device(floors: &[FloorFigure], out: &mut String) {
    if floors.is_empty() {
        return;
    }
    out.push_str(
        "<section><h2>The device alone</h2><p class=\"sub\">Durable writes without any log, in the same folder, on prepared files; \
         medians of all turns.</p><div class=\"scroll\"><table class=\"figures\"><thead><tr><th scope=\"col\">floor</th>\
         <th scope=\"col\">writes/s</th><th scope=\"col\">MiB/s</th><th scope=\"col\">p50</th><th scope=\"col\">p99</th>\
         <th scope=\"col\">by way of</th></tr></thead><tbody>",
    );
    for floor in floors {
        let mib = floor.per_s * floor.bytes as f64 / f64::from(1 << 20);
        let _ = write!(out, "<tr><th scope=\"row\">{}</th>", escape(&floor.name));
        for text in [
            figures::count(floor.per_s),
            figures::count(mib),
            figures::time_us(floor.p50_us),
            figures::time_us(floor.p99_us),
        ] {
            out.push_str(&cell(Some(text)));
        }
        out.push_str(&cell(Some(if floor.is_direct { "O_DIRECT" } else { "page cache" }.into())));
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div></section>\n");
}

fn host(view: &View<'_>, out: &mut String) {
    out.push_str("<section><h2>Where it was measured</h2><dl class=\"facts\">");
    let mut row = |name: &str, text: &str| {
        let _ = write!(out, "<div><dt>{}</dt><dd>{}</dd></div>", escape(&name.replace('_', " ")), escape(text));
    };
    if let Ok(Value::Object(facts)) = serde_json::to_value(&view.outcome.host) {
        for (name, value) in &facts {
            match (name.strip_suffix("_bytes"), value.as_u64()) {
                (Some(name), Some(bytes)) => row(name, &figures::bytes(bytes)),
                _ => row(name, &text(value)),
            }
        }
    }
    let Noise { cpu_pressure, io_pressure, steal, floor_spread, .. } = view.outcome.noise;
    for (name, share) in
        [("CPU pressure", cpu_pressure), ("I/O pressure", io_pressure), ("time given to others (steal)", steal)]
    {
        row(name, &share.map_or(UNKNOWN.into(), figures::percent));
    }
    row("highest floor over lowest", &floor_spread.map_or(UNKNOWN.into(), figures::times));
    out.push_str("</dl>");
    if !view.outcome.notes.is_empty() {
        out.push_str("<h3>Notes</h3><ul class=\"notes\">");
        for note in &view.outcome.notes {
            let _ = write!(out, "<li>{}</li>", escape(note));
        }
        out.push_str("</ul>");
    }
    let _ = writeln!(
        out,
        "<details><summary>The plan</summary><pre>{}</pre></details></section>",
        escape(&view.outcome.plan)
    );
}

/// A fact; one of several parts part by part.
fn text(value: &Value) -> String {
    match value {
        Value::Object(parts) => {
            parts.iter().map(|(name, part)| format!("{name} {}", text(part))).collect::<Vec<_>>().join(", ")
        }
        Value::Array(parts) => parts.iter().map(text).collect::<Vec<_>>().join(", "),
        other => fact(Some(other)),
    }
}
