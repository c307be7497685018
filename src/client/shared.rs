//! One append session that many tasks or threads share: each asks for its own batch, and waits for it alone.
//!
//! ```text
//!     append() --batch, reply--> queue --all that waits--> Appender, one write       one task
//!     append() <-----reply------ oldest first <----------- Acks
//! ```
//!
//! A session each would do as well, at a price: every one of them has its own stream, its own packet to be woken for, and the lock of the
//! connection to wait for. Shared, what came together goes together.
//!
//! Layer: client.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::append::{self, Acked, Acks, Appender, check_batch};
use super::{ClientError, Link};
use crate::wire::APPEND_BATCHES_IN_FLIGHT_MAX;

type Reply = oneshot::Sender<Result<Acked, ClientError>>;

/// A batch and who waits for it.
struct Asked {
    entries: Vec<Bytes>,
    reply: Reply,
}

/// An append session for many at once. Clones share it; it ends with the last of them.
#[derive(Clone, Debug)]
pub struct SharedAppender {
    asks: mpsc::Sender<Asked>,
    /// Why the session is over.
    over: Arc<Mutex<Option<ClientError>>>,
}

pub(super) async fn open(link: Link, topic: &str) -> Result<SharedAppender, ClientError> {
    let (appender, acks) = append::open(link, topic).await?;
    // As many as the node's window has: more would wait here for nothing.
    let (asks, asked) = mpsc::channel(APPEND_BATCHES_IN_FLIGHT_MAX);
    let over = Arc::default();
    let session = Session { appender, acks, waiting: VecDeque::new() };
    tokio::spawn(session.run(asked, Arc::clone(&over)));
    Ok(SharedAppender { asks, over })
}

impl SharedAppender {
    /// Appends a batch of 1 to 2,000 entries and waits until it is durable. Batches of one caller that waits for each are in order; those
    /// of several come as they come. Dropping this does not take back a batch that was handed over.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] for a batch that no node takes: nothing of it was sent. Otherwise the session is over, for everybody who
    /// shares it: [`ClientError::AppendLost`] with one unknown batch where this one may have been taken, and any other error where it was
    /// not.
    pub async fn append(&self, entries: Vec<Bytes>) -> Result<Acked, ClientError> {
        check_batch(&entries)?;
        let (reply, answer) = oneshot::channel();
        if self.asks.send(Asked { entries, reply }).await.is_err() {
            return Err(self.over());
        }
        // Without an answer it was never sent: those that were are told before.
        answer.await.unwrap_or_else(|_| Err(self.over()))
    }

    fn over(&self) -> ClientError {
        let over = self.over.lock().expect("no holder of this lock panics").clone();
        over.unwrap_or_else(|| {
            unknown(ClientError::Temporary { message: "the runtime of this session has ended".into() })
        })
    }
}

/// Whether the one batch of a caller was taken is not known.
fn unknown(source: ClientError) -> ClientError {
    ClientError::AppendLost { acked_entries: 0, acked_batches: 0, unknown_batches: 1, source: Box::new(source) }
}

struct Session {
    appender: Appender,
    acks: Acks,
    /// Those whose batches were sent, oldest first.
    waiting: VecDeque<Reply>,
}

impl Session {
    async fn run(mut self, mut asked: mpsc::Receiver<Asked>, over: Arc<Mutex<Option<ClientError>>>) {
        let error = self.serve(&mut asked).await;
        let Some(error) = error else { return };
        let (taken, source) = match error {
            ClientError::AppendLost { unknown_batches, source, .. } => (unknown_batches > 0, source),
            error => (false, Box::new(error)),
        };
        // Behind this nothing is queued that nobody answers: what waits in the channel finds its reply dropped, and why.
        *over.lock().expect("no holder of this lock panics") = Some((*source).clone());
        drop(asked);
        for reply in self.waiting.drain(..) {
            let source = ClientError::clone(&source);
            let _ = reply.send(Err(if taken { unknown(source) } else { source }));
        }
    }

    /// Until nobody shares it any more, or the session is over for a reason.
    async fn serve(&mut self, asked: &mut mpsc::Receiver<Asked>) -> Option<ClientError> {
        let mut batches = Vec::new();
        let mut is_asked = true;
        while is_asked || !self.waiting.is_empty() {
            let room = APPEND_BATCHES_IN_FLIGHT_MAX.saturating_sub(self.waiting.len());
            tokio::select! {
                acked = self.acks.next(), if !self.waiting.is_empty() => match acked {
                    Ok(acked) => self.answer(acked.expect("there is an end only for a sender that has finished")),
                    Err(error) => return Some(error),
                },
                n = asked.recv_many(&mut batches, room), if is_asked && room > 0 => is_asked = n > 0,
            }
            while let Some(acked) = match self.acks.ready() {
                Ok(acked) => acked,
                Err(error) => return Some(error),
            } {
                self.answer(acked);
            }
            for Asked { entries, reply } in batches.drain(..) {
                self.waiting.push_back(reply);
                // Why a session ended is told by its other half.
                let _ = self.appender.send(&entries).await;
            }
            let _ = self.appender.flush().await;
        }
        None
    }

    fn answer(&mut self, acked: Acked) {
        let reply = self.waiting.pop_front().expect("the ledger knows of no batch that nobody waits for");
        // Who has gone does not want to know.
        let _ = reply.send(Ok(acked));
    }
}
