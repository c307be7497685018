//! The side that appends and reads: docs/PROTOCOL.md#handshake, docs/PROTOCOL.md#append, docs/PROTOCOL.md#read
//!
//! [`ClientSession`] has the control stream, [`AppendLedger`] what was appended and not yet acknowledged, [`ReadOrder`] the
//! entries of a read. They believe the node nothing that does not add up: an acknowledgement in the wrong order or for other
//! entries than were sent would be reported to a caller as durable.
//!
//! Layer: wire. Uses `frame`, `message`. Knows nothing of streams.

use std::collections::VecDeque;

use bytes::Bytes;

use super::message::{
    AppendBegin, Appended, Batch, Drain, End, Entries, Ext, Heartbeat, Hello, Message, ReadOpened, Refused, Welcome,
    split_payload, text,
};
use super::{Code, Encoded, Frame, HELLO_TIMEOUT, MINOR, Moment, Violation};

/// What the caller is to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The node has introduced itself.
    Welcomed(Welcome),
    /// The node is about to stop.
    Draining,
}

/// One connection's control stream, from a client's side.
#[derive(Debug)]
pub(crate) struct ClientSession {
    welcomed: bool,
    deadline: Option<Moment>,
    out: VecDeque<Encoded>,
    events: VecDeque<Event>,
}

impl ClientSession {
    /// A connection to a node, made now.
    pub(crate) fn new(now: Moment) -> ClientSession {
        ClientSession {
            welcomed: false,
            deadline: Some(now + HELLO_TIMEOUT),
            out: VecDeque::from([Hello::new(0, None, "").encode()]),
            events: VecDeque::new(),
        }
    }

    /// The next frame to send on the control stream.
    pub(crate) fn poll_transmit(&mut self) -> Option<Encoded> {
        self.out.pop_front()
    }

    /// The next thing to know.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// By when the node must have introduced itself. Later it may be silent: QUIC's keep-alive tells whether it lives.
    pub(crate) fn poll_timeout(&self) -> Option<Moment> {
        self.deadline
    }

    /// A frame came on the control stream.
    pub(crate) fn handle_frame(&mut self, frame: &Frame) -> Result<(), Violation> {
        match frame.kind {
            Welcome::KIND if !self.welcomed => {
                let welcome = Welcome::decode(frame)?;
                if welcome.minor > MINOR {
                    let what = format!("the node insists on walrus/1.{}", welcome.minor);
                    return Err(Violation::new(Code::VERSION, what));
                }
                self.welcomed = true;
                self.deadline = None;
                self.events.push_back(Event::Welcomed(welcome));
                Ok(())
            }
            Heartbeat::KIND if self.welcomed => Ok(()),
            Drain::KIND if self.welcomed => {
                self.events.push_back(Event::Draining);
                Ok(())
            }
            other => Err(Violation::protocol(format!("{other} is not for a client's control stream now"))),
        }
    }
}

/// A batch that is durable on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    pub(crate) first_offset: u64,
    pub(crate) last_offset: u64,
    pub(crate) lsn: u64,
}

/// One append session: what was sent, and what of it is durable.
#[derive(Debug, Default)]
pub(crate) struct AppendLedger {
    next_seq: u64,
    /// Entries of each batch that is not acknowledged, in order; the first is batch `next_seq - len`.
    in_flight: VecDeque<u64>,
    /// Offsets only rise: other producers may come between, but never before.
    offset_min: u64,
    acked_entries: u64,
}

impl AppendLedger {
    /// The frame that opens the session.
    pub(crate) fn begin(topic: &str) -> Encoded {
        AppendBegin { topic: topic.to_owned(), ext: Ext::default() }.encode()
    }

    /// The head of the next batch; the entries are its payload, one behind the other.
    pub(crate) fn batch(&mut self, entries: &[Bytes]) -> Batch {
        let lens = entries.iter().map(|entry| entry.len() as u32).collect();
        let seq = self.next_seq;
        self.next_seq += 1;
        self.in_flight.push_back(entries.len() as u64);
        Batch { seq, lens, ext: Ext::default() }
    }

    /// A frame came back. `Ok(Err(..))`: the node refuses the oldest batch, and with it all behind it.
    pub(crate) fn handle_frame(&mut self, frame: &Frame) -> Result<Result<Acknowledged, Refused>, Violation> {
        if frame.kind == Refused::KIND {
            return Ok(Err(Refused::decode(frame)?));
        }
        let appended = Appended::decode(frame)?;
        let Appended { seq, first_offset, last_offset, lsn, .. } = appended;
        let due = self.next_seq - self.in_flight.len() as u64;
        let Some(&entries) = self.in_flight.front() else {
            return Err(Violation::protocol(format!("batch {seq} is acknowledged, but none was sent")));
        };
        if seq != due {
            return Err(Violation::protocol(format!("batch {seq} is acknowledged where {due} was due")));
        }
        let acked = last_offset.checked_sub(first_offset).and_then(|span| span.checked_add(1));
        let next = last_offset.checked_add(1);
        if first_offset < self.offset_min || acked != Some(entries) || next.is_none() {
            let what =
                format!("batch {seq} had {entries} entries, offsets {first_offset} to {last_offset} are acknowledged");
            return Err(Violation::protocol(what));
        }
        self.in_flight.pop_front();
        self.offset_min = next.unwrap_or(u64::MAX);
        self.acked_entries += entries;
        Ok(Ok(Acknowledged { first_offset, last_offset, lsn }))
    }

    /// Entries that are durable on the node.
    pub(crate) fn acked_entries(&self) -> u64 {
        self.acked_entries
    }

    /// Batches that were sent and not acknowledged.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }
}

/// One entry as it came from a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) offset: u64,
    pub(crate) ts_ns: u64,
    pub(crate) payload: Bytes,
}

/// What came on a read's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReadDelivery {
    /// It begins at this offset.
    Opened { start_offset: u64, next_offset: u64 },
    /// The next entries.
    Entries(Vec<Received>),
    /// No more will come.
    Ended { code: Code, message: String, leader_hint: String },
}

/// The order of entries in one read.
#[derive(Debug, Default)]
pub(crate) struct ReadOrder {
    /// The next entry that may come; `None` before the read is open.
    next: Option<u64>,
}

impl ReadOrder {
    /// A frame came on the stream.
    pub(crate) fn handle_frame(&mut self, frame: &Frame) -> Result<ReadDelivery, Violation> {
        match frame.kind {
            Refused::KIND => {
                let Refused { code, message, leader_hint, .. } = Refused::decode(frame)?;
                Ok(ReadDelivery::Ended { code, message, leader_hint })
            }
            End::KIND => {
                let End { code, message, .. } = End::decode(frame)?;
                Ok(ReadDelivery::Ended { code, message, leader_hint: text("") })
            }
            ReadOpened::KIND if self.next.is_none() => {
                let ReadOpened { start_offset, next_offset, .. } = ReadOpened::decode(frame)?;
                self.next = Some(start_offset);
                Ok(ReadDelivery::Opened { start_offset, next_offset })
            }
            Entries::KIND => self.handle_entries(Entries::decode(frame)?, &frame.payload),
            other => Err(Violation::protocol(format!("{other} is not for a read's stream now"))),
        }
    }

    fn handle_entries(&mut self, entries: Entries, payload: &Bytes) -> Result<ReadDelivery, Violation> {
        let due = self.next.ok_or_else(|| Violation::protocol("entries before the read was open"))?;
        if entries.first_offset != due {
            return Err(Violation::protocol(format!("entry {} where {due} was due", entries.first_offset)));
        }
        let payloads = split_payload(Entries::KIND, entries.heads.iter().map(|head| head.len), payload)?;
        let (mut ts_ns, mut offset) = (entries.ts_ns, due);
        let mut received = Vec::with_capacity(payloads.len());
        for (head, payload) in entries.heads.iter().zip(payloads) {
            ts_ns = ts_ns.saturating_add(head.ts_delta_ns);
            received.push(Received { offset, ts_ns, payload });
            offset = offset.checked_add(1).ok_or_else(|| Violation::protocol("entries past the last offset"))?;
        }
        self.next = Some(offset);
        Ok(ReadDelivery::Entries(received))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(encoded: &Encoded) -> Frame {
        let mut bytes = bytes::BytesMut::from(&[&encoded.head[..], &encoded.payload[..]].concat()[..]);
        super::super::frame::decode(&mut bytes).unwrap().unwrap()
    }

    fn appended(seq: u64, first_offset: u64, last_offset: u64) -> Frame {
        frame(&Appended { seq, first_offset, last_offset, lsn: 9, ext: Ext::default() }.encode())
    }

    fn ledger_with(batches: &[usize]) -> AppendLedger {
        let mut ledger = AppendLedger::default();
        for &entries in batches {
            ledger.batch(&vec![Bytes::from_static(b"x"); entries]);
        }
        ledger
    }

    #[test]
    fn batches_are_acknowledged_in_order_and_counted() {
        let mut ledger = ledger_with(&[2, 1]);
        let first = ledger.handle_frame(&appended(0, 10, 11)).unwrap().unwrap();
        assert_eq!((first.first_offset, first.last_offset), (10, 11));
        assert_eq!((ledger.acked_entries(), ledger.in_flight()), (2, 1));
        ledger.handle_frame(&appended(1, 40, 40)).unwrap().unwrap();
        assert_eq!((ledger.acked_entries(), ledger.in_flight()), (3, 0));
    }

    #[test]
    fn an_acknowledgement_that_does_not_add_up_is_not_believed() {
        let refused = |batches: &[usize], frames: &[Frame]| {
            let mut ledger = ledger_with(batches);
            frames.iter().fold(false, |_, frame| ledger.handle_frame(frame).is_err())
        };
        assert!(refused(&[], &[appended(0, 0, 0)]), "beyond what was sent");
        assert!(refused(&[1, 1], &[appended(1, 0, 0)]), "out of order");
        assert!(refused(&[1, 1], &[appended(0, 0, 0), appended(0, 1, 1)]), "twice");
        assert!(refused(&[2], &[appended(0, 5, 5)]), "fewer entries");
        assert!(refused(&[1], &[appended(0, 5, 4)]) && refused(&[1], &[appended(0, 0, u64::MAX)]), "no range at all");
        assert!(refused(&[1, 1], &[appended(0, 5, 5), appended(1, 5, 5)]), "an offset given twice");
    }

    #[test]
    fn entries_of_a_read_come_without_gap_or_repetition() {
        let entries = |first_offset| {
            let heads = vec![super::super::message::EntryHead { ts_delta_ns: 0, len: 1 }; 2];
            let message = Entries { first_offset, ts_ns: 7, heads, ext: Ext::default() };
            frame(&message.encode_with(Bytes::from_static(b"ab")))
        };
        let opened = frame(&ReadOpened { start_offset: 5, next_offset: 9, ext: Ext::default() }.encode());
        assert!(ReadOrder::default().handle_frame(&entries(5)).is_err(), "before it was open");
        for (second, good) in [(7, true), (6, false), (8, false), (5, false)] {
            let mut order = ReadOrder::default();
            order.handle_frame(&opened).unwrap();
            let Ok(ReadDelivery::Entries(got)) = order.handle_frame(&entries(5)) else { panic!("refused") };
            assert_eq!(got.iter().map(|entry| entry.offset).collect::<Vec<_>>(), [5, 6]);
            assert_eq!(order.handle_frame(&entries(second)).is_ok(), good, "offset {second} after 6");
        }
    }

    #[test]
    fn a_node_that_says_anything_but_welcome_first_is_refused() {
        let heartbeat = Heartbeat { durable_lsn: 1, clock_ns: 1, ext: Ext::default() }.encode();
        assert!(ClientSession::new(Moment::ZERO).handle_frame(&frame(&heartbeat)).is_err());
    }
}
