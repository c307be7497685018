//! What retention has taken away: docs/FORMAT.md#base
//!
//! Absent until the first segment is given away; a log without it begins at LSN 1 in segment 1. Written whole, before a
//! segment goes.
//!
//! Layer: format. Knows nothing of retention's reasons.

use super::checksum::plain_sum;
use super::control::Reign;
use super::field::{Reader, get_u64, is_zero};
use super::{Corrupt, FORMAT_VERSION};
use crate::ids::{Chain, Epoch, RunId, TopicId};
use crate::lsn::{Lsn, Position};

const MAGIC: &[u8; 8] = b"WALRBAS1";

/// Bytes of the largest base: a million topics of the longest names.
pub(crate) const BASE_BYTES_MAX: usize = 512 << 20;

/// A topic as it stood where the log now begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BaseTopic {
    pub(crate) id: TopicId,
    pub(crate) name: String,
    /// The offset of its first entry that is still there.
    pub(crate) next_offset: u64,
}

/// Where the log begins, and what it knew by then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) first_lsn: Lsn,
    pub(crate) first_position: Position,
    /// The chain before the first block.
    pub(crate) chain: Chain,
    pub(crate) lineage: Vec<Reign>,
    pub(crate) topics: Vec<BaseTopic>,
}

impl Base {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&self.first_lsn.get().to_le_bytes());
        out.extend_from_slice(&self.first_position.bits().to_le_bytes());
        out.extend_from_slice(&self.chain.get().to_le_bytes());
        out.extend_from_slice(&(self.lineage.len() as u32).to_le_bytes());
        out.extend_from_slice(&(self.topics.len() as u32).to_le_bytes());
        for reign in &self.lineage {
            out.extend_from_slice(&reign.encode());
        }
        for topic in &self.topics {
            out.extend_from_slice(&topic.id.get().to_le_bytes());
            out.extend_from_slice(&(topic.name.len() as u16).to_le_bytes());
            out.extend_from_slice(&[0; 2]);
            out.extend_from_slice(&topic.next_offset.to_le_bytes());
            out.extend_from_slice(topic.name.as_bytes());
        }
        let sum = plain_sum(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Base, Corrupt> {
        let body_len = bytes.len().checked_sub(8).ok_or(Corrupt::Short { what: "base" })?;
        let (body, sum) = bytes.split_at(body_len);
        if get_u64(sum, 0) != plain_sum(body) {
            return Err(Corrupt::field("base: sum", body_len));
        }
        let mut reader = Reader::new(body, "base");
        if reader.bytes(8)? != MAGIC {
            return Err(Corrupt::field("base: magic", 0));
        }
        let version = reader.u16()?;
        if version != FORMAT_VERSION {
            return Err(Corrupt::Newer { what: "base format", value: version.into() });
        }
        if !is_zero(reader.bytes(6)?) {
            return Err(Corrupt::field("base: reserved bytes", 10));
        }
        let first_lsn = Lsn::new(reader.u64()?);
        let first_position = Position::from_bits(reader.u64()?);
        let chain = Chain::new(reader.u64()?);
        let (n_lineage, n_topics) = (reader.u32()?, reader.u32()?);
        // No reservation by a count from disk: the vectors grow as the bytes bear it out.
        let lineage = (0..n_lineage).map(|_| parse_reign(&mut reader)).collect::<Result<_, _>>()?;
        let topics = (0..n_topics).map(|_| parse_topic(&mut reader)).collect::<Result<Vec<_>, _>>()?;
        // Each topic has had a TOPIC block, so its number is below the first LSN: nobody reserves more on the word of this file.
        if topics.iter().any(|topic| topic.id == TopicId::CONTROL || u64::from(topic.id.get()) >= first_lsn.get()) {
            return Err(Corrupt::field("base: a topic's number", 0));
        }
        if reader.left() != 0 {
            return Err(Corrupt::field("base: bytes behind its end", body_len - reader.left()));
        }
        Ok(Base { first_lsn, first_position, chain, lineage, topics })
    }
}

fn parse_reign(reader: &mut Reader<'_>) -> Result<Reign, Corrupt> {
    let epoch = Epoch::new(reader.u32()?);
    reader.u32()?;
    Ok(Reign { epoch, run_id: RunId::new(reader.u128()?), start_lsn: Lsn::new(reader.u64()?) })
}

fn parse_topic(reader: &mut Reader<'_>) -> Result<BaseTopic, Corrupt> {
    let id = TopicId::new(reader.u32()?);
    let name_len = usize::from(reader.u16()?);
    reader.u16()?;
    let next_offset = reader.u64()?;
    let name = std::str::from_utf8(reader.bytes(name_len)?).map_err(|_| Corrupt::field("base: topic name", 0))?;
    Ok(BaseTopic { id, name: name.to_owned(), next_offset })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SegmentNo;

    #[test]
    fn a_base_comes_back_as_it_went_and_every_flipped_bit_is_found() {
        let base = Base {
            first_lsn: Lsn::new(40),
            first_position: Position::new(SegmentNo::new(3), 4096),
            chain: Chain::new(9),
            lineage: vec![Reign { epoch: Epoch::new(1), run_id: RunId::new(2), start_lsn: Lsn::FIRST }],
            topics: vec![BaseTopic { id: TopicId::new(1), name: "t".into(), next_offset: 12 }],
        };
        let good = base.encode();
        assert_eq!(Base::parse(&good), Ok(base.clone()));
        for impossible in [0, 40, u32::MAX] {
            let topics = vec![BaseTopic { id: TopicId::new(impossible), ..base.topics[0].clone() }];
            assert!(Base::parse(&Base { topics, ..base.clone() }.encode()).is_err(), "topic number {impossible}");
        }
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Base::parse(&bad).is_err(), "bit {bit}");
        }
    }
}
