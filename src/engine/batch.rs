//! A batch that is fed entry by entry, of any size, in bounded memory; all or nothing like every other.
//!
//! ```text
//!   push, push, push ...   a part of one block is full -> staged; at most eight parts wait for the disk
//!   commit                 everything fits one block: a plain append; otherwise the last part, and a COMMIT
//! ```
//!
//! Layer: engine. Uses `commit`. Knows nothing of how parts become blocks.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::{AppendOptions, Engine};
use crate::commit::error::AppendError;
use crate::commit::staging::Staging;
use crate::commit::submission::{Append, EndBatch, Level, Payload, Payloads, Submission, TopicSlot};
use crate::commit::ticket::{Reply, Ticket, ticket};
use crate::limits::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, BATCH_ENTRY_OVERHEAD, BLOCK_ENTRIES_MAX};

/// Parts on their way to the disk at a time: enough to keep it busy, and all the memory that a batch takes of ours.
const PARTS_WAITING_MAX: usize = 8;

/// A batch under way. Dropped without [`BatchWriter::commit`] it leaves nothing behind.
pub struct BatchWriter {
    engine: Engine,
    topic: Arc<TopicSlot>,
    options: AppendOptions,
    staging: Arc<Staging>,
    /// What is gathered of the next part.
    part: Vec<Payload>,
    part_bytes: usize,
    part_entries: usize,
    waiting: VecDeque<Ticket>,
    parts: u64,
    entries: usize,
    bytes: u64,
    /// It was committed, or a part of it failed.
    ended: bool,
}

impl BatchWriter {
    pub(super) fn new(engine: Engine, topic: Arc<TopicSlot>, options: AppendOptions) -> BatchWriter {
        BatchWriter {
            engine,
            topic,
            options,
            staging: Arc::default(),
            part: Vec::new(),
            part_bytes: 0,
            part_entries: 0,
            waiting: VecDeque::new(),
            parts: 0,
            entries: 0,
            bytes: 0,
            ended: false,
        }
    }

    /// Adds an entry. Waits for the disk when a few megabytes of the batch are on their way to it.
    ///
    /// # Errors
    /// More than 2,000 entries or 10 GiB in all; whatever a part of the batch failed with. The batch is lost then.
    pub fn push(&mut self, entry: impl Into<Bytes>) -> Result<(), AppendError> {
        let entry = entry.into();
        self.check(&entry).inspect_err(|_| self.abort())?;
        let limit = self.engine.inner.limit;
        for payload in Payload::cut(entry, limit.payload_bytes_max(1)) {
            let n = self.part.len();
            let fits = self.part_bytes + payload.bytes.len() <= limit.payload_bytes_max(n + 1);
            if n > 0 && (n == BLOCK_ENTRIES_MAX || !fits) {
                self.send_part()?;
            }
            self.part_bytes += payload.bytes.len();
            self.part_entries += usize::from(payload.begins_an_entry());
            self.part.push(payload);
        }
        Ok(())
    }

    fn check(&mut self, entry: &Bytes) -> Result<(), AppendError> {
        if self.ended {
            return Err(AppendError::Closed);
        }
        self.entries += 1;
        self.bytes += entry.len() as u64 + BATCH_ENTRY_OVERHEAD;
        if self.entries > BATCH_ENTRIES_MAX {
            return Err(AppendError::InvalidBatch { entries: self.entries, max: BATCH_ENTRIES_MAX });
        }
        if self.bytes > BATCH_BYTES_MAX {
            return Err(AppendError::TooLarge { what: "a batch", bytes: self.bytes, max: BATCH_BYTES_MAX });
        }
        Ok(())
    }

    /// Makes the batch visible, all of it. The ticket says when it is durable, or written, as was asked for.
    ///
    /// # Errors
    /// A batch without entries; whatever a part of it failed with.
    pub fn commit(mut self) -> Result<Ticket, AppendError> {
        if self.entries == 0 {
            return Err(AppendError::InvalidBatch { entries: 0, max: BATCH_ENTRIES_MAX });
        }
        if self.ended {
            return Err(AppendError::Closed);
        }
        let (ticket, reply) = ticket();
        if self.parts == 0 {
            self.ended = true;
            let append = self.take_part(None, self.level(), self.options.expect_offset, reply);
            self.engine.inner.queue.push(append)?;
            return Ok(ticket);
        }
        self.send_part()?;
        while let Some(part) = self.waiting.pop_front() {
            self.wait_for(part)?;
        }
        self.ended = true;
        self.engine.inner.queue.push(self.end(true, reply))?;
        Ok(ticket)
    }

    fn level(&self) -> Level {
        self.options.level.unwrap_or(self.engine.inner.level)
    }

    fn send_part(&mut self) -> Result<(), AppendError> {
        if self.waiting.len() == PARTS_WAITING_MAX
            && let Some(first) = self.waiting.pop_front()
        {
            self.wait_for(first)?;
        }
        let (ticket, reply) = ticket();
        // Written is enough for a part: the COMMIT is flushed, and its flush covers what lies before it.
        let part = self.take_part(Some(Arc::clone(&self.staging)), Level::Written, None, reply);
        self.engine.inner.queue.push(part).inspect_err(|_| self.ended = true)?;
        self.parts += 1;
        self.waiting.push_back(ticket);
        Ok(())
    }

    fn wait_for(&mut self, part: Ticket) -> Result<(), AppendError> {
        part.wait().map(|_| ()).inspect_err(|_| self.abort())
    }

    fn take_part(
        &mut self,
        staging: Option<Arc<Staging>>,
        level: Level,
        expect_offset: Option<u64>,
        reply: Reply,
    ) -> Submission {
        let payloads = Payloads::Many(std::mem::take(&mut self.part));
        let payload_bytes = std::mem::take(&mut self.part_bytes);
        let n_entries = std::mem::take(&mut self.part_entries);
        let topic = Arc::clone(&self.topic);
        Submission::Append(Append { topic, payloads, n_entries, payload_bytes, level, expect_offset, staging, reply })
    }

    fn end(&self, commit: bool, reply: Reply) -> Submission {
        Submission::EndBatch(EndBatch {
            topic: Arc::clone(&self.topic),
            staging: Arc::clone(&self.staging),
            n_entries: self.entries as u64,
            commit,
            level: if commit { self.level() } else { Level::Written },
            expect_offset: self.options.expect_offset.filter(|_| commit),
            reply,
        })
    }

    /// Gives the batch up. What is staged of it is dead weight in the log, and nothing more.
    fn abort(&mut self) {
        if self.ended {
            return;
        }
        self.ended = true;
        for part in self.waiting.drain(..) {
            let _ = part.wait();
        }
        // Parts that were all refused have left nothing to give up.
        if self.staging.planned().txn.is_some() {
            let _ = self.engine.inner.queue.push(self.end(false, Reply::none()));
        }
    }
}

impl Drop for BatchWriter {
    fn drop(&mut self) {
        self.abort();
    }
}
