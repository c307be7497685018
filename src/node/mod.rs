//! The process: what is started in which order, and stopped in which.
//!
//! ```text
//!     start    open the log -> certificates -> bind -> serve -> follow -> "listening on", READY=1
//!     stop     follow no more -> take no appends -> finish what was taken -> ship what is durable -> close connections
//!              -> close the log
//! ```
//!
//! Both orders stand in this file and nowhere else. Nothing is bound before the log is open, so whoever reaches a node reaches its
//! log; the log is closed last, so nothing is served from one that is closed.
//!
//! Layer: node. Uses everything below. Knows nothing of clap.

mod admin;
mod config;
mod error;
mod health;
mod metrics;
mod shutdown;
mod status;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::task::JoinHandle;

pub use config::NodeConfig;
pub use error::NodeError;

use crate::engine::{Engine, Options};
use crate::entropy::Entropy;
use crate::follower::{Lag, Stop, Tailer};
use crate::leader::{FAREWELL_PATIENCE, LogSlot, Server, Setup};
use crate::log::recovery::OpenError;
use crate::net::endpoint::listen;
use crate::net::tls::Tls;
use crate::wire::Code;
use crate::wire::rights::Role;

/// How long a stopping node waits for appends to be finished and for followers to have everything.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// How long the disk has to finish what was accepted. With the drain before it, a node ends within ten seconds of SIGTERM.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

const _: () = assert!(DRAIN_PATIENCE.as_secs() + 2 * FAREWELL_PATIENCE.as_secs() + CLOSE_PATIENCE.as_secs() < 10);

/// A node that runs: a leader or a follower.
///
/// Dropping it ends it at once, without a word to anybody; [`Node::drain`] is the orderly way.
pub struct Node {
    server: Arc<Server>,
    log: LogSlot,
    follows: Option<JoinHandle<Stop>>,
    admin: JoinHandle<()>,
    address: SocketAddr,
    admin_address: SocketAddr,
    tls_folder: PathBuf,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node({})", self.address)
    }
}

impl Node {
    /// Starts a node and returns once it serves. Needs a tokio runtime of several threads.
    ///
    /// # Errors
    /// As [`NodeError`] says; nothing runs then.
    pub async fn start(config: NodeConfig) -> Result<Node, NodeError> {
        config.check()?;
        let opened = open_log(&config).await?;
        Node::serve(config, opened).await
    }

    /// The same on a log that is open; a follower without one opens it once it has reached its leader.
    async fn serve(config: NodeConfig, opened: Option<Engine>) -> Result<Node, NodeError> {
        let log = LogSlot::default();
        if let Some(opened) = opened {
            warn_of(&opened);
            let _ = log.set(opened);
        }
        let tls_folder = config.tls_folder()?;
        let tls = Tls::load(&tls_folder)?;
        if tls.identity().role != Role::Node {
            return Err(NodeError::NotANode { folder: tls_folder, identity: tls.identity().to_string() });
        }

        let address = config.listen();
        let bound = |what, address, source| NodeError::Bind { what, address, source };
        let endpoint = listen(address, &tls).map_err(|source| bound("--listen", address, source))?;
        let address = endpoint.local_addr().map_err(|source| bound("--listen", address, source))?;
        let admin_socket = admin::bind(config.admin()).await;
        let admin_socket = admin_socket.map_err(|source| bound("--admin", config.admin(), source))?;
        let admin_address = admin_socket.local_addr().map_err(|source| bound("--admin", config.admin(), source))?;

        let lag = config.follow.as_ref().map(|_| Arc::new(Lag::default()));
        let server = Server::start(endpoint, setup(&config, &tls, &log, lag.clone()));
        let admin = tokio::spawn(admin::serve(admin_socket, Arc::clone(&server), lag.clone()));
        let follows = lag.map(|lag| tokio::spawn(tailer(&config, tls, &log, lag).run()));

        tracing::info!("listening on {address}");
        tracing::info!("admin: http://{admin_address}/status");
        health::notify("READY=1");
        Ok(Node { server, log, follows, admin, address, admin_address, tls_folder })
    }

    /// The address it listens on, with the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of `/live`, `/ready`, `/status` and `/metrics`.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// The folder with its certificate.
    pub fn tls_folder(&self) -> &Path {
        &self.tls_folder
    }

    /// The object of `status --json`.
    pub fn status(&self) -> serde_json::Value {
        self.server.status()
    }

    /// Resolves when the node cannot go on: a follower whose history is not its leader's, for instance. It still serves reads then.
    pub async fn stopped(&mut self) -> NodeError {
        let stop = match &mut self.follows {
            Some(task) => match task.await {
                Ok(stop) => stop,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
            None => std::future::pending().await,
        };
        self.follows = None;
        match NodeError::of_stop(stop) {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }

    /// Stops in good order: docs/PROTOCOL.md#drain
    ///
    /// # Errors
    /// When the log could not be closed in order.
    pub async fn drain(mut self) -> Result<(), NodeError> {
        health::notify("STOPPING=1");
        if let Some(task) = self.follows.take() {
            task.abort();
            let _ = task.await;
        }
        let behind = self.server.drain(DRAIN_PATIENCE).await;
        if !behind.is_empty() {
            tracing::warn!(followers = behind.join(", "), "stopped before these had everything; they will ask for it");
        }
        self.admin.abort();
        let Some(log) = self.log.get().cloned() else { return Ok(()) };
        shutdown::close_in_time(log, CLOSE_PATIENCE).await?;
        tracing::info!("stopped");
        Ok(())
    }

    /// Runs a node until SIGTERM or SIGINT, then drains it; a second signal ends the process at once with 130.
    ///
    /// # Errors
    /// When it cannot be started, cannot go on, or cannot be closed in order.
    pub async fn run(config: NodeConfig) -> Result<(), NodeError> {
        let mut signals = shutdown::Signals::new().map_err(NodeError::Signals)?;
        let mut node = tokio::select! {
            node = Node::start(config) => node?,
            signal = signals.next() => {
                tracing::info!("{signal} before the node was up");
                return Ok(());
            }
        };
        let stopped = tokio::select! {
            error = node.stopped() => Err(error),
            signal = signals.next() => {
                tracing::info!("{signal}: stopping; a second signal ends at once");
                Ok(())
            }
        };
        let drained = tokio::select! {
            drained = node.drain() => drained,
            signal = signals.next() => {
                tracing::warn!("{signal} again: ending at once; the next start recovers");
                std::process::exit(130);
            }
        };
        stopped.and(drained)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(task) = &self.follows {
            task.abort();
        }
        self.admin.abort();
        self.server.end_now(Code::OK);
    }
}

/// Opens the log in its role; `None` for a follower whose folder is still fresh.
async fn open_log(config: &NodeConfig) -> Result<Option<Engine>, NodeError> {
    let (data, options) = (config.data.clone(), config.options.clone());
    let follows = config.follow.is_some();
    let opened = tokio::task::spawn_blocking(move || match follows {
        true => Engine::open_mirror(&data, None, options),
        false => Engine::open(&data, options),
    });
    match opened.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())) {
        Ok(log) => Ok(Some(log)),
        Err(OpenError::NoLog) if follows => Ok(None),
        Err(source) => Err(NodeError::Open { data: config.data.clone(), source }),
    }
}

/// What an operator has to see once, at the start.
fn warn_of(log: &Engine) {
    let status = log.status();
    tracing::info!(
        role = status.role.name(),
        epoch = %status.epoch,
        durable_lsn = %status.durable_lsn,
        io = status.io,
        flush = status.flush,
        durability = status.durability,
        "log open"
    );
    for warning in status.warnings {
        tracing::warn!("{warning}");
    }
}

fn setup(config: &NodeConfig, tls: &Tls, log: &LogSlot, lag: Option<Arc<Lag>>) -> Setup {
    let identity = tls.identity();
    Setup {
        log: Arc::clone(log),
        cluster: identity.cluster.clone(),
        name: identity.name.clone(),
        leader_hint: config.follow.clone().unwrap_or_default(),
        status: Box::new(move |server| status::object(server, lag.as_deref())),
    }
}

fn tailer(config: &NodeConfig, tls: Tls, log: &Arc<OnceLock<Engine>>, lag: Arc<Lag>) -> Tailer {
    let (data, options): (PathBuf, Options) = (config.data.clone(), config.options.clone());
    Tailer {
        leader: config.follow.clone().expect("only a follower has a tailer"),
        tls,
        slot: config.slot.clone().unwrap_or_default(),
        log: Arc::clone(log),
        data: data.clone(),
        open: Arc::new(Box::new(move |log_id| Engine::open_mirror(&data, Some(log_id), options.clone()))),
        lag,
        entropy: Entropy::new(config.options.seed),
    }
}
