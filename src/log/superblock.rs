//! The superblock file: which slot is newest, and how it is written.
//!
//! One slot at a time, always the one that does not hold the newest version: whatever happens to the write, the newest
//! version that was there before still is.
//!
//! Layer: log. Knows nothing of why something is recorded.

use crate::format::Corrupt;
use crate::format::superblock::{SLOT_BYTES, Superblock};
use crate::storage::{self, AlignedBuf, Disk, File};

const NAME: &str = "superblock";
const FILE_BYTES: u64 = 2 * SLOT_BYTES as u64;

/// The superblock, on disk and in memory.
pub(crate) struct SuperblockFile {
    file: File,
    newest_slot: usize,
    /// What the newest slot says.
    pub(crate) now: Superblock,
}

/// What is in the file.
pub(crate) enum Found {
    /// At least one slot is sound.
    Sound {
        file: SuperblockFile,
        /// `clean` may be believed only then: the other slot may have been newer.
        both_sound: bool,
    },
    /// No sound slot, or no file: what the two slots had to say.
    Nothing([Option<Corrupt>; 2]),
}

impl SuperblockFile {
    /// Makes the file with both slots holding `first`. It is durable when this returns.
    pub(crate) fn create(disk: &Disk, first: Superblock) -> storage::Result<SuperblockFile> {
        if disk.open_file(NAME).is_ok() {
            // A crash in the middle of an earlier attempt: nothing else has been made after it.
            disk.remove(NAME)?;
        }
        let file = disk.create(NAME, FILE_BYTES)?;
        let mut superblock = SuperblockFile { file, newest_slot: 1, now: first };
        superblock.write_both()?;
        disk.flush_folder("")?;
        Ok(superblock)
    }

    /// Flushes the file and reads both slots past the page cache, so that what it finds is durable.
    pub(crate) fn open(disk: &Disk) -> storage::Result<Found> {
        let file = match disk.open_file(NAME) {
            Ok(file) => file,
            Err(error) if error.is_not_found() => return Ok(Found::Nothing([None, None])),
            Err(error) => return Err(error),
        };
        file.flush()?;
        if file.len()? < FILE_BYTES {
            let short = Some(Corrupt::Short { what: "superblock file" });
            return Ok(Found::Nothing([short, short]));
        }
        let mut buffer = AlignedBuf::new(FILE_BYTES as usize);
        file.read_direct(&mut buffer, 0, FILE_BYTES as usize)?;
        let slots = [Superblock::parse(&buffer[..SLOT_BYTES]), Superblock::parse(&buffer[SLOT_BYTES..])];
        let both_sound = slots.iter().all(Result::is_ok);
        let newest_slot = match &slots {
            // A later version has written here: what the other slot says may be long out of date.
            [Err(newer @ Corrupt::Newer { .. }), _] | [_, Err(newer @ Corrupt::Newer { .. })] => {
                return Ok(Found::Nothing([Some(*newer), None]));
            }
            [Ok(first), Ok(second)] => usize::from(second.version > first.version),
            [Ok(_), Err(_)] => 0,
            [Err(_), Ok(_)] => 1,
            [Err(first), Err(second)] => return Ok(Found::Nothing([Some(*first), Some(*second)])),
        };
        let [first, second] = slots;
        let now = if newest_slot == 0 { first } else { second }.expect("the newest slot is one of the sound ones");
        Ok(Found::Sound { file: SuperblockFile { file, newest_slot, now }, both_sound })
    }

    /// Writes `now` as the next version, over the older slot, and flushes it.
    pub(crate) fn write(&mut self) -> storage::Result<()> {
        self.now.version += 1;
        let slot = 1 - self.newest_slot;
        let mut buffer = AlignedBuf::new(SLOT_BYTES);
        buffer.copy_from_slice(&self.now.encode());
        self.file.write_at(&buffer, SLOT_BYTES, (slot * SLOT_BYTES) as u64)?;
        self.file.flush()?;
        self.newest_slot = slot;
        Ok(())
    }

    /// Writes `now` to both slots, one after the other: for what the log relies on even when one slot rots.
    pub(crate) fn write_both(&mut self) -> storage::Result<()> {
        self.write()?;
        self.write()
    }
}
