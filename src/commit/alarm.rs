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

    /// Wakes the commit thread at `at`, or at an earlier time that is set already.
    pub(super) fn set(&self, at: Instant) {
        let mut state = self.shared.state.lock().expect("no holder of this lock panics");
        state.at = Some(state.at.map_or(at, |earlier| earlier.min(at)));
        drop(state);
        self.shared.changed.notify_one();
        let mut thread = self.thread.lock().expect("no holder of this lock panics");
        if thread.is_none() {
            let shared = Arc::clone(&self.shared);
            let started = std::thread::Builder::new().name("walrus-alarm".into()).spawn(move || shared.run());
            *thread = Some(started.expect("the system can start a thread"));
        }
    }
}

impl Shared {
    fn run(&self) {
        let mut state = self.state.lock().expect("no holder of this lock panics");
        while !state.ended {
            let now = Instant::now();
            state = match state.at {
                None => self.changed.wait(state).expect("no holder of this lock panics"),
                Some(at) if at > now => {
                    self.changed.wait_timeout(state, at - now).expect("no holder of this lock panics").0
                }
                Some(_) => {
                    state.at = None;
                    self.waker.wake();
                    state
                }
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
