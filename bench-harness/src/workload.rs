//! Load on a log: so many appends outstanding, for so long.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use serde::Serialize;
use walrus_node::{Engine, ReadLimit, Ticket};

/// One kind of load. The window is kept full: the next append goes out when the oldest is durable.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Workload {
    /// Tickets in flight.
    pub(crate) outstanding: usize,
    /// Entries in a batch; 1 is a lone append.
    pub(crate) batch_entries: usize,
    pub(crate) entry_bytes: usize,
}

/// What came of it. Every entry counted here is durable.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    #[serde(flatten)]
    pub(crate) workload: Workload,
    pub(crate) topic: String,
    pub(crate) entries: u64,
    pub(crate) seconds: f64,
    pub(crate) entries_per_second: f64,
    /// From the append to the moment its ticket was seen answered, in order; batches where there are batches.
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// Appends for `time`, then waits for what is in flight.
pub(crate) fn run(log: &Engine, workload: Workload, time: Duration) -> Result<Run> {
    let Workload { outstanding, batch_entries, entry_bytes } = workload;
    let topic = format!("{outstanding} outstanding, {batch_entries} x {entry_bytes}");
    let mut window: VecDeque<(Instant, Ticket)> = VecDeque::with_capacity(outstanding);
    let (mut took, mut entries) = (Vec::new(), 0);
    let start = Instant::now();
    loop {
        let goes_on = start.elapsed() < time;
        if goes_on && window.len() < outstanding {
            let batch = (0..batch_entries as u64).map(|i| entry(entries + i, entry_bytes)).collect();
            entries += batch_entries as u64;
            let sent_at = Instant::now();
            window.push_back((sent_at, log.append_batch(&topic, batch)?));
            continue;
        }
        let Some((sent_at, ticket)) = window.pop_front() else { break };
        ticket.wait().context("an append failed under load")?;
        took.push(sent_at.elapsed());
    }
    let seconds = start.elapsed().as_secs_f64();
    took.sort_unstable();
    let percentile = |share: f64| took.get((took.len() as f64 * share) as usize).map_or(0.0, |t| t.as_secs_f64() * 1e6);
    let (p50_us, p99_us) = (percentile(0.5), percentile(0.99));
    Ok(Run { workload, topic, entries, seconds, entries_per_second: entries as f64 / seconds, p50_us, p99_us })
}

/// The entry of a number: the number, then bytes that follow from it, so that a wrong entry is told from the right one.
fn entry(number: u64, bytes: usize) -> Bytes {
    let mut entry = Vec::with_capacity(bytes);
    let mut state = number;
    while entry.len() < bytes {
        entry.extend_from_slice(&state.to_le_bytes());
        state = state.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31).wrapping_add(1);
    }
    entry.truncate(bytes);
    entry.into()
}

/// What was read back.
#[derive(Debug, Serialize)]
pub(crate) struct ReadBack {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    pub(crate) megabytes_per_second: f64,
}

/// Reads everything back and compares every byte with what was appended.
pub(crate) fn read_back(log: &Engine, runs: &[Run]) -> Result<ReadBack> {
    let (start, mut entries, mut bytes) = (Instant::now(), 0, 0);
    for run in runs {
        let mut next = 0;
        loop {
            let read = log.read(&run.topic, next, ReadLimit::default())?;
            let Some(last) = read.last() else { break };
            for got in &read {
                let expected = entry(got.offset, run.workload.entry_bytes);
                ensure!(got.payload == expected, "entry {} of {} came back with other bytes", got.offset, run.topic);
                bytes += got.payload.len() as u64;
            }
            next = last.offset + 1;
        }
        ensure!(next == run.entries, "{} entries of {} were acknowledged, {next} came back", run.entries, run.topic);
        entries += next;
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(ReadBack { entries, bytes, seconds, megabytes_per_second: bytes as f64 / 1e6 / seconds })
}
