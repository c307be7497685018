//! What a run says: one JSON document, `schema.json` beside it, and the numbers of everything that is shown elsewhere.
//!
//! ```text
//!   Outcome -- host, plan, noise
//!      `-- cases[] -- spec (what was asked)
//!             |-- rounds[] -- one turn of it, with the floor that was measured beside that turn
//!             |-- response, service -- latencies of all rounds; interval log for mergers
//!             |-- cost, checks, steady, lag
//!      `-- ratios[] -- peers: pair by pair, with an interval
//! ```
//!
//! Units stand in the names: `_us` microseconds, `_bytes`, `_per_s` a second of wall clock. What could not be measured is `null`, never 0.

use serde::{Deserialize, Serialize};

use crate::host::HostFacts;

/// Raised when a field changes its meaning; fields may be added without.
pub(crate) const SCHEMA: u32 = 2;

/// The target that is ours.
pub(crate) const OURS: &str = "walrus-node";

/// One run of the instrument.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) schema: u32,
    pub(crate) tool: String,
    pub(crate) version: String,
    /// `run`, `sweep`, `device`, `peers` or `merge`.
    pub(crate) kind: String,
    pub(crate) smoke: bool,
    /// Built with optimisations: a figure of another build says nothing.
    pub(crate) release: bool,
    /// Seconds since 1970 at the start.
    pub(crate) started_unix_s: u64,
    pub(crate) seconds: f64,
    pub(crate) seed: u64,
    pub(crate) host: HostFacts,
    /// The plan as it was understood, in TOML.
    pub(crate) plan: String,
    pub(crate) noise: Noise,
    /// The device alone, as the floors of all rounds say: by name (`4 KiB, depth 1`), the median.
    pub(crate) device: Vec<FloorFigure>,
    pub(crate) cases: Vec<Case>,
    /// Cases that were begun and of which nothing was measured.
    #[serde(default)]
    pub(crate) lost: Vec<Lost>,
    /// Ours against each peer, case by case; empty without peers.
    pub(crate) ratios: Vec<Ratio>,
    /// What a reader should know before he believes a figure.
    pub(crate) notes: Vec<String>,
}

/// What else went on while this was measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Noise {
    /// Any of the below was high: the word stands beside the figures.
    pub(crate) noisy: bool,
    /// Share of the time in which some task waited for the CPU or for I/O that was not ours to cause, by /proc/pressure.
    pub(crate) cpu_pressure: Option<f64>,
    pub(crate) io_pressure: Option<f64>,
    /// Share of the time that the hypervisor gave to others.
    pub(crate) steal: Option<f64>,
    /// Highest over lowest depth-1 floor of the run.
    pub(crate) floor_spread: Option<f64>,
}

/// What the device did without any log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FloorFigure {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) depth: u32,
    /// Writes a second: each of them durable when it completes, or of a sequential floor all of them by one flush at the end.
    pub(crate) per_s: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) is_direct: bool,
}

/// What was asked of a target. Two cases of different runs are the same case when their `id` is the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// `durable`, `written`, `read` or `open`.
    pub(crate) kind: String,
    pub(crate) payload_bytes: u64,
    /// Entries of a batch; 1 is a lone append.
    pub(crate) batch: u32,
    /// Threads that append.
    pub(crate) producers: u32,
    /// Batches that each of them keeps in flight.
    pub(crate) outstanding: u32,
    pub(crate) topics: u32,
    /// `auto`, `uring`, `syscall` or `mmap`; a peer has its own.
    pub(crate) io: String,
    pub(crate) followers: u32,
    /// Over a connection on loopback, not in this process.
    pub(crate) network: bool,
    /// Batches a second that are offered, all producers together; `None` is a closed loop.
    pub(crate) rate_per_s: Option<f64>,
    /// `uniform` or `poisson`, of an open loop.
    pub(crate) arrivals: Option<String>,
}

/// One target under one load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Case {
    /// Of target and spec, for people and for `compare`: `walrus-node durable 256B x64thr`.
    pub(crate) id: String,
    /// `walrus-node`, or a peer's name and version.
    pub(crate) target: String,
    /// How the target was set up, in words that let somebody else do it again.
    pub(crate) settings: String,
    pub(crate) spec: Spec,
    /// Medians over the rounds.
    pub(crate) entries_per_s: f64,
    pub(crate) batches_per_s: f64,
    pub(crate) mib_per_s: f64,
    /// The headline.
    pub(crate) floor: Option<FloorShare>,
    /// From the intended time to the acknowledgement, of every batch that was due within the window; in a closed loop the same as
    /// `service`.
    pub(crate) response: Option<Latency>,
    /// From the call to the acknowledgement.
    pub(crate) service: Option<Latency>,
    pub(crate) steady: Steady,
    pub(crate) cost: Cost,
    pub(crate) checks: Vec<Check>,
    pub(crate) rounds: Vec<Round>,
    /// Rounds that came to nothing; they are not among `rounds`.
    #[serde(default)]
    pub(crate) failed_rounds: u32,
    pub(crate) lag: Option<Lag>,
    /// The offered rate was not reached for the whole window: percentiles have no bound.
    pub(crate) overloaded: bool,
    /// The offered rate was looked for, not given; `None` where it was given, or where there is none.
    #[serde(default)]
    pub(crate) searched: Option<Searched>,
}

/// How a rate was found, and whether the rounds at it kept the promise for which it was looked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Searched {
    /// 99 is p99, of the response.
    pub(crate) percentile: f64,
    pub(crate) bound_us: f64,
    /// How often it was looked for: once a run, and all rounds of the run are at the rate that was found. So they say nothing of how far
    /// another search would have come, and no interval over rounds does.
    pub(crate) searches: u32,
    pub(crate) rounds_held: u32,
    /// All rounds did.
    pub(crate) holds: bool,
}

impl Searched {
    /// `does not hold p99 <= 2000 us in 1 of 3 rounds`.
    pub(crate) fn words(&self, rounds: usize) -> String {
        let Searched { percentile, bound_us, rounds_held, holds, .. } = self;
        match holds {
            true => format!("holds p{percentile} <= {bound_us} us"),
            false => {
                let not = rounds - *rounds_held as usize;
                format!("does not hold p{percentile} <= {bound_us} us in {not} of {rounds} rounds")
            }
        }
    }
}

impl Case {
    /// What was asked, for people: the id without the target. The same for every target under the same load.
    pub(crate) fn load(&self) -> &str {
        self.id.strip_prefix(&self.target).unwrap_or(&self.id).trim_start()
    }

    /// Whether its rate comes from a search. Results from before `searched` say it in the name only: `p99<=2000us`.
    pub(crate) fn rate_was_searched(&self) -> bool {
        self.searched.is_some() || self.load().contains("<=")
    }
}

/// A case that was begun and of which nothing was measured: every round failed, or no rate was found to play one at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Lost {
    /// As that of a case.
    pub(crate) id: String,
    pub(crate) target: String,
    pub(crate) failed_rounds: u32,
    /// What was said first.
    pub(crate) why: String,
}

/// A case against the floor that bounds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FloorShare {
    /// Which floor: its name among `device`.
    pub(crate) name: String,
    /// What the case did in the floor's unit (flushes, or writes, a second), and the floor; medians of the rounds.
    pub(crate) case_per_s: f64,
    pub(crate) floor_per_s: f64,
    /// Median of the rounds' own shares: each round has its floor beside it. Above 1 where one flush covers many.
    pub(crate) share: f64,
}

/// One turn of a case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Round {
    /// From 1; rounds of one number stood beside each other in the run. `None` in results from before there were numbers.
    #[serde(default)]
    pub(crate) number: Option<u32>,
    /// Acknowledged within the window.
    pub(crate) entries: u64,
    pub(crate) batches: u64,
    /// Of an open loop: batches that were due within the window. Each of them is a sample of `response`.
    #[serde(default)]
    pub(crate) due: Option<u64>,
    /// Those of them that did not go out within it: they count as having waited until they were given up, at the least.
    #[serde(default)]
    pub(crate) unsent: Option<u64>,
    pub(crate) seconds: f64,
    pub(crate) entries_per_s: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// The floor that was measured just before this round and just after it, in its unit.
    pub(crate) floor_per_s: Option<f64>,
    pub(crate) floor_share: Option<f64>,
    pub(crate) cpu_us_per_entry: Option<f64>,
    /// Second by second.
    pub(crate) intervals: Vec<Interval>,
}

/// A second of a round, or the part of one that there was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Interval {
    /// From the start of the round to the start of the interval.
    pub(crate) at_s: f64,
    pub(crate) seconds: f64,
    pub(crate) entries: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// A distribution of times.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) min_us: f64,
    pub(crate) mean_us: f64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    /// `None`: too few samples to speak of it (ten beyond the percentile are needed).
    pub(crate) p9999_us: Option<f64>,
    pub(crate) p99999_us: Option<f64>,
    pub(crate) max_us: f64,
    /// (percentile 0..100, microseconds), for the plot on an axis of nines.
    pub(crate) curve: Vec<(f64, f64)>,
    /// The whole histogram in nanoseconds, V2 deflate, base64: what `merge` adds up.
    pub(crate) hdr: String,
}

/// Whether the case had settled while it was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Steady {
    pub(crate) steady: bool,
    /// Change of throughput over the window, as a share of its mean.
    pub(crate) slope: Option<f64>,
    /// Second half over first half, less one.
    pub(crate) halves: Option<f64>,
    /// What to print: `steady`, `not steady: fell by 12 % over the window`, `too short to tell`.
    pub(crate) verdict: String,
}

/// What it cost, of this whole process unless a field says otherwise. Load generator included.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Cost {
    pub(crate) cpu_us_per_entry: Option<f64>,
    pub(crate) context_switches_per_entry: Option<f64>,
    /// System calls that the log made for its commits, by its own count.
    pub(crate) syscalls_per_group: Option<f64>,
    pub(crate) entries_per_group: Option<f64>,
    /// Of the device under the folder, by its own counters.
    pub(crate) device_writes_per_s: Option<f64>,
    pub(crate) device_flushes_per_s: Option<f64>,
    pub(crate) entries_per_flush: Option<f64>,
    /// Bytes that the device wrote for each byte of payload.
    pub(crate) write_amplification: Option<f64>,
    pub(crate) rss_bytes_max: Option<u64>,
}

/// An invariant, and whether it held. One that did not makes the run fail.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) ok: bool,
    pub(crate) detail: String,
}

/// How far followers were behind, sampled through the load.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Lag {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
    /// (second of the round, microseconds behind).
    pub(crate) timeline: Vec<(f64, f64)>,
    /// From the last acknowledgement until the last follower had everything.
    pub(crate) drained_us: f64,
    /// All samples in nanoseconds, V2 deflate, base64: what `merge` adds up.
    pub(crate) hdr: Option<String>,
}

/// Ours over a peer's, in the same run, pair by pair.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ratio {
    /// The case's id without the target.
    pub(crate) case: String,
    pub(crate) peer: String,
    /// Of what: `entries_per_s`, `cpu_us_per_entry`.
    pub(crate) of: String,
    pub(crate) median: f64,
    /// Over the pairs: 95 % by bootstrap, of fewer than six pairs their range; `None` with fewer than three, and where rates were searched.
    pub(crate) low: Option<f64>,
    pub(crate) high: Option<f64>,
    pub(crate) pairs: u32,
    /// The rates of both were searched, once each: what another search would have found is not in the pairs, so there is no interval.
    #[serde(default)]
    pub(crate) searched: bool,
}

#[cfg(test)]
mod tests;
