//! The count-batched writer of the seed: whoever appends goes on at once, and one thread writes and flushes for everybody.
//!
//! ```text
//!   append --Entry-->           the thread waits for the first,
//!   flush  --Flush-->  queue -- takes what else is there without waiting, --> one group, one flush --> the tickets, in order
//!   close  --Close-->           up to 256
//! ```
//!
//! There is no timer: an idle writer flushes a lone entry at once, a busy one gathers the next group while the last is being flushed.
//! `close` is a sentinel in the same queue, so everything appended before it is flushed.
//!
//! Layer: faces. Uses `engine` for the writing, `commit` for its tickets. Knows nothing of blocks or files.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, mpsc};
use std::thread::JoinHandle;

use bytes::Bytes;

use crate::commit::error::AppendError;
use crate::commit::submission::Level;
use crate::commit::ticket::{Outcome, Receipt, Reply, Ticket, ticket};
use crate::engine::{AppendOptions, Engine};
use crate::limits::{BLOCK_ENTRIES_MAX, GROUP_BYTES_MAX, QUEUE_BYTES_MAX};

/// Entries of one group at most: the seed's count, and what one block holds.
const GROUP_ENTRIES: usize = BLOCK_ENTRIES_MAX;

/// Payload of one group at most, unless a single entry is larger: half of what one commit group takes, so that a full count of large
/// entries is still written and flushed as one.
const GROUP_BYTES: usize = GROUP_BYTES_MAX / 2;

/// What a waiting entry costs beside its bytes: its place in the queue and its ticket.
const ENTRY_OVERHEAD_BYTES: usize = 128;

// A full queue must hold more than a group, or a group could never be full.
const _: () = assert!(GROUP_BYTES + GROUP_ENTRIES * ENTRY_OVERHEAD_BYTES < QUEUE_BYTES_MAX);

/// Appends to one topic of a log, many entries to a flush.
///
/// ```
/// use walrus_node::{Engine, Options, WalWriter};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path();
/// let log = Engine::open(path, Options { segment_bytes_first: 1 << 20, ..Options::default() })?;
/// let writer = WalWriter::open(&log, "orders")?;
/// let ticket = writer.append("one apple")?; // returns at once
/// writer.append("two pears")?; // whoever does not care for the ticket drops it
/// assert_eq!(ticket.wait()?.first_offset, 0); // durable
/// writer.close()?; // everything appended before is durable
/// log.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Entries are in the log in the order of their `append`. Those of one group are an atomic batch; callers are not told which, and count
/// on nothing but their tickets. Dropping the writer closes it.
pub struct WalWriter {
    log: Engine,
    topic: String,
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What goes through the queue, in the order of the calls.
enum Item {
    Entry(Bytes, Reply),
    /// Answered once everything before it has been written.
    Flush(mpsc::Sender<Result<(), AppendError>>),
    /// The sentinel: nothing comes behind it.
    Close,
}

struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    room: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Item>,
    bytes: usize,
    /// The thread waits for the first item.
    asleep: bool,
    /// Callers that wait for room.
    callers_wait: usize,
    closed: bool,
    flushes: u64,
    /// The first failure that no `flush` and no `close` has reported.
    failure: Option<AppendError>,
}

/// What the thread does next.
enum Next {
    Write(Vec<(Bytes, Reply)>),
    Answer(mpsc::Sender<Result<(), AppendError>>),
    End,
}

impl WalWriter {
    /// A writer to one topic of a log. Several writers, and other appends, may share the log and the topic.
    ///
    /// # Errors
    /// An invalid topic, a follower's log; [`AppendError::Halted`] if its thread cannot be started.
    pub fn open(log: &Engine, topic: &str) -> Result<WalWriter, AppendError> {
        log.check_append(topic, &[Bytes::new()])?;
        let queue = Arc::new(Queue { state: Mutex::default(), arrived: Condvar::new(), room: Condvar::new() });
        let worker = Worker { queue: Arc::clone(&queue), log: log.clone(), topic: topic.to_owned() };
        let thread = std::thread::Builder::new()
            .name("walrus-writer".into())
            .spawn(move || worker.run())
            .map_err(|error| AppendError::Halted { reason: format!("the writer's thread cannot start: {error}") })?;
        Ok(WalWriter { log: log.clone(), topic: topic.to_owned(), queue, thread: Mutex::new(Some(thread)) })
    }

    /// Appends one entry and returns at once; the ticket says when it is durable, and where it went. Only behind 64 MiB of entries
    /// that wait to be written does it wait for room.
    ///
    /// # Errors
    /// An entry that is too large, which takes no other with it; [`AppendError::Closed`] after `close`. What becomes of an entry that
    /// was taken its ticket says, and, for those without one, `flush` and `close`.
    pub fn append(&self, entry: impl Into<Bytes>) -> Result<Ticket, AppendError> {
        let entry = entry.into();
        self.log.check_append(&self.topic, std::slice::from_ref(&entry))?;
        let (ticket, reply) = ticket();
        self.queue.push(Item::Entry(entry, reply))?;
        Ok(ticket)
    }

    /// Waits until everything appended before is durable.
    ///
    /// # Errors
    /// The first failure among the appends since the last `flush`; it is reported once. Each ticket knows its own.
    pub fn flush(&self) -> Result<(), AppendError> {
        let (answer, answered) = mpsc::channel();
        self.queue.push(Item::Flush(answer))?;
        // A thread that ended without an answer has panicked, and said so.
        answered.recv().unwrap_or(Err(AppendError::Indeterminate { reason: "the writer's thread ended".into() }))
    }

    /// Takes no more appends, and waits until everything appended before is durable. The log stays open. Closing again does nothing.
    ///
    /// # Errors
    /// As [`WalWriter::flush`].
    pub fn close(&self) -> Result<(), AppendError> {
        self.queue.close();
        if let Some(thread) = self.thread.lock().expect("no holder of this lock panics").take()
            && thread.join().is_err()
        {
            return Err(AppendError::Indeterminate { reason: "the writer's thread panicked".into() });
        }
        self.queue.lock().failure.take().map_or(Ok(()), Err)
    }

    /// Groups written so far, each with one flush of each file it touched (one file, but where a group goes on into the next segment).
    pub fn flushes(&self) -> u64 {
        self.queue.lock().flushes
    }
}

impl Drop for WalWriter {
    fn drop(&mut self) {
        // Whoever wants to know how it ended calls `close` before.
        let _ = self.close();
    }
}

impl Item {
    fn bytes(&self) -> usize {
        match self {
            Item::Entry(bytes, _) => bytes.len() + ENTRY_OVERHEAD_BYTES,
            Item::Flush(_) | Item::Close => 0,
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    fn push(&self, item: Item) -> Result<(), AppendError> {
        let mut state = self.lock();
        while !state.closed && state.bytes >= QUEUE_BYTES_MAX {
            state.callers_wait += 1;
            state = self.room.wait(state).expect("no holder of this lock panics");
            state.callers_wait -= 1;
        }
        if state.closed {
            return Err(AppendError::Closed);
        }
        self.enqueue(state, item);
        Ok(())
    }

    fn enqueue(&self, mut state: MutexGuard<'_, State>, item: Item) {
        state.bytes += item.bytes();
        state.waiting.push_back(item);
        if std::mem::take(&mut state.asleep) {
            drop(state);
            self.arrived.notify_one();
        }
    }

    fn close(&self) {
        let mut state = self.lock();
        if !state.closed {
            state.closed = true;
            self.room.notify_all();
            self.enqueue(state, Item::Close);
        }
    }

    /// Waits for the first item; an entry brings along what else is there, up to a group.
    fn next(&self) -> Next {
        let mut state = self.lock();
        while state.waiting.is_empty() {
            state.asleep = true;
            state = self.arrived.wait(state).expect("no holder of this lock panics");
        }
        let mut group = Vec::new();
        let mut group_bytes = 0;
        while group.len() < GROUP_ENTRIES {
            let fits = |item: &mut Item| match item {
                Item::Entry(bytes, _) => group_bytes + bytes.len() <= GROUP_BYTES || group.is_empty(),
                Item::Flush(_) | Item::Close => group.is_empty(),
            };
            let Some(item) = state.waiting.pop_front_if(fits) else { break };
            state.bytes -= item.bytes();
            match item {
                Item::Entry(bytes, reply) => {
                    group_bytes += bytes.len();
                    group.push((bytes, reply));
                }
                Item::Flush(answer) => return Next::Answer(answer),
                Item::Close => return Next::End,
            }
        }
        if state.callers_wait > 0 {
            self.room.notify_all();
        }
        Next::Write(group)
    }
}

/// The thread.
struct Worker {
    queue: Arc<Queue>,
    log: Engine,
    topic: String,
}

impl Drop for Worker {
    /// Nothing waits for a thread that has ended, be it by a panic: what is dropped unanswered answers by itself.
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        self.queue.room.notify_all();
        drop(state);
        drop(waiting);
    }
}

impl Worker {
    fn run(self) {
        loop {
            match self.queue.next() {
                Next::Write(group) => self.write(group),
                Next::Answer(answer) => {
                    let failure = self.queue.lock().failure.take();
                    // Whoever asked may have gone.
                    let _ = answer.send(failure.map_or(Ok(()), Err));
                }
                Next::End => return,
            }
        }
    }

    fn write(&self, group: Vec<(Bytes, Reply)>) {
        let (entries, replies): (Vec<Bytes>, Vec<Reply>) = group.into_iter().unzip();
        // Durable whatever the log's own level is: a flush each time is what this writer is for.
        let options = AppendOptions { level: Some(Level::Durable), expect_offset: None };
        let outcome = self.log.append_and_wait(&self.topic, entries, options);
        self.note(&outcome);
        for (i, mut reply) in (0..).zip(replies) {
            reply.send(outcome.clone().map(|receipt| nth(receipt, i)));
        }
    }

    /// Before the callers are answered: who has an answer finds it counted.
    fn note(&self, outcome: &Outcome) {
        let mut state = self.queue.lock();
        match outcome {
            Ok(_) => state.flushes += 1,
            Err(error) => _ = state.failure.get_or_insert_with(|| error.clone()),
        }
    }
}

/// The receipt of one entry of a group.
fn nth(group: Receipt, i: u64) -> Receipt {
    let offset = group.first_offset + i;
    Receipt { first_offset: offset, last_offset: offset, lsn: group.lsn }
}
