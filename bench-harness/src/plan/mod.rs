//! A plan: which cases are run, in TOML.
//!
//! ```toml
//! [load]                          # what all cases have in common
//! payload = 256
//! duration = "5s"
//!
//! [[case]]                        # 6 cases: each list is an axis, and every combination a case
//! producers = [1, 16, 64]
//! io = ["uring", "syscall"]
//! ```
//!
//! Without `[[case]]`, `[load]` is the one that is run. What is wrong in a plan is said with the key and the line, before anything is run.
//!
//! Pure: knows no files, no targets, no devices.

pub(crate) mod check;
mod keys;
mod name;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::result::Spec;
use keys::{Axis, Keys, Rate, Size, Time};

/// The plans that come with the program; one can be named instead of a file.
pub(crate) const BUNDLED: &[(&str, &str)] = &[
    ("canonical", include_str!("../../plans/canonical.toml")),
    ("network", include_str!("../../plans/network.toml")),
    ("network-threads", include_str!("../../plans/network-threads.toml")),
    ("smoke", include_str!("../../plans/smoke.toml")),
    ("sweep", include_str!("../../plans/sweep.toml")),
];

/// Of each floor, where the plan does not say.
pub(crate) const FLOOR_TIME: Duration = Duration::from_millis(400);
const DURATION: Duration = Duration::from_secs(5);
const WARMUP: Duration = Duration::from_secs(1);
const ROUNDS: u32 = 3;
const FILL_BYTES: u64 = 256 << 20;

/// Everything that a run does, in the order of its file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    /// How long each floor is measured, before and after each round.
    pub(crate) floor_time: Duration,
    pub(crate) cases: Vec<CasePlan>,
}

/// One case, with nothing left open.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CasePlan {
    pub(crate) spec: Spec,
    pub(crate) duration: Duration,
    pub(crate) warmup: Duration,
    pub(crate) rounds: u32,
    /// Payload that is in the log before it is read back, or opened.
    pub(crate) fill_bytes: u64,
    /// Look for the highest rate that holds this.
    pub(crate) slo: Option<Slo>,
}

/// A promise about response times: `slo = { p99_us = 2000 }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Slo {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p50_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p99_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p999_us: Option<f64>,
}

impl Slo {
    /// Which quantile, and how many microseconds at most.
    pub(crate) fn bound(&self) -> (f64, f64) {
        let told = [(0.5, self.p50_us), (0.99, self.p99_us), (0.999, self.p999_us)];
        let mut told = told.into_iter().filter_map(|(quantile, us)| Some((quantile, us?)));
        told.next().expect("one is named: it was checked")
    }

    fn name(&self) -> String {
        let (quantile, us) = self.bound();
        format!("p{}<={us}us", (quantile * 1000.0).round() / 10.0)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    floor: Option<Time>,
    #[serde(default)]
    load: Keys,
    #[serde(default)]
    case: Vec<Keys>,
}

/// What the command line says besides the plan.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    pub(crate) only: Option<String>,
    pub(crate) rounds: Option<u32>,
    pub(crate) duration: Option<Duration>,
    /// Instead of `auto`.
    pub(crate) io: Option<String>,
    /// Make everything short: it is looked at whether it works, not how fast.
    pub(crate) shrink: bool,
}

impl Plan {
    /// # Errors
    /// Unknown keys, impossible values and combinations that make no sense, with the key.
    pub(crate) fn parse(text: &str) -> Result<Plan> {
        let file: File = toml::from_str(text)?;
        let sets = if file.case.is_empty() { vec![Keys::default()] } else { file.case };
        let mut cases = Vec::new();
        for (i, set) in sets.iter().enumerate() {
            let keys = set.over(&file.load);
            let of_set = expand(&keys).with_context(|| format!("case {} of {}", i + 1, sets.len()))?;
            cases.extend(of_set);
        }
        let mut ids: Vec<String> = cases.iter().map(CasePlan::name).collect();
        ids.sort_unstable();
        if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            bail!("two cases are the same: {}", pair[0]);
        }
        let floor_time = file.floor.map_or(FLOOR_TIME, |time| time.0);
        check::floor_time("floor", floor_time)?;
        Ok(Plan { floor_time, cases })
    }

    /// The same with what the command line says.
    ///
    /// # Errors
    /// Nothing is left, or what is left makes no sense.
    pub(crate) fn with(mut self, overrides: &Overrides) -> Result<Plan> {
        for case in &mut self.cases {
            case.rounds = overrides.rounds.unwrap_or(case.rounds);
            case.duration = overrides.duration.unwrap_or(case.duration);
            if let Some(io) = overrides.io.as_ref().filter(|_| case.spec.io == "auto") {
                case.spec.io.clone_from(io);
            }
            if overrides.shrink {
                case.shrink();
            }
            check::case(case)?;
        }
        // With `io` from outside, a case can become one that the plan has anyway.
        let mut seen = BTreeSet::new();
        self.cases.retain(|case| seen.insert(case.name()));
        if overrides.shrink {
            self.floor_time = self.floor_time.min(Duration::from_millis(30));
        }
        if let Some(only) = &overrides.only {
            let all: Vec<String> = self.cases.iter().map(CasePlan::name).collect();
            let is_whole_name = all.contains(only);
            self.cases.retain(|case| if is_whole_name { case.name() == *only } else { case.name().contains(only) });
            ensure!(!self.cases.is_empty(), "no case has {only:?} in its name; there are:\n  {}", all.join("\n  "));
        }
        Ok(self)
    }

    /// The plan as it was understood: every case by itself, every key with its value. It can be run as it is.
    pub(crate) fn echo(&self) -> String {
        #[derive(Serialize)]
        struct Echo {
            floor: Time,
            case: Vec<Keys>,
        }
        let echo = Echo { floor: Time(self.floor_time), case: self.cases.iter().map(CasePlan::keys).collect() };
        toml::to_string(&echo).expect("a plan that was read can be written")
    }
}

impl CasePlan {
    fn shrink(&mut self) {
        self.rounds = 1;
        self.duration = self.duration.min(Duration::from_millis(200));
        self.warmup = self.warmup.min(Duration::from_millis(50));
        self.fill_bytes = self.fill_bytes.min(4 << 20);
    }

    /// As a plan would say it.
    fn keys(&self) -> Keys {
        let Spec { kind, payload_bytes, batch, producers, outstanding, topics, io, followers, network, .. } =
            &self.spec;
        let (measure, durability) = match kind.as_str() {
            "read" | "open" => (kind.as_str(), "durable"),
            durability => ("append", durability),
        };
        let axis = |text: &str| Some(Axis(vec![text.to_owned()]));
        Keys {
            measure: axis(measure),
            durability: axis(durability),
            payload: Some(Axis(vec![Size(*payload_bytes)])),
            batch: Some(Axis(vec![*batch])),
            producers: Some(Axis(vec![*producers])),
            outstanding: Some(Axis(vec![*outstanding])),
            topics: Some(Axis(vec![*topics])),
            io: axis(io),
            followers: Some(Axis(vec![*followers])),
            network: Some(Axis(vec![*network])),
            rate: Some(Axis(vec![Rate(self.spec.rate_per_s)])),
            arrivals: self.spec.arrivals.as_deref().and_then(axis),
            slo: self.slo,
            duration: Some(Time(self.duration)),
            warmup: Some(Time(self.warmup)),
            rounds: Some(self.rounds),
            fill: Some(Size(self.fill_bytes)),
        }
    }
}

/// Every combination of the lists.
fn expand(keys: &Keys) -> Result<Vec<CasePlan>> {
    let base = CasePlan {
        spec: Spec {
            kind: "durable".into(),
            payload_bytes: 256,
            batch: 1,
            producers: 1,
            outstanding: 1,
            topics: 1,
            io: "auto".into(),
            followers: 0,
            network: false,
            rate_per_s: None,
            arrivals: None,
        },
        duration: keys.duration.map_or(DURATION, |time| time.0),
        warmup: keys.warmup.map_or(WARMUP, |time| time.0),
        rounds: keys.rounds.unwrap_or(ROUNDS),
        fill_bytes: keys.fill.map_or(FILL_BYTES, |size| size.0),
        slo: keys.slo,
    };
    let mut cases = vec![base];
    axis(&mut cases, keys.measure.as_ref(), "measure", |case, what| {
        ensure!(matches!(what.as_str(), "append" | "read" | "open"), "{what:?} is none of append, read, open");
        if what != "append" {
            case.spec.kind.clone_from(what);
        }
        Ok(())
    })?;
    axis(&mut cases, keys.durability.as_ref(), "durability", |case, what| {
        ensure!(matches!(what.as_str(), "durable" | "written"), "{what:?} is none of durable, written");
        let is_append = !matches!(case.spec.kind.as_str(), "read" | "open");
        ensure!(
            is_append || what == "durable",
            "measure = \"{}\" reads a log that was written durably",
            case.spec.kind
        );
        if is_append {
            case.spec.kind.clone_from(what);
        }
        Ok(())
    })?;
    axis(&mut cases, keys.payload.as_ref(), "payload", |case, size| set(&mut case.spec.payload_bytes, size.0))?;
    axis(&mut cases, keys.batch.as_ref(), "batch", |case, n| set(&mut case.spec.batch, *n))?;
    axis(&mut cases, keys.producers.as_ref(), "producers", |case, n| set(&mut case.spec.producers, *n))?;
    axis(&mut cases, keys.outstanding.as_ref(), "outstanding", |case, n| set(&mut case.spec.outstanding, *n))?;
    axis(&mut cases, keys.topics.as_ref(), "topics", |case, n| set(&mut case.spec.topics, *n))?;
    axis(&mut cases, keys.io.as_ref(), "io", |case, io| set(&mut case.spec.io, io.clone()))?;
    axis(&mut cases, keys.followers.as_ref(), "followers", |case, n| set(&mut case.spec.followers, *n))?;
    axis(&mut cases, keys.network.as_ref(), "network", |case, is| set(&mut case.spec.network, *is))?;
    axis(&mut cases, keys.rate.as_ref(), "rate", |case, rate| set(&mut case.spec.rate_per_s, rate.0))?;
    axis(&mut cases, keys.arrivals.as_ref(), "arrivals", |case, what| {
        set(&mut case.spec.arrivals, Some(what.clone()))
    })?;
    for case in &mut cases {
        let is_open_loop = case.spec.rate_per_s.is_some() || case.slo.is_some();
        if is_open_loop && case.spec.arrivals.is_none() {
            case.spec.arrivals = Some("uniform".into());
        }
        check::case(case)?;
    }
    Ok(cases)
}

/// Puts each value of a list into a copy of each case.
fn axis<T>(
    cases: &mut Vec<CasePlan>,
    values: Option<&Axis<T>>,
    key: &str,
    put: impl Fn(&mut CasePlan, &T) -> Result<()>,
) -> Result<()> {
    let Some(Axis(values)) = values else { return Ok(()) };
    ensure!(!values.is_empty(), "{key} = []: an axis without values is a plan without cases");
    let mut all = Vec::with_capacity(cases.len() * values.len());
    for case in cases.iter() {
        for value in values {
            let mut case = case.clone();
            put(&mut case, value).with_context(|| key.to_owned())?;
            all.push(case);
        }
    }
    *cases = all;
    Ok(())
}

fn set<T>(place: &mut T, value: T) -> Result<()> {
    *place = value;
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
