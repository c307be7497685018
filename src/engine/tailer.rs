//! One topic as one stream: what is there, then what comes.
//!
//! Layer: engine.

use std::time::{Duration, Instant};

use super::Engine;
use crate::topic::reader::{LogEntry, ReadError, ReadLimit};

/// Reads a topic from an offset on and waits for more at its end. Catching up and going live are the same reads, so there is no
/// seam between them at which an entry could be missed or repeated.
pub struct Tailer {
    engine: Engine,
    topic: String,
    next_offset: u64,
}

impl Tailer {
    pub(super) fn new(engine: Engine, topic: String, next_offset: u64) -> Tailer {
        Tailer { engine, topic, next_offset }
    }

    /// The offset of the entry that comes next.
    pub fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// The next entries, at least one; none when `timeout` is over, or when the log was closed and everything has been read.
    ///
    /// A topic that does not exist yet is waited for.
    ///
    /// # Errors
    /// As [`Engine::read`], but for an unknown topic.
    pub fn next(&mut self, limit: ReadLimit, timeout: Duration) -> Result<Vec<LogEntry>, ReadError> {
        let watermark = self.engine.published();
        let deadline = Instant::now().checked_add(timeout); // none: the caller waits as long as it takes
        loop {
            // The watermark before the read: what is published in between is seen by the wait.
            let (seen, ended) = (watermark.lsn(), watermark.has_ended());
            let entries = match self.engine.read(&self.topic, self.next_offset, limit) {
                Err(ReadError::UnknownTopic(_)) => Vec::new(),
                read => read?,
            };
            if let Some(last) = entries.last() {
                self.next_offset = last.offset + 1;
                return Ok(entries);
            }
            let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() || ended {
                return Ok(entries);
            }
            watermark.wait_past(seen, left);
        }
    }
}
