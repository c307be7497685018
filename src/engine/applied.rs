//! What a leader's blocks must be like before a follower writes them: sound, next in line, and such that every index can be built from
//! them.
//!
//! ```text
//!   Applied --check(blocks)--> NextApplied --queued--> Applied       planned on copies, put in place once the blocks are queued
//! ```
//!
//! Layer: engine. Uses `format`. Knows nothing of where the blocks come from.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::mirror::ApplyError;
use crate::format::Corrupt;
use crate::format::block::{EntryView, Kind, PortableView};
use crate::format::control::{Abort, Commit, Reign, TopicDefinition};
use crate::ids::{Chain, LogId, TopicId};
use crate::log::meta::Run;
use crate::log::tail::Tail;
use crate::lsn::Lsn;
use crate::topic::check_name;
use crate::topic::index::Index;

/// How far a leader's blocks have been queued: ahead of the published end by what is in flight.
#[derive(Debug)]
pub(super) struct Applied {
    lsn: Lsn,
    chain: Chain,
    ts_ns: u64,
    /// The next offset of each topic by number; one more than the topics there are.
    next_offsets: Vec<u64>,
    names: HashSet<String>,
    /// Staged batches that have no COMMIT yet.
    staged: HashMap<Lsn, Staged>,
}

/// What has come of a staged batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Staged {
    blocks: u64,
    entries: u64,
    /// The topic of its entries; none while it has none.
    topic: Option<TopicId>,
}

/// What a row of blocks would do to [`Applied`].
#[derive(Debug)]
pub(super) struct NextApplied {
    lsn: Lsn,
    chain: Chain,
    ts_ns: u64,
    remaining: u32,
    topics: Vec<TopicDefinition>,
    /// Topic numbers and the offsets that come next in them.
    offsets: Vec<(TopicId, u64)>,
    /// A reign has begun in the row: batches staged before it are void.
    voids_staged: bool,
    /// Staged batches as they are behind the row; none for those that have ended in it.
    staged: HashMap<Lsn, Option<Staged>>,
}

impl Applied {
    pub(super) fn at(index: &Index, tail: Tail) -> Applied {
        let staged = index.staged().into_iter();
        Applied {
            lsn: tail.lsn,
            chain: tail.chain,
            ts_ns: tail.ts_ns,
            next_offsets: index.next_offsets(),
            names: index.names().into_iter().map(|(_, name)| name).collect(),
            staged: staged.map(|(txn, blocks, runs)| (txn, Staged::of(blocks, runs))).collect(),
        }
    }

    /// Checks sums, chain, order and contents of a row of blocks.
    pub(super) fn check(&self, blocks: &[Bytes], log_id: LogId) -> Result<NextApplied, ApplyError> {
        let mut next = NextApplied {
            lsn: self.lsn,
            chain: self.chain,
            ts_ns: self.ts_ns,
            remaining: 0,
            topics: Vec::new(),
            offsets: Vec::new(),
            voids_staged: false,
            staged: HashMap::new(),
        };
        for bytes in blocks {
            let lsn = next.lsn;
            let corrupt = |error: Corrupt| ApplyError::Corrupt { lsn, what: error.to_string() };
            let view = PortableView::parse(bytes, log_id).map_err(corrupt)?;
            view.verify_payloads().map_err(corrupt)?;
            let head = view.head;
            if head.lsn != next.lsn || head.prev_chain != next.chain {
                return Err(ApplyError::Diverged { lsn: head.lsn, ours: next.lsn, chain: next.chain });
            }
            if next.remaining > 0 && head.remaining != next.remaining - 1 {
                return Err(corrupt(Corrupt::field("block: remaining does not count down", 40)));
            }
            if head.ts_ns < next.ts_ns {
                return Err(corrupt(Corrupt::field("block: time runs backwards", 16)));
            }
            self.check_contents(&view, &mut next).map_err(corrupt)?;
            (next.lsn, next.chain, next.ts_ns, next.remaining) =
                (head.lsn.next(), view.chain, head.ts_ns, head.remaining);
        }
        if next.remaining > 0 {
            return Err(ApplyError::NotWhole { remaining: next.remaining });
        }
        Ok(next)
    }

    /// Topics are numbered in order and offsets are dense: a leader that breaks this would break every index built from its log.
    fn check_contents(&self, view: &PortableView<'_>, next: &mut NextApplied) -> Result<(), Corrupt> {
        let body = view.entries().next().map_or(&[][..], |entry| entry.payload);
        match (view.head.kind, view.head.txn) {
            (Kind::Data, None) => view.entries().try_for_each(|entry| self.check_entry(&entry, next)),
            (Kind::Data, Some(txn)) => self.check_staged(view, txn, next),
            (Kind::Commit, _) => self.check_commit(&Commit::parse(body)?, next),
            (Kind::Abort, _) => {
                next.staged.insert(Abort::parse(body)?.txn, None);
                Ok(())
            }
            (Kind::Epoch, _) => {
                (next.voids_staged, next.staged) = (true, HashMap::new());
                Reign::parse(body).map(|_| ())
            }
            (Kind::Topic, _) => self.check_topic(body, next),
            (Kind::Skippable(_), _) => Ok(()),
        }
    }

    fn check_topic(&self, body: &[u8], next: &mut NextApplied) -> Result<(), Corrupt> {
        let definition = TopicDefinition::parse(body)?;
        let known = self.names.contains(&definition.name) || next.topics.iter().any(|t| t.name == definition.name);
        let id = (self.next_offsets.len() + next.topics.len()) as u32;
        if known || definition.id.get() != id || check_name(&definition.name).is_err() {
            return Err(Corrupt::field("TOPIC block: not the next topic", 0));
        }
        next.topics.push(definition);
        Ok(())
    }

    fn check_known(&self, topic: TopicId, next: &NextApplied) -> Result<(), Corrupt> {
        let topics = self.next_offsets.len() + next.topics.len();
        if topic == TopicId::CONTROL || topic.get() as usize >= topics {
            return Err(Corrupt::field("descriptor: no such topic", 0));
        }
        Ok(())
    }

    /// The offset that comes next in a topic, to be moved on.
    fn next_offset<'a>(&self, topic: TopicId, next: &'a mut NextApplied) -> &'a mut u64 {
        // The last topic used is looked at first: runs of one topic are the rule.
        let known = next.offsets.iter().rposition(|(id, _)| *id == topic);
        let index = known.unwrap_or_else(|| {
            next.offsets.push((topic, self.next_offsets.get(topic.get() as usize).copied().unwrap_or(0)));
            next.offsets.len() - 1
        });
        &mut next.offsets[index].1
    }

    fn check_entry(&self, entry: &EntryView<'_>, next: &mut NextApplied) -> Result<(), Corrupt> {
        self.check_known(entry.topic, next)?;
        count_entry(entry, self.next_offset(entry.topic, next))
    }

    fn check_staged(&self, view: &PortableView<'_>, txn: Lsn, next: &mut NextApplied) -> Result<(), Corrupt> {
        let mut batch = match self.staged(txn, next) {
            Some(batch) => batch,
            None if txn == view.head.lsn => Staged::default(),
            None => return Err(Corrupt::field("block: no such staged batch", 32)),
        };
        batch.blocks += 1;
        for entry in view.entries() {
            self.check_known(entry.topic, next)?;
            if *batch.topic.get_or_insert(entry.topic) != entry.topic {
                return Err(Corrupt::field("descriptor: another topic than the batch's", 0));
            }
            count_entry(&entry, &mut batch.entries)?;
        }
        next.staged.insert(txn, Some(batch));
        Ok(())
    }

    fn staged(&self, txn: Lsn, next: &NextApplied) -> Option<Staged> {
        match next.staged.get(&txn) {
            Some(batch) => *batch,
            None if next.voids_staged => None,
            None => self.staged.get(&txn).copied(),
        }
    }

    fn check_commit(&self, commit: &Commit, next: &mut NextApplied) -> Result<(), Corrupt> {
        let batch = self.staged(commit.txn, next).ok_or(Corrupt::field("COMMIT block: no such staged batch", 0))?;
        let [part] = commit.topics[..] else { return Err(Corrupt::field("COMMIT block: not one topic", 24)) };
        if batch.blocks != commit.blocks || batch.entries != part.entries || batch.topic != Some(part.id) {
            return Err(Corrupt::field("COMMIT block: not what was staged", 8));
        }
        let offset = self.next_offset(part.id, next);
        if *offset != part.base_offset {
            return Err(Corrupt::field("COMMIT block: offsets are not dense", 40));
        }
        *offset += part.entries;
        next.staged.insert(commit.txn, None);
        Ok(())
    }

    pub(super) fn advance(&mut self, next: NextApplied) {
        (self.lsn, self.chain, self.ts_ns) = (next.lsn, next.chain, next.ts_ns);
        for topic in next.topics {
            self.next_offsets.push(0);
            self.names.insert(topic.name);
        }
        for (topic, offset) in next.offsets {
            self.next_offsets[topic.get() as usize] = offset;
        }
        if next.voids_staged {
            self.staged.clear();
        }
        for (txn, batch) in next.staged {
            match batch {
                Some(batch) => drop(self.staged.insert(txn, batch)),
                None => drop(self.staged.remove(&txn)),
            }
        }
    }
}

impl Staged {
    fn of(blocks: u64, last_run: Option<Run>) -> Staged {
        let entries = last_run.map_or(0, |run| run.first_offset + u64::from(run.entries));
        Staged { blocks, entries, topic: last_run.map(|run| run.topic) }
    }
}

/// An entry that begins has the next offset; a fragment that goes on has the one before.
fn count_entry(entry: &EntryView<'_>, next_offset: &mut u64) -> Result<(), Corrupt> {
    *next_offset += u64::from(entry.is_first());
    match *next_offset == entry.offset.wrapping_add(1) && *next_offset > 0 {
        true => Ok(()),
        false => Err(Corrupt::field("descriptor: offsets are not dense", 8)),
    }
}
