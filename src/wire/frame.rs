//! Frames: docs/PROTOCOL.md#frame
//!
//! ```text
//!     0        1        2                4                8
//!     | type 1 | flags 1| header_len 2   | payload_len 4  | header (postcard) | payload (raw) |
//! ```
//!
//! The payload is the log's own bytes, or an entry's, and postcard never touches it: it goes from the buffer it was read
//! into to the buffer it is written from. Both lengths are bounded by what the type allows before one byte behind them is
//! waited for, so a peer cannot make this program reserve what it merely announces.
//!
//! Layer: wire. Uses `limits`. Knows nothing of what a frame means, nor where its bytes come from.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Code, Violation};
use crate::limits::{BLOCK_BYTES_MAX, GROUP_BYTES_MAX};

/// Bytes of the fixed part.
pub(crate) const PREFIX_BYTES: usize = 8;

/// Set on a frame that whoever does not know its type may skip.
pub(crate) const FLAG_MAY_IGNORE: u8 = 1;
// 2 (MORE) and 4 (COMPRESSED) are reserved: this version refuses a known type that carries them.

/// Bytes of a header that carries a few fields and one text.
const HEADER_SMALL: u16 = 4 << 10;
/// Bytes of a header that carries a list.
const HEADER_LARGE: u16 = 60 << 10;

/// A frame's type: docs/PROTOCOL.md#frame-types
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Kind(pub(crate) u8);

/// How long a frame of one type may be.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    header: u16,
    payload: u32,
}

macro_rules! kinds {
    ($($name:ident = $number:literal, $text:literal, $header:expr, $payload:expr;)*) => {
        impl Kind {
            $(pub(crate) const $name: Kind = Kind($number);)*

            fn bounds(self) -> Option<Bounds> {
                match self.0 {
                    $($number => Some(Bounds { header: $header, payload: $payload as u32 }),)*
                    _ => None,
                }
            }

            /// Its name in docs/PROTOCOL.md.
            pub(crate) fn text(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some($text),)*
                    _ => None,
                }
            }

            /// Every type of this version, in order.
            #[cfg(test)]
            pub(crate) const ALL: &'static [Kind] = &[$(Kind($number)),*];
        }
    };
}

kinds! {
    // control stream
    HELLO = 1, "Hello", HEADER_SMALL, 0;
    WELCOME = 2, "Welcome", HEADER_SMALL, 0;
    REFUSED = 3, "Refused", HEADER_SMALL, 0;
    HEARTBEAT = 4, "Heartbeat", HEADER_SMALL, 0;
    DRAIN = 5, "Drain", HEADER_SMALL, 0;
    // following
    SUBSCRIBE = 16, "Subscribe", HEADER_SMALL, 0;
    SUBSCRIBED = 17, "Subscribed", HEADER_SMALL, 0;
    DIVERGED = 18, "Diverged", HEADER_SMALL, 0;
    ACK = 19, "Ack", HEADER_SMALL, 0;
    CHAIN_QUERY = 20, "ChainQuery", HEADER_SMALL, 0;
    CHAIN_ANSWER = 21, "ChainAnswer", HEADER_SMALL, 0;
    // the stream of blocks
    BLOCKS_BEGIN = 32, "BlocksBegin", HEADER_SMALL, 0;
    BLOCK = 33, "Block", HEADER_SMALL, BLOCK_BYTES_MAX;
    WATERMARK = 34, "Watermark", HEADER_SMALL, 0;
    END = 35, "End", HEADER_SMALL, 0;
    // appending
    APPEND_BEGIN = 48, "AppendBegin", HEADER_SMALL, 0;
    BATCH = 49, "Batch", HEADER_LARGE, GROUP_BYTES_MAX;
    APPENDED = 50, "Appended", HEADER_SMALL, 0;
    // reading
    READ_BEGIN = 64, "ReadBegin", HEADER_SMALL, 0;
    READ_OPENED = 65, "ReadOpened", HEADER_SMALL, 0;
    ENTRIES = 66, "Entries", HEADER_LARGE, GROUP_BYTES_MAX;
    // asking
    TOPICS_REQUEST = 80, "TopicsRequest", HEADER_SMALL, 0;
    TOPICS = 81, "Topics", HEADER_LARGE, 0;
    STATUS_REQUEST = 82, "StatusRequest", HEADER_SMALL, 0;
    STATUS = 83, "Status", HEADER_SMALL, 1 << 20;
}

/// What an unknown type that may be ignored is bounded by.
const IGNORED: Bounds = Bounds { header: HEADER_LARGE, payload: BLOCK_BYTES_MAX as u32 };

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.text() {
            Some(text) => f.write_str(text),
            None => write!(f, "frame type {}", self.0),
        }
    }
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// The fixed part of a frame, its lengths already bounded.
#[derive(Clone, Copy, Debug)]
struct Prefix {
    kind: Kind,
    known: bool,
    header_len: usize,
    payload_len: usize,
}

impl Prefix {
    fn parse(raw: &[u8; PREFIX_BYTES]) -> Result<Prefix, Violation> {
        let [kind, flags, h0, h1, p0, p1, p2, p3] = *raw;
        let kind = Kind(kind);
        let (header_len, payload_len) = (u16::from_le_bytes([h0, h1]), u32::from_le_bytes([p0, p1, p2, p3]));
        let bounds = match kind.bounds() {
            Some(bounds) => bounds,
            None if flags & FLAG_MAY_IGNORE != 0 => IGNORED,
            None => return Err(Violation::protocol(format!("{kind} is unknown and must not be skipped"))),
        };
        // A known type with a flag that changes how its payload is to be read cannot be read without it.
        if kind.bounds().is_some() && flags & !FLAG_MAY_IGNORE != 0 {
            return Err(Violation::protocol(format!(
                "{kind} with flags {flags:#04x}, which this version does not know"
            )));
        }
        if header_len > bounds.header {
            let what =
                format!("{kind} announces a header of {header_len} bytes, at most {} are allowed", bounds.header);
            return Err(Violation::new(Code::FRAME_TOO_LARGE, what));
        }
        if payload_len > bounds.payload {
            let what =
                format!("{kind} announces {payload_len} bytes of payload, at most {} are allowed", bounds.payload);
            return Err(Violation::new(Code::FRAME_TOO_LARGE, what));
        }
        let known = kind.bounds().is_some();
        Ok(Prefix { kind, known, header_len: header_len.into(), payload_len: payload_len as usize })
    }

    fn total(&self) -> usize {
        PREFIX_BYTES + self.header_len + self.payload_len
    }
}

/// One whole frame of a known type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) header: Bytes,
    pub(crate) payload: Bytes,
}

/// A frame on its way out: the payload stays where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Encoded {
    pub(crate) head: Bytes,
    pub(crate) payload: Bytes,
}

/// Puts a frame of `kind` behind what is in `buf`, up to its payload: the fixed part, and the header that `put_header` puts there.
///
/// # Panics
/// When it breaks the bounds of its type: whoever builds a message keeps to them.
pub(crate) fn put_head(buf: &mut BytesMut, kind: Kind, payload_len: usize, put_header: impl FnOnce(&mut BytesMut)) {
    let bounds = kind.bounds().expect("only known types are sent");
    assert!(payload_len <= bounds.payload as usize, "{kind}: a payload of {payload_len} bytes");
    let start = buf.len();
    buf.put_u32_le(u32::from(kind.0));
    buf.put_u32_le(payload_len as u32);
    put_header(buf);
    let header_len = buf.len() - start - PREFIX_BYTES;
    assert!(header_len <= usize::from(bounds.header), "{kind}: a header of {header_len} bytes");
    buf[start + 2..start + 4].copy_from_slice(&(header_len as u16).to_le_bytes());
}

/// Takes the next whole frame off the front of `buf`; `None` when more bytes are needed.
///
/// Frames that may be skipped are skipped. The payload is a slice of `buf`'s memory, not a copy.
pub(crate) fn decode(buf: &mut BytesMut) -> Result<Option<Frame>, Violation> {
    loop {
        let Some(raw) = buf.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        let prefix = Prefix::parse(raw)?;
        if buf.len() < prefix.total() {
            return Ok(None);
        }
        buf.advance(PREFIX_BYTES);
        let header = buf.split_to(prefix.header_len).freeze();
        let payload = buf.split_to(prefix.payload_len).freeze();
        if prefix.known {
            return Ok(Some(Frame { kind: prefix.kind, header, payload }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(kind: u8, flags: u8, header: &[u8], payload: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        out.put_u8(kind);
        out.put_u8(flags);
        out.put_u16_le(header.len() as u16);
        out.put_u32_le(payload.len() as u32);
        out.put_slice(header);
        out.put_slice(payload);
        out
    }

    #[test]
    fn a_frame_comes_out_when_its_last_byte_is_there_and_not_before() {
        let whole = wire(Kind::BLOCK.0, 0, b"head", b"payload");
        for len in 0..whole.len() {
            let mut part = BytesMut::from(&whole[..len]);
            assert_eq!(decode(&mut part), Ok(None));
            assert_eq!(part.len(), len, "what is not a whole frame stays where it is");
        }
        let mut two = whole.clone();
        two.unsplit(whole.clone());
        for _ in 0..2 {
            let frame = decode(&mut two).unwrap().unwrap();
            assert_eq!(
                (frame.kind, &frame.header[..], &frame.payload[..]),
                (Kind::BLOCK, &b"head"[..], &b"payload"[..])
            );
        }
        assert_eq!(decode(&mut two), Ok(None));
    }

    #[test]
    fn a_length_above_its_bound_is_refused_from_the_first_eight_bytes() {
        for &kind in Kind::ALL {
            let bounds = kind.bounds().unwrap();
            let mut raw = BytesMut::new();
            raw.put_slice(&[kind.0, 0]);
            raw.put_u16_le(0);
            raw.put_u32_le(bounds.payload + 1);
            assert_eq!(decode(&mut raw).unwrap_err().code, Code::FRAME_TOO_LARGE);
            let mut raw = BytesMut::new();
            raw.put_slice(&[kind.0, 0]);
            raw.put_u16_le(bounds.header + 1);
            raw.put_u32_le(0);
            assert_eq!(decode(&mut raw).unwrap_err().code, Code::FRAME_TOO_LARGE);
        }
    }

    #[test]
    fn an_unknown_type_is_skipped_only_where_it_says_so_and_an_unknown_flag_never() {
        let mut buf = wire(200, FLAG_MAY_IGNORE, b"later", b"version");
        buf.unsplit(wire(Kind::END.0, 0, b"x", b""));
        assert_eq!(decode(&mut buf).unwrap().unwrap().kind, Kind::END);
        assert_eq!(decode(&mut wire(200, 0, b"", b"")).unwrap_err().code, Code::PROTOCOL);
        for flags in [2, 4, 0x80] {
            assert_eq!(decode(&mut wire(Kind::BATCH.0, flags, b"", b"")).unwrap_err().code, Code::PROTOCOL);
        }
        let mut huge = BytesMut::from(&[200, FLAG_MAY_IGNORE, 0, 0, 0xff, 0xff, 0xff, 0xff][..]);
        assert_eq!(decode(&mut huge).unwrap_err().code, Code::FRAME_TOO_LARGE);
    }

    #[test]
    fn garbage_of_any_kind_is_refused_or_waited_for_and_never_panics() {
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u32
        };
        let (mut refused, mut taken) = (0, 0);
        for round in 0..50_000 {
            let mut buf = wire(Kind::ALL[next() as usize % Kind::ALL.len()].0, 0, b"header", b"payload");
            for _ in 0..=round % 3 {
                let at = next() as usize % buf.len();
                buf[at] = next() as u8;
            }
            buf.truncate(next() as usize % (buf.len() + 1));
            match decode(&mut buf) {
                Err(_) => refused += 1,
                Ok(Some(frame)) => {
                    taken += 1;
                    assert!(frame.payload.len() <= 32);
                }
                Ok(None) => assert!(buf.len() < 64),
            }
        }
        assert!(refused > 1000 && taken > 100, "{refused} refused, {taken} taken: the loop no longer covers both");
    }

    #[test]
    fn every_type_stands_in_the_protocol_page_with_its_number_and_name() {
        let page = include_str!("../../docs/PROTOCOL.md");
        for &kind in Kind::ALL {
            let row = format!("| {} | `{kind}` |", kind.0);
            assert!(page.contains(&row), "no row {row:?}");
        }
    }
}
