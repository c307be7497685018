//! A write-ahead log for one Linux server. (The storage layer alone, until the branches are merged.)
#![allow(dead_code, unreachable_pub)]

mod ids;
mod limits;
mod lsn;
mod storage;

pub use storage::{Error as StorageError, InvalidIoMode, IoMode};

/// The simulated disk: crash-test this log, or your own application, on a disk that tears, loses and fails.
#[cfg(feature = "sim")]
pub mod sim {
    pub use crate::storage::sim::*;
}
