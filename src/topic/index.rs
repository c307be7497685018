//! Which blocks hold the entries of each topic, and what the log's own topic has said: names and reigns.
//!
//! One number pair per (topic, block): the first offset of the topic in the block, and the block's LSN. Where the block lies is its
//! segment's business.
//!
//! ```text
//!   name --by_name--> number, given when the topic's first entry is planned          callers look here
//!   number --entries--> offsets, blocks of that topic                                extended once a group, under one lock
//! ```
//!
//! Layer: topic. Fed by recovery and by the commit thread through [`Sink`]; extended at publish only.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::commit::submission::TopicSlot;
use crate::format::base::{Base, BaseTopic};
use crate::format::block::Kind;
use crate::format::control::{Abort, Commit, CommittedTopic, Reign, TopicDefinition};
use crate::ids::{Chain, TopicId};
use crate::log::meta::{BlockMeta, Past, Remembers, Run, Sink};
use crate::lsn::Lsn;

/// So many topics forget what was given away before others may look: some tens of microseconds.
const TOPICS_AT_A_TIME: usize = 128;

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

/// One topic: a handle that costs nothing to copy.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) slot: Arc<TopicSlot>,
    entries: Arc<AllEntries>,
}

/// What the log has of each topic, by number. One lock for all: a group may extend two hundred topics, and the memory of ten thousand
/// is in no cache. Under one lock the processor fetches the next ones while it waits for one; a lock each would make it wait
/// for each (docs/decisions/0009). It is held for moments only.
#[derive(Debug, Default)]
struct AllEntries {
    by_id: RwLock<Vec<Entries>>,
}

/// What stands of a topic that has been introduced; of another there can be nothing.
fn defined(all: &mut [Entries], id: TopicId) -> Option<&mut Entries> {
    all.get_mut(id.get() as usize).filter(|entries| entries.defined.is_some())
}

impl AllEntries {
    fn read(&self) -> RwLockReadGuard<'_, Vec<Entries>> {
        self.by_id.read().expect("no holder of this lock panics")
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<Entries>> {
        self.by_id.write().expect("no holder of this lock panics")
    }
}

#[derive(Debug, Default)]
struct Entries {
    /// Where its TOPIC block lies, once that is part of the log. [`Lsn::FIRST`] if it has been given away since.
    defined: Option<Lsn>,
    first_offset: u64,
    next_offset: u64,
    blocks: VecDeque<BlockRef>,
    /// How many blocks stood before these and were given away: whoever counts on them while that happens counts from there.
    given_away: usize,
    /// Entries whose blocks were staged: their time is that of the COMMIT.
    staged: Vec<StagedSpan>,
}

/// A topic's entries of one staged batch.
#[derive(Clone, Copy, Debug)]
struct StagedSpan {
    first_offset: u64,
    next_offset: u64,
    ts_ns: u64,
}

/// The staged batches of the log, by their name, the LSN of their first block.
#[derive(Debug, Default)]
struct Staged {
    open: HashMap<Lsn, OpenBatch>,
    /// Where the COMMIT of each lies that has one.
    committed: BTreeMap<Lsn, Lsn>,
}

/// A staged batch that has no COMMIT yet: its blocks, with offsets relative to the batch.
#[derive(Debug, Default)]
struct OpenBatch {
    blocks: Vec<(Lsn, Vec<Run>)>,
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
    entries: Arc<AllEntries>,
    history: RwLock<History>,
    staged: Mutex<Staged>,
    /// The first block that was there when the log was opened.
    first_lsn: Lsn,
}

#[derive(Debug, Default)]
struct Topics {
    by_name: HashMap<Box<str>, Topic>,
    /// By number; the control topic has none.
    by_id: Vec<Option<Topic>>,
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
        let (topics, entries, staged) = (RwLock::default(), Arc::default(), Mutex::default());
        let index = Index { topics, entries, history: RwLock::new(history), staged, first_lsn: base.first_lsn };
        for topic in &base.topics {
            let definition = TopicDefinition { id: topic.id, name: topic.name.clone() };
            index.define(definition, Lsn::FIRST, topic.next_offset);
        }
        index
    }

    /// The topic of that name, made known if it is not; it is in the log only once an entry of it has been committed.
    pub(crate) fn topic_for_append(&self, name: &str) -> Arc<TopicSlot> {
        if let Some(topic) = self.topics.read().expect("no holder of this lock panics").by_name.get(name) {
            return Arc::clone(&topic.slot);
        }
        Arc::clone(&self.make_known(name).slot)
    }

    fn make_known(&self, name: &str) -> Topic {
        let mut topics = self.topics.write().expect("no holder of this lock panics");
        let new = || Topic { slot: Arc::new(TopicSlot::undefined(name)), entries: Arc::clone(&self.entries) };
        topics.by_name.entry(name.into()).or_insert_with(new).clone()
    }

    /// The topic of that name, if the log has one.
    pub(crate) fn topic(&self, name: &str) -> Option<Topic> {
        let topics = self.topics.read().expect("no holder of this lock panics");
        topics.by_name.get(name).filter(|topic| topic.info().is_some()).cloned()
    }

    /// Every topic of the log, by number.
    pub(crate) fn all(&self) -> Vec<TopicInfo> {
        let topics = self.topics.read().expect("no holder of this lock panics");
        topics.by_id.iter().flatten().filter_map(|topic| topic.info()).collect()
    }

    /// The name of every topic that has a number, also of those without an entry yet.
    pub(crate) fn names(&self) -> Vec<(TopicId, String)> {
        let topics = self.topics.read().expect("no holder of this lock panics");
        let named = topics.by_id.iter().flatten();
        named.filter_map(|topic| Some((topic.slot.id()?, topic.slot.name().to_owned()))).collect()
    }

    /// Staged batches without a COMMIT: name, blocks so far, and the last run of entries in them.
    pub(crate) fn open_batches(&self) -> Vec<(Lsn, u64, Option<Run>)> {
        let staged = self.staged();
        let last_run = |batch: &OpenBatch| batch.blocks.iter().rev().find_map(|(_, runs)| runs.last()).copied();
        staged.open.iter().map(|(txn, batch)| (*txn, batch.blocks.len() as u64, last_run(batch))).collect()
    }

    /// How many topics the log has.
    pub(crate) fn len(&self) -> usize {
        let topics = self.topics.read().expect("no holder of this lock panics");
        topics.by_id.iter().flatten().filter(|topic| topic.info().is_some()).count()
    }

    /// The next offset of each topic by number; 0 for the control topic.
    pub(crate) fn next_offsets(&self) -> Vec<u64> {
        let mut offsets: Vec<_> = self.entries.read().iter().map(|entries| entries.next_offset).collect();
        offsets.resize(offsets.len().max(1), 0);
        offsets
    }

    pub(crate) fn history(&self) -> History {
        self.history.read().expect("no holder of this lock panics").clone()
    }

    fn define(&self, definition: TopicDefinition, lsn: Lsn, first_offset: u64) {
        let topic = self.make_known(&definition.name);
        topic.slot.define(definition.id);
        let index = definition.id.get() as usize;
        let mut all = self.entries.write();
        if all.len() <= index {
            all.resize_with(index + 1, Entries::default);
        }
        let entries = &mut all[index];
        (entries.defined, entries.first_offset, entries.next_offset) = (Some(lsn), first_offset, first_offset);
        drop(all);
        let mut topics = self.topics.write().expect("no holder of this lock panics");
        if topics.by_id.len() <= index {
            topics.by_id.resize(index + 1, None);
        }
        topics.by_id[index] = Some(topic);
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
                // Batches that an earlier reign has left open are void.
                self.staged().open.clear();
            }
            Kind::Commit => Commit::parse(body).into_iter().for_each(|commit| self.commit(&commit, block)),
            Kind::Abort => Abort::parse(body).into_iter().for_each(|abort| drop(self.staged().open.remove(&abort.txn))),
            Kind::Data | Kind::Skippable(_) => {}
        }
    }

    /// Keeps a staged block until its COMMIT comes.
    fn stage(&self, txn: Lsn, block: &BlockMeta) {
        self.staged().open.entry(txn).or_default().blocks.push((block.lsn, block.runs.clone()));
    }

    fn staged(&self) -> MutexGuard<'_, Staged> {
        self.staged.lock().expect("no holder of this lock panics")
    }

    fn commit(&self, commit: &Commit, block: &BlockMeta) {
        let batch = {
            let mut staged = self.staged();
            staged.committed.insert(commit.txn, block.lsn);
            staged.open.remove(&commit.txn)
        };
        // All or nothing: with a block of it given away or damaged the batch is not shown.
        let whole = batch.filter(|batch| batch.blocks.len() as u64 == commit.blocks);
        let given_away = commit.txn < self.first_lsn;
        let mut all = self.entries.write();
        for part in &commit.topics {
            let Some(entries) = defined(&mut all, part.id) else { continue };
            match &whole {
                Some(batch) => entries.extend_staged(part, batch, block.ts_ns),
                None => entries.pass_over(part, given_away),
            }
        }
    }

    /// Adds the entries of one atomic group, all at once: a reader who came between two blocks of a batch would see part of it.
    fn extend(&self, group: &[BlockMeta]) {
        let mut all = self.entries.write();
        for block in group.iter().filter(|block| block.txn.is_none()) {
            for run in &block.runs {
                if let Some(entries) = defined(&mut all, run.topic) {
                    entries.extend(block.lsn, run.first_offset, run.entries);
                }
            }
        }
    }
}

impl Sink for Index {
    fn publish(&self, blocks: &[BlockMeta]) {
        for group in blocks.chunk_by(|block, _| block.remaining > 0) {
            for block in group {
                self.control(block);
                block.txn.iter().for_each(|txn| self.stage(*txn, block));
            }
            self.extend(group);
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

    fn batch_across(&self, lsn: Lsn) -> Option<Lsn> {
        let staged = self.staged();
        let open = staged.open.keys().copied();
        let committed = staged.committed.iter().filter(|(_, commit)| **commit >= lsn).map(|(txn, _)| *txn);
        open.chain(committed).filter(|txn| *txn < lsn).min()
    }

    fn forget_below(&self, lsn: Lsn) {
        self.staged().committed.retain(|_, commit| *commit >= lsn);
        let topics = self.entries.read().len();
        for some in (0..topics).step_by(TOPICS_AT_A_TIME) {
            let mut all = self.entries.write();
            all.iter_mut().skip(some).take(TOPICS_AT_A_TIME).for_each(|entries| entries.forget_below(lsn));
        }
    }
}

impl Topic {
    /// What the log has of it; nothing while its TOPIC block is not published.
    fn look<T>(&self, at: impl FnOnce(&Entries) -> T) -> T {
        let all = self.entries.read();
        let mine = self.slot.id().and_then(|id| all.get(id.get() as usize));
        at(mine.unwrap_or(&Entries::default()))
    }

    pub(crate) fn first_offset(&self) -> u64 {
        self.look(|entries| entries.first_offset)
    }

    /// None while nothing was ever appended to it: a batch that came to nothing has left its name, and no more.
    pub(crate) fn info(&self) -> Option<TopicInfo> {
        let (is_there, first_offset, next_offset) = self.look(|entries| {
            let is_there = entries.defined.is_some() && entries.next_offset > 0;
            (is_there, entries.first_offset, entries.next_offset)
        });
        let id = self.slot.id().filter(|_| is_there)?;
        Some(TopicInfo { name: self.slot.name().to_owned(), id, first_offset, next_offset })
    }

    /// The time of an entry whose block was staged.
    pub(crate) fn committed_ts(&self, offset: u64) -> Option<u64> {
        self.look(|entries| {
            let behind = entries.staged.partition_point(|span| span.next_offset <= offset);
            entries.staged.get(behind).filter(|span| span.first_offset <= offset).map(|span| span.ts_ns)
        })
    }

    /// The blocks that hold the entries from `offset` on, at most `max` of them; the first may begin before it.
    pub(crate) fn blocks_from(&self, offset: u64, max: usize) -> Vec<BlockRef> {
        self.look(|entries| {
            let first = entries.blocks.partition_point(|block| block.first_offset <= offset).saturating_sub(1);
            entries.blocks.range(first..).take(max).copied().collect()
        })
    }

    /// The numbers of its blocks, counted from the first it ever had. A block that is given away leaves its number unused.
    pub(crate) fn block_numbers(&self) -> std::ops::Range<usize> {
        self.look(|entries| entries.given_away..entries.given_away + entries.blocks.len())
    }

    /// The block of that number; `None` if it has been given away.
    pub(crate) fn block_at(&self, number: usize) -> Option<BlockRef> {
        self.look(|entries| entries.blocks.get(number.checked_sub(entries.given_away)?).copied())
    }

    /// The block that holds the entry `offset`, or `None` if it is not there yet.
    pub(crate) fn lsn_of(&self, offset: u64) -> Option<Lsn> {
        self.look(|entries| {
            let behind = entries.blocks.partition_point(|block| block.first_offset <= offset);
            let block = entries.blocks.get(behind.saturating_sub(1));
            block.filter(|_| offset < entries.next_offset).map(|block| block.lsn)
        })
    }

    /// The first offset in the block of that number; where it would be, if there is no such block yet or no more.
    pub(crate) fn first_offset_of(&self, number: usize) -> u64 {
        self.look(|entries| match number.checked_sub(entries.given_away) {
            None => entries.first_offset,
            Some(index) => entries.blocks.get(index).map_or(entries.next_offset, |block| block.first_offset),
        })
    }

    /// As a base that begins at `lsn` has to hold it; `None` if it was defined later.
    fn before(&self, lsn: Lsn) -> Option<BaseTopic> {
        let next_offset = self.look(|entries| {
            entries.defined.filter(|defined| *defined < lsn)?;
            Some(entries.first_offset_from(lsn))
        })?;
        let id = self.slot.id().expect("a topic that is defined has a number");
        Some(BaseTopic { id, name: self.slot.name().to_owned(), next_offset })
    }
}

impl Entries {
    fn extend(&mut self, lsn: Lsn, first_offset: u64, n: u32) {
        self.next_offset = first_offset + u64::from(n);
        // A block with several runs of one topic is found by its first.
        if self.blocks.back().is_none_or(|last| last.lsn != lsn) {
            self.blocks.push_back(BlockRef { first_offset, lsn });
        }
    }

    fn extend_staged(&mut self, part: &CommittedTopic, batch: &OpenBatch, ts_ns: u64) {
        let (first_offset, next_offset) = (part.base_offset, part.base_offset + part.entries);
        self.staged.push(StagedSpan { first_offset, next_offset, ts_ns });
        for (lsn, runs) in &batch.blocks {
            for run in runs.iter().filter(|run| run.topic == part.id) {
                self.extend(*lsn, part.base_offset + run.first_offset, run.entries);
            }
        }
        self.next_offset = next_offset;
    }

    /// A staged batch whose blocks are not all there: given away, it takes with it what lies before it; damaged, it leaves a gap.
    fn pass_over(&mut self, part: &CommittedTopic, given_away: bool) {
        self.next_offset = part.base_offset + part.entries;
        if given_away {
            self.first_offset = self.next_offset;
            self.given_away += self.blocks.len();
            self.blocks.clear();
            self.staged.clear();
        }
    }

    /// The offset of the first entry in a block at or behind `lsn`. No staged batch lies across it, so the blocks before it are the first
    /// ones here, though those of a staged batch stand behind blocks that were written later.
    fn first_offset_from(&self, lsn: Lsn) -> u64 {
        let first = self.blocks.partition_point(|block| block.lsn < lsn);
        self.blocks.get(first).map_or(self.next_offset, |block| block.first_offset)
    }

    fn forget_below(&mut self, lsn: Lsn) {
        self.defined = self.defined.map(|defined| if defined < lsn { Lsn::FIRST } else { defined });
        self.first_offset = self.first_offset_from(lsn);
        while self.blocks.pop_front_if(|block| block.lsn < lsn).is_some() {
            self.given_away += 1;
        }
        let first_offset = self.first_offset;
        self.staged.retain(|span| span.next_offset > first_offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Position;

    fn empty() -> Index {
        let (first_position, chain) = (Position::from_bits(0), Chain::START);
        Index::new(&Base { first_lsn: Lsn::FIRST, first_position, chain, lineage: Vec::new(), topics: Vec::new() })
    }

    fn block(lsn: u64, kind: Kind, runs: Vec<Run>, control: Option<Vec<u8>>) -> BlockMeta {
        let (position, chain) = (Position::from_bits(0), Chain::START);
        let (lsn, total_len, body_len, ts_ns, remaining, txn) = (Lsn::new(lsn), 4096, 100, 0, 0, None);
        BlockMeta { lsn, position, total_len, body_len, chain, ts_ns, kind, remaining, txn, runs, control }
    }

    fn topic_block(lsn: u64, id: u32) -> BlockMeta {
        let body = TopicDefinition { id: TopicId::new(id), name: format!("topic {id}") }.encode();
        block(lsn, Kind::Topic, Vec::new(), Some(body))
    }

    #[test]
    fn a_topic_with_a_number_that_no_log_can_have_reached_reserves_nothing() {
        let index = empty();
        for (lsn, id) in [(2, 1), (3, 0), (4, 5), (5, u32::MAX)] {
            index.publish(&[topic_block(lsn, id)]);
        }
        assert_eq!(index.names(), [(TopicId::new(1), "topic 1".to_owned())]);
        assert!(index.all().is_empty(), "a topic without an entry is not shown");
        assert_eq!(index.next_offsets().len(), 2);
    }

    #[test]
    fn entries_of_a_topic_that_was_never_introduced_are_none() {
        let index = empty();
        index.publish(&[topic_block(4, 2)]);
        let run = |id, entries| Run { topic: TopicId::new(id), first_offset: 0, entries };
        index.publish(&[block(5, Kind::Data, vec![run(1, 7), run(2, 3), run(9, 1)], None)]);
        assert_eq!(index.next_offsets(), [0, 0, 3]);
        assert_eq!(index.all().iter().map(|topic| topic.next_offset).collect::<Vec<_>>(), [3]);
    }
}
