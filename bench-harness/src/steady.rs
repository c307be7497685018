//! Whether a case had settled: a figure of a load that was still getting slower is a figure of how long one waited.
//!
//! Two tests over the intervals of a round: the slope of a least-squares line, and the medians of the two halves. The first finds a
//! drift, the second a step.
//!
//! Pure.

use crate::result::{Interval, Steady};

/// Less than so many whole intervals say nothing.
const INTERVALS_MIN: usize = 4;
/// Change along the line over the whole window, as a share of the mean.
const SLOPE_MAX: f64 = 0.02;
/// Second half over first half, less one.
const HALVES_MAX: f64 = 0.03;

/// The verdict over one round.
pub(crate) fn of_round(intervals: &[Interval]) -> Steady {
    let rates: Vec<f64> = intervals.iter().map(|interval| interval.entries as f64 / interval.seconds).collect();
    let mean = rates.iter().sum::<f64>() / rates.len().max(1) as f64;
    if rates.len() < INTERVALS_MIN || mean <= 0.0 {
        return Steady { steady: false, slope: None, halves: None, verdict: "too short to tell".into() };
    }
    let slope = change_along_line(&rates) / mean;
    let (first, second) = (median(&rates[..rates.len() / 2]), median(&rates[rates.len().div_ceil(2)..]));
    // From a stop to some speed is a step without bound.
    let halves = if first > 0.0 { second / first - 1.0 } else { f64::MAX };
    let steady = slope.abs() < SLOPE_MAX && halves.abs() < HALVES_MAX;
    Steady { steady, slope: Some(slope), halves: Some(halves), verdict: verdict(steady, slope, halves) }
}

/// The verdict over all rounds of a case: the least steady one decides.
pub(crate) fn of_case(rounds: Vec<Steady>) -> Steady {
    let badness = |round: &Steady| round.slope.zip(round.halves).map_or(0.0, |(a, b)| a.abs().max(b.abs()));
    let (told, untold): (Vec<_>, Vec<_>) = rounds.into_iter().partition(|round| round.slope.is_some());
    let worst = told.into_iter().max_by(|a, b| badness(a).total_cmp(&badness(b)));
    let nothing = Steady { steady: false, slope: None, halves: None, verdict: "too short to tell".into() };
    worst.or_else(|| untold.into_iter().next()).unwrap_or(nothing)
}

fn verdict(steady: bool, slope: f64, halves: f64) -> String {
    if steady {
        return "steady".into();
    }
    let percent = slope * 100.0;
    if slope.abs() >= SLOPE_MAX {
        let way = if slope < 0.0 { "fell" } else { "rose" };
        format!("not steady: {way} by {:.0} % over the window", percent.abs())
    } else {
        format!("not steady: the second half was {:+.0} % of the first", halves * 100.0)
    }
}

/// What a least-squares line through the values gains from the first to the last.
fn change_along_line(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean_x = (n - 1.0) / 2.0;
    let mean_y = values.iter().sum::<f64>() / n;
    let (mut covariance, mut variance) = (0.0, 0.0);
    for (x, y) in values.iter().enumerate() {
        let from_mean = x as f64 - mean_x;
        covariance += from_mean * (y - mean_y);
        variance += from_mean * from_mean;
    }
    covariance / variance * (n - 1.0)
}

/// The middle of them; of an even number the mean of both.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(entries: &[u64]) -> Steady {
        let interval = |(i, entries): (usize, &u64)| Interval {
            at_s: i as f64,
            seconds: 1.0,
            entries: *entries,
            p50_us: 1.0,
            p99_us: 1.0,
        };
        of_round(&entries.iter().enumerate().map(interval).collect::<Vec<_>>())
    }

    #[test]
    fn an_even_load_is_steady_and_small_noise_does_not_hide_that() {
        assert!(round(&[1000; 6]).steady);
        assert!(round(&[1000, 1004, 998, 1001, 1003, 999]).steady);
    }

    #[test]
    fn a_drift_is_told_with_its_direction_and_size() {
        let falls = round(&[1000, 980, 960, 940, 920, 900]);
        assert!(!falls.steady);
        assert_eq!(falls.verdict, "not steady: fell by 11 % over the window");
        assert!(round(&[900, 920, 940, 960, 980, 1000]).verdict.contains("rose by 11 %"));
    }

    #[test]
    fn one_stall_in_the_middle_is_no_drift_and_a_step_is() {
        assert!(round(&[1000, 1000, 0, 0, 1000, 1000]).steady);
        assert!(!round(&[1000, 1000, 1000, 1100, 1100, 1100]).steady);
    }

    #[test]
    fn a_short_round_is_not_called_steady() {
        let short = round(&[1000, 1000, 1000]);
        assert!(!short.steady && short.slope.is_none() && short.verdict == "too short to tell");
        assert!(round(&[0; 8]).slope.is_none());
    }

    #[test]
    fn the_least_steady_round_decides() {
        let rounds = vec![round(&[1000; 6]), round(&[1000, 900, 800, 700, 600, 500]), round(&[5; 2])];
        assert!(of_case(rounds).verdict.contains("fell by"));
        assert!(of_case(vec![round(&[1000; 6]), round(&[1; 1])]).steady);
        assert_eq!(of_case(Vec::new()).verdict, "too short to tell");
    }
}
