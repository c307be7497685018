//! Which blocks hold the entries of each topic, and what the log's own topic has said: names and reigns.
//!
//! One number pair per (topic, block): the first offset of the topic in the block, and the block's LSN. Where the block lies is its
//! segment's business.
//!
//! Layer: topic. Fed by recovery and by the commit thread through [`Sink`]; extended at publish only.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use crate::commit::submission::TopicSlot;
use crate::format::base::Base;
use crate::format::block::Kind;
use crate::format::control::{Reign, TopicDefinition};
use crate::ids::{Chain, TopicId};
use crate::log::meta::{BlockMeta, Run, Sink};
use crate::lsn::Lsn;

/// A topic and how far it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// Its number in this log.
    pub id: TopicId,
    /// The offset of its first entry that is still there.
    pub first_offset: u64,
    /// The offset of its next entry: one past the last.
    pub next_offset: u64,
}

/// One topic.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) slot: Arc<TopicSlot>,
    entries: RwLock<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    /// Whether its TOPIC block is part of the log.
    defined: bool,
    first_offset: u64,
    next_offset: u64,
    blocks: Vec<BlockRef>,
}

/// The entries of one topic in one block begin at this offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockRef {
    pub(crate) first_offset: u64,
    pub(crate) lsn: Lsn,
}

/// What is derived from the log.
#[derive(Debug)]
pub(crate) struct Index {
    topics: RwLock<Topics>,
    history: RwLock<History>,
}

#[derive(Debug, Default)]
struct Topics {
    by_name: HashMap<Box<str>, Arc<Topic>>,
    /// By number; the control topic has none.
    by_id: Vec<Option<Arc<Topic>>>,
}

/// The reigns of the log and its published end.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) lineage: Vec<Reign>,
    /// The published tail (exclusive) and the chain before it.
    pub(crate) lsn: Lsn,
    pub(crate) chain: Chain,
}

impl Index {
    /// What the log knew where it begins.
    pub(crate) fn new(base: &Base) -> Index {
        let history = History { lineage: base.lineage.clone(), lsn: base.first_lsn, chain: base.chain };
        let index = Index { topics: RwLock::default(), history: RwLock::new(history) };
        for topic in &base.topics {
            index.define(TopicDefinition { id: topic.id, name: topic.name.clone() }, topic.next_offset);
        }
        index
    }

    /// The topic of that name, made known if it is not; it is in the log only once an entry of it has been committed.
    pub(crate) fn topic_for_append(&self, name: &str) -> Arc<Topic> {
        if let Some(topic) = self.topics.read().expect("no holder of this lock panics").by_name.get(name) {
            return Arc::clone(topic);
        }
        Arc::clone(self.topics.write().expect("no holder of this lock panics").entry(name))
    }

    /// The topic of that name, if the log has one.
    pub(crate) fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        let topics = self.topics.read().expect("no holder of this lock panics");
        topics.by_name.get(name).filter(|topic| topic.is_defined()).cloned()
    }

    /// Every topic of the log, by number.
    pub(crate) fn all(&self) -> Vec<TopicInfo> {
        let topics = self.topics.read().expect("no holder of this lock panics");
        topics.by_id.iter().flatten().filter_map(|topic| topic.info()).collect()
    }

    /// How many topics the log has.
    pub(crate) fn len(&self) -> usize {
        self.topics.read().expect("no holder of this lock panics").by_id.iter().flatten().count()
    }

    /// The next offset of each topic by number; 0 for the control topic.
    pub(crate) fn next_offsets(&self) -> Vec<u64> {
        let topics = self.topics.read().expect("no holder of this lock panics");
        let next = |topic: &Option<Arc<Topic>>| topic.as_ref().map_or(0, |topic| topic.next_offset());
        let mut offsets: Vec<_> = topics.by_id.iter().map(next).collect();
        offsets.resize(offsets.len().max(1), 0);
        offsets
    }

    pub(crate) fn history(&self) -> History {
        self.history.read().expect("no holder of this lock panics").clone()
    }

    fn define(&self, definition: TopicDefinition, first_offset: u64) {
        let mut topics = self.topics.write().expect("no holder of this lock panics");
        let topic = Arc::clone(topics.entry(&definition.name));
        topic.slot.define(definition.id);
        let index = definition.id.get() as usize;
        if topics.by_id.len() <= index {
            topics.by_id.resize(index + 1, None);
        }
        topics.by_id[index] = Some(Arc::clone(&topic));
        let mut entries = topic.entries.write().expect("no holder of this lock panics");
        (entries.defined, entries.first_offset, entries.next_offset) = (true, first_offset, first_offset);
    }

    fn control(&self, block: &BlockMeta) {
        let Some(body) = &block.control else { return };
        match block.kind {
            // The bodies have a payload sum and were parsed when they were made or taken from a leader.
            Kind::Topic => {
                // Each topic has a block of its own, so its number is no larger than that block's; one that is would make us reserve
                // gigabytes on the word of a sound but forged block.
                let possible = |id: TopicId| id != TopicId::CONTROL && u64::from(id.get()) <= block.lsn.get();
                let definition = TopicDefinition::parse(body).ok().filter(|definition| possible(definition.id));
                definition.into_iter().for_each(|definition| self.define(definition, 0));
            }
            Kind::Epoch => {
                let mut history = self.history.write().expect("no holder of this lock panics");
                history.lineage.extend(Reign::parse(body).ok());
            }
            Kind::Data | Kind::Skippable(_) => {}
        }
    }

    fn extend(&self, lsn: Lsn, run: &Run) {
        let topics = self.topics.read().expect("no holder of this lock panics");
        if let Some(Some(topic)) = topics.by_id.get(run.topic.get() as usize) {
            topic.extend(lsn, run);
        }
    }
}

impl Topics {
    fn entry(&mut self, name: &str) -> &Arc<Topic> {
        self.by_name.entry(name.into()).or_insert_with(|| {
            Arc::new(Topic { slot: Arc::new(TopicSlot::undefined(name)), entries: RwLock::default() })
        })
    }
}

impl Sink for Index {
    fn publish(&self, blocks: &[BlockMeta]) {
        for block in blocks {
            self.control(block);
            for run in &block.runs {
                self.extend(block.lsn, run);
            }
        }
        if let Some(last) = blocks.last() {
            let mut history = self.history.write().expect("no holder of this lock panics");
            (history.lsn, history.chain) = (last.lsn.next(), last.chain);
        }
    }
}

impl Topic {
    fn is_defined(&self) -> bool {
        self.entries.read().expect("no holder of this lock panics").defined
    }

    pub(crate) fn next_offset(&self) -> u64 {
        self.entries.read().expect("no holder of this lock panics").next_offset
    }

    pub(crate) fn info(&self) -> Option<TopicInfo> {
        let entries = self.entries.read().expect("no holder of this lock panics");
        Some(TopicInfo {
            name: self.slot.name().to_owned(),
            id: self.slot.id().filter(|_| entries.defined)?,
            first_offset: entries.first_offset,
            next_offset: entries.next_offset,
        })
    }

    fn extend(&self, lsn: Lsn, run: &Run) {
        let mut entries = self.entries.write().expect("no holder of this lock panics");
        entries.next_offset = run.first_offset + u64::from(run.entries);
        // A block with several runs of one topic is found by its first.
        if entries.blocks.last().is_none_or(|last| last.lsn < lsn) {
            entries.blocks.push(BlockRef { first_offset: run.first_offset, lsn });
        }
    }

    /// The blocks that hold the entries from `offset` on, at most `max` of them; the first may begin before it.
    pub(crate) fn blocks_from(&self, offset: u64, max: usize) -> Vec<BlockRef> {
        let entries = self.entries.read().expect("no holder of this lock panics");
        let first = entries.blocks.partition_point(|block| block.first_offset <= offset).saturating_sub(1);
        entries.blocks[first..].iter().take(max).copied().collect()
    }

    pub(crate) fn blocks_len(&self) -> usize {
        self.entries.read().expect("no holder of this lock panics").blocks.len()
    }

    pub(crate) fn block_at(&self, index: usize) -> Option<BlockRef> {
        self.entries.read().expect("no holder of this lock panics").blocks.get(index).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Position;

    #[test]
    fn a_topic_with_a_number_that_no_log_can_have_reached_reserves_nothing() {
        let (first_position, chain) = (Position::from_bits(0), Chain::START);
        let base = Base { first_lsn: Lsn::FIRST, first_position, chain, lineage: Vec::new(), topics: Vec::new() };
        let index = Index::new(&base);
        for (lsn, id) in [(2, 1), (3, 0), (4, 5), (5, u32::MAX)] {
            let body = TopicDefinition { id: TopicId::new(id), name: format!("topic {id}") }.encode();
            let (kind, control) = (Kind::Topic, Some(body));
            let (lsn, position) = (Lsn::new(lsn), first_position);
            index.publish(&[BlockMeta {
                lsn,
                position,
                total_len: 4096,
                chain,
                ts_ns: 0,
                kind,
                runs: Vec::new(),
                control,
            }]);
        }
        assert_eq!(index.all().into_iter().map(|topic| topic.name).collect::<Vec<_>>(), ["topic 1"]);
        assert_eq!(index.next_offsets().len(), 2);
    }
}
