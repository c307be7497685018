//! The floor: what the device itself does, without any log. A 4 KiB write past the page cache into a prepared file, and its flush, one
//! after the other; nothing that makes each append durable on its own can be faster at depth 1.
//!
//! Also compiled into the command, for `demo`: one instrument, one definition.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

const WRITE_BYTES: usize = 4096;
/// The file that is overwritten, again and again from its start.
const FILE_BYTES: usize = 16 << 20;

/// How a write is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flush {
    /// A plain write, then fdatasync.
    Fdatasync,
    /// A write with RWF_DSYNC: one call, and on some devices no flush of the whole cache.
    Dsync,
}

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Floor {
    pub(crate) per_second: f64,
    /// The median time of one.
    pub(crate) p50: Duration,
    /// Past the page cache: not every file system can.
    pub(crate) is_direct: bool,
}

/// A prepared file in `dir`, without a name: it is gone when this is.
pub(crate) struct Prepared {
    file: OwnedFd,
    is_direct: bool,
    /// Direct I/O wants aligned memory: the write begins at `start`.
    memory: Vec<u8>,
    start: usize,
    at: usize,
}

impl Prepared {
    pub(crate) fn new(dir: &Path) -> io::Result<Prepared> {
        let path = dir.join(format!("walrus-floor-{}.tmp", std::process::id()));
        let open = |flags| rustix::fs::open(&path, flags | OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR);
        let cached = File::from(open(OFlags::CREATE | OFlags::EXCL)?);
        let direct = open(OFlags::DIRECT);
        std::fs::remove_file(&path)?;
        // Really written, so that no measured write has to allocate.
        let zeros = vec![0; 1 << 20];
        for offset in (0..FILE_BYTES).step_by(zeros.len()) {
            std::os::unix::fs::FileExt::write_all_at(&cached, &zeros, offset as u64)?;
        }
        cached.sync_all()?;
        let (file, is_direct) = match direct {
            Ok(file) => (file, true),
            Err(Errno::INVAL) => (cached.into(), false),
            Err(error) => return Err(error.into()),
        };
        let memory = vec![0xA5; 2 * WRITE_BYTES];
        let start = memory.as_ptr().align_offset(WRITE_BYTES);
        Ok(Prepared { file, is_direct, memory, start, at: 0 })
    }

    /// Writes and flushes for `time`.
    pub(crate) fn measure(&mut self, flush: Flush, time: Duration) -> io::Result<Floor> {
        let (start, mut took) = (Instant::now(), Vec::new());
        while start.elapsed() < time {
            let before = Instant::now();
            self.write_once(flush)?;
            took.push(before.elapsed());
        }
        let seconds = start.elapsed().as_secs_f64();
        took.sort_unstable();
        let p50 = took.get(took.len() / 2).copied().unwrap_or_default();
        Ok(Floor { per_second: took.len() as f64 / seconds, p50, is_direct: self.is_direct })
    }

    fn write_once(&mut self, flush: Flush) -> io::Result<()> {
        let bytes = &self.memory[self.start..self.start + WRITE_BYTES];
        let offset = self.at as u64;
        self.at = (self.at + WRITE_BYTES) % FILE_BYTES;
        let written = match flush {
            Flush::Dsync => {
                let bytes = [io::IoSlice::new(bytes)];
                rustix::io::pwritev2(&self.file, &bytes, offset, ReadWriteFlags::DSYNC)?
            }
            Flush::Fdatasync => {
                let written = rustix::io::pwrite(&self.file, bytes, offset)?;
                rustix::fs::fdatasync(&self.file)?;
                written
            }
        };
        if written == WRITE_BYTES { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}
