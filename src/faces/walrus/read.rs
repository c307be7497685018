//! Reading: the next entry, or many, with or without consuming them.
//!
//! A topic has one read position. A read that consumes moves it; by the rule of the handle it is made durable first, as a cursor of the
//! engine, and if that fails nothing is consumed.
//!
//! Layer: faces.

use std::collections::VecDeque;
use std::io;

use super::options::fd_backend;
use super::shared::{CURSOR, Topic};
use super::{Entry, Walrus, error};
use crate::limits::BATCH_ENTRIES_MAX;
use crate::topic::reader::{LogEntry, ReadError, ReadLimit};

/// What `read_next` takes from the log at a time, or it would read and sum a block for each of its entries. Kept for each topic that is
/// read, so it is small.
const AHEAD: ReadLimit = ReadLimit { entries: 64, bytes: 64 << 10 };

/// How far a topic has been read.
pub(super) struct Position {
    /// The offset of the entry that comes next.
    next: u64,
    /// Entries consumed since the position was last made durable.
    unsaved: u64,
    /// Entries from `next` on that have been read already.
    ahead: VecDeque<Vec<u8>>,
}

impl Position {
    pub(super) fn at(next: u64) -> Position {
        Position { next, unsaved: 0, ahead: VecDeque::new() }
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }
}

impl Walrus {
    /// The next entry of a topic; `None` at its end, and for a topic that does not exist. With `checkpoint` it is consumed, without it is
    /// merely looked at.
    ///
    /// # Errors
    /// Damage, a failed read, or a position that could not be made durable; nothing is consumed then.
    pub fn read_next(&self, col_name: &str, checkpoint: bool) -> io::Result<Option<Entry>> {
        let topic = self.shared.topic(col_name)?;
        let mut position = topic.position();
        if position.ahead.is_empty() {
            let entries = self.read_log(&topic, &mut position, AHEAD)?;
            position.ahead.extend(entries.into_iter().map(|entry| entry.payload.to_vec()));
        }
        if !checkpoint || position.ahead.is_empty() {
            return Ok(position.ahead.front().map(|data| Entry { data: data.clone() }));
        }
        let bytes = position.ahead.front().map_or(0, Vec::len);
        self.consume(&topic, &mut position, 1, bytes)?;
        Ok(position.ahead.pop_front().map(|data| Entry { data }))
    }

    /// The next entries of a topic: at most 2,000, and at most `max_bytes` of payload, but one if there is one. None at its end. With
    /// `checkpoint` they are consumed, without they are merely looked at.
    ///
    /// # Errors
    /// As [`Walrus::read_next`]; `Unsupported` as [`Walrus::batch_append_for_topic`].
    pub fn batch_read_for_topic(&self, col_name: &str, max_bytes: usize, checkpoint: bool) -> io::Result<Vec<Entry>> {
        let topic = self.shared.topic(col_name)?;
        let mut position = topic.position();
        let limit = ReadLimit { entries: BATCH_ENTRIES_MAX, bytes: max_bytes };
        let entries = self.read_log(&topic, &mut position, limit)?;
        if !entries.is_empty() && self.shared.mapped && fd_backend() {
            return Err(error::no_descriptors());
        }
        if checkpoint && !entries.is_empty() {
            let bytes = entries.iter().map(|entry| entry.payload.len()).sum();
            self.consume(&topic, &mut position, entries.len() as u64, bytes)?;
            let read_already = entries.len().min(position.ahead.len());
            position.ahead.drain(..read_already);
        }
        Ok(entries.into_iter().map(|entry| Entry { data: entry.payload.to_vec() }).collect())
    }

    fn read_log(&self, topic: &Topic, position: &mut Position, limit: ReadLimit) -> io::Result<Vec<LogEntry>> {
        loop {
            match self.shared.log.read(&topic.name, position.next, limit) {
                Err(ReadError::UnknownTopic(_)) => return Ok(Vec::new()),
                // Retention has taken entries that nobody had read: they cannot be had any more, what follows can.
                Err(ReadError::Trimmed { first_offset, .. }) => *position = Position::at(first_offset),
                read => return read.map_err(error::of_read),
            }
        }
    }

    /// Moves the position past `n` entries of so many bytes, durably first if it is due.
    fn consume(&self, topic: &Topic, position: &mut Position, n: u64, bytes: usize) -> io::Result<()> {
        let (next, unsaved) = (position.next + n, position.unsaved + n);
        let due = unsaved >= self.consistency.persist_every();
        if due {
            self.shared.log.set_cursor(CURSOR, &topic.name, next).map_err(error::of_cursor)?;
        }
        (position.next, position.unsaved) = (next, if due { 0 } else { unsaved });
        self.shared.give_back_after(n, bytes);
        Ok(())
    }
}
