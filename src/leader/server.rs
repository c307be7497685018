//! Accepting, admission, and one control stream a connection: docs/PROTOCOL.md#handshake
//!
//! Layer: leader. Uses `engine`, `net`, `wire`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use super::followers::Registration;
use super::reads::Read;
use super::shipper::Shipper;
use super::{
    CONNECTIONS_OF_ONE_MAX, Counted, Phase, Server, blocking, clock_ns, count, expel, ingest, read_violation, reads,
};
use crate::engine::Engine;
use crate::format::superblock::Role as LogRole;
use crate::lsn::Lsn;
use crate::net::endpoint::{CONNECT_TIMEOUT, printable};
use crate::net::stream::{FrameReader, FrameWriter, StreamError};
use crate::net::tls::peer_identity;
use crate::topic::check_name;
use crate::wire::history::{Divergence, OurSide, Tail};
use crate::wire::leader::{Event, Introduction, LeaderSession};
use crate::wire::message::{AppendBegin, Hello, Message, ReadBegin, Refused, StatusRequest, TopicsRequest};
use crate::wire::rights::{Action, Identity};
use crate::wire::{Code, Frame, HELLO_TIMEOUT, Violation};

/// How long a follower whose claim was refuted may take to hear it.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Takes connections until the endpoint is closed.
pub(super) async fn accept(server: Arc<Server>) {
    while let Some(incoming) = server.endpoint.accept().await {
        if *server.phase.borrow() > Phase::Serving {
            incoming.refuse();
            continue;
        }
        let handshake = Arc::clone(&server.handshakes).try_acquire_owned().ok();
        if handshake.is_none() && incoming.may_retry() {
            // Many at once: whoever cannot answer at the address it claims goes no further.
            let _ = incoming.retry();
            continue;
        }
        let Ok(place) = Arc::clone(&server.connections).try_acquire_owned() else {
            count(&server.counters.refused_connections, 1);
            tracing::warn!(address = %incoming.remote_address(), "connection refused: there are too many");
            incoming.refuse();
            continue;
        };
        tokio::spawn(connection(Arc::clone(&server), incoming, handshake, place));
    }
}

/// One connection from its first packet to its last.
async fn connection(
    server: Arc<Server>,
    incoming: quinn::Incoming,
    handshake: Option<OwnedSemaphorePermit>,
    _place: OwnedSemaphorePermit,
) {
    let address = incoming.remote_address();
    let accepted = async { incoming.accept()?.await };
    let connection = match timeout(CONNECT_TIMEOUT, accepted).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            count(&server.counters.refused_connections, 1);
            tracing::warn!(%address, "handshake failed: {error}");
            return;
        }
        Err(_) => return,
    };
    drop(handshake);
    let admitted = peer_identity(&connection, &server.setup.cluster).and_then(|peer| {
        let place = Place::take(&server, &peer)?;
        Ok((peer, place))
    });
    let (peer, _place_of_one) = match admitted {
        Ok(admitted) => admitted,
        Err(violation) => {
            count(&server.counters.refused_connections, 1);
            return expel(&connection, &"unknown", &violation);
        }
    };
    match Control::serve(&server, &connection, &peer).await {
        Ok(()) => tracing::debug!(%peer, %address, "disconnected"),
        Err(StreamError::Violation(violation)) => expel(&connection, &peer, &violation),
        Err(error) => tracing::debug!(%peer, %address, "connection lost: {error}"),
    }
}

/// One connection of one certificate, counted.
struct Place {
    server: Arc<Server>,
    who: String,
}

impl Place {
    fn take(server: &Arc<Server>, peer: &Identity) -> Result<Place, Violation> {
        let who = peer.to_uri();
        let mut table = server.by_identity.lock().expect("no holder of this lock panics");
        let connections = table.entry(who.clone()).or_default();
        if *connections >= CONNECTIONS_OF_ONE_MAX {
            return Err(Violation::new(Code::LIMIT, format!("{peer} has {connections} connections already")));
        }
        *connections += 1;
        Ok(Place { server: Arc::clone(server), who })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.server.by_identity.lock().expect("no holder of this lock panics");
        if let Some(connections) = table.get_mut(&self.who) {
            *connections -= 1;
            if *connections == 0 {
                table.remove(&self.who);
            }
        }
    }
}

/// The control stream of one connection, and the tasks that belong to it: they end with it.
struct Control<'a> {
    server: &'a Arc<Server>,
    connection: &'a quinn::Connection,
    peer: &'a Identity,
    session: LeaderSession,
    start: Instant,
    reader: FrameReader,
    writer: FrameWriter,
    hello: Option<Hello>,
    sent: Arc<AtomicU64>,
    registration: Option<Arc<Registration>>,
    tasks: JoinSet<()>,
}

impl<'a> Control<'a> {
    async fn serve(
        server: &'a Arc<Server>,
        connection: &'a quinn::Connection,
        peer: &'a Identity,
    ) -> Result<(), StreamError> {
        let start = Instant::now();
        let session = LeaderSession::new(peer.clone(), introduction(server), start.elapsed());
        let opened = timeout(HELLO_TIMEOUT, connection.accept_bi()).await;
        let silent = || Violation::protocol(format!("no Hello within {HELLO_TIMEOUT:?}"));
        let (send, recv) = opened.map_err(|_| silent())??;
        let (writer, reader) = (FrameWriter::new(send), FrameReader::new(recv));
        writer.set_priority(100);
        let sent = Arc::new(AtomicU64::new(0));
        let (hello, registration, tasks) = (None, None, JoinSet::new());
        Control { server, connection, peer, session, start, reader, writer, hello, sent, registration, tasks }
            .run()
            .await
    }

    async fn run(mut self) -> Result<(), StreamError> {
        let mut phase = self.server.phase.subscribe();
        let mut drained = false;
        loop {
            while let Some(event) = self.session.poll_event() {
                if self.act(event).await?.is_break() {
                    return Ok(());
                }
            }
            while let Some(frame) = self.session.poll_transmit() {
                self.writer.push(frame);
            }
            let due = self.session.poll_timeout().map(|at| self.start + at);
            tokio::select! {
                flushed = self.writer.flush(), if !self.writer.is_empty() => flushed?,
                frame = self.reader.next() => match frame? {
                    Some(frame) => self.handle(&frame)?,
                    None => return Ok(()),
                },
                () = sleep_until(due.unwrap_or(self.start).into()), if due.is_some() => {
                    self.session.handle_timeout(self.start.elapsed(), self.durable(), clock_ns())?;
                }
                _ = phase.wait_for(|&phase| phase >= Phase::Draining), if !drained => {
                    drained = true;
                    self.session.handle_drain(self.durable());
                }
            }
        }
    }

    fn handle(&mut self, frame: &Frame) -> Result<(), Violation> {
        self.session.handle_sent(Lsn::new(self.sent.load(Ordering::Acquire)));
        self.session.handle_frame(self.start.elapsed(), frame)
    }

    fn durable(&self) -> Lsn {
        self.server.setup.log.get().map_or(Lsn::FIRST, |log| log.durable().lsn())
    }

    async fn act(&mut self, event: Event) -> Result<std::ops::ControlFlow<()>, StreamError> {
        match event {
            Event::Opened(hello) => {
                tracing::debug!(peer = %self.peer, software = printable(&hello.software), "connected");
                self.hello = Some(hello);
                let (server, connection) = (Arc::clone(self.server), self.connection.clone());
                self.tasks.spawn(requests(server, connection, self.peer.clone()));
            }
            Event::Claim(claim) => {
                let log = self.server.log()?.clone();
                let ours = blocking(move || our_side(&log, claim.lsn)).await?;
                self.session.handle_our_side(&ours)?;
            }
            Event::NeedChain(lsn) => {
                let log = self.server.log()?.clone();
                let chain = blocking(move || log.chain_before(lsn)).await.map_err(|error| read_violation(&error))?;
                self.session.handle_our_chain(chain);
            }
            Event::Ship { sub, start } => self.ship(sub, start).await?,
            Event::Acked(progress) => {
                if let Some(registration) = &self.registration {
                    registration.acknowledged(progress);
                }
            }
            Event::Parted(divergence) => {
                self.part(&divergence).await?;
                return Ok(std::ops::ControlFlow::Break(()));
            }
        }
        Ok(std::ops::ControlFlow::Continue(()))
    }

    /// The follower's node id and what it wants to be called.
    fn follower(&self) -> (u128, String) {
        let hello = self.hello.as_ref().expect("nobody subscribes before Hello");
        let slot = printable(&hello.name);
        (hello.node_id, if slot.is_empty() { self.peer.name.clone() } else { slot })
    }

    async fn ship(&mut self, sub: u32, start: Lsn) -> Result<(), StreamError> {
        let (node_id, name) = self.follower();
        tracing::info!(follower = %name, address = %self.connection.remote_address(), from_lsn = %start, "follower connected");
        let send = self.connection.open_uni().await?;
        let registration = Arc::new(self.server.followers.register(node_id, name, self.connection.clone(), start));
        self.sent.store(start.get(), Ordering::Release);
        self.registration = Some(Arc::clone(&registration));
        let shipper = Shipper {
            server: Arc::clone(self.server),
            log: self.server.log()?.clone(),
            registration,
            sub,
            next: start,
            sent: Arc::clone(&self.sent),
            writer: FrameWriter::new(send),
            _ending: Counted::new(&self.server.ending),
        };
        let (connection, peer) = (self.connection.clone(), self.peer.clone());
        self.tasks.spawn(async move {
            if let Err(StreamError::Violation(violation)) = shipper.run().await {
                expel(&connection, &peer, &violation);
            }
        });
        Ok(())
    }

    /// Says that the logs parted, here and to the follower, and lets the follower hang up.
    async fn part(&mut self, divergence: &Divergence) -> Result<(), StreamError> {
        let (node_id, name) = self.follower();
        tracing::error!(
            follower = %name,
            common_lsn = %divergence.common,
            leader_end = %divergence.leader.lsn,
            follower_end = %divergence.follower.lsn,
            "follower diverged: {divergence}"
        );
        self.server.followers.refuted(node_id, name, divergence.common);
        while let Some(frame) = self.session.poll_transmit() {
            self.writer.push(frame);
        }
        self.writer.flush().await?;
        let _ = timeout(LAST_WORD, self.connection.closed()).await;
        Err(Violation::new(Code::DIVERGED, divergence.to_string()).into())
    }
}

fn introduction(server: &Server) -> Introduction {
    let (name, leader_hint) = (server.setup.name.clone(), server.setup.leader_hint.clone());
    let Some(log) = server.setup.log.get() else {
        return Introduction { node_id: 0, log_id: None, name, role: 2, epoch: 0, durable: Lsn::FIRST, leader_hint };
    };
    let status = log.status();
    Introduction {
        node_id: status.node_id.get(),
        log_id: Some(status.log_id),
        name,
        role: if status.role == LogRole::Leader { 1 } else { 2 },
        epoch: status.epoch.get(),
        durable: status.durable_lsn,
        leader_hint,
    }
}

/// What our log says about a place: read from the blocks themselves, not from what somebody remembers.
fn our_side(log: &Engine, at: Lsn) -> Result<OurSide, Violation> {
    let chain = log.chain_before(at).map_err(|error| read_violation(&error))?;
    let tip = log.tip();
    let reign = log.lineage().into_iter().rev().find(|reign| reign.start_lsn < at);
    let tail = Tail { lsn: tip.lsn, epoch: tip.epoch, run_id: tip.run_id, chain: tip.chain };
    Ok(OurSide { tail, chain, run_id: reign.map(|reign| reign.run_id) })
}

/// Serves the requests of one connection, each on a stream of its own.
async fn requests(server: Arc<Server>, connection: quinn::Connection, peer: Identity) {
    // quinn bounds how many streams a peer may have open, so this set is bounded, too.
    let mut tasks = JoinSet::new();
    while let Ok((send, recv)) = connection.accept_bi().await {
        while tasks.try_join_next().is_some() {}
        let (server, connection, peer) = (Arc::clone(&server), connection.clone(), peer.clone());
        tasks.spawn(async move {
            let (reader, writer) = (FrameReader::new(recv), FrameWriter::new(send));
            if let Err(StreamError::Violation(violation)) = request(server, &peer, reader, writer).await {
                expel(&connection, &peer, &violation);
            }
        });
    }
}

/// One request. `Err` with a violation ends the whole connection; a refusal ends only the request.
async fn request(
    server: Arc<Server>,
    peer: &Identity,
    mut reader: FrameReader,
    writer: FrameWriter,
) -> Result<(), StreamError> {
    let first = timeout(HELLO_TIMEOUT, reader.next()).await;
    let Some(frame) = first.map_err(|_| Violation::protocol("a request that is never made"))?? else { return Ok(()) };
    match frame.kind {
        AppendBegin::KIND => append(server, peer, AppendBegin::decode(&frame)?, reader, writer).await,
        ReadBegin::KIND => read(server, peer, ReadBegin::decode(&frame)?, writer).await,
        TopicsRequest::KIND => {
            let asked =
                TopicsRequest::decode(&frame).and_then(|_| allow(peer, Action::ListTopics)).and_then(|()| server.log());
            match asked {
                Ok(log) => reads::topics(log, peer, writer).await,
                Err(violation) => reads::refuse(&violation.into(), writer).await,
            }
        }
        StatusRequest::KIND => match StatusRequest::decode(&frame).and_then(|_| allow(peer, Action::Status)) {
            Ok(()) => reads::status(&server, writer).await,
            Err(violation) => reads::refuse(&violation.into(), writer).await,
        },
        other => {
            let refused = Refused::new(Code::UNKNOWN_REQUEST, format!("{other} opens no request"), "");
            reads::refuse(&refused, writer).await
        }
    }
}

fn allow(peer: &Identity, action: Action) -> Result<(), Violation> {
    if peer.may(action) {
        return Ok(());
    }
    tracing::warn!(%peer, "refused: may not {action}");
    Err(Violation::new(Code::FORBIDDEN, format!("{peer} may not {action}")))
}

fn allow_topic(peer: &Identity, action: Action, topic: &str) -> Result<(), Violation> {
    allow(peer, action)?;
    check_name(topic).map_err(|error| Violation::new(Code::INVALID, error.to_string()))?;
    if peer.may_touch(topic) {
        return Ok(());
    }
    tracing::warn!(%peer, topic, "refused: not one of its topics");
    Err(Violation::new(Code::FORBIDDEN, format!("{peer} may not {action} topic {topic:?}")))
}

async fn append(
    server: Arc<Server>,
    peer: &Identity,
    begin: AppendBegin,
    reader: FrameReader,
    writer: FrameWriter,
) -> Result<(), StreamError> {
    let place = allow_topic(peer, Action::Append, &begin.topic).and_then(|()| may_append(&server));
    match place {
        Ok((log, _place)) => ingest::serve(server, log, begin.topic, reader, writer).await,
        Err(violation) => {
            let refused = Refused::new(violation.code, violation.what, &server.setup.leader_hint);
            reads::refuse(&refused, writer).await
        }
    }
}

fn may_append(server: &Arc<Server>) -> Result<(Engine, OwnedSemaphorePermit), Violation> {
    if !server.setup.leader_hint.is_empty() {
        return Err(ingest::not_leader(server));
    }
    if *server.phase.borrow() > Phase::Serving {
        return Err(Violation::new(Code::DRAINING, "the node is stopping"));
    }
    let place = Arc::clone(&server.append_sessions).try_acquire_owned();
    let place = place.map_err(|_| Violation::new(Code::LIMIT, "there are too many append sessions"))?;
    Ok((server.log()?.clone(), place))
}

async fn read(
    server: Arc<Server>,
    peer: &Identity,
    begin: ReadBegin,
    mut writer: FrameWriter,
) -> Result<(), StreamError> {
    let opened = match allow_topic(peer, Action::Read, &begin.topic).and_then(|()| server.log().cloned()) {
        Ok(log) => Read::open(Arc::clone(&server), log, begin).await,
        Err(violation) => Err(violation),
    };
    match opened {
        Ok((read, opened)) => {
            writer.push(opened.encode());
            read.run(writer).await
        }
        Err(violation) => reads::refuse(&violation.into(), writer).await,
    }
}
