//! Retention: giving away the oldest segments, whole ones only, and never the one that is written.
//!
//! ```text
//!   segment 3            segment 4            segment 5 (active)
//!   [ 20 | 21 | 22 | 23 ][ 24 | 25 | 26 | 27 ][ 28 | 29 |
//!                    '-one batch-'   ^ a base can begin here, not at 24
//! ```
//!
//! The order, each step durable before the next: the hint is past the new beginning; `base` is written; nobody finds the segments any
//! more; and only when nobody reads them either, they are recycled or removed (`spares`). A crash between any two leaves segments
//! that lie before the base: the next opening gives them away again.
//!
//! A base begins at the start of an atomic group, and within no staged batch, since a batch goes whole; and below the durable hint, so
//! that the loss of what it begins with is noticed: docs/FORMAT.md#base
//!
//! Layer: log. Uses `segments`. Knows nothing of topics but that somebody remembers them.

use std::sync::Arc;
use std::time::Duration;

use super::{Keeper, State, Worker};
use crate::format::base::{BASE_BYTES_MAX, Base};
use crate::ids::SegmentNo;
use crate::log::indexes;
use crate::log::meta::{Past, Remembers};
use crate::log::segment::Segment;
use crate::log::segments::{Beginning, BlockError, Segments};
use crate::lsn::{Lsn, Position};
use crate::storage;

/// How much is kept, and where it stands.
pub(crate) struct Kept {
    pub(crate) segments: Arc<Segments>,
    pub(crate) remembers: Arc<dyn Remembers>,
    /// The wall clock, nanoseconds since 1970.
    pub(crate) clock: fn() -> u64,
}

/// What is kept without being asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Retention {
    /// Bytes of the segments that hold blocks; the segment that is written stays even if it is more.
    pub(crate) bytes: Option<u64>,
    /// Age of the last block of a segment.
    pub(crate) age: Option<Duration>,
}

/// Why nothing was given away, though it should have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrimError {
    /// There is no room on the disk for the new `base`, a small file that has to be durable before anything goes. Nothing has changed;
    /// try again when there is room.
    #[error("nothing can be given away, there is no room to write down what is: {reason}")]
    Full {
        /// What failed.
        reason: String,
    },
    /// Reading where the log would begin failed, or writing it down; if it was that, nothing more is given away until the log is opened
    /// again.
    #[error("nothing can be given away: {reason}")]
    Failed {
        /// What failed.
        reason: String,
    },
    /// The log was closed or has halted.
    #[error("the log is closed or has halted")]
    Ended,
}

/// What callers ask of the thread, and what it answers.
#[derive(Default)]
pub(super) struct Trims {
    /// Everything below may go.
    asked: Option<Lsn>,
    /// Calls so far, and how many of them are answered.
    calls: u64,
    answered: u64,
    answer: Option<TrimError>,
    /// Retention should look for itself.
    due: bool,
    /// It is looking, or giving away.
    busy: bool,
    /// Why it did not do what it should.
    trouble: Option<TrimError>,
}

/// A place where the log can begin.
struct Cut {
    beginning: Beginning,
    position: Position,
}

impl Keeper {
    /// Gives away the segments that lie wholly below `before`. Returns once that is durable.
    pub(crate) fn trim(&self, before: Lsn) -> Result<(), TrimError> {
        let mut state = self.shared.lock();
        state.trims.asked = state.trims.asked.max(Some(before));
        state.trims.calls += 1;
        let call = state.trims.calls;
        self.shared.changed.notify_all();
        while state.trims.answered < call {
            if state.stop.is_some() || state.failed.is_some() {
                return Err(TrimError::Ended);
            }
            state = self.shared.wait(state);
        }
        state.trims.answer.clone().map_or(Ok(()), Err)
    }

    /// Why retention did not give away what it should have, if so.
    pub(crate) fn retention_trouble(&self) -> Option<TrimError> {
        self.shared.lock().trims.trouble.clone()
    }
}

impl State {
    pub(super) fn trim_due(&self) -> bool {
        self.failed.is_none() && (self.trims.asked.is_some() || self.trims.due)
    }

    /// Whether everything that is published has been looked at.
    pub(super) fn retention_is_done(&self) -> bool {
        !self.refresh_due() && !self.trim_due() && !self.trims.busy
    }

    /// There may be something to give away.
    pub(super) fn look_at_retention(&mut self) {
        self.trims.due = true;
    }
}

impl Worker {
    /// Does what callers have asked for, and what retention says.
    pub(super) fn trim(&mut self) {
        let (asked, calls, active) = {
            let mut state = self.shared.lock();
            (state.trims.due, state.trims.busy) = (false, true);
            (state.trims.asked.take(), state.trims.calls, state.published.tail.position.segment())
        };
        let answer = asked.and_then(|before| self.give_away(active, before).err());
        let expired = self.first_not_expired(active);
        let trouble = expired.and_then(|first| self.give_away(first, Lsn::new(u64::MAX)).err());
        let mut state = self.shared.lock();
        if asked.is_some() {
            (state.trims.answered, state.trims.answer) = (calls, answer);
        }
        (state.trims.trouble, state.trims.busy) = (trouble, false);
        self.shared.changed.notify_all();
    }

    /// The first segment that retention keeps, if there is one before it.
    fn first_not_expired(&self, active: SegmentNo) -> Option<SegmentNo> {
        let Retention { bytes, age } = self.policy.retention;
        if bytes.is_none() && age.is_none() {
            return None;
        }
        let live = self.kept.segments.up_to(active);
        let mut live_bytes: u64 = live.iter().map(|segment| segment.header.bytes).sum();
        let oldest_ns =
            age.map(|age| (self.kept.clock)().saturating_sub(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)));
        let mut is_expired = |segment: &Arc<Segment>| {
            let too_much = bytes.is_some_and(|bytes| live_bytes > bytes);
            let too_old = oldest_ns.is_some_and(|oldest| segment.last_ts_ns().is_none_or(|last| last < oldest));
            live_bytes -= segment.header.bytes;
            segment.number() < active && (too_much || too_old)
        };
        let expired = live.iter().take_while(|segment| is_expired(segment)).count();
        let first = live.get(expired).map_or(active, |segment| segment.number());
        (expired > 0).then_some(first)
    }

    /// Gives away what lies before segment `first` and below `before`, as far as whole groups allow.
    fn give_away(&mut self, first: SegmentNo, before: Lsn) -> Result<(), TrimError> {
        // The base names a place: not where a power cut may leave a file under that name in which it is none.
        let doubt = self.trim_failed.clone().or_else(|| self.maker.doubt().map(str::to_owned));
        if let Some(reason) = doubt {
            return Err(TrimError::Failed { reason });
        }
        // The hint first: what the base begins with must be known to have been durable.
        let published = self.shared.lock().published;
        if published.tail.lsn > self.shared.lock().recorded.tail.lsn {
            self.record(published, false);
        }
        if self.shared.lock().failed.is_some() {
            return Err(TrimError::Ended);
        }
        let limit = before.min(Lsn::new(self.shared.lock().recorded.tail.lsn.get().saturating_sub(1)));
        let cut = self.find_cut(first, limit).map_err(|error| TrimError::Failed { reason: error.to_string() })?;
        let Some(cut) = cut else { return Ok(()) };
        self.write_base(&cut)?;
        self.kept.remembers.forget_below(cut.beginning.lsn);
        let gone = self.kept.segments.begin_at(cut.beginning, cut.position.segment());
        for number in gone.keys() {
            let _ = self.disk.remove(&indexes::file_name(*number)); // an open removes what is left
        }
        self.log_bytes -= gone.values().map(|segment| segment.header.bytes).sum::<u64>();
        self.maker.given_away.extend(gone.into_values());
        // What these fences kill is away with its segments; the next write of the superblock goes without them.
        let first = cut.position.segment();
        self.superblock.now.fences.retain(|fence| fence.resume == fence.cut || fence.resume.segment() > first);
        Ok(())
    }

    /// The latest place where the log can begin, not behind segment `first` nor behind block `limit`, if any segment would go.
    fn find_cut(&self, first: SegmentNo, limit: Lsn) -> Result<Option<Cut>, BlockError> {
        let segments = &self.kept.segments;
        let kept = segments.up_to(first);
        let Some(oldest) = kept.first().map(|segment| segment.number()) else { return Ok(None) };
        for segment in kept.iter().rev() {
            let Some(first_lsn) = segment.first_lsn().filter(|lsn| *lsn <= limit) else { continue };
            if first_lsn <= segments.beginning().lsn {
                break;
            }
            // A group may reach over from the segment before.
            let last = segments.block(Lsn::new(first_lsn.get() - 1))?;
            let lsn = first_lsn.plus(last.remaining.into());
            if lsn > limit || self.kept.remembers.batch_across(lsn).is_some() {
                continue;
            }
            let chain = if last.remaining == 0 { last.chain } else { segments.block(Lsn::new(lsn.get() - 1))?.chain };
            let Some(position) = segments.position(lsn).filter(|position| position.segment() <= first) else {
                continue; // the group goes on beyond what may go
            };
            let beginning = Beginning { lsn, chain };
            return Ok((position.segment() > oldest).then_some(Cut { beginning, position }));
        }
        Ok(None)
    }

    fn write_base(&mut self, cut: &Cut) -> Result<(), TrimError> {
        let Past { lineage, topics } = self.kept.remembers.before(cut.beginning.lsn);
        let Beginning { lsn: first_lsn, chain } = cut.beginning;
        let base = Base { first_lsn, first_position: cut.position, chain, lineage, topics }.encode();
        if base.len() > BASE_BYTES_MAX {
            let reason = format!("a base of {} bytes is more than {BASE_BYTES_MAX}: too many topics", base.len());
            return Err(TrimError::Failed { reason });
        }
        match self.replace_base(&base) {
            Ok(()) => Ok(()),
            Err(error) if error.is_full() => Err(TrimError::Full { reason: error.to_string() }),
            Err(error) => {
                // Which of the two bases a crash would leave is not known, and both are true; but no third one is tried.
                let reason = error.to_string();
                self.trim_failed = Some(reason.clone());
                Err(TrimError::Failed { reason })
            }
        }
    }

    /// On a full disk a spare makes room: what is given away brings the next one back, and without a base nothing ever goes.
    fn replace_base(&mut self, base: &[u8]) -> storage::Result<()> {
        match self.disk.replace_small("base", base) {
            Err(error) if error.is_full() && self.sacrifice_spare()? => self.disk.replace_small("base", base),
            replaced => replaced,
        }
    }
}
