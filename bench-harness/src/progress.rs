//! How far a run is, on stderr: a bar with live throughput and p99 on a terminal, a line for each round elsewhere.
//!
//! Knows nothing of what is run.

use std::cell::RefCell;
use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::round::Played;
use crate::table::{count, time_us};

/// Where it is told.
pub(crate) struct Progress {
    /// `None`: not a terminal.
    bar: Option<ProgressBar>,
    /// The round that is being played.
    now: RefCell<String>,
}

impl Progress {
    pub(crate) fn new() -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{bar:24} {pos}/{len}  {msg}")
                .expect("a template that is known to be one");
            bar.set_style(style);
            bar
        });
        Progress { bar, now: RefCell::default() }
    }

    /// Rounds in all.
    pub(crate) fn length(&self, rounds: usize) {
        if let Some(bar) = &self.bar {
            bar.set_length(rounds as u64);
        }
    }

    /// A step that is no round.
    pub(crate) fn say(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(what.to_owned()),
            None => eprintln!("{what}"),
        }
    }

    pub(crate) fn begin(&self, name: &str, round: u32, rounds: u32) {
        let now = format!("{name}, round {round} of {rounds}");
        if let Some(bar) = &self.bar {
            bar.set_message(now.clone());
        }
        *self.now.borrow_mut() = now;
    }

    /// Throughput and p99 of the last second that is over.
    pub(crate) fn live(&self, live: Option<(f64, f64)>) {
        if let (Some(bar), Some((per_s, p99_us))) = (&self.bar, live) {
            bar.set_message(format!("{}: {}/s, p99 {}", self.now.borrow(), count(per_s), time_us(p99_us)));
        }
    }

    pub(crate) fn end(&self, played: &Played) {
        let measured = &played.measured;
        let times = if measured.response.count() > 0 { &measured.response } else { &measured.service };
        let per_s = count(measured.entries as f64 / measured.seconds);
        let [p50, p99] = [0.5, 0.99].map(|quantile| time_us(times.quantile_us(quantile)));
        self.line(&format!("{per_s}/s, p50 {p50}, p99 {p99}"));
        for check in played.checks.iter().filter(|check| !check.ok) {
            self.line(&format!("FAILED: {}: {}", check.name, check.detail));
        }
        self.step();
    }

    pub(crate) fn failed(&self, error: &anyhow::Error) {
        self.line(&format!("FAILED: {error:#}"));
        self.step();
    }

    /// Takes the bar away: what follows is the result.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn step(&self) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    fn line(&self, what: &str) {
        let line = format!("{}: {what}", self.now.borrow());
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }
}
