//! Bytes on a device: folders, files, writes and flushes.
//!
//! Four ways to reach a disk stand behind one contract, and one conformance suite (`conformance.rs`) holds them to it:
//!
//! ```text
//!                Disk (a folder)          File                     Queue (the commit thread's)
//!   host         dir.rs                   dir.rs                   uring.rs | syscall.rs | mmap.rs
//!   simulated    sim.rs                   sim.rs                   sim.rs
//! ```
//!
//! **What is durable when.** A completed [`Queue::write`] with [`Sync::Durable`] is on stable storage, itself alone. Any other
//! write is there once a flush of its file *that began after the write was complete* has succeeded. A name (made, renamed,
//! removed) is there once its folder has been flushed. Nothing else is promised: after a power cut any subset of 512-byte
//! sectors of unflushed writes may be there.
//!
//! **What never escapes.** A short write is finished or failed, an interrupted call is repeated, a completion is matched by its
//! token, and a slot belongs to the kernel until its completion has come. A failed flush is reported once and never repeated
//! here or above.
//!
//! Layer: storage. Uses `limits`. Knows nothing of blocks, LSNs or topics.

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use crate::limits::{ALIGN_MIN, BLOCK_BYTES_MAX};

mod bell;
pub(crate) mod buffer;
#[cfg(test)]
mod conformance;
mod dir;
mod mmap;
#[cfg(feature = "sim")]
pub(crate) mod sim;
mod syscall;
mod uring;

pub(crate) use buffer::{AlignedBuf, Slot};

/// How to reach the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoMode {
    /// io_uring, and plain system calls where it cannot be had (containers often forbid it). The log works the same,
    /// with fewer commits a second; the status names the cause and the cure.
    #[default]
    Auto,
    /// io_uring, or an error.
    Uring,
    /// Plain system calls.
    Syscall,
    /// Copies into memory that is mapped to the files, one after the other: the way of the seed, and the slowest. A disk that fails
    /// under a mapping ends the process where the kernel is older than Linux 5.14.
    Mmap,
}

impl fmt::Display for IoMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IoMode::Auto => "auto",
            IoMode::Uring => "uring",
            IoMode::Syscall => "syscall",
            IoMode::Mmap => "mmap",
        })
    }
}

/// The text names none of the ways to reach a disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("io is {0:?}, and must be one of auto, uring, syscall, mmap")]
pub struct InvalidIoMode(String);

impl FromStr for IoMode {
    type Err = InvalidIoMode;

    fn from_str(text: &str) -> std::result::Result<IoMode, InvalidIoMode> {
        match text {
            "auto" => Ok(IoMode::Auto),
            "uring" => Ok(IoMode::Uring),
            "syscall" => Ok(IoMode::Syscall),
            "mmap" => Ok(IoMode::Mmap),
            _ => Err(InvalidIoMode(text.to_owned())),
        }
    }
}

/// What a folder is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// The one writer: makes the folder and its LOCK if they are missing, and holds LOCK exclusively.
    Write,
    /// One of many readers, none beside a writer: makes and changes nothing, and holds LOCK shared, if there is one.
    Read,
}

/// How fast a new file is filled with zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Haste {
    /// In large pieces, at the full bandwidth: somebody waits for the file, or may soon.
    Full,
    /// In small ones, since flushes wait behind each.
    Beside,
}

/// How a folder is reached, for the start line and the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IoReport {
    /// `uring`, `syscall`, `mmap` or `sim`.
    pub(crate) name: &'static str,
    /// Writes and [`File::read_direct`] go past the page cache.
    pub(crate) direct: bool,
    /// Why `auto` fell back, and what would help.
    pub(crate) fallback: Option<String>,
}

/// What failed, where, with which values.
pub struct Error {
    op: &'static str,
    path: String,
    range: Option<Range>,
    source: io::Error,
}

#[derive(Clone, Copy)]
struct Range {
    offset: u64,
    len: usize,
}

/// The `op` of an error that says: another process has the folder.
const OP_LOCK: &str = "lock";

/// What storage hands up.
pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(op: &'static str, path: impl Into<String>, source: impl Into<io::Error>) -> Error {
        Error { op, path: path.into(), range: None, source: source.into() }
    }

    pub(crate) fn at(self, offset: u64, len: usize) -> Error {
        Error { range: Some(Range { offset, len }), ..self }
    }

    /// Another process has the folder open.
    pub fn is_locked(&self) -> bool {
        self.op == OP_LOCK && self.source.kind() == io::ErrorKind::WouldBlock
    }

    /// The folder or the file is not there.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// There is no room: a full disk, a quota, or the largest size a file may have here.
    pub fn is_full(&self) -> bool {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        matches!(self.source.kind(), StorageFull | QuotaExceeded | FileTooLarge)
    }

    /// What the system said, for a caller that says where and what by itself.
    fn into_io(self) -> io::Error {
        self.source
    }

    /// The kind of what the system said.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Error { op, path, range, source } = self;
        match range {
            Some(Range { offset, len }) => {
                write!(f, "{op} of {len} bytes at offset {offset} of {path} failed: {source}")
            }
            None => write!(f, "{op} of {path} failed: {source}"),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "storage::Error({self})")
    }
}

// The message holds the source already; naming it here too would print it twice in every chain of causes.
impl std::error::Error for Error {}

/// Direct I/O knows multiples only, and a backend that is kinder would hide the mistake until another one meets it.
/// Callers owe multiples of [`Disk::align`]; what every device needs is asserted.
fn assert_aligned(offset: u64, len: usize) {
    assert_eq!(offset % ALIGN_MIN as u64, 0, "offset {offset} is not aligned");
    assert_eq!(len % ALIGN_MIN, 0, "length {len} is not aligned");
}

/// A name relative to the data folder, made by us: `superblock`, `wal/0000000000000001.seg`.
fn assert_name(name: &str) {
    assert!(!name.is_empty(), "a file has a name");
    assert_folder(name);
}

/// `""` is the data folder itself.
fn assert_folder(name: &str) {
    let whole = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    assert!(name.is_empty() || name.split('/').all(whole), "{name:?} is not a name inside the folder");
}

/// A data folder. A clone is another handle on the same one; LOCK is let go with the last handle and the last queue.
#[derive(Clone)]
pub(crate) enum Disk {
    Host(dir::Host),
    #[cfg(feature = "sim")]
    Sim(sim::SimDisk),
}

/// Calls the same method on whichever backend it is.
macro_rules! each {
    ($kind:ident, $on:expr, $it:ident => $call:expr) => {
        match $on {
            $kind::Host($it) => $call,
            #[cfg(feature = "sim")]
            $kind::Sim($it) => $call,
        }
    };
}

impl Disk {
    /// Opens a folder of this machine. The folder is another's while its LOCK is held: an error that
    /// [is locked](Error::is_locked), after two seconds of trying.
    pub(crate) fn open(path: &Path, io: IoMode, access: Access) -> Result<Disk> {
        dir::Host::open(path, io, access).map(Disk::Host)
    }

    /// Files opened from now on are written through the page cache: right where most writes need not be durable, for they wait for no
    /// device then. All writes of a file must be: one that goes past the cache beside others that go through it may meet pages that the
    /// cache has read ahead and that a neighbour has made dirty, and Linux reports that as a failed flush.
    pub(crate) fn write_through_cache(&self) {
        match self {
            Disk::Host(disk) => disk.write_through_cache(),
            #[cfg(feature = "sim")]
            Disk::Sim(_) => {} // it knows one kind of write that is not durable
        }
    }

    /// How it is reached.
    pub(crate) fn io(&self) -> IoReport {
        each!(Disk, self, disk => disk.io())
    }

    /// The unit of writing: a power of two, at least the device's physical sector, so that no sector is ever rewritten
    /// for a neighbour's sake.
    pub(crate) fn align(&self) -> usize {
        each!(Disk, self, disk => disk.align())
    }

    /// Makes a folder; no error if it is there. Durable once its parent is flushed.
    pub(crate) fn make_folder(&self, name: &str) -> Result<()> {
        assert_name(name);
        each!(Disk, self, disk => disk.make_folder(name))
    }

    /// Makes the names in a folder durable; `""` is the root.
    pub(crate) fn flush_folder(&self, name: &str) -> Result<()> {
        assert_folder(name);
        each!(Disk, self, disk => disk.flush_folder(name))
    }

    /// The names in a folder, sorted; none where there is no such folder.
    pub(crate) fn list(&self, folder: &str) -> Result<Vec<String>> {
        assert_folder(folder);
        each!(Disk, self, disk => disk.list(folder))
    }

    /// Makes a new file of `len` zeros that are really written, so that no later write has to allocate. Nothing of it is
    /// flushed. A file that could not be finished is removed again.
    pub(crate) fn create(&self, name: &str, len: u64) -> Result<File> {
        self.create_with(name, len, &|| Haste::Full)
    }

    /// The same with a haste that may change on the way: it is asked for again and again.
    pub(crate) fn create_with(&self, name: &str, len: u64, haste: &dyn Fn() -> Haste) -> Result<File> {
        assert_name(name);
        assert_aligned(len, 0);
        match self {
            Disk::Host(disk) => disk.create(name, len, haste).map(File::Host),
            #[cfg(feature = "sim")]
            Disk::Sim(disk) => disk.create(name, len).map(File::Sim),
        }
    }

    /// Makes a new file of `len` zeros that is memory, too: for what must outlive the process and wait for nothing.
    pub(crate) fn create_shared(&self, name: &str, len: u64) -> Result<Shared> {
        match self.create(name, len)? {
            File::Host(file) => mmap::SharedMap::new(&file).map(Shared::Host),
            #[cfg(feature = "sim")]
            File::Sim(file) => Ok(Shared::Sim(file)),
        }
    }

    /// Opens a file that is there.
    pub(crate) fn open_file(&self, name: &str) -> Result<File> {
        assert_name(name);
        match self {
            Disk::Host(disk) => disk.open_file(name).map(File::Host),
            #[cfg(feature = "sim")]
            Disk::Sim(disk) => disk.open_file(name).map(File::Sim),
        }
    }

    /// A small file whole, past the page cache where that can be done; `None` if it is not there. A file longer than
    /// `bytes_max` is an error of kind `InvalidData`, before any of it is read.
    pub(crate) fn read_small(&self, name: &str, bytes_max: usize) -> Result<Option<Vec<u8>>> {
        assert_name(name);
        each!(Disk, self, disk => disk.read_small(name, bytes_max))
    }

    /// Writes a small file whole, durably: a temporary (`<name>.tmp`), a flush, a rename, a flush of the folder. After a
    /// crash there is the old one or the new one, and perhaps a temporary.
    pub(crate) fn replace_small(&self, name: &str, bytes: &[u8]) -> Result<()> {
        assert_name(name);
        each!(Disk, self, disk => disk.replace_small(name, bytes))
    }

    /// As [`Disk::replace_small`], and nothing is flushed: a reader has the old one or the new one, and so has a process that comes
    /// after a SIGKILL; after a power cut the name may stand for the old one, none, or any part of the new one.
    pub(crate) fn replace_lazily(&self, name: &str, bytes: &[u8]) -> Result<()> {
        assert_name(name);
        each!(Disk, self, disk => disk.replace_lazily(name, bytes))
    }

    /// Renames, over what may be there. Durable once the folder is flushed (both, where there are two).
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<()> {
        assert_name(from);
        assert_name(to);
        each!(Disk, self, disk => disk.rename(from, to))
    }

    /// Removes a file. Durable once the folder is flushed.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        assert_name(name);
        each!(Disk, self, disk => disk.remove(name))
    }

    /// Bytes of the whole file system.
    pub(crate) fn total_bytes(&self) -> Result<u64> {
        each!(Disk, self, disk => disk.total_bytes())
    }

    /// Bytes that this program could still allocate. Another program may be quicker, so it is a forecast and no promise.
    pub(crate) fn available_bytes(&self) -> Result<u64> {
        each!(Disk, self, disk => disk.available_bytes())
    }

    /// The I/O queue of the one commit thread. It may be made here and moved there; from its first operation on it stays
    /// with the thread that made that.
    pub(crate) fn queue(&self) -> Result<Queue> {
        match self {
            Disk::Host(disk) => disk.queue(),
            #[cfg(feature = "sim")]
            Disk::Sim(disk) => disk.queue().map(Queue::Sim),
        }
    }
}

/// An open file. A clone is the same one. It stays usable after its name is gone.
#[derive(Clone)]
pub(crate) enum File {
    Host(dir::HostFile),
    #[cfg(feature = "sim")]
    Sim(sim::SimFile),
}

impl File {
    /// The name it was opened under, for messages.
    pub(crate) fn name(&self) -> String {
        each!(File, self, file => file.name().to_owned())
    }

    /// Bytes, as the file system counts them.
    pub(crate) fn len(&self) -> Result<u64> {
        each!(File, self, file => file.len())
    }

    /// Fills `buf`, from the page cache if it is there. The end of the file before that: `UnexpectedEof`.
    pub(crate) fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        each!(File, self, file => file.read_at(buf, offset))
    }

    /// Fills `buf[..len]` with what the device has, past the page cache: recovery must not believe bytes that only memory
    /// holds. Where the file system cannot, the cache is dropped first.
    pub(crate) fn read_direct(&self, buf: &mut AlignedBuf, offset: u64, len: usize) -> Result<()> {
        assert_aligned(offset, len);
        each!(File, self, file => file.read_direct(&mut buf[..len], offset))
    }

    /// Writes `buf[..len]`, all of it or an error. Not flushed.
    pub(crate) fn write_at(&self, buf: &AlignedBuf, len: usize, offset: u64) -> Result<()> {
        assert_aligned(offset, len);
        each!(File, self, file => file.write_at(&buf[..len], offset))
    }

    /// Makes every write that is complete now durable, and the size. After an error nothing is known of them, and another
    /// flush of this file would say nothing about them either: the kernel reports a failed flush once.
    pub(crate) fn flush(&self) -> Result<()> {
        each!(File, self, file => file.flush())
    }

    /// Both are the same file of the disk, whatever their names.
    pub(crate) fn same_file(&self, other: &File) -> bool {
        match (self, other) {
            (File::Host(a), File::Host(b)) => a.same_file(b),
            #[cfg(feature = "sim")]
            (File::Sim(a), File::Sim(b)) => a.same_file(b),
            #[cfg(feature = "sim")]
            _ => false,
        }
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Disk({})", self.io().name)
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File({})", self.name())
    }
}

/// Memory that is a file: see [`Disk::create_shared`]. One owner stores into it; who comes later reads the file.
pub(crate) enum Shared {
    Host(mmap::SharedMap),
    #[cfg(feature = "sim")]
    Sim(sim::SimFile),
}

impl Shared {
    /// Stores bytes. When it returns they are there for the next process, whatever becomes of this one. A power cut may leave each
    /// 512-byte sector as it is, or as it was before any of the stores into it.
    pub(crate) fn store(&mut self, bytes: &[u8], at: usize) {
        each!(Shared, self, shared => shared.store(bytes, at));
    }
}

/// An operation's name, chosen by the caller, unique among those in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Token(pub(crate) u64);

/// What a completed write says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sync {
    /// It is written; a later flush makes it durable.
    Lazy,
    /// It is durable, itself alone (RWF_DSYNC).
    Durable,
}

/// The end of one operation: all of it done, or failed.
#[derive(Debug)]
pub(crate) struct Completion {
    pub(crate) token: Token,
    pub(crate) result: Result<()>,
}

/// Writes and flushes in flight, from one thread.
///
/// An error of the queue itself (the kernel takes nothing more) arrives as a failed completion of every operation in
/// flight; later ones fail at once. Dropping a queue waits for what is in flight.
pub(crate) enum Queue {
    Uring(Box<uring::UringQueue>),
    Syscall(syscall::SyscallQueue),
    Mmap(mmap::MmapQueue),
    #[cfg(feature = "sim")]
    Sim(sim::SimQueue),
}

macro_rules! each_queue {
    ($on:expr, $it:ident => $call:expr) => {
        match $on {
            Queue::Uring($it) => $call,
            Queue::Syscall($it) => $call,
            Queue::Mmap($it) => $call,
            #[cfg(feature = "sim")]
            Queue::Sim($it) => $call,
        }
    };
}

impl Queue {
    /// A free slot of at least `len` bytes, or `None`: wait for completions. With nothing in flight and nothing kept there
    /// always is one.
    pub(crate) fn slot(&mut self, len: usize) -> Option<Slot> {
        assert!(len <= BLOCK_BYTES_MAX, "no slot holds {len} bytes");
        each_queue!(self, queue => queue.pool().take(len))
    }

    /// Takes back a slot that nothing was written from.
    pub(crate) fn give_back(&mut self, slot: Slot) {
        each_queue!(self, queue => queue.pool().give(slot));
    }

    /// The slot's memory, aligned; what it held before is still there.
    pub(crate) fn slot_bytes<'slot>(&mut self, slot: &'slot mut Slot) -> &'slot mut [u8] {
        slot.bytes_mut()
    }

    /// Writes the slot's first `len` bytes. The queue keeps the file open and the memory alive until the completion, and
    /// takes the slot back then. Writes in flight do not overlap: nobody could say what is there then.
    pub(crate) fn write(&mut self, token: Token, file: &File, offset: u64, slot: Slot, len: usize, sync: Sync) {
        assert_aligned(offset, len);
        assert!(len > 0, "an empty write");
        assert!(len <= slot.capacity(), "a write of {len} bytes from a slot of {}", slot.capacity());
        match (self, file) {
            (Queue::Uring(queue), File::Host(file)) => queue.write(token, file, offset, slot, len, sync),
            (Queue::Syscall(queue), File::Host(file)) => queue.write(token, file, offset, slot, len, sync),
            (Queue::Mmap(queue), File::Host(file)) => queue.write(token, file, offset, slot, len, sync),
            #[cfg(feature = "sim")]
            (Queue::Sim(queue), File::Sim(file)) => queue.write(token, file, offset, slot, len, sync),
            #[cfg(feature = "sim")]
            _ => panic!("a file of another disk"),
        }
    }

    /// The same, made by the calling thread itself, which may be another one than the queue's: nothing else may be in flight. Its
    /// completion is there when it returns, for [`Queue::take_done`].
    pub(crate) fn write_now(&mut self, token: Token, file: &File, offset: u64, slot: Slot, len: usize, sync: Sync) {
        assert_eq!(self.in_flight(), 0, "a write by another thread is alone");
        match (self, file) {
            (Queue::Uring(queue), File::Host(file)) => queue.write_now(token, file, offset, slot, len, sync),
            (queue, file) => queue.write(token, file, offset, slot, len, sync),
        }
    }

    /// What has completed by [`Queue::write_now`].
    pub(crate) fn take_done(&mut self, done: &mut Vec<Completion>) {
        match self {
            Queue::Uring(queue) => queue.take_done(done),
            Queue::Syscall(queue) => queue.poll(done),
            Queue::Mmap(queue) => queue.poll(done),
            #[cfg(feature = "sim")]
            Queue::Sim(queue) => queue.finish(done),
        }
    }

    /// Makes durable what is complete now.
    pub(crate) fn flush(&mut self, token: Token, file: &File) {
        match (self, file) {
            (Queue::Uring(queue), File::Host(file)) => queue.flush(token, file),
            (Queue::Syscall(queue), File::Host(file)) => queue.flush(token, file),
            (Queue::Mmap(queue), File::Host(file)) => queue.flush(token, file),
            #[cfg(feature = "sim")]
            (Queue::Sim(queue), File::Sim(file)) => queue.flush(token, file),
            #[cfg(feature = "sim")]
            _ => panic!("a file of another disk"),
        }
    }

    /// Operations whose completion has not been handed out.
    pub(crate) fn in_flight(&self) -> usize {
        each_queue!(self, queue => queue.in_flight())
    }

    /// Hands everything to the kernel and takes what has completed. Does not block.
    pub(crate) fn poll(&mut self, done: &mut Vec<Completion>) {
        each_queue!(self, queue => queue.poll(done));
    }

    /// The same, and blocks until there is a completion or somebody has called [`Waker::wake`] since `wait` last
    /// returned. It may return with nothing to show.
    pub(crate) fn wait(&mut self, done: &mut Vec<Completion>) {
        each_queue!(self, queue => queue.wait(done));
    }

    /// What makes [`Queue::wait`] return, from any thread.
    pub(crate) fn waker(&self) -> Waker {
        each_queue!(self, queue => queue.waker())
    }

    /// Calls into the kernel so far, to write, to flush and to wait for both; `None` where they are not counted.
    pub(crate) fn syscalls(&self) -> Option<u64> {
        match self {
            Queue::Uring(queue) => Some(queue.syscalls()),
            Queue::Syscall(queue) => Some(queue.syscalls()),
            Queue::Mmap(_) => None,
            #[cfg(feature = "sim")]
            Queue::Sim(_) => None,
        }
    }

    /// `uring`, `syscall`, `mmap` or `sim`.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Queue::Uring(_) => "uring",
            Queue::Syscall(_) => "syscall",
            Queue::Mmap(_) => "mmap",
            #[cfg(feature = "sim")]
            Queue::Sim(_) => "sim",
        }
    }
}

/// Makes [`Queue::wait`] return. A wake is never lost: one that comes before the wait makes it return at once.
#[derive(Clone)]
pub(crate) enum Waker {
    Ring(Arc<uring::RingWaker>),
    Bell(Arc<bell::Bell>),
}

impl Waker {
    pub(crate) fn wake(&self) {
        match self {
            Waker::Ring(waker) => waker.wake(),
            Waker::Bell(bell) => bell.ring(),
        }
    }

    /// Blocks until somebody wakes, as [`Queue::wait`] does, but without the queue, which others may use meanwhile. Only for the queue's
    /// thread, and with nothing in flight. False: somebody has woken already, in a way that only the queue can take note of.
    #[must_use = "if it is false, the queue has to wait once"]
    pub(crate) fn park(&self) -> bool {
        match self {
            Waker::Ring(waker) => waker.park(),
            Waker::Bell(bell) => {
                bell.hear();
                true
            }
        }
    }
}
