//! The frame around the cases: when, on what, with which plan; and where it goes.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::cli::Common;
use crate::device::Device;
use crate::host::HostFacts;
use crate::result::{Noise, Outcome, SCHEMA};
use crate::{Usage, report, table};

const RESULT: &str = "result.json";
const REPORT: &str = "report.html";

/// A run that has begun.
pub(crate) struct Begun {
    started: Instant,
    outcome: Outcome,
}

impl Begun {
    /// `kind` is the command. Where the result is to go is looked at now: a run may take an hour, and then it would be too late.
    pub(crate) fn new(kind: &str, common: &Common, seed: u64, plan: String) -> Result<Begun> {
        common.out.as_deref().map_or(Ok(()), can_be_written).map_err(Usage)?;
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
            lost: Vec::new(),
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

/// Shows a result on `out`, and then writes it down where that was asked for: if that fails after all, it has been seen. A broken
/// invariant, or a case that failed, is exit code 1.
pub(crate) fn tell(outcome: &Outcome, failures: &[String], common: &Common, out: &mut dyn Write) -> Result<ExitCode> {
    // Nobody may be there to read it: no reason to leave the files unwritten.
    let shown = show(outcome, common.json, out);
    if let Some(dir) = &common.out {
        write_into(dir, outcome)?;
    }
    shown?;
    failures.iter().for_each(|failure| eprintln!("error: {failure}"));
    let all_hold = outcome.cases.iter().flat_map(|case| &case.checks).all(|check| check.ok);
    Ok(if failures.is_empty() && all_hold { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(outcome: &Outcome, json: bool, out: &mut dyn Write) -> Result<()> {
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(outcome)?)?;
    } else {
        write!(out, "{}", table::render(outcome))?;
    }
    Ok(out.flush()?)
}

/// Makes the folder, and leaves nothing in it: files of an earlier run stay as they are until this one has something to say.
fn can_be_written(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("--out: making the folder {}", dir.display()))?;
    drop(tempfile::tempfile_in(dir).with_context(|| format!("--out: writing into {}", dir.display()))?);
    for path in [RESULT, REPORT].map(|name| dir.join(name)).into_iter().filter(|path| path.exists()) {
        let opened = std::fs::OpenOptions::new().append(true).open(&path);
        drop(opened.with_context(|| format!("--out: writing {}", path.display()))?);
    }
    Ok(())
}

fn write_into(dir: &Path, outcome: &Outcome) -> Result<()> {
    let json = dir.join(RESULT);
    std::fs::write(&json, serde_json::to_string_pretty(outcome)?)
        .with_context(|| format!("writing {}", json.display()))?;
    let page = dir.join(REPORT);
    std::fs::write(&page, report::page(outcome)?).with_context(|| format!("writing {}", page.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn common(out: &Path) -> Common {
        Common { json: false, out: Some(out.to_owned()), smoke: true, dir: out.to_owned() }
    }

    #[test]
    fn a_result_that_cannot_be_written_is_shown_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(REPORT)).unwrap();
        let mut shown = Vec::new();
        let outcome = fixture::outcome();
        let error = tell(&outcome, &[], &common(dir.path()), &mut shown).unwrap_err();
        assert!(error.to_string().contains(REPORT), "{error}");
        assert!(String::from_utf8(shown).unwrap().contains(&outcome.cases[0].id));
    }

    #[test]
    fn a_reader_that_has_gone_does_not_keep_the_files_from_being_written() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let dir = tempfile::tempdir().unwrap();
        assert!(tell(&fixture::outcome(), &[], &common(dir.path()), &mut Gone).is_err());
        assert!(dir.path().join(RESULT).exists() && dir.path().join(REPORT).exists());
    }

    #[test]
    fn whether_the_folder_can_be_written_is_found_before_and_changes_nothing_in_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(RESULT), "of an earlier run").unwrap();
        can_be_written(dir.path()).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join(RESULT)).unwrap(), "of an earlier run");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        can_be_written(&dir.path().join("new/below")).unwrap();
        std::fs::create_dir(dir.path().join(REPORT)).unwrap();
        assert!(can_be_written(dir.path()).unwrap_err().to_string().contains(REPORT));
        assert!(can_be_written(&dir.path().join(RESULT)).is_err(), "a file is no folder");
    }
}
