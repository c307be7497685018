//! The connection to the leader: made, proved, kept, and made again.
//!
//! Layer: follower. Uses `engine`, `net`, `wire`.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{sleep, sleep_until, timeout};

use super::apply::{self, ApplyEnd};
use super::lag::Lag;
use crate::engine::Engine;
use crate::entropy::Entropy;
use crate::ids::LogId;
use crate::log::recovery::OpenError;
use crate::lsn::Lsn;
use crate::net::endpoint::{Broken, Connected, broken, close_for, connect};
use crate::net::retry::Backoff;
use crate::net::stream::{FrameReader, FrameWriter, StreamError};
use crate::net::tls::Tls;
use crate::wire::follower::{Event, FollowerSession};
use crate::wire::history::{Divergence, Tail};
use crate::wire::leader::Progress;
use crate::wire::message::Hello;
use crate::wire::{Class, Code, HELLO_TIMEOUT, Violation};

/// A connection that has lasted this long was a good one: the next failure is the first again.
const GOOD_AFTER: Duration = Duration::from_secs(10);
/// How long the last acknowledgement may take to reach a leader that is stopping.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Why a follower does not go on. Its log is as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    /// Unequal histories, or another log.
    #[error("{0}")]
    Diverged(String),
    /// The leader sent something that is not what it says.
    #[error("{0}")]
    Corrupt(String),
    /// Our log takes no writes any more.
    #[error("this node's log takes no writes: {0}")]
    Halted(String),
    /// Our log was closed: the node stops.
    #[error("the log was closed")]
    Closed,
    /// The certificates do not allow it.
    #[error("{0}")]
    NotAllowed(String),
    /// The protocol was broken, or has no common version.
    #[error("{0}")]
    Protocol(String),
    /// A fresh folder could not be made a follower's.
    #[error("{data}: {source}")]
    Open {
        /// The folder.
        data: PathBuf,
        /// Why.
        source: OpenError,
    },
}

/// Opens a fresh folder as the mirror of that log.
pub(crate) type Opener = Box<dyn Fn(LogId) -> Result<Engine, OpenError> + Send + Sync>;

/// Follows one leader.
pub(crate) struct Tailer {
    /// HOST:PORT.
    pub(crate) leader: String,
    pub(crate) tls: Tls,
    /// What it wants to be called in the leader's status; empty: its certificate's name.
    pub(crate) slot: String,
    /// Empty until a fresh folder has learnt its log's id.
    pub(crate) log: Arc<OnceLock<Engine>>,
    pub(crate) open: Arc<Opener>,
    /// The folder, for messages.
    pub(crate) data: PathBuf,
    pub(crate) lag: Arc<Lag>,
    pub(crate) entropy: Entropy,
}

/// Why one connection ended.
enum End {
    /// Worth another try.
    Retry(String),
    Stop(Stop),
}

impl Tailer {
    /// Follows until there is a reason not to. Drop the future to end it.
    pub(crate) async fn run(mut self) -> Stop {
        let mut backoff = Backoff::new(self.entropy.fork());
        let mut was_good = false;
        loop {
            let began = Instant::now();
            let end = self.follow_once(&mut was_good).await;
            let why = match end {
                End::Stop(stop) => {
                    self.lag.disconnected(&stop.to_string());
                    return stop;
                }
                End::Retry(why) => why,
            };
            self.lag.disconnected(&why);
            if began.elapsed() >= GOOD_AFTER {
                backoff.reset();
            }
            let wait = backoff.next_wait();
            tracing::warn!(leader = %self.leader, retry_in_ms = wait.as_millis() as u64, "not connected: {why}");
            sleep(wait).await;
        }
    }

    /// One connection. `was_good` remembers that the certificates were accepted once: from then on a refusal may be somebody
    /// rotating them, and is tried again.
    async fn follow_once(&mut self, was_good: &mut bool) -> End {
        let connected = match connect(&self.leader, &self.tls).await {
            Ok(connected) => connected,
            Err(why) => return end_of_broken(why, *was_good),
        };
        let end = match Following::open(self, &connected).await {
            Ok(following) => following.run(was_good).await,
            Err(error) => ApplyEnd::Stream(error),
        };
        let end = match end {
            ApplyEnd::Stop(stop) => End::Stop(stop),
            ApplyEnd::Ended { code, message } => end_of_code(code, &message, *was_good),
            ApplyEnd::Stream(StreamError::Connection(error)) => end_of_broken(broken(&error), *was_good),
            ApplyEnd::Stream(StreamError::Stopped(code)) => end_of_code(code, "", *was_good),
            ApplyEnd::Stream(StreamError::Violation(violation)) => {
                end_of_code(violation.code, &violation.what, *was_good)
            }
        };
        let _ = timeout(LAST_WORD, connected.endpoint.wait_idle()).await;
        end
    }
}

fn end_of_broken(why: Broken, was_good: bool) -> End {
    match why {
        Broken::Closed { code, message } => end_of_code(code, &message, was_good),
        Broken::NotAllowed(what) if !was_good => End::Stop(Stop::NotAllowed(what)),
        Broken::BadAddress(_) => End::Stop(Stop::Protocol(why.to_string())),
        other => End::Retry(other.to_string()),
    }
}

/// What a code means to a follower: docs/PROTOCOL.md#codes
fn end_of_code(code: Code, message: &str, was_good: bool) -> End {
    let what = if message.is_empty() { code.to_string() } else { message.to_owned() };
    if code.class() != Class::Halt {
        return End::Retry(what);
    }
    match code {
        Code::DIVERGED | Code::LOG_MISMATCH => End::Stop(Stop::Diverged(what)),
        Code::UNAUTHENTICATED | Code::FORBIDDEN if was_good => End::Retry(what),
        Code::UNAUTHENTICATED | Code::FORBIDDEN => End::Stop(Stop::NotAllowed(what)),
        Code::CHECKSUM => End::Stop(Stop::Corrupt(what)),
        // The leader's own log is damaged there: it may be repaired while we wait.
        Code::DAMAGED => End::Retry(what),
        _ => End::Stop(Stop::Protocol(what)),
    }
}

/// One connection that is being followed.
struct Following<'a> {
    tailer: &'a mut Tailer,
    connected: &'a Connected,
    session: FollowerSession,
    start: Instant,
    reader: FrameReader,
    writer: FrameWriter,
    progress: Arc<watch::Sender<Progress>>,
    applying: Option<Applying>,
}

/// The task that applies, which must not outlive its connection.
struct Applying(JoinHandle<ApplyEnd>);

impl Drop for Applying {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<'a> Following<'a> {
    async fn open(tailer: &'a mut Tailer, connected: &'a Connected) -> Result<Following<'a>, StreamError> {
        let (send, recv) = connected.connection.open_bi().await?;
        let (writer, reader) = (FrameWriter::new(send), FrameReader::new(recv));
        writer.set_priority(100);
        let (node_id, log_id) = match tailer.log.get().map(Engine::status) {
            Some(status) => (status.node_id.get(), Some(status.log_id.get())),
            None => (0, None),
        };
        let start = Instant::now();
        let session = FollowerSession::new(&Hello::new(node_id, log_id, &tailer.slot), start.elapsed());
        let nothing = Progress { received: Lsn::FIRST, durable: Lsn::FIRST };
        let progress = Arc::new(watch::Sender::new(nothing));
        Ok(Following { tailer, connected, session, start, reader, writer, progress, applying: None })
    }

    /// Follows until the connection ends, and leaves nothing behind that is still on its way into the log: the next
    /// connection asks where the log ends, and must not hear of an end that is about to move.
    async fn run(mut self, was_good: &mut bool) -> ApplyEnd {
        let end = match self.drive(was_good).await {
            Ok(end) => end,
            Err(error) => ApplyEnd::Stream(error),
        };
        let violation = match &end {
            ApplyEnd::Stream(StreamError::Violation(violation)) => violation.clone(),
            ApplyEnd::Stop(Stop::Corrupt(what)) => Violation::new(Code::CHECKSUM, what),
            _ => Violation::new(Code::OK, ""),
        };
        // The stream of blocks ends with its connection, and the pipeline behind it runs empty.
        close_for(&self.connected.connection, &violation);
        match self.applying.take() {
            None => end,
            applying => match applied(&mut { applying }).await {
                ApplyEnd::Stop(stop) => ApplyEnd::Stop(stop),
                _ => end,
            },
        }
    }

    async fn drive(&mut self, was_good: &mut bool) -> Result<ApplyEnd, StreamError> {
        let mut progress = self.progress.subscribe();
        loop {
            while let Some(event) = self.session.poll_event() {
                if let Some(stop) = self.act(event, was_good).await? {
                    return Ok(ApplyEnd::Stop(stop));
                }
            }
            while let Some(frame) = self.session.poll_transmit() {
                self.writer.push(frame);
            }
            let due = self.start + self.session.poll_timeout();
            tokio::select! {
                flushed = self.writer.flush(), if !self.writer.is_empty() => flushed?,
                frame = self.reader.next() => match frame? {
                    Some(frame) => self.session.handle_frame(self.start.elapsed(), &frame)?,
                    // A process that ends may take its streams along before its connection.
                    None => return Err(Violation::new(Code::HEARTBEAT_TIMEOUT, "the leader ended the control stream").into()),
                },
                () = sleep_until(due.into()) => {
                    self.session.handle_timeout(self.start.elapsed(), self.durable(), clock_ns())?;
                }
                changed = progress.changed() => {
                    changed.expect("this struct holds the other end");
                    let now = *progress.borrow_and_update();
                    self.session.handle_progress(now);
                }
                end = applied(&mut self.applying) => {
                    self.applying = None;
                    return Ok(self.last_word(end).await);
                }
            }
        }
    }

    fn durable(&self) -> Lsn {
        self.tailer.log.get().map_or(Lsn::FIRST, |log| log.durable().lsn())
    }

    async fn act(&mut self, event: Event, was_good: &mut bool) -> Result<Option<Stop>, StreamError> {
        match event {
            Event::Welcomed { log_id, welcome } => {
                *was_good = true;
                self.tailer.lag.heard(Lsn::new(welcome.durable_lsn));
                let log = match self.open_log(log_id).await {
                    Ok(log) => log,
                    Err(stop) => return Ok(Some(stop)),
                };
                let tip = log.tip();
                let tail = Tail { lsn: tip.lsn, epoch: tip.epoch, run_id: tip.run_id, chain: tip.chain };
                self.session.subscribe(self.start.elapsed(), tail);
            }
            Event::NeedChain(lsn) => {
                let log = self.tailer.log.get().expect("a claim is open, so the log is").clone();
                let chain = blocking(move || log.chain_before(lsn)).await;
                let chain = chain.map_err(|error| Violation::new(Code::INTERNAL, error.to_string()))?;
                self.session.handle_our_chain(lsn, chain);
            }
            Event::Following { start } => self.follow_from(start).await?,
            Event::Heard { durable } => self.tailer.lag.heard(durable),
            Event::Draining => tracing::info!(leader = %self.tailer.leader, "the leader is stopping"),
            Event::Parted(divergence) => return Ok(Some(Stop::Diverged(diverged_message(&divergence)))),
        }
        Ok(None)
    }

    /// The log; a fresh folder becomes the mirror of the leader's now.
    async fn open_log(&mut self, log_id: LogId) -> Result<Engine, Stop> {
        if let Some(log) = self.tailer.log.get() {
            return Ok(log.clone());
        }
        let open = Arc::clone(&self.tailer.open);
        let opened = blocking(move || open(log_id)).await;
        let log = opened.map_err(|source| Stop::Open { data: self.tailer.data.clone(), source })?;
        tracing::info!(%log_id, "this folder mirrors the leader's log from now on");
        Ok(self.tailer.log.get_or_init(|| log).clone())
    }

    async fn follow_from(&mut self, start: Lsn) -> Result<(), StreamError> {
        let opened = timeout(HELLO_TIMEOUT, self.connected.connection.accept_uni()).await;
        // No broken rule: a leader that was killed between the two looks just like this, and it comes back.
        let silent = |_| Violation::new(Code::HEARTBEAT_TIMEOUT, "Subscribed, but no stream of blocks comes");
        let recv = opened.map_err(silent)??;
        self.progress.send_replace(Progress { received: start, durable: start });
        self.tailer.lag.connected();
        tracing::info!(leader = %self.tailer.leader, name = %self.connected.peer.name, from_lsn = %start, "following");
        let log = self.tailer.log.get().expect("a claim was proved, so the log is open").clone();
        let (lag, progress) = (Arc::clone(&self.tailer.lag), Arc::clone(&self.progress));
        self.applying = Some(Applying(tokio::spawn(apply::run(log, FrameReader::new(recv), start, lag, progress))));
        Ok(())
    }

    /// The stream of blocks has ended in order: the last acknowledgement is what a leader that stops waits for.
    async fn last_word(&mut self, end: ApplyEnd) -> ApplyEnd {
        let now = *self.progress.borrow();
        self.session.handle_progress(now);
        while let Some(frame) = self.session.poll_transmit() {
            self.writer.push(frame);
        }
        let sent = async {
            let _ = self.writer.flush().await;
            if matches!(end, ApplyEnd::Ended { .. }) {
                // The leader hangs up once it has heard.
                self.connected.connection.closed().await;
            }
        };
        let _ = timeout(LAST_WORD, sent).await;
        end
    }
}

/// The end of the applying task; never, while there is none.
async fn applied(applying: &mut Option<Applying>) -> ApplyEnd {
    match applying {
        None => std::future::pending().await,
        Some(Applying(task)) => match task.await {
            Ok(end) => end,
            Err(error) => resume(error),
        },
    }
}

fn resume<T>(error: JoinError) -> T {
    std::panic::resume_unwind(error.into_panic())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(resume)
}

fn clock_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

fn diverged_message(divergence: &Divergence) -> String {
    format!(
        "{divergence}; nothing was changed\n\
         hint: a follower is ahead or unequal when its leader lost durable data, was restored from a copy, or is another one; \
         find out which log to keep before anything is removed"
    )
}
