//! The protocol `walrus/1`: bytes and sessions, docs/PROTOCOL.md in code.
//!
//! ```text
//!     bytes --frame.rs--> Frame --message.rs--> Hello, Subscribe, Block, Ack, ...
//!                           |
//!        leader.rs  <-------+------->  follower.rs        one connection's control stream, seen from either end
//!                           |
//!                       client.rs                         appends in flight: what was sent, what was acknowledged
//!
//!     history.rs   is the follower's log a prefix of ours, and if not, where did they part?
//!     rights.rs    who may do what              code.rs   why something ended, and what to do about it
//! ```
//!
//! A session takes what happened through `handle_*`, and gives what is to be done through `poll_*`. It does no I/O and reads
//! no clock: the time is a [`Moment`] that the caller passes in. So two sessions can be driven against each other in a test
//! without a socket and without a sleep, and no byte from a peer can reach a disk or an allocator without passing here.
//!
//! Layer: wire. Uses `ids`, `limits`, `lsn`. Knows nothing of sockets, clocks, files or the engine.

pub(crate) mod client;
pub(crate) mod code;
pub(crate) mod follower;
pub(crate) mod frame;
pub(crate) mod history;
pub(crate) mod leader;
pub(crate) mod message;
pub(crate) mod rights;

use std::time::Duration;

pub(crate) use code::{Class, Code, Violation};
pub(crate) use frame::{Encoded, Frame};

/// The protocol's major version, agreed in the TLS handshake: a peer of another one never exchanges a byte with us.
pub(crate) const ALPN: &[u8] = b"walrus/1";

/// The minor version that this program speaks. The effective one is the smaller of both sides'.
pub(crate) const MINOR: u16 = 0;

/// What this program calls itself to its peers; for log lines, never for decisions.
pub(crate) const SOFTWARE: &str = concat!("walrus-node ", env!("CARGO_PKG_VERSION"));

/// A moment, counted by the caller from a start of its choice that is the same for one session.
pub(crate) type Moment = Duration;

/// The first frame must be there this long after the connection: docs/PROTOCOL.md#handshake. A peer that holds a
/// connection without saying who it is costs a slot.
pub(crate) const HELLO_TIMEOUT: Duration = Duration::from_secs(3);

/// Both ends of a followed control stream speak at least this often: docs/PROTOCOL.md#liveness
pub(crate) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// A control stream that has been silent for this long belongs to a peer that is gone or stuck.
pub(crate) const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(5);

/// Batches of one append session that are sent and not acknowledged: docs/PROTOCOL.md#append
pub(crate) const APPEND_BATCHES_IN_FLIGHT_MAX: usize = 1024;

/// Their payload bytes. One group of the largest size must fit, or it could never be sent.
pub(crate) const APPEND_BYTES_IN_FLIGHT_MAX: usize = 32 << 20;

const _: () = assert!(HEARTBEAT_TIMEOUT.as_millis() >= 3 * HEARTBEAT_INTERVAL.as_millis());
const _: () = assert!(APPEND_BYTES_IN_FLIGHT_MAX >= crate::limits::GROUP_BYTES_MAX);
