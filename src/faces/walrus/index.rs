//! A small durable map from a name to two numbers, beside the log: the `WalIndex` of the original.
//!
//! ```text
//!   magic "WALRIDX1" | n u32 | zero u32 | each { key_len u32 | zero u32 | idx u64 | offset u64 | key } | sum u64
//! ```
//!
//! Written whole at each change: temporary, flush, rename, flush of the folder. `Walrus` itself does not use it: its read positions are
//! cursors of the engine. A file of the original's is not read, and a damaged one is an error: the original begins anew without a word.
//!
//! Layer: faces. Uses `format` for fields and sums.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::folder;
use crate::format::Corrupt;
use crate::format::checksum::plain_sum;
use crate::format::field::{Reader, get_u64};

const MAGIC: &[u8; 8] = b"WALRIDX1";

/// Two numbers: a block and an offset in it, by the original's reckoning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockPos {
    /// The number of a block.
    pub cur_block_idx: u64,
    /// An offset in it.
    pub cur_block_offset: u64,
}

/// A durable map from names to positions, in a file `<name>_index.db` of the folder that [`Walrus::new`](super::Walrus::new) uses.
pub struct WalIndex {
    store: HashMap<String, BlockPos>,
    path: PathBuf,
}

impl WalIndex {
    /// Reads the index of that name; one that does not exist is empty.
    ///
    /// # Errors
    /// When the file cannot be read; `InvalidData` when it is damaged.
    pub fn new(file_name: &str) -> io::Result<WalIndex> {
        WalIndex::within(&folder::root(None, None), file_name)
    }

    fn within(root: &Path, file_name: &str) -> io::Result<WalIndex> {
        folder::make(root)?;
        let path = root.join(format!("{file_name}_index.db"));
        let store = match fs::read(&path) {
            Ok(bytes) => parse(&bytes).map_err(|error| {
                let text = format!("the index {} is damaged: {error}", path.display());
                io::Error::new(ErrorKind::InvalidData, text)
            })?,
            Err(error) if error.kind() == ErrorKind::NotFound => HashMap::new(),
            Err(error) => return Err(error),
        };
        Ok(WalIndex { store, path })
    }

    /// Sets a position; it is durable when this returns.
    ///
    /// # Errors
    /// When the file cannot be written; the index is as it was then.
    pub fn set(&mut self, key: String, idx: u64, offset: u64) -> io::Result<()> {
        let mut store = self.store.clone();
        store.insert(key, BlockPos { cur_block_idx: idx, cur_block_offset: offset });
        self.replace(store)
    }

    /// The position of that name.
    pub fn get(&self, key: &str) -> Option<&BlockPos> {
        self.store.get(key)
    }

    /// Removes a position, durably, and returns it.
    ///
    /// # Errors
    /// When the file cannot be written; the index is as it was then.
    pub fn remove(&mut self, key: &str) -> io::Result<Option<BlockPos>> {
        let mut store = self.store.clone();
        let removed = store.remove(key);
        if removed.is_some() {
            self.replace(store)?;
        }
        Ok(removed)
    }

    fn replace(&mut self, store: HashMap<String, BlockPos>) -> io::Result<()> {
        let temporary = self.path.with_extension("db.tmp");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&encode(&store))?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        self.store = store;
        Ok(())
    }
}

fn encode(store: &HashMap<String, BlockPos>) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&(store.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    for (key, position) in store {
        out.extend_from_slice(&(key.len() as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&position.cur_block_idx.to_le_bytes());
        out.extend_from_slice(&position.cur_block_offset.to_le_bytes());
        out.extend_from_slice(key.as_bytes());
    }
    let sum = plain_sum(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

fn parse(bytes: &[u8]) -> Result<HashMap<String, BlockPos>, Corrupt> {
    let body_len = bytes.len().checked_sub(8).ok_or(Corrupt::Short { what: "index" })?;
    let (body, sum) = bytes.split_at(body_len);
    if get_u64(sum, 0) != plain_sum(body) {
        return Err(Corrupt::field("index: sum", body_len));
    }
    let mut reader = Reader::new(body, "index");
    if reader.bytes(8)? != MAGIC {
        return Err(Corrupt::field("index: magic", 0));
    }
    let n = reader.u32()?;
    reader.u32()?;
    // No reservation by a count from disk: the map grows as the bytes bear it out.
    let mut store = HashMap::new();
    for _ in 0..n {
        let key_len = reader.u32()? as usize;
        reader.u32()?;
        let position = BlockPos { cur_block_idx: reader.u64()?, cur_block_offset: reader.u64()? };
        let key = std::str::from_utf8(reader.bytes(key_len)?).map_err(|_| Corrupt::field("index: a key", 0))?;
        store.insert(key.to_owned(), position);
    }
    if reader.left() != 0 {
        return Err(Corrupt::field("index: bytes behind its end", body_len - reader.left()));
    }
    Ok(store)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_there_for_the_next_and_what_is_removed_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let open = || WalIndex::within(folder.path(), "mine").unwrap();
        let mut index = open();
        index.set("a".into(), 1, 2).unwrap();
        index.set("größe".into(), u64::MAX, 0).unwrap();
        index.set("a".into(), 3, 4).unwrap();
        assert_eq!(open().get("a"), Some(&BlockPos { cur_block_idx: 3, cur_block_offset: 4 }));
        assert_eq!(index.remove("größe").unwrap().unwrap().cur_block_idx, u64::MAX);
        assert!(index.remove("größe").unwrap().is_none());
        assert!(open().get("größe").is_none());
    }

    #[test]
    fn every_flipped_bit_is_an_error_and_not_a_fresh_start() {
        let folder = tempfile::tempdir().unwrap();
        WalIndex::within(folder.path(), "mine").unwrap().set("key".into(), 1, 2).unwrap();
        let path = folder.path().join("mine_index.db");
        let good = fs::read(&path).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, bad).unwrap();
            let error = WalIndex::within(folder.path(), "mine").err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "bit {bit}");
        }
    }
}
