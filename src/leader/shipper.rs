//! One subscription: durable blocks, in order, to one follower: docs/PROTOCOL.md#blocks
//!
//! ```text
//!     next < durable    read blocks, send them                    from memory or from disk, the same call
//!     next = durable    Watermark, then wait for the watermark to move, or a second
//! ```
//!
//! Catching up and going live are the same loop, so there is no seam between them at which a block could be missed or sent
//! twice. A slow follower stops this task in `flush`, at the end of QUIC's window; nobody waits for it, least of all an append.
//!
//! Layer: leader. Uses `engine`, `net`, `wire`. Knows nothing of the control stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;
use tokio::time::sleep;

use super::followers::Registration;
use super::{Counted, Phase, Server, blocking, clock_ns, count, read_violation};
use crate::engine::Engine;
use crate::limits::BLOCK_BYTES_MAX;
use crate::log::segments::PortableBlock;
use crate::lsn::Lsn;
use crate::net::stream::{FrameWriter, StreamError};
use crate::wire::message::{Block, BlocksBegin, End, Ext, Message, Watermark};
use crate::wire::{Code, HEARTBEAT_INTERVAL};

/// Bytes of blocks read at once: enough to keep the wire busy during the next read, little enough to be held per follower.
const READ_BYTES: usize = 2 * BLOCK_BYTES_MAX;

/// One stream of blocks.
pub(super) struct Shipper {
    pub(super) server: Arc<Server>,
    pub(super) log: Engine,
    pub(super) registration: Arc<Registration>,
    pub(super) sub: u32,
    /// The block that is sent next.
    pub(super) next: Lsn,
    /// How far has been handed to the stream, for whoever checks the acknowledgements.
    pub(super) sent: Arc<AtomicU64>,
    pub(super) writer: FrameWriter,
    /// Counted until End has been said.
    pub(super) _ending: Counted,
}

impl Shipper {
    /// Ships until the node closes or the stream breaks.
    pub(super) async fn run(mut self) -> Result<(), StreamError> {
        let mut phase = self.server.phase.subscribe();
        let begin = BlocksBegin { sub: self.sub, start_lsn: self.next.get(), ext: Ext::default() };
        self.writer.push(begin.encode());
        let watermark = self.log.durable();
        let _following = self.log.following();
        while *phase.borrow() < Phase::Closing {
            if self.next < watermark.lsn() {
                self.ship_some().await?;
            } else {
                self.say_caught_up().await?;
                self.wait(&mut phase).await;
            }
        }
        self.writer.push(End::new(Code::DRAINING, "the node is stopping").encode());
        self.writer.flush().await?;
        self.writer.finish();
        Ok(())
    }

    async fn ship_some(&mut self) -> Result<(), StreamError> {
        let (log, from) = (self.log.clone(), self.next);
        let read = blocking(move || log.portable_blocks(from, READ_BYTES)).await;
        let blocks = read.map_err(|error| read_violation(&error))?;
        let durable = self.log.durable().lsn();
        let mut bytes = 0;
        let count_of = blocks.len();
        for block in blocks {
            bytes += block.bytes.len() as u64;
            self.push(block, durable);
        }
        // Before a byte of them can be acknowledged.
        self.sent.store(self.next.get(), Ordering::Release);
        self.registration.sent(self.next, bytes);
        self.writer.flush().await?;
        count(&self.server.counters.shipped_blocks, count_of);
        count(&self.server.counters.shipped_bytes, bytes as usize);
        Ok(())
    }

    fn push(&mut self, block: PortableBlock, durable: Lsn) {
        // A follower must never hold what a power cut can take from its leader.
        assert!(block.lsn < durable, "{} is not durable, the watermark is at {durable}", block.lsn);
        assert_eq!(block.lsn, self.next, "blocks are shipped in order");
        let header = Block { lsn: block.lsn.get(), remaining: block.remaining, ext: Ext::default() };
        self.writer.push(header.encode_with(block.bytes));
        self.next = self.next.next();
    }

    /// The follower has all there is, as of now.
    async fn say_caught_up(&mut self) -> Result<(), StreamError> {
        self.registration.caught_up();
        let watermark = Watermark { durable_lsn: self.next.get(), clock_ns: clock_ns(), ext: Ext::default() };
        self.writer.send(watermark.encode()).await
    }

    /// Until there is more, the node closes, or it is time to say again that there is no more.
    async fn wait(&self, phase: &mut watch::Receiver<Phase>) {
        let watermark = self.log.durable();
        let more = async {
            // A log that has ended answers at once and for ever: then only the time passes.
            if watermark.has_ended() {
                std::future::pending::<()>().await;
            }
            watermark.changed_past(self.next).await;
        };
        tokio::select! {
            () = more => {}
            () = sleep(HEARTBEAT_INTERVAL) => {}
            _ = phase.wait_for(|&phase| phase == Phase::Closing) => {}
        }
    }
}
