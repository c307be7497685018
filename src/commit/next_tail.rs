//! The tail as it will be once the groups before it, and this one, are durable.
//!
//! The commit writer never edits the log's tail in place. It plans each group on the tail that the group before it will leave,
//! does the I/O, and publishes in order:
//!
//! ```text
//!     Tail --plan--> NextTail --plan--> NextTail        several in flight
//!      ^------ publish, in order ------'   `--- dropped when anything before it failed: the tail never moved
//! ```
//!
//! So rollback in memory is not a list of undo steps that the next edit can forget; it is the absence of one step.
//!
//! Layer: commit. Uses `log`, `lsn`. Knows nothing of topics, tickets or readers.

use std::sync::Arc;

use crate::log::segment::Segment;
use crate::log::tail::Tail;
use crate::lsn::Position;

/// A tail that is planned on.
#[derive(Clone)]
pub(crate) struct NextTail {
    pub(crate) tail: Tail,
    segment: Option<Arc<Segment>>,
    /// Log bytes from the start of the first segment of this opening to the start of this one.
    linear_base: u64,
}

/// Room for one block.
#[derive(Clone)]
pub(crate) struct Room {
    pub(crate) position: Position,
    pub(crate) segment: Arc<Segment>,
}

impl NextTail {
    /// The tail at open. `segment` is the one that it lies in; a new log has none yet.
    pub(crate) fn new(tail: Tail, segment: Option<Arc<Segment>>) -> NextTail {
        NextTail { tail, segment, linear_base: 0 }
    }

    /// Reserves room for one block of `block_len` bytes.
    ///
    /// `None` means that the segment is full: the caller goes on into the next spare, then asks again.
    pub(crate) fn reserve(&mut self, block_len: usize) -> Option<Room> {
        let segment = self.segment.as_ref()?;
        if segment.header.packed {
            return None; // only where a repair has cut a log back into it: nothing is written beside blocks that share its sectors
        }
        // No sector may hold bytes of two blocks: a failed append could then damage an entry that was acknowledged long
        // before.
        assert!(block_len.is_multiple_of(segment.header.align as usize));

        let position = self.tail.position;
        let next = position.checked_add(u32::try_from(block_len).ok()?)?;
        if next.offset() > segment.header.blocks_end() {
            return None;
        }
        self.tail.position = next;
        Some(Room { position, segment: Arc::clone(segment) })
    }

    /// How many blocks of `block_bytes` there is room for in this segment.
    pub(crate) fn room_for(&self, block_bytes: usize) -> usize {
        let segment = self.segment.as_ref().filter(|segment| !segment.header.packed);
        segment.map_or(0, |segment| segment.room_behind(self.tail.position.offset(), block_bytes))
    }

    /// Moves to the start of the next segment.
    pub(crate) fn go_on_into(&mut self, segment: Arc<Segment>) {
        assert!(self.segment.as_ref().is_none_or(|full| full.number() < segment.number()));
        self.linear_base += self.segment.as_ref().map_or(0, |full| full.header.bytes);
        self.tail.position = segment.start();
        self.segment = Some(segment);
    }

    /// Moves to the segment in which the log goes on behind a fence. The way there does not count: where a segment is longer than the
    /// window past the hint, what is written again would lie beyond it for ever. docs/FORMAT.md#superblock
    pub(crate) fn resume_in(&mut self, segment: Arc<Segment>) {
        let start = segment.start();
        let here = self.linear();
        self.linear_base =
            here.checked_sub(start.offset().into()).expect("no block lies before the first place of a segment");
        self.tail.position = start;
        self.segment = Some(segment);
    }

    /// How far the log reaches, in bytes from the start of the first segment of this opening, without what fences have cut out.
    pub(crate) fn linear(&self) -> u64 {
        self.linear_base + u64::from(self.tail.position.offset())
    }
}
