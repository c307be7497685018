//! `peers`: the same plan on this log and on others, in turn.

use std::process::ExitCode;

use anyhow::{Result, anyhow};

use super::run;
use crate::Usage;
use crate::cli::RunArgs;
use crate::target;

pub(crate) fn run(args: &RunArgs) -> Result<ExitCode> {
    if target::peers().is_empty() {
        let hint = "cargo build --release -p walrus-bench --features peers";
        return Err(Usage(anyhow!("this build has no other log in it; {hint}")).into());
    }
    let plan = run::plan(args.plan.as_deref(), &args.how, args.common.smoke)?;
    run::play("peers", &plan, &target::all(!args.common.smoke), &args.how, &args.common)
}
