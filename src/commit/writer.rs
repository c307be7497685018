//! The commit thread: the one writer of the log, in both roles.
//!
//! Its loop, top to bottom, is the way of an append: take what waits, shape a group, find room for it, encode and write it,
//! reap what is complete, publish in order.
//!
//! On a failed write or flush the log halts: it stops submitting, waits for every completion (the kernel still owns the
//! buffers), publishes the groups before the failed one that are durable, and answers the others with `Indeterminate`. The
//! next open decides by what is on the disk. Never is a failed flush tried again.
//!
//! Layer: commit. Uses `log`, `storage`, `format`. Knows nothing of topics beyond their numbers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::error::AppendError;
use super::inflight::{Durability, InFlight, Next};
use super::next_tail::{NextTail, Room};
use super::plan::{BlockLimit, BlockShape, Content, GroupShape, Piece, shape};
use super::queue::{Asleep, Queue};
use super::submission::{Submission, TopicSlot};
use super::ticket::Receipt;
use super::watermark::Watermark;
use crate::format::block::{
    ENVELOPE_BYTES, EntryIn, Envelope, Head, Kind, PortableView, encode_portable, entry_flags, seal,
};
use crate::format::checksum::payload_sum;
use crate::format::control::{Reign, TopicDefinition};
use crate::ids::{Chain, Epoch, Incarnation, LogId, RunId, TopicId};
use crate::limits::GROUPS_IN_FLIGHT_MAX;
use crate::log::keeper::{Keeper, NoSpare, Published};
use crate::log::meta::{BlockMeta, Run, Sink};
use crate::log::segment::Segment;
use crate::log::segments::Segments;
use crate::log::tail::Tail;
use crate::lsn::Lsn;
use crate::storage::{Completion, Queue as Io, Slot, Sync};

/// Bytes of an EPOCH block's body.
pub(super) const REIGN_BYTES: usize = 32;

/// Bytes of a TOPIC block's body.
pub(super) fn topic_bytes(name: &str) -> usize {
    8 + name.len()
}

/// Why the log takes no writes, once it does not; shared with whoever asks for its state.
pub(crate) type HaltReason = Arc<Mutex<Option<String>>>;

/// What the thread works with.
pub(crate) struct Writer {
    pub(crate) io: Io,
    pub(crate) queue: Arc<Queue>,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) segments: Arc<Segments>,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) watermark: Watermark,
    pub(crate) halted: HaltReason,
    pub(crate) log_id: LogId,
    pub(crate) limit: BlockLimit,
    pub(crate) incarnation: Incarnation,
    pub(crate) epoch: Epoch,
    pub(crate) run_id: RunId,
    /// The next offset of each topic by number, as planned. Index 0 is the control topic's, which has no offsets.
    pub(crate) next_offsets: Vec<u64>,
    /// The tail behind everything planned, and the published one.
    pub(crate) planned: NextTail,
    pub(crate) published: NextTail,
    /// The wall clock, nanoseconds since 1970: read once a group.
    pub(crate) clock: fn() -> u64,
    pub(crate) state: WriterState,
}

/// What the thread keeps from one round to the next.
#[derive(Default)]
pub(crate) struct WriterState {
    waiting: VecDeque<Submission>,
    in_flight: InFlight,
    done: Vec<Completion>,
    /// Something has completed since the last group was submitted, so whatever waits may go.
    completed: bool,
    /// Segments taken from the keeper that no block has been planned into yet.
    ahead: VecDeque<Arc<Segment>>,
}

/// A failure that halts the log.
struct Halt(String);

/// Answers everybody if the thread panics: a bug here must not leave callers waiting for ever.
struct LastWords {
    queue: Arc<Queue>,
    halted: HaltReason,
    watermark: Watermark,
}

impl Drop for LastWords {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let reason = "the commit thread panicked".to_owned();
            self.queue.close(AppendError::Halted { reason: reason.clone() });
            // Dropped unanswered, a submission answers by itself that nothing is known of it.
            self.queue.drain(&mut VecDeque::new(), false);
            self.halted.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(reason);
            self.watermark.end();
        }
    }
}

impl Writer {
    /// The thread's body. Returns whether the log ended in order.
    pub(crate) fn run(mut self) {
        let _last_words = LastWords {
            queue: Arc::clone(&self.queue),
            halted: Arc::clone(&self.halted),
            watermark: self.watermark.clone(),
        };
        let ended = self.commit_until_closed();
        if let Err(Halt(reason)) = ended {
            self.halt(reason);
        } else if let Err(reason) = self.keeper.stop(true) {
            *self.halted.lock().expect("no holder of this lock panics") = Some(reason);
        }
        self.watermark.end();
    }

    fn commit_until_closed(&mut self) -> Result<(), Halt> {
        loop {
            self.submit_what_is_ready()?;
            if self.state.in_flight.is_empty() && self.state.waiting.is_empty() && self.queue.is_drained() {
                return Ok(());
            }
            self.wait_for_something()?;
            self.publish_durable();
        }
    }

    /// Takes what waits and submits it, group by group, without ever waiting for more.
    fn submit_what_is_ready(&mut self) -> Result<(), Halt> {
        loop {
            let idle = self.state.in_flight.is_empty();
            if self.state.in_flight.len() >= GROUPS_IN_FLIGHT_MAX {
                return Ok(());
            }
            if self.state.waiting.is_empty() {
                let only_if_worth = !idle && !self.state.completed;
                if !self.queue.drain(&mut self.state.waiting, only_if_worth) {
                    return Ok(());
                }
            }
            self.submit_group()?;
            self.state.completed = false;
        }
    }

    fn wait_for_something(&mut self) -> Result<(), Halt> {
        let full = self.state.in_flight.len() >= GROUPS_IN_FLIGHT_MAX;
        let asleep = match self.state.in_flight.is_empty() {
            true => Asleep::ForWork,
            false => Asleep::ForTheDevice,
        };
        if full || self.queue.sleep(asleep) {
            self.io.wait(&mut self.state.done);
            self.queue.awake();
        } else {
            self.io.poll(&mut self.state.done);
        }
        self.reap()
    }

    /// Takes note of completions, and starts the flushes that they make due.
    fn reap(&mut self) -> Result<(), Halt> {
        if let Some(reason) = self.keeper.failed() {
            return Err(Halt(reason));
        }
        let mut failure = None;
        for Completion { token, result } in std::mem::take(&mut self.state.done) {
            self.state.completed = true;
            match result {
                Ok(()) => {
                    let next = self.state.in_flight.complete(token);
                    if failure.is_none() {
                        self.start(next);
                    }
                }
                Err(error) => failure = failure.or(Some(Halt(error.to_string()))),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    fn start(&mut self, next: Next) {
        if let Next::Flush(files) = next {
            for (token, file) in files {
                self.io.flush(token, &file);
            }
        }
    }

    // -- planning ---------------------------------------------------------------------------------------------------------

    /// Shapes a group, finds room for it, and only then gives it its places, LSNs and offsets.
    fn submit_group(&mut self) -> Result<(), Halt> {
        let group = shape(&self.state.waiting, self.limit);
        let mut next = self.planned.clone();
        let rooms = match self.find_room(&group, &mut next) {
            Ok(rooms) => rooms,
            // A leader's blocks follow each other: those queued behind rejected ones would not follow this log. Halted, it takes
            // none of them, and after a restart the follower asks for them again.
            Err(NoSpare { reason, full: true }) if !self.holds_blocks(group.taken) => {
                self.reject(group.taken, &AppendError::Full { reason });
                return Ok(());
            }
            Err(NoSpare { reason, .. }) => return Err(Halt(reason)),
        };
        self.keeper.wait_for_window(next.linear()).map_err(Halt)?;
        self.write_group(&group, rooms, next)
    }

    fn holds_blocks(&self, taken: usize) -> bool {
        self.state.waiting.iter().take(taken).any(|submission| matches!(submission, Submission::Verbatim(_)))
    }

    /// A place for each block. Segments that are taken for it stay ahead of the tail even when the plan is dropped.
    fn find_room(&mut self, group: &GroupShape, next: &mut NextTail) -> Result<Vec<Room>, NoSpare> {
        let mut rooms = Vec::with_capacity(group.blocks.len());
        let mut ahead = 0;
        for block in &group.blocks {
            let len = block.total_len(self.limit.align);
            if len > self.limit.bytes_max {
                // Only a leader's block can be: it was made for larger segments.
                let reason =
                    format!("a block of {len} bytes does not fit this log's segments ({})", self.limit.bytes_max);
                return Err(NoSpare { reason, full: false });
            }
            let room = loop {
                if let Some(room) = next.reserve(len) {
                    break room;
                }
                if ahead == self.state.ahead.len() {
                    let spare = self.keeper.take_spare()?;
                    self.segments.add(Arc::clone(&spare));
                    self.state.ahead.push_back(spare);
                }
                next.go_on_into(Arc::clone(&self.state.ahead[ahead]));
                ahead += 1;
            };
            rooms.push(room);
        }
        self.state.ahead.drain(..ahead);
        Ok(rooms)
    }

    fn reject(&mut self, taken: usize, error: &AppendError) {
        for submission in self.state.waiting.drain(..taken) {
            submission.into_reply().send(Err(error.clone()));
        }
    }

    // -- writing ----------------------------------------------------------------------------------------------------------

    fn write_group(&mut self, group: &GroupShape, rooms: Vec<Room>, after: NextTail) -> Result<(), Halt> {
        let taken: Vec<_> = self.state.waiting.drain(..group.taken).collect();
        let durability = match group.blocks.len() {
            1 => Durability::ByItsWrites,
            _ => Durability::ByFlush,
        };
        self.state.in_flight.open(durability, after);
        let mut receipts = vec![Receipt { first_offset: 0, last_offset: 0, lsn: Lsn::FIRST }; taken.len()];
        let ts_ns = (self.clock)().max(self.planned.tail.ts_ns);
        let mut blocks = group.blocks.iter().zip(rooms);
        let written = blocks
            .try_for_each(|(shape, room)| self.write_block(shape, room, &taken, &mut receipts, ts_ns, durability));
        let group = self.state.in_flight.last();
        group.answers = taken.into_iter().map(Submission::into_reply).zip(receipts).collect();
        written?;
        // The places were reserved on the copy; LSN, chain and time were given as the blocks were encoded.
        group.after.tail = Tail { position: group.after.tail.position, ..self.planned.tail };
        self.planned = group.after.clone();
        let next = self.state.in_flight.close_last();
        self.start(next);
        Ok(())
    }

    fn write_block(
        &mut self,
        shape: &BlockShape,
        room: Room,
        taken: &[Submission],
        receipts: &mut [Receipt],
        ts_ns: u64,
        durability: Durability,
    ) -> Result<(), Halt> {
        let len = shape.total_len(self.limit.align);
        let mut slot = self.acquire_slot(len)?;
        let mut meta = self.encode(shape, &mut slot, taken, receipts, ts_ns);
        (meta.position, meta.total_len) = (room.position, len as u32);
        let envelope =
            Envelope { incarnation: self.incarnation, position: room.position, durable_lsn: self.published.tail.lsn };
        let out = &mut self.io.slot_bytes(&mut slot)[..len];
        seal(out, room.segment.header.salt, &envelope, shape.portable_len);

        let tail = &mut self.planned.tail;
        (tail.lsn, tail.chain, tail.ts_ns) = (meta.lsn.next(), meta.chain, meta.ts_ns);
        let group = self.state.in_flight.last();
        group.blocks.push(meta);
        let token = group.start_write(&room.segment.file);
        let sync = match durability {
            Durability::ByItsWrites => Sync::Durable,
            Durability::ByFlush => Sync::Lazy,
        };
        self.io.write(token, &room.segment.file, room.position.offset().into(), slot, len, sync);
        Ok(())
    }

    /// A slot for one block; waits for completions when all are with the kernel.
    fn acquire_slot(&mut self, len: usize) -> Result<Slot, Halt> {
        loop {
            if let Some(slot) = self.io.slot(len) {
                return Ok(slot);
            }
            assert!(self.io.in_flight() > 0, "with nothing in flight a slot can always be had");
            self.io.wait(&mut self.state.done);
            self.reap()?;
            self.publish_durable();
        }
    }

    /// Writes the portable block into the slot, and says what is in it.
    fn encode(
        &mut self,
        shape: &BlockShape,
        slot: &mut Slot,
        taken: &[Submission],
        receipts: &mut [Receipt],
        ts_ns: u64,
    ) -> BlockMeta {
        match &shape.content {
            Content::Entries(pieces) => self.encode_entries(shape, pieces, slot, taken, receipts, ts_ns),
            Content::Topic(topic) => {
                let definition = self.define(topic);
                self.encode_control(shape, Kind::Topic, definition.encode(), slot, ts_ns)
            }
            Content::Reign(index) => {
                let Submission::NewReign(new) = &taken[*index] else { unreachable!("shaped from a new reign") };
                let lsn = self.planned.tail.lsn;
                (self.epoch, self.run_id) = (new.epoch, new.run_id);
                receipts[*index].lsn = lsn;
                let reign = Reign { epoch: new.epoch, run_id: new.run_id, start_lsn: lsn };
                self.encode_control(shape, Kind::Epoch, reign.encode(), slot, ts_ns)
            }
            Content::Verbatim(index, block) => {
                let Submission::Verbatim(verbatim) = &taken[*index] else { unreachable!("shaped from blocks") };
                let bytes = &verbatim.blocks[*block];
                self.io.slot_bytes(slot)[ENVELOPE_BYTES..][..bytes.len()].copy_from_slice(bytes);
                let view = PortableView::parse(bytes, self.log_id).expect("checked before it was queued");
                self.adopt(&view);
                receipts[*index].lsn = view.head.lsn;
                BlockMeta::of(&view, self.planned.tail.position, 0)
            }
        }
    }

    fn head(&self, kind: Kind, remaining: u32, ts_ns: u64) -> Head {
        let Tail { lsn, chain, .. } = self.planned.tail;
        Head { kind, epoch: self.epoch, lsn, ts_ns, prev_chain: chain, remaining }
    }

    fn encode_entries(
        &mut self,
        shape: &BlockShape,
        pieces: &[Piece],
        slot: &mut Slot,
        taken: &[Submission],
        receipts: &mut [Receipt],
        ts_ns: u64,
    ) -> BlockMeta {
        let head = self.head(Kind::Data, shape.remaining, ts_ns);
        let mut runs: Vec<Run> = Vec::new();
        for piece in pieces {
            let Submission::Append(append) = &taken[piece.submission] else { unreachable!("shaped from an append") };
            let topic = append.topic.id().expect("its TOPIC block was planned before");
            let next = &mut self.next_offsets[topic.get() as usize];
            let (first_offset, entries) = (*next, piece.entries.len() as u32);
            *next += u64::from(entries);
            let receipt = &mut receipts[piece.submission];
            if piece.entries.start == 0 {
                receipt.first_offset = first_offset;
            }
            (receipt.last_offset, receipt.lsn) = (first_offset + u64::from(entries) - 1, head.lsn);
            match runs.last_mut() {
                Some(run) if run.topic == topic => run.entries += entries,
                _ => runs.push(Run { topic, first_offset, entries }),
            }
        }
        let offsets =
            runs.iter().flat_map(|run| (0..u64::from(run.entries)).map(|i| (run.topic, run.first_offset + i)));
        let payloads = pieces.iter().flat_map(|piece| match &taken[piece.submission] {
            Submission::Append(append) => &append.entries[piece.entries.clone()],
            _ => unreachable!("shaped from an append"),
        });
        let entries = offsets.zip(payloads).map(|((topic, offset), payload)| EntryIn {
            topic,
            offset,
            flags: entry_flags::WHOLE,
            sum: payload.sum,
            payload: &payload.bytes,
        });
        let out = &mut self.io.slot_bytes(slot)[ENVELOPE_BYTES..][..shape.portable_len];
        let chain = encode_portable(out, self.log_id, &head, entries, shape.n_entries);
        self.meta(&head, chain, runs, None)
    }

    fn encode_control(
        &mut self,
        shape: &BlockShape,
        kind: Kind,
        body: Vec<u8>,
        slot: &mut Slot,
        ts_ns: u64,
    ) -> BlockMeta {
        let head = self.head(kind, 0, ts_ns);
        let entry = EntryIn {
            topic: TopicId::CONTROL,
            offset: 0,
            flags: entry_flags::WHOLE,
            sum: payload_sum(&body),
            payload: &body,
        };
        let out = &mut self.io.slot_bytes(slot)[ENVELOPE_BYTES..][..shape.portable_len];
        let chain = encode_portable(out, self.log_id, &head, std::iter::once(entry), 1);
        self.meta(&head, chain, Vec::new(), Some(body))
    }

    fn meta(&self, head: &Head, chain: Chain, runs: Vec<Run>, control: Option<Vec<u8>>) -> BlockMeta {
        BlockMeta {
            lsn: head.lsn,
            position: self.planned.tail.position, // set by the caller, who knows the room
            total_len: 0,
            chain,
            ts_ns: head.ts_ns,
            kind: head.kind,
            runs,
            control,
        }
    }

    /// Gives a topic the next number.
    fn define(&mut self, topic: &TopicSlot) -> TopicDefinition {
        let id = TopicId::new(u32::try_from(self.next_offsets.len()).expect("topics fit 32 bits"));
        topic.define(id);
        self.next_offsets.push(0);
        TopicDefinition { id, name: topic.name().to_owned() }
    }

    /// Follows what a leader's block does to the plans: a reign, topics.
    fn adopt(&mut self, view: &PortableView<'_>) {
        let tail = &self.planned.tail;
        assert!(view.head.lsn == tail.lsn && view.head.prev_chain == tail.chain, "checked before it was queued");
        self.epoch = view.head.epoch;
        if view.head.kind != Kind::Epoch {
            return;
        }
        if let Some(Ok(reign)) = view.entries().next().map(|entry| Reign::parse(entry.payload)) {
            self.run_id = reign.run_id;
        }
    }

    // -- publishing -------------------------------------------------------------------------------------------------------

    /// Publishes the groups at the front that are durable: indexes first, then the watermark, then the callers.
    fn publish_durable(&mut self) {
        while let Some(group) = self.state.in_flight.take_durable() {
            self.segments.publish(&group.blocks);
            self.sink.publish(&group.blocks);
            self.published = group.after;
            self.watermark.advance(self.published.tail.lsn);
            self.keeper.note(Published {
                tail: self.published.tail,
                linear: self.published.linear(),
                epoch: self.epoch,
                run_id: self.run_id,
            });
            for (reply, receipt) in group.answers {
                reply.send(Ok(receipt));
            }
        }
    }

    /// The end after a failure. See the head of this file.
    fn halt(&mut self, reason: String) {
        *self.halted.lock().expect("no holder of this lock panics") = Some(reason.clone());
        self.queue.close(AppendError::Halted { reason: reason.clone() });
        self.drain_completions();
        self.publish_durable();
        for group in self.state.in_flight.take_all() {
            for (reply, _) in group.answers {
                reply.send(Err(AppendError::Indeterminate { reason: reason.clone() }));
            }
        }
        self.queue.drain(&mut self.state.waiting, false);
        self.reject(self.state.waiting.len(), &AppendError::Halted { reason });
        // The superblock stays as it is: the next open must look for itself.
        let _ = self.keeper.stop(false);
    }

    /// Waits until the kernel owns no buffer any more. What succeeds still counts, since a group before the failed one may become
    /// durable by it; flushes that would be due are not begun: nothing is submitted after a failure.
    fn drain_completions(&mut self) {
        loop {
            for Completion { token, result } in std::mem::take(&mut self.state.done) {
                if result.is_ok() {
                    let _ = self.state.in_flight.complete(token);
                }
            }
            if self.io.in_flight() == 0 {
                return;
            }
            self.io.wait(&mut self.state.done);
        }
    }
}
