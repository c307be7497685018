//! The queue that writes by copying into memory: each file is mapped whole and shared, and a flush is `msync`.
//!
//! ```text
//!   write   slot --copy--> mapping (the page cache) ....whenever the kernel likes....> device
//!   flush                  mapping --msync, waits--> device
//! ```
//!
//! Sequential, like the system calls: a completion waits until it is asked for. It is here because the seed has it, for file systems
//! that know no direct I/O, and as one more opinion on what the contract says. It is the slowest way to a disk.
//!
//! **A mapping fails by a signal, not by an error.** Touching a page behind the end of the file, on a bad sector, or without room on a
//! file system that allocates when it is written to, is SIGBUS, which ends the process. So every page is asked for first
//! (`MADV_POPULATE_WRITE`, Linux 5.14), which says the same as an error; on older kernels the length is looked at instead, and the other
//! two stay signals. What is left either way: somebody who truncates the file between that and the copy. LOCK keeps those out who ask.
//!
//! **Coherence.** `read_at` sees the page cache, so what was copied. `read_direct` sees the device; Linux writes dirty pages of the
//! range back before it, though POSIX does not promise it. Nobody here relies on that: recovery flushes first, reads then, and maps
//! nothing before it is done. [`File::write_at`](super::File::write_at) goes past the cache and is used on files, or before any block is
//! written to them, that this queue does not write to.
//!
//! Layer: storage. Uses `limits`. Knows nothing of commit groups.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use memmap2::{Advice, MmapMut, MmapOptions};

use super::bell::Bell;
use super::buffer::{Pool, Slot};
use super::dir::{Host, HostFile};
use super::{Completion, Error, Result, Sync, Token, Waker};

/// Files kept mapped: the active segment, the one it goes on into, and two that are still being flushed. One more and the eldest is
/// unmapped, which loses nothing: what was copied is in the page cache, and the file can be flushed without a mapping.
const MAPS_MAX: usize = 4;

pub(crate) struct MmapQueue {
    pool: Pool,
    done: Vec<Completion>,
    bell: Arc<Bell>,
    /// The one that was written to last comes first.
    maps: VecDeque<Mapped>,
    /// LOCK is held while there is a queue.
    _host: Host,
}

struct Mapped {
    file: HostFile,
    map: MmapMut,
}

impl MmapQueue {
    pub(crate) fn new(host: &Host) -> MmapQueue {
        let (bell, maps) = (Arc::default(), VecDeque::with_capacity(MAPS_MAX + 1));
        MmapQueue { pool: Pool::new(), done: Vec::new(), bell, maps, _host: host.clone() }
    }

    pub(crate) fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    pub(crate) fn write(&mut self, token: Token, file: &HostFile, offset: u64, slot: Slot, len: usize, sync: Sync) {
        let written = self.mapped(file).and_then(|mapped| mapped.write(&slot.bytes()[..len], offset, sync));
        let result = written.map_err(|error| Error::new("write", file.name(), error).at(offset, len));
        self.pool.give(slot);
        self.complete(token, result);
    }

    pub(crate) fn flush(&mut self, token: Token, file: &HostFile) {
        let result = match self.maps.iter().find(|mapped| mapped.file.same_file(file)) {
            // A failed one is not begun again: its second answer would be a lie.
            Some(mapped) => uninterrupted(|| mapped.map.flush()).map_err(|error| file.flush_failed(error)),
            None => file.flush(),
        };
        self.complete(token, result);
    }

    /// The file's mapping, made if there is none.
    fn mapped(&mut self, file: &HostFile) -> io::Result<&mut Mapped> {
        match self.maps.iter().position(|mapped| mapped.file.same_file(file)) {
            Some(0) => {}
            Some(at) => {
                let mapped = self.maps.remove(at).expect("just found");
                self.maps.push_front(mapped);
            }
            None => {
                self.maps.push_front(Mapped::new(file)?);
                self.maps.truncate(MAPS_MAX);
            }
        }
        Ok(&mut self.maps[0])
    }

    fn complete(&mut self, token: Token, result: Result<()>) {
        assert!(self.done.iter().all(|other| other.token != token), "{token:?} is in flight already");
        self.done.push(Completion { token, result });
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.done.len()
    }

    pub(crate) fn poll(&mut self, done: &mut Vec<Completion>) {
        done.append(&mut self.done);
    }

    pub(crate) fn wait(&mut self, done: &mut Vec<Completion>) {
        if self.done.is_empty() {
            self.bell.hear();
        } else {
            self.bell.silence();
        }
        self.poll(done);
    }

    pub(crate) fn waker(&self) -> Waker {
        Waker::Bell(Arc::clone(&self.bell))
    }
}

impl Mapped {
    /// Maps as many bytes as the file has now, and never more.
    fn new(file: &HostFile) -> io::Result<Mapped> {
        let len = file_len(file)?;
        let len = usize::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        // SAFETY: the bytes behind a shared mapping may change or go away under us. Nobody changes them but its owner: the folder is
        // ours by LOCK, other handles write to a file only before its first block, and no reference into the mapping outlives the copy
        // in `Mapped::copy`. They do not go away: files are not truncated, only removed, which leaves a mapping whole; and each page
        // is populated before it is touched, where the kernel can (see the head of this file).
        let map = unsafe { MmapOptions::new().len(len).map_mut(file.cached_fd())? };
        Ok(Mapped { file: file.clone(), map })
    }

    fn write(&mut self, bytes: &[u8], offset: u64, sync: Sync) -> io::Result<()> {
        let past_the_end = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let start = usize::try_from(offset).map_err(|_| past_the_end())?;
        let end = start.checked_add(bytes.len()).ok_or_else(past_the_end)?;
        if end > self.map.len() || file_len(&self.file)? < end as u64 {
            return Err(past_the_end());
        }
        self.populate(start, bytes.len())?;
        self.copy(bytes, start);
        match sync {
            Sync::Lazy => Ok(()),
            Sync::Durable => uninterrupted(|| self.map.flush_range(start, bytes.len())),
        }
    }

    /// Asks for the pages of a range, ready to be written: what is wrong with them is an error here, and a signal later.
    fn populate(&self, start: usize, len: usize) -> io::Result<()> {
        match uninterrupted(|| self.map.advise_range(Advice::PopulateWrite, start, len)) {
            // EINVAL: an older kernel, which knows no such advice.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            populated => populated,
        }
    }

    fn copy(&mut self, bytes: &[u8], start: usize) {
        self.map[start..start + bytes.len()].copy_from_slice(bytes);
    }
}

/// A file as memory that outlives the process: what is stored is in the page cache at once, without a system call.
///
/// Its pages are asked for when it is made. The kernel writes them back now and then, and the next store asks for each again: where the
/// file system has failed by then that is SIGBUS, and the end of the process.
pub(crate) struct SharedMap {
    mapped: Mapped,
}

impl SharedMap {
    pub(crate) fn new(file: &HostFile) -> Result<SharedMap> {
        let mapped = Mapped::new(file).and_then(|mapped| mapped.populate(0, mapped.map.len()).map(|()| mapped));
        mapped.map(|mapped| SharedMap { mapped }).map_err(|error| Error::new("map", file.name(), error))
    }

    pub(crate) fn store(&mut self, bytes: &[u8], at: usize) {
        self.mapped.copy(bytes, at);
    }
}

fn file_len(file: &HostFile) -> io::Result<u64> {
    file.len().map_err(|error| error.into_io())
}

/// Begins a call again that a signal has interrupted.
fn uninterrupted(mut call: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Access, Disk, File, IoMode, Queue};

    const PAGE: usize = crate::limits::ALIGN_MIN;

    struct Rig {
        folder: tempfile::TempDir,
        disk: Disk,
        queue: Queue,
    }

    fn rig() -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path(), IoMode::Mmap, Access::Write).unwrap();
        let queue = disk.queue().unwrap();
        Rig { folder, disk, queue }
    }

    impl Rig {
        fn write(&mut self, file: &File, page: usize, byte: u8) -> Result<()> {
            let mut slot = self.queue.slot(PAGE).unwrap();
            self.queue.slot_bytes(&mut slot)[..PAGE].fill(byte);
            self.queue.write(Token(1), file, (page * PAGE) as u64, slot, PAGE, Sync::Durable);
            let mut done = Vec::new();
            self.queue.wait(&mut done);
            done.pop().unwrap().result
        }
    }

    #[test]
    fn a_file_that_is_cut_short_under_its_mapping_is_an_error_and_not_the_end_of_the_process() {
        let mut rig = rig();
        let file = rig.disk.create("file", 8 * PAGE as u64).unwrap();
        rig.write(&file, 7, 1).unwrap();
        let outside = std::fs::File::options().write(true).open(rig.folder.path().join("file")).unwrap();
        outside.set_len(4 * PAGE as u64).unwrap();
        let error = rig.write(&file, 7, 2).unwrap_err();
        assert!(error.to_string().starts_with("write of 4096 bytes at offset 28672 of file failed: "), "{error}");
        rig.write(&file, 3, 3).unwrap();
    }

    #[test]
    fn a_write_past_the_end_is_an_error_and_does_not_make_the_file_longer() {
        let mut rig = rig();
        let file = rig.disk.create("file", 2 * PAGE as u64).unwrap();
        assert_eq!(rig.write(&file, 2, 1).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(file.len().unwrap(), 2 * PAGE as u64);
    }

    /// Bytes of a mapping of this process that the kernel has not begun to write to the device since they were copied; `None` where it
    /// does not say, and in memory, where nothing is ever written.
    fn dirty_bytes(path: &std::path::Path) -> Option<usize> {
        const TMPFS: i64 = 0x0102_1994;
        if rustix::fs::statfs(path).unwrap().f_type as i64 == TMPFS {
            return None;
        }
        let smaps = std::fs::read_to_string("/proc/self/smaps").ok()?;
        let (name, mut found, mut kib) = (path.to_str().unwrap(), false, None);
        for line in smaps.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next()? {
                "Shared_Dirty:" | "Private_Dirty:" if found => {
                    *kib.get_or_insert(0) += words.next()?.parse::<usize>().ok()?
                }
                field if !field.ends_with(':') => found = line.ends_with(name),
                _ => {}
            }
        }
        Some(kib? << 10)
    }

    /// No read tells whether a flush was one: it sees the page cache, or writes it back itself. The kernel's own account does.
    #[test]
    fn nothing_of_a_mapping_is_left_to_be_written_once_a_flush_or_a_durable_write_is_complete() {
        let mut rig = rig();
        let file = rig.disk.create("file", 64 * PAGE as u64).unwrap();
        let path = rig.folder.path().join("file");
        let mut done = Vec::new();
        for page in [3, 4, 40] {
            let slot = rig.queue.slot(PAGE).unwrap();
            rig.queue.write(Token(page as u64), &file, (page * PAGE) as u64, slot, PAGE, Sync::Lazy);
        }
        rig.queue.flush(Token(0), &file);
        rig.queue.wait(&mut done);
        let Some(dirty) = dirty_bytes(&path) else { return println!("the kernel does not say what is dirty") };
        assert_eq!(dirty, 0, "after a flush");
        rig.write(&file, 17, 1).unwrap();
        assert_eq!(dirty_bytes(&path), Some(0), "after a durable write");
    }

    #[test]
    fn what_was_written_before_a_mapping_was_given_up_is_flushed_all_the_same() {
        let mut rig = rig();
        let files: Vec<File> =
            (0..3 * MAPS_MAX).map(|n| rig.disk.create(&format!("file-{n}"), PAGE as u64).unwrap()).collect();
        for (n, file) in files.iter().enumerate() {
            let mut slot = rig.queue.slot(PAGE).unwrap();
            rig.queue.slot_bytes(&mut slot)[..PAGE].fill(n as u8 + 1);
            rig.queue.write(Token(n as u64), file, 0, slot, PAGE, Sync::Lazy);
        }
        for (n, file) in files.iter().enumerate() {
            rig.queue.flush(Token(100 + n as u64), file);
        }
        let mut done = Vec::new();
        rig.queue.wait(&mut done);
        assert!(done.len() == 6 * MAPS_MAX && done.iter().all(|completion| completion.result.is_ok()));
        for (n, file) in files.iter().enumerate() {
            let mut bytes = vec![0; PAGE];
            file.read_at(&mut bytes, 0).unwrap();
            assert_eq!(bytes, vec![n as u8 + 1; PAGE]);
        }
    }
}
