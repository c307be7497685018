//! What was submitted, in order, and what of it must and may be seen after a crash.

use std::collections::BTreeMap;

use bytes::Bytes;
use walrus_node::{AppendError, AppendOptions, Engine, Level, ReadLimit, Ticket, Viewer};

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
}

/// Everything that was submitted, in the order in which it was queued: one thread submits, so the log's order is this order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Submitted {
    pub(crate) batches: Vec<Batch>,
}

impl Submitted {
    /// How many whole batches a log shows.
    ///
    /// # Errors
    /// When what it shows is no prefix of what was submitted.
    pub(crate) fn whole_batches(&self, shown: &BTreeMap<String, Vec<Bytes>>) -> Result<usize, String> {
        let total: usize = shown.values().map(Vec::len).sum();
        let (mut count, mut batches) = (0, 0);
        let mut expected: BTreeMap<&str, Vec<&Bytes>> = BTreeMap::new();
        while count < total {
            let Some(batch) = self.batches.get(batches) else {
                return Err(format!("{total} entries are shown, only {count} were ever submitted"));
            };
            expected.entry(batch.topic).or_default().extend(&batch.entries);
            count += batch.entries.len();
            batches += 1;
        }
        for (topic, entries) in shown {
            let expected = expected.remove(topic.as_str()).unwrap_or_default();
            if entries.iter().collect::<Vec<_>>() != expected {
                return Err(format!(
                    "topic {topic}: {} entries are shown, the first {batches} batches have {} there; or their bytes differ",
                    entries.len(),
                    expected.len()
                ));
            }
        }
        match expected.values().find(|entries| !entries.is_empty()) {
            None => Ok(batches),
            Some(missing) => {
                Err(format!("{} entries of another topic are missing before the last batch", missing.len()))
            }
        }
    }
}

/// Everything that a log shows. It has just been opened for looking, and must not report damage.
pub(crate) fn shown(viewer: &Viewer) -> Result<BTreeMap<String, Vec<Bytes>>, String> {
    if let Some(damage) = viewer.verification().damage.first() {
        return Err(format!("damage is reported after a mere crash: {damage}"));
    }
    let mut all = BTreeMap::new();
    for topic in viewer.topics() {
        let mut entries = Vec::new();
        while (entries.len() as u64) < topic.next_offset {
            let read = viewer.read(&topic.name, entries.len() as u64, ReadLimit::default());
            let read = read.map_err(|error| format!("topic {} cannot be read: {error}", topic.name))?;
            if read.first().is_none_or(|first| first.offset != entries.len() as u64) {
                return Err(format!("topic {} has a hole at offset {}", topic.name, entries.len()));
            }
            entries.extend(read.into_iter().map(|entry| entry.payload));
        }
        all.insert(topic.name, entries);
    }
    Ok(all)
}
