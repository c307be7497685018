//! What the mirror promises: a follower has a prefix of its leader's log, byte for byte, goes on by itself after any restart, and stops
//! rather than mix two histories.

use super::*;
use crate::node::NodeError;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_catches_up_from_disk_goes_on_live_and_serves_the_same_entries() {
    let house = House::new();
    let leader = house.leader().await;
    let client = house.client(&leader).await;
    append(&client, "before", &lines(0..5000), 256).await;
    let follower = house.follower(&leader).await;
    append(&client, "after", &lines(0..5000), 17).await;
    level(&leader, &follower).await;

    let reader = house.client(&follower).await;
    assert!(!reader.node().is_leader);
    assert_eq!(read_all(&reader, "before").await, lines(0..5000));
    assert_eq!(read_all(&reader, "after").await, lines(0..5000));
    until("the leader knows", || {
        let row = &leader.status()["followers"][0];
        row["durable_lsn"] == leader.status()["durable_lsn"] && row["state"] == "streaming"
    })
    .await;
    let row = leader.status()["followers"][0].clone();
    assert_eq!(
        (row["name"].as_str(), row["lag_blocks"].as_u64(), row["lag_bytes"].as_u64()),
        (Some("n2"), Some(0), Some(0))
    );
    assert_eq!(row["lag_seconds"].as_f64(), Some(0.0));
    let status = follower.status();
    assert_eq!((status["role"].as_str(), &status["log_id"]), (Some("follower"), &leader.status()["log_id"]));

    leader.drain().await.unwrap();
    follower.drain().await.unwrap();
    drop((client, reader));
    assert_equal_logs(&house.data("leader"), &house.data("follower"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_of_two_thousand_entries_in_fragments_and_staged_batches_arrive_whole() {
    let house = House::new();
    let leader = house.leader().await;
    let follower = house.follower(&leader).await;
    let client = house.client(&leader).await;
    append(&client, "many", &lines(0..6000), 2000).await;
    let big: Vec<_> = (0..12u8).map(|i| Bytes::from(vec![i; 1_000_000])).collect();
    append(&client, "big", &big, 6).await;
    // Each is cut into fragments, and two of them together are more than a commit group: staged.
    let huge: Vec<_> = (0..4u8).map(|i| Bytes::from(vec![i; 3_900_000])).collect();
    append(&client, "huge", &huge, 2).await;
    level(&leader, &follower).await;
    let reader = house.client(&follower).await;
    assert_eq!(read_all(&reader, "many").await, lines(0..6000));
    assert_eq!(read_all(&reader, "big").await, big);
    assert!(read_all(&reader, "huge").await == huge);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_resumes_after_its_own_restart_and_after_its_leaders() {
    let house = House::new();
    let leader = house.leader().await;
    let address = leader.address();
    let client = house.client(&leader).await;
    let follower = house.follower(&leader).await;
    append(&client, "t", &lines(0..100), 10).await;
    level(&leader, &follower).await;

    follower.drain().await.unwrap();
    append(&client, "t", &lines(100..200), 10).await;
    let follower = house.follower_of(&address.to_string()).await;
    level(&leader, &follower).await;

    drop(client);
    leader.drain().await.unwrap();
    let leader = start(NodeConfig { listen: Some(address), ..house.config("leader", "n1") }).await;
    assert_eq!(leader.status()["epoch"].as_u64(), Some(2));
    let client = house.client(&leader).await;
    append(&client, "t", &lines(200..300), 10).await;
    level(&leader, &follower).await;
    assert_eq!(read_all(&house.client(&follower).await, "t").await, lines(0..300));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_was_cut_off_under_load_comes_back_without_gap_or_repetition() {
    let house = House::new();
    let leader = house.leader().await;
    let wire = Wire::to(&leader).await;
    let follower = house.follower_of(&wire.address).await;
    let client = house.client(&leader).await;
    for round in 0..3u64 {
        let entries = lines(round * 4000..(round + 1) * 4000);
        let appending = append(&client, "t", &entries, 3);
        let cutting = async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            wire.cut();
        };
        tokio::join!(appending, cutting);
        until("both sides gave the connection up", || {
            follower.status()["leader"]["connected"] == false && leader.status()["followers"][0]["state"] != "streaming"
        })
        .await;
        wire.mend();
        level(&leader, &follower).await;
    }
    assert_eq!(read_all(&house.client(&follower).await, "t").await, lines(0..12_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stops_ships_everything_durable_first() {
    let house = House::new();
    let leader = house.leader().await;
    let follower = house.follower(&leader).await;
    let client = house.client(&leader).await;
    append(&client, "warm", &lines(0..10), 1).await;
    level(&leader, &follower).await;
    let (mut appender, mut acks) = client.append("t").await.unwrap();
    let sending = tokio::spawn(async move {
        for i in 0.. {
            if appender.send(&lines(i..i + 1)).await.is_err() || appender.flush().await.is_err() {
                return;
            }
        }
    });
    for _ in 0..20 {
        within(acks.next()).await.unwrap().unwrap();
    }
    let hearing = async { while let Ok(Some(_)) = within(acks.next()).await {} };
    let (drained, ()) = tokio::join!(within(leader.drain()), hearing);
    drained.unwrap();
    within(sending).await.unwrap();
    let end = Engine::open(&house.data("leader"), small()).unwrap().topic("t").unwrap().next_offset;
    // The follower has it although its leader is gone.
    let there = house.client(&follower).await.topics().await.unwrap();
    assert_eq!(there.iter().find(|topic| topic.name == "t").unwrap().next_offset, end);
    assert_eq!(acks.acked_entries(), end);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stops_waits_for_a_follower_that_is_slow_to_hear() {
    let house = House::new();
    let leader = house.leader().await;
    let wire = Wire::to(&leader).await;
    let follower = house.follower_of(&wire.address).await;
    let client = house.client(&leader).await;
    append(&client, "warm", &lines(0..10), 1).await;
    level(&leader, &follower).await;
    // The outage is the fault, not the proof: longer than a leader that does not wait takes to hang up, shorter than a
    // connection takes to be given up.
    wire.cut();
    append(&client, "t", &lines(0..100), 10).await;
    let mending = async {
        tokio::time::sleep(Duration::from_millis(2500)).await;
        wire.mend();
    };
    let (drained, ()) = tokio::join!(within(leader.drain()), mending);
    drained.unwrap();
    assert_eq!(read_all(&house.client(&follower).await, "t").await, lines(0..100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_sent_to_a_follower_is_refused_and_names_the_leader() {
    let house = House::new();
    let leader = house.leader().await;
    let follower = house.follower(&leader).await;
    append(&house.client(&leader).await, "t", &lines(0..1), 1).await;
    level(&leader, &follower).await;
    let client = house.client(&follower).await;
    let (mut appender, mut acks) = client.append("t").await.unwrap();
    let _ = appender.send(&lines(0..3)).await;
    let _ = appender.finish().await;
    let error = within(acks.next()).await.unwrap_err();
    assert_eq!(error.exit_code(), 4, "{error:?}");
    assert!(error.to_string().contains(&leader.address().to_string()), "{error}");
    assert_eq!(durable_lsn(&leader), durable_lsn(&follower));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_follower_serves_before_it_has_reached_its_leader_and_says_so() {
    let house = House::new();
    let follower = house.follower_of("127.0.0.1:9").await;
    let client = house.client(&follower).await;
    assert_eq!(client.read("t", ReadStart::Start, true, None).await.unwrap_err().exit_code(), 75);
    assert_eq!(client.status().await.unwrap()["role"], "follower");
    assert!(!house.data("follower").join("superblock").exists(), "no log before the leader has said which");
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// Every file of a log that a stopped follower must not have touched.
fn log_files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(folder.join("wal")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// A leader restored from a copy: its old future is in the follower, and it has a new one. `lost` entries are only in the
/// follower, `new` only in the leader.
async fn restored_leader(lost: u64, new: u64) {
    let house = House::new();
    let leader = house.leader().await;
    append(&house.client(&leader).await, "t", &lines(0..50), 5).await;
    let follower = house.follower(&leader).await;
    level(&leader, &follower).await;
    leader.drain().await.unwrap();
    follower.drain().await.unwrap();
    copy_folder(&house.data("leader"), &house.data("copy"));

    let leader = house.leader().await;
    let common = durable_lsn(&leader) - 1;
    append(&house.client(&leader).await, "t", &lines(50..50 + lost), 1).await;
    let follower = house.follower(&leader).await;
    level(&leader, &follower).await;
    leader.drain().await.unwrap();
    follower.drain().await.unwrap();

    let copy = start(house.config("copy", "n1")).await;
    append(&house.client(&copy).await, "t", &lines(1000..1000 + new), 1).await;
    let before = log_files(&house.data("follower"));
    let mut follower = house.follower(&copy).await;
    let (ours, theirs) = (durable_lsn(&copy), durable_lsn(&follower));
    let error = within(follower.stopped()).await;
    assert!(matches!(error, NodeError::Diverged(_)), "{error}");
    assert_eq!(error.exit_code(), 6);
    let message = error.to_string();
    for part in
        [format!("from lsn {common}"), format!("before lsn {ours}"), format!("before lsn {theirs}"), "hint:".into()]
    {
        assert!(message.contains(&part), "{part:?} is not in {message}");
    }
    until("the leader knows", || copy.status()["followers"][0]["state"] == "diverged").await;
    assert_eq!(copy.status()["followers"][0]["durable_lsn"].as_u64(), Some(common));
    // It still serves what it has, and keeps every byte.
    assert_eq!(read_all(&house.client(&follower).await, "t").await, lines(0..50 + lost));
    follower.drain().await.unwrap();
    assert_eq!(log_files(&house.data("follower")), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_ahead_of_a_restored_leader_stops_and_both_name_the_common_point_and_the_tails() {
    restored_leader(40, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_behind_a_restored_leader_with_another_future_stops_too() {
    restored_leader(3, 40).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_of_another_log_stops_with_six_and_names_both() {
    let house = House::new();
    let leader = house.leader().await;
    let follower = house.follower(&leader).await;
    append(&house.client(&leader).await, "t", &lines(0..5), 1).await;
    level(&leader, &follower).await;
    follower.drain().await.unwrap();
    let other = start(house.config("other", "n1")).await;
    let mut follower = house.follower(&other).await;
    let error = within(follower.stopped()).await;
    assert_eq!(error.exit_code(), 6, "{error}");
    for node in [&leader, &other] {
        assert!(error.to_string().contains(node.status()["log_id"].as_str().unwrap()), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_keeps_its_role() {
    let house = House::new();
    let leader = house.leader().await;
    let follower = house.follower(&leader).await;
    append(&house.client(&leader).await, "t", &lines(0..5), 1).await;
    level(&leader, &follower).await;
    let address = leader.address().to_string();
    leader.drain().await.unwrap();
    follower.drain().await.unwrap();
    let as_leader = Node::start(house.config("follower", "n1")).await.unwrap_err();
    assert_eq!(as_leader.exit_code(), 4, "{as_leader}");
    assert!(as_leader.to_string().contains("hint:"));
    let config = NodeConfig { follow: Some(address), ..house.config("leader", "n1") };
    let as_follower = Node::start(config).await.unwrap_err();
    assert_eq!(as_follower.exit_code(), 2, "{as_follower}");
    assert!(as_follower.to_string().contains("hint:"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_certificate_the_leader_does_not_accept_stops_with_five() {
    let (house, other) = (House::new(), House::new());
    let leader = house.leader().await;
    let tls = Some(other.tls("n2"));
    let config = NodeConfig { follow: Some(leader.address().to_string()), tls, ..house.config("follower", "n2") };
    let mut follower = start(config).await;
    let error = within(follower.stopped()).await;
    assert_eq!(error.exit_code(), 5, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_can_be_followed() {
    let house = House::new();
    let leader = house.leader().await;
    let follower = house.follower(&leader).await;
    append(&house.client(&leader).await, "t", &lines(0..50), 5).await;
    level(&leader, &follower).await;
    let address = follower.address().to_string();
    let third = start(NodeConfig { follow: Some(address), ..house.config("third", "n1") }).await;
    append(&house.client(&leader).await, "t", &lines(50..100), 5).await;
    level(&leader, &third).await;
    assert_eq!(read_all(&house.client(&third).await, "t").await, lines(0..100));
}

/// Entries over several segments of a leader's folder, and the oldest of them given away.
fn trimmed_leader(house: &House) {
    let log = Engine::open(&house.data("leader"), small()).unwrap();
    let mut last = None;
    for entry in lines(0..40) {
        let entry = [&entry[..], &[b'.'; 100_000][..]].concat();
        last = Some(log.append("t", entry).unwrap().wait().unwrap().lsn);
    }
    assert!(log.trim(last.unwrap()).unwrap() > crate::lsn::Lsn::FIRST);
    log.close().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_needs_what_its_leader_has_given_away_is_told_so_and_stops() {
    let house = House::new();
    trimmed_leader(&house);
    let leader = house.leader().await;
    let mut follower = house.follower(&leader).await;
    let error = within(follower.stopped()).await;
    assert!(matches!(error, NodeError::Protocol(_)), "{error}");
    assert!(error.to_string().contains("lsn 1 is no longer kept"), "{error}");
    let client = house.client(&leader).await;
    append(&client, "u", &lines(0..10), 1).await;
    assert_eq!(read_all(&client, "u").await, lines(0..10));
}
