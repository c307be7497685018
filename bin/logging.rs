//! Log lines on stderr. `RUST_LOG` says which; colours only for a terminal that did not say `NO_COLOR`.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// Starts them. `default` is the level where `RUST_LOG` says nothing.
pub(crate) fn start(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(colour)
        .with_target(false)
        .init();
}

/// Something that an operator should know, and that is no error.
pub(crate) fn warn(warning: &str) {
    eprintln!("warning: {warning}");
}
