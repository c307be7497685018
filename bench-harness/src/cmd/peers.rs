//! `peers`: the same plan on this log and on others, in turn.

use std::process::ExitCode;

use anyhow::{Result, anyhow};

use super::run;
use crate::Usage;
use crate::cli::RunArgs;
use crate::plan::Plan;
use crate::target::{self, Kind};

/// What brings the other logs that run in this process.
const HINT: &str = "cargo build --release -p walrus-bench --features peers";

pub(crate) fn run(args: &RunArgs) -> Result<ExitCode> {
    let plan = run::plan(args.plan.as_deref(), &args.how, args.common.smoke)?;
    if let Some(reasons) = nobody_else(&plan, &target::peers()) {
        let hint = if cfg!(feature = "peers") { "" } else { HINT };
        return Err(Usage(anyhow!("no other log does any case of this plan\n{reasons}{hint}")).into());
    }
    run::play("peers", &plan, &target::all(!args.common.smoke), &args.how, &args.common)
}

/// Why there is nobody to compare with, a line for each peer, if there is nobody. Servers are always among the peers, and do only what
/// goes over the network, and that only where they are installed.
fn nobody_else(plan: &Plan, peers: &[Box<dyn Kind>]) -> Option<String> {
    let refusal = |kind: &dyn Kind| {
        let reasons: Option<Vec<String>> = plan.cases.iter().map(|case| kind.refuses(&case.spec)).collect();
        Some(format!("  {}: {}\n", kind.name(), reasons?.first()?))
    };
    peers.iter().map(|kind| refusal(&**kind)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::result::Spec;
    use crate::target::Target;

    /// Does lone appends.
    struct Lone;

    impl Kind for Lone {
        fn name(&self) -> String {
            "lone".into()
        }

        fn refuses(&self, spec: &Spec) -> Option<String> {
            (spec.batch > 1).then(|| "it has no batches".into())
        }

        fn open(&self, _: &Path, _: &Spec) -> Result<Box<dyn Target>> {
            anyhow::bail!("nobody opens it")
        }
    }

    #[test]
    fn a_plan_that_no_other_log_does_is_told_apart_from_one_that_some_log_does_in_part() {
        let of = |batch: &str| Plan::parse(&format!("[load]\nbatch = {batch}\n")).unwrap();
        let peers: [Box<dyn Kind>; 1] = [Box::new(Lone)];
        assert_eq!(nobody_else(&of("[2, 4]"), &peers).unwrap(), "  lone: it has no batches\n");
        assert_eq!(nobody_else(&of("[1, 4]"), &peers), None);
        assert_eq!(nobody_else(&of("1"), &[]).unwrap(), "");
    }
}
