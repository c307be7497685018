//! How a node ends: the signals, and a log that does not close.
//!
//! Layer: node.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::NodeError;
use crate::engine::Engine;

/// SIGTERM and SIGINT, as they come.
pub(super) struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Signals> {
        Ok(Signals { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    /// The name of the next one.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}

/// Closes the log, unless the disk does not answer: an operation that hangs in the kernel cannot be called back, and must not keep the
/// node from ending. What it was about is found by the next start.
///
/// # Errors
/// The log could not be closed in order, or nothing became durable for so long.
pub(super) async fn close_in_time(log: Engine, patience: Duration) -> Result<(), NodeError> {
    let (durable, published) = (log.durable(), log.published());
    let mut closing = spawn_blocking(move || log.close());
    loop {
        let before = durable.lsn();
        match timeout(patience, &mut closing).await {
            Ok(closed) => return Ok(closed.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?),
            // A slow disk is not one that hangs.
            Err(_) if durable.lsn() > before => {}
            Err(_) => return Err(NodeError::DiskHangs { durable: durable.lsn(), published: published.lsn() }),
        }
    }
}
