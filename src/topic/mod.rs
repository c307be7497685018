//! Names, and the order of entries within each topic.
//!
//! Everything here is derived from the log: filled by recovery, extended at publish, never written.
//!
//! Layer: topic. Uses `commit`, `log`, `format`. Knows nothing of the network.

pub(crate) mod index;
pub(crate) mod name;
pub(crate) mod reader;

pub use name::{InvalidName, check_name};
