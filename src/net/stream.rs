//! Frames over QUIC streams.
//!
//! Both ends can be dropped in the middle of an `await` and used again: what has arrived or is still to be sent is kept here,
//! not in the future. So they may stand in a `select!` without a frame ever being torn.
//!
//! Layer: net. Uses `wire` for frames. Knows nothing of what they say.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use quinn::{RecvStream, SendStream};

use crate::wire::message::{HEAD_BYTES_USUAL, Message};
use crate::wire::{Code, Encoded, Frame, Violation, frame};

/// Bytes taken from QUIC at once.
const READ_BYTES: usize = 256 << 10;

/// Bytes that are gathered before they are handed to QUIC without being asked to.
const WRITE_BYTES: usize = 64 << 10;

/// What is no longer than this is copied to lie beside its neighbours.
const COPIED_BYTES_MAX: usize = 4 << 10;

/// Bytes that lie in one piece.
const GATHERED_BYTES: usize = 16 << 10;

const _: () = assert!(COPIED_BYTES_MAX <= GATHERED_BYTES);

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

    /// The next frame, if it has come as a whole already.
    pub(crate) fn ready(&mut self) -> Result<Option<Frame>, Violation> {
        frame::decode(&mut self.buf)
    }

    /// The next frame; `None` when the peer has finished the stream in order.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, StreamError> {
        loop {
            if let Some(frame) = self.ready()? {
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
///
/// Small ones are copied behind each other: QUIC keeps what it was given piece by piece until the peer has it, and looks for a packet's
/// bytes from the first piece on, so a thousand pieces cost far more than the copy.
#[derive(Debug)]
pub(crate) struct FrameWriter {
    send: SendStream,
    /// Pieces that are ready to go.
    queue: VecDeque<Bytes>,
    /// Small frames behind them.
    gathered: BytesMut,
    waiting_bytes: usize,
}

impl FrameWriter {
    pub(crate) fn new(send: SendStream) -> FrameWriter {
        FrameWriter { send, queue: VecDeque::new(), gathered: BytesMut::new(), waiting_bytes: 0 }
    }

    /// Puts a frame behind those that wait. Nothing is sent.
    pub(crate) fn push(&mut self, frame: Encoded) {
        self.gather(frame.head);
        self.gather(frame.payload);
    }

    /// The same for a message with its payload in pieces.
    pub(crate) fn put(&mut self, message: &impl Message, payload: &[Bytes]) {
        self.make_room(HEAD_BYTES_USUAL);
        let before = self.gathered.len();
        message.put(&mut self.gathered, payload.iter().map(Bytes::len).sum());
        self.waiting_bytes += self.gathered.len() - before;
        payload.iter().cloned().for_each(|piece| self.gather(piece));
    }

    fn gather(&mut self, piece: Bytes) {
        self.waiting_bytes += piece.len();
        if piece.len() > COPIED_BYTES_MAX {
            self.end_piece();
            self.queue.push_back(piece);
            return;
        }
        self.make_room(piece.len());
        self.gathered.extend_from_slice(&piece);
    }

    fn make_room(&mut self, bytes: usize) {
        if self.gathered.capacity() - self.gathered.len() < bytes {
            self.end_piece();
            self.gathered = BytesMut::with_capacity(GATHERED_BYTES);
        }
    }

    fn end_piece(&mut self) {
        if !self.gathered.is_empty() {
            self.queue.push_back(self.gathered.split().freeze());
        }
    }

    /// Whether so much waits that it should go.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting_bytes >= WRITE_BYTES
    }

    /// Whether anything waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting_bytes == 0
    }

    /// Hands everything that waits to QUIC; as slow as the peer takes it.
    pub(crate) async fn flush(&mut self) -> Result<(), StreamError> {
        self.end_piece();
        while !self.queue.is_empty() {
            let chunks = self.queue.make_contiguous();
            let written = self.send.write_chunks(chunks).await.map_err(write_error)?;
            // A chunk that went only in part was shortened in place.
            self.queue.drain(..written.chunks);
            self.waiting_bytes -= written.bytes;
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
