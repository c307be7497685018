//! Bytes to structs and back, pure: `docs/FORMAT.md` in code.
//!
//! ```text
//!   segment file   | header 4096 | block | block | ...            zeros ...           | header copy 4096 |
//!   block          | envelope 40 | portable block                          | zeros up to `align` |
//!   portable block | header 72 | descriptors, 24 each | payloads back to back |
//! ```
//!
//! What a parser hands out has been checked: lengths against what is there, sums against the bytes. Nothing else in the
//! program reads a field from disk or from a peer by itself.
//!
//! Layer: format. Uses `ids`, `limits`, `lsn`. Knows nothing of files, time, threads.

pub(crate) mod base;
pub(crate) mod block;
pub(crate) mod checksum;
pub(crate) mod control;
pub(crate) mod cursors;
pub(crate) mod early;
pub(crate) mod field;
pub(crate) mod index;
pub(crate) mod meta;
pub(crate) mod segment;
pub(crate) mod superblock;

/// The version of the bytes that this program writes. A newer one is refused, untouched: docs/FORMAT.md#versions
pub(crate) const FORMAT_VERSION: u16 = 1;

/// Why some bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Corrupt {
    /// A field or a sum is wrong.
    #[error("{what} (byte {at})")]
    Field { what: &'static str, at: usize },
    /// Fewer bytes than the structure needs.
    #[error("{what} is cut short")]
    Short { what: &'static str },
    /// Sound, but written by a version that knows more than this one.
    #[error("written by a newer version: {what} {value}")]
    Newer { what: &'static str, value: u64 },
}

impl Corrupt {
    pub(crate) const fn field(what: &'static str, at: usize) -> Corrupt {
        Corrupt::Field { what, at }
    }
}
