//! What was submitted, in order, and what of it must and may be seen after a crash.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use bytes::Bytes;
use walrus_node::sim::SimDisk;
use walrus_node::{AppendError, AppendOptions, Engine, Level, Outcome, ReadLimit, Ticket, Viewer};

/// One atomic submission to one topic.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) topic: &'static str,
    pub(crate) entries: Vec<Bytes>,
    /// Fed entry by entry, so that it is staged as soon as it does not fit a block.
    pub(crate) is_fed: bool,
    pub(crate) level: Level,
}

impl Batch {
    pub(crate) fn append(&self, log: &Engine) -> Result<Ticket, AppendError> {
        let options = AppendOptions { level: Some(self.level), ..AppendOptions::default() };
        if !self.is_fed {
            return log.append_with(self.topic, self.entries.clone(), options);
        }
        let mut batch = log.begin_batch(self.topic, options)?;
        self.entries.iter().try_for_each(|entry| batch.push(entry.clone()))?;
        batch.commit()
    }

    /// The same, and waits; every other time as a caller who commits in his own thread where he can.
    pub(crate) fn append_and_wait(&self, log: &Engine, number: usize) -> Outcome {
        if self.is_fed || number.is_multiple_of(2) {
            return self.append(log)?.wait();
        }
        let options = AppendOptions { level: Some(self.level), ..AppendOptions::default() };
        log.append_and_wait(self.topic, self.entries.clone(), options)
    }
}

/// Everything that was submitted, in the order in which it was queued: one thread submits, so the log's order is this order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Submitted {
    pub(crate) batches: Vec<Batch>,
}

/// What a log shows of a topic: everything from its first offset on.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) first_offset: u64,
    pub(crate) entries: Vec<Bytes>,
}

/// What must and may be seen of everything that was submitted.
#[derive(Clone, Debug)]
pub(crate) struct Promised {
    /// So many batches were acknowledged, or seen by somebody.
    pub(crate) batches: usize,
    /// So many of the first are given away: at least what somebody was told, at most what somebody asked for.
    pub(crate) gone: RangeInclusive<usize>,
}

/// The marks in a recording: a kind in the upper half, a number of batches in the lower.
const KIND: u64 = !0 << 32;
/// So many batches were acknowledged.
const ACKNOWLEDGED: u64 = 0;
/// The same, and a power cut may take it back.
const WRITTEN: u64 = 1 << 32;
/// From here on so many of the first batches may be gone, for somebody asks for it.
const MAY_GO: u64 = 2 << 32;
/// They are gone, for somebody was told.
const GONE: u64 = 3 << 32;

pub(crate) fn mark_acknowledged(disk: &SimDisk, batches: usize, level: Level) {
    disk.mark(if level == Level::Written { WRITTEN } else { ACKNOWLEDGED } | batches as u64);
}

pub(crate) fn mark_may_go(disk: &SimDisk, batches: usize) {
    disk.mark(MAY_GO | batches as u64);
}

pub(crate) fn mark_gone(disk: &SimDisk, batches: usize) {
    disk.mark(GONE | batches as u64);
}

impl Promised {
    /// Where nothing is ever given away.
    pub(crate) fn batches(batches: usize) -> Promised {
        Promised { batches, gone: 0..=0 }
    }

    /// The highest promises made before operation `at` of a disk, at that level or above.
    pub(crate) fn before(disk: &SimDisk, at: usize, level: Level) -> Promised {
        let marks = disk.marks_before(at);
        let most = |kind| {
            let of_kind = marks.iter().filter(|mark| *mark & KIND == kind);
            of_kind.map(|mark| (mark & !KIND) as usize).max().unwrap_or(0)
        };
        let written = if level == Level::Written { most(WRITTEN) } else { 0 };
        Promised { batches: written.max(most(ACKNOWLEDGED)), gone: most(GONE)..=most(MAY_GO) }
    }
}

impl Submitted {
    /// Which batches a log shows, whole: all from the first of them on.
    ///
    /// # Errors
    /// When what it shows is nothing that was left of a prefix of what was submitted, by taking whole batches from its start.
    pub(crate) fn whole_batches(&self, shown: &BTreeMap<String, Shown>) -> Result<Range<usize>, String> {
        let total: usize = shown.values().map(|topic| topic.first_offset as usize + topic.entries.len()).sum();
        let (mut count, mut end) = (0, 0);
        let mut expected: BTreeMap<&str, Vec<&Bytes>> = BTreeMap::new();
        let (mut gone, mut first_offsets) = (0, BTreeMap::new());
        while count < total {
            let Some(batch) = self.batches.get(end) else {
                return Err(format!("{total} entries are counted, only {count} were ever submitted"));
            };
            let entries = expected.entry(batch.topic).or_default();
            entries.extend(&batch.entries);
            // As long as nothing of a later batch is there, this one is gone, too.
            if gone == end && shown.get(batch.topic).is_some_and(|topic| topic.first_offset >= entries.len() as u64) {
                gone += 1;
                first_offsets.insert(batch.topic, entries.len());
            }
            count += batch.entries.len();
            end += 1;
        }
        for (name, topic) in shown {
            let (expected, first) = (expected.remove(name.as_str()).unwrap_or_default(), topic.first_offset as usize);
            if first != first_offsets.get(name.as_str()).copied().unwrap_or(0) {
                return Err(format!("topic {name} begins at {first}, which is not where the first {gone} batches end"));
            }
            if expected.len() < first || topic.entries.iter().collect::<Vec<_>>() != expected[first..] {
                return Err(format!(
                    "topic {name}: {} entries from {first} on are shown, the first {end} batches have {} there; or their bytes differ",
                    topic.entries.len(),
                    expected.len()
                ));
            }
        }
        match expected.values().find(|entries| !entries.is_empty()) {
            None => Ok(gone..end),
            Some(missing) => {
                Err(format!("{} entries of another topic are missing before the last batch", missing.len()))
            }
        }
    }
}

/// Everything that a log shows. It has just been opened for looking, and must not report damage.
pub(crate) fn shown(viewer: &Viewer) -> Result<BTreeMap<String, Shown>, String> {
    if let Some(damage) = viewer.verification().damage.first() {
        return Err(format!("damage is reported after a mere crash: {damage}"));
    }
    let mut all = BTreeMap::new();
    for topic in viewer.topics() {
        let (mut entries, mut next) = (Vec::new(), topic.first_offset);
        while next < topic.next_offset {
            let read = viewer.read(&topic.name, next, ReadLimit::default());
            let read = read.map_err(|error| format!("topic {} cannot be read: {error}", topic.name))?;
            if read.first().is_none_or(|first| first.offset != next) {
                return Err(format!("topic {} has a hole at offset {next}", topic.name));
            }
            next += read.len() as u64;
            entries.extend(read.into_iter().map(|entry| entry.payload));
        }
        all.insert(topic.name, Shown { first_offset: topic.first_offset, entries });
    }
    Ok(all)
}
