//! `sweep`: a plan with axes.

use std::process::ExitCode;

use anyhow::{Result, anyhow};

use super::run;
use crate::Usage;
use crate::cli::SweepArgs;
use crate::target;

pub(crate) fn run(args: &SweepArgs) -> Result<ExitCode> {
    let plan = run::plan(Some(&args.plan), &args.how, args.common.smoke)?;
    if plan.cases.len() < 2 {
        let hint = "a sweep needs an axis: a list in place of a value, as in payload = [64, 256, \"1KiB\"]";
        return Err(Usage(anyhow!("the plan {} has one case; {hint}", args.plan.display())).into());
    }
    run::play("sweep", &plan, &target::ours(!args.common.smoke), &args.how, &args.common)
}
