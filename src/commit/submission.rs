//! What callers hand to the commit thread.
//!
//! Layer: commit. A topic is a number and the bytes that introduce it; what a name means is above.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;

use super::ticket::Reply;
use crate::format::checksum::payload_sum;
use crate::ids::{Epoch, RunId, TopicId};

/// An entry's bytes and their sum, made by the caller's thread: the commit thread touches a payload once, to copy it.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    pub(crate) bytes: Bytes,
    pub(crate) sum: u64,
}

impl Payload {
    pub(crate) fn new(bytes: Bytes) -> Payload {
        let sum = payload_sum(&bytes);
        Payload { bytes, sum }
    }
}

/// A topic as the commit thread knows it: the number is given when its first entry is planned, so that topics are numbered in
/// the order of their TOPIC blocks whatever the order of the callers.
#[derive(Debug)]
pub(crate) struct TopicSlot {
    name: Box<str>,
    id: AtomicU32,
}

impl TopicSlot {
    /// A topic that is not in the log yet.
    pub(crate) fn undefined(name: &str) -> TopicSlot {
        TopicSlot { name: name.into(), id: AtomicU32::new(TopicId::CONTROL.get()) }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its number, once a TOPIC block for it has been planned.
    pub(crate) fn id(&self) -> Option<TopicId> {
        match self.id.load(Ordering::Acquire) {
            0 => None,
            id => Some(TopicId::new(id)),
        }
    }

    /// Gives it its number: by the commit thread that plans its TOPIC block, or by the index that meets the block in the log.
    pub(crate) fn define(&self, id: TopicId) {
        assert_ne!(id, TopicId::CONTROL);
        let before = self.id.swap(id.get(), Ordering::AcqRel);
        assert!(before == 0 || before == id.get(), "a topic keeps its number");
    }
}

/// One atomic batch to one topic: one entry or up to `limits::BATCH_ENTRIES_MAX`.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) topic: Arc<TopicSlot>,
    pub(crate) entries: Vec<Payload>,
    pub(crate) payload_bytes: usize,
    pub(crate) reply: Reply,
}

/// A new reign.
#[derive(Debug)]
pub(crate) struct NewReign {
    pub(crate) epoch: Epoch,
    pub(crate) run_id: RunId,
    pub(crate) reply: Reply,
}

/// A leader's blocks, whole groups, in order; checked, and to be written as they are.
#[derive(Debug)]
pub(crate) struct Verbatim {
    pub(crate) blocks: Vec<Bytes>,
    pub(crate) reply: Reply,
}

/// Something for the commit thread to write, all or nothing.
#[derive(Debug)]
pub(crate) enum Submission {
    Append(Append),
    NewReign(NewReign),
    Verbatim(Verbatim),
}

impl Submission {
    /// Bytes of payload that it keeps in memory while it waits.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Submission::Append(append) => append.payload_bytes,
            Submission::NewReign(_) => 0,
            Submission::Verbatim(verbatim) => verbatim.blocks.iter().map(Bytes::len).sum(),
        }
    }

    /// Entries, for deciding whether a group is worth submitting.
    pub(crate) fn entries(&self) -> usize {
        match self {
            Submission::Append(append) => append.entries.len(),
            Submission::NewReign(_) => 1,
            Submission::Verbatim(verbatim) => verbatim.blocks.len() * 32,
        }
    }

    pub(crate) fn into_reply(self) -> Reply {
        match self {
            Submission::Append(Append { reply, .. })
            | Submission::NewReign(NewReign { reply, .. })
            | Submission::Verbatim(Verbatim { reply, .. }) => reply,
        }
    }
}
