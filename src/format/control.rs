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
    /// Bytes of the body.
    pub(crate) const BYTES: usize = 32;

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
    /// Bytes of the body for a topic of that name.
    pub(crate) fn bytes(name: &str) -> usize {
        8 + name.len()
    }

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

/// The body of a COMMIT block: the staged batch `txn` becomes visible. docs/FORMAT.md#control-blocks
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    /// The LSN of the batch's first staged block.
    pub(crate) txn: Lsn,
    /// How many staged blocks it has: one that is missing must not go unnoticed.
    pub(crate) blocks: u64,
    /// Bytes of payload in them.
    pub(crate) bytes: u64,
    /// What each topic gets.
    pub(crate) topics: Vec<CommittedTopic>,
}

/// A topic's part of a staged batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CommittedTopic {
    pub(crate) id: TopicId,
    /// What is added to the relative offsets of its entries.
    pub(crate) base_offset: u64,
    /// How many entries it gets.
    pub(crate) entries: u64,
}

impl Commit {
    /// Bytes of the body for a batch to one topic.
    pub(crate) const BYTES: usize = 32 + 24;

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Commit::BYTES);
        out.extend_from_slice(&self.txn.get().to_le_bytes());
        out.extend_from_slice(&self.blocks.to_le_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
        out.extend_from_slice(&(self.topics.len() as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for topic in &self.topics {
            out.extend_from_slice(&topic.id.get().to_le_bytes());
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&topic.base_offset.to_le_bytes());
            out.extend_from_slice(&topic.entries.to_le_bytes());
        }
        out
    }

    pub(crate) fn parse(body: &[u8]) -> Result<Commit, Corrupt> {
        let mut reader = Reader::new(body, "COMMIT block");
        let (txn, blocks, bytes) = (Lsn::new(reader.u64()?), reader.u64()?, reader.u64()?);
        let n_topics = reader.u32()?;
        reader.u32()?;
        // No reservation by a count from disk: the vector grows as the bytes bear it out.
        let topics = (0..n_topics).map(|_| CommittedTopic::parse(&mut reader)).collect::<Result<_, _>>()?;
        Ok(Commit { txn, blocks, bytes, topics })
    }
}

impl CommittedTopic {
    fn parse(reader: &mut Reader<'_>) -> Result<CommittedTopic, Corrupt> {
        let id = TopicId::new(reader.u32()?);
        reader.u32()?;
        let (base_offset, entries) = (reader.u64()?, reader.u64()?);
        if base_offset.checked_add(entries).is_none() {
            return Err(Corrupt::field("COMMIT block: offsets beyond all numbers", 40));
        }
        Ok(CommittedTopic { id, base_offset, entries })
    }
}

/// The body of an ABORT block: the staged batch `txn` will never become visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Abort {
    pub(crate) txn: Lsn,
}

impl Abort {
    pub(crate) const BYTES: usize = 8;

    pub(crate) fn encode(&self) -> Vec<u8> {
        self.txn.get().to_le_bytes().to_vec()
    }

    pub(crate) fn parse(body: &[u8]) -> Result<Abort, Corrupt> {
        Ok(Abort { txn: Lsn::new(Reader::new(body, "ABORT block").u64()?) })
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
        let topics = vec![CommittedTopic { id: TopicId::new(3), base_offset: 7, entries: 2_000 }];
        let commit = Commit { txn: Lsn::new(5), blocks: 9, bytes: 1 << 33, topics };
        assert_eq!(Commit::parse(&commit.encode()), Ok(commit.clone()));
        assert_eq!(commit.encode().len(), Commit::BYTES);
        for len in 0..Commit::BYTES {
            assert!(Commit::parse(&commit.encode()[..len]).is_err());
        }
        let abort = Abort { txn: Lsn::new(5) };
        assert_eq!(Abort::parse(&abort.encode()), Ok(abort));
        assert!(Abort::parse(&abort.encode()[1..]).is_err());
    }
}
