//! Many appends to few flushes: the writer gathers while the last flush is under way, up to 256 entries.
//!
//! `cargo run --example count_batched [FOLDER]`

use std::path::Path;

use walrus_node::{Engine, Options, WalWriter};

type Error = Box<dyn std::error::Error>;

const APPENDS: u64 = 10_000;

fn main() -> Result<(), Error> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "log".into());
    let flushes = run(Path::new(&folder))?;
    println!("{APPENDS} appends, {flushes} flushes");
    Ok(())
}

/// Returns how many flushes it took.
pub fn run(folder: &Path) -> Result<u64, Error> {
    let log = Engine::open(folder, Options::default())?;
    let writer = WalWriter::open(&log, "clicks")?;

    // Nobody waits here: each append returns at once. Whoever must know keeps the ticket, the rest drop it.
    let first = writer.append("the first click")?;
    for i in 1..APPENDS {
        drop(writer.append(format!("click {i}"))?);
    }
    println!("the first click is durable at offset {}", first.wait()?.first_offset);

    // The sentinel: everything appended before is durable when this returns, or it says what failed.
    writer.close()?;
    let flushes = writer.flushes();
    log.close()?;
    Ok(flushes)
}
