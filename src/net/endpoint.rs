//! Sockets, limits, connecting, and what a broken connection means: docs/PROTOCOL.md#transport
//!
//! Every bound that a hostile or broken peer could push against is set here, because quinn's defaults are generous: unlimited
//! receive windows, 65,536 pending handshakes.
//!
//! Layer: net. Uses `wire` for codes. Knows nothing of frames.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, ConnectionError, Endpoint, EndpointConfig, IdleTimeout, TransportConfig, VarInt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::stream::code_of;
use super::tls::{Tls, peer_identity};
use crate::wire::message::text;
use crate::wire::rights::{Identity, Role};
use crate::wire::{Code, Violation};

/// One try to connect, name look-up and handshake included.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A dead peer is noticed after this.
const IDLE_TIMEOUT_MS: u32 = 5_000;
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// Handshakes that wait to be looked at, and their bytes.
const INCOMING_MAX: usize = 256;
const INCOMING_BYTES_MAX: u64 = 8 << 20;

/// Requests of one connection at a time, its control stream included.
const BIDI_STREAMS_MAX: u32 = 128;
/// Streams of blocks that a node may open to whoever follows.
const UNI_STREAMS_MAX: u32 = 4;

/// Bytes on their way on one stream. More than the bandwidth-delay product of 10 Gb/s at 5 ms.
const STREAM_WINDOW: u32 = 8 << 20;
/// Bytes on their way on all streams of a connection: this much memory a peer can fill.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Bytes sent and not acknowledged, per connection: what a slow follower costs.
const SEND_WINDOW: u64 = 16 << 20;

/// The largest packet tried. Ten of these are one batch of segmentation offload, and must stay below 64 KiB, or the kernel
/// refuses the batch and quinn takes that for success (replication.md 5.2).
const MTU_MAX: u16 = 6_500;
/// Room for a packet of that size with its IPv6 and UDP headers taken off.
const UDP_PAYLOAD_MAX: u16 = MTU_MAX + 20;

/// Packets that a peer may receive before it acknowledges them with a packet of its own. With anything that goes the other way they are
/// acknowledged at once; a packet of its own wakes a thread on both sides, which for appends is most of what they cost.
const PACKETS_PER_ACK: u32 = 10;
/// How long it may hold that back.
const ACK_DELAY: Duration = Duration::from_millis(5);

/// Bytes that may be on their way before the first acknowledgement. Skips the slow start of a local network, and must be many
/// packets of the largest size: quinn (0.11) holds even a CONNECTION_CLOSE back while the window is full, and once closed it reads
/// no acknowledgement that would open it. With its default of 12 KB one MTU probe on its way was enough, and the peer never
/// heard why it was closed.
const INITIAL_WINDOW: u64 = 1 << 20;

const _: () = assert!(MTU_MAX as usize * 10 <= 65_507);
const _: () = assert!(INITIAL_WINDOW >= 64 * MTU_MAX as u64);
const _: () = assert!(INITIAL_WINDOW >= 4 * (PACKETS_PER_ACK * MTU_MAX as u32) as u64);

fn transport(bidi: u32, uni: u32) -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    let mut mtu = quinn::MtuDiscoveryConfig::default();
    mtu.upper_bound(MTU_MAX);
    let mut acks = quinn::AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(PACKETS_PER_ACK.into()).max_ack_delay(Some(ACK_DELAY));
    let mut congestion = quinn::congestion::CubicConfig::default();
    congestion.initial_window(INITIAL_WINDOW);
    config
        .congestion_controller_factory(Arc::new(congestion))
        .max_concurrent_bidi_streams(bidi.into())
        .max_concurrent_uni_streams(uni.into())
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(CONNECTION_WINDOW.into())
        .send_window(SEND_WINDOW)
        .mtu_discovery_config(Some(mtu))
        .ack_frequency_config(Some(acks))
        .datagram_receive_buffer_size(None);
    Arc::new(config)
}

fn endpoint_config() -> EndpointConfig {
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(UDP_PAYLOAD_MAX).expect("above the 1,200 that QUIC demands");
    config
}

fn new_endpoint(server: Option<quinn::ServerConfig>, address: SocketAddr) -> io::Result<Endpoint> {
    let socket = std::net::UdpSocket::bind(address)?;
    Endpoint::new(endpoint_config(), server, socket, Arc::new(quinn::TokioRuntime))
}

/// Listens on `address`; port 0 lets the system choose. Must be called within a tokio runtime.
pub(crate) fn listen(address: SocketAddr, tls: &Tls) -> io::Result<Endpoint> {
    let mut config = quinn::ServerConfig::with_crypto(tls.server());
    config
        .transport_config(transport(BIDI_STREAMS_MAX, 0))
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size_total(INCOMING_BYTES_MAX);
    new_endpoint(Some(config), address)
}

/// A connection to a node, and who it is.
#[derive(Clone, Debug)]
pub(crate) struct Connected {
    pub(crate) connection: Connection,
    pub(crate) peer: Identity,
    /// Keeps the socket open as long as the connection.
    pub(crate) endpoint: Endpoint,
}

/// Why there is no connection, or not any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    /// The address is none.
    #[error("{0:?} is not HOST:PORT")]
    BadAddress(String),
    /// Nobody answers there.
    #[error("{0}")]
    Unreachable(String),
    /// One side does not accept the other's certificate.
    #[error("{0}")]
    NotAllowed(String),
    /// The peer closed it and said why.
    #[error("{code}{}{message}", if message.is_empty() { "" } else { ": " })]
    Closed {
        /// The code it gave.
        code: Code,
        /// The sentence it gave.
        message: String,
    },
    /// We closed it.
    #[error("closed by this side")]
    ByUs,
}

/// What a connection's end means.
pub(crate) fn broken(error: &ConnectionError) -> Broken {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            let message = printable(&String::from_utf8_lossy(&close.reason));
            Broken::Closed { code: code_of(close.error_code), message }
        }
        ConnectionError::ConnectionClosed(close) => transport_broken(close.error_code.into(), || {
            let reason = String::from_utf8_lossy(&close.reason);
            format!("the peer does not accept our certificate: {}", printable(&reason))
        }),
        ConnectionError::TransportError(error) => transport_broken(error.code.into(), || {
            format!("the peer's certificate is not accepted: {}", printable(&error.reason))
        }),
        ConnectionError::TimedOut => Broken::Unreachable("nothing was heard for too long".into()),
        ConnectionError::LocallyClosed => Broken::ByUs,
        other => Broken::Unreachable(other.to_string()),
    }
}

/// Transport errors 0x100 to 0x1ff are TLS alerts (RFC 9000, 20.1): somebody's certificate, or no common ALPN.
fn transport_broken(code: u64, not_allowed: impl Fn() -> String) -> Broken {
    /// no_application_protocol (RFC 8446, 6.2): it speaks QUIC and TLS, but not ours.
    const NO_ALPN: u64 = 0x100 + 120;
    match code {
        NO_ALPN => Broken::Unreachable("it does not speak walrus/1".into()),
        0x100..=0x1ff => Broken::NotAllowed(not_allowed()),
        _ => Broken::Unreachable(format!("QUIC transport error {code:#x}")),
    }
}

/// Text from a peer, fit for a terminal and a log line.
pub(crate) fn printable(from_peer: &str) -> String {
    text(from_peer.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>())
}

/// Ends a connection and says why. Frames that were not delivered yet are lost.
pub(crate) fn close(connection: &Connection, code: Code, message: &str) {
    connection.close(VarInt::from_u32(code.0.into()), text(message).as_bytes());
}

/// Ends a connection for a broken rule.
pub(crate) fn close_for(connection: &Connection, violation: &Violation) {
    close(connection, violation.code, &violation.what);
}

/// Connects to `HOST:PORT`, one try of three seconds. The peer must be a node of our cluster.
pub(crate) async fn connect(address: &str, tls: &Tls) -> Result<Connected, Broken> {
    let (host, _port) = split_host(address).ok_or_else(|| Broken::BadAddress(address.to_owned()))?;
    let tried = timeout(CONNECT_TIMEOUT, connect_any(address, host, tls)).await;
    let silent = || Broken::Unreachable(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()));
    let (connection, endpoint) = tried.map_err(|_| silent())??;
    // A certificate of this CA is not enough: a producer's must not pose as a node and take appends.
    let checked = peer_identity(&connection, &tls.identity().cluster).and_then(|peer| match peer.role {
        Role::Node => Ok(peer),
        _ => Err(Violation::new(Code::UNAUTHENTICATED, format!("{peer} answers, which is not a node"))),
    });
    match checked {
        Ok(peer) => Ok(Connected { connection, peer, endpoint }),
        Err(violation) => {
            close_for(&connection, &violation);
            Err(Broken::NotAllowed(violation.what))
        }
    }
}

/// The host of `HOST:PORT`, without the brackets of an IPv6 address.
fn split_host(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty()).then_some((host, port.parse().ok()?))
}

/// All addresses of a name at once, and the first that answers: `localhost` is two, and a node listens on one of them.
async fn connect_any(address: &str, host: &str, tls: &Tls) -> Result<(Connection, Endpoint), Broken> {
    let found = tokio::net::lookup_host(address).await;
    let addresses = found.map_err(|error| Broken::Unreachable(format!("{host}: {error}")))?;
    let mut tries = JoinSet::new();
    for remote in addresses {
        let (tls, host) = (tls.clone(), host.to_owned());
        tries.spawn(async move { connect_one(remote, &host, &tls).await });
    }
    let mut last = Broken::Unreachable(format!("{host} has no address"));
    while let Some(tried) = tries.join_next().await {
        match tried {
            Ok(Ok(connected)) => return Ok(connected),
            // A refused certificate says more than an address that nobody listens on.
            Ok(Err(error)) if !matches!(last, Broken::NotAllowed(_)) => last = error,
            _ => {}
        }
    }
    Err(last)
}

async fn connect_one(remote: SocketAddr, host: &str, tls: &Tls) -> Result<(Connection, Endpoint), Broken> {
    let unreachable = |error: &dyn std::fmt::Display| Broken::Unreachable(format!("{remote}: {error}"));
    let local: SocketAddr = match remote {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let endpoint = new_endpoint(None, local).map_err(|error| unreachable(&error))?;
    let mut config = quinn::ClientConfig::new(tls.client());
    config.transport_config(transport(0, UNI_STREAMS_MAX));
    let connecting = endpoint.connect_with(config, remote, host).map_err(|error| unreachable(&error))?;
    match connecting.await {
        Ok(connection) => Ok((connection, endpoint)),
        Err(error) => Err(broken(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        assert_eq!(split_host("node-1:7400"), Some(("node-1", 7400)));
        assert_eq!(split_host("[::1]:7400"), Some(("::1", 7400)));
        for bad in ["", "node-1", ":7400", "node-1:", "node-1:port", "node-1:70000"] {
            assert_eq!(split_host(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_a_peer_says_cannot_move_the_cursor_of_a_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nc"), "a [2Jb c");
    }
}
