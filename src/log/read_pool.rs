//! Memory for large reads, used again when the last entry that was read into it is dropped.
//!
//! ```text
//!   take --> ReadBuf --filled--> Bytes, cut into blocks and entries --last one dropped--> back in the pool
//! ```
//!
//! New memory of that size comes from the kernel, zeroed, with a page fault for each 4 KiB, and goes back to it: that cost more than to
//! read and to verify what it holds (docs/decisions/0006). A small read has memory of its own size, so that an entry which somebody keeps
//! does not keep a large buffer with it.
//!
//! Layer: log. Knows nothing of what is read.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard};

/// Bytes of a buffer of the pool: with what is made of it, it stays in a core's own cache.
pub(crate) const POOLED_BYTES: usize = 512 << 10;

/// Buffers that are kept: one for each of so many readers at a time.
const KEPT_MAX: usize = 8;

/// The buffers that nobody uses.
#[derive(Clone, Default)]
pub(crate) struct ReadPool {
    free: Arc<Mutex<Vec<Box<[u8]>>>>,
}

/// A buffer of a read.
pub(crate) struct ReadBuf {
    memory: Box<[u8]>,
    len: usize,
    pool: ReadPool,
}

impl ReadPool {
    fn free(&self) -> MutexGuard<'_, Vec<Box<[u8]>>> {
        self.free.lock().expect("no holder of this lock panics")
    }

    /// A buffer of `len` bytes, whatever they are.
    pub(crate) fn take(&self, len: usize) -> ReadBuf {
        let is_pooled = (POOLED_BYTES / 4..=POOLED_BYTES).contains(&len);
        let used = if is_pooled { self.free().pop() } else { None };
        let bytes = if is_pooled { POOLED_BYTES } else { len };
        let memory = used.unwrap_or_else(|| vec![0; bytes].into());
        ReadBuf { memory, len, pool: self.clone() }
    }
}

impl AsRef<[u8]> for ReadBuf {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

impl Deref for ReadBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_ref()
    }
}

impl DerefMut for ReadBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.len]
    }
}

impl Drop for ReadBuf {
    fn drop(&mut self) {
        if self.memory.len() != POOLED_BYTES {
            return; // most reads are small: no lock for them
        }
        let mut free = self.pool.free();
        if free.len() < KEPT_MAX {
            free.push(std::mem::take(&mut self.memory));
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_large_buffer_comes_back_when_its_last_piece_is_dropped_and_a_small_one_does_not() {
        let pool = ReadPool::default();
        let bytes = Bytes::from_owner(pool.take(POOLED_BYTES - 1));
        let piece = bytes.slice(7..9);
        drop(bytes);
        assert_eq!(pool.free().len(), 0, "a piece of it is in use");
        drop(piece);
        assert_eq!(pool.free().len(), 1);
        drop(pool.take(4096));
        drop(pool.take(POOLED_BYTES + 1));
        assert_eq!(pool.free().len(), 1);
        assert_eq!(pool.take(POOLED_BYTES).len(), POOLED_BYTES);
        assert_eq!(pool.free().len(), 1, "it was used again and came back");
    }

    #[test]
    fn no_more_are_kept_than_so_many() {
        let pool = ReadPool::default();
        let taken: Vec<_> = (0..KEPT_MAX + 3).map(|_| pool.take(POOLED_BYTES)).collect();
        drop(taken);
        assert_eq!(pool.free().len(), KEPT_MAX);
    }
}
