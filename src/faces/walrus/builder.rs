//! A handle, configured step by step.
//!
//! Layer: faces.

use std::io;
use std::path::PathBuf;

use super::options::append_level;
use super::{FsyncSchedule, ReadConsistency, Walrus, folder, shared};

/// What a [`Walrus`] is made of. Whatever is left out is as with [`Walrus::new`].
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is opened before `build`"]
pub struct WalrusBuilder {
    data_dir: Option<PathBuf>,
    key: Option<String>,
    consistency: Option<ReadConsistency>,
    fsync_schedule: Option<FsyncSchedule>,
}

impl WalrusBuilder {
    /// Nothing is chosen yet.
    pub fn new() -> WalrusBuilder {
        WalrusBuilder::default()
    }

    /// The folder, in place of `WALRUS_DATA_DIR`; with it, `WALRUS_INSTANCE_KEY` is not looked at either.
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> WalrusBuilder {
        self.data_dir = Some(dir.into());
        self
    }

    /// A log of its own, in a folder of that name within the other.
    pub fn key(mut self, key: &str) -> WalrusBuilder {
        self.key = Some(key.to_owned());
        self
    }

    /// When consumed positions become durable.
    pub fn consistency(mut self, mode: ReadConsistency) -> WalrusBuilder {
        self.consistency = Some(mode);
        self
    }

    /// When entries are flushed.
    pub fn fsync_schedule(mut self, schedule: FsyncSchedule) -> WalrusBuilder {
        self.fsync_schedule = Some(schedule);
        self
    }

    /// Opens the log.
    ///
    /// # Errors
    /// As [`Walrus::new`].
    pub fn build(self) -> io::Result<Walrus> {
        let root = folder::root(self.data_dir, self.key.as_deref());
        let schedule = self.fsync_schedule.unwrap_or(FsyncSchedule::Milliseconds(200));
        let consistency = self.consistency.unwrap_or(ReadConsistency::StrictlyAtOnce);
        Ok(Walrus { shared: shared::open(&root, schedule)?, consistency, level: Some(append_level(schedule)) })
    }
}
