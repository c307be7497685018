//! `walrus-node`: the command.
//!
//! ```text
//!     main.rs     parse, run, exit code
//!     cli.rs      what can be typed
//!     cmd/        one file per command
//!     fail.rs     an error: what, where, with which values, `hint:`, exit code
//!     output.rs   results on stdout, for people or as JSON
//! ```
//!
//! Results go to stdout, everything else to stderr. Layer: bin. Uses the library's public names only.

mod at;
mod cli;
mod cmd;
mod fail;
mod lines;
mod logging;
mod output;
mod remote;
mod start;
mod text;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use cli::Cli;
use fail::Exit;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => return misused(&error),
        Err(help) => {
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
    };
    let Some(command) = cli.command else {
        eprintln!("{}\nTry: walrus-node demo", Cli::command().render_help());
        return ExitCode::from(Exit::Usage as u8);
    };
    match cmd::run(command, cli.io) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.exit() as u8)
        }
    }
}

/// What was typed cannot be right: clap says why, and the hint is ours as everywhere.
fn misused(error: &clap::Error) -> ExitCode {
    let why = error.render().to_string();
    let why = why.trim_end();
    let why = why.strip_suffix("For more information, try '--help'.").unwrap_or(why).trim_end();
    let (mut command, mut typed) = (Cli::command(), "walrus-node".to_owned());
    for word in std::env::args().skip(1) {
        let Some(found) = command.find_subcommand(&word).cloned() else { break };
        command = found;
        typed = format!("{typed} {word}");
    }
    eprintln!("{why}\nhint: {typed} --help");
    ExitCode::from(Exit::Usage as u8)
}
