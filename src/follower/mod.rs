//! The following side of a node: it connects to its leader, proves what it has, and takes what comes.
//!
//! ```text
//!     tailer.rs    connect, introduce, claim, heartbeats; again and again, with backoff
//!        | stream of blocks
//!     apply.rs     order -> whole groups -> the engine, many in flight -> acknowledgements
//!     lag.rs       how far behind, and as of when
//! ```
//!
//! It stops by itself only when going on could destroy something: another log, unequal histories, a block that is not what it
//! says. Then every byte stays where it is, and the message names what a human needs to decide.
//!
//! Layer: follower. Uses `engine`, `net`, `wire`. Knows nothing of `leader`, nor of who reads.

mod apply;
mod lag;
mod tailer;

pub(crate) use lag::{Lag, View};
pub(crate) use tailer::{Stop, Tailer};
