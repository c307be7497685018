//! The bounded queue before the commit thread.
//!
//! `close()` is the seed's sentinel: everything pushed before it is drained, nothing after it is taken.
//!
//! Wake-ups are few: a thread that waits for work is woken by the first push; one that waits for the device only when enough has
//! gathered to be worth a group of its own, the more the more groups are in flight (it looks by itself at every completion).
//!
//! What callers have filled while the plan was lent to them ([`Early`]) comes before everything that is pushed, so both are looked at under
//! this lock: a push stops the lending, and nothing is lent while something waits.
//!
//! Layer: commit. Knows nothing of what the submissions mean.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};

use super::early::{Early, Next};
use super::error::AppendError;
use super::submission::Submission;
use crate::limits::{QUEUE_BYTES_MAX, QUEUE_SUBMISSIONS_MAX, WORTH_BYTES, WORTH_ENTRIES};
use crate::storage::Waker;

/// What the commit thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asleep {
    /// It is not waiting.
    No,
    /// Nothing is in flight: any push wakes it.
    ForWork,
    /// So many groups are in flight: only a push that makes another one worth while wakes it.
    ForTheDevice { groups: usize },
}

/// Submissions on their way to the commit thread.
pub(crate) struct Queue {
    state: Mutex<State>,
    room: Condvar,
    waker: Waker,
    bounds: QueueBounds,
    pub(crate) early: Early,
}

/// How much may wait for the commit thread before an append waits for room, or is [busy](AppendError::Busy).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueBounds {
    /// Bytes of payload. What is pushed when a little room is left goes in whole, so this is passed by one batch at most.
    pub bytes: usize,
    /// Appends, batches and flushes.
    pub submissions: usize,
}

impl Default for QueueBounds {
    /// 64 MiB: a fiftieth of a second of an NVMe device's bandwidth, and eight of the largest groups. 65,536 submissions.
    fn default() -> QueueBounds {
        QueueBounds { bytes: QUEUE_BYTES_MAX, submissions: QUEUE_SUBMISSIONS_MAX }
    }
}

struct State {
    waiting: VecDeque<Submission>,
    entries: usize,
    bytes: usize,
    asleep: Asleep,
    callers_wait: usize,
    closed: Option<AppendError>,
}

impl Queue {
    pub(crate) fn new(waker: Waker, bounds: QueueBounds) -> Queue {
        let state =
            State { waiting: VecDeque::new(), entries: 0, bytes: 0, asleep: Asleep::No, callers_wait: 0, closed: None };
        let early = Early::new(waker.clone());
        Queue { state: Mutex::new(state), room: Condvar::new(), waker, bounds, early }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// Adds a submission, waiting for room if need be.
    ///
    /// # Errors
    /// What the queue was closed with; the submission is dropped unanswered, the caller knows.
    pub(crate) fn push(&self, submission: Submission) -> Result<(), AppendError> {
        let mut state = self.lock();
        while state.closed.is_none() && state.is_full(&self.bounds) {
            state.callers_wait += 1;
            state = self.room.wait(state).expect("no holder of this lock panics");
            state.callers_wait -= 1;
        }
        self.add(state, submission)
    }

    /// Adds a submission if there is room now.
    ///
    /// # Errors
    /// As [`Queue::push`], and [`AppendError::Busy`].
    pub(crate) fn try_push(&self, submission: Submission) -> Result<(), AppendError> {
        let state = self.lock();
        if state.closed.is_none() && state.is_full(&self.bounds) {
            return Err(AppendError::Busy { reason: "the queue is full" });
        }
        self.add(state, submission)
    }

    fn add(&self, mut state: MutexGuard<'_, State>, submission: Submission) -> Result<(), AppendError> {
        if let Some(error) = &state.closed {
            return Err(error.clone());
        }
        self.early.stop();
        state.entries += submission.entries();
        state.bytes += submission.bytes();
        state.waiting.push_back(submission);
        let wake = match state.asleep {
            Asleep::No => false,
            Asleep::ForWork => true,
            Asleep::ForTheDevice { groups } => state.is_worth_a_group(groups),
        };
        if wake {
            state.asleep = Asleep::No;
            drop(state);
            self.waker.wake();
        }
        Ok(())
    }

    /// Moves everything that waits to `to`, if it makes a group worth its write `behind` so many others. Returns whether there is anything.
    /// With what was pushed, or when nothing more will be, the `offsets` come back that were lent.
    pub(crate) fn drain(&self, to: &mut VecDeque<Submission>, offsets: &mut Vec<u64>, behind: usize) -> bool {
        let mut state = self.lock();
        let closed = state.closed.is_some();
        let pushed = !state.waiting.is_empty() && (state.is_worth_a_group(behind) || closed);
        let early = match pushed || closed {
            true => self.early.recall(to, offsets),
            false => self.early.take(to, behind == 0),
        };
        if !pushed {
            return early;
        }
        to.append(&mut state.waiting);
        (state.entries, state.bytes) = (0, 0);
        if state.callers_wait > 0 {
            self.room.notify_all();
        }
        true
    }

    /// Tells the queue that the commit thread goes to sleep. False: do not, there is something to do.
    pub(crate) fn sleep(&self, asleep: Asleep) -> bool {
        let mut state = self.lock();
        let awake = match asleep {
            Asleep::No => true,
            Asleep::ForWork => !state.waiting.is_empty() || state.closed.is_some() || !self.early.sleep(),
            Asleep::ForTheDevice { groups } => state.is_worth_a_group(groups),
        };
        state.asleep = if awake { Asleep::No } else { asleep };
        !awake
    }

    pub(crate) fn awake(&self) {
        self.lock().asleep = Asleep::No;
        self.early.awake();
    }

    /// Lends the plan to the callers, if nothing waits. False: it stays with the commit thread.
    pub(crate) fn lend(&self, next: Next, offsets: &mut Vec<u64>) -> bool {
        let state = self.lock();
        let idle = state.closed.is_none() && state.waiting.is_empty();
        if idle {
            self.early.lend(next, std::mem::take(offsets));
        }
        idle
    }

    /// Stops what is lent: nothing is to be acknowledged on it any more.
    pub(crate) fn stop_early(&self) {
        let _state = self.lock();
        self.early.stop();
    }

    /// Takes back what was lent, if nothing waits here and nothing has been made of it. False: there is something to write first.
    pub(crate) fn recall_unused(&self, offsets: &mut Vec<u64>) -> bool {
        let state = self.lock();
        if state.closed.is_some() || !state.waiting.is_empty() {
            return false;
        }
        self.early.stop();
        let unused = self.early.is_empty();
        if unused {
            self.early.recall(&mut VecDeque::new(), offsets);
        }
        unused
    }

    /// Takes nothing more; what waits is still drained. The first reason stands.
    pub(crate) fn close(&self, reason: AppendError) {
        let mut state = self.lock();
        self.early.stop();
        state.closed.get_or_insert(reason);
        drop(state);
        self.room.notify_all();
        self.waker.wake();
    }

    /// Whether nothing waits, and the queue takes more.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.closed.is_none() && state.waiting.is_empty() && self.early.is_empty()
    }

    /// Whether nothing waits and nothing more will come.
    pub(crate) fn is_drained(&self) -> bool {
        let state = self.lock();
        state.closed.is_some() && state.waiting.is_empty() && self.early.is_empty()
    }
}

impl State {
    /// Never while nothing waits: bounds of zero would stop the log.
    fn is_full(&self, bounds: &QueueBounds) -> bool {
        let waiting = self.waiting.len();
        waiting > 0 && (self.bytes >= bounds.bytes || waiting >= bounds.submissions)
    }

    /// Behind more groups a further one can wait longer, and becomes larger: what each costs, a write, a flush and the wakes of two
    /// threads, is shared by more entries (docs/decisions/0009).
    fn is_worth_a_group(&self, behind: usize) -> bool {
        self.entries >= WORTH_ENTRIES * behind || self.bytes >= WORTH_BYTES * behind
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::commit::submission::{Append, Flush, Level, Payloads, TopicSlot};
    use crate::commit::ticket::Reply;
    use crate::limits::GROUPS_IN_FLIGHT_MAX;

    fn queue_of(entries: usize, payload_bytes: usize) -> Queue {
        let queue = Queue::new(Waker::Bell(Arc::default()), QueueBounds::default());
        for _ in 0..entries {
            let append = Append {
                topic: Arc::new(TopicSlot::undefined("t")),
                payloads: Payloads::of(vec![Bytes::from(vec![0; payload_bytes])], payload_bytes),
                n_entries: 1,
                payload_bytes,
                level: Level::Durable,
                expect_offset: None,
                staging: None,
                reply: Reply::none(),
            };
            queue.push(Submission::Append(append)).unwrap();
        }
        queue
    }

    /// Whether so much is worth a group behind so many.
    fn is_worth(entries: usize, payload_bytes: usize, behind: usize) -> bool {
        let (queue, mut taken) = (queue_of(entries, payload_bytes), VecDeque::new());
        let drained = queue.drain(&mut taken, &mut Vec::new(), behind);
        assert_eq!(taken.len(), if drained { entries } else { 0 });
        assert!(drained || queue.sleep(Asleep::ForTheDevice { groups: behind }), "nothing to be awake for");
        drained
    }

    #[test]
    fn behind_no_group_whatever_waits_goes_and_behind_each_more_must_have_gathered() {
        assert!(is_worth(1, 10, 0));
        for behind in 1..6 {
            assert!(!is_worth(WORTH_ENTRIES * behind - 1, 10, behind));
            assert!(is_worth(WORTH_ENTRIES * behind, 10, behind));
        }
        assert!(is_worth(2, WORTH_BYTES, 2), "or so many bytes");
        assert!(!is_worth(2, WORTH_BYTES, 3));
    }

    #[test]
    fn a_flush_that_somebody_waits_for_goes_behind_however_many_groups() {
        let queue = queue_of(1, 10);
        queue.push(Submission::Flush(Flush { reply: Reply::none() })).unwrap();
        assert!(queue.drain(&mut VecDeque::new(), &mut Vec::new(), GROUPS_IN_FLIGHT_MAX));
    }

    #[test]
    fn a_closed_queue_is_drained_however_little_waits() {
        let queue = queue_of(1, 10);
        queue.close(AppendError::Closed);
        assert!(queue.drain(&mut VecDeque::new(), &mut Vec::new(), 5));
    }
}
