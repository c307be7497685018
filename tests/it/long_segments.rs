//! Segments that are longer than the window past the hint. Found by the model: docs/decisions/0003.

use walrus_node::sim::{Fault, FaultError, FaultKind, SimDisk};
use walrus_node::{Engine, OpenError, Options};

use crate::support::{payloads, small};

fn options(seed: u64) -> Options {
    let bytes = 256 << 20;
    Options { segment_bytes_first: bytes, segment_bytes_max: bytes, seed: Some(seed), scrub: None, ..small() }
}

/// Appends durable entries: on a simulated disk that fails once, the one that is struck is written again.
fn append(log: &Engine, numbers: std::ops::Range<u32>) {
    for i in numbers {
        assert_eq!(log.append("t", format!("{i}")).unwrap().wait().unwrap().first_offset, u64::from(i));
    }
}

fn failed_at(disk: &SimDisk, kind: FaultKind) -> Engine {
    let log = Engine::open_sim(disk, options(1)).unwrap();
    append(&log, 0..20);
    disk.fail(Fault { kind, nth: 1, error: FaultError::Io, from_then_on: false });
    append(&log, 20..21);
    assert_eq!(log.status().failures_survived, 1);
    append(&log, 21..40);
    log
}

#[test]
fn a_failure_in_the_first_half_of_a_long_segment_is_survived_and_what_was_written_again_is_found() {
    let disk = SimDisk::new(1);
    let log = failed_at(&disk, FaultKind::Write);
    let killed = disk.copy();
    drop(log);
    let log = Engine::open_sim(&killed, options(2)).unwrap();
    let wanted: Vec<_> = (0..40).map(|i| i.to_string()).collect();
    assert!(payloads(&log, "t") == wanted);
}

#[test]
fn damage_behind_the_fence_in_a_long_segment_is_proven_by_what_lies_behind_it() {
    let disk = SimDisk::new(2);
    let log = failed_at(&disk, FaultKind::Write);
    let killed = disk.copy();
    drop(log);
    // The last segment with blocks in it: those written again, and what came after them. The hint is at the fence's cut.
    let is_used = |name: &str| {
        let there = killed.files().iter().any(|(file, _)| file == name);
        there && killed.read_file(name)[4096..8192].iter().any(|byte| *byte != 0)
    };
    let name = (0..9).rev().map(|number| format!("wal/{number:016x}.seg")).find(|name| is_used(name)).unwrap();
    let bytes = killed.read_file(&name);
    let last = bytes.chunks(4096).take(40).rposition(|page| page.iter().any(|byte| *byte != 0)).unwrap();
    assert!(last > 12, "{name} has {last} pages");
    killed.flip_bit(&name, (last as u64 - 8) * 4096 + 100, 1);
    match Engine::open_sim(&killed, options(3)) {
        Err(OpenError::Damaged(damage)) => assert!(damage.reason.contains("was durable"), "{damage}"),
        other => panic!("the damage is taken for a torn end: {:?}", other.map(|log| log.status().durable_lsn)),
    }
}
