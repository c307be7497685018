//! One file per command.

mod append;
mod cert;
mod demo;
mod diff;
mod dump;
mod explain;
mod repair;
mod serve;
mod status;
mod tail;
mod topics;
mod verify;

use std::path::Path;

use walrus_node::{IoMode, Viewer};

use crate::cli::Command;
use crate::fail::{self, Failure};

/// Runs a command.
pub(crate) fn run(command: Command, io: IoMode) -> Result<(), Failure> {
    match command {
        Command::Append(args) => append::run(args, io),
        Command::Tail(args) => tail::run(args, io),
        Command::Topics(args) => topics::run(args, io),
        Command::Status(args) => status::run(args, io),
        Command::Verify(args) => verify::run(&args, io),
        Command::Dump(args) => dump::run(&args, io),
        Command::Diff(args) => diff::run(&args, io),
        Command::Repair(args) => repair::run(&args, io),
        Command::Explain(args) => explain::run(&args),
        Command::Serve(args) => serve::run(args, io),
        Command::Cert(command) => cert::run(command),
        Command::Demo(args) => demo::run(&args, io),
    }
}

/// Opens a folder for looking.
fn view(dir: &Path, io: IoMode) -> Result<Viewer, Failure> {
    Viewer::open(dir, io).map_err(|error| fail::open(dir, &error))
}

/// A log of up to so many bytes is read whole before it is written: about a second, and damage anywhere in it is told before anybody
/// relies on it. A longer one is believed as far as its indexes go.
pub(crate) const CHECK_BYTES_MAX: u64 = 1 << 30;
