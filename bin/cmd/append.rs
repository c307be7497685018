//! `append`: lines in, entries out, and what is durable said as soon as it is.
//!
//! ```text
//!     a thread: stdin --lines--> batches --append--> the log     many batches in flight, their number bounded
//!     this one: tickets, in order --> stdout                     each once it is durable
//! ```
//!
//! With a node in the log's place it is the same, but that a task sends the batches, and the node's acknowledgements are the tickets.
//!
//! Reading has a thread of its own: where the log fails while stdin is silent, the command ends all the same.

use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::mpsc::{Receiver, RecvError, SyncSender, TryRecvError, sync_channel};
use std::task::Poll;
use std::thread;
use std::time::Instant;

use serde::Serialize;
use tokio::sync::mpsc;
use walrus_node::{Acked, Acks, Appender, ClientError, Engine, IoMode, Options, Receipt, Ticket};

use crate::at::{At, NodeAt};
use crate::cli::Append;
use crate::fail::{self, Exit, Failure};
use crate::lines::{Batch, Lines};
use crate::logging::warn;
use crate::output::Output;
use crate::remote;
use crate::text;

/// Batches under way at once. Far more than one flush takes, so that the disk never waits for us.
const IN_FLIGHT_MAX: usize = 4096;

pub(crate) fn run(args: Append, io: IoMode) -> Result<(), Failure> {
    let lines = Lines::open(&args.file, args.batch)?;
    let command = format!("walrus-node append {}", text::shell(&args.topic));
    let said = Said::new(args.topic, args.format.json);
    match args.place.resolve(&command)? {
        At::Folder(dir) => to_folder(&dir, io, lines, said),
        At::Node(node) => to_node(&node, lines, said),
    }
}

/// What has become durable, and the saying of it.
struct Said {
    topic: String,
    json: bool,
    out: Output,
    started: Instant,
    /// Whether there was anything to append to. Before that, nothing need be said of progress.
    begun: bool,
    batches: u64,
    entries: u64,
    /// The first and the last offset.
    offsets: Option<(u64, u64)>,
}

/// A line of `append --json`.
#[derive(Serialize)]
struct Line<'a> {
    topic: &'a str,
    first_offset: u64,
    last_offset: u64,
    lsn: u64,
}

impl Said {
    fn new(topic: String, json: bool) -> Said {
        Said {
            topic,
            json,
            out: Output::new(),
            started: Instant::now(),
            begun: false,
            batches: 0,
            entries: 0,
            offsets: None,
        }
    }

    /// A batch is durable.
    fn batch(&mut self, first_offset: u64, last_offset: u64, lsn: u64) -> Result<(), Failure> {
        self.batches += 1;
        self.entries += last_offset - first_offset + 1;
        self.offsets = Some((self.offsets.map_or(first_offset, |(first, _)| first), last_offset));
        if self.json {
            self.out.json(&Line { topic: &self.topic, first_offset, last_offset, lsn })?;
        }
        Ok(())
    }

    /// How far it went.
    fn progress(&self) -> String {
        let Said { topic, batches, entries, offsets, .. } = self;
        match offsets {
            None => format!("nothing was acknowledged in `{topic}`"),
            Some((first, last)) => format!(
                "{} in {} acknowledged in `{topic}` (offsets {first} to {last}); they are durable",
                text::entries(*entries),
                if *batches == 1 { "1 batch".to_owned() } else { format!("{} batches", text::count(*batches)) },
            ),
        }
    }

    /// The last word.
    fn finish(mut self, result: Result<(), Failure>) -> Result<(), Failure> {
        let result = result.and_then(|()| self.out.flush());
        match result {
            Ok(()) if !self.json => {
                let seconds = self.started.elapsed().as_secs_f64();
                match self.offsets {
                    None => eprintln!("no lines, so nothing was appended to `{}`", self.topic),
                    Some(_) => eprintln!("{}, after {seconds:.2} s", self.progress()),
                }
                Ok(())
            }
            Ok(()) => Ok(()),
            // Whoever took our acknowledgements has gone: that is no order to go on without them, and no success.
            Err(failure) if failure.is_silent() => {
                Err(Failure::new(Exit::Failed, "nobody reads the acknowledgements any more, so no more was appended")
                    .note(self.progress()))
            }
            Err(failure) if self.begun => Err(failure.note(self.progress())),
            Err(failure) => Err(failure),
        }
    }
}

fn to_folder(dir: &Path, io: IoMode, lines: Lines, mut said: Said) -> Result<(), Failure> {
    let options = Options { io, check_bytes_max: super::CHECK_BYTES_MAX, ..Options::default() };
    let log = Engine::open(dir, options).map_err(|error| fail::open(dir, &error))?;
    log.status().warnings.iter().for_each(|warning| warn(warning));
    said.begun = true;
    let (sender, sent) = sync_channel(IN_FLIGHT_MAX);
    let feeder = Feeder { log: log.clone(), topic: said.topic.clone(), lines, sent: sender, dir: dir.to_owned() };
    thread::spawn(move || feeder.run());
    let acknowledged = acknowledge(dir, &sent, &mut said);
    let closed = log.close().map_err(|error| fail::close(dir, &error));
    said.finish(acknowledged.and(closed))
}

/// An append that was taken, or why no more will come.
type Sent = Result<Ticket, Failure>;

/// Prints what is durable, in order.
fn acknowledge(dir: &Path, sent: &Receiver<Sent>, said: &mut Said) -> Result<(), Failure> {
    loop {
        let next = match sent.try_recv() {
            Err(TryRecvError::Empty) => {
                // Before any wait: what is durable is known to whoever reads us.
                said.out.flush()?;
                sent.recv()
            }
            other => other.map_err(|_| RecvError),
        };
        let Ok(next) = next else { return Ok(()) };
        let ticket = next?;
        if ticket.try_outcome().is_none() {
            said.out.flush()?;
        }
        let Receipt { first_offset, last_offset, lsn } = ticket.wait().map_err(|error| fail::append(dir, &error))?;
        said.batch(first_offset, last_offset, lsn.get())?;
    }
}

/// The thread that reads lines and appends them.
struct Feeder {
    log: Engine,
    topic: String,
    lines: Lines,
    sent: SyncSender<Sent>,
    dir: PathBuf,
}

impl Feeder {
    fn run(mut self) {
        loop {
            let next = match self.lines.next_batch() {
                Ok(None) => return,
                Ok(Some(batch)) => self.append(batch),
                Err(failure) => Err(failure),
            };
            let is_last = next.is_err();
            // Nobody takes it: the other thread has ended the command.
            if self.sent.send(next).is_err() || is_last {
                return;
            }
        }
    }

    fn append(&self, batch: Batch) -> Sent {
        // No batch of the command is too large for the log: `lines` bounds both.
        self.log.append_batch(&self.topic, batch.entries).map_err(|error| fail::append(&self.dir, &error))
    }
}

fn to_node(node: &NodeAt, lines: Lines, mut said: Said) -> Result<(), Failure> {
    let topic = said.topic.clone();
    let appended = remote::with_node(node, async |client| {
        let failed = |error: ClientError| remote::failure(node, &error);
        let (appender, acks) = client.append(&topic).await.map_err(failed)?;
        said.begun = true;
        let sending = tokio::spawn(send(appender, read_ahead(lines)));
        let heard = hear(node, acks, &mut said).await;
        if heard.is_err() {
            // What ended the session is known; that sending failed too says no more.
            sending.abort();
            return heard;
        }
        match sending.await {
            Ok(Err(Stopped::Input(failure))) => Err(failure),
            Ok(Err(Stopped::Session(error))) => Err(failed(error)),
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    });
    said.finish(appended)
}

/// Batches that are read before they can be sent. The node's own window bounds what is in flight behind them.
const READ_AHEAD_MAX: usize = 64;

/// Reads batches on a thread of its own, which ends with the process if stdin never does.
fn read_ahead(mut lines: Lines) -> mpsc::Receiver<Result<(Batch, String), Failure>> {
    let (sender, batches) = mpsc::channel(READ_AHEAD_MAX);
    thread::spawn(move || {
        while let Some(next) = lines.next_batch().transpose() {
            let is_last = next.is_err();
            if sender.blocking_send(next.map(|batch| (batch, lines.name().to_owned()))).is_err() || is_last {
                return;
            }
        }
    });
    batches
}

/// Why no more is sent.
enum Stopped {
    /// The lines.
    Input(Failure),
    /// The session is over, or refuses this batch.
    Session(ClientError),
}

/// Sends batches until there are no more, and says so. What was sent before a bad line is finished.
async fn send(
    mut appender: Appender,
    mut batches: mpsc::Receiver<Result<(Batch, String), Failure>>,
) -> Result<(), Stopped> {
    let mut stopped = Ok(());
    while stopped.is_ok() {
        let next = match batches.try_recv() {
            Ok(next) => Some(next),
            // Before any wait: what was read is on its way.
            Err(_) => match appender.flush().await {
                Ok(()) => batches.recv().await,
                Err(error) => return Err(Stopped::Session(error)),
            },
        };
        stopped = match next {
            None => break,
            Some(Err(failure)) => Err(Stopped::Input(failure)),
            Some(Ok((batch, name))) => send_one(&mut appender, &batch, &name).await,
        };
    }
    let finished = appender.finish().await.map_err(Stopped::Session);
    stopped.and(finished)
}

async fn send_one(appender: &mut Appender, batch: &Batch, name: &str) -> Result<(), Stopped> {
    appender.send(&batch.entries).await.map_err(|error| match error {
        ClientError::Invalid { message } => {
            let (first, last) = (batch.first_line, batch.first_line + batch.entries.len() as u64 - 1);
            Stopped::Input(Failure::new(Exit::Usage, format!("lines {first} to {last} of {name}: {message}")))
        }
        error => Stopped::Session(error),
    })
}

/// Prints what is durable, in order, until all that was sent is.
async fn hear(node: &NodeAt, mut acks: Acks, said: &mut Said) -> Result<(), Failure> {
    loop {
        let mut next = pin!(acks.next());
        let acked = match poll_fn(|context| Poll::Ready(next.as_mut().poll(context))).await {
            Poll::Ready(acked) => acked,
            Poll::Pending => {
                said.out.flush()?;
                next.await
            }
        };
        match acked.map_err(|error| remote::failure(node, &error))? {
            None => return Ok(()),
            Some(Acked { first_offset, last_offset, lsn }) => said.batch(first_offset, last_offset, lsn)?,
        }
    }
}
