//! How far behind its leader a follower is, and as of when what it shows was true.
//!
//! Lag in blocks is the leader's durable watermark as last heard, less our own; a follower that is cut off hears nothing new, so
//! blocks alone would say "none" for ever. Therefore the *as-of* time: the leader's own clock at the last moment at which we had
//! everything it had. Idle and connected it is a second old; cut off, it ages.
//!
//! Layer: follower. Uses `lsn`.

use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use crate::lsn::Lsn;

/// What is known of the leader, shared with whoever reports it.
#[derive(Debug)]
pub(crate) struct Lag {
    view: Mutex<View>,
}

/// One look at it.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// Blocks are coming, or would come.
    pub(crate) connected: bool,
    /// The leader's durable watermark as last heard: the high watermark.
    pub(crate) high: Lsn,
    /// The leader's clock (nanoseconds since 1970) when we last had all it had; 0: never in this process.
    pub(crate) as_of_ns: u64,
    /// When that was by our clock.
    pub(crate) as_of: Option<Instant>,
    /// Times that the connection was made.
    pub(crate) connects: u64,
    /// Why it is not connected, or takes nothing.
    pub(crate) trouble: Option<String>,
}

impl Default for Lag {
    fn default() -> Lag {
        let view = View { connected: false, high: Lsn::FIRST, as_of_ns: 0, as_of: None, connects: 0, trouble: None };
        Lag { view: Mutex::new(view) }
    }
}

impl Lag {
    fn lock(&self) -> MutexGuard<'_, View> {
        self.view.lock().expect("no holder of this lock panics")
    }

    /// One look.
    pub(crate) fn view(&self) -> View {
        self.lock().clone()
    }

    pub(super) fn connected(&self) {
        let mut view = self.lock();
        view.connected = true;
        view.connects += 1;
        view.trouble = None;
    }

    pub(super) fn disconnected(&self, why: &str) {
        let mut view = self.lock();
        view.connected = false;
        view.trouble = Some(why.to_owned());
    }

    /// The leader has said how far it is durable.
    pub(super) fn heard(&self, durable: Lsn) {
        let mut view = self.lock();
        view.high = view.high.max(durable);
    }

    /// Everything that the leader had at its time `clock_ns` is durable here.
    pub(super) fn caught_up(&self, durable: Lsn, clock_ns: u64) {
        let mut view = self.lock();
        view.high = view.high.max(durable);
        view.as_of_ns = clock_ns;
        view.as_of = Some(Instant::now());
    }
}
