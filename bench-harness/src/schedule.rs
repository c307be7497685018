//! When an open loop means to send: times that follow from a seed and from nothing else, so a late one never moves those behind it.
//!
//! ```text
//!   uniform    |    |    |    |    |      the gaps are equal; producers are staggered
//!   poisson    | ||     |   |       |     the gaps are exponential, as of many callers who do not know of each other
//! ```
//!
//! Knows no clock: times are offsets from the start of the load.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How sends are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Arrivals {
    Uniform,
    Poisson,
}

impl Arrivals {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Arrivals::Uniform => "uniform",
            Arrivals::Poisson => "poisson",
        }
    }
}

/// The intended times of one producer, without end.
pub(crate) struct Schedule {
    arrivals: Arrivals,
    gap_s: f64,
    next_s: f64,
    random: fastrand::Rng,
}

impl Schedule {
    /// Producer `number` of `producers` that together send `rate_per_s`.
    pub(crate) fn new(arrivals: Arrivals, rate_per_s: f64, number: u32, producers: u32, seed: u64) -> Schedule {
        let gap_s = f64::from(producers) / rate_per_s;
        let seed = seed.rotate_left(17) ^ u64::from(number).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        let mut random = fastrand::Rng::with_seed(seed);
        let next_s = match arrivals {
            Arrivals::Uniform => gap_s * f64::from(number) / f64::from(producers),
            Arrivals::Poisson => exponential(&mut random, gap_s),
        };
        Schedule { arrivals, gap_s, next_s, random }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now_s = self.next_s;
        self.next_s += match self.arrivals {
            Arrivals::Uniform => self.gap_s,
            Arrivals::Poisson => exponential(&mut self.random, self.gap_s),
        };
        Some(Duration::from_secs_f64(now_s))
    }
}

/// One gap of a process without memory.
fn exponential(random: &mut fastrand::Rng, mean: f64) -> f64 {
    // `f64()` may be 0 and is never 1, so this is never the logarithm of 0.
    -(1.0 - random.f64()).ln() * mean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(arrivals: Arrivals, seed: u64, until: Duration) -> Vec<Duration> {
        let of = |number| Schedule::new(arrivals, 1000.0, number, 4, seed).take_while(move |at| *at < until);
        let mut times: Vec<_> = (0..4).flat_map(of).collect();
        times.sort_unstable();
        times
    }

    #[test]
    fn uniform_producers_together_send_at_equal_gaps() {
        let times = all(Arrivals::Uniform, 1, Duration::from_secs(2));
        assert_eq!(times.len(), 2000);
        assert!(times.windows(2).all(|pair| (pair[1] - pair[0]).as_micros().abs_diff(1000) <= 1));
    }

    #[test]
    fn poisson_producers_together_send_at_the_rate_and_with_the_spread_of_chance() {
        let times = all(Arrivals::Poisson, 1, Duration::from_secs(20));
        let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean * 1000.0 - 1.0).abs() < 0.03, "{mean}");
        // Of an exponential the deviation is the mean.
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.05, "{}", variance.sqrt() / mean);
    }

    #[test]
    fn the_times_follow_from_the_seed() {
        let second = Duration::from_secs(1);
        assert_eq!(all(Arrivals::Poisson, 5, second), all(Arrivals::Poisson, 5, second));
        assert_ne!(all(Arrivals::Poisson, 5, second), all(Arrivals::Poisson, 6, second));
    }
}
