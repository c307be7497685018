//! A log inside a program: append, wait until it is durable, read, follow, close.
//!
//! `cargo run --example embed [FOLDER]`

use std::path::Path;
use std::time::Duration;

use walrus_node::{Engine, Options, ReadLimit};

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "log".into());
    let readings = run(Path::new(&folder))?;
    println!("{readings} readings in {folder}");
    Ok(())
}

/// Returns how many readings the log has.
pub fn run(folder: &Path) -> Result<u64, Error> {
    let log = Engine::open(folder, Options::default())?;

    // `append` returns once the entry is queued. The ticket can be waited on by a thread, awaited by a task, or dropped.
    let ticket = log.append("readings", "21.5 degrees")?;
    let receipt = ticket.wait()?;
    println!("durable at offset {}", receipt.first_offset);

    // Many tickets in flight share flushes.
    let tickets: Vec<_> = (0..100).map(|i| log.append("readings", format!("reading {i}"))).collect::<Result<_, _>>()?;
    for ticket in tickets {
        ticket.wait()?;
    }

    for entry in log.read("readings", receipt.first_offset, ReadLimit { entries: 3, bytes: 1 << 20 })? {
        println!("{}: {}", entry.offset, String::from_utf8_lossy(&entry.payload));
    }

    // A tailer reads what is there and goes on with what comes; a cursor remembers how far, durably.
    let mut tailer = log.tail("readings", log.cursor("example", "readings").unwrap_or(0));
    let entries = tailer.next(ReadLimit::default(), Duration::ZERO)?;
    log.set_cursor("example", "readings", tailer.next_offset())?;
    println!("{} readings since the last run", entries.len());

    log.close()?;
    Ok(receipt.first_offset + 101)
}
