//! A byte flipped by hand in a durable place, as a person would meet it: named by every command, served by none, healed by nobody.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::{Done, arg, walrus, walrus_fed};
use crate::support::folder;

/// A log of batches of 256, of which the block of `victim`'s last entry is damaged.
struct Damaged {
    _dir: tempfile::TempDir,
    data: PathBuf,
    /// Segment, file offset and LSN of the flipped block.
    place: [u64; 3],
}

const ENTRIES: u64 = 10_000;
/// The first entry of the damaged block, in the middle of what one read takes.
const LOST_FROM: u64 = 5 * 256;

impl Damaged {
    /// Flips a bit `at` bytes into the block.
    fn at(at: u64) -> Damaged {
        let dir = folder();
        let data = dir.path().join("log");
        let lines: String = (0..ENTRIES).map(|i| format!("{i}\n")).collect();
        walrus_fed(&["append", "t", "--data", arg(&data), "--batch", "256"], lines.as_bytes()).ok();
        let blocks = walrus(&["dump", "t", "--data", arg(&data), "--json"]).ok().json();
        let block =
            blocks.iter().find(|block| block["entries"][0]["offset"] == LOST_FROM).expect("batches begin there");
        let place = ["segment", "file_offset", "lsn"].map(|field| block[field].as_u64().unwrap());
        let file = OpenOptions::new().read(true).write(true).open(segment(&data, place[0])).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, place[1] + at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], place[1] + at).unwrap();
        Damaged { _dir: dir, data, place }
    }

    fn run(&self, before: &[&str], after: &[&str]) -> Done {
        walrus(&[before, &["--data", arg(&self.data)], after].concat())
    }

    /// How every command says it.
    fn sentence(&self) -> String {
        let [segment, offset, lsn] = self.place;
        let dir = arg(&self.data);
        format!(
            "the log in {dir} is damaged: segment {segment} (wal/{segment:016x}.seg), file offset {offset}, lsn {lsn}: "
        )
    }
}

fn segment(data: &Path, number: u64) -> PathBuf {
    data.join(format!("wal/{number:016x}.seg"))
}

/// Every file of a folder with its bytes.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
            all.insert(path, Vec::new());
        } else {
            all.insert(path.clone(), std::fs::read(path).unwrap());
        }
    }
    all
}

/// In the envelope, in the header, in the descriptors, in a payload.
const PLACES: [u64; 4] = [3, 60, 40 + 72 + 100, 40 + 72 + 256 * 24 + 5];

#[test]
fn verify_and_serve_and_append_and_diff_name_segment_offset_and_lsn_in_the_same_words_and_change_nothing() {
    for at in PLACES {
        let log = Damaged::at(at);
        let before = contents(&log.data);
        let verify = log.run(&["verify"], &[]).with(65);
        assert!(verify.error().starts_with(&log.sentence()), "{}", verify.err);
        let serve = log.run(&["serve"], &["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).with(65);
        assert_eq!(serve.error(), verify.error());
        assert_eq!(serve.hint(), format!("walrus-node verify --data {}", arg(&log.data)));
        assert_eq!(log.run(&["append", "t"], &[]).with(65).error(), verify.error());
        assert_eq!(log.run(&["diff"], &["--data", arg(&log.data)]).with(65).error(), verify.error());

        let report = &log.run(&["verify"], &["--json"]).with(65).json()[0];
        let [segment, file_offset, lsn] = log.place;
        assert_eq!(report["ok"], false);
        let damage = &report["damage"][0];
        assert_eq!(
            [&damage["segment"], &damage["file_offset"], &damage["lsn"]],
            [segment, file_offset, lsn].map(|n| json!(n)).each_ref()
        );
        assert!(damage["reason"].as_str().is_some_and(|reason| !reason.is_empty()));
        assert!(contents(&log.data) == before, "a command changed a damaged folder (byte {at} of the block)");
    }
}

#[test]
fn a_tail_serves_what_lies_before_the_damage_then_says_so_and_its_hint_goes_on_behind_it() {
    for at in PLACES {
        let log = Damaged::at(at);
        let done = log.run(&["tail", "t"], &[]).with(65);
        assert_eq!(done.text(), (0..LOST_FROM).map(|i| format!("{i}\n")).collect::<String>());
        assert!(done.error().starts_with(&log.sentence()), "{}", done.err);

        let next: u64 = done.hint().rsplit("-o ").next().unwrap().parse().unwrap();
        assert!(next > LOST_FROM && next <= LOST_FROM + 512, "{}", done.hint());
        let words: Vec<&str> = done.hint().split(' ').skip(1).collect();
        let behind = walrus(&words).with(65); // the log is damaged, so its end is not to be trusted as one
        assert_eq!(behind.text(), (next..ENTRIES).map(|i| format!("{i}\n")).collect::<String>());
        assert!(behind.error().starts_with(&log.sentence()), "{}", behind.err);
        // Who asks for no more than what is sound gets it.
        assert_eq!(log.run(&["tail", "t"], &["-n", "1280"]).ok().text().lines().count(), 1280);
    }
}

#[test]
fn a_topic_that_may_be_hidden_by_the_damage_is_not_said_to_be_unknown() {
    let log = Damaged::at(PLACES[1]);
    let done = log.run(&["tail", "other"], &[]).with(65);
    assert!(done.error().contains("no topic `other` in what can be read"), "{}", done.err);
}

#[test]
fn a_dump_shows_what_is_before_and_behind_the_damage_and_ends_with_65() {
    let log = Damaged::at(PLACES[0]);
    let blocks = log.run(&["dump", "t"], &["--json"]).with(65);
    let offsets: Vec<u64> =
        blocks.json().iter().map(|block: &Value| block["entries"][0]["offset"].as_u64().unwrap()).collect();
    assert!(offsets.contains(&0) && offsets.contains(&(ENTRIES / 256 * 256)) && !offsets.contains(&LOST_FROM));
    assert!(blocks.err.contains(&format!("blocks from lsn {} ", log.place[2])), "{}", blocks.err);
}

#[test]
fn a_superblock_that_is_gone_is_damage_and_json_says_so_in_the_same_shape() {
    let log = Damaged::at(PLACES[0]);
    std::fs::write(log.data.join("superblock"), vec![7; 8192]).unwrap();
    let done = log.run(&["verify"], &["--json"]).with(65);
    let report = &done.json()[0];
    assert_eq!((&report["ok"], &report["damage"][0]["lsn"]), (&json!(false), &Value::Null));
    assert!(done.error().contains("the superblock is damaged"), "{}", done.err);
    let serve = log.run(&["serve"], &["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).with(65);
    assert_eq!(serve.error(), done.error());
}
