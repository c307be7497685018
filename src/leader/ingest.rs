//! One append session: docs/PROTOCOL.md#append
//!
//! ```text
//!     take    frames -> batches, in order, as far as the window goes         a task
//!     queue   batches -> the engine, which may make it wait for room         a thread
//!     answer  tickets -> Appended, in order, once each is durable            a task
//! ```
//!
//! Many batches are in flight, so that one flush can cover them; none is acknowledged before its own ticket says that it is
//! durable. The first batch that fails ends the session: nothing behind it is queued, so what the client hears last is the truth about
//! everything after.
//!
//! Layer: leader. Uses `engine`, `net`, `wire`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::{Counted, Phase, Server, count};
use crate::commit::error::AppendError;
use crate::commit::ticket::{Receipt, Ticket};
use crate::engine::Engine;
use crate::net::stream::{FrameReader, FrameWriter, StreamError};
use crate::wire::leader::BatchOrder;
use crate::wire::message::{Appended, End, Ext, Message, Refused};
use crate::wire::{APPEND_BATCHES_IN_FLIGHT_MAX, APPEND_BYTES_IN_FLIGHT_MAX, Code, Violation};

/// How long a client may take to hear the last frame before the connection goes on without it.
const LAST_WORD: Duration = Duration::from_secs(2);

/// A batch on its way to the engine. Its permits are the session's window.
struct Taken {
    seq: u64,
    entries: Vec<Bytes>,
    permits: [OwnedSemaphorePermit; 2],
}

/// A batch in the engine.
struct Queued {
    seq: u64,
    entries: usize,
    bytes: usize,
    outcome: Result<Ticket, AppendError>,
    _permits: [OwnedSemaphorePermit; 2],
}

/// Why no more batches are taken.
enum TakingEnded {
    /// The client has said that no more will come.
    Finished,
    /// The node stops.
    Draining,
    /// A batch was refused; the answering side says why.
    Refused,
}

/// Serves one session; the stream is ended here.
pub(super) async fn serve(
    server: Arc<Server>,
    log: Engine,
    topic: String,
    mut reader: FrameReader,
    writer: FrameWriter,
) -> Result<(), StreamError> {
    let _ending = Counted::new(&server.ending);
    // Held by the answering task, which outlives this one: a client that goes in the middle does not make what was taken
    // any less accepted, and a drain has to wait for it.
    let owing = Counted::new(&server.appending);
    let (to_engine, batches) = mpsc::channel(APPEND_BATCHES_IN_FLIGHT_MAX);
    let (to_answer, queued) = mpsc::channel(APPEND_BATCHES_IN_FLIGHT_MAX);
    let worker = tokio::task::spawn_blocking(move || queue(&log, &topic, batches, &to_answer));
    let (refuses, refused) = oneshot::channel();
    let answering = tokio::spawn(answer(Arc::clone(&server), owing, refuses, queued, writer));

    let taken = take(&server, &mut reader, to_engine, refused).await;
    // Everything that was taken is in the engine or refused, then answered: also when the client has gone, because what was
    // accepted must not depend on who still listens.
    worker.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    let (mut writer, refused) =
        answering.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
    let taken = taken?;
    if let Some(refused) = refused {
        writer.push(refused.encode());
    } else if matches!(taken, TakingEnded::Draining) {
        writer.push(End::new(Code::DRAINING, "the node is stopping").encode());
    }
    writer.flush().await?;
    writer.finish();
    let _ = timeout(LAST_WORD, writer.stopped()).await;
    Ok(())
}

/// Takes batches off the stream. `Err`: the client is gone or broke a rule.
async fn take(
    server: &Server,
    reader: &mut FrameReader,
    to_engine: mpsc::Sender<Taken>,
    mut refused: oneshot::Receiver<Infallible>,
) -> Result<TakingEnded, StreamError> {
    let mut order = BatchOrder::default();
    let mut phase = server.phase.subscribe();
    let batch_window = Arc::new(Semaphore::new(APPEND_BATCHES_IN_FLIGHT_MAX));
    let byte_window = Arc::new(Semaphore::new(APPEND_BYTES_IN_FLIGHT_MAX));
    loop {
        // Dropping this between its awaits loses a batch that was never accepted, and happens only when the session ends.
        let next = async {
            let Some(frame) = reader.next().await? else { return Ok(None) };
            let (seq, entries) = order.handle_frame(&frame)?;
            let bytes = u32::try_from(frame.payload.len()).expect("a frame's payload is bounded");
            let closed = "the windows are never closed";
            let batch = Arc::clone(&batch_window).acquire_owned().await.expect(closed);
            let bytes = Arc::clone(&byte_window).acquire_many_owned(bytes).await.expect(closed);
            Ok::<_, StreamError>(Some(Taken { seq, entries, permits: [batch, bytes] }))
        };
        let taken = tokio::select! {
            biased;
            _ = phase.wait_for(|&phase| phase >= Phase::NoAppends) => return Ok(TakingEnded::Draining),
            () = to_engine.closed() => return Ok(TakingEnded::Refused),
            // A client that waits for this very answer sends nothing more by which it could be noticed.
            _ = &mut refused => return Ok(TakingEnded::Refused),
            next = next => next?,
        };
        let Some(taken) = taken else { return Ok(TakingEnded::Finished) };
        // As many places as batches in the window, so this never waits.
        if to_engine.send(taken).await.is_err() {
            return Ok(TakingEnded::Refused);
        }
    }
}

/// Puts batches into the engine, which may make it wait for room: a thread of its own, so that only this session waits.
fn queue(log: &Engine, topic: &str, mut batches: mpsc::Receiver<Taken>, to_answer: &mpsc::Sender<Queued>) {
    while let Some(Taken { seq, entries, permits }) = batches.blocking_recv() {
        let (n, bytes) = (entries.len(), entries.iter().map(Bytes::len).sum());
        let outcome = log.append_batch(topic, entries);
        let failed = outcome.is_err();
        let queued = Queued { seq, entries: n, bytes, outcome, _permits: permits };
        if to_answer.blocking_send(queued).is_err() || failed {
            return;
        }
    }
}

/// Acknowledges batches in order, each after it is durable. Returns the writer, and the refusal if one was due; `_refuses` goes with it.
async fn answer(
    server: Arc<Server>,
    _owing: Counted,
    _refuses: oneshot::Sender<Infallible>,
    mut queued: mpsc::Receiver<Queued>,
    mut writer: FrameWriter,
) -> Result<(FrameWriter, Option<Refused>), StreamError> {
    let mut lost = None;
    while let Some(next) = queued.recv().await {
        let receipt = match next.outcome {
            Ok(ticket) => match ticket.try_outcome() {
                Some(outcome) => outcome,
                None => {
                    // What is ready goes out before the next flush of the disk is waited for.
                    flush(&mut writer, &mut lost).await;
                    ticket.await
                }
            },
            Err(error) => Err(error),
        };
        match receipt {
            Ok(receipt) => {
                writer.push(appended(next.seq, &receipt));
                count(&server.counters.appended_batches, 1);
                count(&server.counters.appended_entries, next.entries);
                count(&server.counters.appended_bytes, next.bytes);
            }
            Err(error) => {
                let refused = refusal(&server, &error);
                return lost.map_or(Ok((writer, Some(refused))), Err);
            }
        }
        if writer.is_full() || queued.is_empty() {
            flush(&mut writer, &mut lost).await;
        }
    }
    lost.map_or(Ok((writer, None)), Err)
}

/// A client that has gone hears nothing, but its batches are still waited for: a drain counts on it.
async fn flush(writer: &mut FrameWriter, lost: &mut Option<StreamError>) {
    if lost.is_none()
        && let Err(error) = writer.flush().await
    {
        *lost = Some(error);
    }
}

fn appended(seq: u64, receipt: &Receipt) -> crate::wire::Encoded {
    let Receipt { first_offset, last_offset, lsn } = *receipt;
    Appended { seq, first_offset, last_offset, lsn: lsn.get(), ext: Ext::default() }.encode()
}

/// Why a batch, and with it the session, was refused.
pub(super) fn refusal(server: &Server, error: &AppendError) -> Refused {
    let code = match error {
        AppendError::InvalidTopic { .. }
        | AppendError::InvalidBatch { .. }
        | AppendError::TooLarge { .. }
        | AppendError::UnexpectedOffset { .. } => Code::INVALID,
        AppendError::NotLeader => Code::NOT_LEADER,
        AppendError::Full { .. } => Code::FULL,
        AppendError::Busy { .. } => Code::LIMIT,
        // Nothing of it is in the log, and nothing will be, as with a batch that came after the end.
        AppendError::Halted { .. } | AppendError::RolledBack { .. } => Code::HALTED,
        AppendError::Indeterminate { .. } => Code::INDETERMINATE,
        AppendError::Closed => Code::DRAINING,
    };
    Refused::new(code, error.to_string(), &server.setup.leader_hint)
}

/// Why a session cannot even begin.
pub(super) fn not_leader(server: &Server) -> Violation {
    let leader = &server.setup.leader_hint;
    Violation::new(Code::NOT_LEADER, format!("this node follows {leader} and takes no appends"))
}
