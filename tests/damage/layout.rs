//! Where things lie on the disk, read by docs/FORMAT.md with no code of the program.

/// All of a test log is written in multiples of this.
pub(crate) const ALIGN: usize = 4096;

/// Bytes of a segment of a test log.
pub(crate) const SEGMENT_BYTES: usize = 64 << 10;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// A block as it lies in a segment's file.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) file: String,
    pub(crate) segment: u32,
    pub(crate) offset: usize,
    pub(crate) total_len: usize,
    /// Bytes that mean something: the rest is padding.
    pub(crate) used: usize,
    pub(crate) lsn: u64,
    pub(crate) durable_lsn: u64,
    pub(crate) remaining: u32,
    pub(crate) is_data: bool,
    /// Topic number and offset of each entry.
    pub(crate) entries: Vec<(u32, u64)>,
}

impl Block {
    fn parse(file: &str, bytes: &[u8], offset: usize) -> Option<Block> {
        let block = &bytes[offset..];
        if &block[..4] != b"WBK1" {
            return None;
        }
        let portable = &block[40..];
        let n_entries = usize::from(u16::from_le_bytes(portable[44..46].try_into().unwrap()));
        let descriptor = |i: usize| &portable[72 + 24 * i..][..24];
        let digits = file.strip_prefix("wal/")?.strip_suffix(".seg")?;
        Some(Block {
            file: file.into(),
            segment: u32::from_str_radix(digits, 16).ok()?,
            offset,
            total_len: u32_at(block, 24) as usize,
            used: 40 + u32_at(block, 28) as usize,
            lsn: u64_at(portable, 8),
            durable_lsn: u64_at(block, 16),
            remaining: u32_at(portable, 40),
            is_data: portable[2] == 1,
            entries: (0..n_entries).map(|i| (u32_at(descriptor(i), 0), u64_at(descriptor(i), 8))).collect(),
        })
    }

    pub(crate) fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.total_len
    }
}

/// The blocks of a segment's file, one behind the other.
pub(crate) fn blocks(file: &str, bytes: &[u8]) -> Vec<Block> {
    let (mut blocks, mut offset) = (Vec::new(), ALIGN);
    while offset < bytes.len() - ALIGN {
        let Some(block) = Block::parse(file, bytes, offset) else { break };
        offset += block.total_len;
        blocks.push(block);
    }
    blocks
}

/// The hint's LSN of a slot of the superblock.
pub(crate) fn hint_lsn(slot: &[u8]) -> u64 {
    assert_eq!(&slot[..8], b"WALRSB01");
    u64_at(slot, 96)
}
