//! `walrus-bench`: load on a log, and beside every figure what the device itself did in the same run and folder.
//!
//! ```text
//!   PLAN.toml --plan--> cases --session--> rounds: floor | load on a target, everything read back | floor | ...
//!                                             |          `-- load/, record, cost, check
//!   table, JSON, report <--result-- assemble <'
//! ```
//!
//! Knows the library's public names only. No figure is told that this run did not measure.

mod assemble;
mod check;
mod cli;
mod cmd;
mod comparison;
mod cost;
mod device;
mod figures;
mod fill;
#[cfg(test)]
mod fixture;
mod floor;
mod floors;
mod folder;
mod host;
mod input;
mod load;
mod noise;
mod outcome;
mod payload;
mod pipeline;
mod plan;
mod progress;
mod ratios;
mod record;
mod report;
mod result;
mod round;
mod schedule;
#[cfg(test)]
#[path = "../tests/schema_check/mod.rs"]
mod schema_check;
mod search;
mod session;
mod stats;
mod steady;
mod table;
mod target;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use cli::{Cli, Command};

/// What was asked makes no sense: as clap says it of arguments.
const USAGE: u8 = 2;

/// An error of the one who asks, not of what was done.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) anyhow::Error);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl std::error::Error for Usage {}

fn main() -> ExitCode {
    #[cfg(feature = "peers")]
    if let Err(error) = target::peers::enter_environment() {
        eprintln!("error: {error:#}");
        return ExitCode::FAILURE;
    }
    let cli = Cli::parse();
    let done = match cli.command {
        None => cmd::run::run(&cli.run),
        Some(command) => run(&command),
    };
    folder::wait_if_interrupted();
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<Usage>() { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Run(args) => cmd::run::run(args),
        Command::Device(args) => cmd::device::run(args),
        Command::Sweep(args) => cmd::sweep::run(args),
        Command::Peers(args) => cmd::peers::run(args),
        Command::Compare(args) => args.run(&mut std::io::stdout()),
        Command::Merge(args) => args.run(&mut std::io::stdout()),
        Command::Report(args) => args.run(&mut std::io::stdout()),
        Command::Fill(args) => fill::run(args).map(|()| ExitCode::SUCCESS),
    }
}
