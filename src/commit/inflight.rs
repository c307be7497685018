//! The commit groups between their first write and the flush that covers them, in the order of the log.
//!
//! ```text
//!   open --writes--> written --flush?--> front of the row --publish--> published --some later flush--> durable
//!                                                                        (at once, for a group that was flushed)
//! ```
//!
//! A group whose callers want no flush is published when it is written; it stays here until a flush has covered it, so that it can be
//! written again if that flush fails. A flush of a group covers all groups before it: it begins when their writes are
//! complete, and goes to every file that they have touched.
//!
//! Layer: commit. Knows nothing of how blocks are made; matches completions by token.

use std::collections::VecDeque;

use super::encode::BlockPlan;
use super::error::AppendError;
use super::next_tail::NextTail;
use super::submission::Submission;
use super::ticket::{Receipt, Reply};
use super::waits::WaitsFor;
use crate::log::meta::BlockMeta;
use crate::storage::{File, Token};

/// Tokens of one group's writes: its number, and which of them.
const OPERATIONS_PER_GROUP: u64 = 1 << 20;
/// Set in the token of a flush; the rest is the number of the last group that it covers, and which of its files.
const FLUSH_TOKEN: u64 = 1 << 63;

/// How a group becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Each write carries its own flush: the group is durable when its writes are complete. Only where no group before it waits for
    /// a flush: such a write covers itself alone.
    ByItsWrites,
    /// Plain writes; when all are complete, one flush of each file touched since the last.
    ByFlush,
    /// Plain writes, acknowledged when complete; a later flush makes them durable.
    Later,
}

/// A group on its way to the device.
pub(crate) struct Group {
    number: u64,
    durability: Durability,
    operations: u64,
    writes_under_way: usize,
    /// All blocks have been handed to the queue.
    closed: bool,
    flush: FlushState,
    /// Files that hold blocks of it which no flush of its own covers yet.
    touched: Vec<File>,
    /// Where it is to be written again if need be: what was submitted, and what was made of it.
    pub(crate) taken: Vec<Submission>,
    pub(crate) receipts: Vec<Receipt>,
    pub(crate) plans: Vec<BlockPlan>,
    pub(crate) blocks: Vec<BlockMeta>,
    /// Slots of shared memory that its blocks came from: they are needed until it is written.
    pub(crate) early_slots: Vec<usize>,
    /// The log's tail once this group is published.
    pub(crate) after: NextTail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FlushState {
    NotBegun,
    UnderWay,
    Done,
}

impl Group {
    /// A token for the group's next write, which goes to `file`.
    pub(crate) fn start_write(&mut self, file: &File) -> Token {
        assert!(!self.closed);
        touch(&mut self.touched, file);
        self.writes_under_way += 1;
        self.operations += 1;
        assert!(self.operations < OPERATIONS_PER_GROUP);
        Token(self.number * OPERATIONS_PER_GROUP + self.operations - 1)
    }

    pub(crate) fn durability(&self) -> Durability {
        self.durability
    }

    /// Entries that begin in it.
    pub(crate) fn n_entries(&self) -> u64 {
        self.blocks.iter().flat_map(|block| &block.runs).map(|run| u64::from(run.entries)).sum()
    }

    /// Those who wait for it, with what they are to be told.
    pub(crate) fn take_answers(&mut self) -> impl Iterator<Item = (Reply, Receipt)> {
        self.taken.iter_mut().map(Submission::take_reply).zip(self.receipts.iter().copied())
    }

    /// Tells everybody the same.
    pub(crate) fn answer_all(&mut self, error: &AppendError) {
        self.taken.iter_mut().for_each(|submission| submission.answer(Err(error.clone())));
    }

    fn is_written(&self) -> bool {
        self.closed && self.writes_under_way == 0
    }

    fn is_publishable(&self) -> bool {
        self.is_written() && (self.durability != Durability::ByFlush || self.flush == FlushState::Done)
    }

    fn is_flushed(&self) -> bool {
        self.is_written() && (self.durability == Durability::ByItsWrites || self.flush == FlushState::Done)
    }

    /// Bytes of its blocks on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.blocks.iter().map(|block| u64::from(block.total_len)).sum()
    }
}

fn touch(touched: &mut Vec<File>, file: &File) {
    if !touched.iter().any(|other| other.same_file(file)) {
        touched.push(file.clone());
    }
}

/// A flush under way.
struct Flush {
    /// It covers the groups up to this one.
    upto: u64,
    files_left: usize,
}

/// The groups under way.
#[derive(Default)]
pub(crate) struct InFlight {
    /// Published, and not durable yet.
    published: VecDeque<Group>,
    /// Not published yet.
    groups: VecDeque<Group>,
    flushes: Vec<Flush>,
    /// Published groups up to this number (exclusive) are durable.
    flushed_end: u64,
    next_number: u64,
}

impl InFlight {
    /// Groups that are not published yet.
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Whether everything is durable.
    pub(crate) fn is_settled(&self) -> bool {
        self.groups.is_empty() && self.published.is_empty()
    }

    /// Whether some group may wait for a flush that is not its own.
    pub(crate) fn has_unflushed(&self) -> bool {
        !self.published.is_empty() || self.groups.iter().any(|group| group.durability == Durability::Later)
    }

    /// What has to come back next, if anything is under way.
    pub(crate) fn waits_for(&self) -> Option<WaitsFor> {
        let writes = self.groups.iter().any(|group| group.writes_under_way > 0);
        let flushes = !self.flushes.is_empty();
        if writes { Some(WaitsFor::Write) } else { flushes.then_some(WaitsFor::Flush) }
    }

    fn iter(&self) -> impl DoubleEndedIterator<Item = &Group> {
        self.published.iter().chain(&self.groups)
    }

    /// Opens a group behind all others.
    pub(crate) fn open(
        &mut self,
        durability: Durability,
        taken: Vec<Submission>,
        receipts: Vec<Receipt>,
        after: NextTail,
    ) {
        let number = self.next_number;
        self.next_number += 1;
        self.groups.push_back(Group {
            number,
            durability,
            operations: 0,
            writes_under_way: 0,
            closed: false,
            flush: FlushState::NotBegun,
            touched: Vec::new(),
            taken,
            receipts,
            plans: Vec::new(),
            blocks: Vec::new(),
            early_slots: Vec::new(),
            after,
        });
    }

    /// The group that was opened last.
    pub(crate) fn last(&mut self) -> &mut Group {
        self.groups.back_mut().expect("a group has been opened")
    }

    /// Takes the last group out while a block is added to it; [`InFlight::put_last`] puts it back.
    pub(crate) fn take_last(&mut self) -> Group {
        self.groups.pop_back().expect("a group has been opened")
    }

    pub(crate) fn put_last(&mut self, group: Group) {
        self.groups.push_back(group);
    }

    /// Says that the last group has no more writes to come.
    pub(crate) fn close_last(&mut self) {
        self.last().closed = true;
    }

    /// Takes note of one successful completion.
    pub(crate) fn complete(&mut self, token: Token) {
        if token.0 & FLUSH_TOKEN != 0 {
            return self.complete_flush((token.0 & !FLUSH_TOKEN) / OPERATIONS_PER_GROUP);
        }
        let group = self.group_mut(token.0 / OPERATIONS_PER_GROUP);
        group.writes_under_way = group.writes_under_way.checked_sub(1).expect("each write completes once");
    }

    /// Whether the operation is a flush, or a write that makes itself durable.
    pub(crate) fn carries_a_flush(&mut self, token: Token) -> bool {
        token.0 & FLUSH_TOKEN != 0
            || self.group_mut(token.0 / OPERATIONS_PER_GROUP).durability == Durability::ByItsWrites
    }

    /// Only groups that are not published have writes under way; their numbers are dense.
    fn group_mut(&mut self, number: u64) -> &mut Group {
        let first = self.groups.front().expect("a completion belongs to a group in flight").number;
        let index = number.checked_sub(first).expect("no group is published before its writes are complete");
        self.groups.get_mut(index as usize).expect("a completion belongs to a group in flight")
    }

    fn complete_flush(&mut self, upto: u64) {
        let index = self.flushes.iter().position(|flush| flush.upto == upto);
        let index = index.expect("a completion belongs to a flush in flight");
        self.flushes[index].files_left -= 1;
        if self.flushes[index].files_left == 0 {
            self.flushes.swap_remove(index);
            self.settle(upto);
        }
    }

    /// Takes note that a flush has covered the groups up to `upto`.
    fn settle(&mut self, upto: u64) {
        let covered = self.published.iter_mut().chain(&mut self.groups).filter(|group| group.number <= upto);
        for group in covered.filter(|group| group.number == upto || group.durability == Durability::Later) {
            group.flush = FlushState::Done;
            group.touched.clear();
        }
        self.flushed_end = self.flushed_end.max(upto + 1);
    }

    /// The flush of the first group that is due: all its writes are complete, and those of the groups before it that it has to
    /// cover. Call it again until there is none.
    pub(crate) fn start_flush(&mut self) -> Option<Vec<(Token, File)>> {
        let mut upto = None;
        for group in &self.groups {
            let wanted = group.durability == Durability::ByFlush && group.flush == FlushState::NotBegun;
            if wanted && group.is_written() {
                upto = Some(group.number);
                break;
            }
            if group.durability == Durability::Later && !group.is_written() {
                break;
            }
        }
        upto.map(|upto| self.flush_upto(upto))
    }

    /// A flush of everything that is written and waits for one, for nobody's sake; none if that is nothing, or one is under way.
    pub(crate) fn start_flush_of_written(&mut self) -> Option<Vec<(Token, File)>> {
        let later = |group: &&Group| group.durability == Durability::Later;
        let written = self.groups.iter().take_while(|group| group.is_written()).filter(later).last();
        let last = written.or_else(|| self.published.iter().rev().find(later))?;
        let (number, flush) = (last.number, last.flush);
        (flush == FlushState::NotBegun).then(|| self.flush_upto(number))
    }

    /// Begins a flush that covers group `upto` and the groups before it that wait for one. Where there is no file to flush, it is done.
    fn flush_upto(&mut self, upto: u64) -> Vec<(Token, File)> {
        let mut files = Vec::new();
        for group in self.published.iter_mut().chain(&mut self.groups) {
            if group.number == upto || group.number < upto && group.durability == Durability::Later {
                group.touched.iter().for_each(|file| touch(&mut files, file));
                if group.flush == FlushState::NotBegun {
                    group.flush = FlushState::UnderWay;
                }
            }
        }
        if files.is_empty() {
            self.settle(upto);
        } else {
            self.flushes.push(Flush { upto, files_left: files.len() });
        }
        let token = |i| Token(FLUSH_TOKEN | (upto * OPERATIONS_PER_GROUP + i));
        files.into_iter().zip(0..).map(|(file, i)| (token(i), file)).collect()
    }

    /// Moves the first group over to the published ones, if it is ready for it.
    pub(crate) fn publish_next(&mut self) -> Option<&mut Group> {
        let group = self.groups.pop_front_if(|group| group.is_publishable())?;
        if group.is_flushed() {
            self.flushed_end = self.flushed_end.max(group.number + 1);
        }
        self.published.push_back(group);
        self.published.back_mut()
    }

    /// The first published group, if it is durable: it is not in flight any more.
    ///
    /// A group that has been flushed makes those before it durable too: its flush has covered them.
    pub(crate) fn take_durable(&mut self) -> Option<Group> {
        let end = self.flushed_end;
        self.published.pop_front_if(|group| group.number < end)
    }

    /// The first group that has failed, or has not been written: what lies before it can still be flushed.
    fn first_unwritten(&self) -> usize {
        self.iter().take_while(|group| group.is_written()).count()
    }

    /// Files of the groups that are written whole and wait for a flush, in front of the first that is not.
    pub(crate) fn files_before_the_gap(&self) -> Vec<File> {
        let mut files = Vec::new();
        for group in self.iter().take(self.first_unwritten()).filter(|group| !group.is_flushed()) {
            group.touched.iter().for_each(|file| touch(&mut files, file));
        }
        files
    }

    /// Takes note that those files have been flushed.
    pub(crate) fn settle_before_the_gap(&mut self) {
        let n = self.first_unwritten();
        if let Some(last) = self.iter().take(n).last().map(|group| group.number) {
            for group in self.published.iter_mut().chain(&mut self.groups).take(n) {
                group.flush = FlushState::Done;
                group.touched.clear();
            }
            self.flushed_end = self.flushed_end.max(last + 1);
        }
    }

    /// Every group that is left after a failure, in order, and how many of them were published already.
    pub(crate) fn take_all(&mut self) -> (Vec<Group>, usize) {
        self.flushes.clear();
        let published = self.published.len();
        (self.published.drain(..).chain(self.groups.drain(..)).collect(), published)
    }
}
