//! An append session: batches out, acknowledgements in, many in flight: docs/PROTOCOL.md#append
//!
//! Layer: client.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::Link;
use super::error::ClientError;
use crate::limits::{BATCH_ENTRIES_MAX, GROUP_BYTES_MAX};
use crate::net::stream::{FrameReader, FrameWriter, StreamError};
use crate::wire::client::AppendLedger;
use crate::wire::message::{End, Message};
use crate::wire::{Code, Frame, Violation};

/// A batch that is durable on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acked {
    /// The topic offset of its first entry.
    pub first_offset: u64,
    /// The topic offset of its last entry.
    pub last_offset: u64,
    /// Its last block.
    pub lsn: u64,
}

/// The half of an append session that sends.
#[derive(Debug)]
pub struct Appender {
    link: Link,
    writer: FrameWriter,
    ledger: Arc<Mutex<AppendLedger>>,
}

/// The half of an append session that hears what is durable.
#[derive(Debug)]
pub struct Acks {
    link: Link,
    reader: FrameReader,
    ledger: Arc<Mutex<AppendLedger>>,
    batches: u64,
}

pub(super) async fn open(link: Link, topic: &str) -> Result<(Appender, Acks), ClientError> {
    if topic.len() > crate::limits::TOPIC_NAME_BYTES_MAX {
        let message = format!("a topic's name has at most 255 bytes, this one has {}", topic.len());
        return Err(ClientError::Invalid { message });
    }
    let (writer, reader) = link.request(AppendLedger::begin(topic)).await?;
    let ledger = Arc::new(Mutex::new(AppendLedger::default()));
    let acks = Acks { link: link.clone(), reader, ledger: Arc::clone(&ledger), batches: 0 };
    Ok((Appender { link, writer, ledger }, acks))
}

impl Appender {
    /// Sends a batch of 1 to 2,000 entries. Small ones are gathered; [`flush`](Self::flush) sends what waits.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] for a batch that no node takes: nothing of it was sent, and the session goes on. Otherwise the session is
    /// over; [`Acks::next`] says what is durable and why.
    pub async fn send(&mut self, entries: &[Bytes]) -> Result<(), ClientError> {
        check_batch(entries)?;
        let batch = self.ledger.lock().expect("no holder of this lock panics").batch(entries);
        self.writer.put(&batch, entries);
        if self.writer.is_full() { self.flush().await } else { Ok(()) }
    }

    /// Sends what waits.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn flush(&mut self) -> Result<(), ClientError> {
        match self.writer.flush().await {
            // The node refused a batch: its reason is what `Acks` will say, so this half is merely over.
            Err(StreamError::Stopped(code)) => Err(ClientError::of_code(code, "the node ended the session".into(), "")),
            other => other.map_err(|error| self.link.failed(error)),
        }
    }

    /// Sends what waits, and says that no more will come. The acknowledgements go on.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn finish(mut self) -> Result<(), ClientError> {
        self.flush().await?;
        self.writer.finish();
        Ok(())
    }
}

/// What a node would refuse is refused here, before the session is lost for it.
pub(super) fn check_batch(entries: &[Bytes]) -> Result<(), ClientError> {
    if entries.is_empty() || entries.len() > BATCH_ENTRIES_MAX {
        let message = format!("a batch has 1 to {BATCH_ENTRIES_MAX} entries, this one has {}", entries.len());
        return Err(ClientError::Invalid { message });
    }
    let bytes: usize = entries.iter().map(Bytes::len).sum();
    if bytes > GROUP_BYTES_MAX {
        let message = format!("a batch has at most {GROUP_BYTES_MAX} bytes, this one has {bytes}");
        return Err(ClientError::Invalid { message });
    }
    Ok(())
}

impl Acks {
    /// The next batch that is durable, if its acknowledgement is here already. For whoever sends what can be sent before it waits in
    /// [`next`](Self::next).
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn ready(&mut self) -> Result<Option<Acked>, ClientError> {
        match self.reader.ready() {
            Ok(Some(frame)) => self.handle(&frame).map(Some),
            Ok(None) => Ok(None),
            Err(violation) => Err(self.lost(self.link.violated(violation))),
        }
    }

    /// The next batch that is durable, in the order in which they were sent; `None` when all are and the sender has finished.
    ///
    /// # Errors
    /// [`ClientError::AppendLost`]: the session is over; the error says how much is durable, and its source why.
    pub async fn next(&mut self) -> Result<Option<Acked>, ClientError> {
        let frame = match self.reader.next().await {
            Ok(Some(frame)) => frame,
            Ok(None) if self.in_flight() == 0 => return Ok(None),
            Ok(None) => {
                let early = Violation::protocol("the node ended the session with batches in flight");
                return Err(self.lost(self.link.violated(early)));
            }
            Err(error) => return Err(self.lost(self.link.failed(error))),
        };
        self.handle(&frame).map(Some)
    }

    fn handle(&mut self, frame: &Frame) -> Result<Acked, ClientError> {
        if frame.kind == End::KIND {
            let end = End::decode(frame).map_err(|violation| self.lost(self.link.violated(violation)))?;
            let message = crate::net::endpoint::printable(&end.message);
            return Err(self.ended(end.code, ClientError::of_code(end.code, message, "")));
        }
        let answer = self.ledger.lock().expect("no holder of this lock panics").handle_frame(frame);
        match answer {
            Ok(Ok(acked)) => {
                self.batches += 1;
                let (first_offset, last_offset, lsn) = (acked.first_offset, acked.last_offset, acked.lsn);
                Ok(Acked { first_offset, last_offset, lsn })
            }
            Ok(Err(refused)) => Err(self.ended(refused.code, ClientError::of_refused(refused))),
            Err(violation) => Err(self.lost(self.link.violated(violation))),
        }
    }

    /// Entries that are durable so far.
    pub fn acked_entries(&self) -> u64 {
        self.ledger.lock().expect("no holder of this lock panics").acked_entries()
    }

    fn in_flight(&self) -> usize {
        self.ledger.lock().expect("no holder of this lock panics").in_flight()
    }

    /// The node ended the session itself: but for one code that means that it took nothing behind what it acknowledged.
    fn ended(&self, code: Code, source: ClientError) -> ClientError {
        let unknown_batches = if code == Code::INDETERMINATE { self.in_flight() as u64 } else { 0 };
        if self.batches == 0 && unknown_batches == 0 { source } else { self.so_far(unknown_batches, source) }
    }

    /// The session was cut off: everything in flight may have been taken.
    fn lost(&self, source: ClientError) -> ClientError {
        self.so_far(self.in_flight() as u64, source)
    }

    fn so_far(&self, unknown_batches: u64, source: ClientError) -> ClientError {
        ClientError::AppendLost {
            acked_entries: self.acked_entries(),
            acked_batches: self.batches,
            unknown_batches,
            source: Box::new(source),
        }
    }
}
