//! `demo`: everything once, on this disk, in about ten seconds, and at the end nothing is left but what was measured.
//!
//! ```text
//!     the device alone -> leader and follower -> appends: one at a time, 64 at once, batches -> the mirror's lag
//!     -> SIGKILL the follower under load -> it comes back -> SIGKILL the leader under load -> it comes back
//!     -> the follower finds it again by itself -> both stop in order -> every entry checked, both logs compared
//! ```
//!
//! Both nodes are children of this very program, on loopback, with certificates as everywhere. Every figure printed is measured in this
//! run. Whatever happens, Ctrl-C included, the children are killed and the folder is removed.

mod check;
mod folder;
mod load;
mod node;
mod progress;
mod report;
mod source;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use walrus_node::certs::{self, Request, Role};
use walrus_node::{Client, IoMode};

use crate::cli::Demo;
use crate::fail::{Exit, Failure};
use crate::remote;

use self::floor::{Flush, Prepared};
use self::folder::Folder;
use self::load::{Load, Loaded, Window};
use self::node::{Nodes, Running};
use self::progress::Progress;
use self::report::Figures;
use self::source::Source;

// One instrument, one definition: the demo and the bench harness measure the same floor and name the same host.
#[expect(dead_code, reason = "the bench harness asks for more: the other flush, sizes, percentiles")]
#[path = "../../bench-harness/src/floor.rs"]
mod floor;
#[path = "../../bench-harness/src/host.rs"]
mod host;

/// The device alone: twice this, before and after.
const FLOOR_TIME: Duration = Duration::from_millis(600);
/// What the device is measured on.
const FLOOR_FILE_BYTES: u64 = 16 << 20;
/// Each kind of load.
const LOAD_TIME: Duration = Duration::from_millis(1000);
/// Load before and between the kills.
const KILL_AFTER: Duration = Duration::from_millis(400);
/// How long a node may take to find the other, or to have what the other has.
const PATIENCE: Duration = Duration::from_secs(30);

const ENTRY_BYTES: usize = 256;
const BATCH_ENTRIES: usize = 256;

pub(crate) fn run(args: &Demo, io: IoMode) -> Result<(), Failure> {
    let source = Arc::new(Source::open(args.input.as_deref())?);
    let runtime = remote::runtime()?;
    let folder = Folder::fresh()?;
    let done = runtime.block_on(async {
        tokio::select! {
            done = demo(folder.path(), &source, io) => done,
            interrupted = interruption() => Err(interrupted),
        }
    });
    runtime.shutdown_background();
    // The folder goes before the report comes: a reader of ours that goes away must not keep it.
    let removed = folder.remove();
    let figures = done?;
    removed?;
    figures.print()
}

/// Resolves when somebody wants us to stop.
async fn interruption() -> Failure {
    let wait = |kind| async move {
        match signal(kind) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = wait(SignalKind::interrupt()) => {}
        _ = wait(SignalKind::terminate()) => {}
        _ = wait(SignalKind::hangup()) => {}
    }
    Failure::new(Exit::Interrupted, "interrupted; the nodes were killed and their folder was removed")
}

async fn demo(folder: &Path, source: &Arc<Source>, io: IoMode) -> Result<Figures, Failure> {
    let progress = Progress::start();
    progress.step("measuring the device alone");
    let mut prepared = Prepared::new(folder, FLOOR_FILE_BYTES).map_err(|error| floor_failed(&error))?;
    let floor = prepared.measure(Flush::Fdatasync, FLOOR_TIME).map_err(|error| floor_failed(&error))?;

    progress.step("starting a leader and a follower");
    let nodes = certificates(folder, io)?;
    let leader = Running::start(&nodes.leader()).await?;
    let leader_address = leader.address().to_owned();
    let follower = Running::start(&nodes.follower(&leader_address)).await?;
    let client = nodes.connect(leader.address()).await?;
    caught_up(&client).await?;
    let io = text_of(&client, "io").await?;

    progress.step("appending, one at a time");
    let one = load_for(&client, "one", Window { batch: 1, outstanding: 1 }, &Source::sized(ENTRY_BYTES)).await?;
    progress.step("appending, 64 at once");
    let many = load_for(&client, "many", Window { batch: 1, outstanding: 64 }, &Source::sized(ENTRY_BYTES)).await?;
    progress.step("appending batches of 256");
    let window = Window { batch: BATCH_ENTRIES, outstanding: 32 };
    let batches = load_for(&client, "batches", window, &Source::sized(ENTRY_BYTES)).await?;
    let behind = caught_up(&client).await?;
    progress.step("measuring the mirror's lag");
    let follower_client = nodes.connect(follower.address()).await?;
    let lag = load::mirror_lag(&client, &follower_client, "lag", Duration::from_millis(500)).await?;
    follower_client.close().await;

    let killed = kill_both(&progress, &nodes, source, Alive { leader, follower, client }).await?;
    // The follower has not noticed yet that its leader was away: time to look at the device again.
    progress.step("measuring the device again, while the follower finds its leader");
    let floor_after = prepared.measure(Flush::Fdatasync, FLOOR_TIME).map_err(|error| floor_failed(&error))?;
    caught_up(&killed.alive.client).await?;
    let resumed = killed.leader_died_at.elapsed();
    killed.alive.client.close().await;

    progress.step("stopping both, checking every entry");
    killed.alive.leader.stop().await?;
    killed.alive.follower.stop().await?;
    let loads = [&one, &many, &batches, &lag.load, &killed.load];
    let checked = check::both(&nodes, io_of(&io), &loads)?;
    progress.finish();
    let host = host::HostFacts::of(Path::new(".")).map_err(|error| floor_failed(&error))?;
    Ok(Figures { host, io, floor, floor_after, one, many, batches, behind, lag, killed: killed.load, resumed, checked })
}

fn floor_failed(error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot measure the device under the current folder: {error}")).hint("df -T .")
}

/// Viewers have no queue; the mode only has to be one that is there.
fn io_of(io: &str) -> IoMode {
    io.parse().unwrap_or_default()
}

fn certificates(folder: &Path, io: IoMode) -> Result<Nodes, Failure> {
    let pki = folder.join("pki");
    let failed = |error: certs::CertError| Failure::of_text(Exit::Failed, &error.to_string());
    certs::init(&pki, "demo").map_err(failed)?;
    for (name, role) in [("leader", Role::Node), ("follower", Role::Node), ("me", Role::Admin)] {
        let request = Request { name: name.into(), role, topics: Vec::new(), hosts: Vec::new() };
        certs::issue(&pki, &request).map_err(failed)?;
    }
    Ok(Nodes { folder: folder.to_owned(), io })
}

async fn load_for(client: &Client, topic: &str, window: Window, source: &Arc<Source>) -> Result<Loaded, Failure> {
    let load = Load::start(client, topic, window, source).await?;
    tokio::time::sleep(LOAD_TIME).await;
    load.finish().await
}

/// Two nodes, and a connection to the leader.
struct Alive {
    leader: Running,
    follower: Running,
    client: Client,
}

/// What came of the kills.
struct Killed {
    load: Loaded,
    leader_died_at: Instant,
    alive: Alive,
}

/// The follower, then the leader, with SIGKILL, while batches of real entries are on their way.
async fn kill_both(progress: &Progress, nodes: &Nodes, source: &Arc<Source>, alive: Alive) -> Result<Killed, Failure> {
    let Alive { leader, follower, client } = alive;
    let leader_address = leader.address().to_owned();
    let follower_address = follower.address().to_owned();
    let window = Window { batch: BATCH_ENTRIES, outstanding: 32 };
    let load = Load::start(&client, "kills", window, source).await?;
    tokio::time::sleep(KILL_AFTER).await;
    progress.step("killed the follower with SIGKILL; the leader goes on");
    follower.kill()?;
    tokio::time::sleep(KILL_AFTER).await;
    progress.step("the follower is back, and catches up under load");
    let follower = Running::start(&nodes.follower(&leader_address).at(&follower_address)).await?;
    connected(nodes, &follower).await?;
    tokio::time::sleep(KILL_AFTER).await;
    progress.step("killed the leader with SIGKILL, under load");
    leader.kill()?;
    let leader_died_at = Instant::now();
    let load = load.give_up().await?;
    // Its connection is as dead as the leader is; saying goodbye would only take time.
    drop(client);
    progress.step("starting the leader again on what the kill has left");
    let leader = Running::start(&nodes.leader().at(&leader_address)).await?;
    let client = nodes.connect(leader.address()).await?;
    Ok(Killed { load, leader_died_at, alive: Alive { leader, follower, client } })
}

/// Waits until the leader's only follower has everything; returns how long that took.
async fn caught_up(client: &Client) -> Result<Duration, Failure> {
    until(client, "the follower has everything", |status| {
        let has_all = |follower: &Value| follower["durable_lsn"] == status["durable_lsn"] && is_connected(follower);
        status["followers"].as_array().is_some_and(|followers| followers.iter().any(has_all))
    })
    .await
}

fn is_connected(follower: &Value) -> bool {
    matches!(follower["state"].as_str(), Some("streaming" | "catching-up"))
}

/// Waits until the follower is connected: by its own word, because its leader would take a killed one for alive for some seconds.
async fn connected(nodes: &Nodes, follower: &Running) -> Result<(), Failure> {
    let client = nodes.connect(follower.address()).await?;
    until(&client, "the follower is connected", |status| status["leader"]["connected"] == true).await?;
    client.close().await;
    Ok(())
}

async fn until(client: &Client, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Duration, Failure> {
    let started = Instant::now();
    loop {
        let status = client.status().await.map_err(|error| load::failed(&error))?;
        if holds(&status) {
            return Ok(started.elapsed());
        }
        if started.elapsed() > PATIENCE {
            let message = format!("waited {} s in vain until {what}; the node says {status}", PATIENCE.as_secs());
            return Err(Failure::new(Exit::Failed, message));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn text_of(client: &Client, field: &str) -> Result<String, Failure> {
    let status = client.status().await.map_err(|error| load::failed(&error))?;
    Ok(status[field].as_str().unwrap_or("unknown").to_owned())
}
