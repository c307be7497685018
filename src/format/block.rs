//! Blocks: docs/FORMAT.md#block
//!
//! ```text
//!   | envelope 40: place, salt, durable mark | header 72 | descriptors n x 24 | payloads | zeros to `align` |
//!   '-------- local, never shipped ---------' '------------- portable block -----------'
//! ```
//!
//! The portable block is encoded once, on the leader, and stands byte for byte the same on every node, on the wire and in
//! a reader's hand. The envelope says where this node has put it, and is made anew each time it is written.
//!
//! What each sum covers: the payload sum a payload; the chain the header and the descriptors (with the payload sums in
//! them) and the chain before; the envelope sum the envelope and the chain. The padding is covered by nothing and read by
//! nothing.
//!
//! Layer: format. Knows nothing of files, nor of what a topic is.

use super::Corrupt;
use super::checksum::{chain_sum, envelope_sum, payload_sum};
use super::field::{get_u16, get_u32, get_u64, is_zero, put_u16, put_u32, put_u64};
use crate::ids::{Chain, Epoch, Incarnation, LogId, TopicId};
use crate::limits::{BLOCK_BYTES_MAX, BLOCK_ENTRIES_MAX};
use crate::lsn::{Lsn, Position};

// -- envelope: docs/FORMAT.md#envelope
const ENVELOPE_MAGIC: &[u8; 4] = b"WBK1";
const INCARNATION_AT: usize = 4;
const POSITION_AT: usize = INCARNATION_AT + 4;
const DURABLE_LSN_AT: usize = POSITION_AT + 8;
const TOTAL_LEN_AT: usize = DURABLE_LSN_AT + 8;
const BODY_LEN_AT: usize = TOTAL_LEN_AT + 4;
const ENVELOPE_SUM_AT: usize = BODY_LEN_AT + 4;
/// Bytes of an envelope.
pub(crate) const ENVELOPE_BYTES: usize = ENVELOPE_SUM_AT + 8;

// -- portable header: docs/FORMAT.md#portable-block
const VERSION_AT: usize = 0;
const KIND_AT: usize = VERSION_AT + 2;
const FLAGS_AT: usize = KIND_AT + 1;
const EPOCH_AT: usize = FLAGS_AT + 1;
const LSN_AT: usize = EPOCH_AT + 4;
const TS_AT: usize = LSN_AT + 8;
const PREV_CHAIN_AT: usize = TS_AT + 8;
const TXN_AT: usize = PREV_CHAIN_AT + 8;
const REMAINING_AT: usize = TXN_AT + 8;
const N_ENTRIES_AT: usize = REMAINING_AT + 4;
const ZERO_46_AT: usize = N_ENTRIES_AT + 2;
const DESC_LEN_AT: usize = ZERO_46_AT + 2;
const DATA_LEN_AT: usize = DESC_LEN_AT + 4;
const RAW_LEN_AT: usize = DATA_LEN_AT + 4;
const ZERO_60_AT: usize = RAW_LEN_AT + 4;
const CHAIN_AT: usize = ZERO_60_AT + 4;
/// Bytes of a portable block's header.
pub(crate) const HEADER_BYTES: usize = CHAIN_AT + 8;
/// Bytes of one entry's descriptor.
pub(crate) const DESCRIPTOR_BYTES: usize = 24;

const _: () = assert!(ENVELOPE_BYTES == 40 && HEADER_BYTES == 72 && CHAIN_AT == 64);

const PORTABLE_VERSION: u16 = 1;

/// The flag of a block whose entries wait for a COMMIT.
const FLAG_STAGED: u8 = 1;

/// Bytes of payload that a block of `n_entries` can hold when it has at most `block_bytes_max` bytes on disk.
pub(crate) const fn payload_bytes_max(block_bytes_max: usize, n_entries: usize) -> usize {
    block_bytes_max - ENVELOPE_BYTES - HEADER_BYTES - n_entries * DESCRIPTOR_BYTES
}

/// What a block is: docs/FORMAT.md#portable-block
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Entries of callers.
    Data,
    /// A reign begins.
    Epoch,
    /// A staged batch becomes visible.
    Commit,
    /// A staged batch is given up.
    Abort,
    /// A topic gets its number.
    Topic,
    /// Of a later version, and marked by it as safe to pass over (128 and above): docs/FORMAT.md#reserved
    Skippable(u8),
}

impl Kind {
    /// The number in the header.
    pub(crate) fn number(self) -> u8 {
        match self {
            Kind::Data => 1,
            Kind::Epoch => 2,
            Kind::Commit => 3,
            Kind::Abort => 4,
            Kind::Topic => 5,
            Kind::Skippable(number) => number,
        }
    }

    /// The kind of that number; an unknown one below 128 must not be skipped, so it is refused.
    pub(super) fn parse(number: u8) -> Result<Kind, Corrupt> {
        match number {
            1 => Ok(Kind::Data),
            2 => Ok(Kind::Epoch),
            3 => Ok(Kind::Commit),
            4 => Ok(Kind::Abort),
            5 => Ok(Kind::Topic),
            128.. => Ok(Kind::Skippable(number)),
            _ => Err(Corrupt::Newer { what: "block kind", value: number.into() }),
        }
    }
}

/// What a descriptor says of its entry besides its length: docs/FORMAT.md#descriptors
pub(crate) mod entry_flags {
    /// The first fragment of an entry (an entry in one piece is first and last).
    pub(crate) const FIRST: u8 = 1;
    /// The last fragment of an entry.
    pub(crate) const LAST: u8 = 2;
    /// An entry in one piece.
    pub(crate) const WHOLE: u8 = FIRST | LAST;
}

/// The fields of a portable header that its writer chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    pub(crate) epoch: Epoch,
    pub(crate) lsn: Lsn,
    /// Never below that of the block before: max(previous, wall clock).
    pub(crate) ts_ns: u64,
    pub(crate) prev_chain: Chain,
    /// Blocks still to come in this atomic group; 0 makes it whole.
    pub(crate) remaining: u32,
    /// The staged batch that the block belongs to, by the LSN of its first block: its entries wait for a COMMIT.
    pub(crate) txn: Option<Lsn>,
}

/// One entry on its way into a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryIn<'a> {
    pub(crate) topic: TopicId,
    pub(crate) offset: u64,
    pub(crate) flags: u8,
    /// XXH3 of the payload, made by the producer.
    pub(crate) sum: u64,
    pub(crate) payload: &'a [u8],
}

/// What this node adds when it puts a block somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) incarnation: Incarnation,
    pub(crate) position: Position,
    /// Every block below it was durable when this one was encoded.
    pub(crate) durable_lsn: Lsn,
}

/// Bytes of a portable block.
pub(crate) const fn portable_len(n_entries: usize, payload_bytes: usize) -> usize {
    HEADER_BYTES + n_entries * DESCRIPTOR_BYTES + payload_bytes
}

/// Bytes on disk of a block whose portable part has `portable_len` bytes.
pub(crate) const fn total_len(portable_len: usize, align: usize) -> usize {
    (ENVELOPE_BYTES + portable_len).next_multiple_of(align)
}

/// Writes a portable block over `out`, which is exactly as long, and returns the chain behind it.
pub(crate) fn encode_portable<'a>(
    out: &mut [u8],
    log_id: LogId,
    head: &Head,
    entries: impl Iterator<Item = EntryIn<'a>>,
    n_entries: usize,
) -> Chain {
    assert!(n_entries <= BLOCK_ENTRIES_MAX);
    let desc_len = n_entries * DESCRIPTOR_BYTES;
    let (header, body) = out.split_at_mut(HEADER_BYTES);
    let (descriptors, payloads) = body.split_at_mut(desc_len);
    let data_len = payloads.len();

    let mut at = 0;
    let mut slots = descriptors.chunks_exact_mut(DESCRIPTOR_BYTES);
    for entry in entries {
        let slot = slots.next().expect("as many entries as the caller counted");
        let len = entry.payload.len();
        put_u32(slot, 0, entry.topic.get());
        put_u32(slot, 4, len as u32 | u32::from(entry.flags) << 24);
        put_u64(slot, 8, entry.offset);
        put_u64(slot, 16, entry.sum);
        payloads[at..at + len].copy_from_slice(entry.payload);
        at += len;
    }
    assert!(slots.next().is_none() && at == data_len, "the block was planned with these very entries");

    header.fill(0);
    put_u16(header, VERSION_AT, PORTABLE_VERSION);
    header[KIND_AT] = head.kind.number();
    put_u32(header, EPOCH_AT, head.epoch.get());
    put_u64(header, LSN_AT, head.lsn.get());
    put_u64(header, TS_AT, head.ts_ns);
    put_u64(header, PREV_CHAIN_AT, head.prev_chain.get());
    if let Some(txn) = head.txn {
        header[FLAGS_AT] = FLAG_STAGED;
        put_u64(header, TXN_AT, txn.get());
    }
    put_u32(header, REMAINING_AT, head.remaining);
    put_u16(header, N_ENTRIES_AT, n_entries as u16);
    put_u32(header, DESC_LEN_AT, desc_len as u32);
    put_u32(header, DATA_LEN_AT, data_len as u32);
    put_u32(header, RAW_LEN_AT, data_len as u32);
    let chain = chain_sum(log_id, &header[..CHAIN_AT], descriptors);
    put_u64(header, CHAIN_AT, chain.get());
    chain
}

/// Puts the envelope before the portable block that already stands in `out[40..40 + portable_len]`, and zeros behind it.
/// `out` is the whole block as it goes to disk.
pub(crate) fn seal(out: &mut [u8], salt: u64, envelope: &Envelope, portable_len: usize) {
    assert!(out.len() <= BLOCK_BYTES_MAX);
    assert!(out.len() >= ENVELOPE_BYTES + portable_len);
    let chain = Chain::new(get_u64(out, ENVELOPE_BYTES + CHAIN_AT));
    out[..4].copy_from_slice(ENVELOPE_MAGIC);
    put_u32(out, INCARNATION_AT, envelope.incarnation.get());
    put_u64(out, POSITION_AT, envelope.position.bits());
    put_u64(out, DURABLE_LSN_AT, envelope.durable_lsn.get());
    let total_len = out.len() as u32;
    put_u32(out, TOTAL_LEN_AT, total_len);
    put_u32(out, BODY_LEN_AT, portable_len as u32);
    let sum = envelope_sum(salt, &out[..ENVELOPE_SUM_AT], chain);
    put_u64(out, ENVELOPE_SUM_AT, sum);
    out[ENVELOPE_BYTES + portable_len..].fill(0);
}

/// A portable block whose header, lengths and chain are sound. Its payload sums are checked by [`verify_payloads`] or entry
/// by entry.
///
/// [`verify_payloads`]: PortableView::verify_payloads
#[derive(Clone, Copy, Debug)]
pub(crate) struct PortableView<'a> {
    bytes: &'a [u8],
    pub(crate) head: Head,
    pub(crate) chain: Chain,
    n_entries: usize,
}

/// The staged batch that a block belongs to. Flags that are not known are a newer writer's: the sums are sound.
fn parse_txn(flags: u8, kind: Kind, txn: Lsn, lsn: Lsn) -> Result<Option<Lsn>, Corrupt> {
    match flags {
        0 if txn == Lsn::new(0) => Ok(None),
        FLAG_STAGED if kind == Kind::Data && Lsn::FIRST <= txn && txn <= lsn => Ok(Some(txn)),
        _ => Err(Corrupt::Newer { what: "block flags", value: flags.into() }),
    }
}

impl<'a> PortableView<'a> {
    /// Reads a block that fills `bytes` exactly.
    pub(crate) fn parse(bytes: &'a [u8], log_id: LogId) -> Result<PortableView<'a>, Corrupt> {
        if bytes.len() < HEADER_BYTES {
            return Err(Corrupt::Short { what: "block" });
        }
        if bytes.len() > BLOCK_BYTES_MAX - ENVELOPE_BYTES {
            return Err(Corrupt::field("block: longer than any", 0));
        }
        let version = get_u16(bytes, VERSION_AT);
        let n_entries = usize::from(get_u16(bytes, N_ENTRIES_AT));
        let desc_len = get_u32(bytes, DESC_LEN_AT) as usize;
        let data_len = get_u32(bytes, DATA_LEN_AT) as usize;
        if n_entries > BLOCK_ENTRIES_MAX || desc_len != n_entries * DESCRIPTOR_BYTES {
            return Err(Corrupt::field("block: number of entries", N_ENTRIES_AT));
        }
        if data_len > bytes.len() || HEADER_BYTES + desc_len + data_len != bytes.len() {
            return Err(Corrupt::field("block: length of the payloads", DATA_LEN_AT));
        }
        let chain = Chain::new(get_u64(bytes, CHAIN_AT));
        let descriptors = &bytes[HEADER_BYTES..HEADER_BYTES + desc_len];
        if chain != chain_sum(log_id, &bytes[..CHAIN_AT], descriptors) {
            return Err(Corrupt::field("block: chain", CHAIN_AT));
        }
        // From here on the header is what its writer meant, so a surprise is a newer writer, not damage.
        if version != PORTABLE_VERSION {
            return Err(Corrupt::Newer { what: "block version", value: version.into() });
        }
        let kind = Kind::parse(bytes[KIND_AT])?;
        let lsn = Lsn::new(get_u64(bytes, LSN_AT));
        let txn = parse_txn(bytes[FLAGS_AT], kind, Lsn::new(get_u64(bytes, TXN_AT)), lsn)?;
        let reserved = is_zero(&bytes[ZERO_46_AT..DESC_LEN_AT]) && is_zero(&bytes[ZERO_60_AT..CHAIN_AT]);
        if !reserved || get_u32(bytes, RAW_LEN_AT) as usize != data_len {
            return Err(Corrupt::Newer { what: "block header, its reserved bytes and raw length", value: 0 });
        }
        let head = Head {
            kind,
            epoch: Epoch::new(get_u32(bytes, EPOCH_AT)),
            lsn,
            ts_ns: get_u64(bytes, TS_AT),
            prev_chain: Chain::new(get_u64(bytes, PREV_CHAIN_AT)),
            remaining: get_u32(bytes, REMAINING_AT),
            txn,
        };
        let view = PortableView { bytes, head, chain, n_entries };
        view.check_descriptors(data_len)?;
        Ok(view)
    }

    /// The lengths in the descriptors must add up, or an entry would reach into its neighbour.
    fn check_descriptors(&self, data_len: usize) -> Result<(), Corrupt> {
        let mut sum = 0;
        for i in 0..self.n_entries {
            let at = HEADER_BYTES + i * DESCRIPTOR_BYTES;
            let word = get_u32(self.bytes, at + 4);
            let flags = (word >> 24) as u8;
            if flags & !entry_flags::WHOLE != 0 {
                // Tombstones, headers: of a program that can write them, and must not be shown as plain entries.
                return Err(Corrupt::Newer { what: "entry flags", value: flags.into() });
            }
            sum += (word & 0x00ff_ffff) as usize;
        }
        if sum != data_len {
            return Err(Corrupt::field("block: lengths of the entries", HEADER_BYTES));
        }
        Ok(())
    }

    /// The block's bytes, as they are shipped.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Every entry with its payload, in order. `payload_at` counts from the start of the portable block.
    pub(crate) fn entries(&self) -> impl Iterator<Item = EntryView<'a>> + use<'a> {
        let bytes = self.bytes;
        let mut at = HEADER_BYTES + self.n_entries * DESCRIPTOR_BYTES;
        (0..self.n_entries).map(move |i| {
            let descriptor = &bytes[HEADER_BYTES + i * DESCRIPTOR_BYTES..][..DESCRIPTOR_BYTES];
            let word = get_u32(descriptor, 4);
            let len = (word & 0x00ff_ffff) as usize;
            let entry = EntryView {
                topic: TopicId::new(get_u32(descriptor, 0)),
                flags: (word >> 24) as u8,
                offset: get_u64(descriptor, 8),
                sum: get_u64(descriptor, 16),
                payload: &bytes[at..at + len],
                payload_at: at,
            };
            at += len;
            entry
        })
    }

    /// Checks every payload against its sum.
    pub(crate) fn verify_payloads(&self) -> Result<(), Corrupt> {
        self.entries().try_for_each(|entry| entry.verify())
    }
}

/// One entry of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryView<'a> {
    pub(crate) topic: TopicId,
    /// Of `entry_flags`: whether the entry begins and ends in this block.
    pub(crate) flags: u8,
    /// In a staged block relative to the batch.
    pub(crate) offset: u64,
    pub(crate) sum: u64,
    pub(crate) payload: &'a [u8],
    /// Where the payload begins in the portable block.
    pub(crate) payload_at: usize,
}

impl EntryView<'_> {
    /// Whether the entry begins with this fragment.
    pub(crate) fn is_first(&self) -> bool {
        self.flags & entry_flags::FIRST != 0
    }

    /// Whether the entry ends with this fragment.
    pub(crate) fn is_last(&self) -> bool {
        self.flags & entry_flags::LAST != 0
    }

    /// Checks the payload against the sum that its producer made.
    pub(crate) fn verify(&self) -> Result<(), Corrupt> {
        if payload_sum(self.payload) == self.sum { Ok(()) } else { Err(Corrupt::field("payload sum", self.payload_at)) }
    }
}

/// The head of a block on disk, enough to know how long it is. Nothing but a length is trusted before [`BlockView::parse`].
///
/// Returns the block's whole length, or why there is no block here.
pub(crate) fn peek_total_len(bytes: &[u8], align: usize) -> Result<usize, Corrupt> {
    if bytes.len() < ENVELOPE_BYTES {
        return Err(Corrupt::Short { what: "envelope" });
    }
    if &bytes[..4] != ENVELOPE_MAGIC {
        return Err(Corrupt::field("envelope: magic", 0));
    }
    let total_len = get_u32(bytes, TOTAL_LEN_AT) as usize;
    let possible = ENVELOPE_BYTES + HEADER_BYTES..=BLOCK_BYTES_MAX;
    if !possible.contains(&total_len) || !total_len.is_multiple_of(align) {
        return Err(Corrupt::field("envelope: length", TOTAL_LEN_AT));
    }
    Ok(total_len)
}

/// The position that an envelope names, sound or not. Of use only to tell what was meant to stand here.
pub(crate) fn peek_position(envelope: &[u8]) -> Position {
    Position::from_bits(get_u64(envelope, POSITION_AT))
}

/// A block on disk: an envelope that belongs here, and the sound portable block in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockView<'a> {
    pub(crate) envelope: Envelope,
    pub(crate) total_len: u32,
    pub(crate) portable: PortableView<'a>,
}

/// What must hold of a block at a place, whoever wrote it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) log_id: LogId,
    /// The salt of the segment that the bytes were read from.
    pub(crate) salt: u64,
    /// Where they were read.
    pub(crate) position: Position,
    pub(crate) align: usize,
}

impl<'a> BlockView<'a> {
    /// Reads the block that begins `bytes`, which may go on behind it. Checks all but the payload sums.
    pub(crate) fn parse(bytes: &'a [u8], place: &Place) -> Result<BlockView<'a>, Corrupt> {
        let total_len = peek_total_len(bytes, place.align)?;
        if total_len > bytes.len() {
            return Err(Corrupt::Short { what: "block" });
        }
        let body_len = get_u32(bytes, BODY_LEN_AT) as usize;
        if body_len < HEADER_BYTES || body_len > total_len - ENVELOPE_BYTES {
            return Err(Corrupt::field("envelope: length of the body", BODY_LEN_AT));
        }
        let body = &bytes[ENVELOPE_BYTES..ENVELOPE_BYTES + body_len];
        let chain = Chain::new(get_u64(body, CHAIN_AT));
        if get_u64(bytes, ENVELOPE_SUM_AT) != envelope_sum(place.salt, &bytes[..ENVELOPE_SUM_AT], chain) {
            return Err(Corrupt::field("envelope: sum", ENVELOPE_SUM_AT));
        }
        let position = Position::from_bits(get_u64(bytes, POSITION_AT));
        if position != place.position {
            return Err(Corrupt::field("envelope: the block belongs elsewhere", POSITION_AT));
        }
        Ok(BlockView {
            envelope: Envelope {
                incarnation: Incarnation::new(get_u32(bytes, INCARNATION_AT)),
                position,
                durable_lsn: Lsn::new(get_u64(bytes, DURABLE_LSN_AT)),
            },
            total_len: total_len as u32,
            portable: PortableView::parse(body, place.log_id)?,
        })
    }

    /// Where the portable block lies within the block.
    pub(crate) fn portable_range(&self) -> std::ops::Range<usize> {
        ENVELOPE_BYTES..ENVELOPE_BYTES + self.portable.bytes().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SegmentNo;

    const LOG: LogId = LogId::new(0x1234_5678_9abc_def0_1111);

    fn place() -> Place {
        Place { log_id: LOG, salt: 77, position: Position::new(SegmentNo::new(1), 4096), align: 4096 }
    }

    fn block(payloads: &[&[u8]]) -> Vec<u8> {
        let data: usize = payloads.iter().map(|p| p.len()).sum();
        let portable = portable_len(payloads.len(), data);
        let mut out = vec![0xee; total_len(portable, 4096)];
        let head = Head {
            kind: Kind::Data,
            epoch: Epoch::new(3),
            lsn: Lsn::new(9),
            ts_ns: 1000,
            prev_chain: Chain::new(5),
            remaining: 2,
            txn: None,
        };
        let entries = payloads.iter().enumerate().map(|(i, payload)| EntryIn {
            topic: TopicId::new(4),
            offset: 100 + i as u64,
            flags: entry_flags::WHOLE,
            sum: payload_sum(payload),
            payload,
        });
        encode_portable(&mut out[ENVELOPE_BYTES..ENVELOPE_BYTES + portable], LOG, &head, entries, payloads.len());
        let envelope =
            Envelope { incarnation: Incarnation::new(6), position: place().position, durable_lsn: Lsn::new(8) };
        seal(&mut out, place().salt, &envelope, portable);
        out
    }

    #[test]
    fn a_block_comes_back_as_it_went() {
        let bytes = block(&[b"one", b"", b"three"]);
        let view = BlockView::parse(&bytes, &place()).unwrap();
        assert_eq!(view.envelope.durable_lsn, Lsn::new(8));
        assert_eq!((view.portable.head.lsn, view.portable.head.remaining), (Lsn::new(9), 2));
        let entries: Vec<_> = view.portable.entries().map(|e| (e.offset, e.payload.to_vec())).collect();
        assert_eq!(entries, [(100, b"one".to_vec()), (101, b"".to_vec()), (102, b"three".to_vec())]);
        view.portable.verify_payloads().unwrap();
        assert!(
            view.portable.entries().all(|e| &bytes[ENVELOPE_BYTES + e.payload_at..][..e.payload.len()] == e.payload)
        );
    }

    #[test]
    fn every_flipped_bit_before_the_padding_is_found_and_none_in_the_padding_matters() {
        let good = block(&[b"some payload", b"and another"]);
        let used = ENVELOPE_BYTES + portable_len(2, 23);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let sound = BlockView::parse(&bad, &place()).is_ok_and(|view| view.portable.verify_payloads().is_ok());
            assert_eq!(sound, bit / 8 >= used, "bit {bit}");
        }
    }

    #[test]
    fn a_block_is_not_taken_in_another_place_or_under_another_salt_or_in_another_log() {
        let bytes = block(&[b"x"]);
        let elsewhere = Place { position: Position::new(SegmentNo::new(1), 8192), ..place() };
        assert!(BlockView::parse(&bytes, &elsewhere).is_err());
        assert!(BlockView::parse(&bytes, &Place { salt: 78, ..place() }).is_err());
        assert!(BlockView::parse(&bytes, &Place { log_id: LogId::new(1), ..place() }).is_err());
    }

    #[test]
    fn no_prefix_and_no_garbage_makes_the_parser_panic() {
        let good = block(&[b"abc".as_slice(); 7]);
        for len in 0..good.len() {
            assert!(BlockView::parse(&good[..len], &place()).is_err());
        }
        let mut state = 1u64;
        for _ in 0..20_000 {
            let mut bad = good.clone();
            for _ in 0..4 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (state >> 33) as usize % (ENVELOPE_BYTES + HEADER_BYTES + 60);
                bad[at] = (state >> 20) as u8;
            }
            let _ = BlockView::parse(&bad, &place());
            let _ = PortableView::parse(&bad[ENVELOPE_BYTES..ENVELOPE_BYTES + portable_len(7, 21)], LOG);
        }
    }

    #[test]
    fn the_same_portable_bytes_are_under_the_chain_whatever_the_envelope_says() {
        let bytes = block(&[b"x", b"y"]);
        let view = BlockView::parse(&bytes, &place()).unwrap();
        let again = PortableView::parse(&bytes[view.portable_range()], LOG).unwrap();
        assert_eq!(again.chain, view.portable.chain);
    }
}
