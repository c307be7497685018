//! The promise that an append will be answered, for threads and for tasks.
//!
//! A thread that waits sleeps, and to sleep and be woken costs it two system calls, a change of thread, and on a virtual machine the
//! interrupt that starts an idle core: most of what an append from one of 64 threads costs (docs/decisions/0006). So where far more
//! threads wait than there are cores, each lets the others go first a few times before it sleeps, and often finds its answer there.
//!
//! Layer: commit. Knows nothing of runtimes: a ticket is a plain `Future`.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::thread::{self, Thread};

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
    state: Promise,
}

#[derive(Debug)]
enum Promise {
    /// Nobody had to be waited for.
    Kept(Receipt),
    Open(Arc<Cell>),
}

#[derive(Debug, Default)]
struct Cell {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Open,
    /// A thread is parked, or about to be.
    ThreadWaits(Thread),
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
    (Ticket { state: Promise::Open(Arc::clone(&cell)) }, Reply { cell: Some(cell) })
}

impl From<Receipt> for Ticket {
    /// A ticket for what is done already.
    fn from(receipt: Receipt) -> Ticket {
        Ticket { state: Promise::Kept(receipt) }
    }
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
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    fn outcome(&self) -> Option<Outcome> {
        match &*self.lock() {
            State::Answered(outcome) => Some(outcome.clone()),
            _ => None,
        }
    }

    fn answer(&self, outcome: Outcome) {
        let before = std::mem::replace(&mut *self.lock(), State::Answered(outcome));
        match before {
            State::ThreadWaits(thread) => thread.unpark(),
            State::TaskWaits(waker) => waker.wake(),
            State::Open | State::Answered(_) => {}
        }
    }
}

/// Threads of this process that wait for a ticket, of whatever log: they share the cores.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// More threads than this wait: there is always one to go first. Fewer would keep cores busy that have nothing to do.
static CROWD: LazyLock<usize> = LazyLock::new(|| 8 * thread::available_parallelism().map_or(1, usize::from));

/// How often a thread of a crowd lets others go first. Eight brings 64 threads what fifty do (docs/decisions/0006).
const YIELDS_MAX: u32 = 8;

/// A thread that waits, and is counted.
struct Waits {
    others: usize,
}

impl Waits {
    fn begin() -> Waits {
        Waits { others: WAITING.fetch_add(1, Ordering::Relaxed) }
    }

    fn yields(&self) -> u32 {
        if self.others >= *CROWD { YIELDS_MAX } else { 0 }
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Ticket {
    /// Blocks the thread until the append is durable or has failed.
    ///
    /// # Errors
    /// As [`AppendError`] says; only `Indeterminate` leaves open whether the entries are in the log.
    pub fn wait(self) -> Outcome {
        let cell = match &self.state {
            Promise::Kept(receipt) => return Ok(*receipt),
            Promise::Open(cell) => cell,
        };
        if let Some(outcome) = cell.outcome() {
            return outcome;
        }
        let waits = Waits::begin();
        for _ in 0..waits.yields() {
            thread::yield_now();
            if let Some(outcome) = cell.outcome() {
                return outcome;
            }
        }
        loop {
            match &mut *cell.lock() {
                State::Answered(outcome) => return outcome.clone(),
                state => *state = State::ThreadWaits(thread::current()),
            }
            thread::park();
        }
    }

    /// The answer, if it is there already.
    pub fn try_outcome(&self) -> Option<Outcome> {
        match &self.state {
            Promise::Kept(receipt) => Some(Ok(*receipt)),
            Promise::Open(cell) => cell.outcome(),
        }
    }
}

impl Future for Ticket {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let cell = match &self.state {
            Promise::Kept(receipt) => return Poll::Ready(Ok(*receipt)),
            Promise::Open(cell) => cell,
        };
        let mut state = cell.lock();
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
