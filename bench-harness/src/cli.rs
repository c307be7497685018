//! The command line: what can be asked, and nothing of how it is done.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use walrus_node::IoMode;

use crate::cmd::{compare::Compare, merge::Merge, report::Report};
use crate::fill::FillArgs;

/// Drives load against walrus-node and says how far from the device it is
///
/// Without a command it runs the canonical workload in the current folder.
#[derive(Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  \
        walrus-bench                                  the canonical workload, on the disk of the current folder\n  \
        walrus-bench run --smoke                      does everything work? seconds\n  \
        walrus-bench run --only 'durable 256B x1thr'  one case of it\n  \
        walrus-bench run plan.toml --dir /data --out result\n  \
        walrus-bench device /data                     the disk alone"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run a plan [default: the canonical workload]
    Run(RunArgs),
    /// Measure the device alone: writes and flushes at several sizes and depths
    Device(DeviceArgs),
    /// Run a plan with axes
    Sweep(SweepArgs),
    /// Run a plan against this log and others, in turn
    Peers(RunArgs),
    Compare(Compare),
    Merge(Merge),
    Report(Report),
    #[command(hide = true)]
    Fill(FillArgs),
}

#[derive(Args)]
pub(crate) struct RunArgs {
    /// A plan, or the name of one that comes with the program: canonical, network, network-threads, smoke, sweep
    #[arg(value_name = "PLAN.toml")]
    pub(crate) plan: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) how: How,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Args)]
pub(crate) struct SweepArgs {
    /// A plan, or the name of one that comes with the program: canonical, network, network-threads, smoke, sweep
    #[arg(value_name = "PLAN.toml")]
    pub(crate) plan: PathBuf,
    #[command(flatten)]
    pub(crate) how: How,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Args)]
pub(crate) struct DeviceArgs {
    /// Measure the disk of this folder [default: that of --dir]
    #[arg(value_name = "DIR")]
    pub(crate) target: Option<PathBuf>,
    /// Seconds for each figure
    #[arg(long, value_name = "S")]
    pub(crate) seconds: Option<f64>,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// How a plan is run.
#[derive(Args)]
pub(crate) struct How {
    /// How to reach the disk where the plan leaves it open: auto, uring, syscall or mmap
    #[arg(long, value_name = "MODE", env = "WALRUS_IO")]
    pub(crate) io: Option<IoMode>,
    /// Payloads and schedules follow from it
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Run only the case of this name, or those that have it in their names
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Option<String>,
    /// Rounds of each case, instead of what the plan says
    #[arg(long, value_name = "N")]
    pub(crate) rounds: Option<u32>,
    /// Seconds of each round, instead of what the plan says
    #[arg(long, value_name = "S")]
    pub(crate) seconds: Option<f64>,
}

#[derive(Args)]
pub(crate) struct Common {
    /// Print the result as JSON [default: a table]
    #[arg(long)]
    pub(crate) json: bool,
    /// Also write result.json and report.html into this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// As short as it goes: shows that everything works, not how fast
    #[arg(long)]
    pub(crate) smoke: bool,
    /// Work in a fresh folder of this one, on its disk; it is removed at the end
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
}
