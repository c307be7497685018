//! The side that follows: docs/PROTOCOL.md#subscribe-and-resume, docs/PROTOCOL.md#blocks
//!
//! Two machines for two streams. [`FollowerSession`] has the control stream: introduction, claim, chains, heartbeats,
//! acknowledgements. [`BlockOrder`] has the stream of blocks: it lets through only what continues the log exactly where it
//! ends, so a leader that skips, repeats or mixes cannot get a byte as far as the engine.
//!
//! ```text
//!     Welcome? --Welcome--> Open --subscribe()--> Claimed --Subscribed--> Following
//!                                                    |
//!                                                    '--ChainQuery*, Diverged--> Parted
//! ```
//!
//! Layer: wire. Uses `frame`, `history`, `message`. Knows nothing of streams, nor of what is done with the blocks.

use std::collections::VecDeque;

use bytes::Bytes;

use super::history::{Divergence, Tail};
use super::leader::{Progress, log_mismatch};
use super::message::{
    Ack, Block, BlocksBegin, ChainAnswer, ChainQuery, Diverged, Drain, End, Ext, Heartbeat, Hello, Message, Subscribe,
    Subscribed, Watermark, Welcome,
};
use super::{Code, Encoded, Frame, HEARTBEAT_INTERVAL, HEARTBEAT_TIMEOUT, HELLO_TIMEOUT, MINOR, Moment, Violation};
use crate::ids::{Chain, LogId};
use crate::limits::GROUP_BYTES_MAX;
use crate::lsn::Lsn;

/// The only subscription of a connection.
const SUB: u32 = 1;

/// What the caller is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The leader has introduced itself and holds this log: open it, then [`FollowerSession::subscribe`].
    Welcomed { log_id: LogId, welcome: Welcome },
    /// Look our chain before this LSN up and answer with [`FollowerSession::handle_our_chain`].
    NeedChain(Lsn),
    /// The claim is proved: a stream of blocks is coming.
    Following { start: Lsn },
    /// The leader's durable watermark, by its heartbeat.
    Heard { durable: Lsn },
    /// The leader is about to stop.
    Draining,
    /// The claim is refuted.
    Parted(Divergence),
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Welcome,
    Open,
    Claimed(Tail),
    Following,
    Parted,
}

/// One connection's control stream, from the side that follows.
#[derive(Debug)]
pub(crate) struct FollowerSession {
    /// The log of our folder; none while it is fresh.
    log_id: Option<LogId>,
    state: State,
    acked: Option<Progress>,
    deadline: Moment,
    heartbeat_at: Option<Moment>,
    out: VecDeque<Encoded>,
    events: VecDeque<Event>,
}

impl FollowerSession {
    /// A connection to the leader, made now.
    pub(crate) fn new(hello: &Hello, now: Moment) -> FollowerSession {
        FollowerSession {
            log_id: hello.log_id.map(LogId::new),
            state: State::Welcome,
            acked: None,
            deadline: now + HELLO_TIMEOUT,
            heartbeat_at: None,
            out: VecDeque::from([hello.encode()]),
            events: VecDeque::new(),
        }
    }

    /// The next frame to send on the control stream.
    pub(crate) fn poll_transmit(&mut self) -> Option<Encoded> {
        self.out.pop_front()
    }

    /// The next thing to do.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub(crate) fn poll_timeout(&self) -> Moment {
        self.heartbeat_at.map_or(self.deadline, |at| at.min(self.deadline))
    }

    /// Time has passed. `durable` and `clock_ns` go into a heartbeat, if one is due.
    pub(crate) fn handle_timeout(&mut self, now: Moment, durable: Lsn, clock_ns: u64) -> Result<(), Violation> {
        if now >= self.deadline {
            return Err(Violation::new(Code::HEARTBEAT_TIMEOUT, "the leader has been silent for too long"));
        }
        if self.heartbeat_at.is_some_and(|at| now >= at) {
            self.out.push_back(Heartbeat { durable_lsn: durable.get(), clock_ns, ext: Ext::default() }.encode());
            self.heartbeat_at = Some(now + HEARTBEAT_INTERVAL);
        }
        Ok(())
    }

    /// A frame came on the control stream.
    pub(crate) fn handle_frame(&mut self, now: Moment, frame: &Frame) -> Result<(), Violation> {
        self.deadline = now + HEARTBEAT_TIMEOUT;
        if self.state == State::Welcome {
            return self.handle_welcome(Welcome::decode(frame)?);
        }
        match frame.kind {
            Heartbeat::KIND => {
                let durable = Lsn::new(Heartbeat::decode(frame)?.durable_lsn);
                self.events.push_back(Event::Heard { durable });
                Ok(())
            }
            Drain::KIND => {
                let durable = Lsn::new(Drain::decode(frame)?.durable_lsn);
                self.events.extend([Event::Heard { durable }, Event::Draining]);
                Ok(())
            }
            Subscribed::KIND => self.handle_subscribed(Subscribed::decode(frame)?),
            ChainQuery::KIND => self.handle_query(ChainQuery::decode(frame)?),
            Diverged::KIND => self.handle_diverged(Diverged::decode(frame)?),
            other => Err(Violation::protocol(format!("{other} is not for a follower's control stream"))),
        }
    }

    fn handle_welcome(&mut self, welcome: Welcome) -> Result<(), Violation> {
        if welcome.minor > MINOR {
            return Err(Violation::new(Code::VERSION, format!("the leader insists on walrus/1.{}", welcome.minor)));
        }
        let Some(theirs) = welcome.log_id.map(LogId::new) else {
            return Err(Violation::new(Code::NOT_READY, "the leader has no log yet"));
        };
        if let Some(ours) = self.log_id
            && ours != theirs
        {
            return Err(log_mismatch(ours, theirs));
        }
        self.state = State::Open;
        self.events.push_back(Event::Welcomed { log_id: theirs, welcome });
        Ok(())
    }

    /// Claims the history of our log and asks for what follows.
    pub(crate) fn subscribe(&mut self, now: Moment, tail: Tail) {
        assert_eq!(self.state, State::Open, "one subscription a connection");
        self.out.push_back(Subscribe { sub: SUB, history: tail.into(), ext: Ext::default() }.encode());
        self.state = State::Claimed(tail);
        // Opening a log takes as long as it takes; the leader owes us an answer from now on.
        self.deadline = now + HEARTBEAT_TIMEOUT;
        self.heartbeat_at = Some(now + HEARTBEAT_INTERVAL);
    }

    fn handle_subscribed(&mut self, subscribed: Subscribed) -> Result<(), Violation> {
        let State::Claimed(tail) = self.state else {
            return Err(Violation::protocol("Subscribed, but nothing was asked for"));
        };
        let start = Lsn::new(subscribed.start_lsn);
        if subscribed.sub != SUB || start != tail.lsn {
            let what = format!("Subscribed from lsn {start}, but lsn {} was asked for", tail.lsn);
            return Err(Violation::protocol(what));
        }
        self.acked = Some(Progress { received: start, durable: start });
        self.state = State::Following;
        self.events.push_back(Event::Following { start });
        Ok(())
    }

    fn handle_query(&mut self, query: ChainQuery) -> Result<(), Violation> {
        if !matches!(self.state, State::Claimed(_)) {
            return Err(Violation::protocol("a ChainQuery, but no claim is open"));
        }
        self.events.push_back(Event::NeedChain(Lsn::new(query.lsn)));
        Ok(())
    }

    /// Our chain before `lsn`, as [`Event::NeedChain`] asked.
    pub(crate) fn handle_our_chain(&mut self, lsn: Lsn, chain: Option<Chain>) {
        let answer = ChainAnswer { lsn: lsn.get(), chain: chain.map(Chain::get), ext: Ext::default() };
        self.out.push_back(answer.encode());
    }

    fn handle_diverged(&mut self, diverged: Diverged) -> Result<(), Violation> {
        let State::Claimed(follower) = self.state else {
            return Err(Violation::protocol("Diverged, but no claim is open"));
        };
        self.state = State::Parted;
        let (common, leader) = (Lsn::new(diverged.common_lsn), diverged.leader.into());
        self.events.push_back(Event::Parted(Divergence { common, leader, follower }));
        Ok(())
    }

    /// We have got on. Several calls before the next [`poll_transmit`](Self::poll_transmit) may become several Acks; the
    /// caller coalesces.
    pub(crate) fn handle_progress(&mut self, progress: Progress) {
        let Some(acked) = self.acked else { return };
        assert!(progress.durable <= progress.received, "durable before it was received");
        if progress == acked {
            return;
        }
        self.acked = Some(progress);
        let Progress { received, durable } = progress;
        let ack = Ack { sub: SUB, received_lsn: received.get(), durable_lsn: durable.get(), ext: Ext::default() };
        self.out.push_back(ack.encode());
    }
}

/// What came on the stream of blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The stream is the one that was asked for.
    Begun,
    /// The next block of the log.
    Block { lsn: Lsn, bytes: Bytes, ends_group: bool },
    /// All that was durable on the leader has come.
    CaughtUp { durable: Lsn, clock_ns: u64 },
    /// No more will come.
    Ended { code: Code, message: String },
}

/// The order of blocks on one stream.
#[derive(Debug)]
pub(crate) struct BlockOrder {
    begun: bool,
    next: Lsn,
    /// Within a group: blocks still to come. `None` between groups.
    remaining: Option<u32>,
    group_bytes: usize,
}

impl BlockOrder {
    /// A stream that has to begin with `start`.
    pub(crate) fn new(start: Lsn) -> BlockOrder {
        BlockOrder { begun: false, next: start, remaining: None, group_bytes: 0 }
    }

    /// A frame came on the stream.
    pub(crate) fn handle_frame(&mut self, frame: &Frame) -> Result<Delivery, Violation> {
        if !self.begun {
            return self.handle_begin(BlocksBegin::decode(frame)?);
        }
        match frame.kind {
            Block::KIND => self.handle_block(Block::decode(frame)?, &frame.payload),
            Watermark::KIND => self.handle_watermark(Watermark::decode(frame)?),
            End::KIND => {
                let End { code, message, .. } = End::decode(frame)?;
                Ok(Delivery::Ended { code, message })
            }
            other => Err(Violation::protocol(format!("{other} on a stream of blocks"))),
        }
    }

    fn handle_begin(&mut self, begin: BlocksBegin) -> Result<Delivery, Violation> {
        if begin.sub != SUB || begin.start_lsn != self.next.get() {
            let what = format!("a stream of blocks from lsn {}, but lsn {} is due", begin.start_lsn, self.next);
            return Err(Violation::protocol(what));
        }
        self.begun = true;
        Ok(Delivery::Begun)
    }

    fn handle_block(&mut self, block: Block, bytes: &Bytes) -> Result<Delivery, Violation> {
        let lsn = Lsn::new(block.lsn);
        if lsn != self.next {
            return Err(Violation::protocol(format!("block {lsn} where block {} was due", self.next)));
        }
        if self.remaining.is_some_and(|due| block.remaining != due) {
            let what = format!("block {lsn} says that {} blocks remain of its group, not as before", block.remaining);
            return Err(Violation::protocol(what));
        }
        // A group is held in memory until it is whole, so its size is bounded before it is gathered.
        self.group_bytes += bytes.len();
        if self.group_bytes > GROUP_BYTES_MAX {
            let what = format!("the group of block {lsn} is larger than {GROUP_BYTES_MAX} bytes");
            return Err(Violation::new(Code::FRAME_TOO_LARGE, what));
        }
        self.next = lsn.next();
        let ends_group = block.remaining == 0;
        self.remaining = block.remaining.checked_sub(1);
        if ends_group {
            self.group_bytes = 0;
        }
        Ok(Delivery::Block { lsn, bytes: bytes.clone(), ends_group })
    }

    fn handle_watermark(&mut self, watermark: Watermark) -> Result<Delivery, Violation> {
        let durable = Lsn::new(watermark.durable_lsn);
        if durable != self.next || self.remaining.is_some() {
            let what = format!("all below lsn {durable} is said to have come, but block {} is due", self.next);
            return Err(Violation::protocol(what));
        }
        Ok(Delivery::CaughtUp { durable, clock_ns: watermark.clock_ns })
    }
}
