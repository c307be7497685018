//! Why a node cannot start or go on, and the exit code that says so.
//!
//! Layer: node.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::engine::CloseError;
use crate::follower::Stop;
use crate::log::recovery::OpenError;
use crate::lsn::Lsn;
use crate::net::cert::CertError;
use crate::net::tls::TlsError;

/// Why a node cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The flags do not go together.
    #[error("{0}")]
    Usage(String),
    /// The log could not be opened.
    #[error("{data}: {source}{}", open_hint(.source, .data))]
    Open {
        /// Its folder.
        data: PathBuf,
        /// Why.
        source: OpenError,
    },
    /// There is no certificate where one is needed.
    #[error("{0}")]
    NoTls(String),
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The node could not make its own certificates.
    #[error(transparent)]
    Cert(#[from] CertError),
    /// The certificate is not a node's.
    #[error(
        "{folder} is the certificate of {identity}, which is not a node's\nhint: walrus-node cert issue DIR NAME --role node"
    )]
    NotANode {
        /// The folder.
        folder: PathBuf,
        /// Who it is.
        identity: String,
    },
    /// An address is taken or not ours.
    #[error(
        "{what} {address}: {source}\nhint: is another node running there? choose another address with {what} HOST:PORT"
    )]
    Bind {
        /// The flag.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The signal handlers could not be set.
    #[error("signals: {0}")]
    Signals(io::Error),
    /// The leader's history is not ours.
    #[error("diverged from the leader: {0}")]
    Diverged(String),
    /// The leader does not accept us, or we do not accept it.
    #[error(
        "the leader cannot be followed: {0}\n\
         hint: both nodes need certificates of one CA with role node: walrus-node cert issue DIR NAME --role node"
    )]
    NotAllowed(String),
    /// The leader sent what is not what it says.
    #[error(
        "the leader sent a block that cannot be taken: {0}\n\
         hint: nothing of it was written; walrus-node verify --data on the leader"
    )]
    Corrupt(String),
    /// The two nodes do not understand each other.
    #[error("the leader cannot be followed: {0}")]
    Protocol(String),
    /// The log could not be closed in order.
    #[error(transparent)]
    Close(#[from] CloseError),
    /// The disk does not answer, so the log could not be closed.
    #[error(
        "the disk does not answer: {what} has not come back for {} s; everything below lsn {durable} is durable{}\n\
         hint: dmesg says which device hangs; the next start recovers what is there",
        .since.as_secs(),
        only_written(*.durable, *.published)
    )]
    DiskHangs {
        /// What was asked of it.
        what: &'static str,
        /// How long ago, at least.
        since: Duration,
        /// The durable watermark.
        durable: Lsn,
        /// The published one.
        published: Lsn,
    },
}

/// What a power cut could still take, of what callers were told.
fn only_written(durable: Lsn, published: Lsn) -> String {
    match published > durable {
        true => format!(
            ", what was acknowledged as written below lsn {published} is written, and of the rest nothing is known"
        ),
        false => ", of what is behind it nothing is known".to_owned(),
    }
}

fn open_hint(error: &OpenError, data: &std::path::Path) -> String {
    let data = data.display();
    match error {
        OpenError::Locked(_) => "\nhint: stop the other process, or ask it: walrus-node status".into(),
        OpenError::Role { is: "leader" } => {
            format!("\nhint: serve it without --follow, or follow with a fresh folder: --data {data}-follower")
        }
        OpenError::Role { .. } => {
            format!("\nhint: a follower's folder needs its leader: walrus-node serve --data {data} --follow HOST:PORT")
        }
        OpenError::Damaged(_) | OpenError::SuperblockDamaged { .. } | OpenError::FileDamaged { .. } => {
            format!("\nhint: nothing was changed; walrus-node verify --data {data} shows all that is damaged")
        }
        _ => String::new(),
    }
}

impl NodeError {
    /// The exit code of a command that ends with this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            NodeError::Usage(_) => 2,
            NodeError::Open { source, .. } => open_exit_code(source),
            NodeError::NoTls(_) | NodeError::Tls(_) | NodeError::NotANode { .. } | NodeError::NotAllowed(_) => 5,
            NodeError::Cert(_) | NodeError::Signals(_) | NodeError::Protocol(_) | NodeError::Close(_) => 1,
            NodeError::Bind { .. } | NodeError::DiskHangs { .. } => 75,
            NodeError::Diverged(_) => 6,
            NodeError::Corrupt(_) => 65,
        }
    }

    /// What a follower's end means to its node; `None` when the node goes on serving.
    pub(super) fn of_stop(stop: Stop) -> Option<NodeError> {
        Some(match stop {
            Stop::Diverged(message) => NodeError::Diverged(message),
            Stop::Corrupt(message) => NodeError::Corrupt(message),
            Stop::NotAllowed(message) => NodeError::NotAllowed(message),
            Stop::Protocol(message) => NodeError::Protocol(message),
            Stop::Open { data, source: OpenError::OtherLog { here, wanted } } => {
                NodeError::Diverged(format!("{} holds log {here}, the leader holds log {wanted}", data.display()))
            }
            Stop::Open { data, source } => NodeError::Open { data, source },
            Stop::Halted(why) => {
                tracing::error!("following has ended, reads go on: {why}");
                return None;
            }
            Stop::Closed => return None,
        })
    }
}

fn open_exit_code(error: &OpenError) -> u8 {
    match error {
        OpenError::Locked(_) => 75,
        OpenError::Damaged(_) | OpenError::SuperblockDamaged { .. } | OpenError::FileDamaged { .. } => 65,
        OpenError::Newer { .. } => 65,
        OpenError::Role { is: "follower" } => 4,
        OpenError::Role { .. } => 2,
        OpenError::OtherLog { .. } => 6,
        OpenError::Storage(error) if error.is_full() => 75,
        OpenError::Halted { .. } => 75,
        _ => 1,
    }
}
