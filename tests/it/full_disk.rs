//! A file system that is full to the last byte: appends are rejected before they have an offset, nothing acknowledged is lost, the log
//! opens again, and goes on by itself once there is room.
//!
//! Method: a file system of 64 MiB of its own, in memory and on a loop device, with the log and a file that takes all the rest. That
//! takes root; without it the tests say that they are skipped, and fail under `WALRUS_REQUIRE_PRIVILEGED=1`. What a crash can leave
//! on a full disk is tried on the simulated one.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::Command;

use bytes::Bytes;
use walrus_node::sim::{Fault, FaultError, FaultKind, SimDisk, Survivors};
use walrus_node::{AppendError, Engine, IoMode, Lsn, Options, Receipt, SpaceState, TrimError, Viewer};

use crate::support::{folder, io_mode, payloads, until};

const DISK_BYTES: u64 = 64 << 20;
/// A 32nd of the disk.
const SEGMENT_BYTES: u64 = 2 << 20;

/// A file system that is unmounted when the test is over, however it ends.
struct Mount {
    folder: tempfile::TempDir,
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.at()).status();
    }
}

impl Mount {
    fn at(&self) -> PathBuf {
        self.folder.path().join("mnt")
    }

    fn data(&self) -> PathBuf {
        self.at().join("data")
    }

    fn tmpfs() -> Option<Mount> {
        let mount = Mount { folder: folder() };
        std::fs::create_dir(mount.at()).unwrap();
        let size = format!("size={DISK_BYTES}");
        mounted(run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(mount.at())), mount)
    }

    fn ext4() -> Option<Mount> {
        let mount = Mount { folder: folder() };
        std::fs::create_dir(mount.at()).unwrap();
        let image = mount.folder.path().join("image");
        File::create(&image).unwrap().set_len(DISK_BYTES).unwrap();
        // Nothing is set aside for root, who runs this.
        let made = run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image));
        let on_loop = |()| run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(mount.at()));
        mounted(made.and_then(on_loop), mount)
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

fn mounted(result: Result<(), String>, mount: Mount) -> Option<Mount> {
    let Err(why) = result else { return Some(mount) };
    let required = std::env::var_os("WALRUS_REQUIRE_PRIVILEGED").is_some_and(|value| value == "1");
    assert!(!required, "no file system to fill: {why}");
    println!("skipped: no file system to fill: {why}");
    None
}

/// Takes everything that is left.
fn fill(mount: &Mount) -> PathBuf {
    let path = mount.at().join("filler");
    let mut file = File::create(&path).unwrap();
    for piece in [1 << 20, 4096, 1] {
        let bytes = vec![0xff; piece];
        loop {
            match file.write(&bytes) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    file.sync_all().unwrap();
    path
}

/// Takes every byte that the log may have.
fn greedy() -> Options {
    Options { io: io_mode(), min_free: Some(0), ..Options::default() }
}

fn entry(n: u64) -> Bytes {
    Bytes::from(format!("{n} {}", "z".repeat(100_000)))
}

fn append(log: &Engine, n: u64) -> Result<Receipt, AppendError> {
    log.append("t", entry(n)).and_then(|ticket| ticket.wait())
}

/// Appends until the disk is full; returns the next offset.
fn append_until_full(log: &Engine, mut next: u64) -> u64 {
    loop {
        match append(log, next) {
            Ok(receipt) => assert_eq!(receipt.first_offset, next),
            Err(error) => {
                assert!(matches!(error, AppendError::Full { .. }) && error.is_retryable(), "{error}");
                return next;
            }
        }
        next += 1;
    }
}

fn assert_holds(log: &Engine, entries: u64) {
    assert!(payloads(log, "t").into_iter().eq((0..entries).map(entry)), "not all of {entries} entries are there");
}

fn a_full_disk_is_survived(mount: &Mount) {
    let log = Engine::open(&mount.data(), greedy()).unwrap();
    for n in 0..50 {
        append(&log, n).unwrap();
    }
    let filler = fill(mount);
    let acknowledged = append_until_full(&log, 50);
    for _ in 0..200 {
        assert!(matches!(append(&log, acknowledged), Err(AppendError::Full { .. })));
    }
    let status = log.status();
    assert_eq!((status.space, status.free_bytes, &status.halted), (SpaceState::Full, 0, &None), "{status:?}");
    assert!(status.warnings.iter().any(|warning| warning.contains("full")), "{:?}", status.warnings);
    assert_holds(&log, acknowledged);
    log.close().unwrap();
    drop(log);

    assert!(Viewer::open(&mount.data(), IoMode::Auto).unwrap().verification().is_ok());
    let log = Engine::open(&mount.data(), greedy()).unwrap();
    assert_holds(&log, acknowledged);
    // What is left of the last segment may be enough for one; the rest is rejected.
    let acknowledged = append_until_full(&log, acknowledged);
    match log.trim(log.tip().lsn) {
        Ok(_) => assert!(log.status().first_lsn > Lsn::FIRST),
        Err(error) => assert!(matches!(error, TrimError::Full { .. }), "{error}"),
    }
    let first = log.topic("t").unwrap().first_offset;
    assert_eq!(log.topic("t").unwrap().next_offset, acknowledged);

    std::fs::remove_file(filler).unwrap();
    let mut next = acknowledged;
    until("appends go on by themselves", || append(&log, next).map(|receipt| next = receipt.last_offset + 1).is_ok());
    assert_eq!(next, acknowledged + 1, "the rejected appends had no offset");
    for n in next..next + 50 {
        append(&log, n).unwrap();
    }
    assert_ne!(log.status().space, SpaceState::Full);
    log.trim(Lsn::FIRST).unwrap();
    let read = log.read("t", first, walrus_node::ReadLimit { entries: 1 << 20, bytes: usize::MAX }).unwrap();
    assert!(read.into_iter().map(|entry| entry.payload).eq((first..next + 50).map(entry)));
}

#[test]
fn a_full_file_system_in_memory_is_survived() {
    Mount::tmpfs().iter().for_each(a_full_disk_is_survived);
}

#[test]
fn a_full_ext4_is_survived() {
    Mount::ext4().iter().for_each(a_full_disk_is_survived);
}

fn a_log_that_keeps_its_size_goes_on(mount: &Mount) {
    let log = Engine::open(&mount.data(), Options { retain_bytes: Some(8 * SEGMENT_BYTES), ..greedy() }).unwrap();
    for n in 0..200 {
        append(&log, n).unwrap();
    }
    fill(mount);
    for n in 200..2_000 {
        append(&log, n).unwrap_or_else(|error| panic!("entry {n}: {error}; {:?}", log.status()));
    }
    assert_eq!(log.topic("t").unwrap().next_offset, 2_000);
    assert!(log.topic("t").unwrap().first_offset > 1_700);
    log.close().unwrap();
    drop(log);
    assert!(Viewer::open(&mount.data(), IoMode::Auto).unwrap().verification().is_ok());
}

#[test]
fn a_log_that_keeps_its_size_goes_on_for_three_times_the_disk_when_others_have_filled_it() {
    Mount::tmpfs().iter().for_each(a_log_that_keeps_its_size_goes_on);
    Mount::ext4().iter().for_each(a_log_that_keeps_its_size_goes_on);
}

#[test]
fn what_is_to_stay_free_stays_free() {
    let Some(mount) = Mount::tmpfs() else { return };
    let log = Engine::open(&mount.data(), Options { min_free: Some(8 << 20), ..greedy() }).unwrap();
    let acknowledged = append_until_full(&log, 0);
    let status = log.status();
    assert!((8 << 20..(8 << 20) + SEGMENT_BYTES).contains(&status.free_bytes), "{status:?}");
    assert_eq!(status.space, SpaceState::Full);
    assert_holds(&log, acknowledged);
    let first = log.trim(log.tip().lsn).unwrap();
    assert!(first > Lsn::FIRST);
    append(&log, acknowledged).expect("what was given away is used again at once");
}

/// A simulated disk with a full log on it: the last segment has no room for a single block.
fn full_to_the_last_block(disk: &SimDisk) -> Vec<Bytes> {
    let log = Engine::open_sim(disk, small_sim(1)).unwrap();
    let mut acknowledged = Vec::new();
    log.append("t", "first").unwrap().wait().unwrap();
    acknowledged.push(Bytes::from("first"));
    disk.set_capacity(disk.used_bytes());
    while let Ok(ticket) = log.append("t", format!("{}", acknowledged.len())) {
        match ticket.wait() {
            Ok(receipt) => acknowledged.push(Bytes::from(format!("{}", receipt.first_offset))),
            Err(error) => {
                assert!(matches!(error, AppendError::Full { .. }), "{error}");
                break;
            }
        }
    }
    assert_eq!(payloads(&log, "t"), acknowledged);
    log.close().unwrap();
    acknowledged
}

fn small_sim(seed: u64) -> Options {
    Options {
        segment_bytes_first: 64 << 10,
        segment_bytes_max: 64 << 10,
        min_free: Some(0),
        seed: Some(seed),
        ..Options::default()
    }
}

#[test]
fn a_log_without_room_for_its_reign_opens_and_the_first_append_that_finds_room_begins_it() {
    let disk = SimDisk::new(1);
    let acknowledged = full_to_the_last_block(&disk);
    for seed in 2..4 {
        let log = Engine::open_sim(&disk, small_sim(seed)).expect("a full disk is no reason not to open");
        assert_eq!(payloads(&log, "t"), acknowledged);
        assert_eq!(log.lineage().len(), 1);
        assert!(log.status().warnings.iter().any(|warning| warning.contains("reign")));
        let error = log.append("t", "more").unwrap_err();
        assert!(matches!(error, AppendError::Full { .. }), "{error}");
    }
    let log = Engine::open_sim(&disk, small_sim(9)).unwrap();
    disk.set_capacity(1 << 30);
    log.append("t", "more").unwrap().wait().unwrap();
    let reign = *log.lineage().last().unwrap();
    assert_eq!((log.lineage().len(), reign.epoch), (2, log.status().epoch));
    assert!(log.status().warnings.is_empty(), "{:?}", log.status().warnings);
    drop(log);
    let log = Engine::open_sim(&disk, small_sim(10)).unwrap();
    assert_eq!(payloads(&log, "t").len(), acknowledged.len() + 1);
}

#[test]
fn a_caller_in_a_loop_does_not_make_the_log_try_in_a_loop_and_the_next_one_after_that_succeeds() {
    let disk = SimDisk::new(11);
    let log = Engine::open_sim(&disk, small_sim(11)).unwrap();
    // There seems to be room, and there is none: a quota.
    disk.fail(Fault { kind: FaultKind::Create, nth: 1, error: FaultError::Full, from_then_on: true });
    let mut next = append_until_full(&log, 0);
    let before = disk.faults_fired();
    for _ in 0..2_000 {
        assert!(matches!(append(&log, next), Err(AppendError::Full { .. })));
    }
    let tried = disk.faults_fired() - before;
    assert!(tried < 500, "2000 appends made the log try {tried} times: it should be ten times a second");
    assert_eq!(log.status().space, SpaceState::Full);
    // The quota is raised, as far as a copy of the disk tells: its operations succeed.
    log.close().unwrap();
    let log = Engine::open_sim(&disk.copy(), small_sim(12)).unwrap();
    append(&log, next).unwrap();
    next += 1;
    assert_holds(&log, next);
}

#[test]
fn a_log_that_crashed_on_a_full_disk_opens_there_and_loses_nothing() {
    let disk = SimDisk::new(5);
    let log = Engine::open_sim(&disk, small_sim(5)).unwrap();
    let mut tickets = Vec::new();
    for n in 0..60 {
        // Three entries each, several groups in flight: a crash leaves blocks that have to be erased.
        let batch = (0..3).map(|i| Bytes::from(format!("{n}.{i} {}", "w".repeat(3_000)))).collect();
        tickets.push(log.append_batch("t", batch).unwrap());
        if n % 12 == 11 {
            for ticket in tickets.drain(..) {
                ticket.wait().unwrap();
            }
            disk.mark(3 * (n + 1));
        }
    }
    drop(log);
    let mut erased = 0;
    for at in 0..disk.trace_len() {
        for survivors in
            [Survivors::Everything, Survivors::Missing(0), Survivors::Missing(disk.pending_sectors(at) / 2)]
        {
            let crashed = disk.crash(at, &survivors);
            let Ok(viewer) = Viewer::open_sim(&crashed) else { continue };
            let torn = viewer.verification().torn_tail_bytes;
            drop(viewer);
            crashed.set_capacity(crashed.used_bytes());
            let log = Engine::open_sim(&crashed, small_sim(at as u64))
                .unwrap_or_else(|error| panic!("{error}, before {}", disk.op(at)));
            let warned = log.status().warnings.iter().any(|warning| warning.contains("erased without a copy"));
            let copied = crashed.files().iter().any(|(name, _)| name.starts_with("quarantine/open-"));
            assert!(torn == 0 || warned || copied, "{torn} bytes went without a copy and without a word");
            erased += usize::from(warned);
            let promised = disk.marks_before(at).into_iter().max().unwrap_or(0);
            let there = log.topic("t").map_or(0, |topic| topic.next_offset);
            assert!(there >= promised && there.is_multiple_of(3), "{there} of {promised}, before {}", disk.op(at));
        }
    }
    assert!(erased > 0, "no crash left something to erase, so nothing is proven");
}
