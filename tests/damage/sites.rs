//! Where the blows fall.

use crate::judge::Blow;
use crate::layout::ALIGN;
use crate::specimen::Specimen;

/// Every bit that means something, and a sample of the zeros that mean nothing:
///
/// - blocks: every bit of envelope, header, descriptors, payloads; in the log that was killed, of the long row of descriptors and payloads
///   of a batch (which is the same in both logs) one bit of every byte, another one each time;
/// - superblock slots and segment headers: every bit of the fields, the fences and the sum. Between them lie some 4,000 reserved zero bytes
///   each, all under the same sum: one bit of every eighth byte, another one each time (`format/superblock.rs` and `format/segment.rs`
///   flip every one of them in their own tests, in memory);
/// - behind the end of a log that was not closed, where recovery searches: every bit of a magic, and one of each byte of the rest of an
///   envelope, at each place where one would begin;
/// - padding of blocks, the rest of the zeros, files in quarantine/ (which nothing reads): one bit of every 32nd byte.
pub(crate) fn bits(specimen: &Specimen) -> Vec<Blow> {
    let mut blows = Vec::new();
    for (file, bytes) in &specimen.files {
        for byte in 0..bytes.len() {
            let every = match meaning(specimen, file, bytes.len(), byte) {
                Meaning::Used => {
                    blows.extend((0..8).map(|bit| Blow::Flip { file: file.clone(), byte, bit }));
                    continue;
                }
                Meaning::Entries if specimen.closed => {
                    blows.extend((0..8).map(|bit| Blow::Flip { file: file.clone(), byte, bit }));
                    continue;
                }
                Meaning::Entries => 1,
                Meaning::Reserved => 8,
                Meaning::Nothing => 32,
            };
            if byte % every == byte / every % every {
                let bit = (byte / every % 8) as u8;
                blows.push(Blow::Flip { file: file.clone(), byte, bit });
            }
        }
    }
    blows
}

enum Meaning {
    Used,
    /// Descriptors and payloads behind the first few of a block; and where an envelope would be.
    Entries,
    Reserved,
    Nothing,
}

/// What a byte of a file is there for: docs/FORMAT.md#superblock, docs/FORMAT.md#segment-header, docs/FORMAT.md#envelope.
fn meaning(specimen: &Specimen, file: &str, len: usize, byte: usize) -> Meaning {
    let in_sector = byte % ALIGN;
    let header =
        |fields: usize| if in_sector < fields || in_sector >= 4088 { Meaning::Used } else { Meaning::Reserved };
    if file == "superblock" {
        return header(128 + 2 * 48);
    }
    if !file.starts_with("wal/") {
        return Meaning::Nothing;
    }
    if byte < ALIGN || byte >= len - ALIGN {
        return header(80);
    }
    let block = specimen.blocks.iter().find(|block| block.file == file && block.range().contains(&byte));
    match block {
        Some(block) if byte < block.offset + block.used.min(200) => Meaning::Used,
        Some(block) if byte < block.offset + block.used => Meaning::Entries,
        None if in_sector < 4 && !specimen.closed => Meaning::Used,
        None if in_sector < 40 && !specimen.closed => Meaning::Entries,
        _ => Meaning::Nothing,
    }
}

/// Every sector zeroed, swapped with the next one, and replaced by each content that it had before.
pub(crate) fn sectors(specimen: &Specimen) -> Vec<Blow> {
    let mut blows = Vec::new();
    for (file, bytes) in &specimen.files {
        for sector in 0..bytes.len() / ALIGN {
            let range = sector * ALIGN..(sector + 1) * ALIGN;
            let now = &bytes[range.clone()];
            if now.iter().any(|byte| *byte != 0) {
                let content = vec![0; ALIGN];
                blows.push(Blow::Replace { file: file.clone(), sector, content, how: "zeroed" });
            }
            if range.end < bytes.len() && *now != bytes[range.end..range.end + ALIGN] {
                blows.push(Blow::Swap { file: file.clone(), sector });
            }
            let mut older: Vec<&[u8]> = Vec::new();
            for earlier in &specimen.earlier {
                let content = earlier.get(file).map(|bytes| &bytes[range.clone()]);
                older.extend(content.filter(|content| *content != now && !older.contains(content)));
            }
            let turned_back = |content: &[u8]| Blow::Replace {
                file: file.clone(),
                sector,
                content: content.to_vec(),
                how: "turned back",
            };
            blows.extend(older.into_iter().map(turned_back));
        }
    }
    blows
}
