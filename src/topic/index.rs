//! Which blocks hold the entries of each topic, and what the log's own topic has said: names and reigns.
//!
//! One number pair per (topic, block): the first offset of the topic in the block, and the block's LSN. Where the block lies is its
//! segment's business.
//!
//! Layer: topic. Fed by recovery and by the commit thread through [`Sink`]; extended at publish only.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use crate::commit::submission::TopicSlot;
use crate::format::base::{Base, BaseTopic};
use crate::format::block::Kind;
use crate::format::control::{Reign, TopicDefinition};
use crate::ids::{Chain, TopicId};
use crate::log::meta::{BlockMeta, Past, Remembers, Run, Sink};
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
    /// Where its TOPIC block lies, once that is part of the log. [`Lsn::FIRST`] if it has been given away since.
    defined: Option<Lsn>,
    first_offset: u64,
    next_offset: u64,
    blocks: Vec<BlockRef>,
    /// How many blocks stood before these and were given away: whoever counts on them while that happens counts from there.
    given_away: usize,
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
            let definition = TopicDefinition { id: topic.id, name: topic.name.clone() };
            index.define(definition, Lsn::FIRST, topic.next_offset);
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

    fn define(&self, definition: TopicDefinition, lsn: Lsn, first_offset: u64) {
        let mut topics = self.topics.write().expect("no holder of this lock panics");
        let topic = Arc::clone(topics.entry(&definition.name));
        topic.slot.define(definition.id);
        let index = definition.id.get() as usize;
        if topics.by_id.len() <= index {
            topics.by_id.resize(index + 1, None);
        }
        topics.by_id[index] = Some(Arc::clone(&topic));
        let mut entries = topic.entries.write().expect("no holder of this lock panics");
        (entries.defined, entries.first_offset, entries.next_offset) = (Some(lsn), first_offset, first_offset);
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
                definition.into_iter().for_each(|definition| self.define(definition, block.lsn, 0));
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

impl Remembers for Index {
    fn before(&self, lsn: Lsn) -> Past {
        let lineage = self.history().lineage.into_iter().filter(|reign| reign.start_lsn < lsn).collect();
        let topics = self.topics.read().expect("no holder of this lock panics");
        Past { lineage, topics: topics.by_id.iter().flatten().filter_map(|topic| topic.before(lsn)).collect() }
    }

    fn forget_below(&self, lsn: Lsn) {
        let topics = self.topics.read().expect("no holder of this lock panics");
        topics.by_id.iter().flatten().for_each(|topic| topic.forget_below(lsn));
    }
}

impl Topic {
    fn is_defined(&self) -> bool {
        self.entries.read().expect("no holder of this lock panics").defined.is_some()
    }

    pub(crate) fn next_offset(&self) -> u64 {
        self.entries.read().expect("no holder of this lock panics").next_offset
    }

    pub(crate) fn first_offset(&self) -> u64 {
        self.entries.read().expect("no holder of this lock panics").first_offset
    }

    pub(crate) fn info(&self) -> Option<TopicInfo> {
        let entries = self.entries.read().expect("no holder of this lock panics");
        Some(TopicInfo {
            name: self.slot.name().to_owned(),
            id: self.slot.id().filter(|_| entries.defined.is_some())?,
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

    /// The numbers of its blocks, counted from the first it ever had. A block that is given away leaves its number unused.
    pub(crate) fn block_numbers(&self) -> std::ops::Range<usize> {
        let entries = self.entries.read().expect("no holder of this lock panics");
        entries.given_away..entries.given_away + entries.blocks.len()
    }

    /// The block of that number; `None` if it has been given away.
    pub(crate) fn block_at(&self, number: usize) -> Option<BlockRef> {
        let entries = self.entries.read().expect("no holder of this lock panics");
        entries.blocks.get(number.checked_sub(entries.given_away)?).copied()
    }

    /// The block that holds the entry `offset`, or `None` if it is not there yet.
    pub(crate) fn lsn_of(&self, offset: u64) -> Option<Lsn> {
        let entries = self.entries.read().expect("no holder of this lock panics");
        if offset >= entries.next_offset {
            return None;
        }
        let behind = entries.blocks.partition_point(|block| block.first_offset <= offset);
        entries.blocks.get(behind.saturating_sub(1)).map(|block| block.lsn)
    }

    /// The first offset in the block of that number; where it would be, if there is no such block yet or no more.
    pub(crate) fn first_offset_of(&self, number: usize) -> u64 {
        let entries = self.entries.read().expect("no holder of this lock panics");
        match number.checked_sub(entries.given_away) {
            None => entries.first_offset,
            Some(index) => entries.blocks.get(index).map_or(entries.next_offset, |block| block.first_offset),
        }
    }

    /// As a base that begins at `lsn` has to hold it; `None` if it was defined later.
    fn before(&self, lsn: Lsn) -> Option<BaseTopic> {
        let entries = self.entries.read().expect("no holder of this lock panics");
        entries.defined.filter(|defined| *defined < lsn)?;
        let id = self.slot.id().expect("a topic that is defined has a number");
        Some(BaseTopic { id, name: self.slot.name().to_owned(), next_offset: entries.first_offset_from(lsn) })
    }

    fn forget_below(&self, lsn: Lsn) {
        let mut entries = self.entries.write().expect("no holder of this lock panics");
        entries.defined = entries.defined.map(|defined| if defined < lsn { Lsn::FIRST } else { defined });
        entries.first_offset = entries.first_offset_from(lsn);
        let gone = entries.blocks.partition_point(|block| block.lsn < lsn);
        entries.blocks.drain(..gone);
        entries.given_away += gone;
    }
}

impl Entries {
    /// The offset of the first entry in a block at or behind `lsn`.
    fn first_offset_from(&self, lsn: Lsn) -> u64 {
        let first = self.blocks.partition_point(|block| block.lsn < lsn);
        self.blocks.get(first).map_or(self.next_offset, |block| block.first_offset)
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
