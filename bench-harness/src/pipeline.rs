//! The floor with several writes in flight: io_uring, past the page cache, each write durable on its own (RWF_DSYNC) or, for the
//! bandwidth, all of them together by one flush at the end.
//!
//! ```text
//!   depth 4    write --- write --- write --- write --- ...        as one completes, the next goes out in its place
//!              write --- write --- ...
//! ```
//!
//! Knows the prepared file and nothing of logs.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, types};

use crate::floor::{Aligned, Floor, Prepared};

/// RWF_DSYNC, as the kernel numbers it.
const RWF_DSYNC: u32 = 2;

/// What is in flight together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pipeline {
    pub(crate) bytes: usize,
    pub(crate) depth: u32,
    /// Each write is durable when it completes; otherwise a flush at the end makes all of them so.
    pub(crate) is_durable: bool,
}

impl Pipeline {
    /// Keeps its depth in flight for `time`, then waits for what is.
    ///
    /// # Errors
    /// No ring, or a write that failed or was short.
    pub(crate) fn measure(self, file: &mut Prepared, time: Duration) -> io::Result<Floor> {
        let mut flights = Flights::new(self)?;
        let start = Instant::now();
        let mut took = Vec::new();
        for slot in 0..self.depth {
            flights.submit(slot, file)?;
        }
        while flights.in_flight > 0 {
            for slot in flights.complete(&mut took)? {
                if start.elapsed() < time {
                    flights.submit(slot, file)?;
                }
            }
        }
        if !self.is_durable {
            rustix::fs::fdatasync(&file.file)?;
        }
        Ok(Floor::of(took, start.elapsed().as_secs_f64(), file.is_direct))
    }
}

/// The writes under way. Their memory lives as long as the ring, and longer than any of them.
struct Flights {
    ring: IoUring,
    kind: Pipeline,
    memory: Arc<Aligned>,
    /// By slot: when its write went out.
    sent: Vec<Instant>,
    in_flight: u32,
}

impl Flights {
    fn new(kind: Pipeline) -> io::Result<Flights> {
        let ring = IoUring::new(kind.depth.next_power_of_two())?;
        let sent = vec![Instant::now(); kind.depth as usize];
        Ok(Flights { ring, kind, memory: Arc::new(Aligned::new(kind.bytes)?), sent, in_flight: 0 })
    }

    /// Sends the next write of a slot that has none in flight.
    fn submit(&mut self, slot: u32, file: &mut Prepared) -> io::Result<()> {
        let offset = file.next_offset(self.kind.bytes);
        let bytes = self.memory.bytes();
        let write = opcode::Write::new(types::Fd(file.file.as_raw_fd()), bytes.as_ptr(), bytes.len() as u32)
            .offset(offset)
            .rw_flags(if self.kind.is_durable { RWF_DSYNC as _ } else { 0 })
            .build()
            .user_data(u64::from(slot));
        self.sent[slot as usize] = Instant::now();
        // SAFETY: the kernel only reads `memory`, which nobody changes, and which `Flights` frees after every write has completed
        // (its `drop` waits); the descriptor is open as long as `Prepared` lives, which is longer than `measure`.
        unsafe { self.ring.submission().push(&write) }.map_err(|_| io::Error::other("the ring has no room"))?;
        self.in_flight += 1;
        self.ring.submit().map(drop)
    }

    /// Waits for one completion at least, and returns the slots that are free again.
    fn complete(&mut self, took: &mut Vec<Duration>) -> io::Result<Vec<u32>> {
        self.ring.submit_and_wait(1)?;
        let now = Instant::now();
        let mut free = Vec::new();
        for completion in self.ring.completion() {
            self.in_flight -= 1;
            let result = completion.result();
            if result < 0 {
                return Err(io::Error::from_raw_os_error(-result));
            }
            if result as usize != self.kind.bytes {
                return Err(io::ErrorKind::WriteZero.into());
            }
            let slot = completion.user_data() as u32;
            took.push(now - self.sent[slot as usize]);
            free.push(slot);
        }
        Ok(free)
    }
}

impl Drop for Flights {
    fn drop(&mut self) {
        while self.in_flight > 0 {
            if self.ring.submit_and_wait(1).is_err() {
                // No completion will come, and the kernel may still read: the memory stays.
                std::mem::forget(Arc::clone(&self.memory));
                return;
            }
            self.in_flight -= self.ring.completion().count() as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_writes_its_whole_depth_over_and_over_and_waits_for_all_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = Prepared::new(dir.path(), 1 << 20).unwrap();
        for is_durable in [true, false] {
            let kind = Pipeline { bytes: 64 << 10, depth: 4, is_durable };
            let floor = match kind.measure(&mut file, Duration::from_millis(30)) {
                Ok(floor) => floor,
                Err(error) if std::env::var_os("WALRUS_REQUIRE_PRIVILEGED").is_none() => {
                    return eprintln!("skipped: no io_uring here ({error})");
                }
                Err(error) => panic!("{error}"),
            };
            assert!(floor.count >= 4 && floor.per_second > 0.0 && floor.p50 <= floor.p99, "{floor:?}");
        }
    }
}
