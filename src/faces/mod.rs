//! Other people's interfaces over the engine: what a program knows already stays as it was.
//!
//! ```text
//!   WalWriter (wal_writer.rs)      count-batched: append returns at once, one thread writes and flushes for everybody
//!   Walrus (walrus/)               the interface of the crate walrus-rust 0.2
//!         `--> Engine: append, append_batch, read, cursors
//! ```
//!
//! A face adds no promise of its own about bytes: atomicity, order and durability are the engine's. It translates, and what cannot be
//! translated it refuses.
//!
//! Layer: faces. Uses `engine`. Knows nothing of files, blocks or the network.

pub(crate) mod wal_writer;
pub(crate) mod walrus;
