//! Named read positions of a log, as a program sees them.
//!
//! Layer: engine.

use super::Engine;
use crate::topic::cursor::{Cursor, CursorError};

impl Engine {
    /// Where the cursor `name` stands in `topic`: the offset of the entry that comes next; `None` if it was never set.
    pub fn cursor(&self, name: &str, topic: &str) -> Option<u64> {
        self.inner.cursors.get(name, topic)
    }

    /// Sets the cursor `name` in `topic`, forwards or backwards. It is durable when this returns; those who set at the same time share one
    /// write of all cursors, which together take at most 4 MiB (16 bytes each, and two names).
    ///
    /// Cursors are this folder's own: a follower has none of its leader's.
    ///
    /// # Errors
    /// As [`CursorError`] says; only after [`CursorError::Storage`] is it open where the cursor stands after the next open.
    pub fn set_cursor(&self, name: &str, topic: &str, offset: u64) -> Result<(), CursorError> {
        let next_offset = self.topic(topic).map_or(0, |topic| topic.next_offset);
        if offset > next_offset {
            return Err(CursorError::BeyondEnd { topic: topic.to_owned(), asked: offset, next_offset });
        }
        self.inner.cursors.set(name, topic, Some(offset))
    }

    /// Removes a cursor, durably. One that does not exist is removed already.
    ///
    /// # Errors
    /// As [`Engine::set_cursor`].
    pub fn remove_cursor(&self, name: &str, topic: &str) -> Result<(), CursorError> {
        match self.cursor(name, topic) {
            Some(_) => self.inner.cursors.set(name, topic, None),
            None => Ok(()),
        }
    }

    /// Every cursor, by name and topic.
    pub fn cursors(&self) -> Vec<Cursor> {
        self.inner.cursors.all()
    }
}
