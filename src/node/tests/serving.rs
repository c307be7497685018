//! What clients are promised: what was acknowledged comes back, what is refused says why, and nothing waits for ever.

use std::io::{Read, Write};

use super::*;
use crate::client::Acks;
use crate::net::endpoint::listen;
use crate::net::tls::Tls;
use crate::node::NodeError;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_appends_in_batches_comes_back_in_order() {
    let house = House::new();
    let leader = house.leader().await;
    let client = house.client(&leader).await;
    assert!(client.node().is_leader);
    let entries = lines(0..20_000);
    let mut expected = Vec::new();
    for n in [1, 256, 2000] {
        append(&client, "text", &entries, n).await;
        expected.extend(entries.iter().cloned());
    }
    assert_eq!(read_all(&client, "text").await, expected);
    let topics = client.topics().await.unwrap();
    assert_eq!((topics.len(), topics[0].name.as_str(), topics[0].next_offset), (1, "text", 60_000));
    leader.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledgements_come_in_order_with_dense_offsets_and_rising_lsns() {
    let house = House::new();
    let leader = house.leader().await;
    let client = house.client(&leader).await;
    let (mut appender, mut acks) = client.append("t").await.unwrap();
    for n in [3, 1, 2000] {
        appender.send(&lines(0..n)).await.unwrap();
    }
    appender.finish().await.unwrap();
    let (mut next, mut lsn) = (0, 0);
    for n in [3, 1, 2000] {
        let acked = within(acks.next()).await.unwrap().unwrap();
        assert_eq!((acked.first_offset, acked.last_offset), (next, next + n - 1));
        assert!(acked.lsn >= lsn);
        (next, lsn) = (next + n, acked.lsn);
    }
    assert_eq!(within(acks.next()).await.unwrap(), None);
    assert!(lsn < durable_lsn(&leader), "acknowledged, so durable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_entries_and_the_largest_ones_are_carried() {
    let house = House::new();
    let leader = house.leader().await;
    let client = house.client(&leader).await;
    let entries = vec![Bytes::new(), Bytes::from(vec![7; 1_000_000]), Bytes::new(), Bytes::from(vec![8; 999_999])];
    append(&client, "big", &entries, 3).await;
    assert_eq!(read_all(&client, "big").await, entries);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_begins_where_it_is_asked_to() {
    let house = House::new();
    let leader = house.leader().await;
    let client = house.client(&leader).await;
    append(&client, "t", &lines(0..10), 1).await;
    let time = {
        let mut reading = client.read("t", ReadStart::Offset(6), true, Some(1)).await.unwrap();
        within(reading.next()).await.unwrap().unwrap()[0].ts_ns
    };
    let offsets = async |start, max| {
        let mut reading = client.read("t", start, true, max).await.unwrap();
        let mut offsets = Vec::new();
        while let Some(entries) = within(reading.next()).await.unwrap() {
            offsets.extend(entries.iter().map(|entry| entry.offset));
        }
        offsets
    };
    assert_eq!(offsets(ReadStart::Start, None).await, (0..10).collect::<Vec<_>>());
    assert_eq!(offsets(ReadStart::Start, Some(3)).await, [0, 1, 2]);
    assert_eq!(offsets(ReadStart::Offset(8), None).await, [8, 9]);
    assert!(offsets(ReadStart::Offset(10), None).await.is_empty());
    assert_eq!(offsets(ReadStart::Last(3), None).await, [7, 8, 9]);
    assert_eq!(offsets(ReadStart::Last(99), None).await.len(), 10);
    assert!(offsets(ReadStart::End, None).await.is_empty());
    let from_time = offsets(ReadStart::Time(time), None).await;
    assert!(from_time.contains(&6) && from_time.ends_with(&[9]));
    let beyond = client.read("t", ReadStart::Offset(11), true, None).await.unwrap_err();
    assert!(matches!(beyond, ClientError::Invalid { .. }), "{beyond}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_read_goes_on_with_what_is_appended_later() {
    let house = House::new();
    let leader = house.leader().await;
    let (writer, reader) = (house.client(&leader).await, house.client(&leader).await);
    append(&writer, "t", &lines(0..5), 5).await;
    let mut reading = reader.read("t", ReadStart::Start, false, None).await.unwrap();
    let reading = tokio::spawn(async move {
        let mut got = Vec::new();
        while got.len() < 1000 {
            got.extend(reading.next().await.unwrap().unwrap().into_iter().map(|entry| entry.payload));
        }
        got
    });
    for chunk in lines(5..1000).chunks(7) {
        append(&writer, "t", chunk, 7).await;
    }
    assert_eq!(within(reading).await.unwrap(), lines(0..1000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_are_refused_by_name_and_change_nothing() {
    let house = House::new();
    let leader = house.leader().await;
    let client = house.client(&leader).await;
    append(&client, "t", &lines(0..3), 1).await;
    let before = durable_lsn(&leader);

    let unknown = client.read("nothing", ReadStart::Start, true, None).await.unwrap_err();
    assert!(matches!(unknown, ClientError::UnknownTopic { .. }));
    assert_eq!(unknown.exit_code(), 1);
    for topic in ["a/b", "", "bell\x07", &"x".repeat(256)] {
        let refused = match client.append(topic).await {
            Ok((mut appender, mut acks)) => {
                let _ = appender.send(&lines(0..1)).await;
                let _ = appender.finish().await;
                within(acks.next()).await.unwrap_err()
            }
            Err(error) => error,
        };
        assert_eq!(refused.exit_code(), 2, "{topic:?}: {refused}");
    }
    let (mut appender, _acks) = client.append("t").await.unwrap();
    for entries in [0, 2001] {
        assert_eq!(appender.send(&lines(0..entries)).await.unwrap_err().exit_code(), 2);
    }
    assert_eq!(durable_lsn(&leader), before);
}

async fn drain_acks(acks: &mut Acks) -> ClientError {
    loop {
        match within(acks.next()).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the session ended in order"),
            Err(error) => return error,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_the_engine_refuses_ends_the_session_and_nothing_behind_it_is_taken() {
    let house = House::new();
    house.leader().await.drain().await.unwrap(); // a segment and two spares are there
    let mut full = house.config("leader", "n1");
    full.options.min_free = Some(u64::MAX);
    let leader = start(full).await;
    let client = house.client(&leader).await;
    let (mut appender, mut acks) = client.append("t").await.unwrap();
    appender.send(&lines(0..2)).await.unwrap();
    // More than there is room for: staged in part, and given up.
    appender.send(&vec![Bytes::from(vec![1; 1_000_000]); 8]).await.unwrap();
    let _ = appender.send(&lines(2..4)).await;
    let _ = appender.finish().await;
    let error = drain_acks(&mut acks).await;
    let ClientError::AppendLost { acked_entries: 2, acked_batches: 1, unknown_batches: 0, source } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(source.exit_code(), 75, "{source}");
    assert_eq!(read_all(&client, "t").await, lines(0..2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_sessions_of_one_connection_append_at_the_same_time() {
    let house = House::new();
    let leader = house.leader().await;
    let client = house.client(&leader).await;
    let mut sessions = Vec::new();
    for _ in 0..100 {
        let (mut appender, mut acks) = within(client.append("t")).await.unwrap();
        appender.send(&lines(0..1)).await.unwrap();
        appender.flush().await.unwrap();
        within(acks.next()).await.unwrap().unwrap();
        sessions.push((appender, acks));
    }
    assert_eq!(read_all(&client, "t").await.len(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_share_a_session_each_hear_of_their_own_batch() {
    let house = House::new();
    let leader = house.leader().await;
    let client = house.client(&leader).await;
    let shared = client.append_shared("t").await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..50 {
        let shared = shared.clone();
        tasks.spawn(async move {
            let mut acked = Vec::new();
            for i in 0..20 {
                let batch = lines(task * 1000 + i * 3..task * 1000 + i * 3 + 1 + i % 3);
                acked.push((within(shared.append(batch.clone())).await.unwrap(), batch));
            }
            acked
        });
    }
    let acked: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    let there = read_all(&client, "t").await;
    for (at, batch) in &acked {
        assert_eq!(&there[at.first_offset as usize..=at.last_offset as usize], &batch[..]);
    }
    assert_eq!(there.len(), acked.iter().map(|(_, batch)| batch.len()).sum::<usize>());
    let error = within(shared.append(Vec::new())).await.unwrap_err();
    assert!(matches!(error, ClientError::Invalid { .. }), "{error}");
    within(shared.append(lines(0..1))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_session_that_ends_tells_each_whether_its_own_batch_may_be_there() {
    let house = House::new();
    let leader = house.leader().await;
    let wire = Wire::to(&leader).await;
    let client = Client::connect(&wire.address, &house.tls("boss")).await.unwrap();
    let shared = client.append_shared("t").await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let shared = shared.clone();
        tasks.spawn(async move {
            let mut acked = 0;
            loop {
                match within(shared.append(lines(0..1))).await {
                    Ok(_) => acked += 1,
                    Err(ClientError::AppendLost { unknown_batches: 1, .. }) => return (acked, 1),
                    Err(_) => return (acked, 0),
                }
            }
        });
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    wire.cut();
    let told = tasks.join_all().await;
    let (acked, unknown): (u64, u64) = told.into_iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let there = read_all(&house.client(&leader).await, "t").await.len() as u64;
    assert!(acked > 0 && acked <= there && there <= acked + unknown, "{acked} {there} {unknown}");
    // Nothing of this was sent, and it says why.
    assert_eq!(within(shared.append(lines(0..1))).await.unwrap_err().exit_code(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_role_is_held_to_what_it_may_do() {
    let house = House::new();
    house.issue("p1", Role::Producer, &["orders.*"]);
    house.issue("c1", Role::Consumer, &["orders.*"]);
    let leader = house.leader().await;
    let admin = house.client(&leader).await;
    append(&admin, "orders.eu", &lines(0..3), 1).await;
    append(&admin, "secret", &lines(0..3), 1).await;

    let producer = house.client_as("p1", &leader).await.unwrap();
    append(&producer, "orders.us", &lines(0..3), 1).await;
    let refused = producer.read("orders.eu", ReadStart::Start, true, None).await.unwrap_err();
    assert_eq!(refused.exit_code(), 5);
    let (_appender, mut acks) = producer.append("secret").await.unwrap();
    assert_eq!(within(acks.next()).await.unwrap_err().exit_code(), 5);
    assert_eq!(producer.status().await.unwrap_err().exit_code(), 5);

    let consumer = house.client_as("c1", &leader).await.unwrap();
    assert_eq!(read_all(&consumer, "orders.eu").await.len(), 3);
    let refused = consumer.read("secret", ReadStart::Start, true, None).await.unwrap_err();
    assert_eq!(refused.exit_code(), 5);
    let (_appender, mut acks) = consumer.append("orders.eu").await.unwrap();
    assert_eq!(within(acks.next()).await.unwrap_err().exit_code(), 5);
    let seen: Vec<_> = consumer.topics().await.unwrap().into_iter().map(|topic| topic.name).collect();
    assert_eq!(seen, ["orders.eu", "orders.us"]);
    assert_eq!(read_all(&admin, "secret").await.len(), 3, "nothing was added");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_another_ca_or_with_no_usable_folder_is_not_allowed() {
    let (house, other) = (House::new(), House::new());
    let leader = house.leader().await;
    let address = leader.address().to_string();
    let refused = within(Client::connect(&address, &other.tls("boss"))).await.unwrap_err();
    assert_eq!(refused.exit_code(), 5, "{refused}");
    // Trusts our node, but its own certificate is of the other CA.
    let mixed = house.root.path().join("mixed");
    std::fs::create_dir(&mixed).unwrap();
    for (from, file) in [(&other, "cert.pem"), (&other, "key.pem"), (&house, "ca.pem")] {
        std::fs::copy(from.tls("boss").join(file), mixed.join(file)).unwrap();
    }
    let refused = within(Client::connect(&address, &mixed)).await.unwrap_err();
    assert_eq!(refused.exit_code(), 5, "{refused}");
    let refused = Client::connect(&address, &house.root.path().join("nothing")).await.unwrap_err();
    assert_eq!(refused.exit_code(), 5, "{refused}");
    house.client(&leader).await.topics().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_nobody_listens_on_is_unreachable_after_one_try() {
    let house = House::new();
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    for address in [address.as_str(), "127.0.0.1:9"] {
        let error = within(Client::connect(address, &house.tls("boss"))).await.unwrap_err();
        assert_eq!(error.exit_code(), 3, "{error}");
    }
    let error = Client::connect("no port", &house.tls("boss")).await.unwrap_err();
    assert_eq!(error.exit_code(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_vanishes_in_the_middle_of_an_append_is_noticed_and_the_count_is_the_truth() {
    let house = House::new();
    let leader = house.leader().await;
    let wire = Wire::to(&leader).await;
    let client = Client::connect(&wire.address, &house.tls("boss")).await.unwrap();
    let (mut appender, mut acks) = client.append("t").await.unwrap();
    let sending = tokio::spawn(async move {
        for i in 0.. {
            if appender.send(&lines(i..i + 1)).await.is_err() || appender.flush().await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    for _ in 0..50 {
        within(acks.next()).await.unwrap().unwrap();
    }
    wire.cut();
    let error = drain_acks(&mut acks).await;
    within(sending).await.unwrap();
    assert_eq!(error.exit_code(), 3, "{error}");
    let ClientError::AppendLost { acked_entries, unknown_batches, .. } = error else { panic!("{error:?}") };
    let there = read_all(&house.client(&leader).await, "t").await.len() as u64;
    assert!(acked_entries >= 50 && acked_entries <= there && there <= acked_entries + unknown_batches);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_acknowledges_what_it_took_and_says_that_it_took_no_more() {
    let house = House::new();
    let leader = house.leader().await;
    let client = house.client(&leader).await;
    let (mut appender, mut acks) = client.append("t").await.unwrap();
    let sending = tokio::spawn(async move {
        for i in 0.. {
            if appender.send(&lines(i..i + 1)).await.is_err() || appender.flush().await.is_err() {
                return;
            }
        }
    });
    for _ in 0..50 {
        within(acks.next()).await.unwrap().unwrap();
    }
    let (drained, error) = tokio::join!(within(leader.drain()), drain_acks(&mut acks));
    drained.unwrap();
    within(sending).await.unwrap();
    let ClientError::AppendLost { acked_entries, unknown_batches: 0, ref source, .. } = error else {
        panic!("{error:?}")
    };
    assert!(matches!(**source, ClientError::Draining { .. }));
    let log = Engine::open(&house.data("leader"), small()).unwrap();
    assert_eq!(log.topic("t").unwrap().next_offset, acked_entries, "all that was taken, and nothing else");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_tls_makes_its_own_and_stays_on_loopback() {
    let house = House::new();
    let config = NodeConfig { tls: None, ..house.config("own", "n1") };
    let outside = NodeConfig { listen: Some("0.0.0.0:0".parse().unwrap()), ..config.clone() };
    let error = Node::start(outside).await.unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("hint:"));
    assert!(!house.data("own").exists(), "refused before anything was made");
    let follower = NodeConfig { follow: Some("127.0.0.1:1".into()), ..config.clone() };
    assert_eq!(Node::start(follower).await.unwrap_err().exit_code(), 5);

    for _ in 0..2 {
        let node = start(config.clone()).await;
        let admin = house.data("own").join("tls/admin");
        let client = Client::connect(&node.address().to_string(), &admin).await.unwrap();
        append(&client, "t", &lines(0..2), 1).await;
        node.drain().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_refuses_a_certificate_that_is_not_a_nodes_and_a_client_refuses_such_a_node() {
    let house = House::new();
    let error = Node::start(house.config("leader", "boss")).await.unwrap_err();
    assert!(matches!(error, NodeError::NotANode { .. }));
    assert_eq!(error.exit_code(), 5);

    // Somebody who has stolen an admin's certificate listens with it.
    let tls = Tls::load(&house.tls("boss")).unwrap();
    let thief = listen("127.0.0.1:0".parse().unwrap(), &tls).unwrap();
    let address = thief.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Some(incoming) = thief.accept().await {
            let _ = incoming.await;
        }
    });
    let error = within(Client::connect(&address, &house.tls("boss"))).await.unwrap_err();
    assert_eq!(error.exit_code(), 5, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_in_use_is_temporary() {
    let house = House::new();
    let _leader = house.leader().await;
    let error = within(Node::start(house.config("leader", "n1"))).await.unwrap_err();
    assert_eq!(error.exit_code(), 75, "{error}");
}

/// One GET.
fn get(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_pages_say_how_the_node_is() {
    let house = House::new();
    let leader = house.leader().await;
    let client = house.client(&leader).await;
    append(&client, "t", &lines(0..10), 2).await;
    let admin = leader.admin_address();
    let page = |path: &str| get(admin, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert!(page("/live").starts_with("HTTP/1.1 200 OK"));
    assert!(page("/ready").starts_with("HTTP/1.1 200 OK"));
    let metrics = page("/metrics");
    for line in
        ["walrus_appended_entries_total 10", "walrus_node_role{role=\"leader\"} 1", "# TYPE walrus_durable_lsn gauge"]
    {
        assert!(metrics.contains(line), "{metrics}");
    }
    let status: serde_json::Value = serde_json::from_str(page("/status").split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(status["role"], "leader");
    let over_quic = client.status().await.unwrap();
    for field in [
        "role",
        "epoch",
        "run_id",
        "log_id",
        "incarnation",
        "durable_lsn",
        "high_lsn",
        "io",
        "flush",
        "durability",
        "followers",
        "slots",
    ] {
        assert!(!status[field].is_null(), "{field}");
        assert_eq!(status[field], over_quic[field], "{field}");
    }
    assert!(page("/nothing").starts_with("HTTP/1.1 404"));
    assert!(get(admin, "POST /status HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
    assert!(get(admin, "\r\n\r\n").starts_with("HTTP/1.1 405"));
}
