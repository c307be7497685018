//! Named read positions: docs/FORMAT.md#cursors
//!
//! A small file, written whole each time. Absent until the first cursor is set.
//!
//! Layer: format. Knows nothing of who reads what.

use std::collections::BTreeMap;

use super::checksum::plain_sum;
use super::field::{Reader, is_zero};
use super::{Corrupt, FORMAT_VERSION, field};
use crate::ids::LogId;
use crate::limits::{CURSORS_BYTES_MAX, TOPIC_NAME_BYTES_MAX};

const MAGIC: &[u8; 8] = b"WALRCUR1";

/// Bytes before the first cursor.
const HEAD_BYTES: usize = 40;
/// Bytes of a cursor beside its two names.
const CURSOR_BYTES: usize = 16;
const SUM_BYTES: usize = 8;

/// Who reads, and what: the names of a cursor and of its topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CursorKey {
    pub(crate) name: String,
    pub(crate) topic: String,
}

impl CursorKey {
    /// Bytes that it takes in the file, with its offset.
    pub(crate) fn bytes(&self) -> usize {
        CURSOR_BYTES + self.name.len() + self.topic.len()
    }
}

/// The cursors of a log: the next offset that each will read.
pub(crate) type Cursors = BTreeMap<CursorKey, u64>;

/// Bytes of the file.
pub(crate) fn encoded_bytes(cursors: &Cursors) -> usize {
    HEAD_BYTES + cursors.keys().map(CursorKey::bytes).sum::<usize>() + SUM_BYTES
}

pub(crate) fn encode(log_id: LogId, cursors: &Cursors) -> Vec<u8> {
    let mut out = Vec::with_capacity(encoded_bytes(cursors));
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 6]);
    out.extend_from_slice(&log_id.get().to_le_bytes());
    out.extend_from_slice(&(cursors.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    for (key, offset) in cursors {
        assert!(is_name_len(key.name.len()) && is_name_len(key.topic.len()), "checked before it was set");
        out.extend_from_slice(&(key.name.len() as u16).to_le_bytes());
        out.extend_from_slice(&(key.topic.len() as u16).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&offset.to_le_bytes());
        out.extend_from_slice(key.name.as_bytes());
        out.extend_from_slice(key.topic.as_bytes());
    }
    let sum = plain_sum(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    assert!(out.len() <= CURSORS_BYTES_MAX, "checked before it was set");
    out
}

pub(crate) fn parse(bytes: &[u8], log_id: LogId) -> Result<Cursors, Corrupt> {
    let body_len = bytes.len().checked_sub(SUM_BYTES).ok_or(Corrupt::Short { what: "cursors" })?;
    let (body, sum) = bytes.split_at(body_len);
    if field::get_u64(sum, 0) != plain_sum(body) {
        return Err(Corrupt::field("cursors: sum", body_len));
    }
    let mut reader = Reader::new(body, "cursors");
    if reader.bytes(8)? != MAGIC {
        return Err(Corrupt::field("cursors: magic", 0));
    }
    let version = reader.u16()?;
    if version != FORMAT_VERSION {
        return Err(Corrupt::Newer { what: "cursors format", value: version.into() });
    }
    if !is_zero(reader.bytes(6)?) {
        return Err(Corrupt::field("cursors: reserved bytes", 10));
    }
    // Offsets mean nothing in another log, and a folder may have been put together from two.
    if reader.u128()? != log_id.get() {
        return Err(Corrupt::field("cursors: they belong to another log", 16));
    }
    let n = reader.u32()?;
    if !is_zero(reader.bytes(4)?) {
        return Err(Corrupt::field("cursors: reserved bytes", 36));
    }
    let mut cursors = Cursors::new();
    for _ in 0..n {
        let at = body_len - reader.left();
        let (key, offset) = parse_cursor(&mut reader, at)?;
        if cursors.last_key_value().is_some_and(|(last, _)| *last >= key) {
            return Err(Corrupt::field("cursors: not in order", at));
        }
        cursors.insert(key, offset);
    }
    if reader.left() != 0 {
        return Err(Corrupt::field("cursors: bytes behind their end", body_len - reader.left()));
    }
    Ok(cursors)
}

fn parse_cursor(reader: &mut Reader<'_>, at: usize) -> Result<(CursorKey, u64), Corrupt> {
    let (name_len, topic_len) = (usize::from(reader.u16()?), usize::from(reader.u16()?));
    if !is_name_len(name_len) || !is_name_len(topic_len) || !is_zero(reader.bytes(4)?) {
        return Err(Corrupt::field("cursors: the lengths of names", at));
    }
    let offset = reader.u64()?;
    let mut name = |len| {
        let text = std::str::from_utf8(reader.bytes(len)?).map_err(|_| Corrupt::field("cursors: a name", at))?;
        Ok::<_, Corrupt>(text.to_owned())
    };
    Ok((CursorKey { name: name(name_len)?, topic: name(topic_len)? }, offset))
}

fn is_name_len(len: usize) -> bool {
    (1..=TOPIC_NAME_BYTES_MAX).contains(&len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, topic: &str) -> CursorKey {
        CursorKey { name: name.into(), topic: topic.into() }
    }

    fn some() -> Cursors {
        [(key("a", "orders"), 7), (key("a", "größe"), u64::MAX), (key("reader 2", "orders"), 0)].into()
    }

    #[test]
    fn cursors_come_back_as_they_went_and_every_flipped_bit_and_every_prefix_is_found() {
        let log_id = LogId::new(12345);
        for cursors in [Cursors::new(), some()] {
            let good = encode(log_id, &cursors);
            assert_eq!(good.len(), encoded_bytes(&cursors));
            assert_eq!(parse(&good, log_id), Ok(cursors));
            for bit in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(parse(&bad, log_id).is_err(), "bit {bit}");
            }
            for end in 0..good.len() {
                assert!(parse(&good[..end], log_id).is_err(), "cut at {end}");
            }
            assert!(parse(&good, LogId::new(12346)).is_err(), "another log's");
        }
    }

    /// With a right sum: what no writer of ours makes is refused by its fields.
    #[test]
    fn sound_bytes_that_make_no_sense_are_refused() {
        let log_id = LogId::new(1);
        let good = encode(log_id, &some());
        let with = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut body = good[..good.len() - SUM_BYTES].to_vec();
            change(&mut body);
            let sum = plain_sum(&body);
            body.extend_from_slice(&sum.to_le_bytes());
            parse(&body, log_id)
        };
        assert!(with(&|_| {}).is_ok());
        assert_eq!(with(&|body| body[8] = 2), Err(Corrupt::Newer { what: "cursors format", value: 2 }));
        assert!(with(&|body| body[32] = 255).is_err(), "more cursors than there are");
        assert!(with(&|body| body[32] = 2).is_err(), "fewer");
        assert!(with(&|body| body[HEAD_BYTES] = 0).is_err(), "a name of no bytes");
        assert!(with(&|body| body[HEAD_BYTES + 1] = 255).is_err(), "a name that is too long");
        assert!(with(&|body| body[HEAD_BYTES + CURSOR_BYTES] = 0xff).is_err(), "a name that is no UTF-8");
        assert!(with(&|body| body[HEAD_BYTES + CURSOR_BYTES] = b'z').is_err(), "out of order");
        assert!(with(&|body| body.push(0)).is_err(), "bytes behind the end");
    }
}
