//! The smoke run on the disk of the target directory: it appends, counts, reads back, and its JSON can be relied on.

use std::process::Command;

use serde_json::Value;

#[test]
fn a_smoke_run_measures_the_floor_and_the_log_and_leaves_nothing_behind() {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("smoke-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let run = Command::new(env!("CARGO_BIN_EXE_walrus-bench"))
        .args(["run", "--smoke", "--json", "--dir"])
        .arg(&dir)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let report: Value = serde_json::from_slice(&run.stdout).unwrap();

    assert_eq!(
        (&report["schema"], &report["tool"], &report["smoke"]),
        (&1.into(), &"walrus-bench".into(), &true.into())
    );
    let host = &report["host"];
    assert!(host["cores"].as_u64().unwrap() > 0 && !host["kernel"].as_str().unwrap().is_empty());
    assert!(host["file_system"].is_string() && host["device"].is_string());
    assert!(["uring", "syscall"].contains(&report["io"].as_str().unwrap()));
    for figure in ["fdatasync_per_second", "fdatasync_per_second_after", "fdatasync_p50_us"] {
        assert!(report["floor"][figure].as_f64().unwrap() > 0.0, "{figure}");
    }
    let runs = report["runs"].as_array().unwrap();
    let outstanding: Vec<_> = runs.iter().map(|run| run["outstanding"].as_u64().unwrap()).collect();
    assert_eq!(outstanding, [1, 64, 8]);
    for run in runs {
        let (entries, seconds) = (run["entries"].as_u64().unwrap() as f64, run["seconds"].as_f64().unwrap());
        let per_second = run["entries_per_second"].as_f64().unwrap();
        assert!(entries > 0.0 && (per_second - entries / seconds).abs() <= per_second * 1e-6, "{run}");
        assert!(run["p50_us"].as_f64().unwrap() <= run["p99_us"].as_f64().unwrap(), "{run}");
    }
    let appended: u64 = runs.iter().map(|run| run["entries"].as_u64().unwrap()).sum();
    assert_eq!(report["read_back"]["entries"].as_u64().unwrap(), appended);

    let left: Vec<_> = std::fs::read_dir(&dir).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    std::fs::remove_dir(dir).unwrap();
}
