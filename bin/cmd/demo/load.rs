//! Load on a node: a window of batches, kept full, each counted when it is acknowledged.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use walrus_node::{Acked, Acks, Appender, Client, ClientError, ReadStart};

use super::source::Source;
use crate::fail::{Exit, Failure};

/// How much is under way at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Entries in a batch.
    pub(super) batch: usize,
    /// Batches that wait for their acknowledgement.
    pub(super) outstanding: usize,
}

/// What came of a load. `acked` entries are durable, whatever happened afterwards.
pub(super) struct Loaded {
    pub(super) topic: String,
    pub(super) source: Arc<Source>,
    pub(super) window: Window,
    pub(super) acked: u64,
    /// Entries that were handed over, acknowledged or not.
    pub(super) sent: u64,
    pub(super) seconds: f64,
    /// From the sending of a batch to its acknowledgement, sorted.
    pub(super) took: Vec<Duration>,
}

impl Loaded {
    pub(super) fn entries_per_second(&self) -> f64 {
        self.acked as f64 / self.seconds
    }

    pub(super) fn percentile(&self, share: f64) -> Duration {
        percentile(&self.took, share)
    }
}

pub(super) fn percentile(sorted: &[Duration], share: f64) -> Duration {
    sorted.get((sorted.len() as f64 * share) as usize).copied().unwrap_or_default()
}

/// A load under way.
pub(super) struct Load {
    shared: Arc<Shared>,
    sending: JoinHandle<()>,
    hearing: JoinHandle<Result<Heard, ClientError>>,
    window: Window,
    topic: String,
    source: Arc<Source>,
}

/// What both halves of a session look at.
#[derive(Default)]
struct Shared {
    /// No more batches are to be sent.
    enough: AtomicBool,
    /// The node is dead: nobody waits for its acknowledgements any more.
    given_up: Notify,
    /// When the batches went out whose acknowledgements are still to come.
    sent_at: Mutex<VecDeque<Instant>>,
    sent: std::sync::atomic::AtomicU64,
}

struct Heard {
    acked: u64,
    seconds: f64,
    took: Vec<Duration>,
}

impl Load {
    /// Begins to append to a topic that nobody else appends to.
    pub(super) async fn start(
        client: &Client,
        topic: &str,
        window: Window,
        source: &Arc<Source>,
    ) -> Result<Load, Failure> {
        let (appender, acks) = client.append(topic).await.map_err(|error| failed(&error))?;
        let shared = Arc::new(Shared::default());
        let room = Arc::new(Semaphore::new(window.outstanding));
        let sending = tokio::spawn(send(appender, window, Arc::clone(source), Arc::clone(&shared), Arc::clone(&room)));
        let hearing = tokio::spawn(hear(acks, Arc::clone(&shared), room));
        Ok(Load { shared, sending, hearing, window, topic: topic.to_owned(), source: Arc::clone(source) })
    }

    /// Sends no more, and waits until everything is acknowledged.
    pub(super) async fn finish(self) -> Result<Loaded, Failure> {
        self.shared.enough.store(true, Ordering::Relaxed);
        self.end().await
    }

    /// The node was killed: what it has not acknowledged by now it never will.
    pub(super) async fn give_up(self) -> Result<Loaded, Failure> {
        self.sending.abort();
        self.shared.given_up.notify_one();
        self.end().await
    }

    async fn end(self) -> Result<Loaded, Failure> {
        let heard = self.hearing.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let Heard { acked, seconds, mut took } = heard.map_err(|error| failed(&error))?;
        took.sort_unstable();
        let sent = self.shared.sent.load(Ordering::Relaxed);
        Ok(Loaded { topic: self.topic, source: self.source, window: self.window, acked, sent, seconds, took })
    }
}

/// Keeps the window full until there has been enough.
async fn send(mut appender: Appender, window: Window, source: Arc<Source>, shared: Arc<Shared>, room: Arc<Semaphore>) {
    let mut number = 0;
    while !shared.enough.load(Ordering::Relaxed) {
        let place = match Arc::clone(&room).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                // Before the wait: whatever fills the window must be on its way.
                if appender.flush().await.is_err() {
                    return;
                }
                Arc::clone(&room).acquire_owned().await.expect("never closed")
            }
        };
        // Given back by whoever hears the acknowledgement.
        place.forget();
        let batch: Vec<_> = (number..).take(window.batch).map(|number| source.entry(number)).collect();
        number += window.batch as u64;
        shared.sent_at.lock().expect("no holder of this lock panics").push_back(Instant::now());
        shared.sent.store(number, Ordering::Relaxed);
        // Why a session ended is told by its other half.
        if appender.send(&batch).await.is_err() {
            return;
        }
    }
    let _ = appender.finish().await;
}

async fn hear(mut acks: Acks, shared: Arc<Shared>, room: Arc<Semaphore>) -> Result<Heard, ClientError> {
    let started = Instant::now();
    let mut heard = Heard { acked: 0, seconds: 0.0, took: Vec::new() };
    loop {
        let acked = tokio::select! {
            biased;
            acked = acks.next() => acked?,
            () = shared.given_up.notified() => None,
        };
        let Some(Acked { last_offset, .. }) = acked else { break };
        heard.acked = last_offset + 1;
        let sent_at = shared.sent_at.lock().expect("no holder of this lock panics").pop_front();
        heard.took.extend(sent_at.map(|at| at.elapsed()));
        room.add_permits(1);
    }
    heard.seconds = started.elapsed().as_secs_f64();
    Ok(heard)
}

/// How far a follower's readers are behind the leader's acknowledgements.
pub(super) struct Lag {
    pub(super) load: Loaded,
    /// From an acknowledgement by the leader to the entry's arrival at a reader of the follower, sorted; 0 where the reader was first.
    pub(super) behind: Vec<Duration>,
}

/// Appends one entry after the other to the leader, while a reader follows the topic on the follower.
pub(super) async fn mirror_lag(
    leader: &Client,
    follower: &Client,
    topic: &str,
    time: Duration,
) -> Result<Lag, Failure> {
    let source = Source::sized(64);
    let (mut appender, mut acks) = leader.append(topic).await.map_err(|error| failed(&error))?;
    let (started, mut sent, mut took, mut behind) = (Instant::now(), 0, Vec::new(), Vec::new());
    let mut reading = None;
    while started.elapsed() < time {
        let sent_at = Instant::now();
        appender.send(&[source.entry(sent)]).await.map_err(|error| failed(&error))?;
        appender.flush().await.map_err(|error| failed(&error))?;
        sent += 1;
        acks.next().await.map_err(|error| failed(&error))?;
        let acked_at = Instant::now();
        took.push(acked_at - sent_at);
        let reader = match &mut reading {
            Some(reader) => reader,
            // The topic is there with its first entry, on the follower a moment later.
            None => reading.insert(open_when_there(follower, topic).await?),
        };
        let arrived = reader.next().await.map_err(|error| failed(&error))?;
        if arrived.and_then(|entries| entries.last().map(|entry| entry.offset + 1)) != Some(sent) {
            return Err(Failure::new(
                Exit::Failed,
                format!("the follower's reader missed entry {} of {topic}", sent - 1),
            ));
        }
        behind.push(acked_at.elapsed());
    }
    appender.finish().await.map_err(|error| failed(&error))?;
    // The first one waited for the topic and for its reader.
    behind.remove(0);
    behind.sort_unstable();
    took.sort_unstable();
    let (seconds, window) = (started.elapsed().as_secs_f64(), Window { batch: 1, outstanding: 1 });
    let load = Loaded { topic: topic.to_owned(), source, window, acked: sent, sent, seconds, took };
    Ok(Lag { load, behind })
}

async fn open_when_there(follower: &Client, topic: &str) -> Result<walrus_node::Reading, Failure> {
    let deadline = Instant::now() + super::PATIENCE;
    loop {
        match follower.read(topic, ReadStart::Start, false, None).await {
            Err(ClientError::UnknownTopic { .. }) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            other => return other.map_err(|error| failed(&error)),
        }
    }
}

/// A request to one of the nodes failed.
pub(super) fn failed(error: &ClientError) -> Failure {
    Failure::of_text(Exit::of(error.exit_code()), &error.to_string())
}
