//! What the simulated disk loses, and what it never loses.
//!
//! Method: small traces, every crash point, and all survivors where that can be enumerated; then random runs against facts
//! that hold for each of them.

use std::collections::BTreeSet;
use std::time::Instant;

use super::*;
use crate::storage::{AlignedBuf, File, Queue};

const PAGE: usize = ALIGN_MIN;

struct Rig {
    sim: SimDisk,
    disk: Disk,
    file: File,
    queue: Queue,
}

/// A disk with a durable file of `pages` pages of `0`s.
fn rig(seed: u64, pages: usize) -> Rig {
    let sim = SimDisk::new(seed);
    let disk = sim.open(Access::Write).unwrap();
    let file = disk.create("file", (pages * PAGE) as u64).unwrap();
    file.flush().unwrap();
    disk.flush_folder("").unwrap();
    let queue = disk.queue().unwrap();
    Rig { sim, disk, file, queue }
}

impl Rig {
    fn submit(&mut self, token: u64, page: usize, byte: u8, sync: Sync) {
        let mut slot = self.queue.slot(PAGE).unwrap();
        self.queue.slot_bytes(&mut slot)[..PAGE].fill(byte);
        self.queue.write(Token(token), &self.file, (page * PAGE) as u64, slot, PAGE, sync);
    }

    fn write(&mut self, page: usize, byte: u8, sync: Sync) {
        self.submit(u64::MAX, page, byte, sync);
        self.finish().pop().unwrap().result.unwrap();
    }

    fn finish(&mut self) -> Vec<Completion> {
        let mut done = Vec::new();
        while self.queue.in_flight() > 0 {
            self.queue.wait(&mut done);
        }
        done
    }

    fn end(&self) -> usize {
        self.sim.trace_len()
    }

    /// The file's first sectors, a byte each, in every state that a power cut before `at` can leave, tried exhaustively.
    fn all_states(&self, at: usize) -> BTreeSet<Vec<u8>> {
        let items = self.sim.pending_sectors(at);
        assert!(items <= 16, "{items} items are too many to try");
        let mut state = self.sim.state();
        let image = state.image(at);
        let each = (0..1u32 << items).map(|chosen| {
            let disk = SimDisk::from_image(0, image.cut(|item| chosen >> item & 1 == 1));
            disk.read_file("file").chunks(SECTOR).map(|sector| sector[0]).collect()
        });
        each.collect()
    }
}

use content::SECTOR;

#[test]
fn an_unflushed_write_may_be_there_in_any_subset_of_its_sectors() {
    let mut rig = rig(1, 1);
    rig.write(0, 7, Sync::Lazy);
    let states = rig.all_states(rig.end());
    assert_eq!(states.len(), 256);
    assert!(states.contains(&vec![0; 8]) && states.contains(&vec![7; 8]));
    assert!(states.contains(&vec![0, 7, 0, 0, 7, 7, 0, 7]));
}

#[test]
fn a_flushed_write_is_never_lost() {
    let mut rig = rig(2, 1);
    rig.write(0, 7, Sync::Lazy);
    rig.file.flush().unwrap();
    let end = rig.end();
    assert_eq!(rig.all_states(end), [vec![7; 8]].into());
    assert!(rig.all_states(end - 1).len() > 1, "a flush that has only begun promises nothing");
}

#[test]
fn a_durable_write_is_there_by_itself_when_it_completes() {
    let mut rig = rig(3, 2);
    rig.write(1, 5, Sync::Lazy);
    rig.write(0, 7, Sync::Durable);
    assert!(rig.all_states(rig.end()).iter().all(|state| state[..8] == [7; 8]));
    assert_eq!(rig.all_states(rig.end()).len(), 256, "it covers only itself");
}

#[test]
fn a_flush_does_not_cover_a_write_that_was_in_flight_when_it_began() {
    // Whichever of the two completes first.
    let mut orders = BTreeSet::new();
    for seed in 0..20 {
        let mut rig = rig(seed, 1);
        rig.submit(1, 0, 7, Sync::Lazy);
        let file = rig.file.clone();
        rig.queue.flush(Token(2), &file);
        orders.insert(rig.finish()[0].token.0);
        assert_eq!(rig.all_states(rig.end()).len(), 256);
    }
    assert_eq!(orders, [1, 2].into(), "the seed decides the order");
}

#[test]
fn after_a_failed_flush_no_later_one_brings_the_bytes_back() {
    let mut rig = rig(4, 1);
    rig.sim.fail(Fault { kind: FaultKind::Flush, nth: 1, error: FaultError::Io, from_then_on: false });
    rig.write(0, 7, Sync::Lazy);
    assert!(rig.file.flush().is_err());
    rig.file.flush().unwrap();
    assert_eq!(rig.sim.read_file("file"), [7; PAGE], "programs see them");
    assert_eq!(rig.all_states(rig.end()).len(), 256, "a power cut may not");
    rig.write(0, 9, Sync::Lazy);
    rig.file.flush().unwrap();
    assert_eq!(rig.all_states(rig.end()), [vec![9; 8]].into(), "writing again is what helps");
}

#[test]
fn an_older_write_never_comes_back_over_a_durable_newer_one() {
    let mut rig = rig(5, 1);
    rig.write(0, 1, Sync::Lazy);
    rig.write(0, 2, Sync::Durable);
    assert_eq!(rig.all_states(rig.end()), [vec![2; 8]].into());
    rig.sim.fail(Fault { kind: FaultKind::Flush, nth: 1, error: FaultError::Io, from_then_on: false });
    rig.write(0, 3, Sync::Lazy);
    rig.write(0, 4, Sync::Durable);
    assert!(rig.file.flush().is_err());
    assert_eq!(rig.all_states(rig.end()), [vec![4; 8]].into());
}

#[test]
fn a_sector_written_twice_unflushed_may_hold_any_of_the_three() {
    let mut rig = rig(6, 1);
    rig.write(0, 1, Sync::Lazy);
    rig.write(0, 2, Sync::Lazy);
    let first: BTreeSet<u8> = rig.all_states(rig.end()).iter().map(|state| state[0]).collect();
    assert_eq!(first, [0, 1, 2].into());
}

fn names(sim: &SimDisk) -> Vec<String> {
    sim.files().into_iter().map(|(name, _)| name).collect()
}

#[test]
fn an_unflushed_rename_may_be_lost_and_a_flushed_one_never() {
    let rig = rig(7, 1);
    rig.disk.rename("file", "renamed").unwrap();
    let end = rig.end();
    assert_eq!(rig.sim.pending_sectors(end), 1);
    assert_eq!(names(&rig.sim.crash(end, &Survivors::Nothing)), ["file"]);
    assert_eq!(names(&rig.sim.crash(end, &Survivors::Everything)), ["renamed"]);
    rig.disk.flush_folder("").unwrap();
    assert_eq!(names(&rig.sim.crash(rig.end(), &Survivors::Nothing)), ["renamed"]);
}

#[test]
fn names_of_a_folder_survive_as_a_prefix_of_their_order() {
    let rig = rig(8, 1);
    rig.disk.create("a", 0).unwrap();
    rig.disk.create("b", 0).unwrap();
    rig.disk.remove("file").unwrap();
    let at = |survivors| names(&rig.sim.crash(rig.end(), &survivors));
    assert_eq!(at(Survivors::Missing(1)), ["a", "file"], "what is behind a lost name is lost with it");
    assert_eq!(at(Survivors::Only(2)), ["file"]);
    assert_eq!(at(Survivors::Prefix(2)), ["a", "b", "file"]);
    assert_eq!(at(Survivors::Everything), ["a", "b"]);
}

#[test]
fn a_file_is_lost_with_its_folder_and_moved_by_a_flush_of_either() {
    let rig = rig(9, 1);
    rig.disk.make_folder("wal").unwrap();
    rig.disk.make_folder("quarantine").unwrap();
    rig.disk.create("wal/1", 0).unwrap();
    rig.disk.flush_folder("wal").unwrap();
    assert_eq!(names(&rig.sim.crash(rig.end(), &Survivors::Nothing)), ["file"], "wal itself is not durable");
    rig.disk.flush_folder("").unwrap();
    assert_eq!(names(&rig.sim.crash(rig.end(), &Survivors::Nothing)), ["file", "wal/1"]);
    rig.disk.rename("wal/1", "quarantine/1").unwrap();
    rig.disk.create("wal/2", 0).unwrap();
    rig.disk.flush_folder("wal").unwrap();
    assert_eq!(names(&rig.sim.crash(rig.end(), &Survivors::Nothing)), ["file", "quarantine/1", "wal/2"]);
}

#[test]
fn a_new_file_has_its_size_when_it_is_flushed() {
    let rig = rig(10, 1);
    let new = rig.disk.create("new", 2 * PAGE as u64).unwrap();
    rig.disk.flush_folder("").unwrap();
    let size = |sim: SimDisk| sim.files().into_iter().find(|(name, _)| name == "new").map(|(_, size)| size);
    assert_eq!(size(rig.sim.crash(rig.end(), &Survivors::Nothing)), Some(0));
    new.write_at(&AlignedBuf::new(PAGE), PAGE, 0).unwrap();
    assert_eq!(size(rig.sim.crash(rig.end(), &Survivors::Only(3))), Some(3 * SECTOR as u64));
    new.flush().unwrap();
    assert_eq!(size(rig.sim.crash(rig.end(), &Survivors::Nothing)), Some(2 * PAGE as u64));
}

#[test]
fn a_small_file_is_the_old_or_the_new_one_at_every_crash_point() {
    let rig = rig(11, 1);
    rig.disk.replace_small("base", &[1; 700]).unwrap();
    let start = rig.end();
    rig.disk.replace_small("base", &[2; 1300]).unwrap();
    for at in start..=rig.end() {
        for item in 0..=rig.sim.pending_sectors(at) {
            for survivors in [Survivors::Prefix(item), Survivors::Missing(item), Survivors::Only(item)] {
                let base = rig.sim.crash(at, &survivors).read_file("base");
                assert!(
                    base == [1; 700] || base == [2; 1300],
                    "{survivors:?} before {}",
                    rig.sim.op(at.min(rig.end() - 1))
                );
            }
        }
    }
    assert_eq!(rig.sim.crash(rig.end(), &Survivors::Nothing).read_file("base"), [2; 1300]);
}

#[test]
fn a_file_replaced_lazily_is_whole_after_a_kill_and_anything_after_a_power_cut() {
    let rig = rig(13, 1);
    rig.disk.replace_small("base", &[1; 1300]).unwrap();
    rig.disk.replace_lazily("base", &[2; 1300]).unwrap();
    assert_eq!(rig.sim.kill(rig.end(), 1).read_file("base"), [2; 1300]);
    let base = |survivors| rig.sim.crash(rig.end(), &survivors).read_file("base");
    assert_eq!(base(Survivors::Nothing), [1; 1300]);
    assert_eq!(base(Survivors::Everything), [2; 1300]);
    // Its name may be durable before its content is.
    rig.disk.flush_folder("").unwrap();
    let base = |survivors| rig.sim.crash(rig.end(), &survivors).read_file("base");
    assert_eq!(base(Survivors::Nothing), [0; 0]);
    let torn = base(Survivors::Missing(0));
    assert!(torn.len() == 1300 && torn[..SECTOR] != [2; SECTOR] && torn[SECTOR..] == [2; 1300 - SECTOR], "{torn:?}");
}

#[test]
fn a_killed_process_leaves_what_was_complete_and_no_more_of_it_durable() {
    let mut rig = rig(12, 2);
    rig.write(0, 7, Sync::Lazy);
    rig.submit(1, 1, 8, Sync::Durable);
    let mut landed = BTreeSet::new();
    for seed in 0..64 {
        let next = rig.sim.kill(rig.end(), seed);
        let sectors: Vec<u8> = next.read_file("file").chunks(SECTOR).map(|sector| sector[0]).collect();
        assert_eq!(sectors[..8], [7; 8]);
        landed.insert(sectors[8..].to_vec());
        // The next process crashes in its turn, or flushes first.
        assert_eq!(next.crash(0, &Survivors::Nothing).read_file("file"), [0; 2 * PAGE]);
        let disk = next.open(Access::Write).unwrap();
        disk.open_file("file").unwrap().flush().unwrap();
        assert_eq!(next.crash(next.trace_len(), &Survivors::Nothing).read_file("file"), next.read_file("file"));
    }
    assert!(landed.len() > 32, "what was in flight lands in parts");
}

#[test]
fn an_injected_fault_fires_when_it_should_and_is_counted() {
    let mut rig = rig(13, 4);
    for (kind, error) in
        [(FaultKind::Write, FaultError::Full), (FaultKind::Create, FaultError::Full), (FaultKind::Read, FaultError::Io)]
    {
        rig.sim.fail(Fault { kind, nth: 2, error, from_then_on: false });
    }
    for token in 0..3 {
        rig.submit(token, token as usize, 7, Sync::Lazy);
    }
    let mut done = rig.finish();
    done.sort_by_key(|completion| completion.token.0);
    let failed: Vec<bool> = done.iter().map(|completion| completion.result.is_err()).collect();
    assert_eq!(failed, [false, true, false]);
    assert!(done[1].result.as_ref().unwrap_err().is_full());
    assert_eq!(rig.sim.faults_fired(), 1);
    assert!(rig.disk.create("a", 0).is_ok());
    assert!(rig.disk.create("b", 0).unwrap_err().is_full());
    assert_eq!(names(&rig.sim), ["a", "file"]);
    let mut buf = [0; PAGE];
    rig.file.read_at(&mut buf, 0).unwrap();
    assert!(rig.file.read_at(&mut buf, 0).is_err());
    assert_eq!(rig.sim.faults_fired(), 3);

    rig.sim.fail(Fault { kind: FaultKind::Flush, nth: 1, error: FaultError::Io, from_then_on: true });
    assert!(rig.file.flush().is_err() && rig.file.flush().is_err());
    assert!(rig.disk.replace_small("base", b"x").is_err());
    assert_eq!(names(&rig.sim), ["a", "file"]);
    assert_eq!(rig.sim.faults_fired(), 6);
}

#[test]
fn of_a_failed_write_any_part_may_be_there_and_of_a_short_one_a_first_part() {
    let mut rig = rig(14, 1);
    rig.sim.fail(Fault { kind: FaultKind::Write, nth: 1, error: FaultError::Short, from_then_on: false });
    rig.submit(1, 0, 7, Sync::Durable);
    assert_eq!(rig.finish()[0].result.as_ref().unwrap_err().kind(), io::ErrorKind::WriteZero);
    let states = rig.all_states(rig.end());
    assert!(states.iter().all(|state| state[7] == 0), "a short write is not whole");
    rig.sim.fail(Fault { kind: FaultKind::Write, nth: 1, error: FaultError::Io, from_then_on: false });
    rig.submit(1, 0, 9, Sync::Durable);
    assert!(rig.finish()[0].result.is_err());
    let states = rig.sim.pending_sectors(rig.end());
    assert!(states >= 8);
}

#[test]
fn a_flipped_bit_is_there_for_programs_and_after_a_crash() {
    let mut rig = rig(15, 1);
    rig.write(0, 0b0100, Sync::Durable);
    rig.sim.flip_bit("file", 3, 2);
    assert_eq!(rig.sim.read_file("file")[..5], [4, 4, 4, 0, 4]);
    assert_eq!(rig.sim.crash(rig.end(), &Survivors::Nothing).read_file("file")[..5], [4, 4, 4, 0, 4]);
    assert_eq!(rig.sim.copy().read_file("file")[..5], [4, 4, 4, 0, 4]);
}

#[test]
fn marks_stand_where_they_were_noted() {
    let mut rig = rig(16, 1);
    rig.sim.mark(17);
    let between = rig.end();
    rig.write(0, 1, Sync::Durable);
    rig.sim.mark(18);
    assert_eq!(rig.sim.marks_before(between - 1), [0; 0]);
    assert_eq!(rig.sim.marks_before(between), [17]);
    assert_eq!(rig.sim.marks_before(rig.end()), [17, 18]);
    assert_eq!(rig.sim.op(between), format!("write #{between} submitted: file 0+4096 durable"));
    assert_eq!(rig.sim.op(rig.end() - 1), "mark 18");
}

/// A long run of everything, in an order and with completions drawn from the seed.
fn random_run(seed: u64) -> SimDisk {
    let mut rig = rig(seed, 16);
    let mut random = Random(!seed);
    rig.disk.make_folder("wal").unwrap();
    // By token: writes in flight may not overlap.
    let mut pages = BTreeMap::new();
    let mut done = Vec::new();
    for step in 0..200 {
        for completion in done.drain(..) {
            let Completion { token: Token(token), result } = completion;
            result.unwrap();
            pages.remove(&token);
        }
        let page = random.below(16);
        match random.below(12) {
            0..5 if pages.values().all(|busy| *busy != page) => {
                let sync = if random.coin() { Sync::Lazy } else { Sync::Durable };
                rig.submit(step, page, step as u8, sync);
                pages.insert(step, page);
            }
            5..7 => {
                let file = rig.file.clone();
                rig.queue.flush(Token(step), &file);
            }
            7 => drop(rig.disk.create(&format!("wal/{}", random.below(6)), 4 * PAGE as u64)),
            8 => drop(rig.disk.rename(&format!("wal/{}", random.below(6)), &format!("moved-{}", random.below(3)))),
            9 => drop(rig.disk.remove(&format!("wal/{}", random.below(6)))),
            10 => rig.disk.flush_folder(if random.coin() { "" } else { "wal" }).unwrap(),
            _ => rig.queue.poll(&mut done),
        }
    }
    rig.finish();
    rig.sim
}

fn dump(sim: &SimDisk) -> Vec<(String, Vec<u8>)> {
    sim.files().into_iter().map(|(name, _)| (name.clone(), sim.read_file(&name))).collect()
}

#[test]
fn the_crash_images_of_one_trace_are_deterministic() {
    for seed in 0..4 {
        let (one, two) = (random_run(seed), random_run(seed));
        assert_eq!(one.trace_len(), two.trace_len());
        // One goes forward, the other back, so it replays from the start each time.
        let ats: Vec<usize> = (0..=one.trace_len()).step_by(7).collect();
        let survivors = Survivors::Seeded(seed);
        let forward: Vec<_> = ats.iter().map(|at| dump(&one.crash(*at, &survivors))).collect();
        let mut back: Vec<_> = ats.iter().rev().map(|at| dump(&two.crash(*at, &survivors))).collect();
        back.reverse();
        assert!(forward == back);
    }
}

#[test]
fn if_everything_survives_programs_find_what_they_saw() {
    for seed in 0..50 {
        let sim = random_run(seed);
        let end = sim.trace_len();
        let all = dump(&sim.crash(end, &Survivors::Everything));
        assert!(all == dump(&sim), "seed {seed}");
        assert!(all == dump(&sim.crash(end, &Survivors::Prefix(sim.pending_sectors(end)))));
        assert!(all == dump(&sim.kill(end, seed)));
        assert!(all == dump(&sim.copy()));
        let nothing = dump(&sim.crash(end, &Survivors::Nothing));
        assert!(nothing == dump(&sim.crash(end, &Survivors::Prefix(0))));
        assert!(nothing == dump(&sim.kill(end, seed).crash(0, &Survivors::Nothing)), "a kill makes nothing durable");
    }
}

#[test]
fn a_crashed_disk_lives_on_and_crashes_again() {
    let sim = random_run(3);
    let second = sim.crash(sim.trace_len() / 2, &Survivors::Seeded(1));
    let before = dump(&second);
    let disk = second.open(Access::Write).unwrap();
    disk.replace_small("base", b"second life").unwrap();
    let third = second.crash(second.trace_len(), &Survivors::Nothing);
    assert_eq!(third.read_file("base"), b"second life");
    assert!(dump(&third).into_iter().filter(|(name, _)| name != "base").eq(before));
}

#[test]
fn a_full_disk_takes_nothing_new_and_what_is_there_can_be_written_again() {
    let sim = SimDisk::new(9);
    let disk = sim.open(Access::Write).unwrap();
    let file = disk.create("file", 4 * PAGE as u64).unwrap();
    disk.replace_small("base", b"old").unwrap();
    sim.set_capacity(sim.used_bytes());
    assert_eq!(disk.available_bytes().unwrap(), 0);
    assert!(disk.create("other", PAGE as u64).unwrap_err().is_full());
    assert!(disk.make_folder("folder").unwrap_err().is_full());
    assert!(disk.replace_small("base", b"new").unwrap_err().is_full());
    assert_eq!(sim.read_file("base"), b"old");
    file.write_at(&AlignedBuf::new(PAGE), PAGE, 0).unwrap();
    disk.rename("file", "renamed").unwrap();
    disk.remove("renamed").unwrap();
    assert_eq!(disk.available_bytes().unwrap(), 4 * PAGE as u64);
    disk.create("other", PAGE as u64).unwrap();
}

#[test]
fn faults_strike_names_too_and_change_nothing() {
    let sim = SimDisk::new(10);
    let disk = sim.open(Access::Write).unwrap();
    disk.create("file", PAGE as u64).unwrap();
    for kind in [FaultKind::Rename, FaultKind::Remove, FaultKind::FlushFolder] {
        sim.fail(Fault { kind, nth: 1, error: FaultError::Io, from_then_on: false });
    }
    assert!(disk.rename("file", "other").is_err() && disk.remove("file").is_err() && disk.flush_folder("").is_err());
    assert_eq!(sim.files(), [("file".to_owned(), PAGE as u64)]);
    disk.rename("file", "other").unwrap();
    sim.fail(Fault { kind: FaultKind::Rename, nth: 1, error: FaultError::Io, from_then_on: false });
    assert!(disk.replace_small("small", b"text").is_err());
    assert_eq!(sim.files(), [("other".to_owned(), PAGE as u64)]);
}

/// No test asserts a time; this one prints it, since a crash enumerator stands or falls with it.
#[test]
fn tens_of_thousands_of_crashes_are_cheap() {
    let sim = SimDisk::new(1);
    let disk = sim.open(Access::Write).unwrap();
    disk.make_folder("wal").unwrap();
    let segments: Vec<File> =
        (0..4).map(|number| disk.create(&format!("wal/{number:016x}.seg"), 64 << 10).unwrap()).collect();
    let mut queue = disk.queue().unwrap();
    for (step, page) in (0..4 * 16).enumerate() {
        let slot = queue.slot(PAGE).unwrap();
        queue.write(Token(step as u64), &segments[page / 16], (page % 16 * PAGE) as u64, slot, PAGE, Sync::Lazy);
        if step % 4 == 3 {
            queue.flush(Token(1000 + step as u64), &segments[page / 16]);
            queue.wait(&mut Vec::new());
        }
    }
    drop(queue);
    let began = Instant::now();
    let mut states = 0;
    for at in 0..=sim.trace_len() {
        for seed in 0..100 {
            drop(sim.crash(at, &Survivors::Seeded(seed)));
            states += 1;
        }
    }
    println!("{states} crashes, {:.1} us each", began.elapsed().as_secs_f64() * 1e6 / f64::from(states));
}

#[test]
fn nothing_in_flight_completes_while_it_is_held_and_everything_once_it_is_let_go() {
    let mut rig = rig(5, 4);
    let hold = rig.sim.hold();
    let other = rig.sim.hold();
    (0..4).for_each(|page| rig.submit(page as u64, page, 7, Sync::Durable));
    let mut done = Vec::new();
    for _ in 0..20 {
        rig.queue.poll(&mut done);
    }
    drop(other);
    rig.queue.waker().wake();
    rig.queue.wait(&mut done); // returns for the wake
    assert!(done.is_empty());
    let releaser = std::thread::spawn(move || drop(hold));
    while rig.queue.in_flight() > 0 {
        rig.queue.wait(&mut done);
    }
    releaser.join().unwrap();
    assert!(done.len() == 4 && done.iter().all(|completion| completion.result.is_ok()));
}
