//! How much room is left, in three words.
//!
//! Layer: log. Decides nothing: the spares are made or not by what the file system says at that moment.

use super::Keeper;

/// The room that a log has to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpaceState {
    /// There is room for another segment.
    Ok,
    /// One more segment would leave less than `min_free` on the file system: appends go on as far as what is prepared reaches, or as far as
    /// retention gives segments back.
    Low,
    /// Nothing is prepared and nothing can be: an append that does not fit the segment at hand is rejected, before it has an offset.
    /// Reads, and opening the log again, work. Appends go on by themselves once there is room.
    Full,
}

impl SpaceState {
    /// `ok`, `low` or `full`.
    pub fn name(self) -> &'static str {
        match self {
            SpaceState::Ok => "ok",
            SpaceState::Low => "low",
            SpaceState::Full => "full",
        }
    }
}

/// The same with the reason, where there is one.
pub(crate) struct Space {
    pub(crate) state: SpaceState,
    pub(crate) warning: Option<String>,
}

impl Keeper {
    /// The state, on a file system that has `free_bytes` left.
    pub(crate) fn space(&self, free_bytes: u64) -> Space {
        let state = self.shared.lock();
        if let Some(no_spare) = state.no_spare.as_ref().filter(|no_spare| no_spare.full && state.spares.is_empty()) {
            let warning = Some(format!("the disk is full: {}", no_spare.reason));
            return Space { state: SpaceState::Full, warning };
        }
        let (needed, min_free) = (state.next_bytes, self.min_free);
        if free_bytes < needed.saturating_add(min_free) {
            let warning = format!(
                "space is low: the file system has {free_bytes} bytes free, the next segment needs {needed}, and {min_free} \
                 are to stay free (min_free)"
            );
            return Space { state: SpaceState::Low, warning: Some(warning) };
        }
        Space { state: SpaceState::Ok, warning: None }
    }
}
