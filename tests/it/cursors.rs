//! Named read positions: durable when set, never taken back by a power cut, and never silently lost.
//!
//! The power is cut before every operation of a recorded run; what a cursor may say then is bounded by what was acknowledged and what was
//! asked for.

use bytes::Bytes;
use walrus_node::sim::{Fault, FaultError, FaultKind, SimDisk, Survivors};
use walrus_node::{Cursor, CursorError, Engine, OpenError, Options};

use crate::support::{folder, open, small};

fn simulated(disk: &SimDisk) -> Engine {
    Engine::open_sim(disk, Options { seed: Some(7), ..small() }).unwrap()
}

fn with_entries(disk: &SimDisk, n: usize) -> Engine {
    let log = simulated(disk);
    log.append_batch("t", vec![Bytes::from_static(b"x"); n]).unwrap().wait().unwrap();
    log
}

fn cursor(name: &str, topic: &str, offset: u64) -> Cursor {
    Cursor { name: name.into(), topic: topic.into(), offset }
}

#[test]
fn a_cursor_is_where_it_was_set_also_after_the_log_is_opened_again() {
    let folder = folder();
    let log = open(folder.path());
    log.append_batch("t", vec![Bytes::from_static(b"x"); 10]).unwrap().wait().unwrap();
    assert_eq!(log.cursor("reader", "t"), None);
    log.set_cursor("reader", "t", 7).unwrap();
    log.set_cursor("größe", "t", 10).unwrap();
    log.set_cursor("reader", "nobody's", 0).unwrap();
    log.set_cursor("reader", "t", 3).unwrap();
    let expected = [cursor("größe", "t", 10), cursor("reader", "nobody's", 0), cursor("reader", "t", 3)];
    assert_eq!(log.cursors(), expected);
    drop(log);
    let log = open(folder.path());
    assert_eq!(log.cursors(), expected);
    log.remove_cursor("größe", "t").unwrap();
    log.remove_cursor("nobody", "t").unwrap();
    drop(log);
    assert_eq!(open(folder.path()).cursors(), expected[1..]);
}

#[test]
fn what_cannot_be_a_cursor_is_refused_and_changes_nothing() {
    let disk = SimDisk::new(1);
    let log = with_entries(&disk, 5);
    let before = disk.trace_len();
    assert!(matches!(log.set_cursor("", "t", 0), Err(CursorError::InvalidName { .. })));
    assert!(matches!(log.set_cursor("r", "a/b", 0), Err(CursorError::InvalidName { .. })));
    assert!(matches!(log.set_cursor(&"r".repeat(256), "t", 0), Err(CursorError::InvalidName { .. })));
    let beyond = CursorError::BeyondEnd { topic: "t".into(), asked: 6, next_offset: 5 };
    assert_eq!(log.set_cursor("r", "t", 6), Err(beyond));
    assert_eq!((disk.trace_len(), log.cursors()), (before, vec![]));
}

#[test]
fn a_power_cut_anywhere_leaves_each_cursor_at_what_was_acknowledged_or_at_what_was_asked_for_next() {
    let disk = SimDisk::new(2);
    let log = with_entries(&disk, 40);
    for offset in 1..=20 {
        log.set_cursor("a", "t", offset).unwrap();
        disk.mark(offset);
        if offset % 5 == 0 {
            log.remove_cursor("a", "t").unwrap();
            disk.mark(0);
        }
    }
    drop(log);
    let mut states = 0;
    for at in 0..=disk.trace_len() {
        let marks = disk.marks_before(at);
        let Some(&acknowledged) = marks.last() else { continue };
        let next = if acknowledged > 0 && acknowledged % 5 == 0 { 0 } else { marks.iter().max().unwrap() + 1 };
        let pending = disk.pending_sectors(at);
        let survivors = [Survivors::Nothing, Survivors::Everything]
            .into_iter()
            .chain((0..pending).map(Survivors::Prefix))
            .chain((0..pending).map(Survivors::Missing))
            .chain((0..pending).map(Survivors::Only));
        for survivors in survivors {
            let log = simulated(&disk.crash(at, &survivors));
            let found = log.cursor("a", "t").unwrap_or(0);
            assert!(
                [acknowledged, next].contains(&found),
                "{} {survivors:?}: {found} after {acknowledged}",
                disk.op(at)
            );
            states += 1;
        }
    }
    assert!(states > 500, "{states} states");
}

#[test]
fn a_damaged_file_of_cursors_refuses_the_open_by_its_name_and_nothing_is_changed() {
    let disk = SimDisk::new(3);
    let log = with_entries(&disk, 5);
    log.set_cursor("a", "t", 4).unwrap();
    drop(log);
    let bytes = disk.read_file("cursors").len() as u64;
    for byte in 0..bytes {
        let damaged = disk.copy();
        damaged.flip_bit("cursors", byte, (byte % 8) as u8);
        let before = damaged.read_file("superblock");
        match Engine::open_sim(&damaged, small()).err() {
            Some(OpenError::FileDamaged { file: "cursors", .. }) => {}
            other => panic!("byte {byte}: {other:?}"),
        }
        assert_eq!(damaged.read_file("superblock"), before);
    }
}

#[test]
fn threads_that_set_at_the_same_time_share_writes_and_each_is_durable_when_it_is_told() {
    let disk = SimDisk::new(4);
    let log = with_entries(&disk, 100);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (log, disk) = (&log, &disk);
            scope.spawn(move || {
                for offset in 1..=50 {
                    log.set_cursor(&format!("r{thread}"), "t", offset).unwrap();
                    disk.mark(thread * 1000 + offset);
                }
            });
        }
    });
    drop(log);
    let end = disk.trace_len();
    for at in (0..=end).step_by(5).chain([end]) {
        let log = simulated(&disk.crash(at, &Survivors::Nothing));
        for thread in 0..8 {
            let of_this = disk.marks_before(at).into_iter().filter(|mark| mark / 1000 == thread);
            let told = of_this.map(|mark| mark % 1000).max().unwrap_or(0);
            // One that was written but not yet told may be there too.
            let found = log.cursor(&format!("r{thread}"), "t").unwrap_or(0);
            assert!(
                found >= told && found <= told + 1,
                "{}: thread {thread}: {found}, told {told}",
                disk.op(at.min(end - 1))
            );
        }
    }
}

#[test]
fn a_cursor_that_could_not_be_written_stays_where_it_was_and_a_full_disk_is_no_end() {
    let disk = SimDisk::new(5);
    let log = with_entries(&disk, 9);
    log.set_cursor("a", "t", 1).unwrap();
    disk.fail(Fault { kind: FaultKind::Write, nth: 1, error: FaultError::Full, from_then_on: false });
    let Err(CursorError::Storage { kind, .. }) = log.set_cursor("a", "t", 2) else { panic!("the disk was full") };
    assert_eq!(kind, std::io::ErrorKind::StorageFull);
    assert_eq!(log.cursor("a", "t"), Some(1));
    log.set_cursor("a", "t", 3).unwrap();

    disk.fail(Fault { kind: FaultKind::Flush, nth: 1, error: FaultError::Io, from_then_on: false });
    let failed = log.set_cursor("a", "t", 4).unwrap_err();
    assert!(matches!(failed, CursorError::Storage { .. }));
    assert_eq!(log.set_cursor("a", "t", 5), Err(failed), "a failed flush is not tried again");
    assert_eq!(log.cursor("a", "t"), Some(3));
    log.append("t", "the log itself goes on").unwrap().wait().unwrap();
    drop(log);
    assert_eq!(simulated(&disk).cursor("a", "t"), Some(3));
}

#[test]
fn more_cursors_than_fit_are_refused_and_those_that_are_there_still_move() {
    let folder = folder();
    let log = open(folder.path());
    log.append("t", "x").unwrap().wait().unwrap();
    let name = |i: usize| format!("{i:04}{}", "n".repeat(251));
    let topic = |i: usize| format!("{i:04}{}", "t".repeat(251));
    let mut set = 0;
    // Only every set writes the whole file, so many at once.
    std::thread::scope(|scope| {
        let setters: Vec<_> = (0..64)
            .map(|thread| {
                let log = &log;
                scope.spawn(move || (0..125).filter(|i| log.set_cursor(&name(thread), &topic(*i), 0).is_ok()).count())
            })
            .collect();
        set = setters.into_iter().map(|setter| setter.join().unwrap()).sum();
    });
    let most = ((4 << 20) - 48) / (16 + 2 * 255);
    assert_eq!(set, most, "as many as fit");
    assert_eq!(log.cursors().len(), most);
    assert!(matches!(log.set_cursor("new", "t", 1), Err(CursorError::TooMany { .. }) | Ok(())));
    let first = &log.cursors()[0];
    log.set_cursor(&first.name, &first.topic, 0).unwrap();
    log.remove_cursor(&first.name, &first.topic).unwrap();
    log.set_cursor("new", "t", 1).unwrap();
}
