//! A folder of this machine, and its files.
//!
//! ```text
//!   Host (Arc)                                  HostFile (Arc)
//!     root   fd of the folder                     past     O_DIRECT: writes, flushes, read_direct
//!     lock   fd of LOCK, flocked                  cached   page cache: read_at; everything, where there is no O_DIRECT;
//!                                                          writes and flushes of a folder that is written through the cache
//! ```
//!
//! A file's writes and its flushes go through the same descriptor, opened before the first write: the kernel reports a
//! failed write-back once to each open file, and to one opened later not at all.
//!
//! Every name is walked folder by folder without following links, so nobody who can write into the data folder makes us
//! write elsewhere.
//!
//! Layer: storage. Uses `limits`. Knows nothing of what the files hold. The only clock: two seconds of trying for LOCK.

use std::fs;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, AtFlags, CWD, Dir, FallocateFlags, FlockOperation, Mode, OFlags, Statx, StatxFlags};
use rustix::io::{Errno, ReadWriteFlags, retry_on_intr};

use super::buffer::HUGE_BYTES;
use super::mmap::MmapQueue;
use super::syscall::SyscallQueue;
use super::uring::{self, UringQueue};
use super::{Access, AlignedBuf, Error, Haste, IoMode, IoReport, OP_LOCK, Queue, Result, Sync};
use crate::limits::{ALIGN_MAX, ALIGN_MIN};

const LOCK: &str = "LOCK";

/// How long an open tries for LOCK. The last writes of a killed process hold it until they have landed (1.6 s measured).
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(1);

/// Zeros are written in pieces of this size: large enough for the full bandwidth, small enough to keep around.
const ZERO_BYTES: usize = 1 << 20;

/// And beside somebody's flushes in pieces of this, for a flush may have to wait for all of one. It fills a file more slowly
/// (docs/decisions/0011).
const ZERO_BYTES_BESIDE: usize = 128 << 10;

const FOLDER_MODE: Mode = Mode::RWXU;
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Every open: not inherited by a child, not through a link.
const OPEN: OFlags = OFlags::CLOEXEC.union(OFlags::NOFOLLOW);
const OPEN_FOLDER: OFlags = OPEN.union(OFlags::RDONLY).union(OFlags::DIRECTORY);

/// A data folder of this machine.
#[derive(Clone)]
pub(crate) struct Host(Arc<Folder>);

/// What the handles, and the queues, of one open share. LOCK is held until the last of them is gone.
struct Folder {
    root: OwnedFd,
    path: String,
    access: Access,
    lock: Option<OwnedFd>,
    align: usize,
    io: IoMode,
    report: Mutex<IoReport>,
    /// Cleared when the kernel or the file system turns out not to know RWF_DSYNC.
    write_through: Arc<AtomicBool>,
    /// Files opened from now on are written through the page cache.
    by_cache: AtomicBool,
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A ring lets its registered files go some time after it is closed. This is the last handle, so nothing is in
        // flight any more, and whoever opens next need not wait for that. (A killed process gets no further than the
        // kernel's own order: its writes first, LOCK then. That is what LOCK in the ring is for.)
        if let Some(lock) = &self.lock {
            let _ = rustix::fs::flock(lock, FlockOperation::Unlock);
        }
    }
}

impl Host {
    pub(crate) fn open(path: &Path, io: IoMode, access: Access) -> Result<Host> {
        let shown = path.display().to_string();
        if access == Access::Write {
            make_root(path).map_err(|error| Error::new("create", &shown, error))?;
        }
        let root = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| Error::new("open", &shown, error))?;
        let lock = open_lock(&root, access).map_err(|error| Error::new("open", format!("{shown}/{LOCK}"), error))?;
        if let Some(lock) = &lock {
            take_lock(lock, access).map_err(|error| Error::new(OP_LOCK, &shown, error))?;
        }
        let device = Device::of(&root, lock.as_ref()).map_err(|error| Error::new("stat", &shown, error))?;
        let (name, fallback) = choose_io(io, access, lock.as_ref())?;
        // A mapping is the page cache.
        let report = IoReport { name, direct: device.direct && io != IoMode::Mmap, fallback };
        Ok(Host(Arc::new(Folder {
            root,
            path: shown,
            access,
            lock,
            align: device.align,
            io,
            report: Mutex::new(report),
            write_through: Arc::new(AtomicBool::new(true)),
            by_cache: AtomicBool::new(false),
        })))
    }

    pub(crate) fn io(&self) -> IoReport {
        self.0.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn write_through_cache(&self) {
        self.0.by_cache.store(true, Ordering::Relaxed);
        self.0.report.lock().unwrap_or_else(PoisonError::into_inner).direct = false;
    }

    pub(crate) fn align(&self) -> usize {
        self.0.align
    }

    pub(crate) fn make_folder(&self, name: &str) -> Result<()> {
        let fail = |error: Errno| Error::new("create", name, error);
        self.check_writable("create", name)?;
        let (folder, leaf) = self.walk(name).map_err(fail)?;
        match rustix::fs::mkdirat(&folder, leaf, FOLDER_MODE) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(fail(error)),
        }
    }

    pub(crate) fn flush_folder(&self, name: &str) -> Result<()> {
        let shown = if name.is_empty() { &self.0.path } else { name };
        self.folder(name)
            .and_then(|folder| retry_on_intr(|| rustix::fs::fsync(&folder)))
            .map_err(|error| Error::new("flush", shown, error))
    }

    pub(crate) fn list(&self, folder: &str) -> Result<Vec<String>> {
        let fail = |error: Errno| Error::new("list", if folder.is_empty() { &self.0.path } else { folder }, error);
        let dir = match self.folder(folder) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(Vec::new()),
            Err(error) => return Err(fail(error)),
        };
        let mut names = Vec::new();
        for entry in Dir::new(dir).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            // A name that is no UTF-8 is not one of ours.
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => names.push(name.to_owned()),
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    pub(crate) fn create(&self, name: &str, len: u64, haste: &dyn Fn() -> Haste) -> Result<HostFile> {
        let fail = |error: Errno| Error::new("create", name, error);
        self.check_writable("create", name)?;
        let (folder, leaf) = self.walk(name).map_err(fail)?;
        // Without O_DIRECT at first: where that is not known, the open would fail and leave the file behind.
        let cached = openat(&folder, leaf, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL).map_err(fail)?;
        let finished = HostFile::new(self, name, &folder, leaf, cached).map_err(fail).and_then(|file| {
            file.zero(len, haste)?;
            Ok(file)
        });
        if finished.is_err() {
            // A half-made file would hold on to the very room whose lack may have been the cause.
            let _ = rustix::fs::unlinkat(&folder, leaf, AtFlags::empty());
        }
        finished
    }

    pub(crate) fn open_file(&self, name: &str) -> Result<HostFile> {
        self.open_errno(name).map_err(|error| Error::new("open", name, error))
    }

    fn open_errno(&self, name: &str) -> rustix::io::Result<HostFile> {
        let (folder, leaf) = self.walk(name)?;
        let cached = openat(&folder, leaf, self.mode())?;
        HostFile::new(self, name, &folder, leaf, cached)
    }

    pub(crate) fn read_small(&self, name: &str, bytes_max: usize) -> Result<Option<Vec<u8>>> {
        let file = match self.open_errno(name) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(Error::new("open", name, error)),
        };
        let len = file.len()?;
        if len > bytes_max as u64 {
            let text = format!("it has {len} bytes, and at most {bytes_max} can be right");
            return Err(Error::new("read", name, io::Error::new(io::ErrorKind::InvalidData, text)));
        }
        let len = len as usize;
        if len == 0 {
            return Ok(Some(Vec::new()));
        }
        let mut buf = AlignedBuf::new(len.next_multiple_of(self.0.align));
        file.read_past_cache(&mut buf, 0, len)?;
        Ok(Some(buf[..len].to_vec()))
    }

    pub(crate) fn replace_small(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let folder = self.replace(name, bytes, Sync::Durable)?;
        retry_on_intr(|| rustix::fs::fsync(&folder)).map_err(|error| Error::new("replace", name, error))
    }

    pub(crate) fn replace_lazily(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.replace(name, bytes, Sync::Lazy).map(drop)
    }

    /// Puts a file in the place of `name`, its content durable if asked for; returns the folder, which is not flushed.
    fn replace(&self, name: &str, bytes: &[u8], sync: Sync) -> Result<OwnedFd> {
        let fail = |error: Errno| Error::new("replace", name, error);
        self.check_writable("replace", name)?;
        let (folder, leaf) = self.walk(name).map_err(fail)?;
        let temporary = format!("{leaf}.tmp");
        let replaced = write_whole(&folder, &temporary, bytes, sync)
            .and_then(|()| rustix::fs::renameat(&folder, &*temporary, &folder, leaf));
        if let Err(error) = replaced {
            let _ = rustix::fs::unlinkat(&folder, &*temporary, AtFlags::empty());
            return Err(fail(error));
        }
        Ok(folder)
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.check_writable("rename", from)?;
        self.walk(from)
            .and_then(|(folder, leaf)| {
                let (to_folder, to_leaf) = self.walk(to)?;
                rustix::fs::renameat(&folder, leaf, &to_folder, to_leaf)
            })
            .map_err(|error| Error::new("rename", format!("{from} to {to}"), error))
    }

    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        self.check_writable("remove", name)?;
        self.walk(name)
            .and_then(|(folder, leaf)| rustix::fs::unlinkat(&folder, leaf, AtFlags::empty()))
            .map_err(|error| Error::new("remove", name, error))
    }

    pub(crate) fn total_bytes(&self) -> Result<u64> {
        self.statvfs().map(|stat| stat.f_blocks.saturating_mul(stat.f_frsize))
    }

    pub(crate) fn available_bytes(&self) -> Result<u64> {
        // What an ordinary user may take: the rest is the administrator's, to get out of trouble with.
        self.statvfs().map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn statvfs(&self) -> Result<rustix::fs::StatVfs> {
        rustix::fs::fstatvfs(&self.0.root).map_err(|error| Error::new("stat", &self.0.path, error))
    }

    pub(crate) fn queue(&self) -> Result<Queue> {
        self.check_writable("queue", &self.0.path)?;
        if self.0.io == IoMode::Mmap {
            return Ok(Queue::Mmap(MmapQueue::new(self)));
        }
        if self.0.io != IoMode::Syscall {
            match UringQueue::new(self) {
                Ok(queue) => return Ok(Queue::Uring(Box::new(queue))),
                Err(error) if self.0.io == IoMode::Uring => return Err(no_ring(error)),
                Err(error) => self.fell_back(&error),
            }
        }
        Ok(Queue::Syscall(SyscallQueue::new(self)))
    }

    fn fell_back(&self, error: &io::Error) {
        let mut report = self.0.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.name = "syscall";
        report.fallback.get_or_insert_with(|| uring::cause_and_cure(error));
    }

    /// The locked LOCK, for the ring to hold on to.
    pub(crate) fn lock(&self) -> Option<BorrowedFd<'_>> {
        self.0.lock.as_ref().map(AsFd::as_fd)
    }

    fn mode(&self) -> OFlags {
        match self.0.access {
            Access::Write => OFlags::RDWR,
            Access::Read => OFlags::RDONLY,
        }
    }

    fn check_writable(&self, op: &'static str, name: &str) -> Result<()> {
        match self.0.access {
            Access::Write => Ok(()),
            Access::Read => Err(Error::new(op, name, Errno::ROFS)),
        }
    }

    /// The folder a name lies in, opened, and the last part of the name.
    fn walk<'name>(&self, name: &'name str) -> rustix::io::Result<(OwnedFd, &'name str)> {
        let (folder, leaf) = name.rsplit_once('/').unwrap_or(("", name));
        Ok((self.folder(folder)?, leaf))
    }

    fn folder(&self, name: &str) -> rustix::io::Result<OwnedFd> {
        let mut folder = openat(&self.0.root, ".", OPEN_FOLDER)?;
        for part in name.split('/').filter(|part| !part.is_empty()) {
            folder = openat(&folder, part, OPEN_FOLDER)?;
        }
        Ok(folder)
    }
}

fn openat(folder: &OwnedFd, name: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    retry_on_intr(|| rustix::fs::openat(folder, name, OPEN | flags, FILE_MODE))
}

/// Makes the folder and those above it that are missing, each durable in its parent.
fn make_root(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    make_root(parent)?;
    match rustix::fs::mkdirat(CWD, path, FOLDER_MODE) {
        Ok(()) | Err(Errno::EXIST) => fs::File::open(parent)?.sync_all(),
        Err(error) => Err(error.into()),
    }
}

/// `None`: a reader of a folder that has no LOCK yet.
fn open_lock(root: &OwnedFd, access: Access) -> rustix::io::Result<Option<OwnedFd>> {
    match access {
        Access::Write => openat(root, LOCK, OFlags::RDWR | OFlags::CREATE).map(Some),
        Access::Read => match openat(root, LOCK, OFlags::RDONLY) {
            Ok(lock) => Ok(Some(lock)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        },
    }
}

fn take_lock(lock: &OwnedFd, access: Access) -> rustix::io::Result<()> {
    let operation = match access {
        Access::Write => FlockOperation::NonBlockingLockExclusive,
        Access::Read => FlockOperation::NonBlockingLockShared,
    };
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match rustix::fs::flock(lock, operation) {
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => thread::sleep(LOCK_RETRY),
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Which way to the disk it will be, and what to tell whoever asked for another.
fn choose_io(io: IoMode, access: Access, lock: Option<&OwnedFd>) -> Result<(&'static str, Option<String>)> {
    match (access, io, lock) {
        // A reader has no queue.
        (Access::Read, _, _) | (_, IoMode::Syscall, _) | (_, _, None) => Ok(("syscall", None)),
        (Access::Write, IoMode::Mmap, _) => Ok(("mmap", None)),
        (Access::Write, _, Some(lock)) => match uring::probe(lock.as_fd()) {
            Ok(()) => Ok(("uring", None)),
            Err(error) if io == IoMode::Uring => Err(no_ring(error)),
            Err(error) => Ok(("syscall", Some(uring::cause_and_cure(&error)))),
        },
    }
}

fn no_ring(error: io::Error) -> Error {
    let text = uring::cause_and_cure(&error);
    Error::new("setup", "the io_uring queue", io::Error::new(error.kind(), text))
}

/// What the file system and the device under a folder ask for.
struct Device {
    direct: bool,
    align: usize,
}

impl Device {
    /// Asks a file where there is one: a folder itself knows nothing of direct I/O.
    fn of(root: &OwnedFd, lock: Option<&OwnedFd>) -> rustix::io::Result<Device> {
        let stat = statx(lock.unwrap_or(root))?;
        let can_direct = lock.is_some() && openat(root, LOCK, OFlags::RDONLY | OFlags::DIRECT).is_ok();
        let asked = match (stat.stx_mask & StatxFlags::DIOALIGN.bits() != 0, stat.stx_dio_offset_align) {
            (true, 0) => None,
            (true, offset_align) => Some(offset_align as usize),
            (false, _) => Some(ALIGN_MIN),
        };
        let fits = |align: &usize| align.is_power_of_two() && *align <= ALIGN_MAX;
        let direct = asked.filter(fits);
        let sector = physical_sector(stat.stx_dev_major, stat.stx_dev_minor).filter(fits);
        let align = ALIGN_MIN.max(direct.unwrap_or(0)).max(sector.unwrap_or(0));
        Ok(Device { direct: can_direct && direct.is_some(), align })
    }
}

/// The device's physical sector: what it rewrites as a whole, so what a power cut can tear. A partition has it one folder
/// up; a file system without a device has none.
fn physical_sector(major: u32, minor: u32) -> Option<usize> {
    let device = format!("/sys/dev/block/{major}:{minor}");
    ["queue", "../queue"].iter().find_map(|queue| {
        let text = fs::read_to_string(format!("{device}/{queue}/physical_block_size")).ok()?;
        text.trim().parse().ok()
    })
}

fn statx(fd: &OwnedFd) -> rustix::io::Result<Statx> {
    rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::DIOALIGN)
}

/// A small file, whole and flushed.
fn write_whole(folder: &OwnedFd, name: &str, bytes: &[u8], sync: Sync) -> rustix::io::Result<()> {
    let file = openat(folder, name, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC)?;
    let mut done = 0;
    while done < bytes.len() {
        match retry_on_intr(|| rustix::io::pwrite(&file, &bytes[done..], done as u64))? {
            0 => return Err(Errno::IO),
            written => done += written,
        }
    }
    match sync {
        Sync::Durable => retry_on_intr(|| rustix::fs::fdatasync(&file)),
        Sync::Lazy => Ok(()),
    }
}

/// An open file of this machine.
#[derive(Clone)]
pub(crate) struct HostFile(Arc<Open>);

struct Open {
    name: String,
    past: Option<OwnedFd>,
    cached: OwnedFd,
    identity: (u32, u32, u64),
    /// Writes and flushes go through `cached`, though there may be a `past` to read by.
    by_cache: bool,
    /// The folder's. Not the folder itself: an open file does not hold LOCK.
    write_through: Arc<AtomicBool>,
}

impl HostFile {
    fn new(host: &Host, name: &str, folder: &OwnedFd, leaf: &str, cached: OwnedFd) -> rustix::io::Result<HostFile> {
        let identity = identity(&cached)?;
        let past = match openat(folder, leaf, host.mode() | OFlags::DIRECT) {
            // Somebody put another file under the name between the two opens: not ours to write to.
            Ok(past) if identity != self::identity(&past)? => return Err(Errno::STALE),
            Ok(past) => Some(past),
            Err(Errno::INVAL) => None,
            Err(error) => return Err(error),
        };
        let write_through = Arc::clone(&host.0.write_through);
        let by_cache = past.is_none() || host.0.by_cache.load(Ordering::Relaxed);
        Ok(HostFile(Arc::new(Open { name: name.to_owned(), past, cached, identity, by_cache, write_through })))
    }

    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn same_file(&self, other: &HostFile) -> bool {
        self.0.identity == other.0.identity
    }

    pub(crate) fn len(&self) -> Result<u64> {
        statx(&self.0.cached).map(|stat| stat.stx_size).map_err(|error| Error::new("stat", self.name(), error))
    }

    /// The descriptor of all writes and flushes.
    pub(crate) fn write_fd(&self) -> BorrowedFd<'_> {
        match &self.0.past {
            Some(past) if !self.0.by_cache => past.as_fd(),
            _ => self.0.cached.as_fd(),
        }
    }

    /// Writes go to the page cache, so one that need not be durable waits for no device.
    pub(crate) fn is_written_by_cache(&self) -> bool {
        self.0.by_cache
    }

    /// The descriptor to map: what is copied into a mapping lies in the page cache.
    pub(crate) fn cached_fd(&self) -> &OwnedFd {
        &self.0.cached
    }

    pub(crate) fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let len = buf.len();
        self.read_from(self.0.cached.as_fd(), buf, offset, len)
    }

    pub(crate) fn read_direct(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let len = buf.len();
        self.read_past_cache(buf, offset, len)
    }

    /// Fills `buf[..need]` from the device; `buf` is aligned, and longer where the file ends within its last sector.
    fn read_past_cache(&self, buf: &mut [u8], offset: u64, need: usize) -> Result<()> {
        if let Some(past) = &self.0.past {
            return self.read_from(past.as_fd(), buf, offset, need);
        }
        // Drops what is clean in the cache, and after a flush everything is. If it fails, the cache it is.
        let _ = rustix::fs::fadvise(&self.0.cached, offset, std::num::NonZeroU64::new(need as u64), Advice::DontNeed);
        self.read_from(self.0.cached.as_fd(), buf, offset, need)
    }

    fn read_from(&self, fd: BorrowedFd<'_>, buf: &mut [u8], offset: u64, need: usize) -> Result<()> {
        let fail = |error: io::Error| Error::new("read", self.name(), error).at(offset, need);
        let mut done = 0;
        while done < need {
            match retry_on_intr(|| rustix::io::pread(fd, &mut buf[done..], offset + done as u64)) {
                Ok(0) => return Err(fail(io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => done += read,
                Err(error) => return Err(fail(error.into())),
            }
        }
        Ok(())
    }

    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.write_all(bytes, offset, Sync::Lazy)
    }

    /// Writes everything, and with [`Sync::Durable`] makes it durable by the same call.
    pub(crate) fn write_all(&self, bytes: &[u8], offset: u64, sync: Sync) -> Result<()> {
        self.write_all_to(self.write_fd(), bytes, offset, sync)
    }

    fn write_all_to(&self, fd: BorrowedFd<'_>, bytes: &[u8], offset: u64, sync: Sync) -> Result<()> {
        let fail = |error: io::Error| Error::new("write", self.name(), error).at(offset, bytes.len());
        let mut done = 0;
        while done < bytes.len() {
            let written =
                self.write_once(fd, &bytes[done..], offset + done as u64, sync).map_err(|error| fail(error.into()))?;
            done = resume_at(done, written, bytes.len()).ok_or_else(|| fail(io::ErrorKind::WriteZero.into()))?;
        }
        Ok(())
    }

    fn write_once(&self, fd: BorrowedFd<'_>, bytes: &[u8], offset: u64, sync: Sync) -> rustix::io::Result<usize> {
        if sync == Sync::Lazy {
            return retry_on_intr(|| rustix::io::pwrite(fd, bytes, offset));
        }
        let write_through = &self.0.write_through;
        if write_through.load(Ordering::Relaxed) {
            match retry_on_intr(|| rustix::io::pwritev2(fd, &[IoSlice::new(bytes)], offset, ReadWriteFlags::DSYNC)) {
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_through.store(false, Ordering::Relaxed),
                result => return result,
            }
        }
        let written = retry_on_intr(|| rustix::io::pwrite(fd, bytes, offset))?;
        retry_on_intr(|| rustix::fs::fdatasync(fd))?;
        Ok(written)
    }

    pub(crate) fn flush(&self) -> Result<()> {
        // An interrupted flush is begun again; a failed one is not: its second answer would be a lie.
        retry_on_intr(|| rustix::fs::fdatasync(self.write_fd())).map_err(|error| self.flush_failed(error))
    }

    pub(crate) fn flush_failed(&self, error: impl Into<io::Error>) -> Error {
        Error::new("flush", self.name(), error)
    }

    fn zero(&self, len: u64, haste: &dyn Fn() -> Haste) -> Result<()> {
        match retry_on_intr(|| rustix::fs::fallocate(&self.0.cached, FallocateFlags::empty(), 0, len)) {
            // Some file systems cannot; the zeros find out then whether there is room.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
            Err(error) => return Err(Error::new("create", self.name(), error).at(0, len as usize)),
        }
        let zeros = AlignedBuf::new(HUGE_BYTES); // of which a piece is used, again and again: it lies together
        // Past the cache also where the file is written by it later: nothing of it is there yet that could be stale.
        let fd = self.0.past.as_ref().unwrap_or(&self.0.cached);
        let mut offset = 0;
        while offset < len {
            let piece_max = match haste() {
                Haste::Full => ZERO_BYTES,
                Haste::Beside => ZERO_BYTES_BESIDE,
            };
            let piece = (len - offset).min(piece_max as u64) as usize;
            self.write_all_to(fd.as_fd(), &zeros[..piece], offset, Sync::Lazy)?;
            offset += piece as u64;
        }
        Ok(())
    }
}

fn identity(fd: &OwnedFd) -> rustix::io::Result<(u32, u32, u64)> {
    statx(fd).map(|stat| (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino))
}

/// Where a write of `len` bytes goes on, of which `written` more than `done` are there. A piece that ends within a sector is
/// begun again at that sector, with the same bytes, since direct I/O takes whole ones. `None`: nothing whole was written.
pub(crate) fn resume_at(done: usize, written: usize, len: usize) -> Option<usize> {
    let next = done + written;
    if next >= len {
        return Some(len);
    }
    let whole = next - next % ALIGN_MIN;
    (whole > done).then_some(whole)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_short_write_goes_on_at_the_last_whole_sector() {
        assert_eq!(resume_at(0, 8192, 8192), Some(8192));
        assert_eq!(resume_at(0, 6000, 8192), Some(4096));
        assert_eq!(resume_at(4096, 4096, 12288), Some(8192));
        assert_eq!(resume_at(4096, 1904, 12288), None);
        assert_eq!(resume_at(4096, 0, 12288), None);
    }

    #[test]
    fn a_file_is_filled_in_smaller_pieces_beside_others_and_as_soon_as_somebody_waits_in_large_ones() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Host::open(folder.path(), IoMode::Syscall, Access::Write).unwrap();
        let pieces_of = |name: &str, beside: usize| {
            let pieces = Cell::new(0);
            let haste = || {
                pieces.set(pieces.get() + 1);
                if pieces.get() <= beside { Haste::Beside } else { Haste::Full }
            };
            disk.create(name, 4 * ZERO_BYTES as u64, &haste).unwrap();
            assert_eq!(std::fs::read(folder.path().join(name)).unwrap(), vec![0; 4 * ZERO_BYTES]);
            pieces.get()
        };
        let per_large = ZERO_BYTES / ZERO_BYTES_BESIDE;
        assert_eq!(pieces_of("full", 0), 4);
        assert_eq!(pieces_of("beside", usize::MAX), 4 * per_large);
        assert_eq!(pieces_of("both", per_large), per_large + 3);
    }
}
