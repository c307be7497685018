//! The promise that an append will be answered, for threads and for tasks.
//!
//! Layer: commit. Knows nothing of runtimes: a ticket is a plain `Future`.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Waker};

use super::error::AppendError;
use crate::lsn::Lsn;

/// Where an append went. It is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The topic offset of the first entry.
    pub first_offset: u64,
    /// The topic offset of the last entry.
    pub last_offset: u64,
    /// The block that made it whole: the batch's last.
    pub lsn: Lsn,
}

/// How an append ended.
pub type Outcome = Result<Receipt, AppendError>;

/// An append under way. Wait for it with [`Ticket::wait`], or `.await` it; dropping it lets the append go on.
#[must_use = "an append is durable only when its ticket says so"]
#[derive(Debug)]
pub struct Ticket {
    cell: Arc<Cell>,
}

#[derive(Debug, Default)]
struct Cell {
    state: Mutex<State>,
    answered: Condvar,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Open,
    /// A thread waits on the condition variable.
    ThreadWaits,
    TaskWaits(Waker),
    Answered(Outcome),
}

/// The commit thread's end of a ticket.
#[derive(Debug)]
pub(crate) struct Reply {
    cell: Option<Arc<Cell>>,
}

/// A ticket and its other end.
pub(crate) fn ticket() -> (Ticket, Reply) {
    let cell = Arc::new(Cell::default());
    (Ticket { cell: Arc::clone(&cell) }, Reply { cell: Some(cell) })
}

impl Reply {
    /// One that nobody waits for.
    pub(crate) fn none() -> Reply {
        Reply { cell: None }
    }

    /// Answers the ticket. What comes after the first answer is not heard.
    pub(crate) fn send(&mut self, outcome: Outcome) {
        if let Some(cell) = self.cell.take() {
            cell.answer(outcome);
        }
    }
}

impl Drop for Reply {
    /// A ticket is always answered: if the commit thread is gone, what happened is not known.
    fn drop(&mut self) {
        if let Some(cell) = self.cell.take() {
            cell.answer(Err(AppendError::Indeterminate { reason: "the commit thread ended".into() }));
        }
    }
}

impl Cell {
    fn answer(&self, outcome: Outcome) {
        let before = {
            let mut state = self.state.lock().expect("no holder of this lock panics");
            std::mem::replace(&mut *state, State::Answered(outcome))
        };
        match before {
            State::ThreadWaits => self.answered.notify_all(),
            State::TaskWaits(waker) => waker.wake(),
            State::Open | State::Answered(_) => {}
        }
    }
}

impl Ticket {
    /// Blocks the thread until the append is durable or has failed.
    ///
    /// # Errors
    /// As [`AppendError`] says; only `Indeterminate` leaves open whether the entries are in the log.
    pub fn wait(self) -> Outcome {
        let mut state = self.cell.state.lock().expect("no holder of this lock panics");
        loop {
            match &*state {
                State::Answered(outcome) => return outcome.clone(),
                _ => *state = State::ThreadWaits,
            }
            state = self.cell.answered.wait(state).expect("no holder of this lock panics");
        }
    }

    /// The answer, if it is there already.
    pub fn try_outcome(&self) -> Option<Outcome> {
        match &*self.cell.state.lock().expect("no holder of this lock panics") {
            State::Answered(outcome) => Some(outcome.clone()),
            _ => None,
        }
    }
}

impl Future for Ticket {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let mut state = self.cell.state.lock().expect("no holder of this lock panics");
        if let State::Answered(outcome) = &*state {
            return Poll::Ready(outcome.clone());
        }
        *state = State::TaskWaits(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_waits_gets_the_answer() {
        let (ticket, mut reply) = ticket();
        let receipt = Receipt { first_offset: 1, last_offset: 2, lsn: Lsn::new(3) };
        let waiter = std::thread::spawn(move || ticket.wait());
        reply.send(Ok(receipt));
        assert_eq!(waiter.join().unwrap(), Ok(receipt));
    }

    #[test]
    fn a_reply_that_is_dropped_answers_that_nothing_is_known() {
        let (ticket, reply) = ticket();
        assert_eq!(ticket.try_outcome(), None);
        drop(reply);
        assert!(matches!(ticket.wait(), Err(AppendError::Indeterminate { .. })));
    }
}
