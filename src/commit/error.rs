//! What became of an append that did not become durable.
//!
//! Layer: commit.

/// Why an append failed, and whether it may still appear.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The topic's name cannot be one. Nothing was written.
    #[error("`{name}` cannot be a topic: {reason}")]
    InvalidTopic {
        /// The name as given, shortened if it is long.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The batch has no entries, or too many. Nothing was written.
    #[error("a batch has 1 to {max} entries, this one has {entries}")]
    InvalidBatch {
        /// How many it has.
        entries: usize,
        /// How many it may have.
        max: usize,
    },
    /// The entry or the batch has too many bytes. Nothing was written.
    #[error("{what} of {bytes} bytes is longer than the largest, {max} bytes")]
    TooLarge {
        /// "an entry" or "a batch".
        what: &'static str,
        /// Its bytes.
        bytes: u64,
        /// The most it may have.
        max: u64,
    },
    /// The topic does not end where the caller believed. Nothing was written.
    #[error("topic `{topic}` goes on at offset {next}, not at {expected}")]
    UnexpectedOffset {
        /// The topic.
        topic: String,
        /// The offset that was expected.
        expected: u64,
        /// The offset that the next entry gets.
        next: u64,
    },
    /// The queue has no room, or the topic is busy, and the caller did not want to wait. Nothing was written.
    #[error("the log is busy: {reason}")]
    Busy {
        /// With what.
        reason: &'static str,
    },
    /// A follower takes no appends. Nothing was written.
    #[error("this log is a follower's: it takes no appends")]
    NotLeader,
    /// There is no room on the disk. Nothing was written, no offset was given out; later appends may succeed.
    #[error("the disk is full: {reason}")]
    Full {
        /// What could not be made.
        reason: String,
    },
    /// The log takes no writes any more. Nothing of this append was written.
    #[error("the log takes no writes: {reason}")]
    Halted {
        /// Why.
        reason: String,
    },
    /// A write or a flush failed with this append in it, and so did writing it once more. It was cut off durably: it is not in the log
    /// and will never appear. The log takes no writes until it is opened again.
    #[error("rolled back, it will never appear: {reason}")]
    RolledBack {
        /// What failed.
        reason: String,
    },
    /// A write or a flush failed with this append in it: whether it is in the log is not known until the log is opened again.
    #[error("not known until the log is opened again: {reason}")]
    Indeterminate {
        /// What failed.
        reason: String,
    },
    /// The log was closed. Nothing of this append was written.
    #[error("the log is closed")]
    Closed,
}

impl AppendError {
    /// Whether the same append may succeed if it is tried again, on this handle, without being in the log twice.
    pub fn is_retryable(&self) -> bool {
        matches!(self, AppendError::Full { .. } | AppendError::Busy { .. })
    }
}
