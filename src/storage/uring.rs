//! The queue on a ring. (Stub.)

use std::io;
use std::os::fd::BorrowedFd;

use super::buffer::{Pool, Slot};
use super::dir::{Host, HostFile};
use super::{Completion, Sync, Token, Waker};

pub(crate) struct UringQueue {
    pool: Pool,
}

pub(crate) struct RingWaker;

impl RingWaker {
    pub(crate) fn wake(&self) {}
}

pub(crate) fn probe(_lock: BorrowedFd<'_>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn cause_and_cure(error: &io::Error) -> String {
    format!("io_uring cannot be had here: {error}")
}

impl UringQueue {
    pub(crate) fn new(_host: &Host) -> io::Result<UringQueue> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub(crate) fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }
    pub(crate) fn write(&mut self, _: Token, _: &HostFile, _: u64, _: Slot, _: usize, _: Sync) {
        unreachable!()
    }
    pub(crate) fn flush(&mut self, _: Token, _: &HostFile) {
        unreachable!()
    }
    pub(crate) fn in_flight(&self) -> usize {
        0
    }
    pub(crate) fn poll(&mut self, _: &mut Vec<Completion>) {}
    pub(crate) fn wait(&mut self, _: &mut Vec<Completion>) {}
    pub(crate) fn waker(&self) -> Waker {
        unreachable!()
    }
}
