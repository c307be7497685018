//! Every message: docs/PROTOCOL.md#messages
//!
//! A header is one postcard struct. postcard does not describe itself, so what keeps old and new programs able to talk is a
//! set of rules (docs/PROTOCOL.md#evolution), and the golden frames in `tests/golden/wire` hold us to them:
//!
//! - every struct ends in `ext`, numbered extensions that an older reader skips; bytes behind it are ignored;
//! - no enum stands on the wire, because an unknown variant would make the whole message unreadable: kinds and codes are
//!   numbers, and what cannot be understood is refused by name;
//! - the nested structs without `ext` ([`History`], [`TopicRow`], [`EntryHead`]) are frozen.
//!
//! Layer: wire. Uses `frame`. Knows nothing of the order in which messages come.

use bytes::{BufMut, Bytes, BytesMut};
use postcard::ser_flavors::Flavor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::code::Code;
use super::frame::{Encoded, Frame, Kind, put_head};
use super::history::Tail;
use super::{MINOR, SOFTWARE, Violation};
use crate::ids::{Chain, Epoch, RunId};
use crate::lsn::Lsn;

/// What later versions add to a message: numbered values, skipped by whoever does not know the number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ext(Vec<(u16, Vec<u8>)>);

/// Bytes of a free text in a header (a reason, a name), so that it cannot burst the header's bound.
pub(crate) const TEXT_BYTES_MAX: usize = 2 << 10;

/// Bytes of a frame's head that hold most messages.
pub(crate) const HEAD_BYTES_USUAL: usize = 64;

/// Where postcard puts a header: behind what is there.
struct Behind<'a>(&'a mut BytesMut);

impl Flavor for Behind<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.put_u8(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.put_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// A message with a type of its own.
pub(crate) trait Message: Serialize + DeserializeOwned {
    /// The frame type that carries it.
    const KIND: Kind;

    /// The message as a frame without payload.
    fn encode(&self) -> Encoded {
        self.encode_with(Bytes::new())
    }

    /// The message as the header of a frame with that payload.
    fn encode_with(&self, payload: Bytes) -> Encoded {
        let mut head = BytesMut::with_capacity(HEAD_BYTES_USUAL);
        self.put(&mut head, payload.len());
        Encoded { head: head.freeze(), payload }
    }

    /// Puts the message behind what is in `buf`: all of its frame but a payload of `payload_len` bytes.
    fn put(&self, buf: &mut BytesMut, payload_len: usize) {
        put_head(buf, Self::KIND, payload_len, |buf| {
            postcard::serialize_with_flavor(self, Behind(buf)).expect("plain structs in memory always serialize");
        });
    }

    /// The message in a frame that has to be of this type.
    fn decode(frame: &Frame) -> Result<Self, Violation> {
        if frame.kind != Self::KIND {
            return Err(Violation::protocol(format!("{} where {} was due", frame.kind, Self::KIND)));
        }
        match postcard::take_from_bytes(&frame.header) {
            // What stands behind the fields belongs to a later version.
            Ok((message, _later)) => Ok(message),
            Err(error) => Err(Violation::protocol(format!("{} cannot be read: {error}", Self::KIND))),
        }
    }
}

macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident = $kind:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
            pub(crate) struct $name {
                $($(#[$field_doc])* pub(crate) $field: $type,)*
                /// Extensions: none in this version.
                pub(crate) ext: Ext,
            }

            impl Message for $name {
                const KIND: Kind = Kind::$kind;
            }
        )*
    };
}

messages! {
    /// First frame of whoever connected: docs/PROTOCOL.md#handshake
    Hello = HELLO {
        minor: u16,
        /// The lowest minor version that it can still speak.
        minor_min: u16,
        /// Feature bits: none in this version. A feature is used only when both sides have set its bit.
        features: u64,
        /// 0 for a client that is not a node.
        node_id: u128,
        /// The log it holds; none in a client, and in a follower whose folder is fresh.
        log_id: Option<u128>,
        /// What it wants to be called in status lines (a follower's slot); empty: the certificate's name.
        name: String,
        software: String,
    }
    /// First frame of whoever was connected to.
    Welcome = WELCOME {
        minor: u16,
        features: u64,
        node_id: u128,
        /// None while a fresh follower has not reached its leader.
        log_id: Option<u128>,
        name: String,
        software: String,
        /// 1 leader, 2 follower.
        role: u8,
        epoch: u32,
        durable_lsn: u64,
        /// Where the leader is, if the sender is not; empty: not known.
        leader_hint: String,
    }
    /// Instead of a Welcome, or of the answer to a request.
    Refused = REFUSED {
        code: Code,
        message: String,
        leader_hint: String,
    }
    /// Both ways, at least once a second, once somebody follows: docs/PROTOCOL.md#liveness
    Heartbeat = HEARTBEAT {
        durable_lsn: u64,
        /// The sender's wall clock; for people, never for decisions.
        clock_ns: u64,
    }
    /// The sender stops once the receiver has acknowledged all that is durable: docs/PROTOCOL.md#drain
    Drain = DRAIN {
        durable_lsn: u64,
        leader_hint: String,
    }
    /// Send me everything from `history` on: docs/PROTOCOL.md#subscribe-and-resume
    Subscribe = SUBSCRIBE {
        /// The subscriber's number for it, unique on the connection.
        sub: u32,
        /// The follower's durable tail: what it claims to hold.
        history: History,
    }
    /// The claim was proved; a stream of blocks from `start_lsn` on follows.
    Subscribed = SUBSCRIBED {
        sub: u32,
        start_lsn: u64,
    }
    /// The claim was refuted: docs/PROTOCOL.md#divergence
    Diverged = DIVERGED {
        sub: u32,
        /// Both logs are equal below it.
        common_lsn: u64,
        leader: History,
        follower: History,
    }
    /// What the follower has: docs/PROTOCOL.md#acknowledgement
    Ack = ACK {
        sub: u32,
        received_lsn: u64,
        durable_lsn: u64,
    }
    /// What is your chain before this block?
    ChainQuery = CHAIN_QUERY {
        lsn: u64,
    }
    /// This; none if the log does not reach there, or no longer does.
    ChainAnswer = CHAIN_ANSWER {
        lsn: u64,
        chain: Option<u64>,
    }
    /// First frame of a stream of blocks: docs/PROTOCOL.md#blocks
    BlocksBegin = BLOCKS_BEGIN {
        sub: u32,
        start_lsn: u64,
    }
    /// One portable block; the payload is the block, byte for byte as it lies on disk.
    Block = BLOCK {
        lsn: u64,
        /// Blocks still to come in its atomic group.
        remaining: u32,
    }
    /// All that was durable when this was sent has been sent.
    Watermark = WATERMARK {
        durable_lsn: u64,
        clock_ns: u64,
    }
    /// Last frame of a stream.
    End = END {
        code: Code,
        message: String,
    }
    /// Opens an append session: docs/PROTOCOL.md#append
    AppendBegin = APPEND_BEGIN {
        topic: String,
    }
    /// One atomic batch; the payload is its entries, back to back.
    Batch = BATCH {
        /// 0, 1, 2, ... in the session.
        seq: u64,
        /// The length of each entry.
        lens: Vec<u32>,
    }
    /// The batch is durable.
    Appended = APPENDED {
        seq: u64,
        first_offset: u64,
        last_offset: u64,
        /// The batch's last block.
        lsn: u64,
    }
    /// Opens a read: docs/PROTOCOL.md#read
    ReadBegin = READ_BEGIN {
        topic: String,
        start_kind: u8,
        start_value: u64,
        /// End at the topic's end as it is now, instead of going on live.
        to_end: bool,
        /// At most so many entries; 0: no bound.
        entries_max: u64,
    }
    /// The read begins here.
    ReadOpened = READ_OPENED {
        start_offset: u64,
        next_offset: u64,
    }
    /// Entries with consecutive offsets; the payload is their payloads, back to back.
    Entries = ENTRIES {
        first_offset: u64,
        /// The time of the first one.
        ts_ns: u64,
        heads: Vec<EntryHead>,
    }
    /// Which topics are there?
    TopicsRequest = TOPICS_REQUEST {}
    /// These; more frames follow until `last`.
    Topics = TOPICS {
        topics: Vec<TopicRow>,
        last: bool,
    }
    /// How are you?
    StatusRequest = STATUS_REQUEST {}
    /// The payload is the JSON of `status --json`.
    Status = STATUS {}
}

/// A log's tail: its end, and the chain and the reign that lead there. Frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct History {
    pub(crate) lsn: u64,
    pub(crate) epoch: u32,
    pub(crate) run_id: u128,
    pub(crate) chain: u64,
}

/// One topic. Frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TopicRow {
    pub(crate) name: String,
    pub(crate) id: u32,
    pub(crate) first_offset: u64,
    pub(crate) next_offset: u64,
}

/// One entry in [`Entries`]. Frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EntryHead {
    /// Nanoseconds behind the entry before it; 0 for the first.
    pub(crate) ts_delta_ns: u64,
    pub(crate) len: u32,
}

/// Topics in one [`Topics`] frame: at 255 bytes of name each they stay below the header's bound.
pub(crate) const TOPICS_PER_FRAME_MAX: usize = 128;

/// Entries in one [`Entries`] frame: 14 bytes of header each at most.
pub(crate) const ENTRIES_PER_FRAME_MAX: usize = 2_000;

/// Payload bytes in one [`Entries`] frame, unless a single entry is larger.
pub(crate) const ENTRIES_BYTES_PER_FRAME: usize = 512 << 10;

const _: () = assert!(TOPICS_PER_FRAME_MAX * (crate::limits::TOPIC_NAME_BYTES_MAX + 2 + 5 + 10 + 10) < 60 << 10);
const _: () = assert!(ENTRIES_PER_FRAME_MAX * 14 < 60 << 10);
const _: () = assert!(crate::limits::BATCH_ENTRIES_MAX * 5 < 60 << 10);

/// Where a read begins. On the wire a number and a value, so that later versions can add kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadStart {
    /// The first entry that is still kept.
    Start,
    /// Behind the last one.
    End,
    /// That offset.
    Offset(u64),
    /// So many entries before the end.
    Last(u64),
    /// The first entry at that time (nanoseconds since 1970) or later.
    Time(u64),
}

impl ReadStart {
    pub(crate) fn to_wire(self) -> (u8, u64) {
        match self {
            ReadStart::Start => (0, 0),
            ReadStart::End => (1, 0),
            ReadStart::Offset(offset) => (2, offset),
            ReadStart::Last(entries) => (3, entries),
            ReadStart::Time(ts_ns) => (4, ts_ns),
        }
    }

    pub(crate) fn from_wire(kind: u8, value: u64) -> Result<ReadStart, Violation> {
        match kind {
            0 => Ok(ReadStart::Start),
            1 => Ok(ReadStart::End),
            2 => Ok(ReadStart::Offset(value)),
            3 => Ok(ReadStart::Last(value)),
            4 => Ok(ReadStart::Time(value)),
            _ => Err(Violation::new(Code::INVALID, format!("start kind {kind} is not known here"))),
        }
    }
}

impl From<Tail> for History {
    fn from(tail: Tail) -> History {
        History { lsn: tail.lsn.get(), epoch: tail.epoch.get(), run_id: tail.run_id.get(), chain: tail.chain.get() }
    }
}

impl From<History> for Tail {
    fn from(history: History) -> Tail {
        Tail {
            lsn: Lsn::new(history.lsn),
            epoch: Epoch::new(history.epoch),
            run_id: RunId::new(history.run_id),
            chain: Chain::new(history.chain),
        }
    }
}

/// A text that fits a header, cut at a character.
pub(crate) fn text(text: impl Into<String>) -> String {
    let mut text = text.into();
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

impl Hello {
    /// The Hello of this program.
    pub(crate) fn new(node_id: u128, log_id: Option<u128>, name: &str) -> Hello {
        Hello {
            minor: MINOR,
            minor_min: 0,
            features: 0,
            node_id,
            log_id,
            name: text(name),
            software: SOFTWARE.into(),
            ext: Ext::default(),
        }
    }
}

impl Refused {
    pub(crate) fn new(code: Code, message: impl Into<String>, leader_hint: &str) -> Refused {
        Refused { code, message: text(message), leader_hint: text(leader_hint), ext: Ext::default() }
    }
}

impl From<Violation> for Refused {
    fn from(violation: Violation) -> Refused {
        Refused::new(violation.code, violation.what, "")
    }
}

impl End {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> End {
        End { code, message: text(message), ext: Ext::default() }
    }
}

/// Cuts a payload of entries into slices of it.
///
/// The lengths must cover the payload exactly, or an entry would reach into its neighbour.
pub(crate) fn split_payload(
    what: Kind,
    lens: impl Iterator<Item = u32>,
    payload: &Bytes,
) -> Result<Vec<Bytes>, Violation> {
    let mut rest = payload.clone();
    let mut entries = Vec::new();
    for len in lens {
        let len = len as usize;
        if len > rest.len() {
            let what = format!("{what}: an entry of {len} bytes where {} are left", rest.len());
            return Err(Violation::protocol(what));
        }
        entries.push(rest.split_to(len));
    }
    if !rest.is_empty() {
        return Err(Violation::protocol(format!("{what}: {} bytes belong to no entry", rest.len())));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::super::frame;
    use super::*;

    fn history(lsn: u64) -> History {
        History { lsn, epoch: 3, run_id: 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff, chain: 0xfeed_f00d }
    }

    /// One of each, with every field set to something that shows when it moves.
    fn one_of_each() -> Vec<(&'static str, Encoded)> {
        let ext = Ext::default;
        vec![
            ("hello", Hello { software: "golden".into(), ..Hello::new(7, Some(1 << 100), "billing-1") }.encode()),
            ("hello_fresh", Hello { software: "golden".into(), ..Hello::new(7, None, "") }.encode()),
            (
                "welcome",
                Welcome {
                    minor: 0,
                    features: 0,
                    node_id: 9,
                    log_id: Some(1 << 100),
                    name: "n1".into(),
                    software: "golden".into(),
                    role: 2,
                    epoch: 3,
                    durable_lsn: 1000,
                    leader_hint: "10.0.0.1:7400".into(),
                    ext: ext(),
                }
                .encode(),
            ),
            ("refused", Refused::new(Code::NOT_LEADER, "ask the leader", "10.0.0.1:7400").encode()),
            ("heartbeat", Heartbeat { durable_lsn: 1000, clock_ns: 1_700_000_000_000_000_000, ext: ext() }.encode()),
            ("drain", Drain { durable_lsn: 1000, leader_hint: String::new(), ext: ext() }.encode()),
            ("subscribe", Subscribe { sub: 1, history: history(500), ext: ext() }.encode()),
            ("subscribed", Subscribed { sub: 1, start_lsn: 500, ext: ext() }.encode()),
            (
                "diverged",
                Diverged { sub: 1, common_lsn: 400, leader: history(450), follower: history(500), ext: ext() }.encode(),
            ),
            ("ack", Ack { sub: 1, received_lsn: 510, durable_lsn: 505, ext: ext() }.encode()),
            ("chain_query", ChainQuery { lsn: 300, ext: ext() }.encode()),
            ("chain_answer", ChainAnswer { lsn: 300, chain: Some(u64::MAX), ext: ext() }.encode()),
            ("chain_answer_none", ChainAnswer { lsn: 300, chain: None, ext: ext() }.encode()),
            ("blocks_begin", BlocksBegin { sub: 1, start_lsn: 500, ext: ext() }.encode()),
            (
                "block",
                Block { lsn: 500, remaining: 2, ext: ext() }.encode_with(Bytes::from_static(b"a portable block")),
            ),
            ("watermark", Watermark { durable_lsn: 1000, clock_ns: 1_700_000_000_000_000_000, ext: ext() }.encode()),
            ("end", End::new(Code::DRAINING, "the node is stopping").encode()),
            ("append_begin", AppendBegin { topic: "orders.eu".into(), ext: ext() }.encode()),
            ("batch", Batch { seq: 4, lens: vec![3, 0, 5], ext: ext() }.encode_with(Bytes::from_static(b"onethree"))),
            ("appended", Appended { seq: 4, first_offset: 10, last_offset: 12, lsn: 500, ext: ext() }.encode()),
            (
                "read_begin",
                ReadBegin {
                    topic: "orders.eu".into(),
                    start_kind: 2,
                    start_value: 17,
                    to_end: true,
                    entries_max: 100,
                    ext: ext(),
                }
                .encode(),
            ),
            ("read_opened", ReadOpened { start_offset: 17, next_offset: 30, ext: ext() }.encode()),
            (
                "entries",
                Entries {
                    first_offset: 17,
                    ts_ns: 1_700_000_000_000_000_000,
                    heads: vec![EntryHead { ts_delta_ns: 0, len: 3 }, EntryHead { ts_delta_ns: 250, len: 4 }],
                    ext: ext(),
                }
                .encode_with(Bytes::from_static(b"onefour")),
            ),
            ("topics_request", TopicsRequest { ext: ext() }.encode()),
            (
                "topics",
                Topics {
                    topics: vec![TopicRow { name: "orders.eu".into(), id: 1, first_offset: 0, next_offset: 30 }],
                    last: true,
                    ext: ext(),
                }
                .encode(),
            ),
            ("status_request", StatusRequest { ext: ext() }.encode()),
            ("status", Status { ext: ext() }.encode_with(Bytes::from_static(b"{}"))),
        ]
    }

    /// Decodes a frame with the type that it names and encodes it again.
    fn again(frame: &Frame) -> Result<Encoded, Violation> {
        macro_rules! by_kind {
            ($($message:ident)*) => {
                match frame.kind {
                    $(<$message as Message>::KIND => {
                        $message::decode(frame).map(|message| message.encode_with(frame.payload.clone()))
                    })*
                    other => panic!("{other} has no message"),
                }
            };
        }
        by_kind! {
            Hello Welcome Refused Heartbeat Drain Subscribe Subscribed Diverged Ack ChainQuery ChainAnswer BlocksBegin
            Block Watermark End AppendBegin Batch Appended ReadBegin ReadOpened Entries TopicsRequest Topics
            StatusRequest Status
        }
    }

    fn with_header(kind: Kind, header: &[u8]) -> Encoded {
        let mut head = BytesMut::new();
        put_head(&mut head, kind, 0, |head| head.put_slice(header));
        Encoded { head: head.freeze(), payload: Bytes::new() }
    }

    fn flat(encoded: &Encoded) -> Vec<u8> {
        [&encoded.head[..], &encoded.payload[..]].concat()
    }

    fn decode_one(bytes: &[u8]) -> Frame {
        frame::decode(&mut BytesMut::from(bytes)).unwrap().expect("a whole frame")
    }

    /// The frames of every version ever released are read for ever. `WALRUS_BLESS=1` writes those that are missing, and
    /// never overwrites one: a frame that no longer matches is a broken promise, not an outdated file.
    #[test]
    fn golden_frames_are_read_and_written_again_byte_for_byte() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/wire");
        let mut kinds: Vec<u8> = Vec::new();
        for (name, encoded) in one_of_each() {
            let path = folder.join(format!("v1_{name}.bin"));
            if !path.exists() && std::env::var_os("WALRUS_BLESS").is_some() {
                std::fs::write(&path, flat(&encoded)).unwrap();
            }
            let golden = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!(golden, flat(&encoded), "{name}: this program writes other bytes than version 1 did");
            let frame = decode_one(&golden);
            assert_eq!(flat(&again(&frame).unwrap()), golden, "{name}");
            kinds.push(frame.kind.0);
        }
        kinds.dedup();
        assert_eq!(kinds, Kind::ALL.iter().map(|kind| kind.0).collect::<Vec<_>>(), "a type without a golden frame");
    }

    #[test]
    fn a_message_of_a_later_version_is_read_by_this_one() {
        let today = Ack { sub: 1, received_lsn: 2, durable_lsn: 3, ext: Ext::default() };
        let with_ext = Ack { ext: Ext(vec![(77, vec![1, 2, 3])]), ..today.clone() };
        let mut header = postcard::to_allocvec(&with_ext).unwrap();
        header.extend_from_slice(b"fields of version 2");
        let frame = decode_one(&flat(&with_header(Kind::ACK, &header)));
        let read = Ack::decode(&frame).unwrap();
        assert_eq!((read.sub, read.received_lsn, read.durable_lsn), (1, 2, 3));
    }

    #[test]
    fn a_header_that_is_cut_anywhere_or_garbled_is_an_error_and_never_a_panic() {
        for (name, encoded) in one_of_each() {
            let whole = decode_one(&flat(&encoded));
            for len in 0..whole.header.len() {
                let cut = Frame { header: whole.header.slice(..len), ..whole.clone() };
                assert!(again(&cut).is_err(), "{name} cut at {len} was read");
            }
        }
        let mut state = 3u64;
        for round in 0..20_000 {
            let all = one_of_each();
            let whole = decode_one(&flat(&all[round % all.len()].1));
            let mut header = whole.header.to_vec();
            for _ in 0..2 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
                let at = (state >> 33) as usize % header.len().max(1);
                if let Some(byte) = header.get_mut(at) {
                    *byte = (state >> 20) as u8;
                }
            }
            let frame = Frame { header: header.into(), ..whole };
            let _ = again(&frame);
        }
    }

    #[test]
    fn a_list_that_announces_more_than_it_holds_reserves_nothing() {
        // 2^62 elements announced in nine bytes.
        let mut header = vec![0]; // seq
        header.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f]);
        let frame = decode_one(&flat(&with_header(Kind::BATCH, &header)));
        assert_eq!(Batch::decode(&frame).unwrap_err().code, Code::PROTOCOL);
    }

    #[test]
    fn entries_cover_their_payload_exactly_or_are_refused() {
        let payload = Bytes::from_static(b"onethree");
        let split = |lens: &[u32]| split_payload(Kind::BATCH, lens.iter().copied(), &payload);
        assert_eq!(split(&[3, 0, 5]).unwrap(), [&b"one"[..], b"", b"three"]);
        assert!(split(&[3, 4]).is_err() && split(&[3, 6]).is_err() && split(&[u32::MAX, 1]).is_err());
    }

    #[test]
    fn a_text_is_cut_at_a_character() {
        let long = "ü".repeat(TEXT_BYTES_MAX);
        assert!(text(long).len() <= TEXT_BYTES_MAX);
        assert_eq!(text("short"), "short");
    }
}
