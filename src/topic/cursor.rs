//! Named, durable read positions.
//!
//! ```text
//!   set --change--> the next round --one caller writes it for all, whole--> DATA/cursors --> durable --> everybody of the round goes on
//! ```
//!
//! One file, replaced whole, one write at a time: those who set while it is being written are the next round, and share one. A position
//! is shown once it is durable, so nobody acts on one that a power cut takes back.
//!
//! Layer: topic. Uses `storage` for the file, `format` for its bytes. Knows nothing of who reads, nor whether anybody does.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};

use super::{InvalidName, check_name};
use crate::format::Corrupt;
use crate::format::cursors::{CursorKey, Cursors, encode, encoded_bytes, parse};
use crate::ids::LogId;
use crate::limits::CURSORS_BYTES_MAX;
use crate::log::recovery::OpenError;
use crate::storage::{self, Disk};

const FILE: &str = "cursors";

/// A named read position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Who reads.
    pub name: String,
    /// The topic it is a position in.
    pub topic: String,
    /// The offset of the entry that comes next.
    pub offset: u64,
}

/// Why a cursor was not set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CursorError {
    /// Its own name, or its topic's, cannot be one. Nothing has changed.
    #[error("`{name}` cannot be the name of a cursor or a topic: {invalid}")]
    InvalidName {
        /// The name, shortened if it is long.
        name: String,
        /// What is wrong with it.
        invalid: InvalidName,
    },
    /// The topic does not go so far. Nothing has changed.
    #[error("topic `{topic}` ends before offset {next_offset}, so no cursor stands at {asked}")]
    BeyondEnd {
        /// The topic.
        topic: String,
        /// The offset asked for.
        asked: u64,
        /// The topic's next offset.
        next_offset: u64,
    },
    /// There are too many cursors, or their names are too long. Nothing has changed.
    #[error("the cursors would take {bytes} bytes, and {max} is the most")]
    TooMany {
        /// What the file would take.
        bytes: usize,
        /// What it may take.
        max: usize,
    },
    /// Writing failed. Here the cursor stands where it stood; where it stands after the log is opened again, there or here, is not known.
    #[error("the cursor was not set: {reason}")]
    Storage {
        /// The kind of the failure. Room on a full disk can come back; after any other no cursor is set until the log is opened again.
        kind: io::ErrorKind,
        /// What failed.
        reason: String,
    },
}

impl From<&storage::Error> for CursorError {
    fn from(error: &storage::Error) -> CursorError {
        CursorError::Storage { kind: error.kind(), reason: error.to_string() }
    }
}

/// What a round does to the cursors; `None` removes one.
type Changes = BTreeMap<CursorKey, Option<u64>>;

/// The cursors of one log.
pub(crate) struct CursorFile {
    disk: Disk,
    log_id: LogId,
    state: Mutex<State>,
    /// A round is over.
    ended: Condvar,
}

struct State {
    /// What the file says, durably.
    durable: Cursors,
    /// What is being written.
    writing: Option<Changes>,
    /// What will be written next, and for whom.
    next: Changes,
    next_round: Arc<Round>,
    /// The first failure that ended the writing: a failed flush is not tried again.
    broken: Option<CursorError>,
}

/// How a round ended.
#[derive(Default)]
struct Round(OnceLock<Result<(), CursorError>>);

impl CursorFile {
    /// Reads the file; none is no cursors. Nothing is changed.
    ///
    /// # Errors
    /// A file that is damaged or another log's: nobody is silently sent back to the start.
    pub(crate) fn load(disk: &Disk, log_id: LogId) -> Result<CursorFile, OpenError> {
        let damaged = |error: Corrupt| match error {
            Corrupt::Newer { .. } => OpenError::Newer { what: error.to_string() },
            _ => OpenError::FileDamaged { file: FILE, reason: error.to_string() },
        };
        let durable = match disk.read_small(FILE, CURSORS_BYTES_MAX) {
            Ok(Some(bytes)) => parse(&bytes, log_id).map_err(damaged)?,
            Ok(None) => Cursors::new(),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(OpenError::FileDamaged { file: FILE, reason: error.to_string() });
            }
            Err(error) => return Err(error.into()),
        };
        let (next, next_round) = (Changes::new(), Arc::default());
        let state = State { durable, writing: None, next, next_round, broken: None };
        Ok(CursorFile { disk: disk.clone(), log_id, state: Mutex::new(state), ended: Condvar::new() })
    }

    /// Lowers cursors that stand behind the end of their topic: a power cut took entries that were acknowledged as merely written, and
    /// their offsets will be other entries'. Before anything is appended, or those would be skipped.
    pub(crate) fn lower_to_ends(&self, next_offset: impl Fn(&str) -> u64) -> Result<(), CursorError> {
        let behind = |(key, offset): (&CursorKey, &u64)| {
            let end = next_offset(&key.topic);
            (*offset > end).then(|| (key.clone(), Some(end)))
        };
        let changes: Changes = self.lock().durable.iter().filter_map(behind).collect();
        if changes.is_empty() { Ok(()) } else { self.commit(changes) }
    }

    pub(crate) fn get(&self, name: &str, topic: &str) -> Option<u64> {
        let key = CursorKey { name: name.to_owned(), topic: topic.to_owned() };
        self.lock().durable.get(&key).copied()
    }

    pub(crate) fn all(&self) -> Vec<Cursor> {
        let cursor = |(key, offset): (&CursorKey, &u64)| Cursor {
            name: key.name.clone(),
            topic: key.topic.clone(),
            offset: *offset,
        };
        self.lock().durable.iter().map(cursor).collect()
    }

    /// Sets a cursor, or removes it. It is durable when this returns.
    pub(crate) fn set(&self, name: &str, topic: &str, offset: Option<u64>) -> Result<(), CursorError> {
        for checked in [name, topic] {
            check_name(checked).map_err(|invalid| {
                let name = checked.chars().take(40).flat_map(char::escape_debug).collect();
                CursorError::InvalidName { name, invalid }
            })?;
        }
        self.commit([(CursorKey { name: name.to_owned(), topic: topic.to_owned() }, offset)].into())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// Joins the next round, and writes it if nobody else is writing.
    fn commit(&self, changes: Changes) -> Result<(), CursorError> {
        let mut state = self.lock();
        state.check_room(&changes)?;
        state.next.extend(changes);
        let round = Arc::clone(&state.next_round);
        loop {
            if let Some(outcome) = round.0.get() {
                return outcome.clone();
            }
            state = match state.writing {
                Some(_) => self.ended.wait(state).expect("no holder of this lock panics"),
                None => self.write_round(state),
            };
        }
    }

    /// Writes what has gathered. The lock is let go meanwhile, so that the next round gathers.
    fn write_round<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let changes = std::mem::take(&mut state.next);
        let round = std::mem::take(&mut state.next_round);
        let mut outcome = state.broken.clone().map_or(Ok(()), Err);
        if outcome.is_ok() {
            let mut after = state.durable.clone();
            apply(&mut after, &changes);
            state.writing = Some(changes);
            drop(state);
            let written = self.disk.replace_small(FILE, &encode(self.log_id, &after));
            state = self.lock();
            state.writing = None;
            match written {
                Ok(()) => state.durable = after,
                Err(error) => {
                    outcome = Err((&error).into());
                    if !error.is_full() {
                        state.broken = outcome.clone().err();
                    }
                }
            }
        }
        round.0.set(outcome).expect("a round ends once");
        self.ended.notify_all();
        state
    }
}

impl State {
    /// Whether the file has room for what is new in `changes`, if everything that is under way goes well. What is being removed still
    /// counts: it may stay.
    fn check_room(&self, changes: &Changes) -> Result<(), CursorError> {
        let known = |key: &CursorKey| {
            let under_way = [Some(&self.next), self.writing.as_ref()].into_iter().flatten();
            self.durable.contains_key(key) || under_way.into_iter().any(|changes| changes.contains_key(key))
        };
        let new: usize = changes.keys().filter(|key| !known(key)).map(CursorKey::bytes).sum();
        if new == 0 {
            return Ok(());
        }
        let writing = self.writing.iter().flat_map(Changes::keys);
        let under_way: usize =
            self.next.keys().chain(writing).filter(|key| !self.durable.contains_key(key)).map(CursorKey::bytes).sum();
        let bytes = encoded_bytes(&self.durable) + under_way + new;
        if bytes > CURSORS_BYTES_MAX {
            return Err(CursorError::TooMany { bytes, max: CURSORS_BYTES_MAX });
        }
        Ok(())
    }
}

fn apply(cursors: &mut Cursors, changes: &Changes) {
    for (key, change) in changes {
        match change {
            Some(offset) => _ = cursors.insert(key.clone(), *offset),
            None => _ = cursors.remove(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Access, IoMode};

    #[test]
    fn a_cursor_behind_the_end_of_its_topic_is_lowered_to_it_durably_and_the_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path(), IoMode::Syscall, Access::Write).unwrap();
        let log_id = LogId::new(1);
        let load = || CursorFile::load(&disk, log_id).unwrap();
        let cursors = load();
        for (name, topic, offset) in [("a", "t", 9), ("b", "t", 4), ("a", "gone", 2)] {
            cursors.set(name, topic, Some(offset)).unwrap();
        }
        load().lower_to_ends(|topic| if topic == "t" { 5 } else { 0 }).unwrap();
        let lowered = load();
        assert_eq!(lowered.get("a", "t"), Some(5));
        assert_eq!(lowered.get("b", "t"), Some(4));
        assert_eq!(lowered.get("a", "gone"), Some(0));
        assert!(CursorFile::load(&disk, LogId::new(2)).is_err(), "another log's cursors are not taken");
    }
}
