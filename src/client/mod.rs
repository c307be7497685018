//! A program that talks to a node: append, read, ask.
//!
//! ```text
//!     Client --append--> Appender (batches out)  +  Acks (acknowledgements in, in order)
//!            --append_shared--> SharedAppender (one session for many tasks or threads)
//!            --read----> Reading (entries in)
//!            --topics, status
//! ```
//!
//! Nothing is ever sent twice by itself. When a connection is lost, the error says how many entries were acknowledged before;
//! what became of the rest is not known here, and no guess is made.
//!
//! Layer: client. Uses `net`, `wire`. Knows nothing of the engine.

mod append;
mod error;
mod read;
mod shared;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout};

pub use append::{Acked, Acks, Appender};
pub use error::ClientError;
pub use read::{ReadEntry, Reading};
pub use shared::SharedAppender;

pub use crate::wire::message::ReadStart;

use crate::net::endpoint::{CONNECT_TIMEOUT, Connected, close, connect, printable};
use crate::net::stream::{FrameReader, FrameWriter, StreamError};
use crate::net::tls::Tls;
use crate::wire::client::{ClientSession, Event};
use crate::wire::message::{Ext, Message, Refused, StatusRequest, Topics, TopicsRequest, Welcome};
use crate::wire::{Code, Encoded, Frame, Violation};

/// How long [`Client::close`] waits at most. The word is on its way much sooner; nobody has to answer it.
const GOODBYE: Duration = Duration::from_millis(50);

/// A node as it introduced itself.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeInfo {
    /// Its certificate's name.
    pub name: String,
    /// What it runs.
    pub software: String,
    /// It takes appends.
    pub is_leader: bool,
    /// Where its leader is, if it follows one.
    pub leader_hint: Option<String>,
}

/// One topic of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicRow {
    /// Its name.
    pub name: String,
    /// Its number in the log.
    pub id: u32,
    /// The first entry that is kept.
    pub first_offset: u64,
    /// The offset that the next entry will get.
    pub next_offset: u64,
}

/// A connection to a node.
#[derive(Debug)]
pub struct Client {
    link: Link,
    node: NodeInfo,
    control: JoinHandle<()>,
}

/// What every request needs of the connection.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) address: Arc<str>,
    connected: Connected,
    /// The first violation that this side met: the connection is closed for it, and every request reports it.
    violation: Arc<Mutex<Option<Violation>>>,
}

impl Client {
    /// Connects to `HOST:PORT` with the certificate in `tls_dir`, once, within three seconds.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] when nobody answers, [`ClientError::NotAllowed`] when one side does not accept the other's
    /// certificate or the folder has none.
    pub async fn connect(address: &str, tls_dir: &Path) -> Result<Client, ClientError> {
        let tls = Tls::load(tls_dir).map_err(|error| ClientError::NotAllowed { message: error.to_string() })?;
        let connected = connect(address, &tls).await.map_err(|broken| ClientError::of_broken(address, broken))?;
        let link = Link { address: address.into(), connected, violation: Arc::default() };
        let (mut reader, welcome) = match timeout(CONNECT_TIMEOUT, introduce(&link)).await {
            Ok(introduced) => introduced?,
            Err(_) => return Err(link.unreachable("connected, but no Welcome came")),
        };
        let node = NodeInfo {
            name: printable(&welcome.name),
            software: printable(&welcome.software),
            is_leader: welcome.role == 1,
            leader_hint: Some(printable(&welcome.leader_hint)).filter(|hint| !hint.is_empty()),
        };
        // The node may say on the control stream that it stops. It closes the connection next, with that reason, so there is
        // nothing to do but to keep the stream read.
        let control = tokio::spawn(async move {
            let (_keep_open, mut session) = (reader.1, reader.2);
            while let Ok(Some(frame)) = reader.0.next().await {
                if session.handle_frame(&frame).is_err() {
                    break;
                }
            }
        });
        Ok(Client { link, node, control })
    }

    /// Who answered.
    pub fn node(&self) -> &NodeInfo {
        &self.node
    }

    /// Opens an append session on a topic. Both halves must be driven at the same time: an [`Appender`] whose [`Acks`] nobody
    /// takes comes to a stop when the node's window is full.
    ///
    /// # Errors
    /// When the connection is lost. A refusal (not the leader, not allowed, an invalid topic) comes from [`Acks::next`].
    pub async fn append(&self, topic: &str) -> Result<(Appender, Acks), ClientError> {
        append::open(self.link.clone(), topic).await
    }

    /// Opens an append session that many tasks or threads share, each of which waits for its own batches.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub async fn append_shared(&self, topic: &str) -> Result<SharedAppender, ClientError> {
        shared::open(self.link.clone(), topic).await
    }

    /// Reads a topic from `start` on: up to its end as it is now (`to_end`), or live. At most `entries_max` entries, if that is given.
    ///
    /// # Errors
    /// [`ClientError::UnknownTopic`], [`ClientError::NotAllowed`], or a lost connection.
    pub async fn read(
        &self,
        topic: &str,
        start: ReadStart,
        to_end: bool,
        entries_max: Option<u64>,
    ) -> Result<Reading, ClientError> {
        read::open(self.link.clone(), topic, start, to_end, entries_max).await
    }

    /// Every topic that the certificate may see.
    ///
    /// # Errors
    /// A lost connection, or no right to ask.
    pub async fn topics(&self) -> Result<Vec<TopicRow>, ClientError> {
        let (mut writer, mut reader) = self.link.request(TopicsRequest { ext: Ext::default() }.encode()).await?;
        writer.finish();
        let mut rows = Vec::new();
        loop {
            let frame = self.link.answer(&mut reader).await?;
            let topics = Topics::decode(&frame).map_err(|violation| self.link.violated(violation))?;
            rows.extend(topics.topics.into_iter().map(|topic| TopicRow {
                name: topic.name,
                id: topic.id,
                first_offset: topic.first_offset,
                next_offset: topic.next_offset,
            }));
            if topics.last {
                return Ok(rows);
            }
        }
    }

    /// The node's status, as the JSON object of `status --json`.
    ///
    /// # Errors
    /// A lost connection, or no right to ask.
    pub async fn status(&self) -> Result<serde_json::Value, ClientError> {
        let (mut writer, mut reader) = self.link.request(StatusRequest { ext: Ext::default() }.encode()).await?;
        writer.finish();
        let frame = self.link.answer(&mut reader).await?;
        crate::wire::message::Status::decode(&frame).map_err(|violation| self.link.violated(violation))?;
        serde_json::from_slice(&frame.payload)
            .map_err(|error| self.link.violated(Violation::protocol(format!("Status is no JSON: {error}"))))
    }

    /// Ends the connection in order, and waits a moment for that word to be sent: a program that ends at once would take it along, and
    /// the node would wait five seconds for one that has gone. Dropping the client does the same without waiting.
    pub async fn close(self) {
        close(&self.link.connected.connection, Code::OK, "");
        let _ = timeout(GOODBYE, self.link.connected.endpoint.wait_idle()).await;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.control.abort();
        close(&self.link.connected.connection, Code::OK, "");
    }
}

/// The control stream once both sides have introduced themselves. The writer is kept: dropping it would end the stream.
type Control = (FrameReader, FrameWriter, ClientSession);

/// Hello and Welcome: docs/PROTOCOL.md#handshake
async fn introduce(link: &Link) -> Result<(Control, Welcome), ClientError> {
    let connection = &link.connected.connection;
    let (send, recv) = connection.open_bi().await.map_err(|error| link.failed(error.into()))?;
    let (mut writer, mut reader) = (FrameWriter::new(send), FrameReader::new(recv));
    writer.set_priority(100);
    let start = Instant::now();
    let mut session = ClientSession::new(start.elapsed());
    loop {
        while let Some(frame) = session.poll_transmit() {
            writer.send(frame).await.map_err(|error| link.failed(error))?;
        }
        if let Some(Event::Welcomed(welcome)) = session.poll_event() {
            return Ok(((reader, writer, session), welcome));
        }
        let deadline = session.poll_timeout().map_or(start + CONNECT_TIMEOUT, |at| start + at);
        let frame = tokio::select! {
            frame = reader.next() => frame.map_err(|error| link.failed(error))?,
            () = sleep_until(deadline.into()) => return Err(link.unreachable("connected, but no Welcome came")),
        };
        let frame = frame.ok_or_else(|| link.unreachable("the node ended the control stream"))?;
        session.handle_frame(&frame).map_err(|violation| link.violated(violation))?;
    }
}

impl Link {
    /// Opens a stream for a request.
    async fn request(&self, first: Encoded) -> Result<(FrameWriter, FrameReader), ClientError> {
        let opened = self.connected.connection.open_bi().await;
        let (send, recv) = opened.map_err(|error| self.failed(error.into()))?;
        let mut writer = FrameWriter::new(send);
        match writer.send(first).await {
            // A node that refuses at once has stopped the stream; its reason waits on the other half.
            Ok(()) | Err(StreamError::Stopped(_)) => Ok((writer, FrameReader::new(recv))),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// The next frame of an answer, which must come.
    async fn answer(&self, reader: &mut FrameReader) -> Result<Frame, ClientError> {
        let frame = reader.next().await.map_err(|error| self.failed(error))?;
        let frame = frame.ok_or_else(|| self.violated(Violation::protocol("the answer ends too early")))?;
        if frame.kind == Refused::KIND {
            let refused = Refused::decode(&frame).map_err(|violation| self.violated(violation))?;
            return Err(ClientError::of_refused(refused));
        }
        Ok(frame)
    }

    /// What a broken stream means to the caller.
    fn failed(&self, error: StreamError) -> ClientError {
        if let Some(violation) = &*self.violation.lock().expect("no holder of this lock panics") {
            return ClientError::Protocol { message: violation.to_string() };
        }
        match error {
            StreamError::Violation(violation) => self.violated(violation),
            StreamError::Connection(error) => {
                ClientError::of_broken(&self.address, crate::net::endpoint::broken(&error))
            }
            StreamError::Stopped(code) => ClientError::of_code(code, "the node gave the request up".into(), ""),
        }
    }

    /// The node broke a rule: the connection ends, and everything else on it ends with the same reason.
    fn violated(&self, violation: Violation) -> ClientError {
        crate::net::endpoint::close_for(&self.connected.connection, &violation);
        let message = violation.to_string();
        self.violation.lock().expect("no holder of this lock panics").get_or_insert(violation);
        ClientError::Protocol { message }
    }

    fn unreachable(&self, message: &str) -> ClientError {
        ClientError::Unreachable { address: self.address.to_string(), message: message.to_owned() }
    }
}
