//! Frames over QUIC streams.
//!
//! Both ends can be dropped in the middle of an `await` and used again: what has arrived or is still to be sent is kept here,
//! not in the future. So they may stand in a `select!` without a frame ever being torn.
//!
//! Layer: net. Uses `wire` for frames. Knows nothing of what they say.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use quinn::{RecvStream, SendStream};

use crate::wire::{Code, Encoded, Frame, Violation, frame};

/// Bytes taken from QUIC at once.
const READ_BYTES: usize = 256 << 10;

/// Bytes that are gathered before they are handed to QUIC without being asked to.
const WRITE_BYTES: usize = 64 << 10;

/// Why a stream gave no frame or took none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    /// The peer broke a rule.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The connection is gone.
    #[error(transparent)]
    Connection(#[from] quinn::ConnectionError),
    /// The peer gave this stream up.
    #[error("the peer gave the stream up: {0}")]
    Stopped(Code),
}

/// Frames as they come.
#[derive(Debug)]
pub(crate) struct FrameReader {
    recv: RecvStream,
    buf: BytesMut,
}

impl FrameReader {
    pub(crate) fn new(recv: RecvStream) -> FrameReader {
        FrameReader { recv, buf: BytesMut::new() }
    }

    /// The next frame; `None` when the peer has finished the stream in order.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, StreamError> {
        loop {
            if let Some(frame) = frame::decode(&mut self.buf)? {
                return Ok(Some(frame));
            }
            // What is read is kept before the next await, and grows only by what has really come.
            match self.recv.read_chunk(READ_BYTES, true).await {
                Ok(Some(chunk)) => self.buf.extend_from_slice(&chunk.bytes),
                Ok(None) if self.buf.is_empty() => return Ok(None),
                Ok(None) => return Err(Violation::protocol("the stream ends in the middle of a frame").into()),
                Err(error) => return Err(read_error(error)),
            }
        }
    }
}

fn read_error(error: quinn::ReadError) -> StreamError {
    match error {
        quinn::ReadError::Reset(code) => StreamError::Stopped(code_of(code)),
        quinn::ReadError::ConnectionLost(error) => StreamError::Connection(error),
        other => StreamError::Violation(Violation::protocol(other.to_string())),
    }
}

/// Frames on their way out.
#[derive(Debug)]
pub(crate) struct FrameWriter {
    send: SendStream,
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
}

impl FrameWriter {
    pub(crate) fn new(send: SendStream) -> FrameWriter {
        FrameWriter { send, queue: VecDeque::new(), queued_bytes: 0 }
    }

    /// Puts a frame behind those that wait. Nothing is sent.
    pub(crate) fn push(&mut self, frame: Encoded) {
        self.queued_bytes += frame.len();
        self.queue.push_back(frame.head);
        if !frame.payload.is_empty() {
            self.queue.push_back(frame.payload);
        }
    }

    /// Whether so much waits that it should go.
    pub(crate) fn is_full(&self) -> bool {
        self.queued_bytes >= WRITE_BYTES
    }

    /// Whether anything waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Hands everything that waits to QUIC; as slow as the peer takes it.
    pub(crate) async fn flush(&mut self) -> Result<(), StreamError> {
        while !self.queue.is_empty() {
            let chunks = self.queue.make_contiguous();
            let written = self.send.write_chunks(chunks).await.map_err(write_error)?;
            // A chunk that went only in part was shortened in place.
            self.queue.drain(..written.chunks);
            self.queued_bytes -= written.bytes;
        }
        Ok(())
    }

    /// Sends one frame now.
    pub(crate) async fn send(&mut self, frame: Encoded) -> Result<(), StreamError> {
        self.push(frame);
        self.flush().await
    }

    /// Says that no more will come.
    pub(crate) fn finish(&mut self) {
        // An error means that the peer has stopped the stream already; then it expects no end.
        let _ = self.send.finish();
    }

    /// Resolves when the peer has taken everything, or wants no more.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let stopped = self.send.stopped();
        async move {
            let _ = stopped.await;
        }
    }

    /// The importance of this stream among those of its connection.
    pub(crate) fn set_priority(&self, priority: i32) {
        // An error means that the stream is closed; then it does not matter.
        let _ = self.send.set_priority(priority);
    }
}

fn write_error(error: quinn::WriteError) -> StreamError {
    match error {
        quinn::WriteError::Stopped(code) => StreamError::Stopped(code_of(code)),
        quinn::WriteError::ConnectionLost(error) => StreamError::Connection(error),
        other => StreamError::Violation(Violation::protocol(other.to_string())),
    }
}

/// A code as QUIC carries it. What does not fit is no code of ours.
pub(crate) fn code_of(code: quinn::VarInt) -> Code {
    u16::try_from(code.into_inner()).map_or(Code::INTERNAL, Code)
}
