//! Why a request to a node failed, and the exit code that says so.
//!
//! Layer: client.

use crate::net::endpoint::{Broken, printable};
use crate::wire::Code;
use crate::wire::message::Refused;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The address is not HOST:PORT.
    #[error("{address:?} is not HOST:PORT\nhint: for example --node 127.0.0.1:7400")]
    BadAddress {
        /// What was given.
        address: String,
    },
    /// Nobody answers, or not any more.
    #[error(
        "{address} cannot be reached: {message}\nhint: is the node running? walrus-node status --node {address} --tls DIR"
    )]
    Unreachable {
        /// The node's address.
        address: String,
        /// What happened.
        message: String,
    },
    /// The connection ended in the middle of an append session.
    #[error("{source}\n{}", so_far(*acked_entries, *acked_batches, *unknown_batches))]
    AppendLost {
        /// Entries that are durable.
        acked_entries: u64,
        /// Their batches.
        acked_batches: u64,
        /// Further batches that may be durable: each is there as a whole or not at all. Zero when the node said that it took
        /// no more.
        unknown_batches: u64,
        /// What ended it.
        source: Box<ClientError>,
    },
    /// The node stops.
    #[error("the node is stopping: {message}")]
    Draining {
        /// What it said.
        message: String,
    },
    /// Appends go to the leader.
    #[error("{message}\nhint: append to its leader{}", at_leader(leader_hint.as_deref()))]
    NotLeader {
        /// What the node said.
        message: String,
        /// Where its leader is, if it knows.
        leader_hint: Option<String>,
    },
    /// One side does not accept the other's certificate, or its role does not allow the request.
    #[error("not allowed: {message}")]
    NotAllowed {
        /// Why.
        message: String,
    },
    /// The node has no such topic.
    #[error("{message}")]
    UnknownTopic {
        /// What the node said.
        message: String,
    },
    /// A topic name, a batch or a start that can never be right.
    #[error("{message}")]
    Invalid {
        /// What is wrong with it.
        message: String,
    },
    /// The node's log is damaged at the place asked for.
    #[error("{message}")]
    Damaged {
        /// Where, and the next good offset.
        message: String,
    },
    /// The node cannot do it now: its disk is full, its log halted, or it is not ready.
    #[error("{message}")]
    Temporary {
        /// Why.
        message: String,
    },
    /// The node broke the protocol, or we did.
    #[error("the protocol was broken: {message}")]
    Protocol {
        /// How.
        message: String,
    },
}

fn at_leader(hint: Option<&str>) -> String {
    hint.map_or(String::new(), |leader| format!(": --node {leader}"))
}

fn so_far(entries: u64, batches: u64, unknown: u64) -> String {
    let durable = format!("{entries} entries in {batches} batches were acknowledged and are durable");
    match unknown {
        0 => format!("{durable}; nothing behind them was taken"),
        _ => format!("{durable}; whether the next {unknown} batches are is not known"),
    }
}

impl ClientError {
    /// The exit code of a command that ends with this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            ClientError::BadAddress { .. } | ClientError::Invalid { .. } => 2,
            ClientError::Unreachable { .. } | ClientError::Draining { .. } => 3,
            ClientError::NotLeader { .. } => 4,
            ClientError::NotAllowed { .. } => 5,
            ClientError::UnknownTopic { .. } | ClientError::Protocol { .. } => 1,
            ClientError::Damaged { .. } => 65,
            ClientError::Temporary { .. } => 75,
            ClientError::AppendLost { source, .. } => source.exit_code(),
        }
    }

    pub(super) fn of_broken(address: &str, broken: Broken) -> ClientError {
        let unreachable = |message| ClientError::Unreachable { address: address.to_owned(), message };
        match broken {
            Broken::BadAddress(address) => ClientError::BadAddress { address },
            Broken::Unreachable(message) => unreachable(message),
            Broken::NotAllowed(message) => ClientError::NotAllowed {
                message: format!(
                    "{message} ({address})\n\
                     hint: --tls must be a folder issued by that node's CA: walrus-node cert issue DIR NAME --role ..."
                ),
            },
            Broken::Closed { code: Code::OK, .. } => unreachable("the node closed the connection".into()),
            Broken::Closed { code, message } => ClientError::of_code(code, message, ""),
            Broken::ByUs => unreachable("the connection was closed by this side".into()),
        }
    }

    pub(super) fn of_refused(refused: Refused) -> ClientError {
        ClientError::of_code(refused.code, printable(&refused.message), &printable(&refused.leader_hint))
    }

    pub(super) fn of_code(code: Code, message: String, leader_hint: &str) -> ClientError {
        let message = if message.is_empty() { code.to_string() } else { message };
        match code {
            Code::DRAINING => ClientError::Draining { message },
            Code::NOT_LEADER => {
                let leader_hint = (!leader_hint.is_empty()).then(|| leader_hint.to_owned());
                ClientError::NotLeader { message, leader_hint }
            }
            Code::UNAUTHENTICATED | Code::FORBIDDEN => ClientError::NotAllowed { message },
            Code::UNKNOWN_TOPIC => ClientError::UnknownTopic { message },
            Code::INVALID => ClientError::Invalid { message },
            Code::DAMAGED => ClientError::Damaged { message },
            Code::PROTOCOL | Code::VERSION | Code::FRAME_TOO_LARGE | Code::UNKNOWN_REQUEST => {
                ClientError::Protocol { message }
            }
            _ => ClientError::Temporary { message },
        }
    }
}
