//! Reading a topic of a node: docs/PROTOCOL.md#read
//!
//! Layer: client.

use bytes::Bytes;

use super::Link;
use super::error::ClientError;
use crate::net::endpoint::printable;
use crate::net::stream::{FrameReader, FrameWriter};
use crate::wire::client::{ReadDelivery, ReadOrder};
use crate::wire::message::{Ext, Message, ReadBegin, ReadStart};
use crate::wire::{Code, Violation};

/// One entry, as a node served it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadEntry {
    /// Its dense number in its topic, from 0.
    pub offset: u64,
    /// When its block was written: nanoseconds since 1970.
    pub ts_ns: u64,
    /// The bytes that were appended.
    pub payload: Bytes,
}

/// A read under way. Dropping it ends it.
#[derive(Debug)]
pub struct Reading {
    link: Link,
    reader: FrameReader,
    /// Kept open: its end would tell the node that we are gone.
    _writer: FrameWriter,
    order: ReadOrder,
    start_offset: u64,
}

pub(super) async fn open(
    link: Link,
    topic: &str,
    start: ReadStart,
    to_end: bool,
    entries_max: Option<u64>,
) -> Result<Reading, ClientError> {
    if topic.len() > crate::limits::TOPIC_NAME_BYTES_MAX {
        let message = format!("a topic's name has at most 255 bytes, this one has {}", topic.len());
        return Err(ClientError::Invalid { message });
    }
    let (start_kind, start_value) = start.to_wire();
    let entries_max = match entries_max {
        Some(0) => return Err(ClientError::Invalid { message: "a read of 0 entries".into() }),
        other => other.unwrap_or(0),
    };
    let topic = topic.to_owned();
    let begin = ReadBegin { topic, start_kind, start_value, to_end, entries_max, ext: Ext::default() };
    let (writer, reader) = link.request(begin.encode()).await?;
    let mut reading = Reading { link, reader, _writer: writer, order: ReadOrder::default(), start_offset: 0 };
    match reading.delivery().await? {
        ReadDelivery::Opened { start_offset, .. } => reading.start_offset = start_offset,
        ReadDelivery::Ended { code, message, leader_hint } => {
            return Err(ClientError::of_code(code, printable(&message), &printable(&leader_hint)));
        }
        ReadDelivery::Entries(_) => unreachable!("`ReadOrder` takes no entries before the read is open"),
    }
    Ok(reading)
}

impl Reading {
    /// The offset at which it began.
    pub fn start_offset(&self) -> u64 {
        self.start_offset
    }

    /// The next entries, at least one; `None` when the end that was asked for is reached.
    ///
    /// # Errors
    /// Damage, a node that stops, a lost connection.
    pub async fn next(&mut self) -> Result<Option<Vec<ReadEntry>>, ClientError> {
        loop {
            match self.delivery().await? {
                ReadDelivery::Entries(entries) if entries.is_empty() => {}
                ReadDelivery::Entries(entries) => {
                    let entries = entries.into_iter();
                    return Ok(Some(
                        entries.map(|e| ReadEntry { offset: e.offset, ts_ns: e.ts_ns, payload: e.payload }).collect(),
                    ));
                }
                ReadDelivery::Ended { code: Code::OK, .. } => return Ok(None),
                ReadDelivery::Ended { code, message, leader_hint } => {
                    return Err(ClientError::of_code(code, printable(&message), &printable(&leader_hint)));
                }
                ReadDelivery::Opened { .. } => unreachable!("`ReadOrder` opens a read once"),
            }
        }
    }

    async fn delivery(&mut self) -> Result<ReadDelivery, ClientError> {
        let frame = self.reader.next().await.map_err(|error| self.link.failed(error))?;
        let frame = frame.ok_or_else(|| self.link.violated(Violation::protocol("the read ends without End")))?;
        self.order.handle_frame(&frame).map_err(|violation| self.link.violated(violation))
    }
}
