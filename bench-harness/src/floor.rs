//! The floor: what the device itself does, without any log. A write past the page cache into a prepared file, and its flush, one after
//! the other; nothing that makes each append durable on its own can be faster at depth 1.
//!
//! Also compiled into the command, for `demo`: one instrument, one definition. Several writes in flight are `pipeline.rs`.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use memmap2::{Advice, MmapMut};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

/// Bytes of a huge page, which is more than direct I/O may ask for.
const HUGE_BYTES: usize = 2 << 20;
/// The least that a log can write.
pub(crate) const WRITE_BYTES: usize = 4096;

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
    pub(crate) count: u64,
    pub(crate) per_second: f64,
    /// The median time of one.
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// Past the page cache: not every file system can.
    pub(crate) is_direct: bool,
}

/// Two measurements of one device further apart than this were not of a quiet one.
pub(crate) const QUIET_RATIO: f64 = 1.5;

impl Floor {
    /// Of the times that single writes took within `seconds`.
    pub(crate) fn of(mut took: Vec<Duration>, seconds: f64, is_direct: bool) -> Floor {
        took.sort_unstable();
        let at = |share: f64| took.get((took.len() as f64 * share) as usize).copied().unwrap_or_default();
        Floor {
            count: took.len() as u64,
            per_second: took.len() as f64 / seconds,
            p50: at(0.5),
            p99: at(0.99),
            is_direct,
        }
    }
}

/// Memory that direct I/O can write from; in huge pages, where the kernel has them, for what lies together leaves fastest, and the floor is
/// the best that can be done.
pub(crate) struct Aligned {
    memory: MmapMut,
    start: usize,
    len: usize,
}

impl Aligned {
    pub(crate) fn new(len: usize) -> io::Result<Aligned> {
        let mut memory = MmapMut::map_anon(len.next_multiple_of(HUGE_BYTES) + HUGE_BYTES)?;
        let _ = memory.advise(Advice::HugePage); // without them it is slower, and the floor of this machine
        let start = memory.as_ptr().align_offset(HUGE_BYTES);
        memory[start..start + len].fill(0xA5);
        Ok(Aligned { memory, start, len })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}

/// A prepared file in `dir`, without a name: it is gone when this is.
pub(crate) struct Prepared {
    pub(crate) file: OwnedFd,
    pub(crate) file_bytes: u64,
    pub(crate) is_direct: bool,
    pub(crate) at: u64,
}

impl Prepared {
    /// Of `file_bytes`, which are overwritten again and again from the start.
    pub(crate) fn new(dir: &Path, file_bytes: u64) -> io::Result<Prepared> {
        let path = dir.join(format!("walrus-floor-{}.tmp", std::process::id()));
        let open = |flags| rustix::fs::open(&path, flags | OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR);
        let cached = File::from(open(OFlags::CREATE | OFlags::EXCL)?);
        let direct = open(OFlags::DIRECT);
        std::fs::remove_file(&path)?;
        // Really written, so that no measured write has to allocate.
        let zeros = vec![0; 1 << 20];
        for offset in (0..file_bytes).step_by(zeros.len()) {
            std::os::unix::fs::FileExt::write_all_at(&cached, &zeros, offset)?;
        }
        cached.sync_all()?;
        let (file, is_direct) = match direct {
            Ok(file) => (file, true),
            Err(Errno::INVAL) => (cached.into(), false),
            Err(error) => return Err(error.into()),
        };
        Ok(Prepared { file, file_bytes, is_direct, at: 0 })
    }

    /// Writes 4 KiB and flushes, for `time`.
    pub(crate) fn measure(&mut self, flush: Flush, time: Duration) -> io::Result<Floor> {
        self.measure_of(WRITE_BYTES, flush, time)
    }

    /// The same with writes of `bytes`, a multiple of a page.
    pub(crate) fn measure_of(&mut self, bytes: usize, flush: Flush, time: Duration) -> io::Result<Floor> {
        let memory = Aligned::new(bytes)?;
        let (start, mut took) = (Instant::now(), Vec::new());
        let mut before = start;
        while before - start < time {
            self.write_once(memory.bytes(), flush)?;
            let after = Instant::now();
            took.push(after - before);
            before = after;
        }
        Ok(Floor::of(took, (before - start).as_secs_f64(), self.is_direct))
    }

    /// Where the next write of `bytes` goes: one behind the other, and at the end of the file from its start again.
    pub(crate) fn next_offset(&mut self, bytes: usize) -> u64 {
        let bytes = bytes as u64;
        assert!(bytes <= self.file_bytes, "{bytes} bytes do not fit into the {} of the prepared file", self.file_bytes);
        let offset = if self.at + bytes <= self.file_bytes { self.at } else { 0 };
        self.at = offset + bytes;
        offset
    }

    fn write_once(&mut self, bytes: &[u8], flush: Flush) -> io::Result<()> {
        let offset = self.next_offset(bytes.len());
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
        if written == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}
