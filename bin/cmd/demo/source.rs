//! What a demo appends. Any entry can be had again by its number, so that every one can be checked at the end.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::fail::Failure;
use crate::lines::Lines;

/// Where entries come from.
pub(super) enum Source {
    /// These, over and over.
    Lines(Vec<Bytes>),
    /// Made up: a number, then letters that follow from it, so many bytes in all.
    Made { bytes: usize },
}

/// Lines of an input file that are kept in memory; a demo does not get through more.
const LINES_MAX: usize = 4_000_000;
/// Their bytes.
const LINES_BYTES_MAX: usize = 512 << 20;
/// Bytes of a made-up line.
const LINE_BYTES: usize = 100;

impl Source {
    /// The lines of a file, or made-up ones.
    pub(super) fn open(input: Option<&Path>) -> Result<Source, Failure> {
        let Some(input) = input else { return Ok(Source::Made { bytes: LINE_BYTES }) };
        let (mut lines, mut bytes) = (Lines::open(input, 1)?, 0);
        let mut all = Vec::new();
        while all.len() < LINES_MAX && bytes < LINES_BYTES_MAX {
            let Some(batch) = lines.next_batch()? else { break };
            bytes += batch.entries.iter().map(Bytes::len).sum::<usize>();
            all.extend(batch.entries);
        }
        if all.is_empty() {
            let message = format!("{} has no lines to append", input.display());
            return Err(Failure::new(crate::fail::Exit::Failed, message).hint("walrus-node demo, for made-up ones"));
        }
        Ok(Source::Lines(all))
    }

    /// Made-up entries of this size.
    pub(super) fn sized(bytes: usize) -> Arc<Source> {
        Arc::new(Source::Made { bytes })
    }

    /// Entry number `number`.
    pub(super) fn entry(&self, number: u64) -> Bytes {
        match self {
            Source::Lines(lines) => lines[(number % lines.len() as u64) as usize].clone(),
            Source::Made { bytes } => made(number, *bytes),
        }
    }
}

fn made(number: u64, bytes: usize) -> Bytes {
    let mut entry = format!("{number:020} ").into_bytes();
    let mut state = number;
    while entry.len() < bytes {
        state = state.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31).wrapping_add(1);
        let letters = state.to_le_bytes().map(|byte| b'a' + byte % 26);
        entry.extend_from_slice(&letters);
    }
    entry.truncate(bytes);
    entry.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_follows_from_its_number() {
        let source = Source::Made { bytes: 100 };
        assert_eq!(source.entry(7), source.entry(7));
        assert_ne!(source.entry(7), source.entry(8));
        assert_eq!(source.entry(u64::MAX).len(), 100);
    }
}
