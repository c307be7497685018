//! A program written against the crate `walrus-rust` 0.2, which has changed nothing but the line of its dependency:
//!
//! ```toml
//! walrus_rust = { package = "walrus-node", version = "0.1" }
//! ```
//!
//! (An example of this package has to say the same by `extern crate`.) It makes the calls of that crate's documentation in its order: the
//! constructors, appends and batches, reads with and without consuming, the choice of a backend.
//!
//! `WALRUS_DATA_DIR=somewhere cargo run --example walrus_rust`

extern crate walrus_node as walrus_rust;

use walrus_rust::{Entry, FsyncSchedule, ReadConsistency, WalIndex, Walrus, enable_fd_backend};

/// Runs all of it.
pub fn main() -> std::io::Result<()> {
    basic_usage()?;
    batches()?;
    advanced_configuration()?;
    namespaces()?;
    index()
}

fn text(entry: &Entry) -> String {
    String::from_utf8_lossy(&entry.data).into_owned()
}

fn basic_usage() -> std::io::Result<()> {
    let wal = Walrus::new()?;
    let data = b"Hello, Walrus!";
    wal.append_for_topic("my-topic", data)?;

    // A look does not consume, a read with a checkpoint does.
    let peeked = wal.read_next("my-topic", false)?.expect("it has just been appended");
    if let Some(entry) = wal.read_next("my-topic", true)? {
        println!("read: {}", text(&entry));
        assert_eq!(entry.data, peeked.data);
    }
    assert!(wal.read_next("my-topic", true)?.is_none());
    Ok(())
}

fn batches() -> std::io::Result<()> {
    let wal = Walrus::new()?;
    let batch = vec![b"entry 1".as_slice(), b"entry 2".as_slice(), b"entry 3".as_slice()];
    wal.batch_append_for_topic("events", &batch)?;

    let max_bytes = 1024 * 1024;
    let entries = wal.batch_read_for_topic("events", max_bytes, true)?;
    assert_eq!(entries.len(), 3);
    for entry in &entries {
        println!("read {} bytes: {}", entry.data.len(), text(entry));
    }
    Ok(())
}

fn advanced_configuration() -> std::io::Result<()> {
    enable_fd_backend();
    // Two handles on one folder at once, as that documentation has it.
    let wal = Walrus::with_consistency(ReadConsistency::StrictlyAtOnce)?;
    let lazy = Walrus::with_consistency_and_schedule(
        ReadConsistency::AtLeastOnce { persist_every: 1000 },
        FsyncSchedule::Milliseconds(500),
    )?;
    lazy.append_for_topic("configured", b"event data")?;
    assert_eq!(wal.read_next("configured", true)?.map(|entry| entry.data), Some(b"event data".to_vec()));
    assert!(lazy.read_next("configured", true)?.is_none());
    Ok(())
}

fn namespaces() -> std::io::Result<()> {
    let one = Walrus::new_for_key("tenant-123")?;
    let other = Walrus::with_consistency_for_key("tenant/456", ReadConsistency::AtLeastOnce { persist_every: 100 })?;
    let strict = Walrus::with_consistency_and_schedule_for_key(
        "transactions",
        ReadConsistency::StrictlyAtOnce,
        FsyncSchedule::SyncEach,
    )?;
    one.append_for_topic("payments", b"of the one")?;
    strict.append_for_topic("payments", b"txn-42 completed")?;
    assert!(other.read_next("payments", true)?.is_none(), "a log of its own");
    assert!(strict.read_next("payments", true)?.is_some() && one.read_next("payments", true)?.is_some());
    Ok(())
}

fn index() -> std::io::Result<()> {
    let mut index = walrus_rust::wal::WalIndex::new("positions")?;
    index.set("mine".to_string(), 7, 4096)?;
    let again = WalIndex::new("positions")?;
    let position = again.get("mine").expect("it was set durably");
    println!("block {}, offset {}", position.cur_block_idx, position.cur_block_offset);
    index.remove("mine")?;
    Ok(())
}
