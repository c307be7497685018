//! From a submission to a durable LSN: the only writer.
//!
//! ```text
//!   callers --Submission--> queue --drain--> group --shape--> plan --encode--> slots --write, flush--> device
//!                                                                                                      |
//!   tickets <--complete-- watermark <--advance-- sink <--publish, in order-- groups in flight <--done--'
//! ```
//!
//! A caller who would only wait may find the thread idle: then he commits himself (`committer`). And where an entry needs no flush, it is
//! acknowledged before it has a block at all (`early`).
//!
//! Natural batching: the thread takes what is waiting and never waits for more. Nothing in flight: it submits at once.
//! Otherwise several groups overlap, and are acknowledged in order.
//!
//! A group is planned in three steps of which only the last changes anything: its shape (how many blocks, how long), the room
//! for it (segments, the window past the hint), and then places, LSNs and topic offsets. So a full disk is noticed before an
//! offset is given out, and there is nothing to undo.
//!
//! Layer: commit. Uses `log`, `storage`, `format`. Knows nothing of topic names' meaning, nor of the network.

pub(crate) mod alarm;
pub(crate) mod alone;
pub(crate) mod committer;
pub(crate) mod early;
pub(crate) mod early_block;
pub(crate) mod encode;
pub(crate) mod error;
pub(crate) mod fence;
pub(crate) mod flushing;
pub(crate) mod group;
pub(crate) mod inflight;
pub(crate) mod next_tail;
pub(crate) mod plan;
pub(crate) mod progress;
pub(crate) mod queue;
pub(crate) mod staging;
pub(crate) mod submission;
pub(crate) mod ticket;
pub(crate) mod waits;
pub(crate) mod watermark;
pub(crate) mod writer;
