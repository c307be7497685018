//! What callers hand to the commit thread.
//!
//! Layer: commit. A topic is a number and the bytes that introduce it; what a name means is above.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;

use super::early_block::EarlyBlock;
use super::staging::Staging;
use super::ticket::{Outcome, Reply};
use crate::format::block::entry_flags;
use crate::format::checksum::payload_sum;
use crate::ids::{Epoch, RunId, TopicId};
use crate::limits::{GROUPS_IN_FLIGHT_MAX, WORTH_ENTRIES};

/// What an acknowledgement promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The entry survives SIGKILL of the process, but a power cut only from the next flush on.
    Written,
    /// The entry has been flushed: it survives a power cut.
    Durable,
}

impl Level {
    /// The word in `status`.
    pub fn name(self) -> &'static str {
        match self {
            Level::Written => "written",
            Level::Durable => "durable",
        }
    }
}

/// An entry's bytes, or a fragment of an entry's, and their sum, made by the caller's thread: the commit thread touches a payload once,
/// to copy it.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    pub(crate) bytes: Bytes,
    pub(crate) sum: u64,
    /// Of `entry_flags`: whether an entry begins and ends here.
    pub(crate) flags: u8,
}

impl Payload {
    /// A fragment, or with [`entry_flags::WHOLE`] a whole entry.
    pub(crate) fn new(bytes: Bytes, flags: u8) -> Payload {
        let sum = payload_sum(&bytes);
        Payload { bytes, sum, flags }
    }

    pub(crate) fn begins_an_entry(&self) -> bool {
        self.flags & entry_flags::FIRST != 0
    }

    /// Cuts an entry into fragments that each fit a block, at least one; an entry that fits is one whole payload.
    pub(crate) fn cut(entry: Bytes, fragment_bytes_max: usize) -> impl Iterator<Item = Payload> {
        let fragments = entry.len().div_ceil(fragment_bytes_max).max(1);
        (0..fragments).map(move |i| {
            let mut flags = 0;
            if i == 0 {
                flags |= entry_flags::FIRST;
            }
            if i == fragments - 1 {
                flags |= entry_flags::LAST;
            }
            let end = entry.len().min((i + 1) * fragment_bytes_max);
            Payload::new(entry.slice(i * fragment_bytes_max..end), flags)
        })
    }
}

/// What an append consists of. Most have one entry, and that needs no memory of its own: what is taken in one thread and given back in
/// another is the dearest kind.
#[derive(Clone, Debug)]
pub(crate) enum Payloads {
    One([Payload; 1]),
    Many(Vec<Payload>),
}

impl Payloads {
    /// All payloads of a batch: entries that fit a block as they are, the fragments of larger ones.
    pub(crate) fn of(entries: Vec<Bytes>, fragment_bytes_max: usize) -> Payloads {
        let fits = |entry: &Bytes| entry.len() <= fragment_bytes_max;
        let entries = match <[Bytes; 1]>::try_from(entries) {
            Ok([entry]) if fits(&entry) => return Payloads::One([Payload::new(entry, entry_flags::WHOLE)]),
            Ok([entry]) => vec![entry],
            Err(entries) => entries,
        };
        let mut payloads = Vec::with_capacity(entries.len());
        for entry in entries {
            if fits(&entry) {
                payloads.push(Payload::new(entry, entry_flags::WHOLE));
            } else {
                payloads.extend(Payload::cut(entry, fragment_bytes_max));
            }
        }
        Payloads::Many(payloads)
    }
}

impl Deref for Payloads {
    type Target = [Payload];

    fn deref(&self) -> &[Payload] {
        match self {
            Payloads::One(one) => one,
            Payloads::Many(many) => many,
        }
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

/// One atomic batch to one topic, or a part of one that is staged.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) topic: Arc<TopicSlot>,
    /// Entries in one piece, and the fragments of larger ones, in order.
    pub(crate) payloads: Payloads,
    /// How many entries begin in it.
    pub(crate) n_entries: usize,
    pub(crate) payload_bytes: usize,
    pub(crate) level: Level,
    /// The topic offset that the first entry must get.
    pub(crate) expect_offset: Option<u64>,
    /// The batch that it is a part of, if its blocks are to wait for a COMMIT.
    pub(crate) staging: Option<Arc<Staging>>,
    pub(crate) reply: Reply,
}

/// The end of a staged batch: its COMMIT makes it visible, its ABORT gives it up.
#[derive(Debug)]
pub(crate) struct EndBatch {
    pub(crate) topic: Arc<TopicSlot>,
    pub(crate) staging: Arc<Staging>,
    /// How many entries it has, all of them staged.
    pub(crate) n_entries: u64,
    pub(crate) commit: bool,
    pub(crate) level: Level,
    pub(crate) expect_offset: Option<u64>,
    pub(crate) reply: Reply,
}

impl Submission {
    /// What its acknowledgement promises.
    pub(crate) fn level(&self) -> Level {
        match self {
            Submission::Append(append) => append.level,
            Submission::EndBatch(end) => end.level,
            Submission::Early(block) => block.level,
            Submission::NewReign(_) | Submission::Verbatim(_) | Submission::Flush(_) => Level::Durable,
        }
    }
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

/// A barrier: answered when everything that was queued before it is durable.
#[derive(Debug)]
pub(crate) struct Flush {
    pub(crate) reply: Reply,
}

/// Something for the commit thread to write, all or nothing.
#[derive(Debug)]
pub(crate) enum Submission {
    Append(Append),
    EndBatch(EndBatch),
    NewReign(NewReign),
    Verbatim(Verbatim),
    Flush(Flush),
    /// A block of entries that have been acknowledged.
    Early(EarlyBlock),
}

impl Submission {
    /// Bytes of payload that it keeps in memory while it waits.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Submission::Append(append) => append.payload_bytes,
            Submission::Early(block) => block.payload_bytes(),
            Submission::EndBatch(_) | Submission::NewReign(_) | Submission::Flush(_) => 0,
            Submission::Verbatim(verbatim) => verbatim.blocks.iter().map(Bytes::len).sum(),
        }
    }

    /// Entries, for deciding whether a group is worth submitting.
    pub(crate) fn entries(&self) -> usize {
        match self {
            Submission::Append(append) => append.payloads.len(),
            Submission::Early(block) => block.n_entries(),
            Submission::EndBatch(_) | Submission::NewReign(_) => 1,
            Submission::Verbatim(verbatim) => verbatim.blocks.len() * WORTH_ENTRIES,
            // Somebody waits for what lies before it: that is worth a group, behind however many others.
            Submission::Flush(_) => WORTH_ENTRIES * GROUPS_IN_FLIGHT_MAX,
        }
    }

    /// The batch that it is a part of.
    pub(super) fn staging(&self) -> Option<&Staging> {
        match self {
            Submission::Append(append) => append.staging.as_deref(),
            _ => None,
        }
    }

    /// The topic that it extends, and by how many entries.
    pub(crate) fn extends(&self) -> Option<(&Arc<TopicSlot>, u64)> {
        match self {
            Submission::Append(append) if append.staging.is_none() => Some((&append.topic, append.n_entries as u64)),
            Submission::EndBatch(end) if end.commit => Some((&end.topic, end.n_entries)),
            _ => None,
        }
    }

    /// The topic offset that its first entry must get.
    pub(crate) fn expected_offset(&self) -> Option<u64> {
        match self {
            Submission::Append(append) => append.expect_offset,
            Submission::EndBatch(end) => end.expect_offset,
            Submission::NewReign(_) | Submission::Verbatim(_) | Submission::Flush(_) | Submission::Early(_) => None,
        }
    }

    fn reply(&mut self) -> &mut Reply {
        match self {
            Submission::Append(Append { reply, .. })
            | Submission::EndBatch(EndBatch { reply, .. })
            | Submission::NewReign(NewReign { reply, .. })
            | Submission::Verbatim(Verbatim { reply, .. })
            | Submission::Flush(Flush { reply })
            | Submission::Early(EarlyBlock { reply, .. }) => reply,
        }
    }

    /// Takes whoever waits for it; the submission itself may be needed longer.
    pub(crate) fn take_reply(&mut self) -> Reply {
        std::mem::replace(self.reply(), Reply::none())
    }

    /// Answers whoever waits for it.
    pub(crate) fn answer(&mut self, outcome: Outcome) {
        self.reply().send(outcome);
    }
}
