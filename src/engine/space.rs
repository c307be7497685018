//! Giving away what nobody needs any more.
//!
//! Layer: engine. What is kept without being asked for is an option ([`Options::retain_bytes`](super::Options::retain_bytes),
//! [`Options::retain_age`](super::Options::retain_age)).

use std::collections::BTreeMap;

use super::Engine;
use crate::log::keeper::TrimError;
use crate::lsn::Lsn;

impl Engine {
    /// Gives away the oldest segments, as far as all their blocks lie below `before`; never the one that is written, and never part of a
    /// batch. Returns the first block that is left, once it is durable that the log begins there; the files go afterwards, one at a
    /// time, or are used again.
    ///
    /// # Errors
    /// As [`TrimError`] says: nothing was given away then.
    pub fn trim(&self, before: Lsn) -> Result<Lsn, TrimError> {
        self.inner.keeper.trim(before)?;
        Ok(self.inner.segments.beginning().lsn)
    }

    /// Packs every full segment that would take a quarter less without its padding, now; by itself the log does it when it is idle.
    /// LSNs, offsets and the chain stay as they are. Returns the bytes saved since the log was opened.
    pub fn pack(&self) -> u64 {
        self.inner.keeper.pack()
    }

    /// As [`Engine::trim`], for those who count in offsets: `needed` names each topic's first offset that somebody still needs. A
    /// topic that it does not name is needed whole.
    ///
    /// # Errors
    /// As [`Engine::trim`].
    pub fn trim_topics(&self, needed: &BTreeMap<String, u64>) -> Result<Lsn, TrimError> {
        // The end first: what is appended from now on lies behind it, in whatever topic.
        let end = self.durable().lsn();
        let first_needed = |name: &str| {
            let topic = self.inner.index.topic(name)?;
            let offset = needed.get(name).copied().unwrap_or(0).max(topic.first_offset());
            topic.lsn_of(offset)
        };
        let before = self.topics().iter().filter_map(|topic| first_needed(&topic.name)).min();
        self.trim(before.map_or(end, |lsn| lsn.min(end)))
    }
}
