//! `walrus-bench`: load on a log, and beside every figure what the device itself did in the same run and directory.
//!
//! ```text
//!     floor  ->  load, one kind after the other  ->  floor again  ->  read back, every byte compared  ->  report
//! ```
//!
//! Knows the library's public names only. No figure is printed that this run did not measure.

mod floor;
mod host;
mod report;
#[allow(dead_code)] // until the core says them
mod result;
#[allow(dead_code)] // until the core drives them
mod target;
mod workload;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use walrus_node::{Engine, IoMode, Options};

use floor::{Flush, Prepared};
use host::Host;
use report::{FloorReport, Report, SCHEMA};
use workload::{Workload, read_back};

/// Drives load against walrus-node and says how far from the device it is
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  walrus-bench run --smoke\n  walrus-bench run --dir /data --json > result.json"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(Run),
}

/// Append, count, read back, compare, and report
#[derive(Args)]
struct Run {
    /// Half a second of each load, to see that everything works [default: ten seconds of each]
    #[arg(long)]
    smoke: bool,
    /// Print one JSON object [default: a table]
    #[arg(long)]
    json: bool,
    /// Work in a fresh folder of this directory, on its disk
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// How to reach the disk: auto, uring or syscall
    #[arg(long, value_name = "MODE", env = "WALRUS_IO", default_value = "auto")]
    io: IoMode,
}

fn main() -> Result<()> {
    let Command::Run(args) = Cli::parse().command;
    let report = run(&args)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        report.print();
    }
    Ok(())
}

/// What is measured: the two figures that issue 6 asks for, and batches beside them.
const WORKLOADS: [Workload; 3] = [
    Workload { outstanding: 1, batch_entries: 1, entry_bytes: 256 },
    Workload { outstanding: 64, batch_entries: 1, entry_bytes: 256 },
    Workload { outstanding: 8, batch_entries: 256, entry_bytes: 256 },
];

fn run(args: &Run) -> Result<Report> {
    let time = if args.smoke { Duration::from_millis(500) } else { Duration::from_secs(10) };
    let folder = Folder::fresh(&args.dir)?;
    let mut prepared = Prepared::new(&folder.0).context("the file to measure the floor with")?;
    let before = prepared.measure(Flush::Fdatasync, time).context("the floor")?;
    let dsync = prepared.measure(Flush::Dsync, time).ok();

    let log = Engine::open(&folder.0.join("log"), Options { io: args.io, ..Options::default() })?;
    let runs = WORKLOADS.iter().map(|workload| workload::run(&log, *workload, time)).collect::<Result<Vec<_>>>()?;
    let after = prepared.measure(Flush::Fdatasync, time).context("the floor")?;
    let read_back = read_back(&log, &runs)?;
    let mut status = log.status();
    status.warnings.extend(before.unrest(&after));
    log.close()?;
    Ok(Report {
        schema: SCHEMA,
        tool: "walrus-bench",
        version: env!("CARGO_PKG_VERSION"),
        smoke: args.smoke,
        host: Host::of(&args.dir)?,
        io: status.io,
        flush: status.flush,
        warnings: status.warnings,
        floor: FloorReport::new(before, after, dsync),
        runs,
        read_back,
    })
}

/// A folder that is removed at the end, also after an error.
struct Folder(PathBuf);

impl Folder {
    fn fresh(dir: &Path) -> Result<Folder> {
        let path = dir.join(format!("walrus-bench-{}.tmp", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("making the folder {}", path.display()))?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("warning: {} could not be removed: {error}", self.0.display());
        }
    }
}
