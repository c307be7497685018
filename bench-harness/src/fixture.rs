//! Results for tests, made up from a seed: every field is filled, and the figures fit together.

use std::time::Duration;

use crate::host::HostFacts;
use crate::ratios;
use crate::record::Times;
use crate::result::{
    Case, Check, Cost, FloorFigure, FloorShare, Interval, Lag, Lost, Noise, OURS, Outcome, Round, SCHEMA, Searched,
    Spec, Steady,
};

/// A peer of the made-up runs.
pub(crate) const PEER: &str = "raft-engine 0.4.2";

/// Rounds of each case.
const ROUNDS: u64 = 5;
const SECONDS: u64 = 4;

/// A run with peers, a sweep over payload and batch, an open loop and a follower.
pub(crate) fn outcome() -> Outcome {
    let mut cases = vec![
        case(OURS, &spec(256, 1, 1), 7_310.0, Some(0.962)),
        case(PEER, &spec(256, 1, 1), 7_050.0, Some(0.928)),
        case(OURS, &spec(256, 1, 64), 411_000.0, Some(0.81)),
        case(PEER, &spec(256, 1, 64), 104_000.0, Some(0.43)),
        case("fjall 3.1.13", &spec(256, 1, 64), 6_190.0, Some(0.82)),
    ];
    for (payload, speed) in [(64, 4.0e6), (256, 1.6e6), (1024, 0.45e6), (4096, 0.11e6)] {
        for (batch, gain) in [(16, 0.07), (256, 1.0), (2_000, 1.9)] {
            let share = 0.5 + 0.1 * f64::from(batch).log10();
            cases.push(case(OURS, &spec(payload, batch, 1), speed * gain, Some(share)));
        }
    }
    let open = Spec { rate_per_s: Some(50_000.0), arrivals: Some("poisson".into()), ..spec(256, 1, 16) };
    let mut overloaded = Case { overloaded: true, ..case(OURS, &open, 41_000.0, Some(0.3)) };
    overloaded.rounds.iter_mut().for_each(|round| (round.due, round.unsent) = (Some(200_000), Some(36_000)));
    cases.push(overloaded);
    let mirrored = Spec { followers: 2, network: true, outstanding: 64, ..spec(256, 256, 1) };
    let searched = Some(searched(true));
    cases.push(Case { lag: Some(lag()), searched, ..case(OURS, &mirrored, 900_000.0, Some(0.5)) });
    Outcome {
        schema: SCHEMA,
        tool: "walrus-bench".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        kind: "peers".into(),
        smoke: false,
        release: true,
        started_unix_s: 1_795_342_323,
        seconds: 312.4,
        seed: 8,
        host: host(),
        plan: "[load]\npayload = [64, 256, 1024, 4096]\nbatch = [16, 256, 2000]\n".into(),
        noise: Noise {
            noisy: false,
            cpu_pressure: Some(0.004),
            io_pressure: Some(0.01),
            steal: Some(0.002),
            floor_spread: Some(1.09),
        },
        device: device(),
        ratios: ratios::of(&[&cases]),
        cases,
        lost: Vec::new(),
        notes: vec!["walrus-rust refuses batches above 2,000 entries: left out".into()],
    }
}

/// All rounds of a case faster or slower: throughput and the share of the floor with it.
pub(crate) fn scale_entries_per_s(case: &mut Case, by: f64) {
    case.entries_per_s *= by;
    for round in &mut case.rounds {
        round.entries_per_s *= by;
        round.entries = (round.entries as f64 * by) as u64;
        round.floor_share = round.floor_share.map(|share| share * by);
    }
}

/// The device beside a case faster or slower: its figures, and the share the other way.
pub(crate) fn scale_floor(case: &mut Case, by: f64) {
    for round in &mut case.rounds {
        round.floor_per_s = round.floor_per_s.map(|floor| floor * by);
        round.floor_share = round.floor_share.map(|share| share / by);
    }
}

pub(crate) fn spec(payload_bytes: u64, batch: u32, producers: u32) -> Spec {
    Spec {
        kind: "durable".into(),
        payload_bytes,
        batch,
        producers,
        outstanding: 1,
        topics: 1,
        io: "auto".into(),
        followers: 0,
        network: false,
        rate_per_s: None,
        arrivals: None,
    }
}

pub(crate) fn case(target: &str, spec: &Spec, entries_per_s: f64, share: Option<f64>) -> Case {
    let mut chance = Chance(entries_per_s.to_bits() ^ target.len() as u64);
    let per_s = |share: f64| entries_per_s / f64::from(spec.batch) / f64::from(spec.producers) / share;
    let p50_us = 1e6 * f64::from(spec.batch) * f64::from(spec.producers) / entries_per_s;
    let rounds: Vec<Round> =
        (0..ROUNDS).map(|_| round(entries_per_s, p50_us, share, share.map(per_s), &mut chance)).collect();
    let number = |(round, number)| Round { number: Some(number), ..round };
    let rounds: Vec<Round> = rounds.into_iter().zip(1..).map(number).collect();
    let service = distribution(p50_us, 1.0, &mut chance);
    let response = distribution(p50_us, if spec.rate_per_s.is_some() { 9.0 } else { 1.0 }, &mut chance);
    Case {
        id: format!("{target} {}", load(spec)),
        target: target.into(),
        settings: "io uring, flush fdatasync, 64 MiB segments".into(),
        spec: spec.clone(),
        entries_per_s,
        batches_per_s: entries_per_s / f64::from(spec.batch),
        mib_per_s: entries_per_s * spec.payload_bytes as f64 / f64::from(1 << 20),
        floor: share.map(|share| FloorShare {
            name: "4 KiB, depth 1".into(),
            case_per_s: per_s(1.0),
            floor_per_s: per_s(share),
            share,
        }),
        response: response.latency(),
        service: service.latency(),
        steady: Steady { steady: true, slope: Some(0.004), halves: Some(-0.002), verdict: "steady".into() },
        cost: Cost {
            cpu_us_per_entry: Some(2.1e6 / entries_per_s),
            context_switches_per_entry: Some(0.04),
            syscalls_per_group: Some(1.7),
            entries_per_group: Some(f64::from(spec.batch * spec.producers)),
            device_writes_per_s: Some(7_300.0),
            device_flushes_per_s: Some(7_300.0),
            entries_per_flush: Some(f64::from(spec.batch * spec.producers)),
            write_amplification: Some(1.2),
            rss_bytes_max: Some(74 << 20),
        },
        checks: vec![Check {
            name: "read back equals what was appended".into(),
            ok: true,
            detail: "1,644,000 entries".into(),
        }],
        rounds,
        failed_rounds: 0,
        lag: None,
        overloaded: false,
        searched: None,
    }
}

/// A case as it is told when every round of it failed.
pub(crate) fn lost(case: &Case) -> Lost {
    Lost {
        id: case.id.clone(),
        target: case.target.clone(),
        failed_rounds: ROUNDS as u32,
        why: "round 1: no disk".into(),
    }
}

/// A rate that was looked for; its rounds kept the promise, or one of them did not.
pub(crate) fn searched(holds: bool) -> Searched {
    let rounds_held = ROUNDS as u32 - u32::from(!holds);
    Searched { percentile: 99.0, bound_us: 2_000.0, searches: 1, rounds_held, holds }
}

fn load(spec: &Spec) -> String {
    let rate = spec.rate_per_s.map_or(String::new(), |rate| format!(" @{rate}/s"));
    let followers = if spec.followers > 0 { format!(" +{}fol", spec.followers) } else { String::new() };
    format!("{} {}B b{} x{}thr{followers}{rate}", spec.kind, spec.payload_bytes, spec.batch, spec.producers)
}

fn round(entries_per_s: f64, p50_us: f64, share: Option<f64>, floor: Option<f64>, chance: &mut Chance) -> Round {
    let speed = 1.0 + 0.015 * chance.signed();
    let intervals: Vec<Interval> = (0..SECONDS)
        .map(|second| {
            let speed = speed + 0.03 * chance.signed();
            Interval {
                at_s: second as f64,
                seconds: 1.0,
                entries: (entries_per_s * speed) as u64,
                p50_us: p50_us / speed,
                p99_us: p50_us * (2.2 + 0.4 * chance.signed()),
            }
        })
        .collect();
    Round {
        number: None,
        entries: intervals.iter().map(|interval| interval.entries).sum(),
        batches: intervals.iter().map(|interval| interval.entries).sum(),
        due: None,
        unsent: None,
        seconds: SECONDS as f64,
        entries_per_s: entries_per_s * speed,
        p50_us: p50_us / speed,
        p99_us: p50_us * 2.2 / speed,
        floor_per_s: floor,
        floor_share: share.map(|share| share * speed),
        cpu_us_per_entry: Some(2.1e6 / entries_per_s / speed),
        intervals,
    }
}

/// Most near the median, a tail, and a few far out.
fn distribution(p50_us: f64, tail: f64, chance: &mut Chance) -> Times {
    let mut times = Times::new();
    for _ in 0..20_000 {
        let rare = -(chance.share() + 1e-9).ln() / 9.0;
        let us = p50_us * (0.92 + 0.16 * chance.share()) * (1.0 + tail * rare.powi(3));
        times.record(us_of(us));
    }
    times
}

fn us_of(us: f64) -> Duration {
    Duration::from_nanos((us * 1e3) as u64)
}

fn lag() -> Lag {
    let mut chance = Chance(3);
    let mut samples = Times::new();
    let timeline: Vec<(f64, f64)> = (0..80)
        .map(|at| {
            let us = 320.0 * (1.0 + 0.3 * chance.signed()) + if at == 41 { 9_000.0 } else { 0.0 };
            samples.record(us_of(us));
            (f64::from(at) * 0.05, us)
        })
        .collect();
    let all = samples.latency().expect("it has samples");
    Lag { p50_us: all.p50_us, p99_us: all.p99_us, max_us: all.max_us, timeline, drained_us: 710.0, hdr: Some(all.hdr) }
}

fn device() -> Vec<FloorFigure> {
    let figure = |name: &str, bytes, depth, per_s: f64| FloorFigure {
        name: name.into(),
        bytes,
        depth,
        per_s,
        p50_us: 1e6 * f64::from(depth) / per_s,
        p99_us: 2e6 * f64::from(depth) / per_s,
        is_direct: true,
    };
    vec![
        figure("4 KiB, depth 1", 4 << 10, 1, 7_600.0),
        figure("64 KiB, depth 1", 64 << 10, 1, 7_251.0),
        figure("64 KiB, depth 4", 64 << 10, 4, 14_400.0),
        figure("1 MiB, sequential", 1 << 20, 1, 1_790.0),
    ]
}

fn host() -> HostFacts {
    // By way of JSON, so that facts may be added without this file.
    let facts = serde_json::json!({
        "cpu": "AMD EPYC 7B13", "cores": 2, "memory_bytes": 25_000_000_000_u64, "kernel": "6.18.1", "virtualisation": "kvm",
        "directory": "/data/bench", "file_system": "ext4", "mount_options": "rw,relatime", "device": "/dev/vda",
        "device_model": "virtio-blk", "write_cache": "write back", "fua": "0", "scheduler": "none", "limits": "nofile 1048576",
    });
    serde_json::from_value(facts).expect("the facts have these names")
}

/// Xorshift: the same made-up run everywhere.
struct Chance(u64);

impl Chance {
    fn share(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn signed(&mut self) -> f64 {
        self.share() * 2.0 - 1.0
    }
}
