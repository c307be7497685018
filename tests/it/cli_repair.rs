//! `repair --accept-loss`, as somebody types it whose disk has lost a block.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::cli::{Running, arg, command, walrus, walrus_fed};
use crate::cli_node::{ANY, Cluster};
use crate::support::folder;

fn first_segment(data: &Path) -> std::path::PathBuf {
    data.join("wal/0000000000000001.seg")
}

/// Turns a bit of the first place over where `text` stands.
fn damage(data: &Path, text: &str) {
    let segment = first_segment(data);
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
    bytes[at] ^= 1;
    fs::write(&segment, bytes).unwrap();
}

fn text(lines: std::ops::Range<usize>) -> String {
    lines.map(|i| format!("line {i} {}\n", "x".repeat(i % 50))).collect()
}

#[test]
fn a_damaged_folder_is_repaired_says_what_is_lost_and_goes_on() {
    let dir = folder();
    let data = dir.path().join("log");
    let lines: String = (0..3000).map(|i| format!("line {i}\n")).collect();
    walrus_fed(&["append", "t", "--data", arg(&data), "--batch", "10"], lines.as_bytes()).ok();
    let untouched = walrus(&["repair", "--data", arg(&data), "--accept-loss"]).ok();
    assert!(untouched.text().contains("is not damaged; nothing was changed"), "{}", untouched.out.len());

    damage(&data, "line 1500");
    let verify = walrus(&["verify", "--data", arg(&data)]).with(65);
    assert!(verify.err.contains(&format!("repair --data {} --accept-loss", arg(&data))), "{}", verify.err);
    let refused = walrus_fed(&["append", "t", "--data", arg(&data)], b"more\n").with(65);
    assert!(refused.error().contains("damaged"), "{}", refused.err);

    let repaired = walrus(&["repair", "--data", arg(&data), "--accept-loss"]).ok();
    let said = repaired.text();
    for part in ["damaged: segment 1", "cut: the log ends before lsn", "lost: `t` from offset", "kept: ", "quarantine/"]
    {
        assert!(said.contains(part), "{part} is missing: {said}");
    }
    walrus(&["verify", "--data", arg(&data)]).ok();
    let left = walrus(&["tail", "t", "--data", arg(&data)]).ok();
    assert!(
        lines.starts_with(left.text()) && left.text().lines().count().is_multiple_of(10),
        "whole batches, and nothing else"
    );
    walrus_fed(&["append", "t", "--data", arg(&data)], b"more\n").ok();
    assert!(walrus(&["tail", "t", "--data", arg(&data)]).ok().text().ends_with("more\n"));
}

#[test]
fn a_damaged_file_of_cursors_is_set_aside_and_the_log_is_left_alone() {
    let dir = folder();
    let data = dir.path().join("log");
    walrus_fed(&["append", "t", "--data", arg(&data)], b"x\n").ok();
    fs::write(data.join("cursors"), "not cursors").unwrap();
    walrus_fed(&["append", "t", "--data", arg(&data)], b"more\n").with(65);
    let repaired = walrus(&["repair", "--data", arg(&data), "--accept-loss"]).ok();
    assert!(repaired.text().contains("quarantine/cursors"), "{}", repaired.text());
    walrus_fed(&["append", "t", "--data", arg(&data)], b"more\n").ok();
    assert_eq!(walrus(&["tail", "t", "--data", arg(&data)]).ok().text(), "x\nmore\n");
}

#[test]
fn a_repair_wants_to_be_told_what_it_may_do() {
    let dir = folder();
    let data = dir.path().join("log");
    walrus(&["repair", "--data", arg(&data)]).with(2);
    let from = walrus(&["repair", "--data", arg(&data), "--from", "127.0.0.1:1", "--tls", "x"]).with(2);
    assert!(from.hint().contains("--accept-loss"), "{}", from.err);
    walrus(&["repair", "--data", arg(&data), "--accept-loss"]).with(1);
}

#[test]
fn whatever_is_damaged_the_repair_ends_in_a_log_that_is_sound_and_goes_on() {
    let dir = folder();
    let original = dir.path().join("original");
    let lines = text(0..20_000);
    walrus_fed(&["append", "t", "--data", arg(&original), "--batch", "50"], lines.as_bytes()).ok();
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 5] = [
        ("no segment", |segment| fs::remove_file(segment).unwrap()),
        ("half a segment", |segment| {
            let file = fs::OpenOptions::new().write(true).open(segment).unwrap();
            file.set_len(file.metadata().unwrap().len() / 2).unwrap();
        }),
        ("zeros", |segment| {
            let mut bytes = fs::read(segment).unwrap();
            bytes[200 << 10..300 << 10].fill(0);
            fs::write(segment, bytes).unwrap();
        }),
        ("no header", |segment| {
            let mut bytes = fs::read(segment).unwrap();
            let len = bytes.len();
            bytes[..4096].fill(7);
            bytes[len - 4096..].fill(7);
            fs::write(segment, bytes).unwrap();
        }),
        ("nothing but zeros", |segment| {
            let len = fs::metadata(segment).unwrap().len() as usize;
            fs::write(segment, vec![0; len]).unwrap();
        }),
    ];
    for (name, harm) in harms {
        let data = dir.path().join(name);
        assert!(std::process::Command::new("cp").arg("-r").args([&original, &data]).status().unwrap().success());
        harm(&first_segment(&data));
        walrus(&["verify", "--data", arg(&data)]).with(65);
        let said = walrus(&["repair", "--data", arg(&data), "--accept-loss"]).ok();
        assert!(said.text().contains("cut: the log ends before lsn"), "{name}: {}", said.text());
        walrus(&["verify", "--data", arg(&data)]).ok();
        walrus_fed(&["append", "t", "--data", arg(&data)], b"more\n").ok();
        let left = walrus(&["tail", "t", "--data", arg(&data)]).ok();
        let rest = left.text().strip_suffix("more\n").unwrap_or_else(|| panic!("{name}: the new line is missing"));
        assert!(lines.starts_with(rest) && (name == "zeros") != rest.is_empty(), "{name}: {} bytes", rest.len());
        walrus(&["verify", "--data", arg(&data)]).ok();
    }
}

#[test]
fn where_no_cut_can_help_the_command_says_so_and_what_to_do_and_changes_nothing() {
    let dir = folder();
    let data = dir.path().join("log");
    walrus_fed(&["append", "t", "--data", arg(&data)], b"x\n").ok();
    let superblock = fs::read(data.join("superblock")).unwrap();
    for (file, bytes) in [("base", vec![7; 100]), ("superblock", vec![7; superblock.len()])] {
        fs::write(data.join(file), &bytes).unwrap();
        let refused = walrus(&["repair", "--data", arg(&data), "--accept-loss"]).with(65);
        for part in [file, "nothing was changed", "put back a copy", "--follow HOST:PORT"] {
            assert!(refused.err.contains(part), "{part} is missing: {}", refused.err);
        }
        assert_eq!(fs::read(data.join(file)).unwrap(), bytes);
        assert!(!data.join("quarantine").exists());
    }
    fs::remove_file(data.join("base")).unwrap();
    fs::write(data.join("superblock"), superblock).unwrap();
    assert_eq!(walrus(&["tail", "t", "--data", arg(&data)]).ok().text(), "x\n");
}

#[test]
fn a_follower_that_was_cut_off_asks_its_leader_for_the_rest_across_reigns() {
    let cluster = Cluster::new();
    let mut leader = cluster.leader(ANY);
    for reign in 0..3 {
        cluster.at(&leader.address, &["append", "t"], text(reign * 1000..(reign + 1) * 1000).as_bytes()).ok();
        leader.stop();
        leader = cluster.leader(ANY);
    }
    let follower = cluster.follower(ANY, &leader.address);
    cluster.wait_for_mirror(&leader.address, &follower.address);
    follower.stop();
    damage(&cluster.data("b"), "line 500 ");
    let b = cluster.data("b");
    let served = ["serve", "--data", arg(&b), "--tls", arg(&b), "--listen", ANY, "--admin", ANY, "--follow", ANY];
    walrus(&served).with(65);
    let said = walrus(&["repair", "--data", arg(&b), "--accept-loss"]).ok();
    let ends = said.text().split("the log ends before lsn ").nth(1).unwrap().split(' ').next().unwrap();
    assert!(said.text().contains(&format!("it asks its leader for lsn {ends} ")), "{}", said.text());

    let follower = cluster.follower(ANY, &leader.address);
    cluster.wait_for_mirror(&leader.address, &follower.address);
    assert_eq!(cluster.at(&follower.address, &["tail", "t", "-e"], b"").ok().text(), text(0..3000));
    follower.stop();
    leader.stop();
    cluster.diff().ok();
}

#[test]
fn a_leader_that_was_cut_off_says_what_its_followers_will_do_and_they_do_it() {
    let cluster = Cluster::new();
    let leader = cluster.leader(ANY);
    let follower = cluster.follower(ANY, &leader.address);
    cluster.at(&leader.address, &["append", "t"], text(0..3000).as_bytes()).ok();
    cluster.wait_for_mirror(&leader.address, &follower.address);
    follower.stop();
    leader.stop();
    let (a, b) = (cluster.data("a"), cluster.data("b"));
    damage(&a, "line 1500 ");
    let said = walrus(&["repair", "--data", arg(&a), "--accept-loss"]).ok();
    let ends = said.text().split("the log ends before lsn ").nth(1).unwrap().split(' ').next().unwrap();
    assert!(said.text().contains(&format!("a follower that has lsn {ends} or more stops with exit code 6")));
    let diff = cluster.diff().with(1).json().remove(0);
    assert_eq!((&diff["equal"], diff["first_differing_lsn"].to_string()), (&Value::Bool(false), ends.to_owned()));

    let leader = cluster.leader(ANY);
    let tls = cluster.tls_of_the_follower();
    let args =
        ["serve", "--data", arg(&b), "--tls", arg(tls), "--listen", ANY, "--admin", ANY, "--follow", &leader.address];
    let stopped = Running::start(&mut command(&args)).end().with(6);
    assert!(stopped.error().contains("diverged"), "{}", stopped.err);
    leader.stop();
    let rest = walrus(&["tail", "t", "--data", arg(&b), "-o", "1500"]).ok();
    assert_eq!(rest.text(), text(1500..3000), "what was cut off here can be read there");
}
