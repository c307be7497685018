//! Entries that belong together: a batch is there whole or not at all, for every reader and across a power cut.
//!
//! `cargo run --example batch [FOLDER]`

use std::path::Path;

use walrus_node::{AppendOptions, Engine, Options, ReadLimit};

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "log".into());
    run(Path::new(&folder))?;
    Ok(())
}

/// Returns how many entries the topic has.
pub fn run(folder: &Path) -> Result<u64, Error> {
    let log = Engine::open(folder, Options::default())?;

    // Both or neither: no reader ever sees the money in the air.
    let transfer = vec!["alice -100".into(), "bob +100".into()];
    let receipt = log.append_batch("accounts", transfer)?.wait()?;
    println!("entries {} to {} are durable together", receipt.first_offset, receipt.last_offset);

    // A batch that is too large to gather in memory is fed entry by entry, and appears when it is committed.
    let mut statement = log.begin_batch("accounts", AppendOptions::default())?;
    for line in 0..1000 {
        statement.push(format!("statement, line {line}"))?;
    }
    let receipt = statement.commit()?.wait()?;

    // One that is dropped instead was never there.
    let mut dropped = log.begin_batch("accounts", AppendOptions::default())?;
    dropped.push("never to be seen")?;
    drop(dropped);

    let entries = log.read("accounts", receipt.first_offset, ReadLimit::default())?;
    println!("{} lines: {} ...", entries.len(), String::from_utf8_lossy(&entries[0].payload));

    log.close()?;
    Ok(receipt.last_offset + 1)
}
