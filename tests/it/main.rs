//! One module per promise, against the public API, the command, and the real disk of the current folder.

mod append;
mod batches;
#[cfg(feature = "cli")]
mod cli;
#[cfg(feature = "cli")]
mod cli_damage;
#[cfg(feature = "cli")]
mod cli_demo;
#[cfg(feature = "cli")]
mod cli_explain;
#[cfg(feature = "cli")]
mod cli_folder;
#[cfg(feature = "cli")]
mod cli_help;
#[cfg(feature = "cli")]
mod cli_node;
#[cfg(feature = "cli")]
mod cli_repair;
mod cursors;
mod early;
mod examples;
mod faces_wal_writer;
mod faces_walrus;
mod full_disk;
mod levels;
mod lone;
mod long_segments;
mod packing;
mod reopen;
mod retention;
mod scrub;
mod support;
