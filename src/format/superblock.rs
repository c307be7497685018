//! One slot of the superblock: docs/FORMAT.md#superblock
//!
//! Two slots, written one at a time, always the one that does not hold the newest version: a torn write leaves the other.
//!
//! Layer: format. Knows nothing of files, nor of which slot is newer.

use super::checksum::{HASH_KIND_XXH3, plain_sum};
use super::field::{get_u16, get_u32, get_u64, get_u128, is_zero, put_u16, put_u32, put_u64, put_u128};
use super::segment::parse_align;
use super::{Corrupt, FORMAT_VERSION};
use crate::ids::{Chain, Epoch, Incarnation, LogId, NodeId, RunId};
use crate::limits::FENCES_MAX;
use crate::lsn::{Lsn, Position};

const MAGIC: &[u8; 8] = b"WALRSB01";

const MAGIC_AT: usize = 0;
const VERSION_AT: usize = MAGIC_AT + 8;
const FORMAT_AT: usize = VERSION_AT + 8;
const HASH_KIND_AT: usize = FORMAT_AT + 2;
const ALIGN_LOG2_AT: usize = HASH_KIND_AT + 1;
const ROLE_AT: usize = ALIGN_LOG2_AT + 1;
const CLEAN_AT: usize = ROLE_AT + 1;
const ZERO_22_AT: usize = CLEAN_AT + 1;
const LOG_ID_AT: usize = ZERO_22_AT + 2;
const NODE_ID_AT: usize = LOG_ID_AT + 16;
const RUN_ID_AT: usize = NODE_ID_AT + 16;
const EPOCH_AT: usize = RUN_ID_AT + 16;
const INCARNATION_AT: usize = EPOCH_AT + 4;
const ZERO_80_AT: usize = INCARNATION_AT + 4;
const HINT_POSITION_AT: usize = ZERO_80_AT + 8;
const HINT_LSN_AT: usize = HINT_POSITION_AT + 8;
const HINT_CHAIN_AT: usize = HINT_LSN_AT + 8;
const N_FENCES_AT: usize = HINT_CHAIN_AT + 8;
const ZERO_114_AT: usize = N_FENCES_AT + 2;
const FENCES_AT: usize = 128;
const FENCE_BYTES: usize = 48;
const SUM_AT: usize = 4088;

/// Bytes of a slot.
pub(crate) const SLOT_BYTES: usize = 4096;

const _: () = assert!(LOG_ID_AT == 24 && RUN_ID_AT == 56 && EPOCH_AT == 72 && HINT_POSITION_AT == 88);
const _: () = assert!(N_FENCES_AT == 112 && FENCES_AT + FENCES_MAX * FENCE_BYTES <= SUM_AT);

/// What this folder is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes appends.
    Leader,
    /// Mirrors a leader; takes no appends of its own.
    Follower,
}

impl Role {
    /// The word in messages and in `status`.
    pub fn name(self) -> &'static str {
        match self {
            Role::Leader => "leader",
            Role::Follower => "follower",
        }
    }
}

/// A place in the log that everything below is known to be durable: where the next block goes, its LSN, the chain before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hint {
    pub(crate) position: Position,
    pub(crate) lsn: Lsn,
    pub(crate) chain: Chain,
}

/// Why a fence was set. For people: recovery treats all fences alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum FenceReason {
    /// A writable open after an unclean stop.
    Opened = 1,
    /// A failed write or flush.
    Failed = 2,
    /// A divergent tail was taken away.
    Truncated = 3,
    /// Damage was cut off on an operator's word.
    LossAccepted = 4,
}

impl FenceReason {
    fn parse(number: u32) -> Option<FenceReason> {
        [FenceReason::Opened, FenceReason::Failed, FenceReason::Truncated, FenceReason::LossAccepted]
            .into_iter()
            .find(|&reason| reason as u32 == number)
    }
}

/// Blocks at or behind `cut`, of `incarnation` or older, are dead; the log goes on at `resume`: docs/FORMAT.md#fences
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fence {
    pub(crate) incarnation: Incarnation,
    pub(crate) reason: FenceReason,
    pub(crate) cut: Position,
    pub(crate) cut_lsn: Lsn,
    pub(crate) resume: Position,
    pub(crate) chain: Chain,
    pub(crate) ts_ns: u64,
}

impl Fence {
    /// Whether a block at `position`, written in `incarnation`, is dead by this fence.
    pub(crate) fn kills(&self, position: Position, incarnation: Incarnation) -> bool {
        position >= self.cut && incarnation <= self.incarnation
    }
}

/// Everything that a slot holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    /// Rises by one with each write; the higher valid one wins.
    pub(crate) version: u64,
    pub(crate) align: u32,
    pub(crate) role: Option<Role>,
    /// Nothing was in flight when it was written, and nothing has been written since.
    pub(crate) clean: bool,
    pub(crate) log_id: LogId,
    pub(crate) node_id: NodeId,
    pub(crate) run_id: RunId,
    pub(crate) epoch: Epoch,
    pub(crate) incarnation: Incarnation,
    pub(crate) hint: Hint,
    pub(crate) fences: Vec<Fence>,
}

impl Superblock {
    pub(crate) fn encode(&self) -> [u8; SLOT_BYTES] {
        assert!(self.fences.len() <= FENCES_MAX);
        let mut out = [0; SLOT_BYTES];
        out[MAGIC_AT..MAGIC_AT + 8].copy_from_slice(MAGIC);
        put_u64(&mut out, VERSION_AT, self.version);
        put_u16(&mut out, FORMAT_AT, FORMAT_VERSION);
        out[HASH_KIND_AT] = HASH_KIND_XXH3;
        out[ALIGN_LOG2_AT] = self.align.trailing_zeros() as u8;
        out[ROLE_AT] = match self.role {
            None => 0,
            Some(Role::Leader) => 1,
            Some(Role::Follower) => 2,
        };
        out[CLEAN_AT] = u8::from(self.clean);
        put_u128(&mut out, LOG_ID_AT, self.log_id.get());
        put_u128(&mut out, NODE_ID_AT, self.node_id.get());
        put_u128(&mut out, RUN_ID_AT, self.run_id.get());
        put_u32(&mut out, EPOCH_AT, self.epoch.get());
        put_u32(&mut out, INCARNATION_AT, self.incarnation.get());
        put_u64(&mut out, HINT_POSITION_AT, self.hint.position.bits());
        put_u64(&mut out, HINT_LSN_AT, self.hint.lsn.get());
        put_u64(&mut out, HINT_CHAIN_AT, self.hint.chain.get());
        put_u16(&mut out, N_FENCES_AT, self.fences.len() as u16);
        for (fence, slot) in self.fences.iter().zip(out[FENCES_AT..SUM_AT].chunks_exact_mut(FENCE_BYTES)) {
            encode_fence(fence, slot);
        }
        let sum = plain_sum(&out[..SUM_AT]);
        put_u64(&mut out, SUM_AT, sum);
        out
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Superblock, Corrupt> {
        let bytes = bytes.get(..SLOT_BYTES).ok_or(Corrupt::Short { what: "superblock slot" })?;
        if &bytes[MAGIC_AT..MAGIC_AT + 8] != MAGIC {
            return Err(Corrupt::field("superblock: magic", MAGIC_AT));
        }
        if get_u64(bytes, SUM_AT) != plain_sum(&bytes[..SUM_AT]) {
            return Err(Corrupt::field("superblock: sum", SUM_AT));
        }
        let format = get_u16(bytes, FORMAT_AT);
        if format != FORMAT_VERSION {
            return Err(Corrupt::Newer { what: "superblock format", value: format.into() });
        }
        if bytes[HASH_KIND_AT] != HASH_KIND_XXH3 {
            return Err(Corrupt::Newer { what: "hash kind", value: bytes[HASH_KIND_AT].into() });
        }
        let role = match bytes[ROLE_AT] {
            0 => None,
            1 => Some(Role::Leader),
            2 => Some(Role::Follower),
            other => return Err(Corrupt::Newer { what: "role", value: other.into() }),
        };
        let clean = match bytes[CLEAN_AT] {
            0 => false,
            1 => true,
            _ => return Err(Corrupt::field("superblock: clean flag", CLEAN_AT)),
        };
        let n_fences = usize::from(get_u16(bytes, N_FENCES_AT));
        if n_fences > FENCES_MAX {
            return Err(Corrupt::field("superblock: number of fences", N_FENCES_AT));
        }
        let fences_end = FENCES_AT + n_fences * FENCE_BYTES;
        for reserved in
            [ZERO_22_AT..LOG_ID_AT, ZERO_80_AT..HINT_POSITION_AT, ZERO_114_AT..FENCES_AT, fences_end..SUM_AT]
        {
            if !is_zero(&bytes[reserved.clone()]) {
                return Err(Corrupt::field("superblock: reserved bytes", reserved.start));
            }
        }
        Ok(Superblock {
            version: get_u64(bytes, VERSION_AT),
            align: parse_align(bytes[ALIGN_LOG2_AT], ALIGN_LOG2_AT)?,
            role,
            clean,
            log_id: LogId::new(get_u128(bytes, LOG_ID_AT)),
            node_id: NodeId::new(get_u128(bytes, NODE_ID_AT)),
            run_id: RunId::new(get_u128(bytes, RUN_ID_AT)),
            epoch: Epoch::new(get_u32(bytes, EPOCH_AT)),
            incarnation: Incarnation::new(get_u32(bytes, INCARNATION_AT)),
            hint: Hint {
                position: Position::from_bits(get_u64(bytes, HINT_POSITION_AT)),
                lsn: Lsn::new(get_u64(bytes, HINT_LSN_AT)),
                chain: Chain::new(get_u64(bytes, HINT_CHAIN_AT)),
            },
            fences: bytes[FENCES_AT..fences_end]
                .chunks_exact(FENCE_BYTES)
                .enumerate()
                .map(|(i, slot)| parse_fence(slot, FENCES_AT + i * FENCE_BYTES))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn encode_fence(fence: &Fence, out: &mut [u8]) {
    put_u32(out, 0, fence.incarnation.get());
    put_u32(out, 4, fence.reason as u32);
    put_u64(out, 8, fence.cut.bits());
    put_u64(out, 16, fence.cut_lsn.get());
    put_u64(out, 24, fence.resume.bits());
    put_u64(out, 32, fence.chain.get());
    put_u64(out, 40, fence.ts_ns);
}

fn parse_fence(bytes: &[u8], at: usize) -> Result<Fence, Corrupt> {
    Ok(Fence {
        incarnation: Incarnation::new(get_u32(bytes, 0)),
        reason: FenceReason::parse(get_u32(bytes, 4)).ok_or(Corrupt::field("superblock: fence reason", at + 4))?,
        cut: Position::from_bits(get_u64(bytes, 8)),
        cut_lsn: Lsn::new(get_u64(bytes, 16)),
        resume: Position::from_bits(get_u64(bytes, 24)),
        chain: Chain::new(get_u64(bytes, 32)),
        ts_ns: get_u64(bytes, 40),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SegmentNo;

    fn superblock() -> Superblock {
        let place = Position::new(SegmentNo::new(2), 8192);
        Superblock {
            version: 12,
            align: 4096,
            role: Some(Role::Leader),
            clean: true,
            log_id: LogId::new(1 << 100),
            node_id: NodeId::new(2),
            run_id: RunId::new(3),
            epoch: Epoch::new(4),
            incarnation: Incarnation::new(5),
            hint: Hint { position: place, lsn: Lsn::new(6), chain: Chain::new(7) },
            fences: vec![Fence {
                incarnation: Incarnation::new(4),
                reason: FenceReason::Opened,
                cut: place,
                cut_lsn: Lsn::new(6),
                resume: place,
                chain: Chain::new(7),
                ts_ns: 8,
            }],
        }
    }

    #[test]
    fn a_slot_comes_back_as_it_went() {
        assert_eq!(Superblock::parse(&superblock().encode()), Ok(superblock()));
    }

    #[test]
    fn a_full_table_of_fences_fits() {
        let fence = superblock().fences[0];
        let full = Superblock { fences: vec![fence; FENCES_MAX], ..superblock() };
        assert_eq!(Superblock::parse(&full.encode()), Ok(full));
    }

    #[test]
    fn every_flipped_bit_of_a_slot_is_found() {
        let good = superblock().encode();
        for bit in 0..good.len() * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Superblock::parse(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_fence_kills_only_what_lies_behind_its_cut_and_is_not_younger() {
        let fence = superblock().fences[0];
        let before = Position::new(SegmentNo::new(2), 4096);
        assert!(fence.kills(fence.cut, Incarnation::new(4)));
        assert!(!fence.kills(fence.cut, Incarnation::new(5)));
        assert!(!fence.kills(before, Incarnation::new(1)));
    }
}
