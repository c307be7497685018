//! A repair that accepts the loss: what lies before the damage is kept, what was cut never comes back, and a power cut anywhere in the
//! repair leaves a log that can be repaired.

use bytes::Bytes;
use walrus_node::sim::{SimDisk, Survivors, accept_loss_sim};
use walrus_node::{Engine, Lsn, OpenError, Viewer};

use crate::leader::options;
use crate::oracle::shown;

const ENTRIES: usize = 90;

fn entry(i: usize) -> Bytes {
    Bytes::from(format!("{i} {}", "x".repeat(1000 + i % 7)))
}

/// A log of several segments whose block of entry `at` is damaged.
fn damaged(at: usize) -> SimDisk {
    let disk = SimDisk::new(at as u64);
    let log = Engine::open_sim(&disk, options(3)).unwrap();
    let mut lsn = Lsn::FIRST;
    for i in 0..ENTRIES {
        let receipt = log.append("t", entry(i)).unwrap().wait().unwrap();
        if i == at {
            lsn = receipt.lsn;
        }
    }
    log.close().unwrap();
    drop(log);
    let viewer = Viewer::open_sim(&disk).unwrap();
    let position = viewer.blocks(lsn).unwrap()[0].position.unwrap();
    drop(viewer);
    let name = format!("wal/{:016x}.seg", position.segment().get());
    disk.flip_bit(&name, u64::from(position.offset()) + 200, 3);
    disk
}

/// The log ends with entry `kept`, is sound, and goes on.
fn check_repaired(disk: &SimDisk, kept: usize, what: &str) {
    let viewer = Viewer::open_sim(disk).unwrap_or_else(|error| panic!("{error}: {what}"));
    let entries = shown(&viewer).unwrap_or_else(|error| panic!("{error}: {what}"));
    assert_eq!(entries["t"].entries, (0..kept).map(entry).collect::<Vec<_>>(), "{what}");
    drop(viewer);
    for reign in 0..2 {
        let log = Engine::open_sim(disk, options(7 + reign)).unwrap_or_else(|error| panic!("{error}: {what}"));
        for i in 0..20 {
            log.append("after", entry(i)).unwrap().wait().unwrap();
        }
        assert_eq!(log.topic("t").unwrap().next_offset, kept as u64, "{what}");
        log.close().unwrap();
    }
    assert!(Viewer::open_sim(disk).unwrap().verification().is_ok(), "{what}");
}

#[test]
fn a_damaged_log_is_cut_off_at_its_last_whole_batch_and_everything_behind_is_kept_aside() {
    for at in [0, 1, 12, 40, ENTRIES - 1] {
        let disk = damaged(at);
        assert!(matches!(
            Engine::open_sim(&disk, walrus_node::Options { check_bytes_max: 1 << 30, ..options(1) }),
            Err(OpenError::Damaged(_))
        ));
        let repaired = accept_loss_sim(&disk).unwrap().expect("it is damaged");
        assert!(repaired.damage.is_some() && repaired.was_lsn > repaired.cut_lsn);
        assert!(!repaired.kept.is_empty());
        if at + 1 < ENTRIES && at > 0 {
            assert_eq!(repaired.lost, [("t".to_owned(), at as u64, ENTRIES as u64)]);
        }
        let kept: usize = repaired.kept.iter().map(|file| disk.read_file(file).len()).sum();
        assert!(kept >= (ENTRIES - at) * 1000, "{kept} bytes are kept");
        if at > 0 {
            check_repaired(&disk, at, &format!("damaged at {at}"));
        }
        assert!(accept_loss_sim(&disk).unwrap().is_none(), "nothing more to repair");
    }
}

#[test]
fn a_power_cut_anywhere_in_a_repair_leaves_a_log_that_can_be_repaired() {
    let damaged = damaged(40);
    let disk = damaged.copy();
    accept_loss_sim(&disk).unwrap().expect("it is damaged");
    for at in 0..=disk.trace_len() {
        for survivors in [Survivors::Nothing, Survivors::Everything, Survivors::Seeded(at as u64)] {
            let crashed = disk.crash(at, &survivors);
            let what = format!("cut before operation {at}, {survivors:?}");
            accept_loss_sim(&crashed).unwrap_or_else(|error| panic!("{error}: {what}"));
            check_repaired(&crashed, 40, &what);
        }
    }
}

#[test]
fn a_log_without_damage_is_left_as_it_is() {
    let disk = SimDisk::new(1);
    let log = Engine::open_sim(&disk, options(1)).unwrap();
    log.append("t", "x").unwrap().wait().unwrap();
    drop(log);
    let before = disk.trace_len();
    assert!(accept_loss_sim(&disk).unwrap().is_none());
    let harmless = |at| disk.op(at).contains("flush");
    assert!((before..disk.trace_len()).all(harmless), "something was changed");
}
