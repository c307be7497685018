//! Opening a log again: by its indexes, of which none is believed over the log.

use std::fs;
use std::path::{Path, PathBuf};

use walrus_node::sim::{SimDisk, Survivors};
use walrus_node::{Engine, OpenError, Options, ReadError, ReadLimit, Viewer};

use crate::support::{folder, io_mode, payloads, small};

/// A closed log of several segments of 256 KiB, with two topics, a staged batch and a large entry in it.
fn closed_log(path: &Path) -> Vec<bytes::Bytes> {
    let log = Engine::open(path, small()).unwrap();
    for i in 0..60 {
        log.append("t", format!("{i} {}", "x".repeat(20_000))).unwrap().wait().unwrap();
        log.append("u", format!("{i}")).unwrap().wait().unwrap();
    }
    let mut batch = log.begin_batch("t", Default::default()).unwrap();
    for i in 0..10 {
        batch.push(format!("fed {i} {}", "y".repeat(100_000))).unwrap();
    }
    batch.commit().unwrap().wait().unwrap();
    log.append("t", vec![b'z'; 600_000]).unwrap().wait().unwrap();
    let all = payloads(&log, "t");
    log.close().unwrap();
    all
}

fn files(path: &Path, folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(path.join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_log_is_the_same_by_its_indexes_without_them_and_with_damaged_or_old_ones() {
    let folder = folder();
    let all = closed_log(folder.path());
    let indexes = files(folder.path(), "idx");
    assert!(indexes.len() >= 5, "{indexes:?}");
    let reopened = |what: &str| {
        let log = Engine::open(folder.path(), small()).unwrap();
        assert!(payloads(&log, "t") == all, "{what}");
        assert_eq!(payloads(&log, "u").len(), 60, "{what}");
        log.close().unwrap();
    };
    reopened("as they are");
    flip(&indexes[1], 200);
    reopened("one is damaged");
    fs::copy(&indexes[0], &indexes[2]).unwrap();
    reopened("one is another segment's");
    indexes.iter().filter(|path| path.exists()).for_each(|path| fs::remove_file(path).unwrap());
    reopened("there are none");
    fs::write(folder.path().join("idx/0000000000000fff.idx"), "of a segment that is not there").unwrap();
    reopened("one too many");
    assert!(!folder.path().join("idx/0000000000000fff.idx").exists());
}

/// Nothing of an index is flushed when it is written: after a power cut its name may stand for any part of it.
#[test]
fn a_power_cut_that_loses_or_tears_indexes_costs_a_read_and_nothing_else() {
    let disk = SimDisk::new(1);
    let options = |seed| Options { seed: Some(seed), scrub: None, ..small() };
    let log = Engine::open_sim(&disk, options(1)).unwrap();
    for i in 0..250 {
        log.append("t", format!("{i}")).unwrap().wait().unwrap();
    }
    let all = payloads(&log, "t");
    log.close().unwrap();
    let (end, is_index) = (disk.trace_len(), |name: &str| name.ends_with(".idx"));
    let whole: Vec<_> = disk.files().into_iter().filter(|(name, _)| is_index(name)).collect();
    assert!(whole.len() >= 3, "{whole:?}");
    let mut torn = 0;
    for item in 0..disk.pending_sectors(end) {
        for survivors in [Survivors::Prefix(item), Survivors::Missing(item), Survivors::Only(item)] {
            let cut = disk.crash(end, &survivors);
            let left = cut.files().into_iter().filter(|(name, _)| is_index(name));
            torn += left.filter(|(name, _)| cut.read_file(name) != disk.read_file(name)).count();
            let log = Engine::open_sim(&cut, options(2)).unwrap();
            assert!(payloads(&log, "t") == all, "{survivors:?}");
        }
    }
    assert!(torn >= whole.len(), "{torn} indexes were torn");
}

#[test]
fn opening_a_clean_folder_touches_no_segment_but_the_last_and_a_read_finds_what_is_damaged() {
    let folder = folder();
    closed_log(folder.path());
    // The whole of the first segment but its length is gone: whoever looked at it would notice.
    let first = &files(folder.path(), "wal")[0];
    let length = fs::metadata(first).unwrap().len() as usize;
    fs::write(first, vec![0xee; length]).unwrap();

    let log = Engine::open(folder.path(), small()).unwrap();
    let Err(ReadError::Damaged { damage, .. }) = log.read("t", 0, ReadLimit::default()) else {
        panic!("it was served")
    };
    assert_eq!(damage.segment.get(), 1);
    assert!(log.read("t", 50, ReadLimit::default()).is_ok(), "the rest can be read");
    log.append("t", "goes on").unwrap().wait().unwrap();
    log.close().unwrap();
    drop(log);

    assert!(!Viewer::open(folder.path(), io_mode()).unwrap().verification().is_ok());
    let whole = Options { check_bytes_max: 1 << 30, ..small() };
    assert!(matches!(Engine::open(folder.path(), whole), Err(OpenError::Damaged(_))), "asked to look at all of it");
}
