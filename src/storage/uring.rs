//! The queue on an io_uring: many writes and flushes in flight from one thread, a system call for all of them.
//!
//! ```text
//!   write(), flush() --> flights[index] --backlog--> submission queue --enter--> kernel
//!                           owns slot and file                                     |
//!   Completion <---- ready <---- reap: matched by index and generation <--- completion queue
//! ```
//!
//! **Who owns what.** The kernel reads a slot and uses a descriptor from the moment an operation is submitted until its
//! completion has come. All that time the [`Flight`] owns both; only a completion, matched by index *and* generation, takes
//! them out. Should the ring itself fail with operations in flight, no completion will ever come: then they, the ring and
//! LOCK are leaked, since the kernel may go on using them, and every caller is told.
//!
//! **The thread.** The ring is made disabled, in whatever thread, and enabled at the first operation: from there on the
//! kernel lets that thread only submit (SINGLE_ISSUER), and hands completions to it when it asks (DEFER_TASKRUN).
//!
//! **LOCK** is a registered file of the ring, because the last writes of a killed process can land seconds after it died:
//! the kernel lets the registered files go only behind them. Without that there is no ring.
//!
//! Operations are never linked: a short write breaks a chain, a failed flush does not.
//!
//! Layer: storage. Uses `limits`. Knows nothing of commit groups.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread;

use io_uring::{IoUring, Probe, opcode, squeue, types};
use rustix::event::EventfdFlags;
use rustix::io::{Errno, ReadWriteFlags};

use super::bell::Bell;
use super::buffer::{Pool, Slot};
use super::dir::{Host, HostFile, resume_at};
use super::{AlignedBuf, Completion, Error, Result, Sync, Token, Waker};

/// Entries of the submission queue: every slot and a flush of each, so that one enter takes all of it. More wait in the
/// backlog.
const RING_ENTRIES: u32 = 256;

/// The name of the read that waits for a wake. No flight has this index.
const WAKE: u64 = u64::MAX;

// -- setting up ---------------------------------------------------------------------------------------------------

/// What makes a ring fast, the newest first. A kernel that does not know one says EINVAL, and is asked without it.
#[derive(Clone, Copy)]
enum Feature {
    /// 6.1: completions are worked off when we ask, not whenever the kernel interrupts us. Needs the next one.
    DeferTaskrun,
    /// 6.0: one thread submits, so nothing is locked.
    SingleIssuer,
    /// 5.19: no interrupt for a completion.
    CoopTaskrun,
    /// 5.18: an operation that is refused does not keep back those behind it.
    SubmitAll,
}

const FEATURES: [Feature; 4] = [Feature::DeferTaskrun, Feature::SingleIssuer, Feature::CoopTaskrun, Feature::SubmitAll];

fn build_ring(entries: u32) -> io::Result<IoUring> {
    let mut features = &FEATURES[..];
    loop {
        match build_with(entries, features) {
            Err(error) if is(&error, Errno::INVAL) && !features.is_empty() => features = &features[1..],
            result => return result,
        }
    }
}

fn build_with(entries: u32, features: &[Feature]) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    for feature in features {
        match feature {
            Feature::DeferTaskrun => builder.setup_defer_taskrun(),
            // Disabled: otherwise the thread that makes the ring would be the one that has to use it.
            Feature::SingleIssuer => builder.setup_single_issuer().setup_r_disabled(),
            // The flag tells without a system call whether completions wait to be worked off.
            Feature::CoopTaskrun => builder.setup_coop_taskrun().setup_taskrun_flag(),
            Feature::SubmitAll => builder.setup_submit_all(),
        };
    }
    builder.build(entries)
}

/// Makes a small ring with a registered file, and lets it go again: what [`UringQueue::new`] will need.
pub(crate) fn probe(lock: BorrowedFd<'_>) -> io::Result<()> {
    let ring = build_ring(4)?;
    let submitter = ring.submitter();
    submitter.register_files(&[lock.as_raw_fd()])?;
    let mut probe = Probe::new();
    submitter.register_probe(&mut probe)?;
    submitter.unregister_files()?;
    let needed = [opcode::Write::CODE, opcode::WriteFixed::CODE, opcode::Fsync::CODE, opcode::Read::CODE];
    if needed.iter().all(|code| probe.is_supported(*code)) { Ok(()) } else { Err(Errno::OPNOTSUPP.into()) }
}

/// Tells an operator why there is no ring here, and what to type.
pub(crate) fn cause_and_cure(error: &io::Error) -> String {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    let (cause, cure) = match Errno::from_io_error(error) {
        Some(Errno::PERM | Errno::ACCESS) if !matches!(disabled.trim(), "" | "0") => {
            ("kernel.io_uring_disabled forbids it", "sysctl -w kernel.io_uring_disabled=0")
        }
        Some(Errno::PERM | Errno::ACCESS) => (
            "a seccomp profile forbids it",
            "allow io_uring_setup, io_uring_enter and io_uring_register in the container's profile",
        ),
        Some(Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => {
            ("this kernel, or the sandbox around it, does not have it", "Linux 5.13 or newer, outside of the sandbox")
        }
        Some(Errno::NOMEM) => ("there is not enough locked memory", "raise RLIMIT_MEMLOCK (LimitMEMLOCK= in the unit)"),
        Some(Errno::MFILE | Errno::NFILE) => {
            ("there are too many open files", "raise RLIMIT_NOFILE (LimitNOFILE= in the unit)")
        }
        _ => ("the kernel refused it", "io = syscall avoids it"),
    };
    format!("io_uring cannot be had: {cause} ({error}); cure: {cure}")
}

fn is(error: &io::Error, errno: Errno) -> bool {
    Errno::from_io_error(error) == Some(errno)
}

// -- waking -------------------------------------------------------------------------------------------------------

/// Wakes the thread that sleeps in the ring.
///
/// The ring always has a read of `event` armed, so a write to it completes that read; and because the count stays in `event`
/// while no read is armed, no wake is lost between two reads. Parked, the thread sleeps on the bell instead.
pub(crate) struct RingWaker {
    event: OwnedFd,
    /// [`NOT_WOKEN`], [`WOKEN`] or [`PARKED`]. Who finds it woken need not wake again.
    state: AtomicU8,
    /// The ring is broken, and its armed read may swallow what is written to `event`: the bell it is.
    broken: AtomicBool,
    bell: Bell,
}

const NOT_WOKEN: u8 = 0;
/// There is a wake that the queue has not seen yet.
const WOKEN: u8 = 1;
/// The thread sleeps on the bell, or is about to.
const PARKED: u8 = 2;

impl RingWaker {
    fn new() -> io::Result<RingWaker> {
        // Not NONBLOCK: the ring would answer EAGAIN instead of waiting. The count cannot overflow, since `state` lets
        // through one write for each read.
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?;
        Ok(RingWaker { event, state: AtomicU8::new(NOT_WOKEN), broken: AtomicBool::new(false), bell: Bell::default() })
    }

    pub(crate) fn wake(&self) {
        match self.state.swap(WOKEN, Ordering::SeqCst) {
            NOT_WOKEN => self.signal(),
            PARKED => self.bell.ring(),
            _ => {}
        }
    }

    pub(crate) fn park(&self) -> bool {
        if self.state.compare_exchange(NOT_WOKEN, PARKED, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            return false; // by the event, which the armed read takes
        }
        self.bell.hear();
        self.seen();
        true
    }

    fn signal(&self) {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&self.event, &1u64.to_ne_bytes()));
        assert!(written.is_ok(), "an event that takes no count: {written:?}");
        if self.broken.load(Ordering::SeqCst) {
            self.bell.ring();
        }
    }

    /// Whoever wakes from here on is heard anew; whoever woke before put down first what he woke for.
    fn seen(&self) {
        self.state.swap(NOT_WOKEN, Ordering::SeqCst);
    }

    /// Rings once by itself, for those who looked at `broken` before it was set.
    fn break_down(&self) {
        self.broken.store(true, Ordering::SeqCst);
        self.seen();
        self.bell.ring();
    }

    fn hear(&self) {
        self.bell.hear();
        self.seen();
    }
}

// -- the queue ----------------------------------------------------------------------------------------------------

/// What the kernel works on, and what it uses for that.
struct Op {
    token: Token,
    file: HostFile,
    work: Work,
}

enum Work {
    Write { slot: Slot, offset: u64, len: usize, done: usize, sync: Sync },
    Flush,
}

impl Op {
    fn failed(&self, error: impl Into<io::Error>) -> Error {
        match &self.work {
            Work::Write { offset, len, .. } => Error::new("write", self.file.name(), error).at(*offset, *len),
            Work::Flush => self.file.flush_failed(error),
        }
    }

    /// What the kernel is to do; of a write the part that is not done.
    fn entry(&self, registered: bool) -> squeue::Entry {
        let fd = types::Fd(self.file.write_fd().as_raw_fd());
        match &self.work {
            Work::Flush => opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build(),
            Work::Write { slot, offset, len, done, sync } => {
                let rest = &slot.bytes()[*done..*len];
                let offset = offset + *done as u64;
                let flags = match sync {
                    Sync::Lazy => 0,
                    Sync::Durable => ReadWriteFlags::DSYNC.bits() as i32,
                };
                if registered {
                    opcode::WriteFixed::new(fd, rest.as_ptr(), rest.len() as u32, slot.index())
                        .offset(offset)
                        .rw_flags(flags)
                        .build()
                } else {
                    opcode::Write::new(fd, rest.as_ptr(), rest.len() as u32).offset(offset).rw_flags(flags).build()
                }
            }
        }
    }
}

/// A place for an operation. The generation tells its completion from one of an operation that was here before.
struct Flight {
    generation: u32,
    op: Option<Op>,
}

fn key_of(index: usize, generation: u32) -> u64 {
    (u64::from(generation) << 32) | index as u64
}

pub(crate) struct UringQueue {
    /// Or why it broke. Dropped before the memory below, which it may have registered.
    ring: std::result::Result<IoUring, Errno>,
    registered: bool,
    enabled: bool,
    flights: Vec<Flight>,
    vacant: Vec<usize>,
    in_kernel: usize,
    /// Keys of operations to be submitted, and [`WAKE`].
    backlog: VecDeque<u64>,
    /// Completions that have not been handed out.
    ready: Vec<Completion>,
    waker: Arc<RingWaker>,
    /// Where the armed read of `waker.event` puts the count.
    wake_count: AlignedBuf,
    wake_armed: bool,
    woken: bool,
    closing: bool,
    /// Calls into the kernel so far.
    syscalls: u64,
    pool: Pool,
    /// LOCK is held while there is a queue.
    host: Host,
}

impl UringQueue {
    pub(crate) fn new(host: &Host) -> io::Result<UringQueue> {
        let lock = host.lock().ok_or(Errno::NOLCK)?;
        let ring = build_ring(RING_ENTRIES)?;
        ring.submitter().register_files(&[lock.as_raw_fd()])?;
        let mut pool = Pool::new();
        let registered = register_slots(&ring, &mut pool);
        Ok(UringQueue {
            enabled: !ring.params().is_setup_single_issuer(),
            ring: Ok(ring),
            registered,
            flights: Vec::new(),
            vacant: Vec::new(),
            in_kernel: 0,
            backlog: VecDeque::from([WAKE]),
            ready: Vec::new(),
            waker: Arc::new(RingWaker::new()?),
            wake_count: AlignedBuf::new(mem::size_of::<u64>()),
            wake_armed: false,
            woken: false,
            closing: false,
            syscalls: 0,
            pool,
            host: host.clone(),
        })
    }

    pub(crate) fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    /// The ring belongs to one thread by now.
    #[cfg_attr(not(test), expect(dead_code, reason = "the conformance suite asks"))]
    pub(crate) fn is_bound(&self) -> bool {
        self.enabled && self.ring.as_ref().is_ok_and(|ring| ring.params().is_setup_single_issuer())
    }

    pub(crate) fn waker(&self) -> Waker {
        Waker::Ring(Arc::clone(&self.waker))
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_kernel + self.ready.len()
    }

    pub(crate) fn write(&mut self, token: Token, file: &HostFile, offset: u64, slot: Slot, len: usize, sync: Sync) {
        // A copy into the page cache: nothing to wait for, and io_uring would hand it to another thread.
        if sync == Sync::Lazy && file.is_written_by_cache() && self.ring.is_ok() {
            return self.write_now(token, file, offset, slot, len, sync);
        }
        self.begin(Op { token, file: file.clone(), work: Work::Write { slot, offset, len, done: 0, sync } });
    }

    pub(crate) fn write_now(&mut self, token: Token, file: &HostFile, offset: u64, slot: Slot, len: usize, sync: Sync) {
        let result = file.write_all(&slot.bytes()[..len], offset, sync);
        self.syscalls += 1;
        self.pool.give(slot);
        self.ready.push(Completion { token, result });
    }

    pub(crate) fn syscalls(&self) -> u64 {
        self.syscalls
    }

    /// Without a look at the ring, which is its thread's.
    pub(crate) fn take_done(&mut self, done: &mut Vec<Completion>) {
        done.append(&mut self.ready);
    }

    pub(crate) fn flush(&mut self, token: Token, file: &HostFile) {
        self.begin(Op { token, file: file.clone(), work: Work::Flush });
    }

    /// Takes an operation in. It is submitted with all others at the next [`UringQueue::poll`] or [`UringQueue::wait`].
    fn begin(&mut self, op: Op) {
        let Token(number) = op.token;
        let taken = |other: &Op| other.token == op.token;
        assert!(!self.flights.iter().filter_map(|flight| flight.op.as_ref()).any(taken), "token {number} is in flight");
        assert!(self.ready.iter().all(|other| other.token != op.token), "token {number} is in flight");
        if let Err(errno) = self.ring {
            let error = op.failed(errno);
            return self.complete(op, Err(error));
        }
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.flights.push(Flight { generation: 0, op: None });
            self.flights.len() - 1
        });
        let flight = &mut self.flights[index];
        flight.op = Some(op);
        self.backlog.push_back(key_of(index, flight.generation));
        self.in_kernel += 1;
    }

    fn complete(&mut self, op: Op, result: Result<()>) {
        if let Work::Write { slot, .. } = op.work {
            self.pool.give(slot);
        }
        self.ready.push(Completion { token: op.token, result });
    }

    pub(crate) fn poll(&mut self, done: &mut Vec<Completion>) {
        self.reap();
        if self.has_business() {
            self.enter(0);
        }
        done.append(&mut self.ready);
    }

    pub(crate) fn wait(&mut self, done: &mut Vec<Completion>) {
        self.reap();
        let answered = !self.ready.is_empty() || self.woken;
        if self.ring.is_ok() && (!answered || self.has_business()) {
            self.enter(if answered { 0 } else { 1 });
        }
        if self.ring.is_err() && self.ready.is_empty() && !self.woken {
            self.waker.hear();
        }
        self.woken = false;
        done.append(&mut self.ready);
    }

    /// Whether entering the kernel would do anything.
    fn has_business(&mut self) -> bool {
        let Ok(ring) = &mut self.ring else { return false };
        let submission = ring.submission();
        !self.backlog.is_empty() || !submission.is_empty() || submission.taskrun() || submission.cq_overflow()
    }

    /// Submits everything, and with `want` = 1 blocks until there is a completion or a wake. What comes up meanwhile (the
    /// rest of a short write, the next read for a wake) goes with the next call.
    fn enter(&mut self, want: usize) {
        self.enable();
        loop {
            self.fill();
            let Ok(ring) = &mut self.ring else { return };
            // While some of it has found no room in the queue, there is no time to sleep.
            let all_filled = self.backlog.is_empty();
            self.syscalls += 1;
            match ring.submit_and_wait(if all_filled { want } else { 0 }) {
                Ok(_) => {}
                Err(error) if is(&error, Errno::INTR) => {}
                // No memory for the moment, or no room for completions: what is reaped below makes some.
                Err(error) if is(&error, Errno::AGAIN) || is(&error, Errno::BUSY) => thread::yield_now(),
                Err(error) => return self.break_down(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
            }
            let all_submitted = all_filled && ring.submission().is_empty();
            self.reap();
            let answered = want == 0 || !self.ready.is_empty() || self.woken;
            if all_submitted && answered {
                return;
            }
        }
    }

    /// Binds the ring to this thread.
    fn enable(&mut self) {
        let Ok(ring) = &self.ring else { return };
        if !self.enabled {
            match ring.submitter().register_enable_rings() {
                Ok(()) => self.enabled = true,
                Err(error) => self.break_down(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
            }
        }
    }

    /// Moves the backlog into the submission queue, as far as there is room.
    fn fill(&mut self) {
        let Ok(ring) = &mut self.ring else { return };
        let mut submission = ring.submission();
        while let Some(key) = self.backlog.front().copied() {
            let entry = match key {
                WAKE => {
                    let event = types::Fd(self.waker.event.as_fd().as_raw_fd());
                    opcode::Read::new(event, self.wake_count.as_mut_ptr(), mem::size_of::<u64>() as u32).build()
                }
                key => {
                    let op = self.flights[index_of(key)].op.as_ref();
                    op.expect("an operation in the backlog is in flight").entry(self.registered)
                }
            };
            // SAFETY: the entry's memory and descriptor outlive the operation. Of a flight both belong to its `op`, which
            // only `land`, by the completion of this very key, takes out; of WAKE to `waker` and `wake_count`, which stay
            // until `drop` has seen its completion. Where no completion can come any more, `break_down` leaks them. The
            // memory of a slot is not touched meanwhile: `Op` lends it to nobody.
            let pushed = unsafe { submission.push(&entry.user_data(key)) };
            if pushed.is_err() {
                return;
            }
            self.wake_armed |= key == WAKE;
            self.backlog.pop_front();
        }
    }

    /// Takes what the kernel has completed.
    fn reap(&mut self) {
        loop {
            let Ok(ring) = &mut self.ring else { return };
            let Some(completion) = ring.completion().next() else { return };
            match completion.user_data() {
                WAKE => self.land_wake(completion.result()),
                key => self.land(key, completion.result()),
            }
        }
    }

    fn land_wake(&mut self, result: i32) {
        self.wake_armed = false;
        match outcome(result) {
            Ok(_) => {
                self.waker.seen();
                self.woken = true;
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            // Without wakes the log would stand still in silence.
            Err(errno) => return self.break_down(errno),
        }
        if !self.closing {
            self.backlog.push_back(WAKE);
        }
    }

    fn land(&mut self, key: u64, result: i32) {
        let Some(mut op) = self.take(key) else {
            // Memory may be in use that we take for free. Unwinding would free more of it.
            eprintln!("io_uring completed operation {key:#x}, which is not in flight (result {result})");
            process::abort();
        };
        let result = match (outcome(result), &mut op.work) {
            (Err(Errno::INTR), _) | (Err(Errno::AGAIN), Work::Write { .. }) => return self.put_back(key, op),
            (Err(errno), _) => Err(op.failed(errno)),
            (Ok(_), Work::Flush) => Ok(()),
            (Ok(written), Work::Write { len, done, .. }) => match resume_at(*done, written, *len) {
                Some(next) if next == *len => Ok(()),
                Some(next) => {
                    *done = next;
                    return self.put_back(key, op);
                }
                None => Err(op.failed(io::ErrorKind::WriteZero)),
            },
        };
        let flight = &mut self.flights[index_of(key)];
        flight.generation = flight.generation.wrapping_add(1);
        self.vacant.push(index_of(key));
        self.in_kernel -= 1;
        self.complete(op, result);
    }

    /// The operation of this key, if it is in flight and has been handed to the kernel.
    fn take(&mut self, key: u64) -> Option<Op> {
        let flight = self.flights.get_mut(index_of(key))?;
        if key_of(index_of(key), flight.generation) == key { flight.op.take() } else { None }
    }

    /// Submits what is left of an operation, under the same key: the completion before has been taken.
    fn put_back(&mut self, key: u64, op: Op) {
        self.flights[index_of(key)].op = Some(op);
        self.backlog.push_back(key);
    }

    /// Gives the ring up. What it works on stays the kernel's for ever.
    fn break_down(&mut self, errno: Errno) {
        let ring = mem::replace(&mut self.ring, Err(errno));
        // The armed read may complete as long as there is a ring, and closing one takes the kernel a while.
        mem::forget(mem::replace(&mut self.wake_count, AlignedBuf::new(mem::size_of::<u64>())));
        self.wake_armed = false;
        if self.in_kernel > 0 {
            mem::forget(ring);
            // Registered with the ring, so as much the kernel's as what is in flight.
            self.pool.leak();
            // A write may still land, so nobody else may have the folder while this process lives.
            mem::forget(self.host.clone());
        }
        for op in mem::take(&mut self.flights).into_iter().filter_map(|flight| flight.op) {
            self.ready.push(Completion { token: op.token, result: Err(op.failed(errno)) });
            mem::forget(op);
        }
        self.in_kernel = 0;
        self.vacant.clear();
        self.backlog.clear();
        self.waker.break_down();
    }
}

fn index_of(key: u64) -> usize {
    (key & u64::from(u32::MAX)) as usize
}

/// A completion's result: a count, or a negative error number.
fn outcome(result: i32) -> std::result::Result<usize, Errno> {
    if result >= 0 { Ok(result as usize) } else { Err(Errno::from_raw_os_error(-result)) }
}

/// Registers the memory of all slots, so that the kernel need not pin it for each write. A service may often lock less
/// memory than that, and then it works without.
fn register_slots(ring: &IoUring, pool: &mut Pool) -> bool {
    let memory: Vec<IoSlice<'_>> = pool.make_all().map(|slot| IoSlice::new(slot.bytes())).collect();
    // SAFETY: an IoSlice has the layout of an iovec (documented in std), and `memory` outlives the borrow.
    let vectors = unsafe { std::slice::from_raw_parts(memory.as_ptr().cast(), memory.len()) };
    // SAFETY: the slots' memory stays mapped as long as the ring has it registered: slots live in the pool, with the caller
    // or in a flight, the queue drops its ring first, and `break_down` leaks both. A slot that a caller drops instead of
    // giving it back is unmapped here only; the kernel has its pages pinned, and its number is never used again.
    unsafe { ring.submitter().register_buffers(vectors) }.is_ok()
}

impl Drop for UringQueue {
    fn drop(&mut self) {
        self.closing = true;
        while self.in_kernel > 0 {
            self.enter(1);
            self.ready.clear();
            self.woken = false;
        }
        self.backlog.clear();
        if self.wake_armed {
            self.waker.signal();
        }
        while self.wake_armed {
            self.enter(1);
            self.woken = false;
        }
        if let Ok(ring) = &self.ring {
            // Closing would do it too, some time later.
            let _ = ring.submitter().unregister_files();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Access, Disk, File, IoMode};

    const PAGE: usize = 4096;

    /// Plays the kernel for one write of four pages: `land` gets the results in turn, each for what had been submitted.
    /// Afterwards the real kernel does what is left. `None`: there is no ring here.
    fn after_results(results: &[i32]) -> Option<(Result<()>, Vec<u8>)> {
        let folder = tempfile::tempdir().unwrap();
        let disk = match Disk::open(folder.path(), IoMode::Uring, Access::Write) {
            Ok(disk) => disk,
            Err(error) => {
                println!("skipped: {error}");
                return None;
            }
        };
        let Disk::Host(host) = &disk else { unreachable!("a folder of this machine") };
        let File::Host(file) = disk.create("file", 4 * PAGE as u64).unwrap() else {
            unreachable!("a file of this machine")
        };
        let mut queue = UringQueue::new(host).unwrap();
        let mut slot = queue.pool().take(4 * PAGE).unwrap();
        slot.bytes_mut()[..4 * PAGE].fill(7);
        queue.write(Token(1), &file, 0, slot, 4 * PAGE, Sync::Durable);
        for result in results {
            let key = queue.backlog.pop_back().unwrap();
            queue.land(key, *result);
        }
        let mut done = Vec::new();
        while queue.in_flight() > 0 {
            queue.wait(&mut done);
        }
        let mut written = vec![0; 4 * PAGE];
        file.read_at(&mut written, 0).unwrap();
        assert_eq!(done.len(), 1);
        Some((done.remove(0).result, written))
    }

    #[test]
    fn a_short_write_is_submitted_again_for_the_rest() {
        // The kernel only claims to have written the first two pages, so they stay zeros; 100 bytes more are no whole sector.
        let Some((result, written)) = after_results(&[PAGE as i32, PAGE as i32 + 100]) else { return };
        result.unwrap();
        assert_eq!(written, [vec![0; 2 * PAGE], vec![7; 2 * PAGE]].concat());
    }

    #[test]
    fn an_interrupted_write_is_submitted_again() {
        let Some((result, written)) = after_results(&[-Errno::INTR.raw_os_error(), -Errno::AGAIN.raw_os_error()])
        else {
            return;
        };
        result.unwrap();
        assert_eq!(written, vec![7; 4 * PAGE]);
    }

    #[test]
    fn a_write_that_makes_no_way_fails_and_so_does_the_rest_of_a_short_one() {
        let Some((result, _)) = after_results(&[100]) else { return };
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::WriteZero);
        let Some((result, _)) = after_results(&[PAGE as i32, -Errno::NOSPC.raw_os_error()]) else { return };
        assert!(result.unwrap_err().is_full());
    }

    #[test]
    fn the_ring_holds_lock_for_the_time_after_a_sigkill() {
        let folder = tempfile::tempdir().unwrap();
        let disk = match Disk::open(folder.path(), IoMode::Uring, Access::Write) {
            Ok(disk) => disk,
            Err(error) => return println!("skipped: {error}"),
        };
        let Disk::Host(host) = &disk else { unreachable!("a folder of this machine") };
        let queue = UringQueue::new(host).unwrap();
        let ring = queue.ring.as_ref().unwrap();
        // The kernel lists the ring's registered files here, one a line: "    0: /tmp/.tmpXXXXXX/LOCK".
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", ring.as_raw_fd())).unwrap();
        let lock = folder.path().join("LOCK");
        assert!(info.contains("UserFiles:\t1\n"), "{info}");
        assert!(info.lines().any(|line| line.ends_with(&*lock.to_string_lossy())), "{info}");
    }

    #[test]
    fn an_operator_reads_why_and_what_to_type() {
        let text = cause_and_cure(&Errno::NOMEM.into());
        assert!(text.starts_with("io_uring cannot be had: there is not enough locked memory"), "{text}");
        assert!(text.ends_with("cure: raise RLIMIT_MEMLOCK (LimitMEMLOCK= in the unit)"), "{text}");
    }
}
