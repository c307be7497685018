//! Wakes the commit thread at a time: for flushes that nobody waits for.
//!
//! A thread of its own, since the queue of the device waits for completions and wakes only, and the keeper may be busy with zeros for
//! a second. It is started with the first alarm: a log whose appends are all durable never has one.
//!
//! Layer: commit. Uses `storage` for the waker.

use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::storage::Waker;

pub(crate) struct Alarm {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    waker: Waker,
}

#[derive(Default)]
struct State {
    at: Option<Instant>,
    ended: bool,
}

impl Alarm {
    pub(crate) fn new(waker: Waker) -> Alarm {
        let shared = Shared { state: Mutex::default(), changed: Condvar::new(), waker };
        Alarm { shared: Arc::new(shared), thread: Mutex::default() }
    }

    /// Wakes the commit thread at `at`, and no more at the time that was set before. Cheap where that is the same.
    pub(super) fn set(&self, at: Instant) {
        if !self.shared.state.lock().expect("no holder of this lock panics").set(at) {
            return;
        }
        self.shared.changed.notify_one();
        let mut thread = self.thread.lock().expect("no holder of this lock panics");
        if thread.is_none() {
            let shared = Arc::clone(&self.shared);
            let started = std::thread::Builder::new().name("walrus-alarm".into()).spawn(move || shared.run());
            *thread = Some(started.expect("the system can start a thread"));
        }
    }
}

impl State {
    /// Returns whether the thread has to be told: it looks at the time that was set before by itself, and sleeps on until this one.
    fn set(&mut self, at: Instant) -> bool {
        let before = self.at.replace(at);
        before.is_none_or(|before| at < before)
    }

    /// Whether it goes off now. Once.
    fn goes_off(&mut self, now: Instant) -> bool {
        self.at.take_if(|at| *at <= now).is_some()
    }
}

impl Shared {
    fn run(&self) {
        let mut state = self.state.lock().expect("no holder of this lock panics");
        while !state.ended {
            let now = Instant::now();
            if state.goes_off(now) {
                self.waker.wake();
            }
            state = match state.at {
                None => self.changed.wait(state).expect("no holder of this lock panics"),
                Some(at) => self.changed.wait_timeout(state, at - now).expect("no holder of this lock panics").0,
            };
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).ended = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_alarm_goes_off_once_at_the_time_that_was_set_last() {
        let (mut state, start) = (State::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert!(state.set(at(200)));
        assert!(!state.set(at(350)), "the thread looks at 200, and sleeps on");
        assert!(!state.goes_off(at(200)));
        assert!(state.goes_off(at(350)));
        assert!(!state.goes_off(at(351)));
        assert!(state.set(at(500)), "the thread sleeps without a time");
        assert!(!state.set(at(500)));
        assert!(state.set(at(400)), "it would sleep too long");
        assert!(state.goes_off(at(400)));
    }
}
