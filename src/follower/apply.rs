//! From the stream of blocks into the log, in whole groups: docs/PROTOCOL.md#blocks
//!
//! ```text
//!     receive   frames -> order -> groups, as far as the window goes          this task
//!     submit    groups -> the engine, several at once; it may make us wait    a thread
//!     settle    tickets, in order -> progress -> Ack                          a task
//! ```
//!
//! The engine checks sums, chain and order before it takes a block, and a group that is not whole never gets that far: it is
//! dropped with the connection, and comes again. When the connection ends, everything that was submitted is settled before anybody asks
//! where the log ends.
//!
//! Layer: follower. Uses `engine`, `net`, `wire`.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::lag::Lag;
use super::tailer::Stop;
use crate::commit::error::AppendError;
use crate::commit::ticket::Ticket;
use crate::engine::{ApplyError, Engine};
use crate::limits::{ALIGN_MIN, GROUP_BYTES_MAX};
use crate::lsn::Lsn;
use crate::net::endpoint::printable;
use crate::net::stream::{FrameReader, StreamError};
use crate::wire::follower::{BlockOrder, Delivery};
use crate::wire::leader::Progress;
use crate::wire::{Code, Violation};

/// Bytes received and not durable. The largest group must fit, and a few behind it.
const WINDOW_BYTES: usize = 32 << 20;
/// Bytes and blocks of groups that are submitted as one: one flush covers them, and they are acknowledged as one. The log writes
/// a submission in one commit group, and every block is padded, so both bounds together keep it well below the largest.
const SUBMIT_BYTES: usize = 1 << 20;
/// See [`SUBMIT_BYTES`].
const SUBMIT_BLOCKS: usize = 256;
/// Steps in the window; as many groups of one small block are a few hundred KiB.
const WINDOW_STEPS: usize = 4096;

const _: () = assert!(WINDOW_BYTES >= 2 * GROUP_BYTES_MAX);
const _: () = assert!(SUBMIT_BYTES + SUBMIT_BLOCKS * ALIGN_MIN * 2 < GROUP_BYTES_MAX);

/// What goes through the pipeline, in order.
enum Step {
    /// A whole group that ends before `end`.
    Group { blocks: Vec<Bytes>, end: Lsn, permit: OwnedSemaphorePermit },
    /// The leader had no more than this at its time `clock_ns`.
    CaughtUp { durable: Lsn, clock_ns: u64 },
}

/// What has been handed to the engine, in order.
enum Submitted {
    Groups { ticket: Ticket, end: Lsn, _permits: Vec<OwnedSemaphorePermit> },
    CaughtUp { durable: Lsn, clock_ns: u64 },
}

/// Why a stream of blocks ended.
#[derive(Debug)]
pub(super) enum ApplyEnd {
    /// The leader ended it, or the connection did.
    Stream(StreamError),
    /// The leader said why.
    Ended { code: Code, message: String },
    /// Going on is not possible.
    Stop(Stop),
}

/// Takes one stream of blocks into the log, until it ends. `progress` says what has come and what is durable.
pub(super) async fn run(
    log: Engine,
    reader: FrameReader,
    start: Lsn,
    lag: Arc<Lag>,
    progress: Arc<watch::Sender<Progress>>,
) -> ApplyEnd {
    let (to_submit, steps) = mpsc::channel(WINDOW_STEPS);
    let (to_settle, submitted) = mpsc::channel(WINDOW_STEPS);
    let submitting = tokio::task::spawn_blocking(move || submit(&log, steps, &to_settle));
    let settling = tokio::spawn(settle(submitted, lag, Arc::clone(&progress)));

    let received = receive(reader, start, to_submit, &progress).await;
    // The pipeline runs empty before anybody asks where the log ends. What stopped it inside counts more than what it made of
    // the stream.
    let submitted = submitting.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    let settled = settling.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    match (settled, submitted) {
        (Err(stop), _) | (Ok(()), Err(stop)) => ApplyEnd::Stop(stop),
        (Ok(()), Ok(())) => received,
    }
}

/// Takes frames off the stream and passes whole groups on.
async fn receive(
    mut reader: FrameReader,
    start: Lsn,
    to_submit: mpsc::Sender<Step>,
    progress: &watch::Sender<Progress>,
) -> ApplyEnd {
    let mut order = BlockOrder::new(start);
    let window = Arc::new(Semaphore::new(WINDOW_BYTES));
    let (mut blocks, mut bytes) = (Vec::new(), 0);
    loop {
        let frame = match reader.next().await {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                // A leader that gives a connection up lets its streams go first, so this can arrive before the reason: come again.
                let what = "the stream of blocks ends without End";
                return ApplyEnd::Stream(Violation::new(Code::HEARTBEAT_TIMEOUT, what).into());
            }
            Err(error) => return ApplyEnd::Stream(error),
        };
        let step = match order.handle_frame(&frame) {
            Err(violation) => return ApplyEnd::Stream(violation.into()),
            Ok(Delivery::Begun) => continue,
            Ok(Delivery::Ended { code, message }) => return ApplyEnd::Ended { code, message: printable(&message) },
            Ok(Delivery::CaughtUp { durable, clock_ns }) => Step::CaughtUp { durable, clock_ns },
            Ok(Delivery::Block { lsn, bytes: block, ends_group }) => {
                bytes += block.len();
                blocks.push(block);
                if !ends_group {
                    continue;
                }
                let needed = u32::try_from(bytes).expect("a group is bounded");
                let permit = Arc::clone(&window).acquire_many_owned(needed).await.expect("the window is never closed");
                bytes = 0;
                progress.send_modify(|progress| progress.received = lsn.next());
                Step::Group { blocks: std::mem::take(&mut blocks), end: lsn.next(), permit }
            }
        };
        if to_submit.send(step).await.is_err() {
            // The thread has stopped and says why.
            return ApplyEnd::Ended { code: Code::INTERNAL, message: "the log takes no blocks".into() };
        }
    }
}

/// Hands groups to the engine, several at once where they lie ready, so that one flush and one acknowledgement cover them.
fn submit(log: &Engine, mut steps: mpsc::Receiver<Step>, to_settle: &mpsc::Sender<Submitted>) -> Result<(), Stop> {
    let mut held = None;
    while let Some(step) = held.take().or_else(|| steps.blocking_recv()) {
        let submitted = match step {
            Step::CaughtUp { durable, clock_ns } => Submitted::CaughtUp { durable, clock_ns },
            Step::Group { mut blocks, mut end, permit } => {
                let mut permits = vec![permit];
                held = join_ready(&mut steps, &mut blocks, &mut end, &mut permits);
                let ticket = log.apply(blocks).map_err(|error| stop_for_apply(&error))?;
                Submitted::Groups { ticket, end, _permits: permits }
            }
        };
        if to_settle.blocking_send(submitted).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Puts the groups that lie ready behind these blocks, as long as all fit one submission; returns the step that did not.
fn join_ready(
    steps: &mut mpsc::Receiver<Step>,
    blocks: &mut Vec<Bytes>,
    end: &mut Lsn,
    permits: &mut Vec<OwnedSemaphorePermit>,
) -> Option<Step> {
    let size = |blocks: &[Bytes]| blocks.iter().map(Bytes::len).sum::<usize>();
    let mut bytes = size(blocks);
    while let Ok(step) = steps.try_recv() {
        match step {
            Step::Group { blocks: more, end: further, permit }
                if bytes + size(&more) <= SUBMIT_BYTES && blocks.len() + more.len() <= SUBMIT_BLOCKS =>
            {
                bytes += size(&more);
                blocks.extend(more);
                permits.push(permit);
                *end = further;
            }
            other => return Some(other),
        }
    }
    None
}

/// Waits for tickets in order: what is acknowledged is durable, here, up to there.
async fn settle(
    mut submitted: mpsc::Receiver<Submitted>,
    lag: Arc<Lag>,
    progress: Arc<watch::Sender<Progress>>,
) -> Result<(), Stop> {
    while let Some(next) = submitted.recv().await {
        match next {
            Submitted::Groups { ticket, end, .. } => {
                ticket.await.map_err(|error| stop_for_append(&error))?;
                progress.send_modify(|progress| progress.durable = end);
            }
            Submitted::CaughtUp { durable, clock_ns } => lag.caught_up(durable, clock_ns),
        }
    }
    Ok(())
}

fn stop_for_apply(error: &ApplyError) -> Stop {
    match error {
        ApplyError::Diverged { .. } => Stop::Diverged(error.to_string()),
        ApplyError::Append(error) => stop_for_append(error),
        _ => Stop::Corrupt(error.to_string()),
    }
}

fn stop_for_append(error: &AppendError) -> Stop {
    match error {
        AppendError::Closed => Stop::Closed,
        other => Stop::Halted(other.to_string()),
    }
}
