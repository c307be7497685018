//! How a node ends: the signals, and a log that does not close.
//!
//! Layer: node.

use std::io;
use std::time::{Duration, Instant};

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
    let (durable, published, began) = (log.durable(), log.published(), Instant::now());
    let closes = log.clone();
    let mut closing = spawn_blocking(move || closes.close());
    loop {
        let before = durable.lsn();
        match timeout(patience, &mut closing).await {
            Ok(closed) => return Ok(closed.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?),
            // A slow disk is not one that hangs.
            Err(_) if durable.lsn() > before => {}
            Err(_) => {
                let (what, since) = log.waits_for().unwrap_or(("the closing of the log", began));
                let (since, durable, published) = (since.elapsed(), durable.lsn(), published.lsn());
                return Err(NodeError::DiskHangs { what, since, durable, published });
            }
        }
    }
}
