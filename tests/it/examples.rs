//! The examples do what they say, also when they are run again on the same folder.

use std::process::Command;

use crate::support::folder;

#[expect(dead_code, unreachable_pub, reason = "an example is a program of its own")]
#[path = "../../examples/batch.rs"]
mod batch;
#[expect(dead_code, unreachable_pub, reason = "an example is a program of its own")]
#[path = "../../examples/count_batched.rs"]
mod count_batched;
#[expect(dead_code, unreachable_pub, reason = "an example is a program of its own")]
#[path = "../../examples/embed.rs"]
mod embed;
#[expect(unreachable_pub, reason = "an example is a program of its own")]
#[path = "../../examples/walrus_rust.rs"]
mod walrus_rust;

#[test]
fn a_log_within_a_program() {
    let folder = folder();
    assert_eq!(embed::run(folder.path()).unwrap(), 101);
    assert_eq!(embed::run(folder.path()).unwrap(), 202);
}

#[test]
fn a_batch() {
    let folder = folder();
    assert_eq!(batch::run(folder.path()).unwrap(), 1002);
    assert_eq!(batch::run(folder.path()).unwrap(), 2004);
}

#[test]
fn a_count_batched_writer() {
    let folder = folder();
    let flushes = count_batched::run(folder.path()).unwrap();
    assert!((40..=10_000).contains(&flushes), "{flushes}");
}

/// Tells the child of the next test that it is one.
const CHILD: &str = "WALRUS_TEST_EXAMPLE_CHILD";

/// Not a test of its own: what the next test runs in a process with an environment of its own.
#[test]
fn child_that_runs_the_program_written_for_walrus_rust() {
    if std::env::var_os(CHILD).is_some() {
        walrus_rust::main().unwrap();
    }
}

#[test]
fn a_program_written_for_walrus_rust_runs_twice_and_obeys_the_environment() {
    let folder = folder();
    let run = |key: Option<&str>| {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child
            .args(["--exact", "examples::child_that_runs_the_program_written_for_walrus_rust", "--test-threads=1"])
            .current_dir(folder.path())
            .env(CHILD, "1")
            .env("WALRUS_DATA_DIR", folder.path().join("data"))
            .env_remove("WALRUS_INSTANCE_KEY");
        child.envs(key.map(|key| ("WALRUS_INSTANCE_KEY", key)));
        let done = child.output().unwrap();
        assert!(
            done.status.success(),
            "{}{}",
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        );
    };
    let has_log = |name: &str| folder.path().join("data").join(name).join("superblock").exists();
    run(None);
    assert!(has_log("") && has_log("tenant-123") && has_log("tenant_456") && has_log("transactions"));
    assert!(!has_log("my_key") && !folder.path().join("wal_files").exists());
    run(Some("my/key"));
    assert!(has_log("my_key"));
    run(None);
}
