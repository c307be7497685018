//! The command and a node: a leader and a follower as processes, certificates right and wrong, and nodes that die.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};
use walrus_node::certs::Role;

use crate::cli::{Done, Node, Pki, Running, arg, command, until, walrus, walrus_fed};
use crate::support::folder;

/// A place for nodes, with certificates.
pub(crate) struct Cluster {
    dir: tempfile::TempDir,
    pki: Pki,
    leader_tls: PathBuf,
    follower_tls: PathBuf,
    me: PathBuf,
}

/// Any free port.
pub(crate) const ANY: &str = "127.0.0.1:0";

impl Cluster {
    pub(crate) fn new() -> Cluster {
        let dir = folder();
        let pki = Pki::new(dir.path());
        let [leader_tls, follower_tls] = ["leader", "follower"].map(|name| pki.issue(name, Role::Node));
        let me = pki.issue("me", Role::Admin);
        Cluster { dir, pki, leader_tls, follower_tls, me }
    }

    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn leader(&self, listen: &str) -> Node {
        Node::start(&self.data("a"), &self.leader_tls, listen, None)
    }

    pub(crate) fn follower(&self, listen: &str, leader: &str) -> Node {
        Node::start(&self.data("b"), &self.follower_tls, listen, Some(leader))
    }

    pub(crate) fn tls_of_the_follower(&self) -> &Path {
        &self.follower_tls
    }

    pub(crate) fn at(&self, address: &str, args: &[&str], input: &[u8]) -> Done {
        self.at_as(address, &self.me, args, input)
    }

    fn at_as(&self, address: &str, tls: &Path, args: &[&str], input: &[u8]) -> Done {
        walrus_fed(&[args, &["--node", address, "--tls", arg(tls)]].concat(), input)
    }

    /// Waits until the follower has all that the leader has.
    pub(crate) fn wait_for_mirror(&self, leader: &str, follower: &str) {
        until("the follower has everything", || {
            let status = |node: &str| self.at(node, &["status", "--json"], b"").ok().json().remove(0);
            let (here, there) = (status(leader), status(follower));
            here["durable_lsn"].is_u64() && here["durable_lsn"] == there["durable_lsn"]
        });
    }

    pub(crate) fn diff(&self) -> Done {
        walrus(&["diff", "--data", arg(&self.data("a")), "--data", arg(&self.data("b")), "--json"])
    }
}

#[test]
fn what_is_appended_to_the_leader_comes_back_from_the_follower_and_both_folders_are_equal() {
    let cluster = Cluster::new();
    let leader = cluster.leader(ANY);
    let follower = cluster.follower(ANY, &leader.address);
    let text: Vec<u8> =
        (0..20_000).flat_map(|i| format!("line {i} {}\r\n\n", "x".repeat(i % 200)).into_bytes()).collect();
    let append = cluster.at(&leader.address, &["append", "text", "-", "--batch", "256", "--json"], &text).ok();
    assert_eq!(append.json().last().unwrap()["last_offset"], 39_999);
    cluster.wait_for_mirror(&leader.address, &follower.address);
    for node in [&follower, &leader] {
        assert!(cluster.at(&node.address, &["tail", "text", "-e"], b"").ok().out == text, "other bytes came back");
    }
    let last = cluster.at(&follower.address, &["tail", "text", "-o", "-2", "-n", "2", "--json"], b"").ok().json();
    assert_eq!((&last[0]["offset"], &last[1]["payload"]), (&json!(39_998), &json!("")));
    let topics = cluster.at(&follower.address, &["topics", "--json"], b"").ok().json();
    assert_eq!((&topics[0]["topic"], &topics[0]["next_offset"]), (&json!("text"), &json!(40_000)));

    let status = cluster.at(&leader.address, &["status", "--json"], b"").ok().json().remove(0);
    let follows = &status["followers"][0];
    for field in ["name", "state", "durable_lsn", "lag_blocks", "lag_bytes", "lag_seconds"] {
        assert!(follows.get(field).is_some(), "{field}: {status}");
    }
    follower.stop();
    leader.stop();
    assert_eq!(cluster.diff().ok().json(), [json!({"equal": true, "first_differing_lsn": null})]);
}

#[test]
fn a_tail_of_the_follower_goes_on_with_what_is_appended_to_the_leader_later() {
    let cluster = Cluster::new();
    let leader = cluster.leader(ANY);
    let follower = cluster.follower(ANY, &leader.address);
    cluster.at(&leader.address, &["append", "t"], b"first\n").ok();
    cluster.wait_for_mirror(&leader.address, &follower.address);
    let mut tail = Running::start(&mut command(&["tail", "t", "--node", &follower.address, "--tls", arg(&cluster.me)]));
    assert_eq!(tail.line(), "first");
    for i in 0..3 {
        cluster.at(&leader.address, &["append", "t"], format!("later {i}\n").as_bytes()).ok();
        assert_eq!(tail.line(), format!("later {i}"));
    }
    // A follower that stops says so to its readers.
    follower.stop();
    tail.end().with(3);
}

#[test]
fn an_append_to_a_follower_is_refused_and_names_its_leader() {
    let cluster = Cluster::new();
    let leader = cluster.leader(ANY);
    let follower = cluster.follower(ANY, &leader.address);
    let done = cluster.at(&follower.address, &["append", "t"], b"x\n").with(4);
    assert!(done.hint().contains(&leader.address), "{}", done.err);
    let done = cluster.at(&leader.address, &["tail", "t", "-e"], b"").with(1);
    assert!(done.error().contains("there is no topic `t`"), "the refused append left something: {}", done.err);
    assert!(done.hint().starts_with("walrus-node topics --node"), "{}", done.err);
}

#[test]
fn a_wrong_or_missing_certificate_is_not_allowed_and_leaves_nothing() {
    let cluster = Cluster::new();
    let leader = cluster.leader(ANY);
    let elsewhere = folder();
    let stranger = Pki::new(elsewhere.path()).issue("me", Role::Admin);
    let consumer = cluster.pki.issue("reader", Role::Consumer);
    let producer = cluster.pki.issue("writer", Role::Producer);
    let append = |tls: &Path| cluster.at_as(&leader.address, tls, &["append", "t"], b"x\n");
    for (tls, why) in
        [(&stranger, "certificate"), (&consumer, "may not append"), (&elsewhere.path().to_owned(), "no usable ca.pem")]
    {
        let done = append(tls).with(5);
        assert!(done.error().contains(why), "{}", done.err);
    }
    let without = walrus_fed(&["append", "t", "--node", &leader.address], b"x\n").with(5);
    assert!(without.hint().contains("tls/admin"), "{}", without.err);

    assert!(cluster.at(&leader.address, &["topics", "--json"], b"").ok().json().is_empty());
    append(&producer).ok();
    cluster.at_as(&leader.address, &producer, &["tail", "t", "-e"], b"").with(5);
    assert_eq!(cluster.at_as(&leader.address, &consumer, &["tail", "t", "-e"], b"").ok().text(), "x\n");
}

#[test]
fn an_address_nobody_listens_on_is_unreachable_within_seconds() {
    let cluster = Cluster::new();
    // A port that was free a moment ago.
    let free = std::net::UdpSocket::bind(ANY).unwrap().local_addr().unwrap().to_string();
    let started = Instant::now();
    let done = cluster.at(&free, &["append", "t"], b"x\n").with(3);
    assert!(done.error().contains(&free), "{}", done.err);
    assert!(started.elapsed().as_secs() < 30, "it took {:?}", started.elapsed());
    for bad in ["nowhere", "127.0.0.1", "127.0.0.1:x"] {
        let done = cluster.at(bad, &["topics"], b"").with(2);
        assert!(done.error().contains("HOST:PORT"), "{}", done.err);
    }
}

#[test]
fn bad_input_is_refused_by_a_node_as_by_a_folder() {
    let cluster = Cluster::new();
    let leader = cluster.leader(ANY);
    let append = |args: &[&str], input: &[u8]| cluster.at(&leader.address, &[&["append"], args].concat(), input);
    append(&["a/b"], b"x\n").with(2);
    append(&["t", "--batch", "2001"], b"x\n").with(2);
    append(&["t", "missing"], b"x\n").with(1);
    let done = append(&["t"], &[b"short\n".to_vec(), vec![b'x'; 3 << 20]].concat()).with(2);
    assert!(done.error().contains("line 2 of stdin is too long"), "{}", done.err);
    assert!(done.err.contains("1 entry in 1 batch acknowledged"), "{}", done.err);
    assert_eq!(cluster.at(&leader.address, &["tail", "t", "-e"], b"").ok().text(), "short\n");
    cluster.at(&leader.address, &["tail", "t", "-o", "3", "-e"], b"").with(2);
    // One that only just does not fit a block is an entry like others.
    let long = [vec![b'x'; (1 << 20) - 10], b"\n".to_vec()].concat();
    append(&["long"], &long).ok();
    assert!(cluster.at(&leader.address, &["tail", "long", "-e"], b"").ok().out == long);
}

/// A stream of appends with a leader and a follower under it.
struct Stream {
    appending: Running,
    feeder: std::thread::JoinHandle<()>,
}

impl Stream {
    /// Batches of 256 lines, without end.
    fn start(cluster: &Cluster, leader: &str) -> Stream {
        let args = ["append", "t", "--batch", "256", "--json", "--node", leader, "--tls", arg(&cluster.me)];
        let mut appending = Running::start(&mut command(&args));
        let mut stdin = appending.take_stdin();
        let feeder = std::thread::spawn(move || {
            let lines = (0u64..).map(|i| format!("entry {i}\n"));
            lines.take_while(|line| stdin.write_all(line.as_bytes()).is_ok()).for_each(drop);
        });
        Stream { appending, feeder }
    }

    /// Waits for so many more acknowledgements; returns the last offset.
    fn acknowledged(&mut self, batches: usize) -> u64 {
        let last = (0..batches).map(|_| self.appending.line()).last().unwrap();
        serde_json::from_str::<Value>(&last).unwrap()["last_offset"].as_u64().unwrap()
    }

    /// The leader has died: the command must end. Returns how many entries it said were acknowledged.
    fn end(self, before: u64) -> u64 {
        let started = Instant::now();
        let done = self.appending.end().with(3);
        assert!(started.elapsed().as_secs() < 30, "it took {:?}", started.elapsed());
        self.feeder.join().unwrap();
        let acked = done.json().last().map_or(before, |line| line["last_offset"].as_u64().unwrap()) + 1;
        assert_eq!(told(&done.err), acked, "{}", done.err);
        acked
    }
}

/// The number in `1 234 entries in 5 batches acknowledged`.
fn told(err: &str) -> u64 {
    let line = err.lines().find(|line| line.contains("acknowledged in")).unwrap_or_else(|| panic!("{err}"));
    line.split(" entries").next().unwrap().replace(' ', "").parse().unwrap_or_else(|_| panic!("{line}"))
}

#[test]
fn follower_and_leader_killed_under_load_lose_nothing_acknowledged_and_the_follower_resumes_by_itself() {
    let cluster = Cluster::new();
    let leader = cluster.leader(ANY);
    let follower = cluster.follower(ANY, &leader.address);
    let mut stream = Stream::start(&cluster, &leader.address);
    stream.acknowledged(20);
    follower.process.kill("KILL");
    let _ = follower.process.end();
    stream.acknowledged(20);
    let follower = cluster.follower(&follower.address, &leader.address);
    let before = stream.acknowledged(20);
    let address = leader.address.clone();
    leader.process.kill("KILL");
    let acked = stream.end(before);
    let _ = leader.process.end();

    let leader = cluster.leader(&address);
    cluster.wait_for_mirror(&leader.address, &follower.address);
    let there = cluster.at(&leader.address, &["tail", "t", "-e"], b"").ok();
    let entries: Vec<&str> = there.text().lines().collect();
    assert!(entries.len() as u64 >= acked, "{acked} were acknowledged, {} are there", entries.len());
    assert_eq!(entries.len() % 256, 0, "a batch is there in part");
    for (i, entry) in entries.iter().enumerate() {
        assert_eq!(*entry, format!("entry {i}"));
    }
    assert!(cluster.at(&follower.address, &["tail", "t", "-e"], b"").ok().out == there.out);
    leader.stop();
    follower.stop();
    cluster.diff().ok();
}

#[test]
fn a_node_that_dies_while_stdin_is_silent_ends_the_append_all_the_same() {
    let cluster = Cluster::new();
    let leader = cluster.leader(ANY);
    let args = ["append", "t", "--json", "--node", &leader.address, "--tls", arg(&cluster.me)];
    let mut appending = Running::start(&mut command(&args));
    appending.feed("x\ny\n");
    appending.line();
    appending.line();
    leader.process.kill("KILL");
    // Held open: the end must come from the connection.
    let stdin = appending.take_stdin();
    let done = appending.end().with(3);
    assert_eq!(told(&done.err), 2);
    drop(stdin);
}

#[test]
fn a_follower_of_another_log_stops_with_6_and_keeps_what_it_has() {
    let cluster = Cluster::new();
    let leader = cluster.leader(ANY);
    let follower = cluster.follower(ANY, &leader.address);
    cluster.at(&leader.address, &["append", "t"], b"x\n").ok();
    cluster.wait_for_mirror(&leader.address, &follower.address);
    follower.stop();
    leader.stop();
    let other = Node::start(&cluster.data("other"), &cluster.leader_tls, ANY, None);
    let data = cluster.data("b");
    let args = [
        "serve",
        "--data",
        arg(&data),
        "--tls",
        arg(&cluster.follower_tls),
        "--listen",
        ANY,
        "--admin",
        ANY,
        "--follow",
        &other.address,
    ];
    let done = walrus(&args).with(6);
    assert!(done.error().contains("log"), "{}", done.err);
    other.stop();
    cluster.diff().ok();
}

#[test]
fn a_node_without_certificates_makes_its_own_and_one_for_the_person_at_the_keyboard() {
    let dir = folder();
    let data = dir.path().join("log");
    let process = Running::start(&mut command(&["serve", "--data", arg(&data), "--listen", ANY, "--admin", ANY]));
    let line = process.wait_for_log("listening on ");
    let node = Node { address: line.split("listening on ").nth(1).unwrap().trim().to_owned(), process };
    let admin = data.join("tls/admin");
    walrus_fed(&["append", "t", "--node", &node.address, "--tls", arg(&admin)], b"x\n").ok();
    assert_eq!(walrus(&["tail", "t", "--node", &node.address, "--tls", arg(&admin), "-e"]).ok().text(), "x\n");
    node.stop();
    let done = walrus(&["serve", "--data", arg(&data), "--listen", "0.0.0.0:0", "--admin", ANY]).with(2);
    assert!(done.error().contains("loopback") && done.hint().contains("cert"), "{}", done.err);
}

#[test]
fn a_folder_of_the_other_role_is_not_served() {
    let cluster = Cluster::new();
    let leader = cluster.leader(ANY);
    let follower = cluster.follower(ANY, &leader.address);
    cluster.at(&leader.address, &["append", "t"], b"x\n").ok();
    cluster.wait_for_mirror(&leader.address, &follower.address);
    follower.stop();
    let serve = |data: &Path, follow: &[&str]| {
        let tls = &cluster.follower_tls;
        walrus(&[&["serve", "--data", arg(data), "--tls", arg(tls), "--listen", ANY, "--admin", ANY], follow].concat())
    };
    let done = serve(&cluster.data("b"), &[]).with(4);
    assert!(done.hint().contains("--follow"), "{}", done.err);
    let address = leader.address.clone();
    leader.stop();
    let done = serve(&cluster.data("a"), &["--follow", &address]).with(2);
    assert!(done.hint().contains("without --follow"), "{}", done.err);
}

#[test]
fn certificates_are_made_where_they_are_said_to_be_and_never_over_others() {
    let dir = folder();
    let pki = dir.path().join("pki");
    assert!(walrus(&["cert", "issue", arg(&pki), "me", "--role", "admin"]).with(1).hint().contains("cert init"));
    walrus(&["cert", "init", arg(&pki), "--cluster", "test"]).ok();
    let made = walrus(&["cert", "issue", arg(&pki), "me", "--role", "admin", "--topics", "a*", "--san", "host"]).ok();
    assert_eq!(made.text().trim(), arg(&pki.join("me")));
    let files = |folder: &Path| -> BTreeMap<_, _> {
        let read =
            |entry: std::fs::DirEntry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap());
        std::fs::read_dir(folder).unwrap().map(|entry| read(entry.unwrap())).collect()
    };
    let before = files(&pki.join("me"));
    assert_eq!(before.keys().collect::<Vec<_>>(), ["ca.pem", "cert.pem", "key.pem"]);
    walrus(&["cert", "issue", arg(&pki), "me", "--role", "node"]).with(1);
    walrus(&["cert", "init", arg(&pki)]).with(1);
    assert!(files(&pki.join("me")) == before);
    walrus(&["cert", "issue", arg(&pki), "../me", "--role", "node"]).with(2);
    walrus(&["cert", "check", arg(&pki)]).ok();
    assert!(walrus(&["cert", "check", arg(&pki), "--within", "3000d"]).with(1).error().contains("1 of 3"));
}
