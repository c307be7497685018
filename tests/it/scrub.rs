//! The scrub: rot in what is sealed is found while the log runs, told, and nothing else is taken for it.

use std::time::{Duration, Instant};

use walrus_node::sim::SimDisk;
use walrus_node::{Engine, Lsn, Options, ReadError, ReadLimit, ScrubPace, Status};

use crate::support::small;

/// Without a rest.
const EAGER: ScrubPace = ScrubPace { bytes_per_second: u64::MAX, every: Duration::ZERO };

fn options() -> Options {
    Options { scrub: Some(EAGER), seed: Some(1), ..small() }
}

/// Waits for a status. The scrub goes round and round, so it comes; a minute is for a test that fails.
fn until(log: &Engine, is: impl Fn(&Status) -> bool) -> Status {
    let patience = Instant::now() + Duration::from_secs(60);
    loop {
        let status = log.status();
        if is(&status) {
            return status;
        }
        assert!(Instant::now() < patience, "{:?}", status.scrubbed);
        std::thread::yield_now();
    }
}

/// Until another pass has begun and ended.
fn another_pass(log: &Engine) -> Status {
    let now = log.status().scrubbed.passes;
    until(log, |status| status.scrubbed.passes >= now + 2)
}

fn fill(log: &Engine, entries: usize) {
    for i in 0..entries {
        log.append("t", vec![i as u8; 1000]).unwrap().wait().unwrap();
    }
}

#[test]
fn a_bit_that_has_turned_over_is_found_told_once_and_costs_that_block_only() {
    let disk = SimDisk::new(1);
    let log = Engine::open_sim(&disk, options()).unwrap();
    fill(&log, 300);
    let sound = another_pass(&log).scrubbed;
    assert!(sound.bytes > 0 && sound.damaged_blocks == 0, "{sound:?}");

    let offset = 10 * 4096 + 200;
    disk.flip_bit("wal/0000000000000001.seg", offset, 3);
    let status = until(&log, |status| status.scrubbed.damaged_blocks > 0);
    assert_eq!(another_pass(&log).scrubbed.damaged_blocks, 1, "once, whatever the number of passes");
    let damage = status.scrubbed.damage[0].clone();
    assert_eq!((damage.segment.get(), u64::from(damage.file_offset)), (1, offset - 200));
    let warned = status.warnings.iter().find(|warning| warning.contains("1 block is damaged on this disk"));
    assert!(warned.unwrap().contains("file offset 40960"), "{warned:?}");

    let one = |offset| log.read("t", offset, ReadLimit { entries: 1, ..ReadLimit::default() });
    let unreadable: Vec<_> = (0..300).filter_map(|offset| one(offset).err()).collect();
    assert!(
        matches!(&unreadable[..], [ReadError::Damaged { damage: found, .. }] if *found == damage),
        "{unreadable:?}"
    );
    fill(&log, 10);
}

#[test]
fn damage_is_forgotten_when_retention_has_given_it_away() {
    let disk = SimDisk::new(2);
    let log = Engine::open_sim(&disk, options()).unwrap();
    fill(&log, 300);
    disk.flip_bit("wal/0000000000000001.seg", 4096 + 100, 0);
    let found = until(&log, |status| status.scrubbed.damaged_blocks > 0).scrubbed.damage[0].lsn;
    let first = log.trim(log.status().durable_lsn).unwrap();
    assert!(first > found);
    let status = another_pass(&log);
    assert_eq!((status.scrubbed.damaged_blocks, status.scrubbed.damage.len()), (0, 0));
    assert!(!status.warnings.iter().any(|warning| warning.contains("damaged")));
}

#[test]
fn nothing_is_found_in_a_sound_log_that_is_appended_to_packed_and_recycled_meanwhile() {
    let disk = SimDisk::new(3);
    let log = Engine::open_sim(&disk, Options { retain_bytes: Some(900 << 10), ..options() }).unwrap();
    for round in 0..20 {
        fill(&log, 100);
        if round % 3 == 1 {
            log.pack();
        }
    }
    let status = another_pass(&log);
    assert!(status.packed_bytes_saved > 0 && status.first_lsn > Lsn::new(500), "{status:?}");
    assert!(status.scrubbed.damaged_blocks == 0 && status.scrubbed.passes > 2, "{:?}", status.scrubbed);
    log.close().unwrap();
    drop(log);
    let log = Engine::open_sim(&disk, options()).unwrap();
    assert_eq!(another_pass(&log).scrubbed.damaged_blocks, 0);
    let topic = log.topic("t").unwrap();
    assert!(topic.next_offset - topic.first_offset > 100);
}

#[test]
fn a_log_without_a_scrub_has_none() {
    let disk = SimDisk::new(4);
    let log = Engine::open_sim(&disk, Options { scrub: None, ..options() }).unwrap();
    fill(&log, 100);
    log.close().unwrap();
    assert_eq!((log.status().scrubbed.passes, log.status().scrubbed.bytes), (0, 0));
}
