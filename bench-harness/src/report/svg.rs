//! Plots as SVG: two axes, lines, and dots that say what they are when pointed at.
//!
//! ```text
//!   Plot { x: Axis, y: Axis, lines } --svg--> <svg viewBox="0 0 360 230"> grid, labels, paths, dots with <title>
//!   Strip                            --svg--> <svg> in per cent of its width: bars and whiskers, any width without distortion
//! ```
//!
//! Colours and strokes are classes: `style.css` decides, in light and in dark. A plot is drawn for about 360 pixels, the width of a phone
//! and of a column, so that its text is as large as the text around it.
//!
//! Knows nothing of: what is plotted.

use std::fmt::Write as _;

use super::html::escape;

pub(super) const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;
/// More labels would touch.
const TICKS_MAX: usize = 8;

/// A direction of a plot.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub(super) label: String,
    scale: Scale,
    min: f64,
    max: f64,
    ticks: Vec<(f64, String)>,
}

#[derive(Clone, Copy, Debug)]
enum Scale {
    Linear,
    Log,
    /// Each nine of a percentile as wide as the one before: 90, 99, 99.9.
    Nines,
}

/// One line, in pieces: it is not drawn over a gap.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    /// Classes of the stroke: `s0`, `s0 dashed`.
    pub(super) class: String,
    pub(super) pieces: Vec<Vec<(f64, f64)>>,
    pub(super) dots: Vec<Dot>,
}

/// A place on a line that tells its figures.
#[derive(Clone, Debug)]
pub(super) struct Dot {
    pub(super) at: (f64, f64),
    pub(super) title: String,
    /// Drawn always, not only when it is pointed at.
    pub(super) visible: bool,
}

/// A picture of some lines.
#[derive(Clone, Debug)]
pub(super) struct Plot {
    /// For those who hear the page.
    pub(super) label: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    /// Where thin upright lines stand: the beginnings of rounds.
    pub(super) rules: Vec<f64>,
    pub(super) lines: Vec<Line>,
}

impl Axis {
    /// From 0 to a little above `max`.
    pub(super) fn linear(label: &str, max: f64, text: impl Fn(f64) -> String) -> Axis {
        let max = if max > 0.0 && max.is_finite() { max } else { 1.0 };
        let step = nice_step(max / 4.0);
        let count = (max / step).ceil() as u32;
        let ticks = (0..=count).map(|at| f64::from(at) * step).map(|value| (value, text(value))).collect();
        Axis { label: label.into(), scale: Scale::Linear, min: 0.0, max: f64::from(count) * step, ticks }
    }

    /// Around what there is, from one round value to another; ticks at 1, 2 and 5 where there is room.
    pub(super) fn log(label: &str, values: impl IntoIterator<Item = f64>, text: impl Fn(f64) -> String) -> Axis {
        let positive = values.into_iter().filter(|value| value.is_finite() && *value > 0.0);
        let (low, high) = positive.fold((f64::MAX, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        let (low, high) = if low <= high { (low, high) } else { (1.0, 10.0) };
        let candidates = |digits: &[f64]| {
            let mut all = Vec::new();
            for exponent in low.log10().floor() as i32 - 1..=high.log10().ceil() as i32 + 1 {
                all.extend(digits.iter().map(|digit| digit * 10f64.powi(exponent)));
            }
            let from = all.iter().rposition(|value| *value <= low * 1.000_001).unwrap_or(0);
            let to = all.iter().position(|value| *value >= high * 0.999_999).unwrap_or(all.len() - 1);
            all[from..=to.max(from + 1).min(all.len() - 1)].to_vec()
        };
        // The finest of them that has room; over many powers of ten, each of these.
        let steps: [&[f64]; 2] = [&[1.0, 1.5, 2.0, 3.0, 5.0, 7.0], &[1.0, 2.0, 5.0]];
        let fits = steps.into_iter().map(candidates).find(|values| values.len() <= TICKS_MAX);
        let values = fits.unwrap_or_else(|| candidates(&[1.0]));
        let (min, max) = (values[0], values[values.len() - 1]);
        Axis {
            label: label.into(),
            scale: Scale::Log,
            min,
            max,
            ticks: values.into_iter().map(|value| (value, text(value))).collect(),
        }
    }

    /// Percentiles up to `last`, which is below 100; at least to 99.9.
    pub(super) fn nines(label: &str, last: f64) -> Axis {
        let max = last.clamp(99.9, 99.999_999_9);
        let named = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999].into_iter();
        let ticks = named.filter(|value| *value <= max + 1e-9).map(|value| (value, format!("{value}"))).collect();
        Axis { label: label.into(), scale: Scale::Nines, min: 0.0, max, ticks }
    }

    /// Places that have names of their own, evenly apart: 0, 1, 2 ...
    pub(super) fn named(label: &str, names: &[String]) -> Axis {
        let ticks = names.iter().enumerate().map(|(at, name)| (at as f64, name.clone())).collect();
        Axis { label: label.into(), scale: Scale::Linear, min: -0.25, max: names.len() as f64 - 0.75, ticks }
    }

    /// Where a value stands, from 0 to 1; what lies outside stands at the edge.
    pub(super) fn share(&self, value: f64) -> f64 {
        let nines = |value: f64| -(1.0 - value.min(self.max) / 100.0).log10();
        let place = |value: f64| match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(f64::MIN_POSITIVE).log10(),
            Scale::Nines => nines(value),
        };
        let (low, high) = (place(self.min), place(self.max));
        ((place(value) - low) / (high - low)).clamp(0.0, 1.0)
    }

    pub(super) fn ticks(&self) -> &[(f64, String)] {
        &self.ticks
    }
}

/// The largest of 1, 2, 5, 10 ... that is not above `step`, or the next one.
fn nice_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let digit = step / power;
    let nice = [1.0, 2.0, 5.0, 10.0].into_iter().find(|nice| digit <= nice * 1.000_001).unwrap_or(10.0);
    nice * power
}

impl Plot {
    pub(super) fn svg(&self) -> String {
        let mut out = String::new();
        let label = escape(&self.label);
        let _ = write!(out, r#"<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">"#);
        self.grid(&mut out);
        for line in &self.lines {
            self.line(line, &mut out);
        }
        out.push_str("</svg>");
        out
    }

    fn grid(&self, out: &mut String) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for (value, text) in &self.y.ticks {
            let y = self.y_of(*value);
            let _ = write!(out, r#"<path class="grid" d="M{LEFT} {y:.1}H{right}"/>"#);
            let _ =
                write!(out, r#"<text class="tick end" x="{}" y="{:.1}">{}</text>"#, LEFT - 6.0, y + 3.5, escape(text));
        }
        for (value, text) in &self.x.ticks {
            let x = self.x_of(*value);
            // The last label would stand half outside.
            let anchor = if x > right - 12.0 { "end" } else { "mid" };
            let x_text = if anchor == "end" { right } else { x };
            let _ = write!(out, r#"<path class="grid" d="M{x:.1} {bottom}v4"/>"#);
            let _ = write!(
                out,
                r#"<text class="tick {anchor}" x="{x_text:.1}" y="{}">{}</text>"#,
                bottom + 15.0,
                escape(text)
            );
        }
        for rule in self.rules.iter().map(|value| self.x_of(*value)) {
            let _ = write!(out, r#"<path class="rule" d="M{rule:.1} {TOP}V{bottom}"/>"#);
        }
        let middle = f64::midpoint(LEFT, right);
        let _ = write!(out, r#"<path class="axis" d="M{LEFT} {bottom}H{right}"/>"#);
        let _ =
            write!(out, r#"<text class="name mid" x="{middle}" y="{}">{}</text>"#, HEIGHT - 6.0, escape(&self.x.label));
    }

    fn line(&self, line: &Line, out: &mut String) {
        let mut path = String::new();
        for piece in &line.pieces {
            for (at, (x, y)) in piece.iter().enumerate() {
                let _ = write!(path, "{}{:.1} {:.1}", if at == 0 { 'M' } else { 'L' }, self.x_of(*x), self.y_of(*y));
            }
        }
        let class = escape(&line.class);
        if !path.is_empty() {
            let _ = write!(out, r#"<path class="line {class}" d="{path}"/>"#);
        }
        for dot in &line.dots {
            let (x, y) = (self.x_of(dot.at.0), self.y_of(dot.at.1));
            let seen = if dot.visible { " seen" } else { "" };
            // The large circle is what is pointed at, the small one is what is seen.
            let circles = format!(
                r#"<circle class="hit" cx="{x:.1}" cy="{y:.1}" r="8"/><circle cx="{x:.1}" cy="{y:.1}" r="3"/>"#
            );
            let _ = write!(out, r#"<g class="dot {class}{seen}"><title>{}</title>{circles}</g>"#, escape(&dot.title));
        }
    }

    fn x_of(&self, value: f64) -> f64 {
        LEFT + self.x.share(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y_of(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.share(value) * (HEIGHT - BOTTOM - TOP)
    }
}

/// Marks on one line, in shares of its width: as wide as the place it is put in.
#[derive(Clone, Debug, Default)]
pub(super) struct Strip {
    body: String,
}

impl Strip {
    /// A bar from the left to `share`.
    pub(super) fn bar(&mut self, share: f64, class: &str) {
        let _ = write!(
            self.body,
            r#"<rect class="{class}" x="0" y="15%" height="70%" width="{:.2}%" rx="2"/>"#,
            share.clamp(0.0, 1.0) * 100.0
        );
    }

    /// What there is does not end where the strip does.
    pub(super) fn goes_on(&mut self) {
        self.body.push_str(r#"<text class="on end" x="99%" y="72%">»</text>"#);
    }

    /// An upright line.
    pub(super) fn mark(&mut self, share: f64, class: &str) {
        let x = share.clamp(0.0, 1.0) * 100.0;
        let _ = write!(self.body, r#"<line class="{class}" x1="{x:.2}%" x2="{x:.2}%" y1="0" y2="100%"/>"#);
    }

    /// A dot, and how far to both sides it may as well lie.
    pub(super) fn whisker(&mut self, share: f64, interval: Option<(f64, f64)>, class: &str) {
        let percent = |share: f64| share.clamp(0.0, 1.0) * 100.0;
        if let Some((low, high)) = interval.map(|(low, high)| (percent(low), percent(high))) {
            let _ = write!(
                self.body,
                r#"<line class="whisker {class}" x1="{low:.2}%" x2="{high:.2}%" y1="50%" y2="50%"/>"#
            );
            for end in [low, high] {
                let _ = write!(
                    self.body,
                    r#"<line class="whisker {class}" x1="{end:.2}%" x2="{end:.2}%" y1="28%" y2="72%"/>"#
                );
            }
        }
        let _ = write!(self.body, r#"<circle class="point {class}" cx="{:.2}%" cy="50%" r="4.5"/>"#, percent(share));
    }

    /// A word below a place.
    pub(super) fn text(&mut self, share: f64, text: &str) {
        let anchor = if share < 0.04 {
            "start"
        } else if share > 0.96 {
            "end"
        } else {
            "mid"
        };
        let x = share.clamp(0.0, 1.0) * 100.0;
        let _ = write!(self.body, r#"<text class="tick {anchor}" x="{x:.2}%" y="75%">{}</text>"#, escape(text));
    }

    /// `title` is told when any of it is pointed at.
    pub(super) fn svg(&self, title: &str) -> String {
        let title = escape(title);
        format!(r#"<svg class="strip" role="img" aria-label="{title}"><title>{title}</title>{}</svg>"#, self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_nine_is_as_wide_as_the_one_before() {
        let axis = Axis::nines("percentile", 99.99);
        let places: Vec<f64> = [0.0, 90.0, 99.0, 99.9, 99.99].into_iter().map(|value| axis.share(value)).collect();
        for (at, place) in places.iter().enumerate() {
            assert!((place - at as f64 / 4.0).abs() < 1e-9, "{places:?}");
        }
        assert_eq!(axis.share(100.0), 1.0, "the maximum stands at the edge, not at infinity");
    }

    #[test]
    fn a_log_axis_holds_every_value_between_round_ends() {
        let axis = Axis::log("time", [230.0, 4_100.0], crate::figures::time_us);
        assert_eq!((axis.min, axis.max), (200.0, 5_000.0));
        let ticks: Vec<&str> = axis.ticks.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(ticks, ["200 µs", "500 µs", "1 ms", "2 ms", "5 ms"]);
        let narrow = Axis::log("time", [310.0, 490.0], crate::figures::time_us);
        assert_eq!((narrow.min, narrow.max), (300.0, 500.0));
        let wide = Axis::log("time", [3.0, 2e6], crate::figures::time_us);
        assert!((wide.min, wide.max) == (1.0, 1e7) && wide.ticks.len() == 8, "{wide:?}");
        let one = Axis::log("time", [200.0], crate::figures::time_us);
        assert!(one.min <= 200.0 && one.max > one.min);
        let none = Axis::log("time", [], crate::figures::time_us);
        assert!(none.max > none.min);
    }

    #[test]
    fn a_linear_axis_begins_at_nought_and_ends_at_a_round_value() {
        let axis = Axis::linear("entries", 411_000.0, crate::figures::short);
        assert_eq!((axis.min, axis.max), (0.0, 600_000.0));
        assert_eq!(Axis::linear("entries", 0.0, crate::figures::short).max, 1.0, "an axis of nothing is still an axis");
    }

    #[test]
    fn a_line_is_not_drawn_over_a_gap_and_a_title_cannot_end_its_element() {
        let plot = Plot {
            label: "a \"plot\"".into(),
            x: Axis::linear("s", 4.0, crate::figures::count),
            y: Axis::linear("n", 4.0, crate::figures::count),
            rules: vec![2.0],
            lines: vec![Line {
                class: "s0".into(),
                pieces: vec![vec![(0.0, 1.0), (1.0, 2.0)], vec![(2.0, 3.0), (3.0, 4.0)]],
                dots: vec![Dot { at: (1.0, 2.0), title: "</title><script>".into(), visible: false }],
            }],
        };
        let svg = plot.svg();
        let path = svg.split("class=\"line s0\" d=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!((path.matches('M').count(), path.matches('L').count()), (2, 2));
        assert!(!svg.contains("<script>") && svg.contains("&lt;script&gt;") && svg.contains("a &quot;plot&quot;"));
    }
}
