//! `run`: a plan, on this log. `sweep` and `peers` are the same with other words.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::cli::{Common, How, RunArgs};
use crate::outcome::{self, Begun};
use crate::plan::{BUNDLED, Overrides, Plan};
use crate::progress::Progress;
use crate::session::{Ran, Session};
use crate::target::{self, Kind};
use crate::{Usage, assemble, floors, folder, ratios};

pub(crate) fn run(args: &RunArgs) -> Result<ExitCode> {
    let plan = plan(args.plan.as_deref(), &args.how, args.common.smoke)?;
    play("run", &plan, &target::ours(!args.common.smoke), &args.how, &args.common)
}

/// Reads the plan, or takes the one that goes with no plan.
///
/// # Errors
/// Whatever is wrong with it, as [`Usage`].
pub(crate) fn plan(path: Option<&Path>, how: &How, smoke: bool) -> Result<Plan> {
    let path = path.unwrap_or(Path::new(if smoke { "smoke" } else { "canonical" }));
    let read = || -> Result<Plan> {
        let bundled = BUNDLED.iter().find(|(name, _)| Path::new(name) == path);
        let text = match bundled {
            Some((_, text)) => (*text).to_owned(),
            None => std::fs::read_to_string(path)?,
        };
        let seconds = how.seconds.map(Duration::try_from_secs_f64).transpose().context("--seconds")?;
        let overrides = Overrides {
            only: how.only.clone(),
            rounds: how.rounds,
            duration: seconds,
            io: how.io.map(|io| io.to_string()),
            shrink: smoke,
        };
        let plan = Plan::parse(&text)?.with(&overrides)?;
        for case in &plan.cases {
            let reason = floors::refuses(&case.spec, smoke);
            reason.map_or(Ok(()), |reason| Err(anyhow!("case {}: {reason}", case.name())))?;
        }
        Ok(plan)
    };
    read().with_context(|| format!("the plan {}", path.display())).map_err(|error| Usage(error).into())
}

/// Runs a plan on these targets and tells what came of it.
pub(crate) fn play(
    command: &str,
    plan: &Plan,
    kinds: &[Box<dyn Kind>],
    how: &How,
    common: &Common,
) -> Result<ExitCode> {
    let begun = Begun::new(command, common, how.seed, plan.echo())?;
    let folder = folder::fresh(&common.dir)?;
    let device = begun.device();
    let session = Session { kinds, plan, folder: folder.path(), device: &device, seed: how.seed, smoke: common.smoke };
    let progress = Progress::new();
    let Ran { entries, lost, floors, listening, mut notes, failures } = session.run(&progress)?;
    progress.finish();
    folder.close().context("removing the folder of the run")?;
    notes.push(format!("the floor at depth 1 is by {}", floors.way()));
    if !floors.counts_flushes {
        notes.push(
            "the device does not count a flush for each durable write (FUA, or no counters): that check is left out"
                .into(),
        );
    }
    notes.extend(failures.iter().map(|failure| format!("failed: {failure}")));
    let outcome = begun.end(|outcome| {
        outcome.noise = listening.noise(floors.spread());
        outcome.device = floors.figures();
        outcome.lost = lost;
        outcome.cases = entries.into_iter().map(assemble::case).collect();
        outcome.ratios = ratios::of(&[&outcome.cases]);
        outcome.notes = notes;
    });
    outcome::tell(&outcome, &failures, common, &mut std::io::stdout())
}
