//! What these tests have found, each in its smallest form.

use walrus_node::{ReadError, ReadLimit, Viewer};

use crate::judge::overwrite;
use crate::layout::ALIGN;
use crate::specimen::{Specimen, closed};

/// The first block of `orders` that holds offset `offset`.
fn block_of_orders(specimen: &Specimen, offset: u64) -> &crate::layout::Block {
    let holds = |block: &&crate::layout::Block| block.is_data && block.entries.contains(&(1, offset));
    specimen.blocks.iter().find(holds).expect("every entry has its block")
}

/// A reader that asked for more than one block was given the error at once, and not the sound entries before it: `tail` of a damaged
/// folder showed nothing of a topic whose second block was bad.
#[test]
fn what_lies_before_a_damaged_block_is_read_first_and_then_the_damage_is_told() {
    let specimen = closed();
    let (sound, bad) = (block_of_orders(&specimen, 0), block_of_orders(&specimen, 1));
    assert!(sound.lsn < bad.lsn);
    let disk = specimen.disk.copy();
    disk.flip_bit(&bad.file, bad.offset as u64 + 100, 0);
    let viewer = Viewer::open_sim(&disk).unwrap();
    let first = viewer.read("orders", 0, ReadLimit::default()).expect("offset 0 is sound");
    assert_eq!(first.iter().map(|entry| entry.offset).collect::<Vec<_>>(), [0]);
    let Err(ReadError::Damaged { asked: 1, damage, next_good_offset: Some(4), .. }) =
        viewer.read("orders", 1, ReadLimit::default())
    else {
        panic!("offsets 1 to 3 are in the bad block");
    };
    assert_eq!((damage.lsn.get(), damage.file_offset as usize), (bad.lsn, bad.offset));
}

/// A block of zeros was taken for the unused end of its segment, and the start of the next segment was named in its place.
#[test]
fn a_block_whose_first_sector_was_lost_is_named_where_it_was() {
    let specimen = closed();
    let last = specimen.blocks.last().unwrap();
    for lost in [block_of_orders(&specimen, 1), last] {
        let disk = specimen.disk.copy();
        let now = &specimen.files[&lost.file][lost.offset..lost.offset + ALIGN];
        overwrite(&disk, &lost.file, lost.offset, now, &[0; ALIGN]);
        let viewer = Viewer::open_sim(&disk).unwrap();
        let named = &viewer.verification().damage[0];
        assert_eq!((named.segment.get(), named.file_offset as usize), (lost.segment, lost.offset), "{named}");
    }
}
