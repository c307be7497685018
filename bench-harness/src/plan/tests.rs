use super::*;

/// A lone durable append of 256 bytes by one thread.
pub(crate) fn spec() -> Spec {
    Plan::parse("").unwrap().cases.remove(0).spec
}

fn names(text: &str) -> Vec<String> {
    Plan::parse(text).unwrap().cases.iter().map(CasePlan::name).collect()
}

fn error(text: &str) -> String {
    format!("{:#}", Plan::parse(text).unwrap_err())
}

#[test]
fn every_combination_of_the_lists_is_a_case() {
    let names =
        names("[load]\npayload = [256, \"4KiB\"]\n[[case]]\nproducers = [1, 64]\n[[case]]\nbatch = 256\npayload = 256");
    assert_eq!(
        names,
        [
            "durable 256B x1thr",
            "durable 256B x64thr",
            "durable 4KiB x1thr",
            "durable 4KiB x64thr",
            "durable 256x256B x1thr"
        ]
    );
}

#[test]
fn names_say_what_is_not_as_usual() {
    let name = |keys: &str| names(&format!("[load]\n{keys}")).remove(0);
    assert_eq!(name("batch = 256\noutstanding = 8"), "durable 256x256B x1thr 8out");
    assert_eq!(name("durability = \"written\"\nio = \"syscall\""), "written 256B x1thr syscall");
    assert_eq!(name("measure = \"open\"\nfill = \"1GB\""), "open 256B of 1GB");
    assert_eq!(name("topics = 10000\nnetwork = true\nfollowers = 2"), "durable 256B x1thr 10000topics net 2followers");
    assert_eq!(name("rate = 5000\narrivals = \"poisson\"\nproducers = 8"), "durable 256B x8thr 5000/s poisson");
    assert_eq!(name("slo = { p999_us = 2000 }"), "durable 256B x1thr p99.9<=2000us uniform");
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let error = error("[load]\npayload = 256\nproducer = 4\n");
    assert!(error.contains("producer") && error.contains("line 3") && error.contains("producers"), "{error}");
}

#[test]
fn an_impossible_value_is_said_with_its_key() {
    for (text, words) in [
        ("batch = 2001", &["batch = 2001", "2000"][..]),
        ("batch = 0", &["batch = 0"]),
        ("producers = []", &["producers = []"]),
        ("producers = 100000", &["producers = 100000"]),
        ("producers = -1", &["producers", "-1"]),
        ("io = \"fast\"", &["io = \"fast\"", "syscall"]),
        ("durability = \"maybe\"", &["durability", "maybe"]),
        ("measure = \"think\"", &["measure", "think"]),
        ("payload = \"64KB\"", &["payload", "64KB", "KiB"]),
        ("payload = 1.5", &["payload", "1.5"]),
        ("duration = 5", &["duration", "\"5s\""]),
        ("duration = \"0s\"", &["duration"]),
        ("rate = \"fast\"", &["rate", "max"]),
        ("rate = 0", &["rate = 0"]),
        ("rate = 1e-20", &["rate = 0.00000000000000000001", "0.001"]),
        ("rate = 1e30", &["rate = 1", "nanosecond"]),
        ("duration = \"1000000000000000000s\"", &["duration = 1000000000000000000s", "3600s"]),
        ("warmup = \"2000000s\"", &["warmup = 2000000s", "3600s"]),
        ("rate = 100\noutstanding = 2", &["outstanding = 2", "rate"]),
        ("rate = 100\narrivals = \"often\"", &["arrivals", "often"]),
        ("arrivals = \"poisson\"", &["arrivals", "rate"]),
        ("slo = { p99_us = 1, p50_us = 1 }", &["slo"]),
        ("slo = { p99_us = 1 }\nrate = 5", &["rate", "slo"]),
        ("slo = { p98_us = 1 }", &["p98_us"]),
        ("measure = \"read\"\nrate = 5", &["rate", "read"]),
        ("measure = \"read\"\ndurability = \"written\"", &["durability", "read"]),
        ("batch = 2000\npayload = \"1MiB\"", &["batch = 2000", "payload"]),
        ("rounds = 0", &["rounds = 0"]),
    ] {
        let error = error(&format!("[load]\n{text}\n"));
        assert!(words.iter().all(|word| error.contains(word)), "{text}: {error}");
    }
}

#[test]
fn a_floor_that_is_measured_in_no_time_or_for_ever_is_refused() {
    for time in ["0ms", "0.5ms", "1000000s"] {
        let error = error(&format!("floor = \"{time}\"\n"));
        assert!(error.contains("floor = ") && error.contains("1ms to 600s"), "{time}: {error}");
    }
    assert!(Plan::parse("floor = \"1ms\"\n").is_ok());
}

#[test]
fn the_same_case_twice_is_refused() {
    assert!(error("[[case]]\nproducers = [1, 4]\n[[case]]\nproducers = 4\n").contains("x4thr"));
}

#[test]
fn the_plan_of_threads_over_the_network_is_one_case_of_64() {
    let (_, text) = BUNDLED.iter().find(|(name, _)| *name == "network-threads").unwrap();
    assert_eq!(names(text), ["durable 256B x64thr net"]);
}

#[test]
fn the_plan_as_it_was_understood_can_be_run_again_and_is_the_same() {
    for (name, text) in BUNDLED {
        let plan = Plan::parse(text).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        assert_eq!(Plan::parse(&plan.echo()).unwrap(), plan, "{name}:\n{}", plan.echo());
    }
    let all = "floor = \"30ms\"\n[load]\nrate = [100.5, 7]\narrivals = \"poisson\"\nwarmup = \"0.25s\"\n\
               [[case]]\n[[case]]\nrate = \"max\"\narrivals = \"uniform\"\nslo = { p50_us = 10 }\n";
    let plan = Plan::parse(all).unwrap();
    assert_eq!((plan.cases.len(), plan.floor_time), (3, Duration::from_millis(30)));
    assert_eq!(Plan::parse(&plan.echo()).unwrap(), plan);
}

#[test]
fn the_command_line_changes_what_it_names_and_nothing_else() {
    let plan = || Plan::parse("[load]\nio = [\"auto\", \"syscall\"]\nproducers = [1, 4]\n").unwrap();
    assert_eq!(plan().with(&Overrides::default()).unwrap(), plan());
    let of = |overrides| plan().with(&overrides).unwrap();
    let io = of(Overrides { io: Some("mmap".into()), ..Overrides::default() });
    assert_eq!(
        io.cases.iter().map(|case| case.spec.io.as_str()).collect::<Vec<_>>(),
        ["mmap", "syscall", "mmap", "syscall"]
    );
    let few = of(Overrides { only: Some("x4thr".into()), rounds: Some(7), ..Overrides::default() });
    assert!(few.cases.len() == 2 && few.cases.iter().all(|case| case.rounds == 7 && case.spec.producers == 4));
    let one = of(Overrides { only: Some("durable 256B x4thr".into()), ..Overrides::default() });
    assert_eq!(one.cases.iter().map(CasePlan::name).collect::<Vec<_>>(), ["durable 256B x4thr"]);
    let none = plan().with(&Overrides { only: Some("x5".into()), ..Overrides::default() }).unwrap_err().to_string();
    assert!(none.contains("x5") && none.contains("durable 256B x4thr syscall"), "{none}");
    assert!(plan().with(&Overrides { duration: Some(Duration::ZERO), ..Overrides::default() }).is_err());
    let short = of(Overrides { shrink: true, ..Overrides::default() });
    assert!(short.cases.iter().all(|case| case.rounds == 1 && case.duration < Duration::from_secs(1)));
}
