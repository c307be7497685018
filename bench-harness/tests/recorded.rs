//! `compare` on results that were recorded: twice the same build, and once that build with a tenth of the time of each append spent for
//! nothing. On one quiet machine within a minute, 2026-11-28:
//!
//! ```text
//!   walrus-bench run --only 'durable 256B x1thr' --rounds 5 --seconds 1 --out before      (and same, and handicap)
//! ```

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn recorded(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded").join(name)
}

fn compare(a: &Path, b: &Path) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_walrus-bench")).arg("compare").args([a, b]).output().unwrap();
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    (output, said)
}

#[test]
fn two_runs_of_one_build_are_no_different() {
    let (output, said) = compare(&recorded("before.json"), &recorded("same.json"));
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("no difference"), "{said}");
}

#[test]
fn a_tenth_spent_for_nothing_is_worse_and_the_exit_code_says_so() {
    for (a, b) in [("before.json", "handicap.json"), ("same.json", "handicap.json")] {
        let (output, said) = compare(&recorded(a), &recorded(b));
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("worse"), "{said}");
    }
}

#[test]
fn a_report_is_compared_as_the_result_that_is_in_it() {
    let report = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("handicap-{}.html", std::process::id()));
    let written = Command::new(env!("CARGO_BIN_EXE_walrus-bench"))
        .arg("report")
        .arg(recorded("handicap.json"))
        .arg("-o")
        .arg(&report)
        .output()
        .unwrap();
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    let (output, said) = compare(&recorded("before.json"), &report);
    assert_eq!(output.status.code(), Some(1), "{said}");
    std::fs::remove_file(report).unwrap();
}
