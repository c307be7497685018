//! A commit in the thread of a lone caller: one block, one write that needs no flush of its own, nothing in flight around it.
//!
//! The group is shaped, placed and encoded as any other, and a failure is the commit thread's to survive. What this leaves out is the
//! queue, the ring and two changes of thread.
//!
//! Layer: commit. The part of the writer that a caller runs.

use super::plan::shape;
use super::submission::Submission;
use super::writer::Writer;

impl Writer {
    /// Commits an append, or gives it back as it was.
    pub(super) fn commit_alone(&mut self, submission: Submission) -> Result<(), Submission> {
        if !self.is_idle() || !self.queue.recall_unused(&mut self.next_offsets) {
            return Err(submission);
        }
        self.state.waiting.push_back(submission);
        self.refuse_what_cannot_follow();
        if self.state.waiting.is_empty() {
            return Ok(()); // answered
        }
        let group = shape(&self.state.waiting, self.limit);
        // A write with its own flush covers itself alone; and a topic's first entry has a block before it.
        let needs_a_flush = group.wants_flush && self.state.in_flight.has_unflushed();
        if group.blocks.len() != 1 || needs_a_flush {
            return Err(self.state.waiting.pop_back().expect("pushed above"));
        }
        self.state.alone = true;
        self.state.halt = self.submit_shaped(group).err();
        self.state.alone = false;
        self.io.take_done(&mut self.state.done);
        self.note_completions();
        self.publish_ready();
        Ok(())
    }

    fn is_idle(&self) -> bool {
        let state = &self.state;
        let well = state.failure.is_none() && state.halt.is_none();
        well && state.waiting.is_empty() && state.in_flight.is_empty() && self.io.in_flight() == 0 && !self.is_full()
    }

    /// Whether there is something that only the commit thread can do.
    pub(super) fn has_work(&self) -> bool {
        !self.is_idle() || !self.queue.is_idle() || self.state.flushing.is_due(&self.pace)
    }
}
