//! Peers that break the rules: each is refused by name, and the node goes on serving the others.

use super::*;
use crate::net::endpoint::{Broken, Connected, broken, connect};
use crate::net::stream::{FrameReader, FrameWriter};
use crate::net::tls::Tls;
use crate::wire::client::AppendLedger;
use crate::wire::message::{Ack, Batch, Ext, Hello, History, Message, Subscribe, Subscribed, Welcome};
use crate::wire::{Code, Encoded, frame};

/// A connection whose frames the test makes by hand.
pub(super) struct Raw {
    pub(super) connected: Connected,
    control: FrameWriter,
    heard: FrameReader,
}

impl Raw {
    pub(super) async fn connect(house: &House, name: &str, node: &Node) -> Raw {
        let tls = Tls::load(&house.tls(name)).unwrap();
        let connected = connect(&node.address().to_string(), &tls).await.unwrap();
        let (send, recv) = connected.connection.open_bi().await.unwrap();
        Raw { connected, control: FrameWriter::new(send), heard: FrameReader::new(recv) }
    }

    pub(super) async fn hello(&mut self) -> Welcome {
        self.say(Hello::new(99, None, "raw").encode()).await;
        Welcome::decode(&within(self.heard.next()).await.unwrap().unwrap()).unwrap()
    }

    async fn say(&mut self, frame: Encoded) {
        self.control.send(frame).await.unwrap();
    }

    async fn subscribe(&mut self) {
        let history = History { lsn: 1, epoch: 0, run_id: 0, chain: 0 };
        self.say(Subscribe { sub: 1, history, ext: Ext::default() }.encode()).await;
        loop {
            let frame = within(self.heard.next()).await.unwrap().unwrap();
            if frame.kind == Subscribed::KIND {
                return;
            }
        }
    }

    /// The code that the node closed this connection with.
    async fn closed(&self) -> Code {
        match broken(&within(self.connected.connection.closed()).await) {
            Broken::Closed { code, .. } => code,
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn batch(seq: u64, lens: &[u32], payload: &'static [u8]) -> Encoded {
    Batch { seq, lens: lens.to_vec(), ext: Ext::default() }.encode_with(Bytes::from_static(payload))
}

/// The node still does its work.
async fn still_serves(house: &House, node: &Node) {
    let client = house.client(node).await;
    append(&client, "alive", &lines(0..3), 1).await;
    assert!(read_all(&client, "alive").await.len() >= 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_never_says_hello_is_closed() {
    let house = House::new();
    let leader = house.leader().await;
    let mute = Raw::connect(&house, "boss", &leader).await;
    let mut half = Raw::connect(&house, "boss", &leader).await;
    // The beginning of a Hello, and nothing more.
    half.say(Encoded { head: Bytes::from_static(&[1, 0, 9]), payload: Bytes::new() }).await;
    assert_eq!(mute.closed().await, Code::PROTOCOL);
    assert_eq!(half.closed().await, Code::PROTOCOL);
    still_serves(&house, &leader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_are_none_or_too_long_or_out_of_turn_end_their_connection_alone() {
    let house = House::new();
    let leader = house.leader().await;
    let announced = |kind: u8, header: u16, payload: u32| {
        let mut head = vec![kind, 0];
        head.extend_from_slice(&header.to_le_bytes());
        head.extend_from_slice(&payload.to_le_bytes());
        Encoded { head: head.into(), payload: Bytes::new() }
    };
    let cases = [
        (announced(frame::Kind::HELLO.0, u16::MAX, 0), Code::FRAME_TOO_LARGE),
        (announced(frame::Kind::HELLO.0, 0, u32::MAX), Code::FRAME_TOO_LARGE),
        (announced(250, 0, 0), Code::PROTOCOL),
        (announced(frame::Kind::HELLO.0, 0, 0), Code::PROTOCOL),
        (Ack { sub: 1, received_lsn: 1, durable_lsn: 1, ext: Ext::default() }.encode(), Code::PROTOCOL),
        (Hello { minor_min: 9, ..Hello::new(0, None, "") }.encode(), Code::VERSION),
        (Hello::new(5, Some(12345), "").encode(), Code::LOG_MISMATCH),
    ];
    for (frame, code) in cases {
        let mut raw = Raw::connect(&house, "boss", &leader).await;
        raw.say(frame).await;
        assert_eq!(raw.closed().await, code);
    }
    still_serves(&house, &leader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_wants_the_whole_log_is_refused() {
    let house = House::new();
    house.issue("c1", Role::Consumer, &[]);
    let leader = house.leader().await;
    let mut raw = Raw::connect(&house, "c1", &leader).await;
    raw.hello().await;
    let history = History { lsn: 1, epoch: 0, run_id: 0, chain: 0 };
    raw.say(Subscribe { sub: 1, history, ext: Ext::default() }.encode()).await;
    assert_eq!(raw.closed().await, Code::FORBIDDEN);
    assert_eq!(leader.status()["followers"].as_array().unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_acknowledges_what_it_was_not_sent_is_closed_and_not_believed() {
    let house = House::new();
    let leader = house.leader().await;
    let mut raw = Raw::connect(&house, "n2", &leader).await;
    raw.hello().await;
    raw.subscribe().await;
    raw.say(Ack { sub: 1, received_lsn: 1 << 40, durable_lsn: 1 << 40, ext: Ext::default() }.encode()).await;
    assert_eq!(raw.closed().await, Code::PROTOCOL);
    let row = leader.status()["followers"][0].clone();
    assert!(row["durable_lsn"].as_u64().unwrap() <= durable_lsn(&leader), "{row}");
    still_serves(&house, &leader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_takes_nothing_stops_no_append() {
    let house = House::new();
    let leader = house.leader().await;
    let mut raw = Raw::connect(&house, "n2", &leader).await;
    raw.hello().await;
    raw.subscribe().await;
    let _stream_that_nobody_reads = within(raw.connected.connection.accept_uni()).await.unwrap();
    let client = house.client(&leader).await;
    // More than all windows together.
    let entries: Vec<_> = (0..60u8).map(|i| Bytes::from(vec![i; 1_000_000])).collect();
    append(&client, "big", &entries, 4).await;
    assert_eq!(read_all(&client, "big").await, entries);
    let row = leader.status()["followers"][0].clone();
    assert!(row["lag_blocks"].as_u64().unwrap() > 0 && row["lag_bytes"].as_u64().unwrap() > 1 << 20, "{row}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_out_of_order_or_does_not_add_up_is_never_appended() {
    let house = House::new();
    let leader = house.leader().await;
    for bad in
        [batch(1, &[3], b"abc"), batch(0, &[2], b"abc"), batch(0, &[4], b"abc"), batch(0, &[u32::MAX, 4], b"abc")]
    {
        let mut raw = Raw::connect(&house, "boss", &leader).await;
        raw.hello().await;
        let (send, _recv) = raw.connected.connection.open_bi().await.unwrap();
        let mut writer = FrameWriter::new(send);
        writer.push(AppendLedger::begin("t"));
        writer.push(bad);
        writer.flush().await.unwrap();
        assert_eq!(raw.closed().await, Code::PROTOCOL);
    }
    assert!(house.client(&leader).await.topics().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_a_certificate_or_of_another_protocol_gets_no_byte_through() {
    let house = House::new();
    let leader = house.leader().await;
    let ca = std::fs::read(house.tls("boss").join("ca.pem")).unwrap();
    let certificate_less = |alpn: &[u8]| {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&ca).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        let config = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
        quinn::ClientConfig::new(Arc::new(config))
    };
    for alpn in [&b"walrus/1"[..], b"walrus/2"] {
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let connecting = endpoint.connect_with(certificate_less(alpn), leader.address(), "localhost").unwrap();
        // TLS 1.3 lets the client believe for a moment that it is in.
        let error = match within(connecting).await {
            Ok(connection) => within(connection.closed()).await,
            Err(error) => error,
        };
        assert!(!matches!(broken(&error), Broken::Closed { .. } | Broken::ByUs), "{error}");
    }
    still_serves(&house, &leader).await;
}
