//! The side that was connected to: docs/PROTOCOL.md#handshake, docs/PROTOCOL.md#subscribe-and-resume
//!
//! ```text
//!     Hello? --Hello--> Open --Subscribe--> Judging --equal--> Shipping      acks, heartbeats
//!       |                                     |
//!       3 s: closed                           '--unequal--> Searching --chains--> Parted
//! ```
//!
//! A client stops at Open; its requests come on streams of their own. What is decided here: whether the peer may follow,
//! whether its claim is proved, that it acknowledges only what was sent to it and never less than before, and when it has
//! been silent for too long.
//!
//! Layer: wire. Uses `frame`, `history`, `message`, `rights`. Knows nothing of streams, nor of who looks the chains up.

use std::collections::VecDeque;

use bytes::Bytes;

use super::history::{Divergence, OurSide, Search, Tail, Verdict, verdict};
use super::message::{
    Ack, Batch, ChainAnswer, ChainQuery, Diverged, Drain, Ext, Heartbeat, Hello, Message, Subscribe, Subscribed,
    Welcome, split_payload, text,
};
use super::rights::{Action, Identity};
use super::{
    Code, Encoded, Frame, HEARTBEAT_INTERVAL, HEARTBEAT_TIMEOUT, HELLO_TIMEOUT, MINOR, Moment, SOFTWARE, Violation,
};
use crate::ids::{Chain, LogId};
use crate::lsn::Lsn;

/// What the node says of itself in its Welcome.
#[derive(Clone, Debug)]
pub(crate) struct Introduction {
    pub(crate) node_id: u128,
    /// None while a fresh follower has not reached its leader.
    pub(crate) log_id: Option<LogId>,
    pub(crate) name: String,
    /// 1 leader, 2 follower.
    pub(crate) role: u8,
    pub(crate) epoch: u32,
    pub(crate) durable: Lsn,
    pub(crate) leader_hint: String,
}

/// What a follower has, as far as it has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) received: Lsn,
    pub(crate) durable: Lsn,
}

/// What the caller is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The peer has introduced itself.
    Opened(Hello),
    /// The peer claims this history: look our side of it up and answer with [`LeaderSession::handle_our_side`].
    Claim(Tail),
    /// Look our chain before this LSN up and answer with [`LeaderSession::handle_our_chain`].
    NeedChain(Lsn),
    /// The claim is proved: open a stream of blocks.
    Ship { sub: u32, start: Lsn },
    /// The follower has got on.
    Acked(Progress),
    /// The claim is refuted, and where the logs parted is known. The peer is told; give it a moment, then close.
    Parted(Divergence),
}

#[derive(Debug)]
enum State {
    /// Nothing was said yet.
    Hello,
    /// Introduced, not subscribed.
    Open,
    /// Waiting for our side of the claim.
    Judging { sub: u32, claim: Tail },
    /// Waiting for both chains before the probed LSN.
    Searching {
        sub: u32,
        claim: Tail,
        ours: Tail,
        search: Search,
        our_chain: Option<Answer>,
        their_chain: Option<Answer>,
    },
    /// Blocks are on their way.
    Shipping { sub: u32, sent: Lsn, progress: Progress },
    /// The logs parted. Nothing is expected any more.
    Parted,
}

/// A chain that is known, or known not to be there.
type Answer = Option<Chain>;

/// One connection's control stream, from the side that was connected to.
#[derive(Debug)]
pub(crate) struct LeaderSession {
    peer: Identity,
    introduction: Introduction,
    state: State,
    /// The peer must have spoken by then.
    deadline: Option<Moment>,
    /// We speak then; none before somebody follows.
    heartbeat_at: Option<Moment>,
    out: VecDeque<Encoded>,
    events: VecDeque<Event>,
}

impl LeaderSession {
    /// A connection of `peer`, made now.
    pub(crate) fn new(peer: Identity, introduction: Introduction, now: Moment) -> LeaderSession {
        LeaderSession {
            peer,
            introduction,
            state: State::Hello,
            deadline: Some(now + HELLO_TIMEOUT),
            heartbeat_at: None,
            out: VecDeque::new(),
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
    pub(crate) fn poll_timeout(&self) -> Option<Moment> {
        self.deadline.into_iter().chain(self.heartbeat_at).min()
    }

    /// Time has passed. `durable` and `clock_ns` go into a heartbeat, if one is due.
    pub(crate) fn handle_timeout(&mut self, now: Moment, durable: Lsn, clock_ns: u64) -> Result<(), Violation> {
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            return Err(match self.state {
                State::Hello => Violation::protocol(format!("no Hello within {HELLO_TIMEOUT:?}")),
                _ => Violation::new(Code::HEARTBEAT_TIMEOUT, format!("nothing heard for {HEARTBEAT_TIMEOUT:?}")),
            });
        }
        if self.heartbeat_at.is_some_and(|at| now >= at) {
            self.out.push_back(Heartbeat { durable_lsn: durable.get(), clock_ns, ext: Ext::default() }.encode());
            self.heartbeat_at = Some(now + HEARTBEAT_INTERVAL);
        }
        Ok(())
    }

    /// A frame came on the control stream.
    pub(crate) fn handle_frame(&mut self, now: Moment, frame: &Frame) -> Result<(), Violation> {
        if matches!(self.state, State::Hello) {
            self.handle_hello(Hello::decode(frame)?)?;
            self.deadline = None;
            return Ok(());
        }
        if self.heartbeat_at.is_some() {
            self.deadline = Some(now + HEARTBEAT_TIMEOUT);
        }
        match frame.kind {
            Heartbeat::KIND => Heartbeat::decode(frame).map(drop),
            Subscribe::KIND => self.handle_subscribe(now, Subscribe::decode(frame)?),
            ChainAnswer::KIND => self.handle_their_chain(ChainAnswer::decode(frame)?),
            Ack::KIND => self.handle_ack(Ack::decode(frame)?),
            other => Err(Violation::protocol(format!("{other} is not for a node's control stream"))),
        }
    }

    fn handle_hello(&mut self, hello: Hello) -> Result<(), Violation> {
        if hello.minor_min > MINOR {
            let what = format!("the peer speaks walrus/1.{} and later, this node walrus/1.{MINOR}", hello.minor_min);
            return Err(Violation::new(Code::VERSION, what));
        }
        if let (Some(theirs), Some(ours)) = (hello.log_id.map(LogId::new), self.introduction.log_id)
            && theirs != ours
        {
            return Err(log_mismatch(theirs, ours));
        }
        let us = &self.introduction;
        let welcome = Welcome {
            minor: effective_minor(hello.minor),
            features: 0,
            node_id: us.node_id,
            log_id: us.log_id.map(LogId::get),
            name: text(&us.name),
            software: SOFTWARE.into(),
            role: us.role,
            epoch: us.epoch,
            durable_lsn: us.durable.get(),
            leader_hint: text(&us.leader_hint),
            ext: Ext::default(),
        };
        self.out.push_back(welcome.encode());
        self.state = State::Open;
        self.events.push_back(Event::Opened(hello));
        Ok(())
    }

    fn handle_subscribe(&mut self, now: Moment, subscribe: Subscribe) -> Result<(), Violation> {
        if !matches!(self.state, State::Open) {
            return Err(Violation::new(Code::LIMIT, "a second Subscribe on one connection"));
        }
        if !self.peer.may(Action::Follow) {
            return Err(Violation::new(Code::FORBIDDEN, format!("{} may not follow", self.peer)));
        }
        if self.introduction.log_id.is_none() {
            return Err(Violation::new(Code::NOT_READY, "this node has not reached its own leader yet"));
        }
        let claim = Tail::from(subscribe.history);
        if claim.lsn < Lsn::FIRST {
            return Err(Violation::protocol("Subscribe from lsn 0"));
        }
        self.deadline = Some(now + HEARTBEAT_TIMEOUT);
        self.heartbeat_at = Some(now + HEARTBEAT_INTERVAL);
        self.state = State::Judging { sub: subscribe.sub, claim };
        self.events.push_back(Event::Claim(claim));
        Ok(())
    }

    /// Our side of the claim that [`Event::Claim`] asked about.
    pub(crate) fn handle_our_side(&mut self, ours: &OurSide) -> Result<(), Violation> {
        let State::Judging { sub, claim } = self.state else { panic!("no claim is being judged") };
        match verdict(&claim, ours) {
            Verdict::Continue => {
                let start = claim.lsn;
                self.out.push_back(Subscribed { sub, start_lsn: start.get(), ext: Ext::default() }.encode());
                let progress = Progress { received: start, durable: start };
                self.state = State::Shipping { sub, sent: start, progress };
                self.events.push_back(Event::Ship { sub, start });
                Ok(())
            }
            Verdict::BehindRetention => {
                let what = format!("lsn {} is no longer kept here; this log {}", claim.lsn, ours.tail);
                Err(Violation::new(Code::BEHIND_RETENTION, what))
            }
            Verdict::Diverged => {
                let search = Search::new(ours.tail.lsn, claim.lsn);
                let ours = ours.tail;
                self.state = State::Searching { sub, claim, ours, search, our_chain: None, their_chain: None };
                self.ask_or_part();
                Ok(())
            }
        }
    }

    /// Our chain, as [`Event::NeedChain`] asked.
    pub(crate) fn handle_our_chain(&mut self, chain: Option<Chain>) {
        if let State::Searching { our_chain, .. } = &mut self.state {
            *our_chain = Some(chain);
            self.compare();
        }
    }

    fn handle_their_chain(&mut self, answer: ChainAnswer) -> Result<(), Violation> {
        let State::Searching { search, their_chain, .. } = &mut self.state else {
            return Err(Violation::protocol("a ChainAnswer that nobody asked for"));
        };
        if search.probe() != Some(Lsn::new(answer.lsn)) || their_chain.is_some() {
            return Err(Violation::protocol(format!("a ChainAnswer for lsn {}, which nobody asked for", answer.lsn)));
        }
        *their_chain = Some(answer.chain.map(Chain::new));
        self.compare();
        Ok(())
    }

    /// Goes on with the search once both chains are known.
    fn compare(&mut self) {
        let State::Searching { search, our_chain, their_chain, .. } = &mut self.state else { return };
        let (Some(ours), Some(theirs)) = (*our_chain, *their_chain) else { return };
        let at = search.probe().expect("a question was open");
        search.answer(at, ours.is_some() && ours == theirs);
        (*our_chain, *their_chain) = (None, None);
        self.ask_or_part();
    }

    fn ask_or_part(&mut self) {
        let State::Searching { sub, claim, ours, search, .. } = &self.state else { return };
        if let Some(at) = search.probe() {
            self.out.push_back(ChainQuery { lsn: at.get(), ext: Ext::default() }.encode());
            self.events.push_back(Event::NeedChain(at));
            return;
        }
        let divergence = Divergence { common: search.common(), leader: *ours, follower: *claim };
        let message = Diverged {
            sub: *sub,
            common_lsn: divergence.common.get(),
            leader: divergence.leader.into(),
            follower: divergence.follower.into(),
            ext: Ext::default(),
        };
        self.out.push_back(message.encode());
        self.events.push_back(Event::Parted(divergence));
        self.state = State::Parted;
    }

    /// Blocks below `sent` have been handed to the stream. Say so before an Ack for them can come.
    pub(crate) fn handle_sent(&mut self, up_to: Lsn) {
        if let State::Shipping { sent, .. } = &mut self.state {
            *sent = up_to.max(*sent);
        }
    }

    fn handle_ack(&mut self, ack: Ack) -> Result<(), Violation> {
        let State::Shipping { sub, sent, progress } = &mut self.state else {
            return Err(Violation::protocol("an Ack, but nothing was subscribed"));
        };
        if ack.sub != *sub {
            return Err(Violation::protocol(format!("an Ack for subscription {}, which there is not", ack.sub)));
        }
        let (received, durable) = (Lsn::new(ack.received_lsn), Lsn::new(ack.durable_lsn));
        // Whoever acknowledges what it cannot have is broken or lying, and retention would believe it.
        if received > *sent || durable > received {
            let what = format!("an Ack of lsn {durable} durable, {received} received, but only {sent} was sent");
            return Err(Violation::protocol(what));
        }
        if received < progress.received || durable < progress.durable {
            let what = format!("an Ack of lsn {durable} after one of lsn {}", progress.durable);
            return Err(Violation::protocol(what));
        }
        *progress = Progress { received, durable };
        self.events.push_back(Event::Acked(*progress));
        Ok(())
    }

    /// The node stops: whoever follows is told how far it still has to come.
    pub(crate) fn handle_drain(&mut self, durable: Lsn) {
        let leader_hint = text(&self.introduction.leader_hint);
        self.out.push_back(Drain { durable_lsn: durable.get(), leader_hint, ext: Ext::default() }.encode());
    }
}

/// The smaller of both sides' versions; with only one version so far, always that.
#[allow(clippy::unnecessary_min_or_max, reason = "MINOR is 0 today, and the rule is for the day when it is not")]
fn effective_minor(theirs: u16) -> u16 {
    MINOR.min(theirs)
}

/// Two logs that never had anything in common.
pub(super) fn log_mismatch(follower: LogId, leader: LogId) -> Violation {
    let what = format!("the follower holds log {follower}, the leader holds log {leader}: they are different logs");
    Violation::new(Code::LOG_MISMATCH, what)
}

/// The batches of one append session, as the node takes them: docs/PROTOCOL.md#append
#[derive(Debug, Default)]
pub(crate) struct BatchOrder {
    next_seq: u64,
}

impl BatchOrder {
    /// The entries of the next batch.
    pub(crate) fn handle_frame(&mut self, frame: &Frame) -> Result<(u64, Vec<Bytes>), Violation> {
        let batch = Batch::decode(frame)?;
        if batch.seq != self.next_seq {
            return Err(Violation::protocol(format!("batch {} where {} was due", batch.seq, self.next_seq)));
        }
        let entries = entries_of(&batch, frame)?;
        self.next_seq += 1;
        Ok((batch.seq, entries))
    }

    /// The entries of a batch that was taken, once more.
    pub(crate) fn entries_again(frame: &Frame) -> Result<Vec<Bytes>, Violation> {
        entries_of(&Batch::decode(frame)?, frame)
    }
}

fn entries_of(batch: &Batch, frame: &Frame) -> Result<Vec<Bytes>, Violation> {
    split_payload(Batch::KIND, batch.lens.iter().copied(), &frame.payload)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::follower::{self, BlockOrder, Delivery, FollowerSession};
    use super::super::frame;
    use super::super::message::{Block, BlocksBegin, Watermark};
    use super::super::rights::Role;
    use super::*;
    use crate::ids::{Epoch, RunId};

    const LOG: u128 = 77;

    /// A log as the sessions see it: the chain and the run id behind each block.
    #[derive(Clone)]
    struct Log(Vec<(u64, u128)>);

    impl Log {
        /// `equal` blocks that every such log has, then `own` blocks of reign `run`.
        fn new(equal: u64, own: u64, run: u128) -> Log {
            let shared = (1..=equal).map(|i| (i * 1000, 1));
            Log(shared.chain((1..=own).map(|i| (equal * 1000 + i + run as u64, run))).collect())
        }

        fn tail(&self) -> Tail {
            let lsn = Lsn::new(self.0.len() as u64 + 1);
            let run_id = RunId::new(self.0.last().map_or(0, |block| block.1));
            Tail { lsn, epoch: Epoch::new(1), run_id, chain: self.chain(lsn).unwrap() }
        }

        fn chain(&self, lsn: Lsn) -> Option<Chain> {
            match lsn.get() {
                0 => None,
                1 => Some(Chain::START),
                n => self.0.get(n as usize - 2).map(|block| Chain::new(block.0)),
            }
        }

        fn our_side(&self, lsn: Lsn) -> OurSide {
            let run_id = (lsn.get() >= 2).then(|| self.0.get(lsn.get() as usize - 2)).flatten();
            OurSide { tail: self.tail(), chain: self.chain(lsn), run_id: run_id.map(|block| RunId::new(block.1)) }
        }
    }

    fn identity(role: Role) -> Identity {
        Identity { cluster: "walrus".into(), role, name: "f1".into(), topics: Vec::new() }
    }

    fn leader(role: Role, log: &Log) -> LeaderSession {
        let introduction = Introduction {
            node_id: 1,
            log_id: Some(LogId::new(LOG)),
            name: "l1".into(),
            role: 1,
            epoch: 1,
            durable: log.tail().lsn,
            leader_hint: String::new(),
        };
        LeaderSession::new(identity(role), introduction, Duration::ZERO)
    }

    fn to_frame(encoded: &Encoded) -> Frame {
        let mut bytes = bytes::BytesMut::from(&[&encoded.head[..], &encoded.payload[..]].concat()[..]);
        frame::decode(&mut bytes).unwrap().unwrap()
    }

    /// How a meeting of two logs ended, as each side sees it.
    #[derive(Debug, PartialEq)]
    enum Met {
        Following(Lsn),
        Parted(Divergence),
    }

    /// Drives a follower and a leader against each other until both have decided.
    fn meet(ours: &Log, theirs: &Log) -> Result<(Met, Met), Violation> {
        let now = Duration::ZERO;
        let mut leader = leader(Role::Node, ours);
        let mut follower = FollowerSession::new(&Hello::new(2, Some(LOG), ""), now);
        let (mut at_leader, mut at_follower) = (None, None);
        for _ in 0..100 {
            while let Some(out) = follower.poll_transmit() {
                leader.handle_frame(now, &to_frame(&out))?;
            }
            while let Some(event) = leader.poll_event() {
                match event {
                    Event::Claim(claim) => leader.handle_our_side(&ours.our_side(claim.lsn))?,
                    Event::NeedChain(lsn) => leader.handle_our_chain(ours.chain(lsn)),
                    Event::Ship { start, .. } => at_leader = Some(Met::Following(start)),
                    Event::Parted(divergence) => at_leader = Some(Met::Parted(divergence)),
                    Event::Opened(_) | Event::Acked(_) => {}
                }
            }
            while let Some(out) = leader.poll_transmit() {
                follower.handle_frame(now, &to_frame(&out))?;
            }
            while let Some(event) = follower.poll_event() {
                match event {
                    follower::Event::Welcomed { .. } => follower.subscribe(now, theirs.tail()),
                    follower::Event::NeedChain(lsn) => follower.handle_our_chain(lsn, theirs.chain(lsn)),
                    follower::Event::Following { start } => at_follower = Some(Met::Following(start)),
                    follower::Event::Parted(divergence) => at_follower = Some(Met::Parted(divergence)),
                    _ => {}
                }
            }
            if let (Some(a), Some(b)) = (&mut at_leader, &mut at_follower) {
                return Ok((
                    std::mem::replace(a, Met::Following(Lsn::FIRST)),
                    std::mem::replace(b, Met::Following(Lsn::FIRST)),
                ));
            }
        }
        panic!("they never decided");
    }

    #[test]
    fn a_follower_that_holds_a_prefix_goes_on_where_it_ends() {
        let ours = Log::new(40, 0, 1);
        for held in 0..=40 {
            let (a, b) = meet(&ours, &Log::new(held, 0, 1)).unwrap();
            assert_eq!(a, Met::Following(Lsn::new(held + 1)));
            assert_eq!(a, b);
        }
    }

    #[test]
    fn unequal_histories_part_and_both_sides_name_the_same_common_point_and_tails() {
        for (ours, theirs) in [(0, 1), (1, 1), (5, 9), (9, 5)] {
            for equal in [0, 1, 2, 17, 100] {
                let (ours, theirs) = (Log::new(equal, ours, 10), Log::new(equal, theirs, 20));
                let (a, b) = meet(&ours, &theirs).unwrap();
                let divergence =
                    Divergence { common: Lsn::new(equal + 1), leader: ours.tail(), follower: theirs.tail() };
                assert_eq!(a, Met::Parted(divergence));
                assert_eq!(a, b);
            }
        }
    }

    #[test]
    fn another_log_is_refused_by_either_side_and_both_ids_are_named() {
        let log = Log::new(3, 0, 1);
        let mut node = leader(Role::Node, &log);
        let refused = node.handle_frame(Duration::ZERO, &to_frame(&Hello::new(2, Some(78), "").encode())).unwrap_err();
        assert_eq!(refused.code, Code::LOG_MISMATCH);
        assert!(refused.what.contains(&format!("{:032x}", 78)) && refused.what.contains(&format!("{LOG:032x}")));

        let mut node = leader(Role::Node, &log);
        node.handle_frame(Duration::ZERO, &to_frame(&Hello::new(2, None, "").encode())).unwrap();
        let mut other = FollowerSession::new(&Hello::new(2, Some(78), ""), Duration::ZERO);
        let refused = other.handle_frame(Duration::ZERO, &to_frame(&node.poll_transmit().unwrap())).unwrap_err();
        assert_eq!(refused.code, Code::LOG_MISMATCH);
    }

    /// A leader's session with a follower that has subscribed to all of `log`.
    fn shipping(log: &Log, role: Role) -> Result<LeaderSession, Violation> {
        let mut leader = leader(role, log);
        leader.handle_frame(Duration::ZERO, &to_frame(&Hello::new(2, Some(LOG), "").encode()))?;
        let subscribe = Subscribe { sub: 1, history: log.tail().into(), ext: Ext::default() };
        leader.handle_frame(Duration::ZERO, &to_frame(&subscribe.encode()))?;
        leader.handle_our_side(&log.our_side(log.tail().lsn))?;
        Ok(leader)
    }

    #[test]
    fn only_a_node_or_an_admin_may_follow() {
        let log = Log::new(3, 0, 1);
        assert!(shipping(&log, Role::Node).is_ok() && shipping(&log, Role::Admin).is_ok());
        for role in [Role::Producer, Role::Consumer] {
            assert_eq!(shipping(&log, role).unwrap_err().code, Code::FORBIDDEN);
        }
    }

    #[test]
    fn an_ack_beyond_what_was_sent_or_backwards_ends_the_connection() {
        let log = Log::new(3, 0, 1);
        let ack = |received_lsn, durable_lsn| {
            to_frame(&Ack { sub: 1, received_lsn, durable_lsn, ext: Ext::default() }.encode())
        };
        let mut good = shipping(&log, Role::Node).unwrap();
        good.handle_sent(Lsn::new(9));
        good.handle_frame(Duration::ZERO, &ack(9, 6)).unwrap();
        let progress = Progress { received: Lsn::new(9), durable: Lsn::new(6) };
        assert!(std::iter::from_fn(|| good.poll_event()).any(|event| event == Event::Acked(progress)));
        for (received, durable) in [(10, 6), (9, 10), (8, 6), (9, 5), (5, 7)] {
            let mut leader = shipping(&log, Role::Node).unwrap();
            leader.handle_sent(Lsn::new(9));
            leader.handle_frame(Duration::ZERO, &ack(9, 6)).unwrap();
            let refused = leader.handle_frame(Duration::ZERO, &ack(received, durable)).unwrap_err();
            assert_eq!(refused.code, Code::PROTOCOL, "{received} {durable}");
        }
        let mut other = shipping(&log, Role::Node).unwrap();
        let unknown = Ack { sub: 2, received_lsn: 4, durable_lsn: 4, ext: Ext::default() };
        assert!(other.handle_frame(Duration::ZERO, &to_frame(&unknown.encode())).is_err());
    }

    #[test]
    fn a_peer_that_says_nothing_is_closed_after_three_seconds_and_a_silent_follower_after_five() {
        let log = Log::new(3, 0, 1);
        let mut mute = leader(Role::Node, &log);
        assert_eq!(mute.poll_timeout(), Some(HELLO_TIMEOUT));
        assert!(mute.handle_timeout(HELLO_TIMEOUT - Duration::from_millis(1), Lsn::FIRST, 0).is_ok());
        assert_eq!(mute.handle_timeout(HELLO_TIMEOUT, Lsn::FIRST, 0).unwrap_err().code, Code::PROTOCOL);

        let mut leader = shipping(&log, Role::Node).unwrap();
        while leader.poll_transmit().is_some() {}
        let mut heartbeats = 0;
        let silent = loop {
            let now = leader.poll_timeout().unwrap();
            match leader.handle_timeout(now, Lsn::new(4), 0) {
                Ok(()) => heartbeats += leader.poll_transmit().map_or(0, |_| 1),
                Err(violation) => break (now, violation.code),
            }
        };
        assert_eq!(silent, (HEARTBEAT_TIMEOUT, Code::HEARTBEAT_TIMEOUT));
        assert_eq!(heartbeats, 4, "once a second until then");
    }

    #[test]
    fn a_client_that_never_subscribes_is_not_bound_to_heartbeats() {
        let mut leader = leader(Role::Consumer, &Log::new(3, 0, 1));
        leader.handle_frame(Duration::ZERO, &to_frame(&Hello::new(0, None, "").encode())).unwrap();
        assert_eq!(leader.poll_timeout(), None);
    }

    #[test]
    fn frames_out_of_turn_are_refused() {
        let log = Log::new(3, 0, 1);
        let heartbeat = to_frame(&Heartbeat { durable_lsn: 1, clock_ns: 0, ext: Ext::default() }.encode());
        assert!(leader(Role::Node, &log).handle_frame(Duration::ZERO, &heartbeat).is_err(), "before Hello");
        let answer = to_frame(&ChainAnswer { lsn: 2, chain: None, ext: Ext::default() }.encode());
        assert!(shipping(&log, Role::Node).unwrap().handle_frame(Duration::ZERO, &answer).is_err(), "unasked");
        let again = Subscribe { sub: 2, history: log.tail().into(), ext: Ext::default() };
        let refused = shipping(&log, Role::Node).unwrap().handle_frame(Duration::ZERO, &to_frame(&again.encode()));
        assert_eq!(refused.unwrap_err().code, Code::LIMIT);
    }

    fn block(lsn: u64, remaining: u32, bytes: &'static [u8]) -> Frame {
        to_frame(&Block { lsn, remaining, ext: Ext::default() }.encode_with(Bytes::from_static(bytes)))
    }

    fn blocks_from(start: u64) -> BlockOrder {
        let mut order = BlockOrder::new(Lsn::new(start));
        let begin = BlocksBegin { sub: 1, start_lsn: start, ext: Ext::default() };
        assert_eq!(order.handle_frame(&to_frame(&begin.encode())), Ok(Delivery::Begun));
        order
    }

    #[test]
    fn blocks_pass_only_in_order_and_groups_only_whole() {
        let mut order = blocks_from(5);
        for (lsn, remaining) in [(5, 0), (6, 2), (7, 1), (8, 0), (9, 0)] {
            let Ok(Delivery::Block { ends_group, .. }) = order.handle_frame(&block(lsn, remaining, b"x")) else {
                panic!("block {lsn} was refused")
            };
            assert_eq!(ends_group, remaining == 0);
        }
        for (lsn, remaining) in [(4, 0), (6, 0), (u64::MAX, 0)] {
            assert!(blocks_from(5).handle_frame(&block(lsn, remaining, b"x")).is_err());
        }
        let mut order = blocks_from(5);
        order.handle_frame(&block(5, 2, b"x")).unwrap();
        assert!(order.handle_frame(&block(6, 0, b"x")).is_err(), "a group must count down by one");
    }

    #[test]
    fn a_watermark_must_stand_where_the_stream_stands_and_never_inside_a_group() {
        let watermark = |durable_lsn| to_frame(&Watermark { durable_lsn, clock_ns: 3, ext: Ext::default() }.encode());
        let mut order = blocks_from(5);
        assert_eq!(order.handle_frame(&watermark(5)), Ok(Delivery::CaughtUp { durable: Lsn::new(5), clock_ns: 3 }));
        assert!(order.handle_frame(&watermark(6)).is_err());
        order.handle_frame(&block(5, 1, b"x")).unwrap();
        assert!(order.handle_frame(&watermark(6)).is_err());
    }

    #[test]
    fn a_group_that_never_ends_is_refused_before_it_fills_the_memory() {
        let mut order = blocks_from(1);
        let big: &'static [u8] = Box::leak(vec![0; crate::limits::BLOCK_BYTES_MAX].into_boxed_slice());
        let refused = (1..=9).map(|lsn| order.handle_frame(&block(lsn, 1000 - lsn as u32, big))).find_map(Result::err);
        assert_eq!(refused.unwrap().code, Code::FRAME_TOO_LARGE);
    }

    #[test]
    fn batches_of_a_session_are_numbered_without_gap() {
        let batch =
            |seq| to_frame(&Batch { seq, lens: vec![1], ext: Ext::default() }.encode_with(Bytes::from_static(b"x")));
        let mut order = BatchOrder::default();
        assert_eq!(order.handle_frame(&batch(0)).unwrap(), (0, vec![Bytes::from_static(b"x")]));
        assert!(order.handle_frame(&batch(2)).is_err() && order.handle_frame(&batch(0)).is_err());
        assert_eq!(order.handle_frame(&batch(1)).unwrap().0, 1);
    }
}
