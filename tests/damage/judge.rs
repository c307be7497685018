//! One blow, and what may be seen after it.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use walrus_node::sim::SimDisk;
use walrus_node::{Damage, Engine, OpenError, Options, ReadError, ReadLimit, Viewer};

use crate::layout::{ALIGN, SEGMENT_BYTES};
use crate::specimen::Specimen;

/// What is done to a disk.
#[derive(Clone, Debug)]
pub(crate) enum Blow {
    Flip { file: String, byte: usize, bit: u8 },
    Replace { file: String, sector: usize, content: Vec<u8>, how: &'static str },
    Swap { file: String, sector: usize },
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Blow::Flip { file, byte, bit } => write!(f, "bit {bit} of byte {byte} of {file}"),
            Blow::Replace { file, sector, how, .. } => {
                write!(f, "sector {sector} (byte {}) of {file} {how}", sector * ALIGN)
            }
            Blow::Swap { file, sector } => {
                write!(f, "sector {sector} (byte {}) of {file} swapped with the next", sector * ALIGN)
            }
        }
    }
}

impl Blow {
    /// The bytes that it touches.
    fn touches(&self) -> (&str, std::ops::Range<usize>) {
        match self {
            Blow::Flip { file, byte, .. } => (file, *byte..byte + 1),
            Blow::Replace { file, sector, .. } => (file, sector * ALIGN..(sector + 1) * ALIGN),
            Blow::Swap { file, sector } => (file, sector * ALIGN..(sector + 2) * ALIGN),
        }
    }

    fn strike(&self, specimen: &Specimen) -> SimDisk {
        let disk = specimen.disk.copy();
        let (file, range) = self.touches();
        let now = &specimen.files[file];
        match self {
            Blow::Flip { byte, bit, .. } => disk.flip_bit(file, *byte as u64, *bit),
            Blow::Replace { content, .. } => overwrite(&disk, file, range.start, &now[range], content),
            Blow::Swap { .. } => {
                let (first, second) = now[range.clone()].split_at(ALIGN);
                overwrite(&disk, file, range.start, first, second);
                overwrite(&disk, file, range.start + ALIGN, second, first);
            }
        }
        disk
    }

    /// The LSNs of the blocks that it has changed in bytes that mean something.
    fn hit(&self, specimen: &Specimen) -> Vec<u64> {
        let (file, range) = self.touches();
        let hit = |block: &&crate::layout::Block| {
            let used = block.offset..block.offset + block.used;
            let touched = used.start.max(range.start)..used.end.min(range.end);
            block.file == file && touched.start < touched.end && self.changes(specimen, touched)
        };
        specimen.blocks.iter().filter(hit).map(|block| block.lsn).collect()
    }

    fn changes(&self, specimen: &Specimen, touched: std::ops::Range<usize>) -> bool {
        let (file, range) = self.touches();
        let now = &specimen.files[file];
        let after = |at: usize| match self {
            Blow::Flip { bit, .. } => now[at] ^ 1 << bit,
            Blow::Replace { content, .. } => content[at - range.start],
            Blow::Swap { .. } => now[if at < range.start + ALIGN { at + ALIGN } else { at - ALIGN }],
        };
        touched.into_iter().any(|at| after(at) != now[at])
    }
}

/// The simulated disk turns single bits over, durably; so any change is made of those.
pub(crate) fn overwrite(disk: &SimDisk, file: &str, at: usize, now: &[u8], then: &[u8]) {
    for (i, (now, then)) in now.iter().zip(then).enumerate() {
        for bit in (0..8).filter(|bit| (now ^ then) >> bit & 1 == 1) {
            disk.flip_bit(file, (at + i) as u64, bit);
        }
    }
}

/// What a blow has led to. All three are allowed where they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing is missing.
    Same,
    /// The place was named.
    Named,
    /// The log ends before the group that was hit: nothing on the disk said that it had been durable.
    Cut,
}

#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) struck: usize,
    pub(crate) same: usize,
    pub(crate) named: usize,
    pub(crate) cut: usize,
}

impl Tally {
    pub(crate) fn count(&mut self, verdict: Verdict) {
        self.struck += 1;
        match verdict {
            Verdict::Same => self.same += 1,
            Verdict::Named => self.named += 1,
            Verdict::Cut => self.cut += 1,
        }
    }

    pub(crate) fn add(&mut self, other: &Tally) {
        self.struck += other.struck;
        self.same += other.same;
        self.named += other.named;
        self.cut += other.cut;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} left nothing missing, {} were named, {} cut the unproved end", self.same, self.named, self.cut)
    }
}

/// Every so many blows the log that opened for writing is written, and looked at again.
const WRITE_EVERY: usize = 64;

/// Strikes, looks, opens for writing.
pub(crate) fn judge(specimen: &Specimen, blow: &Blow, number: usize) -> Result<Verdict, String> {
    catch_unwind(AssertUnwindSafe(|| {
        let disk = blow.strike(specimen);
        let hit = blow.hit(specimen);
        let seen = look(specimen, &disk, &hit).map_err(|what| format!("viewer: {what}"))?;
        expect(specimen, blow, &hit, &seen)?;
        open(specimen, &disk, &seen, number.is_multiple_of(WRITE_EVERY)).map_err(|what| format!("engine: {what}"))?;
        Ok(seen.verdict)
    }))
    .unwrap_or_else(|_| Err("the program panicked".into()))
}

/// What a viewer shows.
struct Seen {
    verdict: Verdict,
    damage: Vec<Damage>,
    end: u64,
}

fn look(specimen: &Specimen, disk: &SimDisk, hit: &[u64]) -> Result<Seen, String> {
    let viewer = Viewer::open_sim(disk).map_err(|error| format!("does not open: {error}"))?;
    let verification = viewer.verification();
    let damage = verification.damage.clone();
    let end = verification.durable_lsn.get();
    let shown = shown(specimen, &viewer)?;
    let first_bad = hit.first().copied().unwrap_or(specimen.end());
    let complete_to =
        if damage.is_empty() { end } else { *specimen.group_of(first_bad.min(specimen.end() - 1)).start() };
    let hit_groups: Vec<_> = hit.iter().map(|lsn| specimen.group_of(*lsn)).collect();
    for block in specimen.blocks.iter().filter(|block| block.is_data) {
        let readable = |(topic, offset): &(u32, u64)| shown[*topic as usize - 1].contains_key(offset);
        let there = block.entries.iter().filter(|entry| readable(entry)).count();
        if block.lsn < complete_to && there < block.entries.len() {
            return Err(format!("lsn {} is not shown, though nothing has happened to it ({damage:?})", block.lsn));
        }
        if there > 0
            && (hit_groups.iter().any(|group| group.contains(&block.lsn)) && end_is_not(specimen, &damage, end))
        {
            return Err(format!("lsn {} is shown, though its group was hit", block.lsn));
        }
    }
    let verdict = match (damage.is_empty(), end == specimen.end()) {
        (false, _) => Verdict::Named,
        (true, true) => Verdict::Same,
        (true, false) => Verdict::Cut,
    };
    Ok(Seen { verdict, damage, end })
}

/// Whether anything is missing at all.
fn end_is_not(specimen: &Specimen, damage: &[Damage], end: u64) -> bool {
    !damage.is_empty() || end != specimen.end()
}

/// Every entry that can be read, by topic and offset. Each must be the one that was appended.
fn shown(specimen: &Specimen, viewer: &Viewer) -> Result<Vec<BTreeMap<u64, Bytes>>, String> {
    let known = |name: &str| specimen.topics.iter().any(|(topic, _)| *topic == name);
    if let Some(other) = viewer.topics().into_iter().find(|topic| !known(&topic.name)) {
        return Err(format!("topic {:?} is shown, which nobody made", other.name));
    }
    let read = |(topic, entries): &(&str, Vec<Bytes>)| read_topic(viewer, topic, entries);
    specimen.topics.iter().map(read).collect()
}

fn read_topic(viewer: &Viewer, topic: &str, appended: &[Bytes]) -> Result<BTreeMap<u64, Bytes>, String> {
    let (mut shown, mut offset) = (BTreeMap::new(), 0);
    loop {
        match viewer.read(topic, offset, ReadLimit::default()) {
            Ok(entries) if entries.is_empty() => return Ok(shown),
            Ok(entries) => {
                for entry in entries {
                    if entry.offset < offset || appended.get(entry.offset as usize) != Some(&entry.payload) {
                        return Err(format!("topic {topic} shows {:?} at offset {}", entry.payload, entry.offset));
                    }
                    offset = entry.offset + 1;
                    shown.insert(entry.offset, entry.payload);
                }
            }
            Err(ReadError::Damaged { next_good_offset: Some(next), .. }) if next > offset => offset = next,
            Err(ReadError::Damaged { .. } | ReadError::UnknownTopic(_)) => return Ok(shown),
            Err(error) => return Err(format!("topic {topic} at offset {offset}: {error}")),
        }
    }
}

/// Whether the verdict is allowed.
fn expect(specimen: &Specimen, blow: &Blow, hit: &[u64], seen: &Seen) -> Result<(), String> {
    let end = specimen.end();
    let Some(&first) = hit.first() else {
        return match seen.verdict {
            Verdict::Same => Ok(()),
            other => Err(format!("no block was hit, and yet: {other:?} at {}, {:?}", seen.end, seen.damage)),
        };
    };
    let mark = highest_mark(specimen, blow, hit);
    match seen.verdict {
        Verdict::Same => Err("a block was hit and nobody noticed".into()),
        Verdict::Named => {
            let block = specimen.block(first);
            let named = &seen.damage[0];
            let here = (named.segment.get(), named.file_offset as usize, named.lsn.get());
            let there = (block.segment, block.offset, block.lsn);
            if here == there { Ok(()) } else { Err(format!("{there:?} was hit, {here:?} is named: {named}")) }
        }
        Verdict::Cut => {
            let start = *specimen.group_of(first).start();
            if mark > first {
                return Err(format!(
                    "lsn {first} was silently cut, though a mark says that all below {mark} was durable"
                ));
            }
            if seen.end == start {
                Ok(())
            } else {
                Err(format!("the log of {end} ends at {}, not at {start}", seen.end))
            }
        }
    }
}

/// All below it was durable, as the disk says in places that were not hit.
fn highest_mark(specimen: &Specimen, blow: &Blow, hit: &[u64]) -> u64 {
    let (file, range) = blow.touches();
    let slots = specimen.hints.iter().enumerate().filter(|(slot, _)| {
        let slot = slot * ALIGN..(slot + 1) * ALIGN;
        file != "superblock" || slot.end <= range.start || range.end <= slot.start
    });
    let blocks = specimen.blocks.iter().filter(|block| !hit.contains(&block.lsn));
    slots.map(|(_, hint)| *hint).chain(blocks.map(|block| block.durable_lsn)).max().unwrap_or(0)
}

/// Opens for writing: the same entries, or the same damage and not a byte changed.
fn open(specimen: &Specimen, struck: &SimDisk, seen: &Seen, write: bool) -> Result<(), String> {
    let disk = struck.copy();
    let bytes = SEGMENT_BYTES as u64;
    let options = Options {
        segment_bytes_first: bytes,
        segment_bytes_max: bytes,
        // As the command opens: by the blocks. What an opening by its indexes does is in `packed`.
        check_bytes_max: 1 << 30,
        seed: Some(9),
        scrub: None,
        ..Options::default()
    };
    match (Engine::open_sim(&disk, options), seen.damage.first()) {
        (Err(OpenError::Damaged(damage)), Some(named)) if damage == *named => {
            // A refused opening may flush, nothing else. (An operation in words begins with what it is.)
            let harmless = |at| disk.op(at).starts_with("flush") || disk.op(at).starts_with("folder flushed");
            let changed = !(0..disk.trace_len()).all(harmless);
            if changed { Err("refused, and yet something was changed".into()) } else { Ok(()) }
        }
        (Err(error), named) => Err(format!("does not open: {error}; the viewer named {named:?}")),
        (Ok(_), Some(named)) => Err(format!("opens, though the viewer named {named}")),
        (Ok(log), None) => {
            let there = topics_of(|topic, offset| log.read(topic, offset, ReadLimit::default()), specimen)?;
            compare(specimen, seen.end, &there)?;
            if write {
                log.append("later", "after the blow")
                    .and_then(|ticket| ticket.wait())
                    .map_err(|error| error.to_string())?;
            }
            log.close().map_err(|error| error.to_string())?;
            drop(log); // and the folder with it
            if !write {
                return Ok(());
            }
            let viewer = Viewer::open_sim(&disk).map_err(|error| format!("does not open again: {error}"))?;
            if let Some(damage) = viewer.verification().damage.first() {
                return Err(format!("is damaged after it was written: {damage}"));
            }
            let later = viewer.read("later", 0, ReadLimit::default()).map_err(|error| error.to_string())?;
            assert_eq!(later.len(), 1);
            compare(
                specimen,
                seen.end,
                &topics_of(|topic, offset| viewer.read(topic, offset, ReadLimit::default()), specimen)?,
            )
        }
    }
}

type Entries = Vec<walrus_node::LogEntry>;

/// All entries of the specimen's topics.
fn topics_of(
    read: impl Fn(&str, u64) -> Result<Entries, ReadError>,
    specimen: &Specimen,
) -> Result<Vec<Entries>, String> {
    let all = |topic: &str| {
        let mut all = Entries::new();
        loop {
            match read(topic, all.len() as u64) {
                Ok(entries) if entries.is_empty() => return Ok(all),
                Ok(entries) => all.extend(entries),
                Err(ReadError::UnknownTopic(_)) => return Ok(all),
                Err(error) => return Err(format!("topic {topic} at offset {}: {error}", all.len())),
            }
        }
    };
    specimen.topics.iter().map(|(topic, _)| all(topic)).collect()
}

/// They must be those of the blocks below `end`, no more and no fewer.
fn compare(specimen: &Specimen, end: u64, there: &[Entries]) -> Result<(), String> {
    for ((id, (topic, appended)), there) in (1..).zip(&specimen.topics).zip(there) {
        let blocks = specimen.blocks.iter().filter(|block| block.is_data && block.lsn < end);
        let expected = blocks.flat_map(|block| &block.entries).filter(|(of, _)| *of == id).count();
        let same = there.len() == expected
            && there
                .iter()
                .zip(appended)
                .zip(0..)
                .all(|((entry, bytes), offset)| entry.offset == offset && entry.payload == *bytes);
        if !same {
            return Err(format!("topic {topic} has {} entries, not the {expected} below lsn {end}", there.len()));
        }
    }
    Ok(())
}
