//! The frame around the cases: when, on what, with which plan; and where it goes.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::cli::Common;
use crate::device::Device;
use crate::host::HostFacts;
use crate::result::{Noise, Outcome, SCHEMA};
use crate::{report, table};

/// A run that has begun.
pub(crate) struct Begun {
    started: Instant,
    outcome: Outcome,
}

impl Begun {
    /// `kind` is the command.
    pub(crate) fn new(kind: &str, common: &Common, seed: u64, plan: String) -> Result<Begun> {
        let host = HostFacts::of(&common.dir).with_context(|| format!("the folder {}", common.dir.display()))?;
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let outcome = Outcome {
            schema: SCHEMA,
            tool: "walrus-bench".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            kind: kind.into(),
            smoke: common.smoke,
            release: !cfg!(debug_assertions),
            started_unix_s: since_1970.as_secs(),
            seconds: 0.0,
            seed,
            host,
            plan,
            noise: Noise::default(),
            device: Vec::new(),
            cases: Vec::new(),
            ratios: Vec::new(),
            notes: Vec::new(),
        };
        Ok(Begun { started: Instant::now(), outcome })
    }

    /// The disk that is measured.
    pub(crate) fn device(&self) -> Device {
        Device::under(Path::new(&self.outcome.host.directory), self.outcome.host.device.as_deref())
    }

    /// With what was measured put in.
    pub(crate) fn end(self, put: impl FnOnce(&mut Outcome)) -> Outcome {
        let mut outcome = self.outcome;
        outcome.seconds = self.started.elapsed().as_secs_f64();
        put(&mut outcome);
        let mut notes = general_notes(&outcome);
        notes.append(&mut outcome.notes);
        Outcome { notes, ..outcome }
    }
}

/// What holds for the run as a whole.
fn general_notes(outcome: &Outcome) -> Vec<String> {
    let mut notes = Vec::new();
    if !outcome.release {
        notes.push("not built with --release: the figures say nothing".into());
    }
    if outcome.smoke {
        notes.push("a smoke run: the figures say nothing, the invariants hold or not".into());
    }
    if outcome.noise.noisy {
        notes.push(noise(&outcome.noise));
    }
    notes
}

fn noise(noise: &Noise) -> String {
    let percent = |what: &str, share: Option<f64>| share.map(|share| format!("{what} {:.1} %", share * 100.0));
    let said = [
        percent("others waited for the processor", noise.cpu_pressure),
        percent("for I/O", noise.io_pressure),
        percent("the hypervisor kept", noise.steal),
        noise.floor_spread.map(|spread| format!("the floor's fastest over its slowest was {spread:.2}")),
    ];
    format!("noisy: {}", said.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

/// Shows a result and writes it down where that was asked for. A broken invariant, or a case that failed, is exit code 1.
pub(crate) fn tell(outcome: &Outcome, failures: &[String], common: &Common) -> Result<ExitCode> {
    if let Some(dir) = &common.out {
        write_into(dir, outcome)?;
    }
    if common.json {
        println!("{}", serde_json::to_string_pretty(outcome)?);
    } else {
        print!("{}", table::render(outcome));
    }
    failures.iter().for_each(|failure| eprintln!("error: {failure}"));
    let all_hold = outcome.cases.iter().flat_map(|case| &case.checks).all(|check| check.ok);
    Ok(if failures.is_empty() && all_hold { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn write_into(dir: &Path, outcome: &Outcome) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("making the folder {}", dir.display()))?;
    let json = dir.join("result.json");
    std::fs::write(&json, serde_json::to_string_pretty(outcome)?)
        .with_context(|| format!("writing {}", json.display()))?;
    let page = dir.join("report.html");
    std::fs::write(&page, report::page(outcome)?).with_context(|| format!("writing {}", page.display()))
}
