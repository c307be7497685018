//! One commit group on its way to the device: shape, room, places and offsets, bytes, writes.
//!
//! Only the last two steps change anything, so whatever is refused before, a full disk or an unexpected offset, leaves nothing to
//! undo.
//!
//! Layer: commit. The part of the commit thread that plans and writes; `writer` has its loop.

use std::collections::HashMap;
use std::sync::Arc;

use super::encode::{BlockPlan, early, verbatim};
use super::error::AppendError;
use super::inflight::Durability;
use super::next_tail::{NextTail, Room};
use super::plan::{BlockShape, Content, GroupShape, Piece, shape};
use super::submission::{Submission, TopicSlot};
use super::ticket::Receipt;
use super::waits::WaitsFor;
use super::writer::{Halt, Writer};
use crate::format::block::{ENVELOPE_BYTES, Envelope, Head, Kind, seal};
use crate::format::control::{Abort, Commit, CommittedTopic, Reign, TopicDefinition};
use crate::ids::TopicId;
use crate::limits::OWN_FLUSH_BLOCKS_MAX;
use crate::log::keeper::NoSpare;
use crate::log::segment::Segment;
use crate::log::tail::Tail;
use crate::lsn::Lsn;
use crate::storage::{Slot, Sync};

impl Writer {
    /// Shapes a group from what waits, and submits it.
    pub(super) fn submit_group(&mut self) -> Result<(), Halt> {
        let group = shape(&self.state.waiting, self.limit);
        self.submit_shaped(group)
    }

    /// Finds room for a group, and only then gives it its places, LSNs and offsets.
    pub(super) fn submit_shaped(&mut self, group: GroupShape) -> Result<(), Halt> {
        let mut next = self.planned.clone();
        let align = self.limit.align;
        let rooms = match self.find_room(group.blocks.iter().map(|block| block.total_len(align)), &mut next) {
            Ok(rooms) => rooms,
            // A leader's blocks follow each other: those queued behind rejected ones would not follow this log. Halted, it takes
            // none of them, and after a restart the follower asks for them again.
            // What was acknowledged before it was written cannot be rejected either: it stays where it is until the next open.
            Err(NoSpare { reason, full: true }) if !self.holds_blocks(group.taken) => {
                self.reject(group.taken, &AppendError::Full { reason });
                // Offsets that were expected behind the rejected entries are not to be had any more, nor the rest of a rejected batch.
                self.refuse_what_cannot_follow();
                return Ok(());
            }
            Err(NoSpare { reason, .. }) => return Err(Halt(reason)),
        };
        self.keeper.wait_for_window(next.linear()).map_err(Halt)?;
        self.write_group(group, rooms, next)
    }

    fn holds_blocks(&self, taken: usize) -> bool {
        let is_made = |submission: &Submission| matches!(submission, Submission::Verbatim(_) | Submission::Early(_));
        self.state.waiting.iter().take(taken).any(is_made)
    }

    /// Answers those whose entries would not get the offset that they expect. What waits is taken in order, so the offsets are known
    /// as soon as it has been drained.
    pub(super) fn refuse_unexpected_offsets(&mut self) {
        let expects = |submission: &Submission| submission.expected_offset().is_some();
        if !self.state.waiting.iter().any(expects) {
            return;
        }
        let mut added: HashMap<*const TopicSlot, u64> = HashMap::new();
        let next_offsets = &self.next_offsets;
        self.state.waiting.retain_mut(|submission| {
            let Some((topic, entries)) = submission.extends() else { return true };
            let planned = topic.id().map_or(0, |id| next_offsets[id.get() as usize]);
            let added = added.entry(Arc::as_ptr(topic)).or_default();
            let next = planned + *added;
            match submission.expected_offset() {
                Some(expected) if expected != next => {
                    let topic = topic.name().to_owned();
                    submission.answer(Err(AppendError::UnexpectedOffset { topic, expected, next }));
                    false
                }
                _ => {
                    *added += entries;
                    true
                }
            }
        });
    }

    /// A place for each block of these lengths. Segments that are taken for it stay ahead of the tail even when the plan is dropped.
    pub(super) fn find_room(
        &mut self,
        lens: impl Iterator<Item = usize>,
        next: &mut NextTail,
    ) -> Result<Vec<Room>, NoSpare> {
        let mut rooms = Vec::new();
        let mut ahead = 0;
        for len in lens {
            if len > self.limit.bytes_max {
                // A leader's can be, or one of before the last opening: it was made for larger segments.
                let (bytes_max, enough) = (self.limit.bytes_max, (2 * len).next_power_of_two());
                let reason = format!(
                    "a block of {len} bytes was made for larger segments and does not fit in those of this log ({bytes_max}); open it \
                     with a first segment of at least {enough} bytes (segment_bytes_first)"
                );
                return Err(NoSpare { reason, full: false });
            }
            let room = loop {
                if let Some(room) = next.reserve(len) {
                    break room;
                }
                if ahead == self.state.ahead.len() {
                    self.take_ahead()?;
                }
                next.go_on_into(Arc::clone(&self.state.ahead[ahead]));
                ahead += 1;
            };
            rooms.push(room);
        }
        self.state.ahead.drain(..ahead);
        Ok(rooms)
    }

    /// Takes a segment that the log goes on into later.
    pub(super) fn take_ahead(&mut self) -> Result<&Segment, NoSpare> {
        self.progress.waits.begin(WaitsFor::Segment, (self.pace.now)());
        let spare = self.keeper.take_spare();
        self.progress.waits.end();
        let spare = spare?;
        self.segments.add(Arc::clone(&spare));
        self.state.ahead.push_back(spare);
        Ok(self.state.ahead.back().expect("pushed above"))
    }

    // -- writing ----------------------------------------------------------------------------------------------------------

    fn write_group(&mut self, group: GroupShape, rooms: Vec<Room>, after: NextTail) -> Result<(), Halt> {
        let taken: Vec<_> = self.state.waiting.drain(..group.taken).collect();
        let durability = match group.wants_flush {
            false => Durability::Later,
            // Writes with a flush of their own cover themselves alone, not what was written before them.
            true if group.blocks.len() <= OWN_FLUSH_BLOCKS_MAX && !self.state.in_flight.has_unflushed() => {
                Durability::ByItsWrites
            }
            true => Durability::ByFlush,
        };
        let receipts = vec![Receipt { first_offset: 0, last_offset: 0, lsn: self.planned.tail.lsn }; taken.len()];
        self.state.in_flight.open(durability, taken, receipts, after);
        self.progress.count_group();
        self.state.may_lend |= !group.wants_flush;
        let ts_ns = (self.clock)().max(self.planned.tail.ts_ns);
        for (shape, room) in group.blocks.into_iter().zip(rooms) {
            self.write_block(shape, room, ts_ns, durability)?;
        }
        let group = self.state.in_flight.last();
        // The places were reserved on the copy; LSN, chain and time were given as the blocks were encoded.
        group.after.tail = Tail { position: group.after.tail.position, ..self.planned.tail };
        self.planned = group.after.clone();
        self.state.in_flight.close_last();
        self.start_due_flushes();
        Ok(())
    }

    /// Plans, encodes and submits one block. After a failure it is planned all the same, and written with the rest of its group
    /// elsewhere.
    fn write_block(&mut self, shape: BlockShape, room: Room, ts_ns: u64, durability: Durability) -> Result<(), Halt> {
        let len = shape.total_len(self.limit.align);
        let mut slot = self.acquire_slot(len)?;
        let mut group = self.state.in_flight.take_last();
        let plan = self.plan_block(shape, &mut group, ts_ns);
        let portable = &mut self.io.slot_bytes(&mut slot)[ENVELOPE_BYTES..][..plan.shape.portable_len];
        let chain = plan.encode(portable, self.log_id, &group.taken);
        let meta = plan.meta(chain, room.position, len, &group.taken, self.log_id);
        self.last_entries = meta.n_entries();
        let tail = &mut self.planned.tail;
        (tail.lsn, tail.chain, tail.ts_ns) = (meta.lsn.next(), chain, meta.ts_ns);
        let portable_len = plan.shape.portable_len;
        group.plans.push(plan);
        group.blocks.push(meta);
        if self.state.failure.is_some() {
            self.io.give_back(slot);
        } else {
            let token = group.start_write(&room.segment.file);
            let sync = match durability {
                Durability::ByItsWrites => Sync::Durable,
                Durability::ByFlush | Durability::Later => Sync::Lazy,
            };
            self.progress.count_flushes(usize::from(sync == Sync::Durable));
            self.seal_and_write(token, &room, slot, len, portable_len, sync);
        }
        self.state.in_flight.put_last(group);
        Ok(())
    }

    /// Puts the envelope before a portable block, and hands the whole to the device.
    pub(super) fn seal_and_write(
        &mut self,
        token: crate::storage::Token,
        room: &Room,
        mut slot: Slot,
        len: usize,
        portable_len: usize,
        sync: Sync,
    ) {
        let (incarnation, durable_lsn) = (self.incarnation, self.durable.tail.lsn);
        let envelope = Envelope { incarnation, position: room.position, durable_lsn };
        seal(&mut self.io.slot_bytes(&mut slot)[..len], room.segment.header.salt, &envelope, portable_len);
        let (file, offset) = (&room.segment.file, room.position.offset().into());
        if self.state.alone {
            self.progress.waits.begin(WaitsFor::Write, (self.pace.now)());
            self.io.write_now(token, file, offset, slot, len, sync);
        } else {
            self.io.write(token, file, offset, slot, len, sync);
        }
    }

    /// A slot for one block; waits for completions when all are with the kernel.
    pub(super) fn acquire_slot(&mut self, len: usize) -> Result<Slot, Halt> {
        loop {
            if let Some(slot) = self.io.slot(len) {
                return Ok(slot);
            }
            assert!(self.io.in_flight() > 0, "with nothing in flight a slot can always be had");
            self.wait_for_the_device()?;
        }
    }

    // -- places and offsets -----------------------------------------------------------------------------------------------

    /// Gives a block everything but its place: LSN, time, chain before, the offsets of its entries.
    fn plan_block(&mut self, mut shape: BlockShape, group: &mut super::inflight::Group, ts_ns: u64) -> BlockPlan {
        let (taken, receipts) = (&group.taken, &mut group.receipts);
        let Tail { lsn, chain, .. } = self.planned.tail;
        let mut head = Head {
            kind: Kind::Data,
            epoch: self.epoch,
            lsn,
            ts_ns,
            prev_chain: chain,
            remaining: shape.remaining,
            txn: None,
        };
        let mut control = None;
        match &mut shape.content {
            Content::Entries(pieces) => {
                for piece in pieces {
                    head.txn = self.place_entries(piece, taken, receipts, lsn);
                }
            }
            Content::Topic(topic) => {
                (head.kind, control) = (Kind::Topic, Some(self.define(topic).encode()));
            }
            Content::Reign(index) => {
                let Submission::NewReign(new) = &taken[*index] else { unreachable!("shaped from a new reign") };
                (self.epoch, self.run_id) = (new.epoch, new.run_id);
                receipts[*index].lsn = lsn;
                let reign = Reign { epoch: new.epoch, run_id: new.run_id, start_lsn: lsn };
                head.epoch = new.epoch;
                (head.kind, control) = (Kind::Epoch, Some(reign.encode()));
            }
            Content::EndBatch(index) => {
                let (kind, body, receipt) = self.end_batch(&taken[*index], lsn);
                receipts[*index] = receipt;
                (head.kind, control) = (kind, Some(body));
            }
            Content::Early(index) => {
                let block = early(taken, *index);
                assert_eq!(block.lsn, lsn, "nothing else is planned while the plan is lent");
                group.early_slots.extend(block.slot);
                self.state.callers_in_a_row = block.n_entries() > 1;
                head.epoch = block.epoch.unwrap_or(self.epoch);
                receipts[*index].lsn = lsn;
            }
            Content::Verbatim(index, block) => {
                let view = verbatim(taken, *index, *block, self.log_id);
                assert!(view.head.lsn == lsn && view.head.prev_chain == chain, "checked before it was queued");
                receipts[*index].lsn = lsn;
                head = view.head;
                self.epoch = head.epoch;
                let reign = view.entries().next().filter(|_| head.kind == Kind::Epoch);
                if let Some(Ok(reign)) = reign.map(|entry| Reign::parse(entry.payload)) {
                    self.run_id = reign.run_id;
                }
            }
        }
        BlockPlan { shape, head, control }
    }

    /// Gives the entries of a piece their offsets: in their topic, or, staged, in their batch. Returns the batch.
    fn place_entries(
        &mut self,
        piece: &mut Piece,
        taken: &[Submission],
        receipts: &mut [Receipt],
        lsn: Lsn,
    ) -> Option<Lsn> {
        let append = piece.append(taken);
        let entries = piece.n_entries(taken) as u64;
        if let Some(staging) = &append.staging {
            let mut planned = staging.planned();
            piece.next_offset = planned.entries;
            planned.entries += entries;
            planned.blocks += 1;
            planned.bytes += piece.bytes(taken) as u64;
            return Some(*planned.txn.get_or_insert(lsn));
        }
        let topic = append.topic.id().expect("its TOPIC block was planned before");
        let next = &mut self.next_offsets[topic.get() as usize];
        piece.next_offset = *next;
        *next += entries;
        let receipt = &mut receipts[piece.submission];
        if piece.payloads.start == 0 {
            receipt.first_offset = piece.next_offset;
        }
        (receipt.last_offset, receipt.lsn) = (*next - 1, lsn);
        None
    }

    /// The COMMIT or the ABORT of a staged batch.
    fn end_batch(&mut self, submission: &Submission, lsn: Lsn) -> (Kind, Vec<u8>, Receipt) {
        let Submission::EndBatch(end) = submission else { unreachable!("shaped from the end of a batch") };
        let planned = *end.staging.planned();
        let txn = planned.txn.expect("a batch that is ended has begun");
        if !end.commit {
            return (Kind::Abort, Abort { txn }.encode(), Receipt { first_offset: 0, last_offset: 0, lsn });
        }
        assert_eq!(planned.entries, end.n_entries, "every part was planned before the end");
        let id = end.topic.id().expect("its TOPIC block was planned before");
        let next = &mut self.next_offsets[id.get() as usize];
        let base_offset = *next;
        *next += planned.entries;
        let topics = vec![CommittedTopic { id, base_offset, entries: planned.entries }];
        let commit = Commit { txn, blocks: planned.blocks, bytes: planned.bytes, topics };
        let receipt = Receipt { first_offset: base_offset, last_offset: *next - 1, lsn };
        (Kind::Commit, commit.encode(), receipt)
    }

    /// Gives a topic the next number.
    fn define(&mut self, topic: &TopicSlot) -> TopicDefinition {
        let id = TopicId::new(u32::try_from(self.next_offsets.len()).expect("topics fit 32 bits"));
        topic.define(id);
        self.next_offsets.push(0);
        TopicDefinition { id, name: topic.name().to_owned() }
    }
}
