//! The command on a folder of this machine: what goes in comes out, and bad input gets a clear error and changes nothing.

use std::path::Path;

use serde_json::{Value, json};
use walrus_node::{Engine, LogId, Role};

use crate::cli::{Running, arg, command, run, walrus, walrus_fed};
use crate::support::{folder, io_mode, small};

fn append(data: &Path, topic: &str, lines: &str) {
    walrus_fed(&["append", topic, "--data", arg(data)], lines.as_bytes()).ok();
}

#[test]
fn lines_come_back_as_they_went_in_with_their_carriage_returns_and_empty_lines() {
    let dir = folder();
    let data = dir.path().join("log");
    let done = walrus_fed(&["append", "odd", "--data", arg(&data), "--json"], b"one\n\nthree\r\nlast").ok();
    let acked = done.json();
    let offsets: Vec<_> =
        acked.iter().map(|line| (line["first_offset"].as_u64(), line["last_offset"].as_u64())).collect();
    assert_eq!(offsets, (0..4).map(|offset| (Some(offset), Some(offset))).collect::<Vec<_>>());
    assert!(acked.iter().all(|line| line["topic"] == "odd" && line["lsn"].is_u64()), "{acked:?}");
    assert_eq!(walrus(&["tail", "odd", "--data", arg(&data)]).ok().out, b"one\n\nthree\r\nlast\n");
}

#[test]
fn each_n_lines_are_one_batch_and_the_last_may_be_short() {
    let dir = folder();
    let data = dir.path().join("log");
    let file = dir.path().join("lines");
    let lines: String = (0..2500).map(|i| format!("line {i}\n")).collect();
    std::fs::write(&file, &lines).unwrap();
    let done = walrus(&["append", "t", arg(&file), "--data", arg(&data), "--batch", "1000", "--json"]).ok();
    let ends: Vec<_> = done.json().iter().map(|line| line["last_offset"].as_u64().unwrap()).collect();
    assert_eq!(ends, [999, 1999, 2499]);
    // The LSN is that of the batch's last block: there the countdown of its group ends.
    let blocks = walrus(&["dump", "--data", arg(&data), "t", "--json"]).ok().json();
    let group_ends: Vec<_> = blocks.iter().filter(|block| block["remaining"] == 0).map(|block| &block["lsn"]).collect();
    assert_eq!(
        done.json().iter().map(|line| line["lsn"].clone()).collect::<Vec<_>>(),
        group_ends.into_iter().cloned().collect::<Vec<_>>()
    );
    assert_eq!(walrus(&["tail", "t", "--data", arg(&data), "-e"]).ok().text(), lines);
}

#[test]
fn a_batch_that_is_durable_is_acknowledged_while_stdin_is_still_open() {
    let dir = folder();
    let data = dir.path().join("log");
    let mut running = Running::start(&mut command(&["append", "t", "--data", arg(&data), "--json"]));
    for offset in 0..3 {
        running.feed("a line\n");
        let line: Value = serde_json::from_str(&running.line()).unwrap();
        assert_eq!(line["last_offset"], offset);
    }
    running.end().ok();
}

#[test]
fn a_topic_that_cannot_be_one_is_refused_before_anything_is_made() {
    let dir = folder();
    let data = dir.path().join("log");
    for bad in ["a/b", "", "a\nb", &"x".repeat(256)] {
        let done = walrus_fed(&["append", bad, "--data", arg(&data)], b"x\n").with(2);
        assert!(done.err.contains("a topic's name has 1 to 255 bytes"), "{}", done.err);
        walrus(&["tail", bad, "--data", arg(&data)]).with(2);
    }
    assert!(!data.exists());
    append(&data, &"x".repeat(255), "x\n");
}

#[test]
fn a_batch_of_2001_entries_or_none_is_refused_before_anything_is_made() {
    let dir = folder();
    let data = dir.path().join("log");
    for bad in ["2001", "0", "-1", "many"] {
        let done = walrus_fed(&["append", "t", "--data", arg(&data), "--batch", bad], b"x\n").with(2);
        assert!(done.error().contains("--batch"), "{}", done.err);
    }
    assert!(!data.exists());
    let lines = "x\n".repeat(2000);
    walrus_fed(&["append", "t", "--data", arg(&data), "--batch", "2000"], lines.as_bytes()).ok();
}

#[test]
fn a_file_that_is_not_there_fails_before_a_log_is_made() {
    let dir = folder();
    let data = dir.path().join("log");
    let missing = dir.path().join("missing");
    let done = walrus(&["append", "t", arg(&missing), "--data", arg(&data)]).with(1);
    assert!(done.error().contains(arg(&missing)) && !data.exists());
    assert!(walrus(&["append", "t", arg(dir.path()), "--data", arg(&data)]).with(1).error().contains("directory"));
}

#[test]
fn a_line_that_is_too_long_is_named_and_what_came_before_it_is_kept_and_told() {
    let dir = folder();
    let data = dir.path().join("log");
    let lines = [b"short\nshort\n".to_vec(), vec![b'x'; 3 << 20]].concat();
    let done = walrus_fed(&["append", "t", "--data", arg(&data)], &lines).with(2);
    assert!(done.error().contains("line 3 of stdin is too long"), "{}", done.err);
    assert!(done.err.contains("2 entries in 2 batches acknowledged"), "{}", done.err);
    assert_eq!(walrus(&["tail", "t", "--data", arg(&data)]).ok().out, b"short\nshort\n");
    // One that only just does not fit a block is an entry like others.
    let long = [vec![b'x'; (1 << 20) - 10], b"\n".to_vec()].concat();
    walrus_fed(&["append", "long", "--data", arg(&data)], &long).ok();
    assert!(walrus(&["tail", "long", "--data", arg(&data)]).ok().out == long);
}

#[test]
fn a_topic_that_is_not_there_and_a_folder_without_a_log_are_told_apart() {
    let dir = folder();
    let data = dir.path().join("log");
    let done = walrus(&["tail", "t", "--data", arg(&data)]).with(1);
    assert!(done.error().contains("there is no log in") && done.hint().contains("append"), "{}", done.err);
    for reads in ["topics", "status", "verify", "dump"] {
        walrus(&[reads, "--data", arg(&data)]).with(1);
    }
    std::fs::create_dir(&data).unwrap();
    let done = walrus(&["tail", "t", "--data", arg(&data)]).with(1);
    assert!(done.error().contains("no log in this folder"), "{}", done.err);
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0, "a reader made something");

    append(&data, "t", "x\n");
    let done = walrus(&["tail", "nobody", "--data", arg(&data)]).with(1);
    assert!(done.error().contains("there is no topic `nobody`"));
    assert_eq!(done.hint(), format!("walrus-node topics --data {}", arg(&data)));
    walrus(&["dump", "nobody", "--data", arg(&data)]).with(1);
}

#[test]
fn a_folder_in_use_by_another_process_is_temporary_for_everybody_else() {
    let dir = folder();
    let data = dir.path().join("log");
    let mut holder = Running::start(&mut command(&["append", "t", "--data", arg(&data), "--json"]));
    holder.feed("x\n");
    holder.line();
    let data = arg(&data);
    let tries: [&[&str]; 6] = [
        &["append", "t", "--data", data],
        &["tail", "t", "--data", data],
        &["verify", "--data", data],
        &["status", "--data", data],
        &["diff", "--data", data, "--data", data],
        &["serve", "--data", data, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"],
    ];
    std::thread::scope(|scope| {
        for args in tries {
            scope.spawn(move || {
                let done = walrus(args).with(75);
                assert!(done.error().contains("in use by another process"), "{}", done.err);
            });
        }
    });
    holder.end().ok();
    walrus(&["tail", "t", "--data", data]).ok();
}

#[test]
fn a_followers_folder_takes_no_appends_and_can_be_read() {
    let dir = folder();
    Engine::open_mirror(dir.path(), Some(LogId::new(7)), small()).unwrap().close().unwrap();
    let done = walrus_fed(&["append", "t", "--data", arg(dir.path())], b"x\n").with(4);
    assert!(done.error().contains("follower") && done.hint().contains("leader"), "{}", done.err);
    let status = walrus(&["status", "--data", arg(dir.path()), "--json"]).ok().json();
    assert_eq!(status[0]["role"], Role::Follower.name());
}

#[test]
fn a_tail_begins_where_it_is_told_and_ends_after_so_many() {
    let dir = folder();
    let data = dir.path().join("log");
    append(&data, "t", &(0..100).map(|i| format!("{i}\n")).collect::<String>());
    let tail = |args: &[&str]| walrus(&[&["tail", "t", "--data", arg(&data)], args].concat()).ok().text().to_owned();
    assert_eq!(tail(&["-o", "98"]), "98\n99\n");
    assert_eq!(tail(&["-o", "-2"]), "98\n99\n");
    assert_eq!(tail(&["-o", "-1000", "-n", "1"]), "0\n");
    assert_eq!(tail(&["-o", "start", "-n", "2"]), "0\n1\n");
    assert_eq!((tail(&["-o", "end"]), tail(&["-o", "100"])), (String::new(), String::new()));
    assert_eq!(tail(&["-o", "@2001-01-01T00:00:00Z", "-n", "1"]), "0\n");
    assert_eq!(tail(&["-o", "@4000000000"]), "");
    for bad in ["x", "-", "@noon", ""] {
        walrus(&["tail", "t", "--data", arg(&data), "-o", bad]).with(2);
    }
    walrus(&["tail", "t", "--data", arg(&data), "-n", "0"]).with(2);
    let done = walrus(&["tail", "t", "--data", arg(&data), "-o", "101"]).with(2);
    assert!(done.error().contains("ends before offset 100"), "{}", done.err);
}

#[test]
fn a_tail_as_json_carries_what_is_not_text_as_base64() {
    let dir = folder();
    let data = dir.path().join("log");
    walrus_fed(&["append", "t", "--data", arg(&data)], b"\"text\"\n\xff\0\n").ok();
    let lines = walrus(&["tail", "t", "--data", arg(&data), "--json"]).ok().json();
    let ts_ns = &lines[0]["ts_ns"];
    assert!(ts_ns.as_u64().unwrap() > 1_700_000_000_000_000_000);
    assert_eq!(lines[0], json!({"topic": "t", "offset": 0, "ts_ns": ts_ns, "payload": "\"text\""}));
    assert_eq!((&lines[1]["payload_base64"], lines[1].get("payload")), (&json!("/wA="), None));
    assert_eq!(walrus(&["tail", "t", "--data", arg(&data)]).ok().out, b"\"text\"\n\xff\0\n");
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_tail_without_a_word() {
    let dir = folder();
    let data = dir.path().join("log");
    append(&data, "t", &"a line of some length, so that the pipe is soon full\n".repeat(20_000));
    let mut tail = Running::start(&mut command(&["tail", "t", "--data", arg(&data)]));
    tail.line();
    tail.stop_listening();
    let done = tail.end().ok();
    assert_eq!(done.err, "");
}

#[test]
fn an_append_whose_acknowledgements_nobody_reads_ends_and_says_so() {
    let dir = folder();
    let data = dir.path().join("log");
    let mut appending = Running::start(&mut command(&["append", "t", "--data", arg(&data), "--json"]));
    appending.feed("x\n");
    appending.line();
    appending.stop_listening();
    let mut stdin = appending.take_stdin();
    std::thread::spawn(move || while std::io::Write::write_all(&mut stdin, b"x\n").is_ok() {});
    let done = appending.end().with(1);
    assert!(done.error().contains("nobody reads the acknowledgements"), "{}", done.err);
}

#[test]
fn two_folders_with_one_history_are_equal_and_a_longer_one_differs_where_the_other_ends() {
    let dir = folder();
    let [a, b, other] = ["a", "b", "other"].map(|name| dir.path().join(name));
    append(&a, "t", "x\ny\n");
    copy_folder(&a, &b);
    let diff = |a: &Path, b: &Path| walrus(&["diff", "--data", arg(a), "--data", arg(b), "--json"]);
    assert_eq!(diff(&a, &b).ok().json(), [json!({"equal": true, "first_differing_lsn": null})]);
    let end = walrus(&["verify", "--data", arg(&a), "--json"]).ok().json()[0]["durable_lsn"].clone();

    append(&a, "t", "z\n");
    assert_eq!(diff(&a, &b).with(1).json(), [json!({"equal": false, "first_differing_lsn": end})]);
    assert_eq!(diff(&b, &a).with(1).json(), [json!({"equal": false, "first_differing_lsn": end})]);
    append(&b, "t", "z\n");
    // The same entry, but in another reign: not the same history.
    assert_eq!(diff(&a, &b).with(1).json(), [json!({"equal": false, "first_differing_lsn": end})]);
    append(&other, "t", "x\ny\n");
    assert_eq!(diff(&a, &other).with(1).json(), [json!({"equal": false, "first_differing_lsn": 1})]);

    walrus(&["diff", "--data", arg(&a)]).with(2);
    let missing = dir.path().join("missing");
    assert!(diff(&a, &missing).with(1).error().contains(arg(&missing)));
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if path.is_dir() {
            copy_folder(&path, &to.join(name));
        } else {
            std::fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

#[test]
fn verify_topics_status_and_dump_of_a_sound_log_have_the_fields_that_scripts_rely_on() {
    let dir = folder();
    let data = dir.path().join("log");
    append(&data, "b", "x\ny\n");
    append(&data, "a", "z\n");
    let verified = &walrus(&["verify", "--data", arg(&data), "--json"]).ok().json()[0];
    assert_eq!((&verified["ok"], &verified["entries"], &verified["damage"]), (&json!(true), &json!(3), &json!([])));
    assert!(verified["chain"].as_str().is_some_and(|chain| chain.len() == 16), "{verified}");
    for number in ["segments", "blocks", "durable_lsn", "torn_tail_bytes"] {
        assert!(verified[number].is_u64(), "{number}: {verified}");
    }

    let topics = walrus(&["topics", "--data", arg(&data), "--json"]).ok().json();
    let ends: Vec<_> = topics.iter().map(|topic| (topic["topic"].as_str().unwrap(), &topic["next_offset"])).collect();
    assert_eq!(ends, [("b", &json!(2)), ("a", &json!(1))]);

    let status = &walrus(&["status", "--data", arg(&data), "--json"]).ok().json()[0];
    assert_eq!((&status["role"], &status["epoch"], &status["incarnation"]), (&json!("leader"), &json!(2), &json!(2)));
    assert_eq!(status["durable_lsn"], verified["durable_lsn"]);
    for field in ["run_id", "log_id", "high_lsn", "io", "flush", "durability", "followers", "slots"] {
        assert!(status.get(field).is_some(), "{field}: {status}");
    }

    let blocks = walrus(&["dump", "--data", arg(&data), "--json"]).ok().json();
    let lsns: Vec<_> = blocks.iter().map(|block| block["lsn"].as_u64().unwrap()).collect();
    assert_eq!(lsns, (1..verified["durable_lsn"].as_u64().unwrap()).collect::<Vec<_>>());
    let of_a = walrus(&["dump", "a", "--data", arg(&data), "--json"]).ok().json();
    assert_eq!(of_a[0]["entries"], json!([{"topic": "a", "offset": 0, "payload": "z"}]));
}

#[test]
fn a_folder_and_a_node_may_be_named_by_the_environment_and_what_is_typed_wins() {
    let dir = folder();
    let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
    append(&a, "in-a", "x\n");
    append(&b, "in-b", "x\n");
    let topics = |args: &[&str], env: &[(&str, &Path)]| {
        let mut command = command(&[&["topics", "--json"], args].concat());
        run(command.envs(env.iter().copied()), b"")
    };
    assert_eq!(topics(&[], &[("WALRUS_DATA", &a)]).ok().json()[0]["topic"], "in-a");
    assert_eq!(topics(&["--data", arg(&b)], &[("WALRUS_DATA", &a)]).ok().json()[0]["topic"], "in-b");
    assert_eq!(topics(&["--data", arg(&b)], &[("WALRUS_NODE", Path::new("h:1"))]).ok().json()[0]["topic"], "in-b");
    topics(&[], &[("WALRUS_DATA", &a), ("WALRUS_NODE", Path::new("h:1"))]).with(2);
    assert!(topics(&[], &[]).with(2).hint().contains("--data DIR"));
    topics(&["--data", arg(&a), "--node", "h:1"], &[]).with(2);
}

#[test]
fn the_way_to_the_disk_can_be_chosen_and_a_wrong_word_is_refused() {
    let dir = folder();
    let data = dir.path().join("log");
    walrus_fed(&["append", "t", "--data", arg(&data), "--io", "syscall"], b"x\n").ok();
    walrus_fed(&["append", "t", "--data", arg(&data), "--io", &io_mode().to_string()], b"x\n").ok();
    let done = walrus_fed(&["append", "t", "--data", arg(&data), "--io", "fast"], b"x\n").with(2);
    assert!(done.error().contains("auto, uring, syscall"), "{}", done.err);
}
