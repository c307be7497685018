//! What both slots of the superblock must say, read from the bytes as docs/FORMAT.md draws them.
//!
//! A change of incarnation goes to both slots, each flushed, before anything is written that relies on it: else the rot of one slot
//! would bring back a superblock that is older than the blocks, and its next fence would not kill what it must.

use twox_hash::XxHash3_64;
use walrus_node::sim::SimDisk;

const SLOT_BYTES: usize = 4096;
const SUM_AT: usize = 4088;
const SLOT_INCARNATION_AT: usize = 76;
const ALIGN: usize = 4096;
const BLOCK_INCARNATION_AT: usize = 4;
const BLOCK_POSITION_AT: usize = 8;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn has(disk: &SimDisk, name: &str) -> bool {
    disk.files().iter().any(|(file, _)| file == name)
}

/// The slots whose sum holds.
fn sound_slots(disk: &SimDisk) -> Vec<Option<Vec<u8>>> {
    let bytes = if has(disk, "superblock") { disk.read_file("superblock") } else { Vec::new() };
    let sound = |slot: &&[u8]| slot.len() == SLOT_BYTES && u64_at(slot, SUM_AT) == XxHash3_64::oneshot(&slot[..SUM_AT]);
    bytes.chunks(SLOT_BYTES).map(|slot| Some(slot).filter(sound).map(<[u8]>::to_vec)).collect()
}

/// The highest incarnation of anything that looks like a block at its own position.
fn youngest_block(disk: &SimDisk) -> u32 {
    let mut youngest = 0;
    for (name, _) in disk.files().iter().filter(|(name, _)| name.ends_with(".seg")) {
        let digits = name.trim_start_matches("wal/").trim_end_matches(".seg");
        let segment = u64::from_str_radix(digits, 16).unwrap();
        for (i, sector) in disk.read_file(name).chunks(ALIGN).enumerate() {
            let here = segment << 32 | (i * ALIGN) as u64;
            if sector.starts_with(b"WBK1") && u64_at(sector, BLOCK_POSITION_AT) == here {
                youngest = youngest.max(u32_at(sector, BLOCK_INCARNATION_AT));
            }
        }
    }
    youngest
}

/// # Errors
/// When a sound slot is older than a block.
pub(crate) fn no_block_is_younger_than_a_slot(disk: &SimDisk) -> Result<(), String> {
    let youngest = youngest_block(disk);
    for (i, slot) in sound_slots(disk).iter().enumerate() {
        if let Some(slot) = slot
            && u32_at(slot, SLOT_INCARNATION_AT) < youngest
        {
            let is = u32_at(slot, SLOT_INCARNATION_AT);
            return Err(format!("slot {i} has incarnation {is}, a block has {youngest}: the other slot may rot"));
        }
    }
    Ok(())
}

/// Destroys one slot; false if it is the only sound one, which no log survives.
pub(crate) fn let_rot(disk: &SimDisk, slot: usize) -> bool {
    let both = sound_slots(disk).iter().flatten().count() == 2;
    if both {
        disk.flip_bit("superblock", (slot * SLOT_BYTES + 100) as u64, 3);
    }
    both
}
