//! A leader, a follower and clients in one process, over real QUIC on loopback and real folders.
//!
//! Everything here goes through the same doors as a user: [`Node`] and [`Client`]. Where a peer has to misbehave, `net` and `wire`
//! are used to speak the protocol by hand. No test asserts a time; what must happen is waited for, and a test that waits for ever
//! fails by a deadline far beyond what any machine needs.

mod closing;
mod hostile;
mod mirror;
mod serving;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;

use super::{Node, NodeConfig};
use crate::client::{Client, ClientError, ReadStart};
use crate::engine::{Engine, Options};
use crate::net::cert::{self, Request};
use crate::storage::IoMode;
use crate::wire::rights::Role;

/// Far beyond what anything here needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A CA and folders in a place that goes away.
struct House {
    root: tempfile::TempDir,
}

impl House {
    fn new() -> House {
        let root = tempfile::tempdir().unwrap();
        cert::init(&root.path().join("ca"), "walrus").unwrap();
        let house = House { root };
        house.issue("n1", Role::Node, &[]);
        house.issue("n2", Role::Node, &[]);
        house.issue("boss", Role::Admin, &[]);
        house
    }

    fn issue(&self, name: &str, role: Role, topics: &[&str]) -> PathBuf {
        let topics = topics.iter().map(|&glob| glob.to_owned()).collect();
        let request = Request { name: name.into(), role, topics, hosts: Vec::new() };
        cert::issue(&self.root.path().join("ca"), &request).unwrap()
    }

    fn tls(&self, name: &str) -> PathBuf {
        self.root.path().join("ca").join(name)
    }

    fn data(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn config(&self, data: &str, tls: &str) -> NodeConfig {
        NodeConfig {
            listen: Some("127.0.0.1:0".parse().unwrap()),
            admin: Some("127.0.0.1:0".parse().unwrap()),
            tls: Some(self.tls(tls)),
            options: small(),
            ..NodeConfig::new(self.data(data))
        }
    }

    async fn leader(&self) -> Node {
        start(self.config("leader", "n1")).await
    }

    async fn follower(&self, leader: &Node) -> Node {
        self.follower_of(&leader.address().to_string()).await
    }

    async fn follower_of(&self, leader: &str) -> Node {
        start(NodeConfig { follow: Some(leader.into()), ..self.config("follower", "n2") }).await
    }

    async fn client(&self, node: &Node) -> Client {
        self.client_as("boss", node).await.unwrap()
    }

    async fn client_as(&self, name: &str, node: &Node) -> Result<Client, ClientError> {
        Client::connect(&node.address().to_string(), &self.tls(name)).await
    }
}

/// Small segments, and the disk reached as `WALRUS_IO` asks.
fn small() -> Options {
    let io =
        std::env::var("WALRUS_IO").map_or(IoMode::Auto, |mode| mode.parse().expect("auto, uring, syscall or mmap"));
    Options { io, segment_bytes_first: 1 << 20, segment_bytes_max: 4 << 20, ..Options::default() }
}

/// Starts a node; a folder that the node before has not let go of yet is waited for by the log itself.
async fn start(config: NodeConfig) -> Node {
    within(Node::start(config)).await.unwrap()
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("this takes far too long")
}

/// Waits until `done` says so.
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let mut rounds = 0;
    while !done() {
        rounds += 1;
        assert!(rounds < 6000, "waited too long: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn lines(range: std::ops::Range<u64>) -> Vec<Bytes> {
    range.map(|i| Bytes::from(format!("line {i} {}", "x".repeat((i % 50) as usize)))).collect()
}

/// Appends in batches of `n` and waits until all are acknowledged.
async fn append(client: &Client, topic: &str, entries: &[Bytes], n: usize) -> u64 {
    let (mut appender, mut acks) = client.append(topic).await.unwrap();
    let entries = entries.to_vec();
    let sending = tokio::spawn(async move {
        for batch in entries.chunks(n) {
            appender.send(batch).await.unwrap();
        }
        appender.finish().await.unwrap();
    });
    let mut last = 0;
    while let Some(acked) = within(acks.next()).await.unwrap() {
        last = acked.lsn;
    }
    sending.await.unwrap();
    last
}

async fn read_all(client: &Client, topic: &str) -> Vec<Bytes> {
    let mut reading = client.read(topic, ReadStart::Start, true, None).await.unwrap();
    let mut payloads = Vec::new();
    while let Some(entries) = within(reading.next()).await.unwrap() {
        for entry in entries {
            assert_eq!(entry.offset, payloads.len() as u64);
            payloads.push(entry.payload);
        }
    }
    payloads
}

fn durable_lsn(node: &Node) -> u64 {
    node.status()["durable_lsn"].as_u64().unwrap_or(0)
}

/// Waits until the follower has all that the leader has.
async fn level(leader: &Node, follower: &Node) {
    until("the follower has everything", || durable_lsn(follower) == durable_lsn(leader)).await;
    assert_eq!(leader.status()["chain"], follower.status()["chain"]);
}

/// Blocks of both folders, byte for byte.
fn assert_equal_logs(a: &Path, b: &Path) {
    let log_id = {
        let log = Engine::open(a, small());
        log.map(|log| log.status().log_id).unwrap()
    };
    let (a, b) = (Engine::open(a, small()).unwrap(), Engine::open_mirror(b, Some(log_id), small()).unwrap());
    let end = b.status().durable_lsn;
    let mut next = crate::lsn::Lsn::FIRST;
    while next < end {
        let (mine, theirs) = (a.portable_blocks(next, 1).unwrap(), b.portable_blocks(next, 1).unwrap());
        assert_eq!(mine[0].bytes, theirs[0].bytes, "block {next}");
        next = next.next();
    }
}

/// A wire between two ends that can be cut: packets are then lost in silence, as when a machine dies.
struct Wire {
    address: String,
    cut: Arc<AtomicBool>,
}

impl Wire {
    /// To `node`, through an address of its own.
    async fn to(node: &Node) -> Wire {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let (node, cut) = (node.address(), Arc::new(AtomicBool::new(false)));
        let is_cut = Arc::clone(&cut);
        tokio::spawn(async move {
            let socket = Arc::new(socket);
            let mut ways: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
            let mut packet = vec![0; 65_536];
            loop {
                let Ok((len, from)) = socket.recv_from(&mut packet).await else { continue };
                let way = match ways.entry(from) {
                    Entry::Occupied(known) => Arc::clone(known.get()),
                    Entry::Vacant(new) => {
                        let way = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                        way.connect(node).await.unwrap();
                        tokio::spawn(Wire::back(Arc::clone(&way), Arc::clone(&socket), from, Arc::clone(&is_cut)));
                        Arc::clone(new.insert(way))
                    }
                };
                if !is_cut.load(Ordering::Relaxed) {
                    let _ = way.send(&packet[..len]).await;
                }
            }
        });
        Wire { address, cut }
    }

    async fn back(way: Arc<UdpSocket>, socket: Arc<UdpSocket>, to: SocketAddr, cut: Arc<AtomicBool>) {
        let mut packet = vec![0; 65_536];
        while let Ok(len) = way.recv(&mut packet).await {
            if !cut.load(Ordering::Relaxed) {
                let _ = socket.send_to(&packet[..len], to).await;
            }
        }
    }

    fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    fn mend(&self) {
        self.cut.store(false, Ordering::Relaxed);
    }
}
