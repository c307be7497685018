//! What else went on: pressure in moments in which this run rests, time that the hypervisor kept, and how far the floors lie apart.
//!
//! While a load runs, tasks wait for processor and device because of the load. So pressure is looked at before each round, for a moment
//! in which nothing of this run is under way: what waits then is somebody else.
//!
//! Knows /proc and nothing of loads.

use std::thread;
use std::time::{Duration, Instant};

use crate::floor::QUIET_RATIO;
use crate::result::Noise;

/// How long this run rests to hear the others.
pub(crate) const REST: Duration = Duration::from_millis(100);
pub(crate) const REST_SMOKE: Duration = Duration::from_millis(5);
/// More of the time than this, and figures are called noisy.
const SHARE_MAX: f64 = 0.05;

/// What has been heard so far.
pub(crate) struct Listening {
    rested: Duration,
    cpu: Option<Duration>,
    io: Option<Duration>,
    cpu_times: Option<CpuTimes>,
}

impl Listening {
    pub(crate) fn begin() -> Listening {
        let nothing = Some(Duration::ZERO);
        Listening { rested: Duration::ZERO, cpu: nothing, io: nothing, cpu_times: cpu_times() }
    }

    /// Rests for a moment, and listens.
    pub(crate) fn rest(&mut self, time: Duration) {
        let (start, before) = (Instant::now(), [waited("cpu"), waited("io")]);
        thread::sleep(time);
        let after = [waited("cpu"), waited("io")];
        self.rested += start.elapsed();
        for ((sum, before), after) in [&mut self.cpu, &mut self.io].into_iter().zip(before).zip(after) {
            let more = after.zip(before).map(|(after, before)| after.saturating_sub(before));
            *sum = sum.zip(more).map(|(sum, more)| sum + more);
        }
    }

    /// The verdict, with what the floors said.
    pub(crate) fn noise(&self, floor_spread: Option<f64>) -> Noise {
        let share = |waited: Option<Duration>| {
            waited.filter(|_| !self.rested.is_zero()).map(|waited| waited.div_duration_f64(self.rested))
        };
        let steal = self.cpu_times.zip(cpu_times()).and_then(|(before, after)| steal(before, after));
        verdict(Noise { noisy: false, cpu_pressure: share(self.cpu), io_pressure: share(self.io), steal, floor_spread })
    }
}

fn verdict(noise: Noise) -> Noise {
    let shares = [noise.cpu_pressure, noise.io_pressure, noise.steal];
    let is_high = shares.iter().flatten().any(|share| *share > SHARE_MAX);
    let is_restless = noise.floor_spread.is_some_and(|spread| spread > QUIET_RATIO);
    Noise { noisy: is_high || is_restless, ..noise }
}

/// How long, since the machine started, at least one task waited: `some avg10=0.00 avg60=0.00 avg300=0.00 total=4176730`.
fn waited(what: &str) -> Option<Duration> {
    total(&std::fs::read_to_string(format!("/proc/pressure/{what}")).ok()?)
}

fn total(pressure: &str) -> Option<Duration> {
    let some = pressure.lines().find(|line| line.starts_with("some "))?;
    let us = some.split_whitespace().find_map(|field| field.strip_prefix("total="))?;
    us.parse().ok().map(Duration::from_micros)
}

/// Of all processors together, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CpuTimes {
    all: u64,
    stolen: u64,
}

fn cpu_times() -> Option<CpuTimes> {
    parse_cpu_times(&std::fs::read_to_string("/proc/stat").ok()?)
}

/// `cpu  user nice system idle iowait irq softirq steal guest guest_nice`: guests are counted in user already.
fn parse_cpu_times(stat: &str) -> Option<CpuTimes> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|field| field.parse().ok()).collect();
    (ticks.len() == 8).then(|| CpuTimes { all: ticks.iter().sum(), stolen: ticks[7] })
}

fn steal(before: CpuTimes, after: CpuTimes) -> Option<f64> {
    let all = after.all.checked_sub(before.all).filter(|all| *all > 0)?;
    Some(after.stolen.saturating_sub(before.stolen) as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read_as_they_are_written() {
        let pressure = "some avg10=0.69 avg60=0.43 avg300=0.53 total=4176730\nfull avg10=0.00 total=7\n";
        assert_eq!(total(pressure), Some(Duration::from_micros(4_176_730)));
        let stat = "cpu  6231 0 1965 57925 211 0 36 9 5 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(parse_cpu_times(stat), Some(CpuTimes { all: 66377, stolen: 9 }));
        assert_eq!((total("nothing"), parse_cpu_times("cpu  1 2 3\n")), (None, None));
    }

    #[test]
    fn steal_is_the_share_of_the_ticks_between_two_looks() {
        let at = |all, stolen| CpuTimes { all, stolen };
        assert_eq!(steal(at(100, 5), at(300, 25)), Some(0.1));
        assert_eq!(steal(at(100, 5), at(100, 5)), None);
    }

    #[test]
    fn one_high_figure_makes_a_run_noisy_and_an_unknown_one_does_not() {
        let quiet = Noise { cpu_pressure: Some(0.01), floor_spread: Some(1.2), ..Noise::default() };
        assert!(!verdict(quiet.clone()).noisy && !verdict(Noise::default()).noisy);
        assert!(verdict(Noise { steal: Some(0.2), ..quiet.clone() }).noisy);
        assert!(verdict(Noise { io_pressure: Some(0.06), ..quiet.clone() }).noisy);
        assert!(verdict(Noise { floor_spread: Some(1.6), ..quiet }).noisy);
    }
}
