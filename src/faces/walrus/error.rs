//! The engine's errors as `io::Error`: the kind says what happened, and the error itself is inside.
//!
//! Layer: faces.

use std::io::{self, ErrorKind};

use crate::commit::error::AppendError;
use crate::limits::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, BATCH_ENTRY_OVERHEAD};
use crate::log::recovery::OpenError;
use crate::topic::cursor::CursorError;
use crate::topic::reader::ReadError;

pub(super) fn invalid_input(text: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, text.into())
}

// These begin with the original's words: there are programs that look for them.

pub(super) fn too_many_entries(entries: usize) -> io::Error {
    invalid_input(format!("batch exceeds {BATCH_ENTRIES_MAX} entry limit: it has {entries}"))
}

pub(super) fn too_many_bytes(bytes: u64) -> io::Error {
    let text = "batch exceeds 10GB limit";
    invalid_input(format!(
        "{text}: it has {bytes} bytes with {BATCH_ENTRY_OVERHEAD} for each entry, at most {BATCH_BYTES_MAX}"
    ))
}

pub(super) fn batch_before_append() -> io::Error {
    io::Error::new(ErrorKind::WouldBlock, "batch write in progress for this topic")
}

pub(super) fn batch_before_batch() -> io::Error {
    io::Error::new(ErrorKind::WouldBlock, "another batch write already in progress for this topic")
}

pub(super) fn no_descriptors() -> io::Error {
    let text = "the log was opened with mapped files and has no file descriptors for io_uring: call disable_fd_backend, or open it anew";
    io::Error::new(ErrorKind::Unsupported, text)
}

pub(super) fn of_open(error: OpenError) -> io::Error {
    let kind = match &error {
        OpenError::Locked(_) => ErrorKind::ResourceBusy,
        OpenError::Damaged(_) | OpenError::SuperblockDamaged { .. } | OpenError::FileDamaged { .. } => {
            ErrorKind::InvalidData
        }
        OpenError::Newer { .. } => ErrorKind::Unsupported,
        OpenError::Role { .. } | OpenError::OtherLog { .. } => ErrorKind::PermissionDenied,
        OpenError::NoLog => ErrorKind::NotFound,
        OpenError::Storage(error) => error.kind(),
        OpenError::Halted { .. } => ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

pub(super) fn of_append(error: AppendError) -> io::Error {
    let kind = match &error {
        AppendError::InvalidTopic { .. } | AppendError::InvalidBatch { .. } | AppendError::TooLarge { .. } => {
            ErrorKind::InvalidInput
        }
        AppendError::NotLeader => ErrorKind::PermissionDenied,
        AppendError::Full { .. } => ErrorKind::StorageFull,
        AppendError::Busy { .. } => ErrorKind::WouldBlock,
        AppendError::Closed => ErrorKind::BrokenPipe,
        // Never a kind after which callers try again: the entries may be there already, or can never be.
        AppendError::UnexpectedOffset { .. }
        | AppendError::Halted { .. }
        | AppendError::RolledBack { .. }
        | AppendError::Indeterminate { .. } => ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

pub(super) fn of_read(error: ReadError) -> io::Error {
    let kind = match &error {
        ReadError::Damaged { .. } => ErrorKind::InvalidData,
        ReadError::Storage(error) => error.kind(),
        _ => ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

pub(super) fn of_cursor(error: CursorError) -> io::Error {
    let kind = match &error {
        CursorError::TooMany { .. } => ErrorKind::QuotaExceeded,
        CursorError::Storage { kind, .. } => *kind,
        _ => ErrorKind::Other,
    };
    io::Error::new(kind, error)
}
