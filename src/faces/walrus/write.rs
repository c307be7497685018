//! Appending: one entry, or a batch that is all or nothing.
//!
//! ```text
//!   validate --> take the flag --> plan, write, one flush a file, or back to the state before --> let go of the flag
//!   InvalidInput  WouldBlock       the engine's
//! ```
//!
//! The flag is per topic and never waited for. A guard lets it go, whatever happens in between.
//!
//! Layer: faces.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::options::fd_backend;
use super::{Walrus, error};
use crate::commit::error::AppendError;
use crate::commit::submission::Level;
use crate::commit::ticket::Ticket;
use crate::engine::AppendOptions;
use crate::limits::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, BATCH_ENTRY_OVERHEAD, GROUP_BYTES_MAX};

/// Payload of a batch that is copied whole and written as one group. A larger one is copied and staged entry by entry, so that it need
/// not be in memory twice.
const WHOLE_BYTES_MAX: u64 = GROUP_BYTES_MAX as u64 / 2;

/// Whoever has it is the one batch that a topic has in progress.
struct BatchFlag<'a>(&'a AtomicBool);

impl<'a> BatchFlag<'a> {
    fn take(flag: &'a AtomicBool) -> io::Result<BatchFlag<'a>> {
        match flag.compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(BatchFlag(flag)),
            Err(_) => Err(error::batch_before_batch()),
        }
    }
}

impl Drop for BatchFlag<'_> {
    /// Also in a panic.
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Walrus {
    /// Appends one entry to a topic, which is made with its first.
    ///
    /// # Errors
    /// `WouldBlock`, at once, while a batch to that topic is in progress; and as [`Walrus`] says.
    pub fn append_for_topic(&self, col_name: &str, raw_bytes: &[u8]) -> io::Result<()> {
        let topic = self.shared.topic(col_name)?;
        if topic.batch_in_progress.load(Ordering::Acquire) {
            return Err(error::batch_before_append());
        }
        let options = AppendOptions { level: self.level, expect_offset: None };
        let entries = vec![Bytes::copy_from_slice(raw_bytes)];
        self.shared.log.append_and_wait(&topic.name, entries, options).map_err(error::of_append)?;
        Ok(())
    }

    /// Appends up to 2,000 entries and 10 GB (10 x 2^30 bytes, payload and 24 bytes an entry) to one topic, all or nothing: readers see all
    /// of it once it is durable, and after a failure or a power cut there is all of it or what was there before. No entries are no batch.
    ///
    /// Batches to different topics go on together.
    ///
    /// # Errors
    /// `InvalidInput` before anything else is looked at; `WouldBlock`, at once, while another batch to that topic is in progress;
    /// `Unsupported` on a log opened after [`disable_fd_backend`](super::disable_fd_backend) when
    /// [`enable_fd_backend`](super::enable_fd_backend) has been called since; and as [`Walrus`] says.
    pub fn batch_append_for_topic(&self, col_name: &str, batch: &[&[u8]]) -> io::Result<()> {
        let topic = self.shared.topic(col_name)?;
        let bytes = validate(batch)?;
        if batch.is_empty() {
            return Ok(());
        }
        let _flag = BatchFlag::take(&topic.batch_in_progress)?;
        if self.shared.mapped && fd_backend() {
            return Err(error::no_descriptors());
        }
        self.append_whole(&topic.name, batch, bytes).and_then(Ticket::wait).map_err(error::of_append)?;
        Ok(())
    }

    fn append_whole(&self, topic: &str, batch: &[&[u8]], bytes: u64) -> Result<Ticket, AppendError> {
        let options = AppendOptions { level: Some(Level::Durable), expect_offset: None };
        let mut entries = batch.iter().map(|entry| Bytes::copy_from_slice(entry));
        if bytes <= WHOLE_BYTES_MAX {
            return self.shared.log.append_with(topic, entries.collect(), options);
        }
        let mut staged = self.shared.log.begin_batch(topic, options)?;
        entries.try_for_each(|entry| staged.push(entry))?;
        staged.commit()
    }
}

/// The bytes of a batch, payload and what each entry counts beside it.
fn validate(batch: &[&[u8]]) -> io::Result<u64> {
    if batch.len() > BATCH_ENTRIES_MAX {
        return Err(error::too_many_entries(batch.len()));
    }
    let bytes: u64 = batch.iter().map(|entry| entry.len() as u64 + BATCH_ENTRY_OVERHEAD).sum();
    if bytes > BATCH_BYTES_MAX {
        return Err(error::too_many_bytes(bytes));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_is_taken_by_one_and_let_go_even_in_a_panic() {
        let flag = AtomicBool::new(false);
        let panicked = std::panic::catch_unwind(|| {
            let _taken = BatchFlag::take(&flag).unwrap();
            assert_eq!(BatchFlag::take(&flag).err().unwrap().kind(), io::ErrorKind::WouldBlock);
            panic!("in the middle of a batch");
        });
        assert!(panicked.is_err());
        assert!(BatchFlag::take(&flag).is_ok());
    }

    /// No such batch is ever copied: the same bytes stand in for all entries.
    #[test]
    fn a_batch_of_2_000_entries_and_of_10_gb_passes_and_one_more_of_either_does_not() {
        let kind = |batch: &[&[u8]]| validate(batch).map(|_| ()).map_err(|error| error.kind());
        assert_eq!(kind(&[&b"x"[..]; 2000]), Ok(()));
        assert_eq!(kind(&[&b"x"[..]; 2001]), Err(io::ErrorKind::InvalidInput));
        let piece = vec![0; (10 << 30) / 1024 - 24];
        let mut batch = vec![&piece[..]; 1024];
        assert_eq!(kind(&batch), Ok(()), "exactly 10 x 2^30 with 24 bytes an entry");
        let longer = vec![0; piece.len() + 1];
        batch[7] = &longer;
        assert_eq!(kind(&batch), Err(io::ErrorKind::InvalidInput));
    }
}
