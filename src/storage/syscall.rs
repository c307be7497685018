//! The queue without a ring: each operation is a system call, made at once.
//!
//! Its completion waits until it is asked for, so that callers meet the same contract as with a ring. It is what remains
//! where io_uring is forbidden, and what the ring's results are compared with.
//!
//! Layer: storage. Uses `limits`. Knows nothing of commit groups.

use std::sync::Arc;

use super::bell::Bell;
use super::buffer::{Pool, Slot};
use super::dir::{Host, HostFile};
use super::{Completion, Result, Sync, Token, Waker};

pub(crate) struct SyscallQueue {
    pool: Pool,
    done: Vec<Completion>,
    bell: Arc<Bell>,
    /// Writes and flushes so far.
    syscalls: u64,
    /// LOCK is held while there is a queue.
    _host: Host,
}

impl SyscallQueue {
    pub(crate) fn new(host: &Host) -> SyscallQueue {
        SyscallQueue { pool: Pool::new(), done: Vec::new(), bell: Arc::default(), syscalls: 0, _host: host.clone() }
    }

    pub(crate) fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    pub(crate) fn write(&mut self, token: Token, file: &HostFile, offset: u64, slot: Slot, len: usize, sync: Sync) {
        let result = file.write_all(&slot.bytes()[..len], offset, sync);
        self.pool.give(slot);
        self.complete(token, result);
    }

    pub(crate) fn flush(&mut self, token: Token, file: &HostFile) {
        let result = file.flush();
        self.complete(token, result);
    }

    fn complete(&mut self, token: Token, result: Result<()>) {
        assert!(self.done.iter().all(|other| other.token != token), "{token:?} is in flight already");
        self.syscalls += 1;
        self.done.push(Completion { token, result });
    }

    pub(crate) fn syscalls(&self) -> u64 {
        self.syscalls
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.done.len()
    }

    pub(crate) fn poll(&mut self, done: &mut Vec<Completion>) {
        done.append(&mut self.done);
    }

    pub(crate) fn wait(&mut self, done: &mut Vec<Completion>) {
        if self.done.is_empty() {
            self.bell.hear();
        } else {
            self.bell.silence();
        }
        self.poll(done);
    }

    pub(crate) fn waker(&self) -> Waker {
        Waker::Bell(Arc::clone(&self.bell))
    }
}
