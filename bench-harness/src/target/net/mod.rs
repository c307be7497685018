//! Logs at the other end of a connection on loopback: our own node, with followers, and the servers of others.
//!
//! ```text
//!   producers --QUIC--> our leader --QUIC--> our followers        in this process: its threads and runtimes, each node as its command has it
//!             --TCP---> redis-server                              a process of its own, started for the case in the case's folder,
//!             --TCP---> nats-server                               on a free port, and killed behind it
//! ```
//!
//! Everybody has the same payload, the same durability and the same folder, and who cannot do a case says why. A server that is not
//! installed is left out with the words that bring it.

mod cluster;
mod nats;
mod node;
mod probe;
mod redis;
mod resp;
mod server;
mod session;
#[cfg(test)]
mod tests;

use super::Kind;
use crate::result::Spec;

pub(crate) use server::kill_all;

/// Our own log over the network.
pub(crate) fn ours(fills_before: bool) -> Box<dyn Kind> {
    Box::new(node::NetNode { fills_before })
}

/// Servers of others.
pub(crate) fn peers() -> Vec<Box<dyn Kind>> {
    vec![Box::new(redis::Redis::find()), Box::new(nats::Nats::find())]
}

/// What no server of others can do here.
fn refuses_any(spec: &Spec) -> Option<String> {
    match spec.kind.as_str() {
        _ if !spec.network => Some("is a server: it is reached with `network = true`".into()),
        _ if spec.followers > 0 => Some("is one server here, without followers".into()),
        "durable" | "written" => None,
        kind => Some(format!("is a server: `{kind}` is compared among logs in this process")),
    }
}
