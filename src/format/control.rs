//! The bodies of control blocks: docs/FORMAT.md#control-blocks
//!
//! A control block is one entry of topic 0, so its body has a payload sum and stands under the chain like any other.
//!
//! Layer: format. Knows nothing of what follows from them.

use super::Corrupt;
use super::field::Reader;
use crate::ids::{Epoch, RunId, TopicId};
use crate::limits::TOPIC_NAME_BYTES_MAX;
use crate::lsn::Lsn;

/// A reign: who wrote from where on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reign {
    /// Its number.
    pub epoch: Epoch,
    /// Its random name.
    pub run_id: RunId,
    /// Its first block, which is the EPOCH block itself.
    pub start_lsn: Lsn,
}

impl Reign {
    /// The body of an EPOCH block.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        out.extend_from_slice(&self.epoch.get().to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.run_id.get().to_le_bytes());
        out.extend_from_slice(&self.start_lsn.get().to_le_bytes());
        out
    }

    /// Reads the body of an EPOCH block. Bytes behind the known fields belong to a later version and are let be.
    pub(crate) fn parse(body: &[u8]) -> Result<Reign, Corrupt> {
        let mut reader = Reader::new(body, "EPOCH block");
        let epoch = Epoch::new(reader.u32()?);
        reader.u32()?;
        Ok(Reign { epoch, run_id: RunId::new(reader.u128()?), start_lsn: Lsn::new(reader.u64()?) })
    }
}

/// The body of a TOPIC block: a topic gets its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicDefinition {
    pub(crate) id: TopicId,
    pub(crate) name: String,
}

impl TopicDefinition {
    pub(crate) fn encode(&self) -> Vec<u8> {
        assert!(self.name.len() <= TOPIC_NAME_BYTES_MAX);
        let mut out = Vec::with_capacity(8 + self.name.len());
        out.extend_from_slice(&self.id.get().to_le_bytes());
        out.extend_from_slice(&(self.name.len() as u16).to_le_bytes());
        out.extend_from_slice(&0u16.to_le_bytes()); // bytes of configuration, behind the name
        out.extend_from_slice(self.name.as_bytes());
        out
    }

    pub(crate) fn parse(body: &[u8]) -> Result<TopicDefinition, Corrupt> {
        let mut reader = Reader::new(body, "TOPIC block");
        let id = TopicId::new(reader.u32()?);
        let name_len = usize::from(reader.u16()?);
        reader.u16()?;
        let name = std::str::from_utf8(reader.bytes(name_len)?).map_err(|_| Corrupt::field("topic name: UTF-8", 8))?;
        Ok(TopicDefinition { id, name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_bodies_come_back_as_they_went_and_short_ones_are_refused() {
        let reign = Reign { epoch: Epoch::new(2), run_id: RunId::new(1 << 99), start_lsn: Lsn::new(17) };
        assert_eq!(Reign::parse(&reign.encode()), Ok(reign));
        let topic = TopicDefinition { id: TopicId::new(3), name: "orders.eu".into() };
        assert_eq!(TopicDefinition::parse(&topic.encode()), Ok(topic.clone()));
        for len in 0..topic.encode().len() {
            assert!(TopicDefinition::parse(&topic.encode()[..len]).is_err());
        }
        for len in 0..32 {
            assert!(Reign::parse(&reign.encode()[..len]).is_err());
        }
    }
}
