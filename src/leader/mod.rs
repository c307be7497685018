//! The serving side of a node: whoever connects is served here, by a leader and by a follower alike.
//!
//! ```text
//!     server.rs     accept, admission, one control stream a connection
//!       |-- shipper.rs     one subscription: durable blocks, in order, to one follower
//!       |-- ingest.rs      one append session: batches in, acknowledgements out once they are durable
//!       '-- reads.rs       tail, topics, status
//!     followers.rs  who follows, how far each is, how far behind
//! ```
//!
//! Two rules hold everywhere below: a batch is acknowledged only after its ticket says that it is durable, and no block at or
//! above the durable watermark leaves this node. A peer that is slow costs its own tasks and a bounded window, nobody else's.
//!
//! Layer: leader. Uses `engine`, `net`, `wire`. Knows nothing of `follower`, nor of signals and files of configuration.

mod followers;
mod ingest;
mod reads;
mod server;
mod shipper;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{Semaphore, watch};
use tokio::time::{timeout, timeout_at};

pub(crate) use followers::FollowerRow;
use followers::Followers;

use crate::engine::Engine;
use crate::lsn::Lsn;
use crate::net::endpoint::close;
use crate::topic::reader::ReadError;
use crate::wire::{Code, Violation};

/// Connections at a time.
const CONNECTIONS_MAX: usize = 256;
/// Connections of one certificate: one program gone wild leaves room for the others.
const CONNECTIONS_OF_ONE_MAX: usize = 64;
/// Handshakes under way before a newcomer must prove that its address is real.
const HANDSHAKES_UNPROVED_MAX: usize = 32;
/// Append sessions at a time: each may keep its window in memory, and a thread while the engine has no room for its next batch.
const APPEND_SESSIONS_MAX: usize = 128;

/// How far the node is on its way out. Only ever forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Everything is served.
    Serving,
    /// No more batches are taken; those that were are finished.
    NoAppends,
    /// Nothing more becomes durable; followers catch up.
    Draining,
    /// Streams end.
    Closing,
}

/// How long a drained node waits until streams have said their last word, and once more until the packets are out.
pub(crate) const FAREWELL_PATIENCE: Duration = Duration::from_secs(1);

/// The log, once there is one: a fresh follower has none before it has reached its leader.
pub(crate) type LogSlot = Arc<OnceLock<Engine>>;

/// The object of `status --json`.
pub(crate) type StatusFn = Box<dyn Fn(&Server) -> serde_json::Value + Send + Sync>;

/// What the server needs to know of the node.
pub(crate) struct Setup {
    pub(crate) log: LogSlot,
    /// The cluster that peers must belong to, and our own name in it.
    pub(crate) cluster: String,
    pub(crate) name: String,
    /// Where the leader is; empty on a leader.
    pub(crate) leader_hint: String,
    pub(crate) status: StatusFn,
}

/// What has been served since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) appended_batches: AtomicU64,
    pub(crate) appended_entries: AtomicU64,
    pub(crate) appended_bytes: AtomicU64,
    pub(crate) shipped_blocks: AtomicU64,
    pub(crate) shipped_bytes: AtomicU64,
    pub(crate) read_entries: AtomicU64,
    pub(crate) refused_connections: AtomicU64,
}

/// Adds to a counter that nothing is decided by.
fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Ordering::Relaxed);
}

/// Everything that serves, shared by its tasks.
pub(crate) struct Server {
    setup: Setup,
    endpoint: quinn::Endpoint,
    followers: Arc<Followers>,
    counters: Counters,
    phase: watch::Sender<Phase>,
    /// Append sessions that may still owe an acknowledgement.
    appending: watch::Sender<usize>,
    /// Streams that still have to say End.
    ending: watch::Sender<usize>,
    connections: Arc<Semaphore>,
    by_identity: Mutex<HashMap<String, usize>>,
    handshakes: Arc<Semaphore>,
    append_sessions: Arc<Semaphore>,
}

/// Counts itself among `counter` as long as it lives.
struct Counted(watch::Sender<usize>);

impl Counted {
    fn new(counter: &watch::Sender<usize>) -> Counted {
        counter.send_modify(|n| *n += 1);
        Counted(counter.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n -= 1);
    }
}

impl Server {
    /// Serves whoever connects to `endpoint`, in tasks of the current runtime.
    pub(crate) fn start(endpoint: quinn::Endpoint, setup: Setup) -> Arc<Server> {
        let server = Arc::new(Server {
            setup,
            endpoint,
            followers: Arc::new(Followers::default()),
            counters: Counters::default(),
            phase: watch::Sender::new(Phase::Serving),
            appending: watch::Sender::new(0),
            ending: watch::Sender::new(0),
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            by_identity: Mutex::default(),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_UNPROVED_MAX)),
            append_sessions: Arc::new(Semaphore::new(APPEND_SESSIONS_MAX)),
        });
        tokio::spawn(server::accept(Arc::clone(&server)));
        tokio::spawn(followers::sample(Arc::clone(&server)));
        server
    }

    /// The log, or why there is none yet.
    fn log(&self) -> Result<&Engine, Violation> {
        let none = || Violation::new(Code::NOT_READY, "this follower has not reached its leader yet");
        self.setup.log.get().ok_or_else(none)
    }

    /// One look at the log, if there is one.
    pub(crate) fn log_status(&self) -> Option<crate::engine::Status> {
        self.setup.log.get().map(Engine::status)
    }

    /// Our name, by our certificate.
    pub(crate) fn name(&self) -> &str {
        &self.setup.name
    }

    /// Where our leader is; empty if we are one.
    pub(crate) fn leader_hint(&self) -> &str {
        &self.setup.leader_hint
    }

    /// How each follower is.
    pub(crate) fn followers(&self) -> Vec<FollowerRow> {
        match self.setup.log.get() {
            Some(log) => self.followers.rows(&log.status()),
            None => Vec::new(),
        }
    }

    /// What has been served.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The status object.
    pub(crate) fn status(&self) -> serde_json::Value {
        (self.setup.status)(self)
    }

    /// Stops in good order: docs/PROTOCOL.md#drain. Returns the followers that did not acknowledge everything in `patience`.
    pub(crate) async fn drain(&self, patience: Duration) -> Vec<String> {
        let deadline = Instant::now() + patience;
        self.phase.send_replace(Phase::NoAppends);
        // A disk that hangs keeps sessions from ending, but not followers from having what is durable: a part of the time is theirs.
        let appends = deadline - patience / 5;
        // Until the last session has acknowledged what it took, new blocks may still become durable.
        let _ = timeout_at(appends.into(), self.appending.subscribe().wait_for(|&n| n == 0)).await;
        self.phase.send_replace(Phase::Draining);
        let durable = self.setup.log.get().map_or(Lsn::FIRST, |log| log.durable().lsn());
        let _ = timeout_at(deadline.into(), self.followers.all_acknowledge(durable)).await;
        let behind = self.followers.behind(durable);
        self.phase.send_replace(Phase::Closing);
        let _ = timeout(FAREWELL_PATIENCE, self.ending.subscribe().wait_for(|&n| n == 0)).await;
        self.close(Code::DRAINING, "the node is stopping").await;
        behind
    }

    /// Ends every connection now, without waiting for anything.
    pub(crate) fn end_now(&self, code: Code) {
        self.phase.send_replace(Phase::Closing);
        self.endpoint.close(quinn::VarInt::from_u32(code.0.into()), b"");
    }

    async fn close(&self, code: Code, message: &str) {
        self.endpoint.close(quinn::VarInt::from_u32(code.0.into()), message.as_bytes());
        // Closing is a packet; a moment lets it out.
        let _ = timeout(FAREWELL_PATIENCE, self.endpoint.wait_idle()).await;
    }
}

/// Runs what may block on the disk or on the commit queue away from the tasks that keep connections alive.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// The wall clock, for people.
fn clock_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// What an error of a read is called on the wire.
fn read_violation(error: &ReadError) -> Violation {
    let code = match error {
        ReadError::UnknownTopic(_) => Code::UNKNOWN_TOPIC,
        ReadError::BeyondEnd { .. } | ReadError::Trimmed { .. } => Code::INVALID,
        ReadError::Damaged { .. } => Code::DAMAGED,
        // Only followers ask for blocks by number, and only for published ones.
        ReadError::Block(_) => Code::BEHIND_RETENTION,
        _ => Code::INTERNAL,
    };
    let hint = match error {
        ReadError::Damaged { next_good_offset: Some(next), .. } => {
            format!("\nhint: the next good offset is {next}: -o {next}")
        }
        ReadError::Damaged { next_good_offset: None, .. } => "\nhint: nothing behind it can be read".into(),
        _ => String::new(),
    };
    Violation::new(code, format!("{error}{hint}"))
}

/// Ends a connection for a broken rule, and says so in the log once.
fn expel(connection: &quinn::Connection, who: &dyn std::fmt::Display, violation: &Violation) {
    tracing::warn!(peer = %who, address = %connection.remote_address(), code = violation.code.0, "connection ended: {violation}");
    close(connection, violation.code, &violation.what);
}
