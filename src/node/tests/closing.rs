//! A node whose disk hangs, or fails.

use std::io::{Read, Write};

use super::hostile::{Raw, batch};
use super::*;
use crate::net::stream::{FrameReader, FrameWriter};
use crate::node::{NodeError, shutdown::close_in_time};
use crate::storage::sim::{Fault, FaultError, FaultKind, SimDisk};
use crate::wire::Code;
use crate::wire::client::AppendLedger;
use crate::wire::message::{Appended, Message, Refused};

fn options() -> Options {
    Options { seed: Some(1), ..small() }
}

impl House {
    /// A leader on a simulated disk.
    async fn leader_on(&self, disk: &SimDisk) -> Node {
        let log = Engine::open_sim(disk, options()).unwrap();
        within(Node::serve(self.config("leader", "n1"), Some(log))).await.unwrap()
    }
}

/// Once an idle log has recorded its end, nobody but an append writes: a fault strikes that.
async fn until_idle(disk: &SimDisk) {
    let mut at = disk.trace_len();
    until("the hint is recorded", || {
        let all = disk.trace_len();
        let written = (at..all).any(|at| disk.op(at).contains("superblock") && disk.op(at).contains("flush"));
        at = if written { at } else { all };
        written
    })
    .await;
}

fn get(node: &Node, path: &str) -> String {
    let mut socket = std::net::TcpStream::connect(node.admin_address()).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test]
async fn a_disk_that_never_answers_does_not_keep_a_node_from_ending() {
    let disk = SimDisk::new(1);
    let log = Engine::open_sim(&disk, options()).unwrap();
    log.append("t", "durable").unwrap().wait().unwrap();
    let durable = log.durable().lsn();
    let hold = disk.hold();
    let stuck = log.append("t", "stuck").unwrap();
    let error = close_in_time(log, Duration::from_millis(20)).await.unwrap_err();
    assert_eq!(error.exit_code(), 75);
    let said = error.to_string();
    assert!(matches!(error, NodeError::DiskHangs { what: "a write of blocks", .. }), "{said}");
    for part in ["a write of blocks has not come back for ", &format!("below lsn {durable} is durable"), "hint: dmesg"]
    {
        assert!(said.contains(part), "{part} is missing: {said}");
    }
    assert!(stuck.try_outcome().is_none(), "nothing is claimed about it");
    drop(hold); // or the test would not end either
}

#[tokio::test]
async fn a_flush_that_never_comes_back_is_called_one() {
    let disk = SimDisk::new(2);
    let level = crate::commit::submission::Level::Written;
    let log = Engine::open_sim(&disk, Options { level, ..options() }).unwrap();
    log.append("t", "written").unwrap().wait().unwrap();
    let hold = disk.hold();
    let error = close_in_time(log, Duration::from_millis(20)).await.unwrap_err();
    assert!(matches!(error, NodeError::DiskHangs { what: "a flush of blocks", .. }), "{error}");
    assert!(error.to_string().contains("acknowledged as written below lsn"), "{error}");
    drop(hold);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_clients_and_a_disk_that_never_answers_ends_and_says_what_is_stuck() {
    let house = House::new();
    let disk = SimDisk::new(3);
    let leader = house.leader_on(&disk).await;
    let client = house.client(&leader).await;
    append(&client, "t", &lines(0..100), 10).await;
    let hold = disk.hold();
    let (mut appender, mut acks) = client.append("t").await.unwrap();
    appender.send(&lines(0..10)).await.unwrap();
    appender.flush().await.unwrap();
    let log = leader.log.get().unwrap().clone();
    until("the write is under way", || log.waits_for().is_some()).await;
    let error = within(leader.drain()).await.unwrap_err();
    assert_eq!((error.exit_code(), error.to_string().contains("a write of blocks")), (75, true), "{error}");
    let ended = within(acks.next()).await;
    assert!(ended.is_err(), "nothing is claimed: {ended:?}");
    drop(hold);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_that_was_survived_is_in_the_status_and_a_metric_and_so_is_a_halt() {
    let house = House::new();
    let disk = SimDisk::new(4);
    let leader = house.leader_on(&disk).await;
    let client = house.client(&leader).await;
    append(&client, "t", &lines(0..10), 10).await;
    let status = leader.status();
    assert_eq!((&status["failures_survived"], &status["last_failure"]), (&0.into(), &serde_json::Value::Null));

    until_idle(&disk).await;
    let fail = |from_then_on| disk.fail(Fault { kind: FaultKind::Write, nth: 1, error: FaultError::Io, from_then_on });
    fail(false);
    append(&client, "t", &lines(10..20), 10).await;
    let status = client.status().await.unwrap();
    assert_eq!((&status["failures_survived"], &status["durability"]), (&1.into(), &"durable".into()));
    assert!(status["last_failure"].as_str().unwrap().contains("write") && status["halted"].is_null(), "{status}");
    let metrics = get(&leader, "/metrics");
    assert!(
        metrics.contains("\nwalrus_log_failures_survived_total 1\n") && metrics.contains("\nwalrus_log_halted 0\n")
    );

    fail(true);
    let (mut appender, mut acks) = client.append("t").await.unwrap();
    appender.send(&lines(0..1)).await.unwrap();
    appender.flush().await.unwrap();
    within(acks.next()).await.unwrap_err();
    until("the log has halted", || leader.status()["halted"].is_string()).await;
    assert!(get(&leader, "/metrics").contains("\nwalrus_log_halted 1\n"));
    assert_eq!(read_all(&client, "t").await, lines(0..20), "reads go on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_may_be_there_is_told_though_one_behind_it_was_refused_first() {
    let house = House::new();
    let disk = SimDisk::new(5);
    let leader = house.leader_on(&disk).await;
    let mut raw = Raw::connect(&house, "boss", &leader).await;
    raw.hello().await;
    let (send, recv) = raw.connected.connection.open_bi().await.unwrap();
    let (mut writer, mut heard) = (FrameWriter::new(send), FrameReader::new(recv));
    writer.push(AppendLedger::begin("t"));
    writer.send(batch(0, &[3], b"abc")).await.unwrap();
    Appended::decode(&within(heard.next()).await.unwrap().unwrap()).unwrap();

    until_idle(&disk).await;
    let hold = disk.hold();
    disk.fail(Fault { kind: FaultKind::Write, nth: 1, error: FaultError::Io, from_then_on: true });
    // They come in one packet: the one without entries is refused while the one before it waits for the disk.
    writer.push(batch(1, &[3], b"def"));
    writer.send(batch(2, &[], b"")).await.unwrap();
    let log = leader.log.get().unwrap().clone();
    until("the write is under way", || log.waits_for().is_some()).await;
    drop(hold);
    let refused = Refused::decode(&within(heard.next()).await.unwrap().unwrap()).unwrap();
    assert_eq!(refused.code, Code::INDETERMINATE, "{}", refused.message);
    assert!(disk.faults_fired() > 0);
}
