//! The commit thread: the one writer of the log, in both roles.
//!
//! Its loop, top to bottom, is the way of an append: take what waits, submit it group by group, reap what is complete, flush what is
//! due, publish in order. How a group gets its places and its bytes is in `group`, what happens when a write or a flush fails in
//! `fence`, and who runs the loop in `committer`.
//!
//! Two ends move: the **published** one, up to which callers have been answered and readers see, and the **durable** one behind it.
//! They differ only while entries acknowledged as written wait for a flush.
//!
//! Layer: commit. Uses `log`, `storage`. Knows nothing of topics beyond their numbers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::early::Next;
use super::error::AppendError;
use super::flushing::{Flushing, Pace};
use super::inflight::{Group, InFlight};
use super::next_tail::NextTail;
use super::plan::BlockLimit;
use super::progress::Progress;
use super::queue::{Asleep, Queue};
use super::submission::Submission;
use super::waits::WaitsFor;
use crate::ids::{Epoch, Incarnation, LogId, RunId};
use crate::limits::{EARLY_SLOTS, GROUPS_IN_FLIGHT_MAX, NOT_DURABLE_BYTES_MAX};
use crate::log::keeper::{Keeper, Published};
use crate::log::meta::Sink;
use crate::log::segment::Segment;
use crate::log::segments::Segments;
use crate::storage::{Completion, File, Queue as Io, Token};

/// Why the log takes no writes, once it does not; shared with whoever asks for its state.
pub(crate) type HaltReason = Arc<Mutex<Option<String>>>;

/// What the thread works with.
pub(crate) struct Writer {
    pub(crate) io: Io,
    pub(crate) queue: Arc<Queue>,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) segments: Arc<Segments>,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) halted: HaltReason,
    pub(crate) pace: Pace,
    pub(crate) log_id: LogId,
    pub(crate) limit: BlockLimit,
    pub(crate) incarnation: Incarnation,
    pub(crate) epoch: Epoch,
    pub(crate) run_id: RunId,
    /// The next offset of each topic by number, as planned. Index 0 is the control topic's, which has no offsets. Empty while they are lent
    /// to callers.
    pub(crate) next_offsets: Vec<u64>,
    /// How many entries begin in the block that was planned last.
    pub(crate) last_entries: u32,
    /// The tail behind everything planned, and the durable one.
    pub(crate) planned: NextTail,
    pub(crate) durable: NextTail,
    /// The wall clock, nanoseconds since 1970: read once a group.
    pub(crate) clock: fn() -> u64,
    pub(crate) state: WriterState,
}

/// What the thread keeps from one round to the next.
#[derive(Default)]
pub(crate) struct WriterState {
    pub(super) waiting: VecDeque<Submission>,
    pub(super) in_flight: InFlight,
    pub(super) done: Vec<Completion>,
    /// Something has completed since the last group was submitted, so whatever waits may go.
    completed: bool,
    /// Segments taken from the keeper that no block has been planned into yet.
    pub(super) ahead: VecDeque<Arc<Segment>>,
    pub(super) flushing: Flushing,
    /// A write or a flush has failed: nothing is submitted any more.
    pub(super) failure: Option<Failure>,
    /// What has ended the log in a caller's thread; the commit thread carries it out.
    pub(super) halt: Option<Halt>,
    /// Entries have come that nobody waits to be flushed: more of them may be taken without this thread.
    pub(super) may_lend: bool,
    /// A part of a staged batch was rejected: others of it may still come.
    has_lost_batches: bool,
    /// The last early block had more than one entry.
    pub(super) callers_in_a_row: bool,
    /// A caller commits in its own thread: writes are made there and then.
    pub(super) alone: bool,
}

/// What has failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) reason: String,
    /// A flush, or a write that carried one: what the file holds is not known, and no later flush of it will tell.
    pub(super) of_a_flush: bool,
}

/// The log cannot go on; what is in flight is not known until it is opened again.
pub(super) struct Halt(pub(super) String);

/// Why there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// For the moment: a wake says that there is.
    Idle,
    /// For ever.
    Ended,
}

impl Writer {
    /// Answers everybody that nothing is known, after a panic: a bug here must not leave callers waiting for ever.
    pub(super) fn last_words(&mut self) {
        let reason = "the commit thread panicked".to_owned();
        self.queue.close(AppendError::Halted { reason: reason.clone() });
        // Dropped unanswered, a submission answers by itself. What the kernel may still write stays where it is.
        self.queue.drain(&mut VecDeque::new(), &mut Vec::new(), 0);
        self.state.waiting.clear();
        drop(self.state.in_flight.take_all());
        self.halted.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(reason);
        self.progress.end();
    }

    /// Works until there is nothing to do.
    pub(super) fn work(&mut self) -> Pause {
        let ended = loop {
            let ended = match self.state.halt.take() {
                Some(halt) => Err(halt),
                None => self.commit_until_pause(),
            };
            let Some(failure) = self.state.failure.take() else { break ended };
            self.progress.waits.begin(WaitsFor::Rewrite, (self.pace.now)());
            let survived = self.fence_and_write_again(failure);
            self.progress.waits.end();
            if let Err(halt) = survived {
                break Err(halt);
            }
        };
        match ended {
            Ok(Pause::Idle) => return Pause::Idle,
            Ok(Pause::Ended) => self.close(),
            Err(Halt(reason)) => self.halt(reason),
        }
        self.progress.waits.end();
        self.progress.end();
        Pause::Ended
    }

    fn close(&mut self) {
        self.progress.waits.begin(WaitsFor::Closing, (self.pace.now)());
        if let Err(reason) = self.keeper.stop(true) {
            *self.halted.lock().expect("no holder of this lock panics") = Some(reason);
        }
    }

    /// Goes on after [`Pause::Idle`]; `woken` is what [`Waker::park`](crate::storage::Waker::park) said.
    pub(super) fn resume(&mut self, woken: bool) {
        if !woken {
            self.io.wait(&mut self.state.done);
        }
        self.queue.awake();
        if let Err(halt) = self.reap() {
            self.state.halt.get_or_insert(halt); // what a caller has met came first
        }
    }

    /// Ends when there is nothing to do, when the queue is closed and everything is durable, or when something has failed.
    fn commit_until_pause(&mut self) -> Result<Pause, Halt> {
        loop {
            self.submit_what_is_ready()?;
            self.publish_ready();
            let idle = self.state.in_flight.is_empty() && self.state.waiting.is_empty();
            let closing = idle && self.queue.is_drained();
            if self.state.failure.is_some() || closing && self.state.in_flight.is_settled() {
                return Ok(Pause::Ended);
            }
            self.flush_what_is_due(closing);
            let callers_come = idle && self.state.callers_in_a_row && self.queue.early.linger(self.planned.tail.lsn);
            if idle && !callers_come && self.io.in_flight() == 0 && self.queue.sleep(Asleep::ForWork) {
                return Ok(Pause::Idle);
            }
            self.wait_for_something(callers_come)?;
            self.publish_ready();
        }
    }

    /// Takes what waits and submits it, group by group, without ever waiting for more.
    fn submit_what_is_ready(&mut self) -> Result<(), Halt> {
        while self.state.failure.is_none() && !self.is_full() {
            if self.state.waiting.is_empty() {
                let behind = if self.state.completed { 0 } else { self.state.in_flight.len() };
                if self.state.callers_in_a_row && behind == 0 {
                    self.queue.early.let_fill(self.planned.tail.lsn);
                }
                if !self.queue.drain(&mut self.state.waiting, &mut self.next_offsets, behind) {
                    return Ok(());
                }
                self.refuse_what_cannot_follow();
            }
            if !self.state.waiting.is_empty() {
                self.submit_group()?;
                self.state.completed = false;
            }
        }
        Ok(())
    }

    /// Whether no further group may be submitted before one has become durable. By bytes, too: the window past the hint moves with the
    /// durable end, which only this thread moves, so it must never fill the window and then wait for it.
    pub(super) fn is_full(&self) -> bool {
        self.state.in_flight.len() >= GROUPS_IN_FLIGHT_MAX || self.is_far_ahead()
    }

    /// Whether the log has gone as far past its durable end as it may. In bytes of segments: with what their ends leave free.
    fn is_far_ahead(&self) -> bool {
        self.planned.linear() - self.durable.linear() >= NOT_DURABLE_BYTES_MAX
    }

    /// Lends the plan to callers whose entries need no flush, as far as there is room in this segment. Only while everything is published:
    /// an entry that is acknowledged must not lie behind one that may yet be rolled back.
    pub(super) fn lend_to_callers(&mut self) {
        let state = &self.state;
        let well = state.failure.is_none() && state.halt.is_none();
        let idle = state.in_flight.is_empty() && state.waiting.is_empty();
        let is_lent = self.next_offsets.is_empty();
        if !(state.may_lend && well && idle) || is_lent {
            return;
        }
        let Some(blocks) = self.room_to_lend() else { return };
        let next = Next { lsn: self.planned.tail.lsn, last_entries: self.last_entries, blocks };
        if blocks > 0 && self.queue.lend(next, &mut self.next_offsets) {
            self.state.may_lend = false;
        }
    }

    /// Blocks that callers have filled are written: they may fill others.
    pub(super) fn free_early(&mut self, slots: Vec<usize>) {
        if slots.is_empty() {
            return;
        }
        self.queue.early.free(slots.into_iter());
        if self.next_offsets.is_empty()
            && let Some(blocks) = self.room_to_lend()
        {
            self.queue.early.extend(self.planned.tail.lsn, blocks);
        }
    }

    /// How many blocks that callers fill have room in this segment, and in those ahead; one is taken ahead before the room ends.
    fn room_to_lend(&mut self) -> Option<usize> {
        let block_bytes = self.queue.early.block_bytes()?;
        let ahead = &self.state.ahead;
        let blocks = self.planned.room_for(block_bytes)
            + ahead.iter().map(|segment| segment.room_for(block_bytes)).sum::<usize>();
        if blocks >= 2 * EARLY_SLOTS || !ahead.is_empty() {
            return Some(blocks);
        }
        let more = self.take_ahead().map_or(0, |segment| segment.room_for(block_bytes)); // none: the queue will tell why
        Some(blocks + more)
    }

    fn wait_for_something(&mut self, callers_come: bool) -> Result<(), Halt> {
        let asleep = match self.state.in_flight.len() {
            0 => Asleep::ForWork,
            groups => Asleep::ForTheDevice { groups },
        };
        // Nothing more will come and a flush is under way: it is waited for, not asked about again and again.
        let only_the_device = || self.queue.is_drained() && self.io.in_flight() > 0;
        if self.is_full() || !callers_come && (self.queue.sleep(asleep) || only_the_device()) {
            self.wait_for_the_queue();
            self.queue.awake();
        } else {
            self.io.poll(&mut self.state.done);
        }
        self.reap()
    }

    fn wait_for_the_queue(&mut self) {
        if let Some(what) = self.state.in_flight.waits_for() {
            self.progress.waits.begin(what, (self.pace.now)());
        }
        self.io.wait(&mut self.state.done);
    }

    /// Blocks until something has completed, and takes note of it.
    pub(super) fn wait_for_the_device(&mut self) -> Result<(), Halt> {
        self.wait_for_the_queue();
        self.reap()
    }

    /// Takes note of completions, and starts the flushes that they make due.
    fn reap(&mut self) -> Result<(), Halt> {
        self.note_completions();
        self.start_due_flushes();
        self.keeper.failed().map_or(Ok(()), |reason| Err(Halt(reason)))
    }

    pub(super) fn note_completions(&mut self) {
        if !self.state.done.is_empty() {
            self.progress.waits.end();
        }
        for Completion { token, result } in std::mem::take(&mut self.state.done) {
            self.state.completed = true;
            let carries_a_flush = self.state.in_flight.carries_a_flush(token);
            let failure = &mut self.state.failure;
            match result {
                // The kernel tells of a failed flush once: another one of that file that says that all is well proves nothing now.
                Ok(()) if carries_a_flush && failure.as_ref().is_some_and(|failure| failure.of_a_flush) => {}
                Ok(()) => self.state.in_flight.complete(token),
                Err(error) => {
                    let first = Failure { reason: error.to_string(), of_a_flush: carries_a_flush };
                    failure.get_or_insert(first).of_a_flush |= carries_a_flush;
                }
            }
        }
    }

    // -- flushing ---------------------------------------------------------------------------------------------------------

    /// Flushes for the sake of the groups whose writes are complete and whose callers wait for it.
    pub(super) fn start_due_flushes(&mut self) {
        while self.state.failure.is_none() {
            let Some(files) = self.state.in_flight.start_flush() else { return };
            self.start_flush(files);
        }
    }

    /// Flushes what nobody waits for: when it is time, or when the log may go no further until its durable end has moved.
    fn flush_what_is_due(&mut self, closing: bool) {
        if !self.state.in_flight.has_unflushed() {
            return;
        }
        let due = closing || self.is_far_ahead() || self.state.flushing.is_due(&self.pace);
        if due && let Some(files) = self.state.in_flight.start_flush_of_written() {
            self.state.flushing.begun();
            self.start_flush(files);
        }
    }

    fn start_flush(&mut self, files: Vec<(Token, File)>) {
        self.progress.count_flushes(files.len());
        for (token, file) in files {
            self.io.flush(token, &file);
        }
    }

    // -- publishing -------------------------------------------------------------------------------------------------------

    /// Publishes the groups at the front that are ready, and moves the durable end behind those that a flush has covered.
    ///
    /// Indexes first, then the ends, then the callers: whoever hears of an append can read it.
    pub(super) fn publish_ready(&mut self) {
        let (mut answers, mut early_slots) = (Vec::new(), Vec::new());
        while let Some(group) = self.state.in_flight.publish_next() {
            self.segments.publish(&group.blocks);
            self.sink.publish(&group.blocks);
            self.state.flushing.published(group, &self.pace);
            answers.extend(group.take_answers());
            early_slots.append(&mut group.early_slots);
            self.progress.published.advance(group.after.tail.lsn);
        }
        let settled = self.advance_durable();
        self.free_early(early_slots);
        self.io.syscalls().into_iter().for_each(|n| self.progress.note_syscalls(n));
        self.lend_to_callers(); // before the answers: who has one comes with the next entry
        for (mut reply, receipt) in answers {
            reply.send(Ok(receipt));
        }
        drop(settled); // behind the answers: to give the memory of a thousand entries back takes as long as to write them
    }

    /// Moves the durable end. Returns the groups that are no longer needed.
    fn advance_durable(&mut self) -> Vec<Group> {
        let (mut settled, mut blocks) = (Vec::new(), Vec::new());
        while let Some(mut group) = self.state.in_flight.take_durable() {
            self.state.flushing.durable(&group);
            blocks.append(&mut group.blocks);
            self.durable = group.after.clone();
            settled.push(group);
        }
        if !settled.is_empty() {
            self.progress.advance_durable(self.durable.tail);
            self.keeper.note(self.durable_end(), blocks);
        }
        settled
    }

    /// The durable end as the superblock is to record it.
    pub(super) fn durable_end(&self) -> Published {
        Published { tail: self.durable.tail, linear: self.durable.linear(), epoch: self.epoch, run_id: self.run_id }
    }

    // -- the end ----------------------------------------------------------------------------------------------------------

    /// The log takes no writes any more: what is durable is published, and everybody else is told that nothing is known.
    fn halt(&mut self, reason: String) {
        self.stop_taking(&reason);
        self.drain_completions();
        self.publish_ready();
        let error = AppendError::Indeterminate { reason: reason.clone() };
        for mut group in self.state.in_flight.take_all().0 {
            group.answer_all(&error);
        }
        self.end_halted(reason);
    }

    pub(super) fn stop_taking(&mut self, reason: &str) {
        *self.halted.lock().expect("no holder of this lock panics") = Some(reason.to_owned());
        self.queue.close(AppendError::Halted { reason: reason.to_owned() });
    }

    /// Refuses what waits. The superblock stays as it is: the next open must look for itself.
    pub(super) fn end_halted(&mut self, reason: String) {
        self.queue.drain(&mut self.state.waiting, &mut self.next_offsets, 0);
        self.reject(self.state.waiting.len(), &AppendError::Halted { reason });
        let _ = self.keeper.stop(false);
    }

    /// Waits until the kernel owns no buffer any more. What succeeds still counts, since a group before the failed one may become
    /// durable by it; flushes that would be due are not begun: nothing is submitted after a failure.
    pub(super) fn drain_completions(&mut self) {
        loop {
            self.note_completions();
            if self.io.in_flight() == 0 {
                return;
            }
            self.wait_for_the_queue();
        }
    }

    /// Answers what waits, and must not be written behind what lies before it.
    pub(super) fn refuse_what_cannot_follow(&mut self) {
        if self.state.has_lost_batches {
            self.state.waiting.retain_mut(|submission| {
                let Some(lost) = submission.staging().and_then(|staging| staging.lost()).cloned() else { return true };
                submission.answer(Err(lost));
                false
            });
        }
        self.refuse_unexpected_offsets();
    }

    pub(super) fn reject(&mut self, taken: usize, error: &AppendError) {
        for mut submission in self.state.waiting.drain(..taken) {
            if let Some(staging) = submission.staging() {
                staging.lose(error);
                self.state.has_lost_batches = true;
            }
            submission.answer(Err(error.clone()));
        }
    }
}
