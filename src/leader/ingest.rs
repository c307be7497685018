//! One append session: docs/PROTOCOL.md#append
//!
//! ```text
//!     frames -> batches, in order, as far as the window goes -> the engine's queue
//!     tickets -> Appended, in order, once each is durable -> the client
//! ```
//!
//! One task does both, and as much of each as there is: the batches that came together are queued together, and those of one flush of the
//! disk are acknowledged together. To hand each from thread to thread costs far more than it does itself.
//!
//! Many batches are in flight, so that one flush can cover them; none is acknowledged before its own ticket says that it is
//! durable. The first batch that fails ends the session: nothing behind it is queued, so what the client hears last is the truth about
//! everything after.
//!
//! Layer: leader. Uses `engine`, `net`, `wire`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Counted, Phase, Server, count};
use crate::commit::error::AppendError;
use crate::commit::ticket::{Outcome, Receipt, Ticket};
use crate::engine::Engine;
use crate::net::stream::{FrameReader, FrameWriter, StreamError};
use crate::wire::leader::BatchOrder;
use crate::wire::message::{Appended, End, Ext, Message, Refused};
use crate::wire::{APPEND_BATCHES_IN_FLIGHT_MAX, APPEND_BYTES_IN_FLIGHT_MAX, Code, Frame, Violation};

/// How long a client may take to hear the last frame before the connection goes on without it.
const LAST_WORD: Duration = Duration::from_secs(2);

/// A batch that was taken.
struct Taken {
    seq: u64,
    entries: usize,
    bytes: usize,
}

/// Why no more batches are taken.
enum Ended {
    /// The client has said that no more will come.
    Finished,
    /// The node stops.
    Draining,
    /// A batch was refused. What came behind it is not taken.
    Refused(Refused),
    /// The client is gone or broke a rule.
    Broken(StreamError),
}

/// Serves one session; the stream is ended here.
pub(super) async fn serve(
    server: Arc<Server>,
    log: Engine,
    topic: String,
    reader: FrameReader,
    writer: FrameWriter,
) -> Result<(), StreamError> {
    let _ending = Counted::new(&server.ending);
    let session = Session::new(server, log, topic, reader, writer);
    // A task of its own, which outlives this one: a client that goes in the middle does not make what was taken any less accepted, and a
    // drain has to wait for it.
    let run = tokio::spawn(session.run());
    let (mut writer, ended) = run.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    match ended {
        Ended::Finished => {}
        Ended::Draining => writer.push(End::new(Code::DRAINING, "the node is stopping").encode()),
        Ended::Refused(refused) => writer.push(refused.encode()),
        Ended::Broken(error) => return Err(error),
    }
    writer.flush().await?;
    writer.finish();
    let _ = timeout(LAST_WORD, writer.stopped()).await;
    Ok(())
}

struct Session {
    server: Arc<Server>,
    log: Engine,
    topic: Arc<str>,
    reader: FrameReader,
    writer: FrameWriter,
    order: BatchOrder,
    /// In the engine, oldest first.
    in_flight: VecDeque<(Taken, Ticket)>,
    /// Behind them: one that waits for room in the engine, on a thread that may. Nothing is taken meanwhile.
    waiting: Option<(Taken, JoinHandle<Result<Ticket, AppendError>>)>,
    bytes_in_flight: usize,
    ended: Option<Ended>,
    /// The client hears nothing any more.
    is_deaf: bool,
    _owing: Counted,
}

/// What a session woke up for.
enum Woken {
    Flushed(Result<(), StreamError>),
    Draining,
    HasRoom(Result<Ticket, AppendError>),
    Answered(Outcome),
    Came(Result<Option<Frame>, StreamError>),
}

impl Session {
    fn new(server: Arc<Server>, log: Engine, topic: String, reader: FrameReader, writer: FrameWriter) -> Session {
        let _owing = Counted::new(&server.appending);
        Session {
            server,
            log,
            topic: topic.into(),
            reader,
            writer,
            order: BatchOrder::default(),
            in_flight: VecDeque::new(),
            waiting: None,
            bytes_in_flight: 0,
            ended: None,
            is_deaf: false,
            _owing,
        }
    }

    /// Until everything that was taken is answered: also when the client has gone, because what was accepted must not depend on who still
    /// listens.
    async fn run(mut self) -> (FrameWriter, Ended) {
        let mut phase = self.server.phase.subscribe();
        loop {
            let has_told_all = self.writer.is_empty() || self.is_deaf;
            let is_idle = self.in_flight.is_empty() && self.waiting.is_none() && has_told_all;
            match self.ended.take() {
                Some(ended) if is_idle => return (self.writer, ended),
                ended => self.ended = ended,
            }
            match self.woken(&mut phase).await {
                Woken::Flushed(Ok(())) => {}
                Woken::Flushed(Err(error)) => {
                    self.is_deaf = true;
                    self.end(Ended::Broken(error));
                }
                Woken::Draining => self.end(Ended::Draining),
                Woken::HasRoom(queued) => {
                    let (taken, _) = self.waiting.take().expect("it was waited for");
                    self.queued(taken, queued);
                }
                Woken::Answered(outcome) => {
                    let (taken, _) = self.in_flight.pop_front().expect("its ticket was waited for");
                    self.answer(taken, outcome);
                    self.answer_what_is_ready();
                }
                Woken::Came(Ok(Some(frame))) => {
                    self.take_what_is_here(frame).unwrap_or_else(|error| self.end(Ended::Broken(error.into())));
                }
                Woken::Came(Ok(None)) => self.end(Ended::Finished),
                Woken::Came(Err(error)) => self.end(Ended::Broken(error)),
            }
        }
    }

    /// The next thing that happens. What is ready to go goes first: nobody waits for the next flush of the disk.
    async fn woken(&mut self, phase: &mut watch::Receiver<Phase>) -> Woken {
        let (takes, tells) = (self.takes(), !self.is_deaf && !self.writer.is_empty());
        let Session { reader, writer, in_flight, waiting, ended, .. } = self;
        // Every one of them can be dropped in the middle and asked again.
        tokio::select! {
            biased;
            flushed = writer.flush(), if tells => Woken::Flushed(flushed),
            outcome = of_first(in_flight.iter_mut()), if !in_flight.is_empty() => Woken::Answered(outcome),
            queued = of_first(waiting.iter_mut()), if waiting.is_some() => {
                Woken::HasRoom(queued.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())))
            }
            _ = phase.wait_for(|&phase| phase >= Phase::NoAppends), if ended.is_none() => Woken::Draining,
            frame = reader.next(), if takes => Woken::Came(frame),
        }
    }

    /// Whether more batches are taken just now: not past the window, nor from a client that does not listen.
    fn takes(&self) -> bool {
        self.ended.is_none()
            && self.waiting.is_none()
            && self.in_flight.len() < APPEND_BATCHES_IN_FLIGHT_MAX
            && self.bytes_in_flight < APPEND_BYTES_IN_FLIGHT_MAX
            && !self.writer.is_full()
    }

    /// Takes no more. The first reason stands, but an end in order gives way to what went wrong with a batch before it.
    fn end(&mut self, ended: Ended) {
        if matches!(self.ended, None | Some(Ended::Finished | Ended::Draining)) {
            self.ended = Some(ended);
        }
    }

    /// This batch, and those behind it that have come as a whole: one wake of the commit thread has all of them.
    fn take_what_is_here(&mut self, first: Frame) -> Result<(), Violation> {
        self.take(&first)?;
        while self.takes()
            && let Some(frame) = self.reader.ready()?
        {
            self.take(&frame)?;
        }
        Ok(())
    }

    fn take(&mut self, frame: &Frame) -> Result<(), Violation> {
        let (seq, entries) = self.order.handle_frame(frame)?;
        let taken = Taken { seq, entries: entries.len(), bytes: frame.payload.len() };
        self.bytes_in_flight += taken.bytes;
        // The first of all begins the leader's reign, and that is waited for.
        let queued = match seq {
            0 => Err(AppendError::Busy { reason: "the first" }),
            _ => self.log.try_append(&self.topic, entries),
        };
        match queued {
            Err(AppendError::Busy { .. }) => {
                let entries = BatchOrder::entries_again(frame)?;
                let (log, topic) = (self.log.clone(), Arc::clone(&self.topic));
                let queue = move || log.append_batch(&topic, entries);
                self.waiting = Some((taken, tokio::task::spawn_blocking(queue)));
            }
            queued => self.queued(taken, queued),
        }
        Ok(())
    }

    fn queued(&mut self, taken: Taken, queued: Result<Ticket, AppendError>) {
        match queued {
            // The client knows by now that nothing behind the refused one is acknowledged.
            Ok(_) if matches!(self.ended, Some(Ended::Refused(_))) => {}
            Ok(ticket) => self.in_flight.push_back((taken, ticket)),
            Err(error) => self.end(Ended::Refused(refusal(&self.server, &error))),
        }
    }

    fn answer_what_is_ready(&mut self) {
        while let Some((_, ticket)) = self.in_flight.front()
            && let Some(outcome) = ticket.try_outcome()
        {
            let (taken, _) = self.in_flight.pop_front().expect("it was looked at");
            self.answer(taken, outcome);
        }
    }

    /// Acknowledges a batch that is durable, or ends the session and forgets what is behind it.
    fn answer(&mut self, taken: Taken, outcome: Outcome) {
        let Taken { seq, entries, bytes } = taken;
        self.bytes_in_flight -= bytes;
        match outcome {
            Ok(Receipt { first_offset, last_offset, lsn }) => {
                self.writer.put(&Appended { seq, first_offset, last_offset, lsn: lsn.get(), ext: Ext::default() }, &[]);
                count(&self.server.counters.appended_batches, 1);
                count(&self.server.counters.appended_entries, entries);
                count(&self.server.counters.appended_bytes, bytes);
            }
            Err(error) => {
                // What is behind it goes its own way, unacknowledged. If that was refused in the queue, this comes before it and is what is
                // told: only this may be `Indeterminate`.
                self.in_flight.clear();
                if !matches!(self.ended, Some(Ended::Broken(_))) {
                    self.ended = Some(Ended::Refused(refusal(&self.server, &error)));
                }
            }
        }
    }
}

/// What comes of the first: it stays where it is.
async fn of_first<'a, F: Future + Unpin + 'a>(mut all: impl Iterator<Item = &'a mut (Taken, F)>) -> F::Output {
    (&mut all.next().expect("there is one").1).await
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
