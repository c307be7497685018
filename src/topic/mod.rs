//! Names, the order of entries within each topic, and how far readers are.
//!
//! Names and order are derived from the log: filled by recovery, extended at publish, never written. Cursors are a file of their own.
//!
//! Layer: topic. Uses `commit`, `log`, `format`. Knows nothing of the network.

pub(crate) mod cursor;
pub(crate) mod index;
pub(crate) mod name;
pub(crate) mod reader;

pub use name::{InvalidName, check_name};
