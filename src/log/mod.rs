//! The ordered segments: one log, all topics interleaved.
//!
//! ```text
//!   segment 1 (sealed)   segment 2 (sealed)   segment 3 (active)          segment 4 (spare)
//!   | block | block |    | block | block |    | block | block |......    |...............
//!   ^ base                                    ^ hint           ^ tail
//! ```
//!
//! - `recovery` reads what is there and decides, by evidence, whether the end is torn or something is damaged; it changes
//!   nothing. `open` then makes a recovered log writable: fence, new incarnation, erasure of what the fence kills.
//! - `keeper` is the background thread that owns the superblock and makes spares ahead of need, so that the commit path
//!   never creates, renames or removes a file.
//! - `segments` reads blocks that are published. `scrub` reads them again, slowly, and tells of damage.
//!
//! Layer: log. Uses `storage`, `format`, `lsn`, `ids`, `limits`. Knows nothing of topics, tickets or the network.

pub(crate) mod damage;
pub(crate) mod early;
pub(crate) mod evidence;
pub(crate) mod indexes;
pub(crate) mod keeper;
pub(crate) mod meta;
pub(crate) mod open;
pub(crate) mod pack;
pub(crate) mod read_pool;
pub(crate) mod recovery;
pub(crate) mod repair;
pub(crate) mod scrub;
pub(crate) mod segment;
pub(crate) mod segments;
pub(crate) mod superblock;
pub(crate) mod survey;
pub(crate) mod tail;
pub(crate) mod walk;

/// The folder of the segments: docs/FORMAT.md#files
pub(crate) const WAL: &str = "wal";
/// The folder of the indexes: docs/FORMAT.md#index
pub(crate) const IDX: &str = "idx";
/// The folder of everything that was cut.
pub(crate) const QUARANTINE: &str = "quarantine";
