//! The commit groups whose writes or flushes are under way, in the order in which they will be published.
//!
//! Layer: commit. Knows nothing of how blocks are made; matches completions by token.

use std::collections::VecDeque;

use super::next_tail::NextTail;
use super::ticket::{Receipt, Reply};
use crate::log::meta::BlockMeta;
use crate::storage::{File, Token};

/// Tokens of one group: its number, and which of its operations.
const OPERATIONS_PER_GROUP: u64 = 1 << 20;

/// How a group becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Each write carries its own flush: the group is durable when its writes are complete.
    ByItsWrites,
    /// Plain writes; when all are complete, one flush of each touched file.
    ByFlush,
}

/// A group on its way to the device.
pub(crate) struct Group {
    number: u64,
    durability: Durability,
    operations: u64,
    writes_under_way: usize,
    /// All blocks have been handed to the queue.
    written: bool,
    flushes_under_way: usize,
    flushed: bool,
    touched: Vec<File>,
    pub(crate) blocks: Vec<BlockMeta>,
    pub(crate) answers: Vec<(Reply, Receipt)>,
    /// The log's tail once this group is durable.
    pub(crate) after: NextTail,
}

impl Group {
    /// A token for the group's next write, which goes to `file`.
    pub(crate) fn start_write(&mut self, file: &File) -> Token {
        assert!(!self.written);
        if !self.touched.iter().any(|touched| touched.same_file(file)) {
            self.touched.push(file.clone());
        }
        self.writes_under_way += 1;
        self.next_token()
    }

    fn next_token(&mut self) -> Token {
        assert!(self.operations < OPERATIONS_PER_GROUP);
        self.operations += 1;
        Token(self.number * OPERATIONS_PER_GROUP + self.operations - 1)
    }

    fn is_durable(&self) -> bool {
        self.written && self.writes_under_way == 0 && (self.durability == Durability::ByItsWrites || self.flushed)
    }
}

/// What has to be done after a completion.
pub(crate) enum Next {
    /// Nothing; perhaps the group is durable now.
    Nothing,
    /// All writes of the group are complete: flush these files.
    Flush(Vec<(Token, File)>),
}

/// The groups under way.
#[derive(Default)]
pub(crate) struct InFlight {
    groups: VecDeque<Group>,
    next_number: u64,
}

impl InFlight {
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Opens a group behind all others.
    pub(crate) fn open(&mut self, durability: Durability, after: NextTail) -> &mut Group {
        let number = self.next_number;
        self.next_number += 1;
        self.groups.push_back(Group {
            number,
            durability,
            operations: 0,
            writes_under_way: 0,
            written: false,
            flushes_under_way: 0,
            flushed: false,
            touched: Vec::new(),
            blocks: Vec::new(),
            answers: Vec::new(),
            after,
        });
        self.last()
    }

    /// The group that was opened last.
    pub(crate) fn last(&mut self) -> &mut Group {
        self.groups.back_mut().expect("a group has been opened")
    }

    /// Says that the last group has no more writes to come.
    pub(crate) fn close_last(&mut self) -> Next {
        let group = self.last();
        group.written = true;
        next_of(group)
    }

    /// Takes note of one successful completion.
    pub(crate) fn complete(&mut self, token: Token) -> Next {
        let number = token.0 / OPERATIONS_PER_GROUP;
        let first = self.groups.front().expect("a completion belongs to a group in flight").number;
        let index = usize::try_from(number.checked_sub(first).expect("no group is published before its completions"))
            .expect("few groups are in flight");
        let group = self.groups.get_mut(index).expect("a completion belongs to a group in flight");
        if group.flushes_under_way > 0 {
            assert_eq!(group.writes_under_way, 0, "a flush begins when all writes are complete");
            group.flushes_under_way -= 1;
            group.flushed = group.flushes_under_way == 0;
            return Next::Nothing;
        }
        group.writes_under_way = group.writes_under_way.checked_sub(1).expect("each write completes once");
        next_of(group)
    }

    /// The first group, if it is durable: it is not in flight any more.
    pub(crate) fn take_durable(&mut self) -> Option<Group> {
        self.groups.pop_front_if(|group| group.is_durable())
    }

    /// Every group that is left, after a failure.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = Group> + use<> {
        std::mem::take(&mut self.groups).into_iter()
    }
}

fn next_of(group: &mut Group) -> Next {
    // A flush covers the writes that were complete before it began, so it begins when all are.
    if group.durability != Durability::ByFlush || !group.written || group.writes_under_way > 0 {
        return Next::Nothing;
    }
    let files = std::mem::take(&mut group.touched);
    group.flushes_under_way = files.len();
    Next::Flush(files.into_iter().map(|file| (group.next_token(), file)).collect())
}
