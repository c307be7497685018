//! Spares: the segments that the log goes on into, made ahead of need.
//!
//! ```text
//!   given away, nobody reads it, the right size    recycled: two renames and a header, no zeros, no new space
//!   otherwise                                      made of zeros, if the file system keeps `min_free` besides
//! ```
//!
//! What was given away and is not needed is removed, one file at a time and only when there is nothing else to do: a storm of
//! removals, each with its discards, would stand before the commits. On a full disk it is removed at once. One file that will do as a
//! spare stays until the log is idle: the log needs a spare at its next step, retention gives something away only behind it, and a
//! new one would be zeros written beside the commits.
//!
//! Layer: log. Uses `segment`. Knows nothing of the superblock, nor of why something was given away.

use std::sync::Arc;

use super::{State, Worker};
use crate::format::segment::SegmentHeader;
use crate::log::segment::{self, NotMade, Segment, file_name};
use crate::storage::{self, Haste};

/// Spares kept ready: one for the straight line, one for the rewrite after a failed flush.
pub(super) const SPARES_READY: usize = 2;

/// A new segment has at most this share of the log, between the bounds.
const LOG_SHARE: u64 = 8;

/// How long no spare is made after the file system has refused one, whoever asks: a caller in a loop must not turn into a loop of
/// files made and removed. Asking how much is free costs next to nothing and is done each time.
const RETRY_NS: u64 = 100_000_000;

/// A log that grows more slowly has its next spare long before it needs it, so the zeros give way to its flushes: they are slower then,
/// and still several times as fast as this (docs/decisions/0011).
const SLOW_BYTES_PER_S: u64 = 128 << 20;

/// How large segments are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentSizes {
    /// The segments of a new log.
    pub(crate) first: u64,
    /// The size up to which they grow with the log.
    pub(crate) max: u64,
}

impl SegmentSizes {
    /// The next segment of a log whose segments have `log_bytes` together: at most an eighth of that, since zeros are written at the
    /// speed of the device, beside the commits, and a young log must not make a spare larger than itself. In steps of two, so that
    /// a log that keeps its size can use its segments again.
    pub(super) fn next(&self, log_bytes: u64) -> u64 {
        let mut bytes = self.first;
        while bytes < self.max && bytes * 2 <= log_bytes / LOG_SHARE {
            bytes *= 2;
        }
        bytes.min(self.max)
    }

    /// Whether a segment of `bytes` will do where one of `next` would be made: one step away at most, so that a log whose size
    /// wavers around a step does not make files and remove them all the time.
    fn suits(&self, bytes: u64, next: u64) -> bool {
        (self.first..=self.max).contains(&bytes) && bytes <= next * 2 && next <= bytes * 2
    }
}

/// Why there is no spare.
#[derive(Clone, Debug)]
pub(crate) struct NoSpare {
    /// How making one failed.
    pub(crate) reason: String,
    /// It failed for want of space: later it may succeed.
    pub(crate) full: bool,
}

/// The part of the thread that makes spares.
pub(super) struct Maker {
    /// Given away, oldest first: to be recycled or removed once nobody reads them.
    pub(super) given_away: Vec<Arc<Segment>>,
    /// When a spare was last due, and whether the log has grown slowly since the one before.
    due_at_ns: Option<u64>,
    log_is_slow: bool,
    /// When the file system last refused room for a segment that somebody waited for.
    refused_at_ns: Option<(u64, NoSpare)>,
    /// A flush of the folder failed. See [`NotMade::names_in_doubt`].
    names_in_doubt: Option<String>,
}

impl Maker {
    pub(super) fn new(given_away: Vec<Arc<Segment>>) -> Maker {
        Maker { given_away, due_at_ns: None, log_is_slow: false, refused_at_ns: None, names_in_doubt: None }
    }

    /// A spare is due: the log has gone on by about one segment of `bytes` since the last was.
    fn note_due(&mut self, bytes: u64, now_ns: u64) {
        let lasted_ns = self.due_at_ns.replace(now_ns).map_or(0, |before| now_ns.saturating_sub(before));
        self.log_is_slow = u128::from(bytes) * 1_000_000_000 < u128::from(SLOW_BYTES_PER_S) * u128::from(lasted_ns);
    }

    /// Why it is not known which names a power cut would leave in the folder of the segments, if so.
    pub(super) fn doubt(&self) -> Option<&str> {
        self.names_in_doubt.as_deref()
    }
}

impl State {
    /// Whether the commit thread waits for a spare.
    pub(super) fn spare_waited_for(&self) -> bool {
        self.spares.is_empty() && self.spare_demanded
    }

    /// Whether fewer spares are ready than should be, and it is worth trying.
    pub(super) fn spare_due(&self) -> bool {
        self.spares.len() < SPARES_READY && (self.no_spare.is_none() || self.retry_spare)
    }

    /// It may be worth trying again, even if nobody asks.
    pub(super) fn time_has_passed_for_spares(&mut self) {
        self.retry_spare = self.no_spare.as_ref().is_some_and(|no_spare| no_spare.full);
    }
}

impl Worker {
    /// Makes one spare, or says why there is none.
    pub(super) fn make_spare(&mut self, ts_ns: u64) {
        self.maker.note_due(self.next_bytes(), ts_ns);
        let made = match self.maker.names_in_doubt.clone() {
            Some(reason) => Err(NoSpare { reason, full: false }),
            None => self.recycled(ts_ns).map_or_else(|| self.new_segment(ts_ns), Ok),
        };
        let next_bytes = self.next_bytes();
        let mut state = self.shared.lock();
        (state.spare_demanded, state.retry_spare, state.next_bytes) = (false, false, next_bytes);
        match made {
            Ok(segment) => {
                state.spares.push_back(Arc::new(segment));
                state.no_spare = None;
            }
            Err(no_spare) => state.no_spare = Some(no_spare),
        }
        self.shared.changed.notify_all();
    }

    pub(super) fn next_bytes(&self) -> u64 {
        self.policy.sizes.next(self.log_bytes)
    }

    fn next_header(&mut self, bytes: u64, generation: u64, prepared_ts_ns: u64) -> SegmentHeader {
        let (number, salt) = (self.next_segment, self.entropy.next_u64());
        // A number is never used twice, whatever becomes of the attempt.
        self.next_segment = self.next_segment.next();
        SegmentHeader {
            align: self.align,
            log_id: self.log_id,
            number,
            bytes,
            packed: false,
            generation,
            salt,
            prepared_ts_ns,
        }
    }

    /// A spare of a segment that was given away, if one will do.
    fn recycled(&mut self, ts_ns: u64) -> Option<Segment> {
        let will_do = |segment: &Arc<Segment>| self.suits(segment) && is_unread(segment);
        let index = self.maker.given_away.iter().position(will_do)?;
        let old = Arc::into_inner(self.maker.given_away.remove(index))?;
        let header = self.next_header(old.header.bytes, old.header.generation + 1, ts_ns);
        match segment::recycle(&self.disk, old, header) {
            Ok(segment) => {
                self.log_bytes += header.bytes;
                Some(segment)
            }
            Err(not_made) => {
                // A new one will do as well, unless the folder itself is in doubt; the next opening removes what is left.
                self.note_doubt(&not_made);
                None
            }
        }
    }

    fn new_segment(&mut self, ts_ns: u64) -> Result<Segment, NoSpare> {
        if let Some(reason) = self.maker.names_in_doubt.clone() {
            return Err(NoSpare { reason, full: false });
        }
        let bytes = self.next_bytes();
        let made = match self.try_new(bytes, ts_ns) {
            // Other files of ours may be all that stands in the way.
            Err(no_spare) if no_spare.full && self.remove_all_given_away() => self.try_new(bytes, ts_ns),
            // Another file may have better luck, and the log need not halt for the sake of a header.
            Err(no_spare) if !no_spare.full && self.maker.names_in_doubt.is_none() => self.try_new(bytes, ts_ns),
            made => made,
        };
        if made.is_ok() {
            self.log_bytes += bytes;
        }
        made
    }

    fn try_new(&mut self, bytes: u64, ts_ns: u64) -> Result<Segment, NoSpare> {
        if let Some(reason) = self.want_of_room(bytes) {
            return Err(NoSpare { reason, full: true });
        }
        let now = (self.kept.clock)();
        if let Some((at, refused)) = &self.maker.refused_at_ns
            && now.abs_diff(*at) < RETRY_NS
        {
            return Err(refused.clone());
        }
        let header = self.next_header(bytes, 0, ts_ns);
        // A log that becomes faster takes the other spare meanwhile; then somebody may soon wait for this one.
        let (shared, log_is_slow) = (Arc::clone(&self.shared), self.maker.log_is_slow);
        let has_another = || !shared.lock().spares.is_empty();
        let haste = || if log_is_slow && has_another() { Haste::Beside } else { Haste::Full };
        segment::prepare(&self.disk, header, &haste).map_err(|not_made| {
            self.note_doubt(&not_made);
            let no_spare = NoSpare { reason: not_made.error.to_string(), full: not_made.error.is_full() };
            let waited_for = self.shared.lock().spare_waited_for();
            self.maker.refused_at_ns = (no_spare.full && waited_for).then(|| (now, no_spare.clone()));
            no_spare
        })
    }

    /// Why a file of `bytes` should not even be tried.
    pub(super) fn want_of_room(&self, bytes: u64) -> Option<String> {
        let free = self.disk.available_bytes().ok()?; // not known: trying will tell
        let min_free = self.policy.min_free;
        (free < bytes.saturating_add(min_free)).then(|| {
            format!(
                "the next segment needs {bytes} bytes, the file system has {free} free, and {min_free} are to stay free \
                 (min_free); remove other files, or let retention keep less"
            )
        })
    }

    pub(super) fn note_doubt(&mut self, not_made: &NotMade) {
        if not_made.names_in_doubt {
            let reason = format!("{}: whether segments made from now on keep their names is not known", not_made.error);
            self.maker.names_in_doubt.get_or_insert(reason);
        }
    }

    // -- what is not needed ---------------------------------------------------------------------------------------------------

    /// Whether there is something to remove when the log is idle.
    pub(super) fn has_given_away(&self) -> bool {
        !self.maker.given_away.is_empty()
    }

    /// Whether there is something to remove at leisure: anything but one file that the next spare can be made of.
    pub(super) fn has_more_than_a_reserve(&self) -> bool {
        let given_away = &self.maker.given_away;
        given_away.len() > 1 || given_away.iter().any(|segment| !self.suits(segment))
    }

    /// Whether a spare can be made of it once nobody reads it.
    fn suits(&self, segment: &Arc<Segment>) -> bool {
        let header = &segment.header;
        self.policy.sizes.suits(header.bytes, self.next_bytes())
            && header.align == self.align
            && !segment.is_condemned()
    }

    /// Removes a file that was given away and that nobody reads, one that no spare can be made of first. If it fails, the next opening
    /// does it.
    pub(super) fn remove_one_given_away(&mut self) -> bool {
        let given_away = &self.maker.given_away;
        let useless = given_away.iter().position(|segment| is_unread(segment) && !self.suits(segment));
        let Some(index) = useless.or_else(|| given_away.iter().position(is_unread)) else { return false };
        let segment = self.maker.given_away.remove(index);
        self.disk.remove(&file_name(segment.number())).is_ok()
    }

    fn remove_all_given_away(&mut self) -> bool {
        let mut any = false;
        while self.remove_one_given_away() {
            any = true;
        }
        any
    }

    /// Removes a spare that is ready, for the room that it takes. Returns whether there was one.
    pub(super) fn sacrifice_spare(&mut self) -> storage::Result<bool> {
        let Some(spare) = self.shared.lock().spares.pop_back() else { return Ok(false) };
        self.disk.remove(&file_name(spare.number()))?;
        self.log_bytes -= spare.header.bytes;
        drop(spare);
        // Not for the name: a file system gives the room back when the removal is committed.
        self.disk.flush_folder(crate::log::WAL).inspect_err(|error| {
            self.maker.names_in_doubt.get_or_insert(error.to_string());
        })?;
        Ok(true)
    }
}

/// Nobody but us has it, and nobody can get it any more.
fn is_unread(segment: &Arc<Segment>) -> bool {
    Arc::strong_count(segment) == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::ALIGN_MAX;

    #[test]
    fn segments_grow_with_the_log_between_their_bounds() {
        let sizes = SegmentSizes { first: 16 << 20, max: 256 << 20 };
        assert_eq!(
            [0, 128 << 20, 256 << 20, 300 << 20, 4 << 30].map(|log| sizes.next(log)),
            [16 << 20, 16 << 20, 32 << 20, 32 << 20, 256 << 20]
        );
        let odd = SegmentSizes { first: 3 << 20, max: (40 << 20) + ALIGN_MAX as u64 };
        assert_eq!(odd.next(1 << 40), odd.max);
    }

    #[test]
    fn a_log_is_slow_once_a_segment_has_lasted_long() {
        let mut maker = Maker::new(Vec::new());
        let (bytes, lasts_ns) = (SLOW_BYTES_PER_S / 2, 500_000_000);
        maker.note_due(bytes, 1_000);
        assert!(!maker.log_is_slow, "the first tells nothing");
        for (now_ns, is_slow) in [(1_001 + lasts_ns, true), (1_001 + 2 * lasts_ns, false), (999, false)] {
            maker.note_due(bytes, now_ns);
            assert_eq!(maker.log_is_slow, is_slow, "{now_ns}");
        }
    }

    #[test]
    fn a_segment_is_used_again_where_one_of_about_its_size_would_be_made() {
        let sizes = SegmentSizes { first: 16 << 20, max: 256 << 20 };
        for (bytes, next, will_do) in [(16, 16, true), (16, 32, true), (64, 32, true), (16, 64, false), (8, 16, false)]
        {
            assert_eq!(sizes.suits(bytes << 20, next << 20), will_do, "{bytes} for {next}");
        }
        assert!(!sizes.suits(512 << 20, 256 << 20), "larger than the largest");
    }
}
