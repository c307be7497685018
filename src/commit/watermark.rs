//! The durable watermark: the first LSN not yet covered by a completed flush.
//!
//! Layer: commit. Uses `lsn`. Knows nothing of who waits for it, nor of runtimes.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::lsn::Lsn;

/// How far the log is durable, and published to readers. Moves forward only, and stands at ends of atomic groups only.
#[derive(Clone, Debug)]
pub struct Watermark {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    lsn: AtomicU64,
    waiting: Mutex<Waiting>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    tasks: Vec<Waker>,
    threads: usize,
    /// No more will come: the log was closed or has halted.
    ended: bool,
}

impl Watermark {
    pub(crate) fn new(lsn: Lsn) -> Watermark {
        let shared = Shared { lsn: AtomicU64::new(lsn.get()), waiting: Mutex::default(), moved: Condvar::new() };
        Watermark { shared: Arc::new(shared) }
    }

    /// The watermark now (exclusive).
    pub fn lsn(&self) -> Lsn {
        Lsn::new(self.shared.lsn.load(Ordering::Acquire))
    }

    /// Whether it will never move again.
    pub fn has_ended(&self) -> bool {
        self.shared.lock().ended
    }

    /// Moves it. Everything that is derived from the blocks below must be in place before.
    pub(crate) fn advance(&self, lsn: Lsn) {
        let before = self.shared.lsn.swap(lsn.get(), Ordering::AcqRel);
        assert!(before <= lsn.get(), "the watermark moves forward only");
        self.shared.wake(|_| {});
    }

    /// Says that it will never move again, so that nobody waits in vain.
    pub(crate) fn end(&self) {
        self.shared.wake(|waiting| waiting.ended = true);
    }

    /// Blocks the thread until the watermark is past `lsn`, the log ends, or `timeout` is over. Returns the watermark.
    pub fn wait_past(&self, lsn: Lsn, timeout: Duration) -> Lsn {
        let mut waiting = self.shared.lock();
        if self.lsn() <= lsn && !waiting.ended {
            waiting.threads += 1;
            let unmoved = |waiting: &mut Waiting| self.lsn() <= lsn && !waiting.ended;
            waiting = self
                .shared
                .moved
                .wait_timeout_while(waiting, timeout, unmoved)
                .expect("no holder of this lock panics")
                .0;
            waiting.threads -= 1;
        }
        self.lsn()
    }

    /// Resolves when the watermark is past `lsn`, or the log ends.
    pub fn changed_past(&self, lsn: Lsn) -> impl Future<Output = Lsn> + Send + use<> {
        Past { watermark: self.clone(), lsn }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no holder of this lock panics")
    }

    fn wake(&self, change: impl FnOnce(&mut Waiting)) {
        let mut waiting = self.lock();
        change(&mut waiting);
        let tasks = std::mem::take(&mut waiting.tasks);
        if waiting.threads > 0 {
            self.moved.notify_all();
        }
        drop(waiting);
        tasks.into_iter().for_each(Waker::wake);
    }
}

struct Past {
    watermark: Watermark,
    lsn: Lsn,
}

impl Future for Past {
    type Output = Lsn;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Lsn> {
        let mut waiting = self.watermark.shared.lock();
        // Looked at under the lock: a move between the look and the registration would be missed.
        let now = self.watermark.lsn();
        if now > self.lsn || waiting.ended {
            return Poll::Ready(now);
        }
        if !waiting.tasks.iter().any(|task| task.will_wake(context.waker())) {
            waiting.tasks.push(context.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_thread_sees_the_move_and_the_end() {
        let watermark = Watermark::new(Lsn::FIRST);
        let other = watermark.clone();
        let waiter = std::thread::spawn(move || other.wait_past(Lsn::FIRST, Duration::from_secs(60)));
        watermark.advance(Lsn::new(5));
        assert_eq!(waiter.join().unwrap(), Lsn::new(5));
        watermark.end();
        assert_eq!(watermark.wait_past(Lsn::new(5), Duration::from_secs(60)), Lsn::new(5));
    }
}
