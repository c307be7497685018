//! A repair that accepts the loss: what lies before the damage is kept, what was cut off is kept aside to the last entry, nothing of it
//! comes back, and a power cut anywhere in the repair leaves a log that can be repaired to the same end.
//!
//! Every kind of damage, at several places, in four logs: a leader's as it was killed, one whose full segments are packed, one that has
//! given segments away, and a follower's.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use walrus_node::sim::{Fault, FaultError, FaultKind, SimDisk, Survivors, accept_loss_sim};
use walrus_node::{Engine, LogId, Lsn, OpenError, Options, Viewer};

use crate::leader::options;
use crate::oracle::shown;
use crate::random::Random;
use crate::report;

const TOPICS: [&str; 2] = ["orders", "payments"];
const HEADER_BYTES: usize = 4096;

/// One batch of the undamaged log.
struct Unit {
    topic: &'static str,
    entries: Vec<Bytes>,
    /// Its last block.
    lsn: Lsn,
}

/// Appends batches of so many small entries.
fn append_batches(log: &Engine, units: &mut Vec<Unit>, n: usize, n_entries: usize) {
    for _ in 0..n {
        let number = units.len();
        let entries: Vec<_> = (0..n_entries).map(|i| entry(number * 1000 + i, 3)).collect();
        let topic = TOPICS[number % 2];
        let receipt = log.append_batch(topic, entries.clone()).unwrap().wait().unwrap();
        units.push(Unit { topic, entries, lsn: receipt.lsn });
    }
}

/// A sound log, and what is known of it.
struct Log {
    disk: SimDisk,
    units: Vec<Unit>,
    /// Where every block lies: segment and offset.
    places: BTreeMap<u64, (u32, u32)>,
    /// The first offset that is still there.
    first: BTreeMap<&'static str, usize>,
    /// The leader's blocks, for a follower.
    mirrors: Option<(LogId, Vec<Vec<Bytes>>)>,
}

/// A payload that can be found again among other bytes.
fn entry(i: usize, len: usize) -> Bytes {
    Bytes::from(format!("<<{i:06}>>{}<</{i:06}>>", "x".repeat(len)))
}

/// Appends single entries, and now and then a batch of two blocks.
fn append(log: &Engine, units: &mut Vec<Unit>, n: usize, len: usize) {
    for _ in 0..n {
        let number = units.len();
        let n_entries = if number % 9 == 4 { 300 } else { 1 };
        let len = if n_entries > 1 { 3 } else { len + number % 7 };
        let entries: Vec<_> = (0..n_entries).map(|i| entry(number * 1000 + i, len)).collect();
        let topic = TOPICS[number % 2];
        let receipt = log.append_batch(topic, entries.clone()).unwrap().wait().unwrap();
        units.push(Unit { topic, entries, lsn: receipt.lsn });
    }
}

impl Log {
    fn of(disk: SimDisk, units: Vec<Unit>, mirrors: Option<(LogId, Vec<Vec<Bytes>>)>) -> Log {
        let viewer = Viewer::open_sim(&disk).unwrap();
        let (mut places, mut next) = (BTreeMap::new(), viewer.first_lsn());
        while next < viewer.verification().durable_lsn {
            for block in viewer.blocks(next).unwrap() {
                let position = block.position.unwrap();
                places.insert(block.lsn.get(), (position.segment().get(), position.offset()));
                next = block.lsn.next();
            }
        }
        let first = TOPICS.map(|topic| (topic, viewer.topic(topic).unwrap().first_offset as usize)).into();
        drop(viewer);
        Log { disk, units, places, first, mirrors }
    }

    /// Killed: nothing was closed in order.
    fn leader() -> Log {
        let (disk, mut units) = (SimDisk::new(1), Vec::new());
        let log = Engine::open_sim(&disk, options(1)).unwrap();
        append(&log, &mut units, 40, 4000);
        log.close().unwrap();
        drop(log);
        let log = Engine::open_sim(&disk, options(2)).unwrap();
        append(&log, &mut units, 20, 4000);
        let killed = disk.copy();
        drop(log);
        Log::of(killed, units, None)
    }

    fn packed() -> Log {
        let (disk, mut units) = (SimDisk::new(2), Vec::new());
        let log = Engine::open_sim(&disk, options(1)).unwrap();
        append(&log, &mut units, 60, 30);
        assert!(log.pack() > 0, "nothing was packed");
        append(&log, &mut units, 20, 30);
        log.close().unwrap();
        Log::of(disk.copy(), units, None)
    }

    fn trimmed() -> Log {
        let (disk, mut units) = (SimDisk::new(3), Vec::new());
        let log = Engine::open_sim(&disk, options(1)).unwrap();
        append(&log, &mut units, 30, 4000);
        log.trim(log.status().durable_lsn).unwrap();
        append(&log, &mut units, 30, 4000);
        log.close().unwrap();
        let log = Log::of(disk.copy(), units, None);
        assert!(log.first.values().all(|first| *first > 0), "nothing was given away");
        log
    }

    /// Packed, and then given away up to a batch that reaches over from the segment before: so the log begins within a packed file.
    fn packed_and_trimmed() -> Log {
        for gone in 6..12 {
            let (disk, mut units) = (SimDisk::new(6), Vec::new());
            let log = Engine::open_sim(&disk, options(1)).unwrap();
            // Four sectors and one, where a segment has fourteen: every other one ends with the first block of a batch.
            append_batches(&log, &mut units, 20, 260);
            assert!(log.pack() > 0, "nothing was packed");
            log.trim(units[gone].lsn).unwrap();
            append_batches(&log, &mut units, 6, 260);
            log.close().unwrap();
            let log = Log::of(disk.copy(), units, None);
            let (_, (_, offset)) = log.places.first_key_value().unwrap();
            if !offset.is_multiple_of(4096) {
                return log;
            }
        }
        panic!("no log begins within a packed segment");
    }

    /// Of a leader with three reigns, so that what is cut off may begin one.
    fn follower() -> Log {
        let (leader, mut units) = (SimDisk::new(4), Vec::new());
        for reign in 0..3 {
            let log = Engine::open_sim(&leader, options(reign)).unwrap();
            append(&log, &mut units, 20, 4000);
            log.close().unwrap();
        }
        let log = Engine::open_sim(&leader, options(3)).unwrap();
        let (mut groups, mut group, mut next) = (Vec::new(), Vec::new(), Lsn::FIRST);
        while next < log.tip().lsn {
            for block in log.portable_blocks(next, 0).unwrap() {
                group.push(block.bytes);
                next = block.lsn.next();
                if block.remaining == 0 {
                    groups.push(std::mem::take(&mut group));
                }
            }
        }
        let log_id = log.status().log_id;
        let disk = SimDisk::new(5);
        let mirror = Engine::open_mirror_sim(&disk, Some(log_id), options(4)).unwrap();
        for group in &groups {
            mirror.apply(group.clone()).unwrap().wait().unwrap();
        }
        mirror.close().unwrap();
        Log::of(disk.copy(), units, Some((log_id, groups)))
    }

    fn open(&self, disk: &SimDisk, options: Options) -> Result<Engine, OpenError> {
        match &self.mirrors {
            None => Engine::open_sim(disk, options),
            Some((log_id, _)) => Engine::open_mirror_sim(disk, Some(*log_id), options),
        }
    }

    /// How many entries of each topic lie wholly before block `lsn`.
    fn entries_before(&self, lsn: u64) -> BTreeMap<&'static str, usize> {
        let mut ends: BTreeMap<_, _> = self.first.keys().map(|topic| (*topic, 0)).collect();
        for unit in self.units.iter().filter(|unit| unit.lsn.get() < lsn) {
            *ends.get_mut(unit.topic).unwrap() += unit.entries.len();
        }
        ends
    }

    fn entries(&self, topic: &str) -> Vec<Bytes> {
        self.units.iter().filter(|unit| unit.topic == topic).flat_map(|unit| unit.entries.clone()).collect()
    }

    fn segment_of(&self, lsn: u64) -> u32 {
        self.places[&lsn].0
    }

    /// The units that have a block for which it holds.
    fn units_in(&self, holds: impl Fn(u64) -> bool) -> BTreeSet<usize> {
        let first_lsn = |i: usize| if i == 0 { 1 } else { self.units[i - 1].lsn.get() + 1 };
        (0..self.units.len()).filter(|i| (first_lsn(*i)..=self.units[*i].lsn.get()).any(&holds)).collect()
    }
}

/// What is done to a log.
#[derive(Clone, Copy, Debug)]
enum Harm {
    /// A bit, so many bytes into a block.
    Bit(u64, u32),
    Zeros(u64),
    /// The segment that the block lies in: both headers, all of it, the file, its second half.
    Headers(u64),
    ZeroSegment(u64),
    NoSegment(u64),
    HalfSegment(u64),
}

struct Damaged<'a> {
    log: &'a Log,
    disk: SimDisk,
    /// The first block that is not there any more.
    lsn: u64,
    /// Units of which some bytes are nowhere any more.
    gone: BTreeSet<usize>,
    what: String,
}

impl<'a> Damaged<'a> {
    fn new(log: &'a Log, harm: Harm) -> Damaged<'a> {
        use Harm::*;
        let (Bit(lsn, _) | Zeros(lsn) | Headers(lsn) | ZeroSegment(lsn) | NoSegment(lsn) | HalfSegment(lsn)) = harm;
        let (segment, offset) = log.places[&lsn];
        let name = format!("wal/{segment:016x}.seg");
        let mut bytes = log.disk.read_file(&name);
        let (at, len) = (offset as usize, bytes.len());
        let first_here = *log.places.iter().find(|(_, place)| place.0 == segment).unwrap().0;
        let mut first_lost = first_here;
        let mut gone = log.units_in(|lsn| log.places.get(&lsn).is_some_and(|place| place.0 == segment));
        match harm {
            Bit(_, into) => {
                bytes[at + into as usize] ^= 8;
                (first_lost, gone) = (lsn, log.units_in(|other| other == lsn));
            }
            Zeros(_) => {
                bytes[at..at + 112].fill(0);
                (first_lost, gone) = (lsn, log.units_in(|other| other == lsn));
            }
            Headers(_) => {
                bytes[..HEADER_BYTES].fill(0);
                bytes[len - HEADER_BYTES..].fill(0);
                gone.clear();
            }
            ZeroSegment(_) => bytes.fill(0),
            HalfSegment(_) => bytes.truncate(len / 2 / HEADER_BYTES * HEADER_BYTES),
            NoSegment(_) => {}
        }
        let disk = log.disk.copy_with(&name, (!matches!(harm, NoSegment(_))).then_some(&bytes));
        Damaged { log, disk, lsn: first_lost, gone, what: format!("{harm:?}") }
    }

    /// The log on `disk` ends before the damage and is sound; everything else is kept aside.
    fn check_cut(&self, disk: &SimDisk, what: &str) {
        let what = format!("{}, {what}", self.what);
        let viewer = Viewer::open_sim(disk).unwrap_or_else(|error| panic!("{error}: {what}"));
        let shown = shown(&viewer).unwrap_or_else(|error| panic!("{error}: {what}"));
        let kept_aside = kept_aside(disk);
        let ends = self.log.entries_before(self.lsn);
        for topic in TOPICS {
            let all = self.log.entries(topic);
            let first = self.log.first[topic];
            let end = ends[topic].max(first);
            let is = shown.get(topic).map_or(&[][..], |topic| &topic.entries);
            assert!(is == &all[first..end], "{topic}: {} entries are shown, not {}: {what}", is.len(), end - first);
        }
        for (i, unit) in self.log.units.iter().enumerate() {
            if unit.lsn.get() >= self.lsn && !self.gone.contains(&i) {
                let missing = unit.entries.iter().find(|entry| !kept_aside.contains(*entry));
                assert!(missing.is_none(), "{missing:?} of lsn {} is kept nowhere: {what}", unit.lsn);
            }
        }
    }

    /// It can be written, twice, and is sound then.
    fn check_goes_on(&self, disk: &SimDisk, what: &str) {
        let what = format!("{}, {what}", self.what);
        for reign in 0..2 {
            let whole = Options { check_bytes_max: 1 << 30, ..options(7 + reign) };
            let log = self.log.open(disk, whole).unwrap_or_else(|error| panic!("{error}: {what}"));
            match &self.log.mirrors {
                None => (0..20).for_each(|i| {
                    log.append("after", entry(900_000 + i, 2000)).unwrap().wait().unwrap();
                }),
                Some((_, groups)) => {
                    // What was lost comes again: half of it in the first opening.
                    let (mut lsn, tip) = (1, log.tip().lsn.get());
                    for (i, group) in groups.iter().enumerate() {
                        if lsn >= tip && (reign == 1 || i < groups.len() - 5) {
                            log.apply(group.clone()).unwrap().wait().unwrap();
                        }
                        lsn += group.len() as u64;
                    }
                }
            }
            if reign == 1 {
                log.close().unwrap();
            }
        }
        let viewer = Viewer::open_sim(disk).unwrap();
        let shown = shown(&viewer).unwrap_or_else(|error| panic!("{error}: {what}"));
        let ends = self.log.entries_before(self.lsn);
        match &self.log.mirrors {
            None => assert_eq!(shown["after"].entries.len(), 40, "{what}"),
            Some(_) => TOPICS
                .iter()
                .for_each(|topic| assert!(shown[*topic].entries == self.log.entries(topic), "{topic}: {what}")),
        }
        for topic in TOPICS.into_iter().filter(|topic| ends[topic] > self.log.first[topic]) {
            let before = &self.log.entries(topic)[self.log.first[topic]..ends[topic]];
            assert!(shown[topic].entries.starts_with(before), "{topic}: {what}");
        }
    }

    fn repair(&self, disk: &SimDisk, what: &str) {
        accept_loss_sim(disk).unwrap_or_else(|error| panic!("{error}: {}, {what}", self.what));
    }

    /// Cuts the power before every operation of a repair. Returns how many states were looked at.
    fn cut_power_everywhere(&self) -> usize {
        let disk = self.disk.copy();
        self.repair(&disk, "nothing else happens");
        let mut states = 0;
        for at in 0..=disk.trace_len() {
            let cut = |survivors| (format!("{survivors:?}"), disk.crash(at, &survivors));
            let killed = ("SIGKILL".to_owned(), disk.kill(at, at as u64));
            for (how, crashed) in [cut(Survivors::Nothing), cut(Survivors::Seeded(at as u64)), killed] {
                let what = format!("cut before operation {at} ({}), {how}", describe(&disk, at));
                if at % 2 == 1 {
                    self.check_opening_after(&crashed, &what);
                }
                if at % 10 == 3 {
                    self.cut_power_again(&crashed.copy(), &what);
                }
                self.repair(&crashed, &what);
                self.check_cut(&crashed, &what);
                if at % 5 == 0 {
                    self.check_goes_on(&crashed, &what);
                }
                states += 1;
            }
        }
        states
    }

    /// A repair of an interrupted repair, interrupted.
    fn cut_power_again(&self, disk: &SimDisk, what: &str) {
        self.repair(disk, what);
        for at in 0..=disk.trace_len() {
            let crashed = disk.crash(at, &Survivors::Nothing);
            let what = format!("{what}; then before operation {at} ({})", describe(disk, at));
            self.repair(&crashed, &what);
            self.check_cut(&crashed, &what);
        }
    }

    /// Somebody opens the log instead of repairing it again: it is refused, or it ends where the repair would have ended it.
    fn check_opening_after(&self, crashed: &SimDisk, what: &str) {
        let disk = &crashed.copy();
        match self.log.open(disk, Options { check_bytes_max: 1 << 30, ..options(9) }) {
            Err(OpenError::Damaged(_)) => {}
            Err(error) => panic!("{error}: {}, {what}", self.what),
            Ok(log) => {
                log.close().unwrap();
                drop(log);
                self.check_cut(disk, &format!("{what}; opened instead"));
            }
        }
        // One that believes indexes may not notice; what it must not do is fall over them.
        if let Err(error) = self.log.open(&crashed.copy(), options(9)) {
            assert!(matches!(error, OpenError::Damaged(_)), "{error}: {}, {what}", self.what);
        }
    }
}

fn describe(disk: &SimDisk, at: usize) -> String {
    if at < disk.trace_len() { disk.op(at) } else { "none".into() }
}

/// Every entry of these tests that lies, byte for byte, in a file of `quarantine/`.
fn kept_aside(disk: &SimDisk) -> BTreeSet<Bytes> {
    let mut found = BTreeSet::new();
    for (name, _) in disk.files().iter().filter(|(name, _)| name.starts_with("quarantine/")) {
        let bytes = Bytes::from(disk.read_file(name));
        let mut at = 0;
        while let Some(next) = bytes[at..].iter().position(|byte| *byte == b'<') {
            at += next;
            let number = bytes.get(at + 2..at + 8).filter(|_| bytes[at..].starts_with(b"<<"));
            let len = number.and_then(|number| {
                let end = [b"<</", number, b">>"].concat();
                let all = bytes.get(at..(at + 70_000).min(bytes.len()))?;
                let close = all.iter().skip(8).position(|byte| *byte == b'<')? + 8;
                all[close..].starts_with(&end).then_some(close + end.len())
            });
            if let Some(len) = len {
                found.insert(bytes.slice(at..at + len));
            }
            at += len.unwrap_or(1);
        }
    }
    found
}

/// Every kind of harm to block `lsn`, or to the segment that it lies in.
fn harms(lsn: u64) -> [Harm; 7] {
    use Harm::*;
    [Bit(lsn, 3), Bit(lsn, 140), Zeros(lsn), Headers(lsn), ZeroSegment(lsn), NoSegment(lsn), HalfSegment(lsn)]
}

/// First and last block, the first of a segment, the second block of a batch, and some that are drawn.
fn places(log: &Log, n: usize) -> BTreeSet<u64> {
    let lsns: Vec<u64> = log.places.keys().copied().collect();
    let mut random = Random(11);
    let mut places: BTreeSet<u64> = (0..n).map(|_| lsns[random.below(lsns.len())]).collect();
    let later_segment = lsns.iter().find(|lsn| log.segment_of(**lsn) > log.segment_of(lsns[0]));
    let second_block = log.units.iter().rfind(|unit| unit.entries.len() > 1).map(|unit| unit.lsn.get());
    places.extend([lsns.first(), lsns.last(), later_segment].into_iter().flatten());
    places.extend(second_block);
    places
}

fn every_harm_is_repaired(name: &str, log: &Log) {
    let (mut damaged, mut torn) = (0, 0);
    for lsn in places(log, 6) {
        for harm in harms(lsn) {
            let mut case = Damaged::new(log, harm);
            match accept_loss_sim(&case.disk).unwrap_or_else(|error| panic!("{error}: {name}, {}", case.what)) {
                // Nothing proves that the last block was durable: so nothing was cut, and it stays where it is until the next open.
                None => {
                    torn += 1;
                    assert_eq!(Some(&lsn), log.places.keys().last(), "{name}: {}", case.what);
                    case.gone.extend(log.units_in(|other| other >= lsn));
                }
                Some(repaired) => {
                    damaged += 1;
                    assert!(repaired.cut_lsn.get() <= case.lsn, "{name}: {}", case.what);
                    assert!(repaired.kept.iter().all(|file| !case.disk.read_file(file).is_empty()), "{}", case.what);
                    assert!(accept_loss_sim(&case.disk).unwrap().is_none(), "twice: {name}, {}", case.what);
                    let lost: BTreeMap<_, _> = repaired.lost.iter().map(|(t, first, _)| (t.as_str(), *first)).collect();
                    let ends = log.entries_before(case.lsn);
                    for (topic, first) in lost {
                        let begins = ends[topic].max(log.first[topic]) as u64;
                        assert_eq!(first, begins, "{topic}: {name}, {}", case.what);
                    }
                }
            }
            case.check_cut(&case.disk, name);
            case.check_goes_on(&case.disk, name);
        }
    }
    report(&format!("repairs of {name}: {damaged} damaged, {torn} torn"));
    assert!(damaged > 4 * torn && damaged > 30);
}

#[test]
fn a_damaged_log_is_cut_off_at_its_last_whole_batch_and_everything_behind_is_kept_aside() {
    every_harm_is_repaired("a leader's log", &Log::leader());
    every_harm_is_repaired("a follower's log", &Log::follower());
}

#[test]
fn a_damaged_log_of_packed_segments_is_repaired_as_well() {
    every_harm_is_repaired("a packed log", &Log::packed());
}

#[test]
fn a_log_that_has_given_segments_away_is_repaired_even_where_nothing_is_left_of_it() {
    every_harm_is_repaired("a log with a base", &Log::trimmed());
}

/// Found by the model: docs/decisions/0003, 2.
#[test]
fn a_log_that_begins_within_a_packed_segment_is_repaired_and_still_begins_there() {
    every_harm_is_repaired("a log that begins within a packed segment", &Log::packed_and_trimmed());
}

#[test]
fn a_power_cut_anywhere_in_a_repair_leaves_a_log_that_can_be_repaired() {
    let mut states = 0;
    for log in [Log::leader(), Log::packed(), Log::trimmed(), Log::packed_and_trimmed(), Log::follower()] {
        let lsns: Vec<u64> = log.places.keys().copied().collect();
        let middle = lsns[lsns.len() / 2];
        for harm in [Harm::Bit(lsns[0], 140), Harm::Bit(middle, 140), Harm::Headers(middle), Harm::NoSegment(middle)] {
            states += Damaged::new(&log, harm).cut_power_everywhere();
        }
    }
    report(&format!("crash states of repairs: {states}"));
    assert!(states > 1000, "only {states} states");
}

#[test]
fn a_repair_that_fails_anywhere_can_be_begun_again() {
    let kinds = [FaultKind::Write, FaultKind::Flush, FaultKind::Rename, FaultKind::FlushFolder, FaultKind::Read];
    for log in [Log::leader(), Log::packed(), Log::trimmed()] {
        let lsns: Vec<u64> = log.places.keys().copied().collect();
        let case = Damaged::new(&log, Harm::Bit(lsns[lsns.len() / 2], 140));
        for (kind, error) in kinds.into_iter().flat_map(|kind| [(kind, FaultError::Io), (kind, FaultError::Full)]) {
            for nth in 1.. {
                let disk = case.disk.copy();
                disk.fail(Fault { kind, nth, error, from_then_on: false });
                let what = format!("{kind:?} {nth} fails: {error:?}");
                let failed = accept_loss_sim(&disk).is_err();
                if disk.faults_fired() == 0 {
                    break; // that was all of them
                }
                assert!(failed, "{what} is not told");
                let disk = disk.kill(disk.trace_len(), nth);
                case.repair(&disk, &what);
                case.check_cut(&disk, &what);
            }
        }
    }
}

#[test]
fn a_second_repair_at_the_same_place_does_not_take_the_copies_of_the_first() {
    let log = Log::leader();
    let lsns: Vec<u64> = log.places.keys().copied().collect();
    let case = Damaged::new(&log, Harm::Bit(lsns[lsns.len() / 2], 140));
    case.repair(&case.disk, "first");
    let before = kept_aside(&case.disk);
    let log = Engine::open_sim(&case.disk, options(7)).unwrap();
    for i in 0..10 {
        log.append("after", entry(900_000 + i, 2000)).unwrap().wait().unwrap();
    }
    log.close().unwrap();
    drop(log);
    let viewer = Viewer::open_sim(&case.disk).unwrap();
    let position = viewer.blocks(Lsn::new(case.lsn)).unwrap()[0].position.unwrap();
    drop(viewer);
    let name = format!("wal/{:016x}.seg", position.segment().get());
    case.disk.flip_bit(&name, u64::from(position.offset()) + 50, 3);
    let second = accept_loss_sim(&case.disk).unwrap().expect("it is damaged again");
    assert_eq!(second.cut_lsn.get(), case.lsn, "the same place");
    let after = kept_aside(&case.disk);
    assert!(before.is_subset(&after) && after.contains(&entry(900_009, 2000)));
}

#[test]
fn a_log_that_is_empty_behind_its_base_stays_so_through_crashes_even_without_its_quarantine() {
    let log = Log::trimmed();
    let case = Damaged::new(&log, Harm::Bit(*log.places.keys().next().unwrap(), 140));
    case.repair(&case.disk, "everything is given up");
    let mut disk = case.disk.copy();
    for (name, _) in case.disk.files().iter().filter(|(name, _)| name.starts_with("quarantine/")) {
        disk = disk.copy_with(name, None);
    }
    let opened = disk.copy();
    let log = Engine::open_sim(&opened, options(7)).unwrap();
    for i in 0..5 {
        log.append("after", entry(i, 2000)).unwrap().wait().unwrap();
    }
    let acknowledged = opened.trace_len();
    drop(log);
    for at in 0..=acknowledged {
        let crashed = opened.crash(at, &Survivors::Seeded(at as u64));
        let log = Engine::open_sim(&crashed, options(8)).unwrap_or_else(|error| panic!("{error}: cut at {at}"));
        log.append("after", entry(6, 2000)).unwrap().wait().unwrap();
        let shown = log.topic("after").unwrap().next_offset;
        assert!(at < acknowledged || shown == 6, "{shown} entries");
        log.close().unwrap();
        drop(log);
        assert!(Viewer::open_sim(&crashed).unwrap().verification().is_ok(), "cut at {at}");
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
