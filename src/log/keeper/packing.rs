//! Which full segments are packed, and when: with nothing else to do, and only where it saves a quarter.
//!
//! Layer: log. Uses `pack`, `indexes`. Knows nothing of what is in the blocks.

use std::sync::Arc;

use super::{Keeper, Worker};
use crate::format::index::SegmentIndex;
use crate::ids::SegmentNo;
use crate::log::indexes;
use crate::log::pack::{pack, packed_header};
use crate::log::segment::Segment;
use crate::log::tail::Tail;

/// What packing must save of the file, at least: a quarter. For less it is not worth reading and writing all of it again.
const WORTH_SAVING: u64 = 4;

/// The full segments that have not been looked at, and what has come of the others.
#[derive(Default)]
pub(super) struct Packing {
    /// Looked at when there is nothing else to do; the newest last.
    pub(super) to_look_at: Vec<SegmentNo>,
}

/// What callers ask of the thread, and how far it has come.
#[derive(Default)]
pub(super) struct PackCalls {
    calls: u64,
    answered: u64,
    /// Bytes saved since the log was opened.
    saved: u64,
}

impl PackCalls {
    pub(super) fn is_due(&self) -> bool {
        self.answered < self.calls
    }
}

impl Keeper {
    /// Packs every full segment that is worth it, now. Returns the bytes saved since the log was opened.
    pub(crate) fn pack(&self) -> u64 {
        let mut state = self.shared.lock();
        state.pack_calls.calls += 1;
        let call = state.pack_calls.calls;
        self.shared.changed.notify_all();
        while state.pack_calls.answered < call && state.stop.is_none() && state.failed.is_none() {
            state = self.shared.wait(state);
        }
        state.pack_calls.saved
    }

    /// Bytes that packing has saved since the log was opened.
    pub(crate) fn packed_bytes_saved(&self) -> u64 {
        self.shared.lock().pack_calls.saved
    }
}

impl Worker {
    /// Answers a caller who wants it done now.
    pub(super) fn pack_all(&mut self) {
        let calls = self.shared.lock().pack_calls.calls;
        // What the log has just gone on from must be below the recorded hint.
        let published = self.shared.lock().published;
        if published.tail.lsn > self.shared.lock().recorded.tail.lsn {
            self.record(published, false);
        }
        while !self.packing.to_look_at.is_empty() {
            self.pack_one();
        }
        self.shared.lock().pack_calls.answered = calls;
        self.shared.changed.notify_all();
    }

    /// Looks at one full segment, and packs it if that is worth it. What fails leaves it as it is.
    pub(super) fn pack_one(&mut self) {
        let Some(number) = self.packing.to_look_at.pop() else { return };
        let segments = self.kept.segments.up_to(number);
        let Some(segment) = segments.last().filter(|segment| segment.number() == number) else { return };
        if !self.may_be_packed(segment) {
            return;
        }
        let Ok(Some(bytes)) = self.disk.read_small(&indexes::file_name(number), crate::format::index::INDEX_BYTES_MAX)
        else {
            return;
        };
        let Ok(index) = SegmentIndex::parse(&bytes) else { return };
        // The index must be of all that is published here, and of the file as it is.
        let (first, last) = (index.blocks.first().map(|b| b.lsn), index.blocks.last().map(|b| b.lsn));
        if index.header != segment.header || first != segment.first_lsn() || last != segment.last_lsn() {
            return;
        }
        let header = packed_header(&segment.header, segment.start(), &index.blocks, self.entropy.next_u64());
        let worth = header.bytes <= segment.header.bytes - segment.header.bytes / WORTH_SAVING;
        if worth && self.want_of_room(header.bytes).is_none() {
            self.pack_segment(segment, header, index);
        }
    }

    /// A fence names places in the segments that it cuts and goes on in: those stay as they are. So does the first, if the log begins in
    /// its middle, and every one that a power cut could take from the log.
    fn may_be_packed(&self, segment: &Segment) -> bool {
        let number = segment.number();
        let fences = &self.superblock.now.fences;
        let is_named = fences.iter().any(|fence| [fence.cut.segment(), fence.resume.segment()].contains(&number));
        let beginning = self.kept.segments.position(self.kept.segments.beginning().lsn);
        let begins_inside = beginning.is_some_and(|at| at.segment() == number && at != segment.start());
        let first = segment.first_lsn().and_then(|first| self.kept.segments.position(first));
        // Packing moves blocks: where a name is in doubt, a power cut may bring the other form back, and the base may name a place in it.
        let names_are_sure = self.maker.doubt().is_none() && self.trim_failed.is_none();
        number < self.superblock.now.hint.position.segment()
            && names_are_sure
            && !segment.header.packed
            && !segment.is_condemned()
            && !is_named
            && !begins_inside
            && first == Some(segment.start())
    }

    fn pack_segment(
        &mut self,
        segment: &Arc<Segment>,
        header: crate::format::segment::SegmentHeader,
        index: SegmentIndex,
    ) {
        let SegmentIndex { blocks, prev_chain, incarnation, .. } = index;
        let first = blocks[0].lsn;
        // An index of the old file must not be found beside the new one.
        if self.disk.remove(&indexes::file_name(segment.number())).is_err() {
            return;
        }
        let from = Tail { position: segment.start(), lsn: first, chain: prev_chain, ts_ns: 0 };
        match pack(&self.disk, segment, header, from, &blocks) {
            Ok((packed, moved)) => {
                let saved = segment.header.bytes - header.bytes;
                self.kept.segments.replace(Arc::new(packed));
                self.log_bytes -= saved;
                self.shared.lock().pack_calls.saved += saved;
                let _ = indexes::write(&self.disk, &SegmentIndex { header, incarnation, prev_chain, blocks: moved });
            }
            Err(not_made) => {
                // The file may have the packed one's name already; then the next open finds it, and until then the old one is read.
                self.note_doubt(&not_made);
                let old = SegmentIndex { header: segment.header, incarnation, prev_chain, blocks };
                if !not_made.names_in_doubt {
                    let _ = indexes::write(&self.disk, &old);
                }
            }
        }
    }
}
