//! Folders of released versions of the format, read by this one. They are never edited: a version that cannot read them is broken, and one
//! that must write something else is a new version, with a folder of its own beside the old ones.
//!
//! `tests/golden/v1` is a leader's folder: two topics; batches of 1, 256 and 300 entries; a reign that was closed in order and one that
//! lost its power in the middle of a batch of 600; three segments of 64 KiB. It has no LOCK (empty, made by the first opening for
//! writing). `expected.txt` says what was in it when it was made, block by block; the entries are those of [`entry`].

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use walrus_node::sim::{SimDisk, Survivors};
use walrus_node::{Engine, IoMode, Lsn, Options, ReadLimit, Role, Viewer};

/// The entries of a topic, by offset.
fn entry(topic: &str, offset: u64) -> Bytes {
    let filler = "=".repeat((offset % 7) as usize);
    Bytes::from(format!("{topic} {offset} {filler}"))
}

/// Topic and number of entries of each batch, by reign.
const BATCHES: [&[(&str, u64)]; 2] = [
    &[("orders", 1), ("orders", 256), ("größen", 300), ("orders", 1), ("größen", 1), ("orders", 300)],
    &[("orders", 1), ("größen", 256), ("orders", 1), ("größen", 1), ("orders", 20), ("größen", 300), ("orders", 1)],
];

fn folder_v1() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

fn options() -> Options {
    Options {
        segment_bytes_first: 64 << 10,
        segment_bytes_max: 64 << 10,
        io: io_mode(),
        seed: Some(1),
        ..Options::default()
    }
}

fn io_mode() -> IoMode {
    std::env::var("WALRUS_IO")
        .map_or(IoMode::Auto, |mode| mode.parse().expect("WALRUS_IO is auto, uring, syscall or mmap"))
}

/// Every file below a folder, by its path in there.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(root: &Path, folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in std::fs::read_dir(folder).expect("the folder can be read") {
            let path = entry.expect("it has an end").path();
            if path.is_dir() {
                walk(root, &path, files);
            } else {
                let name = path.strip_prefix(root).expect("below it").to_owned();
                files.insert(name, std::fs::read(&path).expect("the file can be read"));
            }
        }
    }
    let mut all = BTreeMap::new();
    walk(root, root, &mut all);
    all
}

/// A copy of the golden data folder on the real disk.
fn copy() -> tempfile::TempDir {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder can be made");
    for (name, bytes) in files(&folder_v1().join("data")) {
        let to = folder.path().join(name);
        std::fs::create_dir_all(to.parent().expect("it has one")).expect("a folder can be made");
        std::fs::write(to, bytes).expect("a file can be written");
    }
    folder
}

/// What a viewer shows, in the words of `expected.txt`.
fn describe(viewer: &Viewer) -> String {
    let verification = viewer.verification();
    let mut out = String::new();
    let role = viewer.role().map_or("none", Role::name);
    writeln!(out, "role {role}\nlog {}", viewer.log_id()).unwrap();
    writeln!(out, "durable_lsn {} chain {}", verification.durable_lsn, verification.chain).unwrap();
    writeln!(out, "blocks {} entries {}", verification.blocks, verification.entries).unwrap();
    writeln!(out, "segments {} torn_tail_bytes {}", verification.segments, verification.torn_tail_bytes).unwrap();
    for reign in viewer.lineage() {
        writeln!(out, "reign {} run {} from lsn {}", reign.epoch, reign.run_id, reign.start_lsn).unwrap();
    }
    for topic in viewer.topics() {
        writeln!(out, "topic {} {:?} {}..{}", topic.id, topic.name, topic.first_offset, topic.next_offset).unwrap();
    }
    let mut lsn = viewer.first_lsn();
    loop {
        let blocks = viewer.blocks(lsn).expect("every block can be read");
        let Some(last) = blocks.last() else { return out };
        lsn = Lsn::new(last.lsn.get() + 1);
        for block in blocks {
            let position = block.position.expect("a published block has a place");
            let entries = block.entries.len();
            writeln!(
                out,
                "block {} at {position} epoch {} ts_ns {} remaining {} chain {} bytes {} entries {entries}: {}",
                block.lsn, block.epoch, block.ts_ns, block.remaining, block.chain, block.bytes, block.what
            )
            .unwrap();
        }
    }
}

/// Every entry of every topic must be the one that was appended.
fn check_entries(read: impl Fn(&str, u64) -> Vec<walrus_node::LogEntry>, next_offsets: &[(String, u64)]) {
    let mut appended: BTreeMap<&str, u64> = BTreeMap::new();
    BATCHES.into_iter().flatten().for_each(|(topic, n)| *appended.entry(topic).or_default() += n);
    assert_eq!(next_offsets.len(), appended.len());
    for (topic, next_offset) in next_offsets {
        assert_eq!(appended[topic.as_str()], *next_offset, "{topic}");
        let mut offset = 0;
        while offset < *next_offset {
            for found in read(topic, offset) {
                assert_eq!((found.offset, found.payload), (offset, entry(topic, offset)), "{topic}");
                offset += 1;
            }
        }
    }
}

fn expected() -> String {
    std::fs::read_to_string(folder_v1().join("expected.txt")).expect("tests/golden/v1/expected.txt")
}

#[test]
fn a_folder_of_version_1_shows_what_was_in_it_and_looking_changes_nothing() {
    let folder = copy();
    let before = files(folder.path());
    let viewer = Viewer::open(folder.path(), io_mode()).expect("it opens for looking");
    assert!(viewer.verification().is_ok(), "{:?}", viewer.verification().damage);
    assert_eq!(describe(&viewer), expected());
    let next_offsets: Vec<_> = viewer.topics().into_iter().map(|topic| (topic.name, topic.next_offset)).collect();
    check_entries(|topic, offset| viewer.read(topic, offset, ReadLimit::default()).unwrap(), &next_offsets);
    drop(viewer);
    assert!(before == files(folder.path()), "looking has changed the folder");
}

#[test]
fn a_folder_of_version_1_is_taken_over_for_writing_with_all_its_history() {
    let folder = copy();
    let old = Viewer::open(folder.path(), io_mode()).expect("it opens for looking");
    let (end, chain, lineage) = (old.verification().durable_lsn, old.verification().chain, old.lineage());
    drop(old);

    let log = Engine::open(folder.path(), options()).expect("it opens for writing");
    assert_eq!(log.chain_before(end).unwrap(), Some(chain), "the history before the new reign is the old one");
    assert_eq!(log.lineage()[..lineage.len()], lineage[..]);
    assert_eq!(log.lineage().len(), lineage.len() + 1);
    let next_offsets: Vec<_> = log.topics().into_iter().map(|topic| (topic.name, topic.next_offset)).collect();
    check_entries(|topic, offset| log.read(topic, offset, ReadLimit::default()).unwrap(), &next_offsets);
    log.append("new", "of this version").unwrap().wait().unwrap();
    log.close().unwrap();
    drop(log);

    let quarantined = files(folder.path()).keys().filter(|name| name.starts_with("quarantine")).count();
    assert!(quarantined > 0, "the torn batch was set aside");
    let viewer = Viewer::open(folder.path(), io_mode()).unwrap();
    assert!(viewer.verification().is_ok() && viewer.verification().torn_tail_bytes == 0);
    assert_eq!(viewer.read("new", 0, ReadLimit::default()).unwrap()[0].payload, "of this version");
    check_entries(|topic, offset| viewer.read(topic, offset, ReadLimit::default()).unwrap(), &next_offsets);
}

#[test]
#[ignore = "writes tests/golden/v1: only once in the life of a version"]
fn write_the_folder_of_version_1() {
    assert!(!folder_v1().exists(), "a golden folder is never edited: remove it by hand if it was never released");
    let disk = SimDisk::new(1);
    let mut next: BTreeMap<&str, u64> = BTreeMap::new();
    for (reign, batches) in BATCHES.into_iter().enumerate() {
        let log = Engine::open_sim(&disk, Options { seed: Some(reign as u64 + 1), ..options() }).unwrap();
        for (topic, n) in batches {
            let from = next.entry(topic).or_default();
            let batch = (*from..*from + n).map(|offset| entry(topic, offset)).collect();
            *from += n;
            log.append_batch(topic, batch).unwrap().wait().unwrap();
        }
        if reign == 0 {
            log.close().unwrap();
            continue;
        }
        let before = disk.trace_len();
        let torn = (0..600).map(|i| Bytes::from(format!("never acknowledged {i}"))).collect();
        log.append_batch("orders", torn).unwrap().wait().unwrap();
        write_out(&tear(&disk, before..disk.trace_len()));
    }
}

/// A crash during the last batch, after which some of its later blocks are there and its first is not.
fn tear(disk: &SimDisk, during: std::ops::Range<usize>) -> SimDisk {
    let crashes =
        during.rev().flat_map(|at| (0..disk.pending_sectors(at)).map(move |sector| (at, Survivors::Missing(sector))));
    let torn = |crashed: &SimDisk| Viewer::open_sim(crashed).unwrap().verification().torn_tail_bytes > 4096;
    crashes.map(|(at, survivors)| disk.crash(at, &survivors)).find(torn).expect("some crash tears the batch")
}

fn write_out(disk: &SimDisk) {
    let root = folder_v1();
    for (name, _) in disk.files().into_iter().filter(|(name, _)| !name.ends_with(".tmp")) {
        let to = root.join("data").join(&name);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, disk.read_file(&name)).unwrap();
    }
    std::fs::write(root.join("expected.txt"), describe(&Viewer::open_sim(disk).unwrap())).unwrap();
}
