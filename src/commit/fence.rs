//! What happens when a write or a flush fails: DESIGN.md section 3, "Failure".
//!
//! ```text
//!   1  stop submitting, wait for every completion; after a plain failed write, flush what lies before it
//!   2  fence at the durable end: what was written behind it is dead       in both superblock slots
//!   3  the same portable blocks once more, in the next spare              all well: the callers never knew
//!   4  or a second fence, at the start of that spare                      RolledBack, and the log halts
//! ```
//!
//! Rolling back in memory would not be enough: the bytes of a failed write or flush may be on the disk, or may come to be, and
//! recovery would take them for committed. And a failed flush is never tried again on that file: the kernel reports it once, and then
//! says that all is well.
//!
//! Layer: commit. Uses `log` for the fence. The part of the commit thread that runs on a bad day.

use std::sync::Arc;

use super::error::AppendError;
use super::inflight::Group;
use super::next_tail::NextTail;
use super::writer::{Failure, Halt, Writer};
use crate::format::block::ENVELOPE_BYTES;
use crate::log::segment::Segment;
use crate::log::tail::Tail;
use crate::lsn::Position;
use crate::storage::{Completion, File, Sync, Token};

/// Bytes written again before their completions are waited for: all that the slots hold is used, and no more is planned ahead.
const AGAIN: u64 = 1 << 62;

impl Writer {
    /// Survives a failure, or says why the log must halt; then everybody has been answered but those whose fate is not known.
    pub(super) fn fence_and_write_again(&mut self, failure: Failure) -> Result<(), Halt> {
        self.state.failure = Some(failure);
        self.queue.stop_early();
        self.drain_completions();
        self.flush_what_lies_before();
        self.publish_ready();
        let failure = self.state.failure.take().expect("set above");
        let (mut lost, published) = self.state.in_flight.take_all();
        self.state.flushing.clear();
        if let Some(reason) = self.keeper.failed() {
            return self.give_up(lost, &format!("{}; then {reason}", failure.reason));
        }
        let again = match self.fresh_segment() {
            Ok(again) => again,
            Err(none) => {
                return self.give_up(lost, &format!("{}; nothing to write it again into: {none}", failure.reason));
            }
        };
        match self.keeper.fence(self.durable_end(), self.durable.tail.position, again.start()) {
            Ok(incarnation) => self.incarnation = incarnation,
            Err(reason) => return self.give_up(lost, &format!("{}; the fence: {reason}", failure.reason)),
        }
        match self.write_again(&mut lost, &again) {
            Ok(end) => {
                // Counted first: whoever hears of an append can see what it took.
                self.progress.count_survived(&failure.reason, self.incarnation);
                self.take_over(lost, published, end);
                Ok(())
            }
            Err(second) => self.roll_back(lost, &again, &format!("{}; again: {second}", failure.reason)),
        }
    }

    /// After a plain failed write, what is complete in front of it is flushed: it need not be written again. After a failed flush
    /// nobody knows what that file holds, and asking once more would be answered wrongly.
    fn flush_what_lies_before(&mut self) {
        if self.state.failure.as_ref().is_some_and(|failure| failure.of_a_flush) {
            return;
        }
        let files = self.state.in_flight.files_before_the_gap();
        self.progress.count_flushes(files.len());
        if files.iter().all(|file| file.flush().is_ok()) {
            self.state.in_flight.settle_before_the_gap();
        }
    }

    /// The first segment that nothing was ever submitted to.
    fn fresh_segment(&mut self) -> Result<Arc<Segment>, String> {
        if let Some(ahead) = self.state.ahead.pop_front() {
            return Ok(ahead);
        }
        let spare = self.keeper.take_spare().map_err(|none| none.reason)?;
        self.segments.add(Arc::clone(&spare));
        Ok(spare)
    }

    /// Writes the blocks once more, byte for byte, from the start of `again` on, and flushes them. Returns the tail behind them.
    fn write_again(&mut self, lost: &mut [Group], again: &Arc<Segment>) -> Result<NextTail, String> {
        let mut next = self.durable.clone();
        next.resume_in(Arc::clone(again));
        let lens: Vec<_> = lost.iter().flat_map(|group| &group.blocks).map(|block| block.total_len as usize).collect();
        let rooms = self.find_room(lens.into_iter(), &mut next).map_err(|none| none.reason)?;
        self.keeper.wait_for_window(next.linear())?;
        let mut rooms = rooms.into_iter();
        let mut touched: Vec<File> = Vec::new();
        let mut writes = 0;
        for group in lost.iter_mut() {
            for (plan, block) in group.plans.iter().zip(&mut group.blocks) {
                let room = rooms.next().expect("a room for each block");
                let (len, portable_len) = (block.total_len as usize, plan.shape.portable_len);
                let mut slot = self.slot_for_again(len)?;
                let portable = &mut self.io.slot_bytes(&mut slot)[ENVELOPE_BYTES..][..portable_len];
                let chain = plan.encode(portable, self.log_id, &group.taken);
                assert_eq!(chain, block.chain, "portable bytes never change");
                block.position = room.position;
                if !touched.iter().any(|file| file.same_file(&room.segment.file)) {
                    touched.push(room.segment.file.clone());
                }
                self.seal_and_write(Token(AGAIN | writes), &room, slot, len, portable_len, Sync::Lazy);
                writes += 1;
            }
            let end = group.blocks.last().map(|block| behind(block.position, block.total_len));
            let position = end.unwrap_or(next.tail.position);
            group.after.tail = Tail { position, ..group.after.tail };
        }
        self.wait_for_again()?;
        self.progress.count_flushes(touched.len());
        for (file, i) in touched.iter().zip(0..) {
            self.io.flush(Token(AGAIN | (1 << 61) | i), file);
        }
        self.wait_for_again()?;
        next.tail = Tail { position: next.tail.position, ..self.planned.tail };
        Ok(next)
    }

    fn slot_for_again(&mut self, len: usize) -> Result<crate::storage::Slot, String> {
        loop {
            if let Some(slot) = self.io.slot(len) {
                return Ok(slot);
            }
            self.wait_for_again()?;
        }
    }

    /// Waits for everything that is in flight; the first error is the answer, once nothing is in flight any more.
    fn wait_for_again(&mut self) -> Result<(), String> {
        let (mut done, mut failed) = (Vec::new(), None);
        while self.io.in_flight() > 0 {
            self.io.wait(&mut done);
            for Completion { result, .. } in done.drain(..) {
                failed = failed.or(result.err());
            }
        }
        failed.map_or(Ok(()), |error| Err(error.to_string()))
    }

    /// What was written again is durable: publishes what was not, moves what was, and goes on behind it.
    fn take_over(&mut self, lost: Vec<Group>, published: usize, end: NextTail) {
        self.planned = end.clone();
        self.segments.move_here(lost[..published].iter().flat_map(|group| &group.blocks));
        let (mut answers, mut blocks) = (Vec::new(), Vec::new());
        for (i, mut group) in lost.into_iter().enumerate() {
            if i >= published {
                self.segments.publish(&group.blocks);
                self.sink.publish(&group.blocks);
                answers.extend(group.take_answers());
                self.queue.early.free(group.early_slots.drain(..));
                self.progress.published.advance(group.after.tail.lsn);
            }
            blocks.append(&mut group.blocks);
        }
        self.durable = end;
        self.progress.advance_durable(self.durable.tail);
        self.keeper.note(self.durable_end(), blocks);
        for (mut reply, receipt) in answers {
            reply.send(Ok(receipt));
        }
    }

    /// Step 4: what was written again is cut off too.
    fn roll_back(&mut self, lost: Vec<Group>, again: &Segment, reason: &str) -> Result<(), Halt> {
        match self.keeper.fence(self.durable_end(), again.start(), again.start()) {
            Ok(incarnation) => {
                self.incarnation = incarnation;
                self.stop_taking(reason);
                let error = AppendError::RolledBack { reason: reason.to_owned() };
                lost.into_iter().for_each(|mut group| group.answer_all(&error));
                Err(Halt(reason.to_owned()))
            }
            Err(fence) => self.give_up(lost, &format!("{reason}; the second fence: {fence}")),
        }
    }

    /// Nothing is known of what was in flight.
    fn give_up(&mut self, lost: Vec<Group>, reason: &str) -> Result<(), Halt> {
        self.stop_taking(reason);
        let error = AppendError::Indeterminate { reason: reason.to_owned() };
        lost.into_iter().for_each(|mut group| group.answer_all(&error));
        Err(Halt(reason.to_owned()))
    }
}

fn behind(position: Position, total_len: u32) -> Position {
    position.checked_add(total_len).expect("a block lies within its segment")
}
