//! Few numbers, said with how sure they are: medians, and ratios of them with a confidence interval.
//!
//! ```text
//!   pairs (ours, peer), round by round     --ratio_of_pairs-->  Estimate --judge--> better, worse, no difference
//!   two groups of rounds, of two runs      --ratio_of_groups->  value, low..high
//! ```
//!
//! The interval is a bootstrap: draw as many rounds with replacement as there are, take the median, two thousand times; 95 % of what came.
//! It has a fixed seed: the same rounds always give the same words.
//!
//! With fewer than six rounds it is no 95 % interval, and is not called one. Of pairs it is then the range of what was seen, lowest to
//! highest, for a draw of one round again and again is not rare enough to be cut off; of three that holds the true median three times of
//! four. Of two groups of four or five it lies within their range.
//!
//! Knows nothing of: cases, files.

use serde::Serialize;

/// Fewer rounds than this say nothing about chance.
pub(crate) const ROUNDS_MIN: usize = 3;

/// From so many rounds on, the interval is what 95 % means.
const ROUNDS_FOR_95: u32 = 6;

const DRAWS: usize = 2_000;
const SEED: u64 = 0x5EED_0F00_BE7C_4E55;

/// A ratio, and where it may as well lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Estimate {
    pub(crate) value: f64,
    /// Both ends, of what [`interval_name`] says; `None` with fewer than three rounds.
    pub(crate) low: Option<f64>,
    pub(crate) high: Option<f64>,
    /// Rounds, of the side that has fewer.
    pub(crate) rounds: u32,
}

/// What an estimate says about a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Better,
    Worse,
    /// The interval reaches into what is called the same.
    NoDifference,
    /// Fewer than three rounds on one side.
    TooFewRounds,
}

/// What the interval over so many rounds is.
pub(crate) fn interval_name(rounds: u32) -> &'static str {
    if rounds < ROUNDS_FOR_95 { "range" } else { "95 %" }
}

/// Which way is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// The middle value, or the mean of both middle ones. Values that are no numbers are left out.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    median_of_sorted(&sorted)
}

/// The median of `ours / theirs` over pairs of the same round.
pub(crate) fn ratio_of_pairs(pairs: &[(f64, f64)]) -> Option<Estimate> {
    let ratios: Vec<f64> = pairs.iter().filter(|pair| is_ratio(**pair)).map(|(ours, theirs)| ours / theirs).collect();
    let value = median(ratios.iter().copied())?;
    let mut chance = Chance(SEED);
    Some(estimate(value, ratios.len(), || drawn_median(&ratios, &mut chance)))
}

/// The median of `b` over the median of `a`, for rounds that have no partner: those of two runs.
pub(crate) fn ratio_of_groups(a: &[f64], b: &[f64]) -> Option<Estimate> {
    let positive = |values: &[f64]| values.iter().copied().filter(|v| v.is_finite() && *v > 0.0).collect::<Vec<_>>();
    let (a, b) = (positive(a), positive(b));
    let value = median(b.iter().copied())? / median(a.iter().copied())?;
    let mut chance = Chance(SEED);
    Some(estimate(value, a.len().min(b.len()), || drawn_median(&b, &mut chance) / drawn_median(&a, &mut chance)))
}

impl Estimate {
    /// Changed only if the whole interval lies beyond `threshold` (0.05: 5 %) on one side of 1.
    pub(crate) fn judge(&self, threshold: f64, better: Better) -> Verdict {
        let (Some(low), Some(high)) = (self.low, self.high) else { return Verdict::TooFewRounds };
        let (up, down) = match better {
            Better::Higher => (Verdict::Better, Verdict::Worse),
            Better::Lower => (Verdict::Worse, Verdict::Better),
        };
        match () {
            () if low > 1.0 + threshold => up,
            () if high < 1.0 - threshold => down,
            () => Verdict::NoDifference,
        }
    }
}

fn is_ratio((ours, theirs): (f64, f64)) -> bool {
    ours.is_finite() && theirs.is_finite() && ours > 0.0 && theirs > 0.0
}

fn estimate(value: f64, rounds: usize, draw: impl FnMut() -> f64) -> Estimate {
    let mut interval = (None, None);
    if rounds >= ROUNDS_MIN {
        let mut drawn: Vec<f64> = std::iter::repeat_with(draw).take(DRAWS).collect();
        drawn.sort_unstable_by(f64::total_cmp);
        interval = (Some(drawn[DRAWS * 25 / 1000]), Some(drawn[DRAWS * 975 / 1000 - 1]));
    }
    Estimate { value, low: interval.0, high: interval.1, rounds: u32::try_from(rounds).unwrap_or(u32::MAX) }
}

/// The median of as many values as there are, drawn with replacement. `values` is not empty.
fn drawn_median(values: &[f64], chance: &mut Chance) -> f64 {
    let mut drawn: Vec<f64> = values.iter().map(|_| values[chance.below(values.len())]).collect();
    drawn.sort_unstable_by(f64::total_cmp);
    median_of_sorted(&drawn).unwrap_or(f64::NAN)
}

fn median_of_sorted(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        len if len % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// SplitMix64: good enough to draw rounds by, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` values around `mean`, up to `spread` (a share of it) away.
    fn around(mean: f64, spread: f64, count: usize, seed: u64) -> Vec<f64> {
        let mut chance = Chance(seed);
        (0..count).map(|_| mean * (1.0 + spread * (chance.below(2_001) as f64 / 1_000.0 - 1.0))).collect()
    }

    #[test]
    fn the_median_is_the_middle_and_leaves_out_what_is_no_number() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median([f64::NAN, 7.0, f64::INFINITY]), Some(7.0));
        assert_eq!(median([]), None);
    }

    #[test]
    fn a_ratio_of_pairs_is_not_moved_by_a_drift_that_both_sides_saw() {
        let drift = [1.0, 1.4, 0.7, 1.1, 0.9];
        let pairs: Vec<(f64, f64)> = drift.iter().map(|speed| (200.0 * speed, 100.0 * speed)).collect();
        let ratio = ratio_of_pairs(&pairs).unwrap();
        let within = |end: Option<f64>| (end.unwrap() - 2.0).abs() < 1e-12;
        assert!((ratio.value - 2.0).abs() < 1e-12 && within(ratio.low) && within(ratio.high), "{ratio:?}");
        assert_eq!(ratio.rounds, 5);
    }

    #[test]
    fn two_rounds_give_a_ratio_but_no_interval_and_no_verdict() {
        let ratio = ratio_of_pairs(&[(1.0, 2.0), (1.0, 2.0)]).unwrap();
        assert_eq!((ratio.value, ratio.low, ratio.high), (0.5, None, None));
        assert_eq!(ratio.judge(0.05, Better::Higher), Verdict::TooFewRounds);
        assert_eq!(ratio_of_pairs(&[(0.0, 1.0), (1.0, 0.0)]), None, "a round in which nothing happened has no ratio");
    }

    #[test]
    fn of_fewer_than_six_pairs_the_interval_is_their_range_and_is_called_so() {
        for rounds in 3..12 {
            let pairs: Vec<(f64, f64)> = (0..rounds).map(|at| (1.0 + f64::from(at), 1.0)).collect();
            let ratio = ratio_of_pairs(&pairs).unwrap();
            let is_range = (ratio.low, ratio.high) == (Some(1.0), Some(f64::from(rounds)));
            assert_eq!(is_range, rounds < 6, "{rounds}: {ratio:?}");
            assert_eq!(interval_name(ratio.rounds), if is_range { "range" } else { "95 %" });
        }
    }

    #[test]
    fn the_interval_holds_the_true_ratio_nineteen_times_of_twenty() {
        // With eleven rounds a side and an even spread of 10 %. A percentile bootstrap of a median is close to, not at, its nominal 95 %.
        let held = (0..400_u64).filter(|trial| {
            let (a, b) = (around(100.0, 0.1, 11, trial * 2 + 1), around(120.0, 0.1, 11, trial * 2 + 2));
            let ratio = ratio_of_groups(&a, &b).unwrap();
            ratio.low.unwrap() <= 1.2 && 1.2 <= ratio.high.unwrap()
        });
        let share = held.count() as f64 / 400.0;
        assert!((0.90..=0.995).contains(&share), "{share}");
    }

    #[test]
    fn a_change_is_one_only_if_the_whole_interval_lies_beyond_the_threshold() {
        let estimate =
            |low, high| Estimate { value: f64::midpoint(low, high), low: Some(low), high: Some(high), rounds: 5 };
        assert_eq!(estimate(0.90, 0.94).judge(0.05, Better::Higher), Verdict::Worse);
        assert_eq!(estimate(0.90, 0.94).judge(0.05, Better::Lower), Verdict::Better);
        assert_eq!(estimate(0.90, 0.96).judge(0.05, Better::Higher), Verdict::NoDifference);
        assert_eq!(estimate(1.06, 1.20).judge(0.05, Better::Higher), Verdict::Better);
        assert_eq!(estimate(1.04, 1.20).judge(0.05, Better::Higher), Verdict::NoDifference);
        assert_eq!(estimate(0.60, 1.70).judge(0.05, Better::Lower), Verdict::NoDifference);
    }

    #[test]
    fn ten_percent_is_seen_through_two_percent_of_noise_and_half_a_percent_is_not() {
        let verdict = |change: f64, seed: u64| {
            let (a, b) = (around(100.0, 0.02, 5, seed), around(100.0 * change, 0.02, 5, seed + 1_000));
            ratio_of_groups(&a, &b).unwrap().judge(0.05, Better::Higher)
        };
        for seed in 0..100 {
            assert_eq!(verdict(0.90, seed), Verdict::Worse, "seed {seed}");
            assert_eq!(verdict(0.995, seed), Verdict::NoDifference, "seed {seed}");
            assert_eq!(verdict(1.12, seed), Verdict::Better, "seed {seed}");
        }
    }

    #[test]
    fn the_same_rounds_give_the_same_interval_every_time() {
        let (a, b) = (around(10.0, 0.3, 7, 1), around(11.0, 0.3, 7, 2));
        assert_eq!(ratio_of_groups(&a, &b), ratio_of_groups(&a, &b));
    }
}
