//! What happened on a simulated disk, and what of it a power cut leaves.
//!
//! ```text
//!   trace   op op op op op op op op | op op op        a disk records everything it does
//!                                   ^ at
//!   Image   = what is durable at `at`  +  Pending items in the order they were begun: sectors, names, sizes
//! ```
//!
//! An [`Image`] follows the trace op by op, so all crash points of a run cost one pass.
//!
//! **How an item stops pending.** A sector: its write was [`Sync::Durable`] and completed, or a flush of its file that began
//! after the write's completion completed. A size: by such a flush. A name: by a flush of its folder. An item that was in
//! a failed write, or under a failed flush, is in doubt: no later flush settles it, as with a real kernel.
//!
//! Layer: storage. Uses std. Knows nothing of locks, queues or faults.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::content::{Content, SECTOR};
use crate::storage::Sync;

/// A file, whatever its name is now.
pub(crate) type Inode = u32;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Node {
    Folder,
    File(Inode),
}

/// Every name, whole (`wal/0000000000000001.seg`).
pub(crate) type Names = BTreeMap<Arc<str>, Node>;

/// The folder a name lies in; `""` is the root.
pub(crate) fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The bytes and the place of one write.
pub(crate) struct Write {
    pub(crate) inode: Inode,
    pub(crate) name: Arc<str>,
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) sync: Sync,
}

impl Write {
    pub(crate) fn sectors(&self) -> usize {
        self.bytes.len().div_ceil(SECTOR)
    }

    /// Writes a run of its sectors.
    pub(crate) fn apply(&self, content: &mut Content, sectors: std::ops::Range<usize>) {
        let start = sectors.start * SECTOR;
        let end = (sectors.end * SECTOR).min(self.bytes.len());
        content.write(&self.bytes[start..end], self.offset + start as u64);
    }

    /// Writes those of its sectors that `keep` says.
    pub(crate) fn apply_some(&self, content: &mut Content, mut keep: impl FnMut(usize) -> bool) {
        let mut run = 0;
        for sector in 0..self.sectors() {
            if !keep(sector) {
                self.apply(content, run..sector);
                run = sector + 1;
            }
        }
        self.apply(content, run..self.sectors());
    }
}

/// A change of names.
#[derive(Clone)]
pub(crate) enum NameOp {
    MakeFolder { name: Arc<str> },
    Create { name: Arc<str>, inode: Inode, len: u64 },
    Rename { from: Arc<str>, to: Arc<str> },
    Remove { name: Arc<str> },
}

impl NameOp {
    pub(crate) fn apply(&self, names: &mut Names) {
        match self {
            NameOp::MakeFolder { name } => drop(names.insert(name.clone(), Node::Folder)),
            NameOp::Create { name, inode, .. } => drop(names.insert(name.clone(), Node::File(*inode))),
            NameOp::Rename { from, to } => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
            NameOp::Remove { name } => drop(names.remove(name)),
        }
    }

    fn folders(&self) -> [&str; 2] {
        match self {
            NameOp::MakeFolder { name } | NameOp::Create { name, .. } | NameOp::Remove { name } => [folder_of(name); 2],
            NameOp::Rename { from, to } => [folder_of(from), folder_of(to)],
        }
    }

    fn touches(&self, folders: &BTreeSet<String>) -> bool {
        self.folders().iter().any(|folder| folders.contains(*folder))
    }
}

/// One line of the trace. `usize` is the number of an earlier op.
pub(crate) enum Op {
    WriteSubmitted(Arc<Write>),
    WriteCompleted {
        submitted: usize,
    },
    /// `maybe`: the sectors that may be there all the same.
    WriteFailed {
        submitted: usize,
        maybe: Vec<bool>,
    },
    FlushBegun {
        inode: Inode,
        name: Arc<str>,
    },
    FlushCompleted {
        begun: usize,
    },
    FlushFailed {
        begun: usize,
    },
    Name(NameOp),
    FolderFlushed {
        folder: Arc<str>,
    },
    Rotted {
        inode: Inode,
        name: Arc<str>,
        byte: u64,
        bit: u8,
    },
    Mark(u64),
}

/// Tells op `at`, for messages.
pub(crate) fn describe(trace: &[Op], at: usize) -> String {
    let write = |submitted: &usize| match &trace[*submitted] {
        Op::WriteSubmitted(write) => write.to_string(),
        _ => unreachable!("op {submitted} is no write"),
    };
    match &trace[at] {
        Op::WriteSubmitted(write) => format!("write #{at} submitted: {write}"),
        Op::WriteCompleted { submitted } => format!("write #{submitted} completed: {}", write(submitted)),
        Op::WriteFailed { submitted, .. } => format!("write #{submitted} failed: {}", write(submitted)),
        Op::FlushBegun { name, .. } => format!("flush #{at} begun: {name}"),
        Op::FlushCompleted { begun } => format!("flush #{begun} completed"),
        Op::FlushFailed { begun } => format!("flush #{begun} failed"),
        Op::Name(NameOp::MakeFolder { name }) => format!("folder made: {name}"),
        Op::Name(NameOp::Create { name, len, .. }) => format!("created: {name} of {len}"),
        Op::Name(NameOp::Rename { from, to }) => format!("renamed: {from} to {to}"),
        Op::Name(NameOp::Remove { name }) => format!("removed: {name}"),
        Op::FolderFlushed { folder } => format!("folder flushed: {folder:?}"),
        Op::Rotted { name, byte, bit, .. } => format!("rotted: {name} byte {byte} bit {bit}"),
        Op::Mark(label) => format!("mark {label}"),
    }
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let durable = if self.sync == Sync::Durable { " durable" } else { "" };
        write!(f, "{} {}+{}{durable}", self.name, self.offset, self.bytes.len())
    }
}

/// What is durable at one point of the trace, and what is not yet.
#[derive(Clone, Default)]
pub(crate) struct Image {
    pub(crate) names: Names,
    pub(crate) files: BTreeMap<Inode, Content>,
}
