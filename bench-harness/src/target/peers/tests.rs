//! Every peer against the promises that the instrument relies on: what was acknowledged is there when the log is opened again, after a
//! close and after SIGKILL; what is refused is refused with a reason, before and at opening.
//!
//! walrus-rust needs an environment, so each test runs itself again with it. The process that is killed is this program, too.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use bytes::Bytes;

use super::*;
use crate::target::{ReadBack, Target};

const PRODUCERS: u32 = 2;
const ROUNDS: u32 = 20;
const PAYLOAD_BYTES: u64 = 100;

fn spec(kind: &str, batch: u32) -> Spec {
    Spec {
        kind: kind.into(),
        payload_bytes: PAYLOAD_BYTES,
        batch,
        producers: PRODUCERS,
        outstanding: 1,
        topics: 1,
        io: "auto".into(),
        followers: 0,
        network: false,
        // An open loop this slow has little space prepared.
        rate_per_s: Some(1.0),
        arrivals: None,
    }
}

fn every(specs: &[Spec], mut test: impl FnMut(usize, &dyn Kind, &Spec)) {
    for (number, kind) in kinds().iter().enumerate() {
        for spec in specs {
            println!("{}: {} x{}, {} topics", kind.name(), spec.kind, spec.batch, spec.topics);
            test(number, kind.as_ref(), spec);
        }
    }
}

/// The test of that name again, with the environment that peers need; its command, to add to.
fn again(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("{}::{test}", module_path!().split_once("::").unwrap().1), "--nocapture"]);
    command.envs(walrus_rust::ENVIRONMENT);
    command
}

/// True in the process that shall do the work; elsewhere that process is run, and must succeed.
fn is_worker(test: &str) -> bool {
    if walrus_rust::is_environment_ready() {
        return true;
    }
    let output = again(test).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "it ran: {said}");
    false
}

/// Both producers at once, each topic in turn. What they have appended.
fn append(log: &dyn Target, spec: &Spec) -> ReadBack {
    let payload = |round: u32| Bytes::from(vec![round as u8; PAYLOAD_BYTES as usize]);
    std::thread::scope(|scope| {
        for number in 0..spec.producers {
            scope.spawn(move || {
                let mut producer = log.producer(number).unwrap();
                for round in 0..ROUNDS {
                    let batch: Vec<Bytes> = (0..spec.batch).map(|_| payload(round)).collect();
                    producer.append(round % spec.topics, &batch).unwrap();
                }
            });
        }
    });
    let entries = u64::from(spec.producers * ROUNDS * spec.batch);
    ReadBack { entries, payload_bytes: entries * PAYLOAD_BYTES }
}

fn twice(read: ReadBack) -> ReadBack {
    ReadBack { entries: 2 * read.entries, payload_bytes: 2 * read.payload_bytes }
}

/// The same log in a case that only opens it.
fn opening(spec: &Spec) -> Spec {
    Spec { kind: "open".into(), ..spec.clone() }
}

fn levels_and_batches() -> Vec<Spec> {
    let mut specs: Vec<Spec> =
        ["durable", "written"].iter().flat_map(|kind| [1, 7].map(|batch| spec(kind, batch))).collect();
    specs.push(Spec { topics: 3, ..spec("written", 7) });
    specs
}

#[test]
fn a_peer_has_what_was_appended_after_a_close_and_goes_on_from_there() {
    if !is_worker("a_peer_has_what_was_appended_after_a_close_and_goes_on_from_there") {
        return;
    }
    let mut ran = 0;
    every(&levels_and_batches(), |_, kind, spec| {
        if kind.refuses(spec).is_some() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let log = kind.open(folder.path(), spec).unwrap();
        assert!(!log.settings().is_empty());
        let appended = append(log.as_ref(), spec);
        assert_eq!(log.read_back().unwrap(), appended, "in the log that is open");
        log.close().unwrap();

        let log = kind.open(folder.path(), &opening(spec)).unwrap();
        assert_eq!(log.read_back().unwrap(), appended, "opened again");
        assert_eq!(append(log.as_ref(), spec), appended);
        log.close().unwrap();

        let reading = Spec { kind: "read".into(), ..spec.clone() };
        let reading = if kind.refuses(&reading).is_none() { reading } else { opening(spec) };
        let log = kind.open(folder.path(), &reading).unwrap();
        assert_eq!(log.read_back().unwrap(), twice(appended), "gone on");
        log.close().unwrap();
        ran += 1;
    });
    assert!(ran >= 5 * (kinds().len() - 1), "only okaywal refuses any of these: {ran}");
}

#[test]
fn a_peer_has_what_it_acknowledged_after_sigkill() {
    let test = "a_peer_has_what_it_acknowledged_after_sigkill";
    if let Ok(folder) = std::env::var("PEERS_TEST_FOLDER") {
        return append_and_wait_to_be_killed(Path::new(&folder));
    }
    if !is_worker(test) {
        return;
    }
    every(&levels_and_batches(), |number, kind, spec| {
        if kind.refuses(spec).is_some() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut process = again(test)
            .env("PEERS_TEST_FOLDER", folder.path())
            .env("PEERS_TEST_CASE", serde_json::to_string(&(number, spec)).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        let entries: u64 =
            lines.find_map(|line| line.strip_prefix("acknowledged ")?.parse().ok()).expect("it appended");
        process.kill().unwrap();
        process.wait().unwrap();

        let log = kind.open(folder.path(), &opening(spec)).unwrap();
        let read = log.read_back().unwrap();
        assert_eq!(read, ReadBack { entries, payload_bytes: entries * PAYLOAD_BYTES });
        log.close().unwrap();
    });
}

/// The process that is killed.
fn append_and_wait_to_be_killed(folder: &Path) {
    let case = std::env::var("PEERS_TEST_CASE").unwrap();
    let (number, spec): (usize, Spec) = serde_json::from_str(&case).unwrap();
    let log = kinds()[number].open(folder, &spec).unwrap();
    let appended = append(log.as_ref(), &spec);
    println!("\nacknowledged {}", appended.entries);
    std::io::stdout().flush().unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    panic!("it was to be killed");
}

#[test]
fn what_a_peer_refuses_it_gives_a_reason_for_and_does_not_open() {
    if !is_worker("what_a_peer_refuses_it_gives_a_reason_for_and_does_not_open") {
        return;
    }
    let refused = |kind: &dyn Kind, spec: &Spec| {
        let reason = kind.refuses(spec).unwrap_or_default();
        assert!(reason.len() > 10, "{} took {spec:?}", kind.name());
        let folder = tempfile::tempdir().unwrap();
        let error = kind.open(folder.path(), spec).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(&reason), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was made");
    };
    let durable = || spec("durable", 1);
    let nobody_can = [
        Spec { kind: "mirrored".into(), ..durable() },
        Spec { outstanding: 2, ..durable() },
        Spec { followers: 1, ..durable() },
        Spec { network: true, ..durable() },
    ];
    every(&nobody_can, |_, kind, spec| refused(kind, spec));

    let some_cannot = [
        ("okaywal", spec("written", 1)),
        ("okaywal", Spec { topics: 2, ..durable() }),
        ("fjall", spec("read", 1)),
        ("fjall", Spec { topics: TOPICS_MAX + 1, ..durable() }),
        ("walrus-rust", spec("durable", 2001)),
        ("walrus-rust", Spec { payload_bytes: 10 << 20, ..durable() }),
        ("raft-engine", Spec { payload_bytes: 1 << 31, ..durable() }),
    ];
    #[cfg(feature = "peers-rocksdb")]
    let some_cannot = some_cannot.into_iter().chain([("RocksDB", Spec { producers: PRODUCERS_MAX + 1, ..durable() })]);
    for (name, spec) in some_cannot {
        let kinds = kinds();
        let named: Vec<_> = kinds.iter().filter(|kind| kind.name().starts_with(name)).collect();
        assert!(!named.is_empty(), "{name}");
        named.iter().for_each(|kind| refused(kind.as_ref(), &spec));
    }
    every(&[durable()], |_, kind, spec| assert_eq!(kind.refuses(spec), None, "{}", kind.name()));
}

#[test]
fn without_its_environment_walrus_rust_refuses_rather_than_print_and_write_somewhere() {
    if walrus_rust::is_environment_ready() {
        return;
    }
    let kind = walrus_rust::WalrusRust { topic_a_thread: false };
    let reason = kind.refuses(&spec("durable", 1)).unwrap();
    assert!(reason.contains("WALRUS_DATA_DIR=/proc/self/fd"), "{reason}");
    assert!(kind.open(Path::new("somewhere"), &spec("durable", 1)).is_err());
    assert!(!Path::new("somewhere").exists());
}

#[test]
fn the_space_of_a_removed_log_of_walrus_rust_is_given_back_when_the_next_is_opened() {
    if !is_worker("the_space_of_a_removed_log_of_walrus_rust_is_given_back_when_the_next_is_opened") {
        return;
    }
    let kind = walrus_rust::WalrusRust { topic_a_thread: false };
    let open_and_close = |spec: &Spec| {
        let folder = tempfile::tempdir().unwrap();
        let log = kind.open(folder.path(), spec).unwrap();
        append(log.as_ref(), spec);
        log.close().unwrap();
        let files = fs::read_dir(folder.path()).unwrap().map(|file| File::open(file.unwrap().path()).unwrap());
        (files.collect::<Vec<_>>(), folder)
    };
    for level in ["durable", "written"] {
        let (files, folder) = open_and_close(&spec(level, 1));
        let bytes = || files.iter().map(|file| file.metadata().unwrap().len()).sum::<u64>();
        let (kept, kept_folder) = open_and_close(&spec(level, 1));
        assert!(bytes() > 0, "it is still there");
        folder.close().unwrap();
        open_and_close(&spec(level, 1));
        assert_eq!(bytes(), 0, "it was removed");
        assert!(kept.iter().all(|file| file.metadata().unwrap().len() > 0), "{}", kept_folder.path().display());
    }
}

#[test]
fn a_name_has_the_version_that_cargo_lock_says() {
    for kind in kinds() {
        let name = kind.name();
        let version = name.split([' ', ',']).nth(1).unwrap();
        assert!(version.split('.').all(|part| part.parse::<u32>().is_ok()), "{name}");
    }
}

#[test]
fn keys_go_on_behind_the_last_one_of_their_topic() {
    let stored = [(1, 0, 4), (1, 1, 9), (2, 0, 0)]
        .map(|(producer, topic, number): (u64, u64, u64)| producer << 52 | topic << 36 | number);
    let last_up_to = |key: u64| Ok(stored.iter().copied().filter(|stored| *stored <= key).max());
    let mut keys = Keys::new(1, 3, last_up_to).unwrap();
    let mut number = |topic| u64::from_be_bytes(keys.take(topic).unwrap()) & (NUMBERS_MAX - 1);
    assert_eq!([number(0), number(0), number(1), number(2)], [5, 6, 10, 0]);
    let largest = Keys::new(PRODUCERS_MAX - 1, 1, |_| Ok(None)).unwrap();
    assert_eq!(largest.at(TOPICS_MAX - 1, NUMBERS_MAX - 1), u64::MAX);
}
