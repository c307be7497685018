//! Our nodes in this process: a leader and its followers on loopback, with certificates as everywhere.
//!
//! Each has a runtime of its own with as many threads as the command gives it, so they share nothing but the process: neither a queue nor a
//! lock of a scheduler. That they are in this process makes their cost part of its cost.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use walrus_node::certs::{self, Request, Role};
use walrus_node::{IoMode, Node, NodeConfig, Options, Viewer};

/// As `walrus-node serve` has it.
const NODE_THREADS: usize = 2;
/// How long a follower may take to have what its leader has.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_micros(200);

/// A node, and the threads it runs on.
struct Running {
    node: Node,
    runtime: Runtime,
    data: PathBuf,
}

/// A leader and its followers.
pub(super) struct Cluster {
    folder: PathBuf,
    leader: Running,
    followers: Vec<Running>,
    io: IoMode,
}

/// Threads for nodes or for clients.
pub(super) fn runtime(threads: usize, name: &str) -> Result<Runtime> {
    let built = Builder::new_multi_thread().worker_threads(threads).thread_name(name).enable_all().build();
    built.with_context(|| format!("starting {threads} threads for the {name}"))
}

impl Cluster {
    /// Starts all of them, and waits until each follower has what its leader has.
    pub(super) fn start(folder: &Path, options: &Options, followers: u32) -> Result<Cluster> {
        let pki = folder.join("pki");
        certs::init(&pki, "bench")?;
        issue(&pki, "client", Role::Admin)?;
        issue(&pki, "leader", Role::Node)?;
        let leader = start(folder, "leader", None, options)?;
        let mut cluster = Cluster { folder: folder.to_owned(), leader, followers: Vec::new(), io: options.io };
        let address = cluster.leader_address();
        for number in 1..=followers {
            let name = format!("follower-{number}");
            issue(&pki, &name, Role::Node)?;
            cluster.followers.push(start(folder, &name, Some(address.clone()), options)?);
        }
        cluster.caught_up().context("before the load")?;
        Ok(cluster)
    }

    /// The certificate of those who append and read.
    pub(super) fn client_tls(&self) -> PathBuf {
        self.folder.join("pki").join("client")
    }

    pub(super) fn leader_address(&self) -> String {
        self.leader.node.address().to_string()
    }

    pub(super) fn follower_addresses(&self) -> Vec<String> {
        self.followers.iter().map(|follower| follower.node.address().to_string()).collect()
    }

    pub(super) fn leader_status(&self) -> Value {
        self.leader.node.status()
    }

    /// Waits until every follower has what its leader has; returns when the last one had it.
    pub(super) fn caught_up(&self) -> Result<Instant> {
        let started = Instant::now();
        for follower in &self.followers {
            loop {
                let (leads, follows) = (self.leader.node.status(), follower.node.status());
                if leads["durable_lsn"].is_u64() && leads["durable_lsn"] == follows["durable_lsn"] {
                    break;
                }
                if started.elapsed() > CATCH_UP_PATIENCE {
                    bail!(
                        "{} is at lsn {} and its leader at {} after {CATCH_UP_PATIENCE:?}; it says: {}",
                        follower.data.display(),
                        follows["durable_lsn"],
                        leads["durable_lsn"],
                        follows["leader"]["trouble"]
                    );
                }
                thread::sleep(LOOK_AGAIN);
            }
        }
        Ok(Instant::now())
    }

    /// Where each of them stands: (durable LSN, chain), the leader first. Equal chains at equal LSNs stand for equal histories.
    pub(super) fn ends(&self) -> Vec<(Value, Value)> {
        let end = |running: &Running| {
            let status = running.node.status();
            (status["durable_lsn"].clone(), status["chain"].clone())
        };
        std::iter::once(&self.leader).chain(&self.followers).map(end).collect()
    }

    /// Stops all of them in order, and compares what they leave block by block.
    pub(super) fn stop(self) -> Result<()> {
        let Cluster { leader, followers, io, .. } = self;
        let mut folders = Vec::new();
        // The leader ships what is durable before it ends.
        for running in std::iter::once(leader).chain(followers) {
            let Running { node, runtime, data } = running;
            runtime.block_on(node.drain()).with_context(|| format!("stopping the node in {}", data.display()))?;
            runtime.shutdown_background();
            folders.push(data);
        }
        let (leader, followers) = folders.split_first().expect("there is a leader");
        if followers.is_empty() {
            return Ok(());
        }
        let view =
            |folder: &Path| Viewer::open(folder, io).with_context(|| format!("looking into {}", folder.display()));
        let leads = view(leader)?;
        for follower in followers {
            if let Some(lsn) = leads.first_difference(&view(follower)?)? {
                bail!("{} differs from its leader from lsn {lsn} on", follower.display());
            }
        }
        Ok(())
    }
}

fn issue(pki: &Path, name: &str, role: Role) -> Result<()> {
    let request = Request { name: name.into(), role, topics: Vec::new(), hosts: Vec::new() };
    certs::issue(pki, &request).with_context(|| format!("a certificate for the {name}"))?;
    Ok(())
}

fn start(folder: &Path, name: &str, follow: Option<String>, options: &Options) -> Result<Running> {
    let any_port = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let data = folder.join(name);
    let config = NodeConfig {
        listen: any_port,
        admin: any_port,
        tls: Some(folder.join("pki").join(name)),
        follow,
        options: options.clone(),
        ..NodeConfig::new(&data)
    };
    let runtime = runtime(NODE_THREADS, name)?;
    let node = runtime.block_on(Node::start(config)).with_context(|| format!("starting the {name}"))?;
    Ok(Running { node, runtime, data })
}
