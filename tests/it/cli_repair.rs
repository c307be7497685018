//! `repair --accept-loss`, as somebody types it whose disk has lost a block.

use std::fs;

use crate::cli::{arg, walrus, walrus_fed};
use crate::support::folder;

#[test]
fn a_damaged_folder_is_repaired_says_what_is_lost_and_goes_on() {
    let dir = folder();
    let data = dir.path().join("log");
    let lines: String = (0..3000).map(|i| format!("line {i}\n")).collect();
    walrus_fed(&["append", "t", "--data", arg(&data), "--batch", "10"], lines.as_bytes()).ok();
    let untouched = walrus(&["repair", "--data", arg(&data), "--accept-loss"]).ok();
    assert!(untouched.text().contains("is not damaged; nothing was changed"), "{}", untouched.out.len());

    let segment = data.join("wal/0000000000000001.seg");
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.windows(9).position(|window| window == b"line 1500").unwrap();
    bytes[at] ^= 1;
    fs::write(&segment, bytes).unwrap();
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
