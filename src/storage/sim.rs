//! A disk in memory that tears, loses and fails, and that tells afterwards every state a power cut could have left.
//!
//! ```text
//!   SimDisk --run your program once--> trace
//!      `-- for at in 0..=trace_len() --> crash(at, survivors) --> SimDisk --> open it again, and look
//! ```
//!
//! **The model.** A write that no flush has covered may be there in any subset of its 512-byte sectors. A flush covers the
//! writes of its file that were complete when it began; a durable write becomes durable by itself when it completes. A
//! failed write or flush leaves its sectors in doubt: no later flush of this process settles them; the next process finds them there or
//! not. A name
//! (made, renamed, removed) may be lost until its folder is flushed; the names of one folder survive as a prefix of their
//! order, as on a journalling file system, and a rename between two folders is settled by a flush of either. A new file may
//! be there without its size until it is flushed. Operations in flight complete in an order drawn from the seed.
//!
//! Not modelled: sectors with garbage in them (a flipped bit is [`SimDisk::flip_bit`]), and a disk that never
//! answers (one that answers late is [`SimDisk::hold`]).
//!
//! Layer: storage. Uses `limits`. Knows nothing of what is tested on it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::bell::Bell;
use super::buffer::{Pool, Slot};
use super::{Access, Completion, Disk, Error, IoReport, OP_LOCK, Result, Sync, Token, Waker};
use crate::limits::ALIGN_MIN;

mod content;
#[cfg(test)]
mod tests;
mod trace;

use content::{Content, SECTOR};
use trace::{Image, Inode, NameOp, Names, Node, Op, Write, folder_of};

/// Room on the simulated device, until [`SimDisk::set_capacity`] says otherwise.
const DEVICE_BYTES: u64 = 1 << 40;

/// The operations a [`Fault`] can strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A write, of whatever kind.
    Write,
    /// A flush of a file.
    Flush,
    /// The making of a file.
    Create,
    /// A rename, that of a small file among them.
    Rename,
    /// A removal.
    Remove,
    /// A flush of a folder, that behind a small file's rename among them. The names stay undecided.
    FlushFolder,
    /// A read, of whatever kind.
    Read,
}

/// What a struck operation says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultError {
    /// An I/O error. Of a write any part may be there.
    Io,
    /// No space left. Of a write nothing is there.
    Full,
    /// A write that stopped in the middle and could not go on: some first part of it may be there.
    Short,
    /// None: the thread that asks for it meets a bug, and panics.
    Panic,
}

/// A failure to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What it strikes.
    pub kind: FaultKind,
    /// Which one: 1 is the next of its kind.
    pub nth: u64,
    /// With what.
    pub error: FaultError,
    /// That one and all behind it, not that one only.
    pub from_then_on: bool,
}

impl FaultError {
    fn to_io(self) -> io::Error {
        match self {
            FaultError::Io => rustix::io::Errno::IO.into(),
            FaultError::Full => rustix::io::Errno::NOSPC.into(),
            FaultError::Short => io::ErrorKind::WriteZero.into(),
            FaultError::Panic => panic!("a planted panic"),
        }
    }
}

/// Which of the undecided items a power cut leaves, in the order they were begun (see [`SimDisk::pending_sectors`]).
///
/// A name survives only if all undecided names before it in its folder do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Survivors {
    /// None.
    Nothing,
    /// All.
    Everything,
    /// The first so many.
    Prefix(usize),
    /// All but this one.
    Missing(usize),
    /// This one alone.
    Only(usize),
    /// Each by a coin of this seed.
    Seeded(u64),
}

/// A simulated disk with one data folder. A clone is another handle on the same one.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    /// The handles that an open gave out hold LOCK by this; the test's own handle holds nothing.
    session: Option<Arc<Session>>,
}

struct State {
    seed: u64,
    random: Random,
    /// What programs see: every completed operation.
    names: Names,
    files: BTreeMap<Inode, Content>,
    next_inode: Inode,
    /// What was there before the first op of the trace.
    base: Image,
    trace: Vec<Op>,
    /// Made when first asked for: most disks of a crash test never crash again.
    cursor: Option<Cursor>,
    faults: Vec<Fault>,
    faults_fired: u64,
    capacity: u64,
    writers: usize,
    readers: usize,
    /// How many [`Hold`]s there are, and the queues to tell when the last goes.
    holds: usize,
    bells: Vec<Weak<Bell>>,
}

/// While it lives, nothing that a queue of the disk has in flight completes: see [`SimDisk::hold`].
#[must_use = "dropping it lets the disk go on"]
pub struct Hold {
    state: Arc<Mutex<State>>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.holds -= 1;
        if state.holds == 0 {
            state.bells.iter().filter_map(Weak::upgrade).for_each(|bell| bell.ring());
        }
    }
}

/// The image before op `at`. It walks along with tests that try crash points in order, so that a run costs one pass.
struct Cursor {
    at: usize,
    image: Image,
}

/// One open of the folder.
struct Session {
    state: Arc<Mutex<State>>,
    access: Access,
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        match self.access {
            Access::Write => state.writers -= 1,
            Access::Read => state.readers -= 1,
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // A test that panicked while it held the disk is told by its own message, not by ours.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// splitmix64: everything that is left to chance here comes from one seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

// -- for tests ----------------------------------------------------------------------------------------------------

impl SimDisk {
    /// An empty folder. The seed decides the order of completions, and what failed writes leave.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk::from_image(seed, Image::default())
    }

    fn from_image(seed: u64, base: Image) -> SimDisk {
        let (names, files) = base.seen();
        let state = State {
            seed,
            random: Random(seed),
            names,
            next_inode: files.keys().next_back().map_or(1, |last| last + 1),
            files,
            cursor: None,
            base,
            trace: Vec::new(),
            faults: Vec::new(),
            faults_fired: 0,
            capacity: DEVICE_BYTES,
            writers: 0,
            readers: 0,
            holds: 0,
            bells: Vec::new(),
        };
        SimDisk { state: Arc::new(Mutex::new(state)), session: None }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Operations so far: each write twice (submitted, completed), each flush twice (begun, completed), names made,
    /// renamed and removed, flushes of folders, and marks.
    pub fn trace_len(&self) -> usize {
        self.state().trace.len()
    }

    /// Notes something in the trace: "entry 17 was acknowledged".
    pub fn mark(&self, label: u64) {
        self.state().trace.push(Op::Mark(label));
    }

    /// The labels noted before operation `at`, in order.
    pub fn marks_before(&self, at: usize) -> Vec<u64> {
        let label = |op: &Op| if let Op::Mark(label) = op { Some(*label) } else { None };
        self.state().trace[..at].iter().filter_map(label).collect()
    }

    /// Operation `at` in words.
    pub fn op(&self, at: usize) -> String {
        trace::describe(&self.state().trace, at)
    }

    /// How many items are undecided if the power is cut just before operation `at`: 512-byte sectors of writes, sizes of
    /// new files, and names, that are not known to be durable.
    pub fn pending_sectors(&self, at: usize) -> usize {
        self.state().image(at).undecided()
    }

    /// A new disk, as this one is after a power cut just before operation `at`. It is a function of the trace and the
    /// arguments, so a failure that a test finds can be looked at again.
    ///
    /// It takes some microseconds when `at` rises from call to call; going back replays the trace from its start.
    pub fn crash(&self, at: usize, survivors: &Survivors) -> SimDisk {
        let mut state = self.state();
        let seed = state.seed_of(at, 0);
        let image = state.image(at);
        let left_behind = match *survivors {
            Survivors::Nothing => image.cut(|_| false),
            Survivors::Everything => image.cut(|_| true),
            Survivors::Prefix(end) => image.cut(|item| item < end),
            Survivors::Missing(missing) => image.cut(|item| item != missing),
            Survivors::Only(only) => image.cut(|item| item == only),
            Survivors::Seeded(seed) => {
                let mut random = Random(seed);
                image.cut(|_| random.coin())
            }
        };
        SimDisk::from_image(seed, left_behind)
    }

    /// A new disk, as the next process finds this one when the last was killed (SIGKILL) just before operation `at`: what
    /// was complete is there, though no more durable than before; what was in flight, or in doubt after a failed write or flush, may
    /// have landed, in any of its sectors.
    pub fn kill(&self, at: usize, seed: u64) -> SimDisk {
        let mut state = self.state();
        let new_seed = state.seed_of(at, seed);
        let mut random = Random(seed);
        let left_behind = state.image(at).killed(|| random.coin());
        SimDisk::from_image(new_seed, left_behind)
    }

    /// Lets an operation to come fail.
    pub fn fail(&self, fault: Fault) {
        assert!(fault.nth > 0, "the next operation is number 1");
        self.state().faults.push(fault);
    }

    /// Makes the disk slow without a clock: writes and flushes of queues that are in flight, or are begun, complete only once the
    /// returned guard is dropped. What is done at once (small files, reads) goes on.
    pub fn hold(&self) -> Hold {
        self.state().holds += 1;
        Hold { state: Arc::clone(&self.state) }
    }

    /// How many operations faults have struck.
    pub fn faults_fired(&self) -> u64 {
        self.state().faults_fired
    }

    /// Room for the bytes of all files that have a name. Whatever would need more fails as on a full disk; what is there already, and
    /// is written again, needs no more. A disk after a crash, and a copy, have room again.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    /// Bytes of all files that have a name.
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// Turns one bit of a file over, on the device: durable at once.
    pub fn flip_bit(&self, name: &str, byte: u64, bit: u8) {
        let mut state = self.state();
        let inode = state.inode(name);
        state.content_mut(inode).flip(byte, bit);
        state.trace.push(Op::Rotted { inode, name: name.into(), byte, bit });
    }

    /// Names and sizes of all files, sorted by name.
    pub fn files(&self) -> Vec<(String, u64)> {
        let state = self.state();
        let file = |(name, node): (&Arc<str>, &Node)| match node {
            Node::Folder => None,
            Node::File(inode) => Some((name.to_string(), state.content(*inode).len())),
        };
        state.names.iter().filter_map(file).collect()
    }

    /// A file whole, as a program would read it.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn read_file(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        let content = state.content(state.inode(name));
        let mut bytes = vec![0; content.len() as usize];
        assert!(content.read(&mut bytes, 0));
        bytes
    }

    /// A copy at rest: everything a program sees, durable, with a trace of its own.
    pub fn copy(&self) -> SimDisk {
        let state = self.state();
        SimDisk::from_image(state.seed, Image::of(state.names.clone(), state.files.clone()))
    }

    /// The same, but one file has these bytes, or is gone: what a damaged device, or somebody's hand, has left.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn copy_with(&self, name: &str, bytes: Option<&[u8]>) -> SimDisk {
        let state = self.state();
        let (mut names, mut files) = (state.names.clone(), state.files.clone());
        let inode = state.inode(name);
        files.remove(&inode);
        match bytes {
            None => drop(names.remove(name)),
            Some(bytes) => {
                let mut content = Content::default();
                content.grow(bytes.len() as u64);
                content.write(bytes, 0);
                files.insert(inode, content);
            }
        }
        SimDisk::from_image(state.seed, Image::of(names, files))
    }
}

impl State {
    /// The image just before op `at`.
    fn image(&mut self, at: usize) -> &Image {
        assert!(at <= self.trace.len(), "op {at} of {}", self.trace.len());
        self.cursor.take_if(|cursor| at < cursor.at);
        let cursor = self.cursor.get_or_insert_with(|| Cursor { at: 0, image: self.base.clone() });
        while cursor.at < at {
            cursor.image.follow(&self.trace, cursor.at);
            cursor.at += 1;
        }
        &cursor.image
    }

    fn seed_of(&self, at: usize, more: u64) -> u64 {
        Random(self.seed ^ (at as u64).rotate_left(32) ^ more).next()
    }

    fn inode(&self, name: &str) -> Inode {
        match self.names.get(name) {
            Some(Node::File(inode)) => *inode,
            _ => panic!("no file {name}"),
        }
    }

    fn content(&self, inode: Inode) -> &Content {
        &self.files[&inode]
    }

    fn content_mut(&mut self, inode: Inode) -> &mut Content {
        self.files.get_mut(&inode).expect("an inode has a file")
    }

    /// Counts one operation, and says whether a fault strikes it.
    fn strike(&mut self, kind: FaultKind) -> Option<FaultError> {
        let mut struck = None;
        self.faults.retain_mut(|fault| {
            if fault.kind != kind {
                return true;
            }
            if fault.nth > 1 {
                fault.nth -= 1;
                return true;
            }
            struck = struck.or(Some(fault.error));
            fault.from_then_on
        });
        self.faults_fired += u64::from(struck.is_some());
        struck
    }

    fn used_bytes(&self) -> u64 {
        let bytes = |node: &Node| if let Node::File(inode) = node { self.content(*inode).len() } else { 0 };
        self.names.values().map(bytes).sum()
    }

    fn check_room(&self, bytes: u64) -> io::Result<()> {
        let full = self.used_bytes() + bytes > self.capacity;
        if full { Err(FaultError::Full.to_io()) } else { Ok(()) }
    }

    /// An operation on names that a fault may strike.
    fn strike_name(&mut self, kind: FaultKind, op: &'static str, name: &str) -> Result<()> {
        self.strike(kind).map_or(Ok(()), |error| Err(Error::new(op, name, error.to_io())))
    }

    fn change_names(&mut self, op: NameOp) {
        op.apply(&mut self.names);
        self.trace.push(Op::Name(op));
    }

    fn create(&mut self, name: &str, len: u64) -> Inode {
        let inode = self.next_inode;
        self.next_inode += 1;
        let mut content = Content::default();
        content.grow(len);
        self.files.insert(inode, content);
        self.change_names(NameOp::Create { name: name.into(), inode, len });
        inode
    }

    /// Begins a write and returns its number.
    fn submit_write(&mut self, write: Arc<Write>) -> usize {
        self.trace.push(Op::WriteSubmitted(write));
        self.trace.len() - 1
    }

    /// Ends a write: from here on programs see it, or what a fault left of it.
    fn complete_write(&mut self, submitted: usize, struck: Option<FaultError>) -> io::Result<()> {
        let Op::WriteSubmitted(write) = &self.trace[submitted] else { unreachable!("op {submitted} is no write") };
        let write = Arc::clone(write);
        let sectors = write.sectors();
        let Some(error) = struck else {
            write.apply(self.content_mut(write.inode), 0..sectors);
            self.trace.push(Op::WriteCompleted { submitted });
            return Ok(());
        };
        let maybe = match error {
            FaultError::Io | FaultError::Panic => vec![true; sectors],
            FaultError::Full => vec![false; sectors],
            FaultError::Short => {
                let there = self.random.below(sectors);
                (0..sectors).map(|sector| sector < there).collect()
            }
        };
        let seen: Vec<bool> = maybe.iter().map(|maybe| *maybe && self.random.coin()).collect();
        write.apply_some(self.content_mut(write.inode), |sector| seen[sector]);
        self.trace.push(Op::WriteFailed { submitted, maybe });
        Err(error.to_io())
    }

    /// Begins a flush and returns its number.
    fn begin_flush(&mut self, inode: Inode, name: &Arc<str>) -> usize {
        self.trace.push(Op::FlushBegun { inode, name: Arc::clone(name) });
        self.trace.len() - 1
    }

    fn complete_flush(&mut self, begun: usize, struck: Option<FaultError>) -> io::Result<()> {
        match struck {
            None => {
                self.trace.push(Op::FlushCompleted { begun });
                Ok(())
            }
            Some(error) => {
                self.trace.push(Op::FlushFailed { begun });
                Err(error.to_io())
            }
        }
    }

    fn flush_folder(&mut self, folder: &str) {
        self.trace.push(Op::FolderFlushed { folder: folder.into() });
    }
}

// -- the contract -------------------------------------------------------------------------------------------------

impl SimDisk {
    /// Opens the folder as a program does. Locked means another has it, and no waiting would help.
    pub(crate) fn open(&self, access: Access) -> Result<Disk> {
        let mut state = self.state();
        let free = match access {
            Access::Write => state.writers == 0 && state.readers == 0,
            Access::Read => state.writers == 0,
        };
        if !free {
            return Err(Error::new(OP_LOCK, "the simulated folder", io::ErrorKind::WouldBlock));
        }
        match access {
            Access::Write => state.writers += 1,
            Access::Read => state.readers += 1,
        }
        let session = Session { state: Arc::clone(&self.state), access };
        Ok(Disk::Sim(SimDisk { state: Arc::clone(&self.state), session: Some(Arc::new(session)) }))
    }

    pub(crate) fn io(&self) -> IoReport {
        IoReport { name: "sim", direct: true, fallback: None }
    }

    pub(crate) fn align(&self) -> usize {
        ALIGN_MIN
    }

    fn check_writable(&self, op: &'static str, name: &str) -> Result<()> {
        match &self.session {
            Some(session) if session.access == Access::Write => Ok(()),
            _ => Err(Error::new(op, name, rustix::io::Errno::ROFS)),
        }
    }

    pub(crate) fn make_folder(&self, name: &str) -> Result<()> {
        self.check_writable("create", name)?;
        let mut state = self.state();
        state.check_folder("create", name)?;
        match state.names.get(name) {
            Some(Node::Folder) => {}
            Some(Node::File(_)) => return Err(Error::new("create", name, rustix::io::Errno::EXIST)),
            None => {
                state.check_room(1).map_err(|error| Error::new("create", name, error))?;
                state.change_names(NameOp::MakeFolder { name: name.into() });
            }
        }
        Ok(())
    }

    pub(crate) fn flush_folder(&self, name: &str) -> Result<()> {
        let mut state = self.state();
        if !name.is_empty() && state.names.get(name) != Some(&Node::Folder) {
            return Err(Error::new("flush", name, io::ErrorKind::NotFound));
        }
        state.strike_name(FaultKind::FlushFolder, "flush", name)?;
        state.flush_folder(name);
        Ok(())
    }

    pub(crate) fn list(&self, folder: &str) -> Result<Vec<String>> {
        let state = self.state();
        let inside = state.names.keys().filter(|name| folder_of(name) == folder);
        Ok(inside.map(|name| name.rsplit('/').next().unwrap_or(name).to_owned()).collect())
    }

    pub(crate) fn create(&self, name: &str, len: u64) -> Result<SimFile> {
        self.check_writable("create", name)?;
        let mut state = self.state();
        state.check_folder("create", name)?;
        if state.names.contains_key(name) {
            return Err(Error::new("create", name, rustix::io::Errno::EXIST));
        }
        if let Some(error) = state.strike(FaultKind::Create) {
            return Err(Error::new("create", name, error.to_io()));
        }
        state.check_room(len).map_err(|error| Error::new("create", name, error))?;
        let inode = state.create(name, len);
        Ok(self.file(inode, name))
    }

    pub(crate) fn open_file(&self, name: &str) -> Result<SimFile> {
        match self.state().names.get(name) {
            Some(Node::File(inode)) => Ok(self.file(*inode, name)),
            Some(Node::Folder) => Err(Error::new("open", name, io::ErrorKind::IsADirectory)),
            None => Err(Error::new("open", name, io::ErrorKind::NotFound)),
        }
    }

    fn file(&self, inode: Inode, name: &str) -> SimFile {
        let writable = self.session.as_ref().is_some_and(|session| session.access == Access::Write);
        SimFile { state: Arc::clone(&self.state), inode, name: name.into(), writable }
    }

    pub(crate) fn read_small(&self, name: &str, bytes_max: usize) -> Result<Option<Vec<u8>>> {
        let file = match self.open_file(name) {
            Ok(file) => file,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let len = file.len()?;
        if len > bytes_max as u64 {
            let text = format!("it has {len} bytes, and at most {bytes_max} can be right");
            return Err(Error::new("read", name, io::Error::new(io::ErrorKind::InvalidData, text)));
        }
        let mut bytes = vec![0; len as usize];
        file.read_at(&mut bytes, 0)?;
        Ok(Some(bytes))
    }

    pub(crate) fn replace_small(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.replace(name, bytes, Sync::Durable)?;
        self.flush_folder(folder_of(name))
    }

    pub(crate) fn replace_lazily(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.replace(name, bytes, Sync::Lazy)
    }

    /// Puts a file in the place of `name`, its content durable if asked for. The folder is not flushed.
    fn replace(&self, name: &str, bytes: &[u8], sync: Sync) -> Result<()> {
        self.check_writable("replace", name)?;
        let temporary = format!("{name}.tmp");
        let mut state = self.state();
        state.check_folder("replace", name)?;
        state.check_room(bytes.len().max(1) as u64).map_err(|error| Error::new("replace", name, error))?;
        let inode = state.create(&temporary, 0);
        let temporary: Arc<str> = temporary.into();
        let written = state.write_whole(inode, &temporary, bytes, sync);
        let written = written.map_err(|error| Error::new("replace", name, error));
        if let Err(error) = written.and_then(|()| state.strike_name(FaultKind::Rename, "replace", name)) {
            state.change_names(NameOp::Remove { name: temporary });
            return Err(error);
        }
        state.change_names(NameOp::Rename { from: temporary, to: name.into() });
        Ok(())
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.check_writable("rename", from)?;
        let mut state = self.state();
        state.check_folder("rename", to)?;
        state.strike_name(FaultKind::Rename, "rename", from)?;
        match state.names.get(from) {
            Some(Node::File(_)) => state.change_names(NameOp::Rename { from: from.into(), to: to.into() }),
            Some(Node::Folder) => panic!("{from}: the simulated disk renames no folders"),
            None => return Err(Error::new("rename", format!("{from} to {to}"), io::ErrorKind::NotFound)),
        }
        Ok(())
    }

    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        self.check_writable("remove", name)?;
        let mut state = self.state();
        state.strike_name(FaultKind::Remove, "remove", name)?;
        match state.names.get(name) {
            Some(Node::File(_)) => state.change_names(NameOp::Remove { name: name.into() }),
            Some(Node::Folder) => return Err(Error::new("remove", name, io::ErrorKind::IsADirectory)),
            None => return Err(Error::new("remove", name, io::ErrorKind::NotFound)),
        }
        Ok(())
    }

    pub(crate) fn total_bytes(&self) -> Result<u64> {
        Ok(self.state().capacity)
    }

    pub(crate) fn available_bytes(&self) -> Result<u64> {
        let state = self.state();
        Ok(state.capacity.saturating_sub(state.used_bytes()))
    }

    pub(crate) fn queue(&self) -> Result<SimQueue> {
        self.check_writable("queue", "the simulated folder")?;
        let bell = Arc::default();
        let mut state = self.state();
        state.bells.retain(|bell| bell.strong_count() > 0);
        state.bells.push(Arc::downgrade(&bell));
        drop(state);
        Ok(SimQueue { disk: self.clone(), pool: Pool::new(), in_flight: Vec::new(), bell })
    }
}

impl State {
    /// The folder that a name lies in must be there.
    fn check_folder(&self, op: &'static str, name: &str) -> Result<()> {
        let folder = folder_of(name);
        if folder.is_empty() || self.names.get(folder) == Some(&Node::Folder) {
            Ok(())
        } else {
            Err(Error::new(op, name, io::ErrorKind::NotFound))
        }
    }

    /// A small file, whole; flushed, if asked for.
    fn write_whole(&mut self, inode: Inode, name: &Arc<str>, bytes: &[u8], sync: Sync) -> io::Result<()> {
        if !bytes.is_empty() {
            self.write_now(Write { inode, name: name.clone(), offset: 0, bytes: bytes.to_vec(), sync: Sync::Lazy })?;
        }
        match sync {
            Sync::Durable => self.flush_now(inode, name),
            Sync::Lazy => Ok(()),
        }
    }

    fn write_now(&mut self, write: Write) -> io::Result<()> {
        let struck = self.strike(FaultKind::Write);
        let submitted = self.submit_write(Arc::new(write));
        self.complete_write(submitted, struck)
    }

    fn flush_now(&mut self, inode: Inode, name: &Arc<str>) -> io::Result<()> {
        let struck = self.strike(FaultKind::Flush);
        let begun = self.begin_flush(inode, name);
        self.complete_flush(begun, struck)
    }
}

/// An open file of a simulated disk.
#[derive(Clone)]
pub(crate) struct SimFile {
    state: Arc<Mutex<State>>,
    inode: Inode,
    name: Arc<str>,
    writable: bool,
}

impl SimFile {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn len(&self) -> Result<u64> {
        Ok(lock(&self.state).content(self.inode).len())
    }

    pub(crate) fn same_file(&self, other: &SimFile) -> bool {
        Arc::ptr_eq(&self.state, &other.state) && self.inode == other.inode
    }

    pub(crate) fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let fail = |error: io::Error, len| Error::new("read", &*self.name, error).at(offset, len);
        let mut state = lock(&self.state);
        if let Some(error) = state.strike(FaultKind::Read) {
            return Err(fail(error.to_io(), buf.len()));
        }
        match state.content(self.inode).read(buf, offset) {
            true => Ok(()),
            false => Err(fail(io::ErrorKind::UnexpectedEof.into(), buf.len())),
        }
    }

    pub(crate) fn read_direct(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.read_at(buf, offset)
    }

    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let fail = |error: io::Error| Error::new("write", &*self.name, error).at(offset, bytes.len());
        if !self.writable {
            return Err(fail(rustix::io::Errno::BADF.into()));
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let write = self.to_write(bytes, offset, Sync::Lazy);
        lock(&self.state).write_now(write).map_err(fail)
    }

    /// A store into shared memory: a write of the sectors that it touches, which no fault strikes.
    pub(crate) fn store(&self, bytes: &[u8], at: usize) {
        let (start, end) = (at - at % SECTOR, (at + bytes.len()).next_multiple_of(SECTOR));
        let mut sectors = vec![0; end - start];
        let mut state = lock(&self.state);
        assert!(state.content(self.inode).read(&mut sectors, start as u64), "a store past the end of {}", self.name);
        sectors[at - start..][..bytes.len()].copy_from_slice(bytes);
        let submitted = state.submit_write(Arc::new(self.to_write(&sectors, start as u64, Sync::Lazy)));
        state.complete_write(submitted, None).expect("no fault has struck it");
    }

    fn to_write(&self, bytes: &[u8], offset: u64, sync: Sync) -> Write {
        Write { inode: self.inode, name: Arc::clone(&self.name), offset, bytes: bytes.to_vec(), sync }
    }

    pub(crate) fn flush(&self) -> Result<()> {
        lock(&self.state).flush_now(self.inode, &self.name).map_err(|error| Error::new("flush", &*self.name, error))
    }
}

/// The queue of a simulated disk: what is in flight completes when somebody asks, in an order drawn from the seed.
pub(crate) struct SimQueue {
    disk: SimDisk,
    pool: Pool,
    in_flight: Vec<InFlight>,
    bell: Arc<Bell>,
}

struct InFlight {
    token: Token,
    /// Its number in the trace.
    op: usize,
    file: SimFile,
    struck: Option<FaultError>,
    /// What a write holds; a flush holds nothing.
    write: Option<InSlot>,
}

struct InSlot {
    slot: Slot,
    offset: u64,
    len: usize,
}

impl SimQueue {
    pub(crate) fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    pub(crate) fn write(&mut self, token: Token, file: &SimFile, offset: u64, slot: Slot, len: usize, sync: Sync) {
        self.assert_apart(file, offset, len);
        let write = Arc::new(file.to_write(&slot.bytes()[..len], offset, sync));
        let mut state = lock(&self.disk.state);
        let struck = state.strike(FaultKind::Write);
        let op = state.submit_write(write);
        drop(state);
        self.begin(InFlight { token, op, file: file.clone(), struck, write: Some(InSlot { slot, offset, len }) });
    }

    pub(crate) fn flush(&mut self, token: Token, file: &SimFile) {
        let mut state = lock(&self.disk.state);
        let struck = state.strike(FaultKind::Flush);
        let op = state.begin_flush(file.inode, &file.name);
        drop(state);
        self.begin(InFlight { token, op, file: file.clone(), struck, write: None });
    }

    /// What two writes in flight leave in a sector that both write is anybody's guess, so a program that does it is wrong.
    fn assert_apart(&self, file: &SimFile, offset: u64, len: usize) {
        for other in self.in_flight.iter().filter(|other| other.file.same_file(file)) {
            if let Some(write) = &other.write {
                let apart = offset + len as u64 <= write.offset || write.offset + write.len as u64 <= offset;
                assert!(apart, "{}: {offset}+{len} overlaps {}+{} in flight", file.name, write.offset, write.len);
            }
        }
    }

    fn begin(&mut self, operation: InFlight) {
        let token = operation.token;
        assert!(self.in_flight.iter().all(|other| other.token != token), "{token:?} is in flight already");
        self.in_flight.push(operation);
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub(crate) fn poll(&mut self, done: &mut Vec<Completion>) {
        let mut state = self.disk.state();
        if state.holds > 0 {
            return;
        }
        let count = state.random.below(self.in_flight.len() + 1);
        drop(state);
        self.complete(count, done);
    }

    pub(crate) fn wait(&mut self, done: &mut Vec<Completion>) {
        if self.in_flight.is_empty() {
            self.bell.hear();
            return;
        }
        let mut state = self.disk.state();
        if state.holds > 0 {
            drop(state);
            self.bell.hear(); // rung when the last hold goes, which may have been before we listened
            return;
        }
        self.bell.silence();
        let count = 1 + state.random.below(self.in_flight.len());
        drop(state);
        self.complete(count, done);
    }

    /// Completes everything, once nobody holds the disk.
    pub(crate) fn finish(&mut self, done: &mut Vec<Completion>) {
        while self.disk.state().holds > 0 {
            std::thread::yield_now();
        }
        self.complete(self.in_flight.len(), done);
    }

    fn complete(&mut self, count: usize, done: &mut Vec<Completion>) {
        for _ in 0..count {
            let mut state = lock(&self.disk.state);
            let next = state.random.below(self.in_flight.len());
            let InFlight { token, op, file, struck, write } = self.in_flight.swap_remove(next);
            let result = match write {
                Some(InSlot { slot, offset, len }) => {
                    self.pool.give(slot);
                    let written = state.complete_write(op, struck);
                    written.map_err(|error| Error::new("write", &*file.name, error).at(offset, len))
                }
                None => state.complete_flush(op, struck).map_err(|error| Error::new("flush", &*file.name, error)),
            };
            done.push(Completion { token, result });
        }
    }

    pub(crate) fn waker(&self) -> Waker {
        Waker::Bell(Arc::clone(&self.bell))
    }
}

impl Drop for SimQueue {
    fn drop(&mut self) {
        self.complete(self.in_flight.len(), &mut Vec::new());
    }
}
