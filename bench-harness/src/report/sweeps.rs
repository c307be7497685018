//! What came of a sweep: a table with a shade where two things vary, a line where one does.
//!
//! ```text
//!   cases of one target --two axes put aside--> groups whose specs differ along those two only --full rows and columns--> table
//!                       --one axis put aside--> groups that differ along that one, three or more of them        --> line
//! ```
//!
//! A line is left out where a table of the same cases stands already.

use std::fmt::Write as _;

use super::View;
use super::html::escape;
use super::spec::{self, Axis};
use super::svg::{self, Dot, Line, Plot};
use crate::figures;
use crate::result::{Case, Spec};

/// Fewer points make no line.
const POINTS_MIN: usize = 3;
/// Two by two is no sweep.
const CELLS_MIN: usize = 6;
/// The darkest shade, so that text stays readable on it in both themes.
const SHADE_MAX: f64 = 0.55;

/// Values along an axis, in order, with their words.
type Values = Vec<(f64, String)>;

pub(super) fn write(view: &View<'_>, out: &mut String) {
    let mut body = String::new();
    for target in &view.targets {
        let cases: Vec<&Case> = view.outcome.cases.iter().filter(|case| case.target == *target).collect();
        let mut shown: Vec<&str> = Vec::new();
        for (at, rows) in Axis::ALL.into_iter().enumerate() {
            for columns in Axis::ALL.into_iter().skip(at + 1) {
                for group in groups(&cases, &[rows, columns]) {
                    shown.extend(table(target, &group, rows, columns, &mut body));
                }
            }
        }
        for axis in Axis::ALL {
            for group in groups(&cases, &[axis]) {
                if group.iter().any(|case| !shown.contains(&case.id.as_str())) {
                    line(view, target, &group, axis, &mut body);
                }
            }
        }
    }
    if !body.is_empty() {
        let _ = writeln!(out, "<section><h2>Sweeps</h2><div class=\"sweeps\">{body}</div></section>");
    }
}

/// Cases whose specs are the same but for these axes.
fn groups<'a>(cases: &[&'a Case], axes: &[Axis]) -> Vec<Vec<&'a Case>> {
    let mut groups: Vec<(Spec, Vec<&Case>)> = Vec::new();
    for case in cases {
        let key = rest(&case.spec, axes);
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, group)) => group.push(case),
            None => groups.push((key, vec![case])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

fn rest(spec: &Spec, axes: &[Axis]) -> Spec {
    let mut rest = spec.clone();
    axes.iter().for_each(|axis| axis.put_aside(&mut rest));
    rest
}

fn values(group: &[&Case], axis: Axis) -> Values {
    let mut values: Values = Vec::new();
    for value in group.iter().map(|case| axis.value(&case.spec)) {
        if !values.contains(&value) {
            values.push(value);
        }
    }
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    values
}

/// Rows and columns of which every cell was measured: the emptiest is left out, and again, until that is so.
fn full_grid(group: &[&Case], rows: Axis, columns: Axis) -> (Values, Values) {
    let (mut down, mut across) = (values(group, rows), values(group, columns));
    loop {
        let is_there = |row: &(f64, String), column: &(f64, String)| {
            group.iter().any(|case| rows.value(&case.spec) == *row && columns.value(&case.spec) == *column)
        };
        let filled = |there: usize, of: usize| there as f64 / of.max(1) as f64;
        let of_rows = down.iter().map(|row| filled(across.iter().filter(|c| is_there(row, c)).count(), across.len()));
        let of_columns =
            across.iter().map(|column| filled(down.iter().filter(|r| is_there(r, column)).count(), down.len()));
        let emptiest = of_rows.chain(of_columns).enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
        match emptiest {
            Some((at, filled)) if filled < 1.0 && at < down.len() => drop(down.remove(at)),
            Some((at, filled)) if filled < 1.0 => drop(across.remove(at - down.len())),
            _ => return (down, across),
        }
    }
}

/// A table, if there are enough cells for one; returns the ids that stand in it.
fn table<'a>(target: &str, group: &[&'a Case], rows: Axis, columns: Axis, out: &mut String) -> Vec<&'a str> {
    let (down, across) = full_grid(group, rows, columns);
    if down.len() < 2 || across.len() < 2 || down.len() * across.len() < CELLS_MIN {
        return Vec::new();
    }
    let stands = |case: &&&Case| down.contains(&rows.value(&case.spec)) && across.contains(&columns.value(&case.spec));
    let group: Vec<&Case> = group.iter().filter(stands).copied().collect();
    let most = group.iter().map(|case| case.entries_per_s).fold(f64::MIN_POSITIVE, f64::max);
    let least = group.iter().map(|case| case.entries_per_s).fold(f64::MAX, f64::min).max(f64::MIN_POSITIVE);
    let _ = write!(
        out,
        "<figure class=\"heat\"><figcaption>{}</figcaption><p class=\"sub\">entries a second; below it, percentage of the floor</p>\
         <div class=\"scroll\"><table><thead><tr><th scope=\"col\">{} ↓ · {} →</th>",
        escape(&title(target, &group, &[rows, columns])),
        rows.name(),
        columns.name()
    );
    for (_, name) in &across {
        let _ = write!(out, "<th scope=\"col\">{}</th>", escape(name));
    }
    out.push_str("</tr></thead><tbody>");
    for row in &down {
        let _ = write!(out, "<tr><th scope=\"row\">{}</th>", escape(&row.1));
        for column in &across {
            let here = group.iter().find(|case| rows.value(&case.spec) == *row && columns.value(&case.spec) == *column);
            match here {
                Some(case) => cell(case, (least, most), out),
                None => out.push_str("<td></td>"),
            }
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div></figure>");
    group.iter().map(|case| case.id.as_str()).collect()
}

/// Shaded by the logarithm: a sweep over payloads spans several powers of ten.
fn cell(case: &Case, (least, most): (f64, f64), out: &mut String) {
    let span = (most / least).ln();
    let share = if span > 0.0 { (case.entries_per_s / least).ln() / span } else { 1.0 };
    let floor =
        case.floor.as_ref().map_or(String::new(), |floor| format!("<small>{}</small>", figures::of_floor(floor.share)));
    let is_broken = case.searched.as_ref().is_some_and(|searched| !searched.holds);
    let marks = [(case.overloaded, "overloaded"), (is_broken, "does not hold"), (!case.steady.steady, "not steady")];
    let marks: String = marks
        .iter()
        .filter(|(is_so, _)| *is_so)
        .map(|(_, word)| format!("<small class=\"mark\">{word}</small>"))
        .collect();
    let p99 = case
        .response
        .as_ref()
        .or(case.service.as_ref())
        .map_or(String::new(), |l| format!(", p99 {}", figures::time_us(l.p99_us)));
    let _ = write!(
        out,
        "<td style=\"--shade:{:.1}%\" title=\"{}\">{}{floor}{marks}</td>",
        SHADE_MAX * 100.0 * share,
        escape(&format!("{}: {} entries/s{p99}", case.id, figures::count(case.entries_per_s))),
        figures::short(case.entries_per_s)
    );
}

fn line(view: &View<'_>, target: &str, group: &[&Case], axis: Axis, out: &mut String) {
    let places = values(group, axis);
    if places.len() < POINTS_MIN || places.len() != group.len() {
        return;
    }
    let mut points = Vec::new();
    let mut dots = Vec::new();
    for (at, place) in places.iter().enumerate() {
        let Some(case) = group.iter().find(|case| axis.value(&case.spec) == *place) else { continue };
        let floor =
            case.floor.as_ref().map_or(String::new(), |f| format!(", {} of the floor", figures::of_floor(f.share)));
        let title = format!("{} {}: {} entries/s{floor}", axis.name(), place.1, figures::count(case.entries_per_s));
        points.push((at as f64, case.entries_per_s));
        dots.push(Dot { at: (at as f64, case.entries_per_s), title, visible: true });
    }
    let names: Vec<String> = places.into_iter().map(|(_, name)| name).collect();
    let title = title(target, group, &[axis]);
    let plot = Plot {
        label: format!("entries a second by {}, {title}", axis.name()),
        x: svg::Axis::named(axis.name(), &names),
        y: svg::Axis::log("", points.iter().map(|(_, value)| *value), figures::short),
        rules: Vec::new(),
        lines: vec![Line { class: view.colour(target), pieces: vec![points], dots }],
    };
    let _ = write!(
        out,
        "<figure><figcaption>{}</figcaption><p class=\"sub\">entries a second</p>{}</figure>",
        escape(&title),
        plot.svg()
    );
}

/// Whose sweep, and what was the same throughout.
fn title(target: &str, group: &[&Case], axes: &[Axis]) -> String {
    format!("{target}: {}", spec::words(&rest(&group[0].spec, axes)))
}
