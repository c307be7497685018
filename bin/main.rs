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
mod start;
mod text;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use cli::Cli;
use fail::Exit;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help that was asked for goes to stdout and is no error; clap knows which is which.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Exit::Usage } else { Exit::Ok } as u8);
        }
    };
    let Some(command) = cli.command else {
        eprintln!("{}\nTry: walrus-node demo", Cli::command().render_help().ansi());
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
