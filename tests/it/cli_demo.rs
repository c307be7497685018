//! The demo as a person starts it: it ends well, it says what it measured, and nothing is left of it.

use std::path::Path;

use crate::cli::{Running, command, run};
use crate::support::folder;

fn left_in(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Processes whose command line names that folder.
fn alive(dir: &Path) -> Vec<String> {
    let lines =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(dir.to_str().unwrap())).collect()
}

#[test]
fn a_demo_of_real_lines_loses_nothing_says_what_it_measured_and_leaves_nothing() {
    let dir = folder();
    std::fs::write(dir.path().join("input"), (0..5000).map(|i| format!("line {i}\r\n\n")).collect::<String>()).unwrap();
    let done = run(command(&["demo", "--input", "input"]).current_dir(dir.path()), b"").ok();
    let text = done.text();
    for part in [
        "the floor",
        "1 outstanding",
        "64 outstanding",
        "batches of 256",
        "none lost, no batch in part",
        "both logs are equal",
        "next: ",
    ] {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
    assert!(done.err.contains(" s  "), "no progress was told: {}", done.err);
    assert_eq!(left_in(dir.path()), ["input"]);
}

#[test]
fn a_demo_that_is_interrupted_kills_its_nodes_and_removes_its_folder() {
    let dir = folder();
    let demo = Running::start(command(&["demo"]).current_dir(dir.path()));
    demo.wait_for_log("appending");
    let [made] = left_in(dir.path()).try_into().unwrap();
    assert!(made.starts_with("walrus-demo-"), "{made}");
    assert!(!alive(Path::new(&made)).is_empty(), "the nodes run");
    demo.kill("INT");
    demo.end().with(130);
    assert_eq!(left_in(dir.path()), [""; 0]);
    assert_eq!(alive(Path::new(&made)), [""; 0]);
}

#[test]
fn a_demo_without_lines_says_so_and_makes_nothing() {
    let dir = folder();
    let demo = |input: &str| run(command(&["demo", "--input", input]).current_dir(dir.path()), b"");
    demo("missing").with(1);
    assert_eq!(left_in(dir.path()), [""; 0]);
    std::fs::write(dir.path().join("empty"), "").unwrap();
    assert!(demo("empty").with(1).error().contains("no lines"));
    assert_eq!(left_in(dir.path()), ["empty"]);
}
