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
use std::ops::Range;
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
    pub(crate) fn apply(&self, content: &mut Content, sectors: Range<usize>) {
        if sectors.is_empty() {
            return;
        }
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
    names: Names,
    files: BTreeMap<Inode, Content>,
    /// In the order they were begun.
    pending: Vec<Pending>,
}

/// What a power cut at this point may or may not leave. Each sector of a write is an item of its own.
#[derive(Clone)]
enum Pending {
    Write(PendingWrite),
    Size { inode: Inode, len: u64, progress: Progress },
    Name(NameOp),
}

#[derive(Clone)]
struct PendingWrite {
    submitted: usize,
    write: Arc<Write>,
    /// Its sectors that are still undecided.
    left: Vec<bool>,
    progress: Progress,
}

/// The number is that of the op by which it ceased to be in flight.
#[derive(Clone, Copy)]
enum Progress {
    InFlight,
    /// The next flush that begins covers it.
    Complete(usize),
    /// It, or a flush of it, failed: no flush covers it any more.
    InDoubt(usize),
}

impl Progress {
    fn is_over_before(self, at: usize) -> bool {
        match self {
            Progress::InFlight => false,
            Progress::Complete(since) | Progress::InDoubt(since) => since <= at,
        }
    }
}

impl Pending {
    fn items(&self) -> usize {
        match self {
            Pending::Write(pending) => pending.left.iter().filter(|left| **left).count(),
            Pending::Size { .. } | Pending::Name(_) => 1,
        }
    }

    /// Its progress, if a flush of this file that began at `begun` covers it.
    fn covered_by(&mut self, file: Inode, begun: usize) -> Option<&mut Progress> {
        let (inode, progress) = match self {
            Pending::Write(PendingWrite { write, progress, .. }) => (write.inode, progress),
            Pending::Size { inode, progress, .. } => (*inode, progress),
            Pending::Name(_) => return None,
        };
        let covered = inode == file && matches!(progress, Progress::Complete(since) if *since <= begun);
        covered.then_some(progress)
    }
}

impl Image {
    /// A disk at rest.
    pub(crate) fn of(names: Names, files: BTreeMap<Inode, Content>) -> Image {
        Image { names, files, pending: Vec::new() }
    }

    /// How many items a power cut here decides about.
    pub(crate) fn undecided(&self) -> usize {
        self.pending.iter().map(Pending::items).sum()
    }

    /// Goes over one op.
    pub(crate) fn follow(&mut self, trace: &[Op], at: usize) {
        match &trace[at] {
            Op::WriteSubmitted(write) => self.pending.push(Pending::Write(PendingWrite {
                submitted: at,
                write: Arc::clone(write),
                left: vec![true; write.sectors()],
                progress: Progress::InFlight,
            })),
            Op::WriteCompleted { submitted } => self.write_completed(*submitted, at),
            Op::WriteFailed { submitted, maybe } => self.write_failed(*submitted, maybe, at),
            Op::FlushBegun { .. } | Op::Mark(_) => {}
            Op::FlushCompleted { begun } => self.flush_completed(flushed(trace, *begun), *begun),
            Op::FlushFailed { begun } => self.flush_failed(flushed(trace, *begun), *begun),
            Op::Name(op) => self.name_changed(op, at),
            Op::FolderFlushed { folder } => self.folder_flushed(folder),
            Op::Rotted { inode, byte, bit, .. } => {
                let content = self.files.get_mut(inode).expect("a file rots while it is there");
                // Of bytes that are not durable yet there is nothing on the device to rot.
                if *byte < content.len() {
                    content.flip(*byte, *bit);
                }
            }
        }
    }

    /// Where the write is that was submitted by this op and is in flight.
    fn find(&self, submitted: usize) -> usize {
        let found = self.pending.iter().rposition(|pending| match pending {
            // What a disk carried over from a killed process has no number of this trace, but is not in flight either.
            Pending::Write(write) => write.submitted == submitted && matches!(write.progress, Progress::InFlight),
            Pending::Size { .. } | Pending::Name(_) => false,
        });
        found.expect("a write ends once, after it began")
    }

    fn write_completed(&mut self, submitted: usize, at: usize) {
        let index = self.find(submitted);
        let Pending::Write(pending) = &mut self.pending[index] else { unreachable!("found as a write") };
        pending.progress = Progress::Complete(at);
        if pending.write.sync == Sync::Durable {
            self.settle(index);
        }
    }

    fn write_failed(&mut self, submitted: usize, maybe: &[bool], at: usize) {
        let index = self.find(submitted);
        let Pending::Write(pending) = &mut self.pending[index] else { unreachable!("found as a write") };
        pending.progress = Progress::InDoubt(at);
        for (left, maybe) in pending.left.iter_mut().zip(maybe) {
            *left &= *maybe;
        }
    }

    fn flush_completed(&mut self, inode: Inode, begun: usize) {
        while let Some(index) = self.pending.iter_mut().position(|pending| pending.covered_by(inode, begun).is_some()) {
            self.settle(index);
        }
    }

    fn flush_failed(&mut self, inode: Inode, begun: usize) {
        for pending in &mut self.pending {
            if let Some(progress) = pending.covered_by(inode, begun)
                && let Progress::Complete(since) = *progress
            {
                *progress = Progress::InDoubt(since);
            }
        }
    }

    /// Makes one item durable.
    fn settle(&mut self, index: usize) {
        match self.pending.remove(index) {
            Pending::Write(PendingWrite { submitted, write, left, .. }) => {
                self.supersede(index, submitted, &write);
                write.apply_some(self.content_mut(write.inode), |sector| left[sector]);
            }
            Pending::Size { inode, len, .. } => self.content_mut(inode).grow(len),
            Pending::Name(op) => op.apply(&mut self.names),
        }
    }

    /// Sectors that a now durable write found written when it was submitted are gone for good, durable or not.
    fn supersede(&mut self, index: usize, submitted: usize, by: &Write) {
        let range = by.offset..by.offset + by.bytes.len() as u64;
        for pending in &mut self.pending[..index] {
            let Pending::Write(PendingWrite { write, left, progress, .. }) = pending else { continue };
            if write.inode == by.inode && progress.is_over_before(submitted) {
                for (sector, left) in left.iter_mut().enumerate() {
                    *left &= !range.contains(&(write.offset + (sector * SECTOR) as u64));
                }
            }
        }
    }

    fn content_mut(&mut self, inode: Inode) -> &mut Content {
        self.files.entry(inode).or_default()
    }

    fn name_changed(&mut self, op: &NameOp, at: usize) {
        self.pending.push(Pending::Name(op.clone()));
        if let NameOp::Create { inode, len, .. } = op {
            self.content_mut(*inode);
            if *len > 0 {
                self.pending.push(Pending::Size { inode: *inode, len: *len, progress: Progress::Complete(at) });
            }
        }
    }

    /// Settles the names of one folder, and those before them that they hang together with through renames.
    fn folder_flushed(&mut self, folder: &str) {
        let mut folders = BTreeSet::from([folder.to_owned()]);
        let mut flushed = Vec::new();
        for (index, pending) in self.pending.iter().enumerate().rev() {
            if let Pending::Name(op) = pending
                && op.touches(&folders)
            {
                folders.extend(op.folders().map(str::to_owned));
                flushed.push(index);
            }
        }
        for (settled, index) in flushed.into_iter().rev().enumerate() {
            self.settle(index - settled);
        }
    }

    /// What is there after a power cut here, when `keep` decides about each item.
    pub(crate) fn cut(&self, mut keep: impl FnMut(usize) -> bool) -> Image {
        let mut item = 0..;
        let mut keep = || keep(item.next().expect("usize is enough"));
        let mut left_behind = Image::of(self.names.clone(), self.files.clone());
        let mut stopped = BTreeSet::new();
        for pending in &self.pending {
            match pending {
                Pending::Write(PendingWrite { write, left, .. }) => {
                    write.apply_some(left_behind.content_mut(write.inode), |sector| left[sector] && keep());
                }
                Pending::Size { inode, len, .. } => {
                    if keep() {
                        left_behind.content_mut(*inode).grow(*len);
                    }
                }
                // A journal is replayed up to where it ends, so a lost name takes those behind it along.
                Pending::Name(op) => {
                    if keep() && !op.touches(&stopped) {
                        op.apply(&mut left_behind.names);
                    } else {
                        stopped.extend(op.folders().map(str::to_owned));
                    }
                }
            }
        }
        left_behind.drop_unreachable();
        left_behind
    }

    /// Forgets files without a name, and names in folders that are not there.
    fn drop_unreachable(&mut self) {
        // A folder sorts before what is in it, so one pass is enough.
        let mut folders = BTreeSet::from([""]);
        let mut reached = BTreeSet::new();
        let mut lost = Vec::new();
        for (name, node) in &self.names {
            match node {
                _ if !folders.contains(folder_of(name)) => lost.push(Arc::clone(name)),
                Node::Folder => drop(folders.insert(name)),
                Node::File(inode) => drop(reached.insert(*inode)),
            }
        }
        self.files.retain(|inode, _| reached.contains(inode));
        for name in lost {
            self.names.remove(&name);
        }
    }

    /// What is there after the process was killed here: everything complete, as much undecided as before, and of what was
    /// in flight or in doubt those sectors that `lands` says.
    ///
    /// What was in doubt is decided by that: the next process reads past the page cache, so it sees what the device holds, and a
    /// flush of its own makes durable what it sees.
    pub(crate) fn killed(&self, mut lands: impl FnMut() -> bool) -> Image {
        let mut left_behind = self.clone();
        for pending in &mut left_behind.pending {
            match pending {
                Pending::Write(PendingWrite { submitted, left, progress, .. }) => {
                    *submitted = 0;
                    if !matches!(progress, Progress::Complete(_)) {
                        left.iter_mut().for_each(|left| *left &= lands());
                    }
                    *progress = Progress::Complete(0);
                }
                Pending::Size { progress, .. } => *progress = Progress::Complete(0),
                Pending::Name(_) => {}
            }
        }
        left_behind
    }

    /// What programs see: all of it.
    pub(crate) fn seen(&self) -> (Names, BTreeMap<Inode, Content>) {
        let (mut names, mut files) = (self.names.clone(), self.files.clone());
        for pending in &self.pending {
            match pending {
                Pending::Write(PendingWrite { write, left, .. }) => {
                    write.apply_some(files.entry(write.inode).or_default(), |sector| left[sector]);
                }
                Pending::Size { inode, len, .. } => files.entry(*inode).or_default().grow(*len),
                Pending::Name(op) => op.apply(&mut names),
            }
        }
        (names, files)
    }
}

fn flushed(trace: &[Op], begun: usize) -> Inode {
    match &trace[begun] {
        Op::FlushBegun { inode, .. } => *inode,
        _ => unreachable!("op {begun} is no flush"),
    }
}
