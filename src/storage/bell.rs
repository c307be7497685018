//! What a queue without a ring sleeps on.
//!
//! The bell stays rung until somebody has heard it, so a wake that comes before the wait is not lost.
//!
//! Layer: storage. Uses std. Knows nothing of who waits for what.

use std::sync::{Condvar, Mutex, PoisonError};

#[derive(Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    pub(crate) fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.heard.notify_one();
    }

    /// Blocks until it has been rung since it was last heard.
    pub(crate) fn hear(&self) {
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        while !*rung {
            rung = self.heard.wait(rung).unwrap_or_else(PoisonError::into_inner);
        }
        *rung = false;
    }

    /// Forgets a ring that the caller is about to answer anyway.
    pub(crate) fn silence(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
}
