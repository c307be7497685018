//! The instrument as it is called: a smoke run on the disk of the target folder, whose invariants hold and whose JSON can be relied on, and
//! what is said to somebody who asks for what cannot be.

mod schema_check;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A folder of a test, gone with it. On the disk of the target folder: /tmp may be in memory.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn bench(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_walrus-bench")).args(args).output().unwrap()
}

fn result(args: &[&str]) -> Value {
    let run = bench(args);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    serde_json::from_slice(&run.stdout).unwrap()
}

/// What is said on stderr, of a call that is wrong.
fn usage_error(args: &[&str]) -> String {
    let run = bench(args);
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(2), "{args:?}: {said}");
    said
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn a_smoke_run_holds_its_invariants_and_leaves_nothing_behind() {
    let (dir, out) = (folder(), folder());
    let (dir_path, out_path) = (dir.path().to_str().unwrap(), out.path().join("new").to_str().unwrap().to_owned());
    let run = result(&["run", "--smoke", "--json", "--dir", dir_path, "--out", &out_path]);

    assert_eq!((&run["schema"], &run["kind"], &run["smoke"]), (&2.into(), &"run".into(), &true.into()));
    let host = &run["host"];
    assert!(host["cores"].as_u64().unwrap() > 0 && !host["kernel"].as_str().unwrap().is_empty());
    let floors: Vec<_> =
        run["device"].as_array().unwrap().iter().map(|floor| floor["name"].as_str().unwrap()).collect();
    assert!(floors.contains(&"4 KiB, depth 1"), "{floors:?}");
    assert!(run["device"].as_array().unwrap().iter().all(|floor| number(&floor["per_s"]) > 0.0));

    let cases = run["cases"].as_array().unwrap();
    let ids: Vec<_> = cases.iter().map(|case| case["id"].as_str().unwrap()).collect();
    for word in ["durable 256B x1thr", "x4thr", "16x256B", "written", "100topics", "syscall", "poisson", "read", "open"]
    {
        assert!(ids.iter().any(|id| id.contains(word)), "{word} of {ids:?}");
    }
    if cfg!(feature = "net") {
        let mirrored = cases.iter().find(|case| case["id"].as_str().unwrap().contains("net 1followers")).unwrap();
        let of = |check: &&Value| check["name"] == "followers equal their leader";
        assert!(mirrored["checks"].as_array().unwrap().iter().any(|check| of(&check) && check["ok"] == true));
        assert!(number(&mirrored["lag"]["p50_us"]) > 0.0, "{}", mirrored["lag"]);
    }
    cases.iter().for_each(check_case);

    let written: Value =
        serde_json::from_slice(&std::fs::read(PathBuf::from(&out_path).join("result.json")).unwrap()).unwrap();
    assert_eq!(written, run);
    let schema: Value = serde_json::from_str(include_str!("../schema.json")).unwrap();
    assert_eq!(schema_check::complaints(&schema, &run), Vec::<String>::new());
    let page = std::fs::read_to_string(PathBuf::from(&out_path).join("report.html")).unwrap();
    let shown = page.split("<script").next().unwrap();
    assert!(ids.iter().all(|id| shown.contains(id)), "every case is in the report");
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

fn check_case(case: &Value) {
    let id = case["id"].as_str().unwrap();
    let checks = case["checks"].as_array().unwrap();
    assert!(!checks.is_empty(), "{id}: nothing was checked");
    assert!(checks.iter().all(|check| check["ok"] == true), "{id}: {checks:?}");
    let is_durable = case["spec"]["kind"] == "durable";
    let flushes = checks.iter().filter(|check| check["name"].as_str().unwrap().starts_with("flushes cover")).count();
    assert_eq!(flushes > 0, is_durable, "{id}: {checks:?}");
    assert_eq!(case["floor"].is_object(), is_durable, "{id}");

    let latency = &case["response"];
    let percentiles = ["min_us", "p50_us", "p90_us", "p99_us", "p999_us", "max_us"].map(|name| number(&latency[name]));
    assert!(percentiles.is_sorted() && percentiles[0] > 0.0, "{id}: {percentiles:?}");
    let rounds = case["rounds"].as_array().unwrap();
    // Of an open loop, everything that was due is a sample; of another load, what was acknowledged.
    let is_open_loop = case["spec"]["rate_per_s"].is_number();
    let of = if is_open_loop { "due" } else { "batches" };
    let samples: u64 = rounds.iter().map(|round| round[of].as_u64().unwrap()).sum();
    assert_eq!(latency["count"].as_u64().unwrap(), samples, "{id}");
    for round in rounds {
        let (entries, seconds) = (number(&round["entries"]), number(&round["seconds"]));
        assert!((number(&round["entries_per_s"]) - entries / seconds).abs() < 1e-3, "{id}: {round}");
        let of_intervals: u64 =
            round["intervals"].as_array().unwrap().iter().map(|i| i["entries"].as_u64().unwrap()).sum();
        assert_eq!(of_intervals as f64, entries, "{id}");
    }
}

#[test]
fn what_cannot_be_asked_is_said_with_what_could_be() {
    let dir = folder();
    let plan = dir.path().join("plan.toml");
    let plan_path = plan.to_str().unwrap();
    let of_plan = |text: &str| {
        std::fs::write(&plan, text).unwrap();
        usage_error(&["run", plan_path])
    };
    let error = of_plan("[load]\nproducer = 3\n");
    assert!(error.contains("plan.toml") && error.contains("producer") && error.contains("producers"), "{error}");
    let error = of_plan("[load]\nbatch = 5000\n");
    assert!(error.contains("batch = 5000"), "{error}");
    assert!(usage_error(&["run", "--only", "nothing of this name"]).contains("durable 256B x1thr"));
    assert!(usage_error(&["run", "no/such/plan.toml"]).contains("no/such/plan.toml"));
    assert!(usage_error(&["run", "--seconds=-1"]).contains("seconds"));
    assert!(usage_error(&["run", "--seconds=1e18"]).contains("3600s"));
    assert!(usage_error(&["device", "--seconds=0"]).contains("--seconds = 0ns"));
    let error = of_plan("[load]\nbatch = 300\npayload = \"1MiB\"\n");
    assert!(error.contains("durable 300x1MiB") && error.contains("256 MiB"), "{error}");
    // What goes over the network and is read back is done by nobody.
    std::fs::write(&plan, "[load]\nnetwork = true\nmeasure = \"read\"\n").unwrap();
    let error = usage_error(&["run", plan_path, "--dir", dir.path().to_str().unwrap()]);
    assert!(error.contains("nothing to measure"), "{error}");
    let out = plan.join("below-a-file");
    let error = usage_error(&["run", "--dir", dir.path().to_str().unwrap(), "--out", out.to_str().unwrap()]);
    assert!(error.contains("--out") && error.contains("below-a-file"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was begun");
    if !cfg!(feature = "peers") {
        let error = usage_error(&["peers", "--only", "durable 256B x1thr"]);
        assert!(error.contains("--features peers"), "{error}");
    }
    std::fs::write(&plan, "[load]\nbatch = 2\n").unwrap();
    assert!(usage_error(&["sweep", plan_path]).contains("axis"));
    assert!(usage_error(&["run", "--io", "fast"]).contains("uring"));
}

#[test]
fn the_device_alone_is_measured_at_several_sizes_and_depths() {
    let dir = folder();
    let run = result(&["device", "--smoke", "--json", dir.path().to_str().unwrap()]);
    let floors = run["device"].as_array().unwrap();
    assert_eq!(run["kind"], "device");
    assert!(floors.iter().any(|floor| floor["name"] == "64 KiB, depth 1" && number(&floor["p50_us"]) > 0.0));
    assert!(run["cases"].as_array().unwrap().is_empty());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn the_highest_rate_that_holds_a_promise_is_looked_for_and_then_measured() {
    let dir = folder();
    let plan = dir.path().join("plan.toml");
    std::fs::write(&plan, "[load]\nproducers = 2\nduration = \"100ms\"\nslo = { p99_us = 1e7 }\n").unwrap();
    let run = result(&["run", plan.to_str().unwrap(), "--smoke", "--json", "--dir", dir.path().to_str().unwrap()]);
    let case = &run["cases"][0];
    assert_eq!(case["id"], "walrus-node durable 256B x2thr p99<=10000000us uniform");
    assert!(number(&case["spec"]["rate_per_s"]) > 0.0 && number(&case["entries_per_s"]) > 0.0, "{case}");
    assert_eq!(case["response"]["count"], case["rounds"][0]["due"]);
}

#[test]
fn an_interrupted_run_removes_its_folder_and_ends_as_interrupted() {
    let dir = folder();
    let mut run = Command::new(env!("CARGO_BIN_EXE_walrus-bench"))
        .args(["run", "--only", "durable 256B x1thr", "--seconds", "60", "--dir"])
        .arg(dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The first line comes once the folder is there.
    let mut line = String::new();
    let mut stderr = BufReader::new(run.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "{line}");
    let pid = rustix::process::Pid::from_child(&run);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    // Until then stderr stays open: the run may have something to say of what is taken away under it.
    assert_eq!(run.wait().unwrap().code(), Some(130));
    drop(stderr);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
