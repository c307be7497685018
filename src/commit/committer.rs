//! Who works the writer of a log: the commit thread, or a caller who finds it idle and would only wait for it.
//!
//! ```text
//!   many callers   --push--> queue --wake--> commit thread: groups, several in flight
//!   a lone caller  --commit_here----------> the same code, in its own thread: one block, one write
//! ```
//!
//! Two changes of thread are most of what a lone append costs beside the device, and nearly all of one that needs no flush. A caller who
//! is not alone gains nothing by this: his entries go with others' into one write.
//!
//! The lock is the writer's: the commit thread has it while it works, and gives it up only when there is nothing to do and nothing in
//! flight. So a caller never waits for it, and finds nothing half done.
//!
//! Layer: commit. Uses `writer`. Knows nothing of what is written.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::submission::Submission;
use super::writer::{Pause, Writer};
use crate::storage::Waker;

/// The writer of a log, and how its thread is woken.
pub(crate) struct Committer {
    /// None once the log has ended.
    writer: Mutex<Option<Writer>>,
    waker: Waker,
}

impl Committer {
    /// Starts the commit thread.
    pub(crate) fn start(writer: Writer) -> std::io::Result<(Arc<Committer>, JoinHandle<()>)> {
        let waker = writer.io.waker();
        let committer = Arc::new(Committer { writer: Mutex::new(Some(writer)), waker });
        let commits = Arc::clone(&committer);
        let thread = std::thread::Builder::new().name("walrus-commit".into()).spawn(move || commits.run())?;
        Ok((committer, thread))
    }

    /// The commit thread's body.
    fn run(&self) {
        let mut held = self.hold();
        while held.writer().work() == Pause::Idle {
            drop(held);
            let woken = self.waker.park();
            held = self.hold();
            held.writer().resume(woken);
        }
        *held.0 = None;
    }

    fn hold(&self) -> Held<'_> {
        let held = Held(self.writer.lock().unwrap_or_else(PoisonError::into_inner));
        assert!(!self.writer.is_poisoned(), "a caller has panicked in the middle of a commit");
        held
    }

    /// Has the commit thread look again at what may be due: something has changed that it is not told of otherwise.
    pub(crate) fn look_again(&self) {
        self.waker.wake();
    }

    /// Commits one append in this thread, if the log is idle and it takes no more than one write. Otherwise it comes back, to be queued.
    pub(crate) fn commit_here(&self, submission: Submission) -> Result<(), Submission> {
        let Ok(mut held) = self.writer.try_lock() else { return Err(submission) };
        let Some(writer) = held.as_mut() else { return Err(submission) };
        // Somebody has to answer those who wait if this panics, and to go on with what it has left to do.
        let wake = WakeUnless { waker: &self.waker, done: false };
        let committed = writer.commit_alone(submission);
        wake.unless(committed.is_err() || !writer.has_work());
        committed
    }
}

/// The writer in the hands of the commit thread, which answers everybody if it panics.
struct Held<'a>(MutexGuard<'a, Option<Writer>>);

impl Held<'_> {
    fn writer(&mut self) -> &mut Writer {
        self.0.as_mut().expect("the writer goes when the thread ends")
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(writer) = self.0.as_mut()
        {
            writer.last_words();
        }
    }
}

/// Wakes the commit thread when it goes, by a panic too.
struct WakeUnless<'a> {
    waker: &'a Waker,
    done: bool,
}

impl WakeUnless<'_> {
    fn unless(mut self, done: bool) {
        self.done = done;
    }
}

impl Drop for WakeUnless<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.waker.wake();
        }
    }
}
