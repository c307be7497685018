//! Segments that are longer than the window past the hint. Found by the model: docs/decisions/0003.

use walrus_node::sim::{Fault, FaultError, FaultKind, SimDisk, Survivors, accept_loss_sim};
use walrus_node::{Engine, Lsn, OpenError, Options, Viewer};

use crate::support::{payloads, small};

fn options(seed: u64) -> Options {
    let bytes = 160 << 20;
    Options { segment_bytes_first: bytes, segment_bytes_max: bytes, seed: Some(seed), scrub: None, ..small() }
}

/// Appends durable entries: on a simulated disk that fails once, the one that is struck is written again.
fn append(log: &Engine, numbers: std::ops::Range<u32>) {
    for i in numbers {
        assert_eq!(log.append("t", format!("{i}")).unwrap().wait().unwrap().first_offset, u64::from(i));
    }
}

/// A log of twenty entries whose next write fails.
fn about_to_fail(seed: u64) -> (SimDisk, Engine) {
    let disk = SimDisk::new(seed);
    let log = Engine::open_sim(&disk, options(1)).unwrap();
    append(&log, 0..20);
    disk.fail(Fault { kind: FaultKind::Write, nth: 1, error: FaultError::Io, from_then_on: false });
    (disk, log)
}

/// A log that has survived a failed write, with forty entries.
struct FailedOnce {
    disk: SimDisk,
    log: Engine,
    /// The superblock as it was soon after the failure.
    superblock: Vec<u8>,
}

impl FailedOnce {
    /// On a busy machine the fault may strike a write of the keeper's, which makes spares and refreshes the hint: then once more.
    fn new() -> FailedOnce {
        (1..21).find_map(FailedOnce::of_seed).expect("one time in twenty a write of an append is struck")
    }

    fn of_seed(seed: u64) -> Option<FailedOnce> {
        let (disk, log) = about_to_fail(seed);
        log.append("t", "20").unwrap().wait().ok()?;
        if log.status().failures_survived == 0 {
            return None;
        }
        let superblock = disk.read_file("superblock");
        append(&log, 21..40);
        Some(FailedOnce { disk, log, superblock })
    }
}

#[test]
fn a_failure_in_the_first_half_of_a_long_segment_is_survived_and_what_was_written_again_is_found() {
    let FailedOnce { disk, log, .. } = FailedOnce::new();
    let killed = disk.copy();
    drop(log);
    let log = Engine::open_sim(&killed, options(2)).unwrap();
    let wanted: Vec<_> = (0..40).map(|i| i.to_string()).collect();
    assert!(payloads(&log, "t") == wanted);
}

#[test]
fn damage_behind_the_fence_in_a_long_segment_is_proven_by_what_lies_behind_it() {
    let FailedOnce { disk, log, superblock } = FailedOnce::new();
    // The keeper may have written the next hint late, past the damage to be: then the superblock would prove it.
    let killed = disk.copy_with("superblock", Some(&superblock));
    drop(log);
    // The last segment with blocks in it: those written again, and what came after them.
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

/// A log that was cut off while a group of two blocks was written again, in segment 2.
struct WritingAgain {
    /// As a power cut at any moment leaves it that spares what was submitted; in each the first of the two blocks is there, whole.
    cuts: Vec<SimDisk>,
    /// Where in segment 2, and what it looks like.
    range: std::ops::Range<usize>,
    whole: Vec<u8>,
}

impl WritingAgain {
    /// On a busy machine the fault may strike a write of the keeper's, which makes spares and refreshes the hint: then once more.
    fn new() -> WritingAgain {
        (3..23).find_map(WritingAgain::of_seed).expect("one time in twenty a write of an append is struck")
    }

    fn of_seed(seed: u64) -> Option<WritingAgain> {
        let (disk, log) = about_to_fail(seed);
        let from = disk.trace_len();
        let second = log.append_batch("t", vec!["x".into(); 300]).unwrap().wait().ok()?.lsn;
        if log.status().failures_survived == 0 {
            return None;
        }
        let until = disk.trace_len();
        drop(log);

        let viewer = Viewer::open_sim(&disk.copy()).unwrap();
        let places = viewer.blocks(Lsn::new(second.get() - 1)).unwrap();
        let [first, second] = [0, 1].map(|i| places[i].position.unwrap());
        assert_eq!((first.segment().get(), second.segment().get()), (2, 2));
        drop(viewer);
        let range = first.offset() as usize..second.offset() as usize;
        let whole = disk.read_file(SECOND)[range.clone()].to_vec();
        let mut writing = WritingAgain { cuts: Vec::new(), range, whole };
        let again = |at: &usize| disk.op(*at).contains("submitted") && disk.op(*at).contains("spare-2.tmp");
        let from = (from..until).find(again).expect("it is written again");
        let cuts = (from..=until).map(|at| disk.crash(at, &Survivors::Everything));
        writing.cuts = cuts.filter(|cut| writing.has_block(cut)).collect();
        Some(writing)
    }

    fn has_block(&self, disk: &SimDisk) -> bool {
        let there = disk.files().iter().any(|(name, _)| name == SECOND);
        there && disk.read_file(SECOND)[self.range.clone()] == self.whole
    }
}

const SECOND: &str = "wal/0000000000000002.seg";

/// Between the fence and the next hint, which soon follows into the new segment, only the way that does not count leads the search there.
#[test]
fn a_block_of_a_group_that_was_being_written_again_is_erased_by_the_next_open() {
    let writing = WritingAgain::new();
    let mut begun = 0;
    for cut in &writing.cuts {
        let log = Engine::open_sim(cut, options(2)).unwrap();
        let entries = payloads(&log, "t").len();
        drop(log);
        assert!(entries == 20 || entries == 320, "{entries}");
        if entries == 20 {
            begun += 1;
            assert!(!writing.has_block(cut), "a dead block is left that looks alive");
        }
    }
    assert!(begun > 0, "no cut left a part of the group, so nothing is proven");
}

/// The open may be cut short as well, with its own fence there and the block not erased. Found by the model: docs/decisions/0013.
#[test]
fn it_is_erased_by_the_open_after_one_that_was_cut_short_anywhere() {
    let writing = WritingAgain::new();
    let entries = |disk: &SimDisk| payloads(&Engine::open_sim(disk, options(2)).unwrap(), "t").len();
    let begun = writing.cuts.iter().find(|cut| entries(&cut.copy()) == 20).expect("a cut leaves a part of the group");
    let first_superblock = begun.read_file("superblock");

    let log = Engine::open_sim(begun, options(2)).unwrap();
    let until = begun.trace_len();
    drop(log);
    let mut between = 0;
    for at in 0..until {
        let cut_short = begun.crash(at, &Survivors::Everything);
        between += usize::from(cut_short.read_file("superblock") != first_superblock && writing.has_block(&cut_short));
        assert_eq!(entries(&cut_short), 20);
        let what = begun.op(at);
        assert!(!writing.has_block(&cut_short), "cut before {at} ({what}): a dead block is left that looks alive");
    }
    assert!(between > 0, "no cut lies between the fence and the erasure, so nothing is proven");
}

/// A fence moves the hint back to the cut, and an open looks for dead blocks only as far as the window past it.
#[test]
fn a_power_cut_around_the_fence_of_a_repair_leaves_no_block_alive_beyond_the_window() {
    let disk = SimDisk::new(4);
    let log = Engine::open_sim(&disk, options(1)).unwrap();
    let tickets: Vec<_> = (0..140).map(|_| log.append("t", vec![7; 1_000_000]).unwrap()).collect();
    let last = tickets.into_iter().map(|ticket| ticket.wait().unwrap().lsn).max().unwrap();
    log.close().unwrap();
    drop(log);
    let viewer = Viewer::open_sim(&disk.copy()).unwrap();
    let [early, last] = [Lsn::new(5), last].map(|lsn| viewer.blocks(lsn).unwrap()[0].position.unwrap());
    drop(viewer);
    assert_eq!((early.segment().get(), last.segment().get()), (1, 1));
    assert!(last.offset() - early.offset() > 128 << 20, "within the window nothing is proven");
    let name = "wal/0000000000000001.seg";
    let head = |disk: &SimDisk| disk.read_file(name)[last.offset() as usize..][..4096].to_vec();
    let alive = head(&disk);

    disk.flip_bit(name, u64::from(early.offset()) + 100, 1);
    let from = disk.trace_len();
    accept_loss_sim(&disk).unwrap().expect("it is damaged");
    let (until, mut opened) = (disk.trace_len(), 0);
    for at in (from..until).filter(|at| disk.op(*at).contains("superblock")).flat_map(|at| [at, at + 1]) {
        let cut = disk.crash(at, &Survivors::Everything);
        let Ok(log) = Engine::open_sim(&cut, Options { check_bytes_max: 1 << 30, ..options(2) }) else { continue };
        drop(log);
        opened += 1;
        assert!(head(&cut) != alive, "cut before operation {at} ({}): a dead block lives", disk.op(at.min(until - 1)));
    }
    assert!(opened > 0, "it can be opened once the fence is there");
}
