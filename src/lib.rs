//! A write-ahead log for one Linux server, with a mirror.
//!
//! Callers append entries to topics; a batch is all or nothing, for readers and across a power cut. Commits are made with
//! io_uring, and one flush covers everything that waits. What is committed is tailed to followers over QUIC.
//!
//! ```
//! use walrus_node::{Engine, Options, ReadLimit};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path();
//! let log = Engine::open(path, Options { segment_bytes_first: 1 << 20, ..Options::default() })?;
//! let ticket = log.append("orders", "one apple")?;
//! let receipt = ticket.wait()?; // durable now
//! let entries = log.read("orders", receipt.first_offset, ReadLimit::default())?;
//! assert_eq!(&entries[0].payload[..], b"one apple");
//! log.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The house
//!
//! Bytes at the bottom, promises in the middle, people at the top; a module uses lower layers only.
//!
//! | layer | module | what it is |
//! |---|---|---|
//! | 0 | `lsn`, `ids`, `limits`, `entropy` | numbers and names |
//! | 2 | `storage` | bytes on a device: writes, flushes, folders |
//! | 2 | `format` | bytes to structs and back, pure (docs/FORMAT.md) |
//! | 3 | `log` | the ordered segments: recovery, fences, reading blocks |
//! | 4 | `commit` | from a submission to a durable LSN: the only writer |
//! | 5 | `topic` | names, and the order of entries in each topic |
//! | 6 | `engine` | the embeddable log |
//! | 7 | `faces` | interfaces that people know already, over the engine |
//! | 3 | `wire` | the protocol, pure (docs/PROTOCOL.md) |
//! | 7 | `net` | QUIC and mutual TLS |
//! | 8 | `leader`, `follower`, `client` | the three ends of the protocol |
//! | 9 | `node` | the process |

#[cfg(feature = "replication")]
mod client;
mod commit;
mod engine;
mod entropy;
mod faces;
#[cfg(feature = "replication")]
mod follower;
mod format;
mod ids;
#[cfg(feature = "replication")]
mod leader;
mod limits;
mod log;
mod lsn;
#[cfg(feature = "replication")]
mod net;
#[cfg(feature = "replication")]
mod node;
mod storage;
mod topic;
#[cfg(feature = "replication")]
mod wire;

#[cfg(feature = "replication")]
pub use client::{
    Acked, Acks, Appender, Client, ClientError, NodeInfo, ReadEntry, ReadStart, Reading, SharedAppender, TopicRow,
};
pub use commit::error::AppendError;
pub use commit::flushing::FlushEvery;
pub use commit::queue::QueueBounds;
pub use commit::submission::Level;
pub use commit::ticket::{Outcome, Receipt, Ticket};
pub use commit::watermark::Watermark;
pub use engine::{
    AppendOptions, ApplyError, BatchWriter, BlockInfo, CloseError, Engine, EntryInfo, Following, Options, Repaired,
    RetryPolicy, Status, Tailer, Tip, Verification, Viewer, accept_loss,
};
pub use faces::wal_writer::WalWriter;
pub use faces::walrus::{
    Entry, FsyncSchedule, ReadConsistency, WalIndex, Walrus, WalrusBuilder, disable_fd_backend, enable_fd_backend,
};
pub use format::control::Reign;
pub use format::superblock::Role;
pub use ids::{Chain, Epoch, Incarnation, LogId, NodeId, RunId, SegmentNo, TopicId};
pub use limits::BATCH_ENTRIES_MAX;
pub use log::damage::Damage;
pub use log::keeper::{SpaceState, TrimError};
pub use log::recovery::OpenError;
pub use log::scrub::{ScrubPace, Scrubbed};
pub use log::segments::PortableBlock;
pub use lsn::{Lsn, Position};
pub use storage::{Error as StorageError, IoMode};
pub use topic::cursor::{Cursor, CursorError};
pub use topic::index::TopicInfo;
pub use topic::reader::{BlockMissing, LogEntry, ReadError, ReadLimit};
pub use topic::{InvalidName, check_name};

#[cfg(feature = "replication")]
pub use node::{Node, NodeConfig, NodeError};
#[cfg(feature = "replication")]
pub use wire::code::codes;

/// Certificates for nodes and clients: a CA and what it issues, in one call each.
#[cfg(feature = "replication")]
pub mod certs {
    pub use crate::net::cert::{CLUSTER_DEFAULT, CertError, CertInfo, Request, Role, check, init, issue};
    pub use crate::net::tls::TlsError;
}

/// The names of `walrus-rust` 0.2 where that crate has them, beside those at the root.
pub mod wal {
    pub use crate::faces::walrus::{
        BlockPos, Entry, FsyncSchedule, ReadConsistency, WalIndex, Walrus, WalrusBuilder, disable_fd_backend,
        enable_fd_backend,
    };
}

/// A disk in memory that tears, reorders, loses and fails, from a seed: crash-test this log, or your own application on it.
#[cfg(feature = "sim")]
pub mod sim {
    pub use crate::engine::accept_loss_sim;
    pub use crate::storage::sim::*;
}
