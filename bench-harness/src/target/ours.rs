//! This log, in this process.
//!
//! One batch at a time goes by `append_and_wait`, several by tickets. The log is opened with its defaults but for what the case asks for
//! (durability, I/O) and, where appends are measured, with a bound on its size: it is filled up to that bound first, so that within the
//! window it goes on into segments that it has used before, as a log that has run for a while does, and writes no zeros beside the load.
//!
//! Knows the library's public names only.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use walrus_node::{AppendOptions, BATCH_ENTRIES_MAX, Engine, IoMode, Level, Options, ReadError, ReadLimit, Ticket};

use super::{Counters, Kind, Producer, ReadBack, Target};
use crate::payload::{Payloads, Turns};
use crate::result::Spec;

/// What a log of a case keeps: some seconds of lone appends, in segments of 64 MiB.
const KEEP_BYTES: u64 = 512 << 20;
/// The same where the device's bandwidth is the bound: segments of 256 MiB.
const KEEP_BYTES_WIDE: u64 = 2 << 30;
/// So much in flight, and bandwidth it is.
const WIDE_BYTES: u64 = 256 << 10;

/// The topic of what is there before the load.
pub(super) const BEFORE: &str = "before";
pub(super) const BEFORE_BATCH: u32 = 16;
pub(super) const BEFORE_ENTRY_BYTES: u64 = 64 << 10;
pub(super) const BEFORE_IN_FLIGHT: usize = 8;

/// walrus-node, embedded.
pub(crate) struct Ours {
    /// Fill a log up to its bound before the load. A smoke run does not: it looks at counts, not at speed.
    pub(crate) fills_before: bool,
}

impl Ours {
    /// What the log keeps in this case; `None` is everything.
    pub(super) fn keep_bytes(&self, spec: &Spec) -> Option<u64> {
        let in_flight =
            spec.payload_bytes * u64::from(spec.batch) * u64::from(spec.producers) * u64::from(spec.outstanding);
        let is_append = matches!(spec.kind.as_str(), "durable" | "written");
        let keep = if in_flight >= WIDE_BYTES { KEEP_BYTES_WIDE } else { KEEP_BYTES };
        (self.fills_before && is_append).then_some(keep)
    }
}

impl Kind for Ours {
    fn name(&self) -> String {
        "walrus-node".into()
    }

    fn refuses(&self, spec: &Spec) -> Option<String> {
        if spec.network || spec.followers > 0 {
            return Some("it is embedded here; a connection and followers take the node".into());
        }
        if spec.batch as usize > BATCH_ENTRIES_MAX {
            return Some(format!("a batch has at most {BATCH_ENTRIES_MAX} entries, not {}", spec.batch));
        }
        spec.io.parse::<IoMode>().err().map(|error| error.to_string())
    }

    fn open(&self, folder: &Path, spec: &Spec) -> Result<Box<dyn Target>> {
        let level = if spec.kind == "written" { Level::Written } else { Level::Durable };
        let keep = self.keep_bytes(spec);
        let options = Options { io: spec.io.parse()?, level, retain_bytes: keep, ..Options::default() };
        let log = Engine::open(folder, options).with_context(|| format!("opening the log in {}", folder.display()))?;
        if let Some(keep) = keep {
            fill_before(&log, keep).context("filling the log up to its bound before the load")?;
        }
        let topics = (0..spec.topics).map(|topic| format!("topic-{topic}")).collect();
        Ok(Box::new(OurLog { log, topics, keep, is_pipelined: spec.outstanding > 1, given_away: AtomicU64::new(0) }))
    }
}

/// Large batches until the log has what it keeps, and a little more: then its oldest segments have come back once.
fn fill_before(log: &Engine, keep: u64) -> Result<()> {
    let mut payloads = Payloads::new(0, 0, 1, BEFORE_ENTRY_BYTES);
    let mut in_flight = VecDeque::new();
    let mut bytes = 0;
    while bytes < keep + keep / 4 {
        let mut batch = Vec::new();
        payloads.fill(&mut batch, BEFORE_BATCH);
        bytes += BEFORE_ENTRY_BYTES * u64::from(BEFORE_BATCH);
        in_flight.push_back(log.append_batch(BEFORE, batch)?);
        if in_flight.len() == BEFORE_IN_FLIGHT {
            in_flight.pop_front().expect("there are some").wait()?;
        }
    }
    in_flight.into_iter().try_for_each(|ticket| ticket.wait().map(drop))?;
    log.flush()?.wait()?;
    Ok(())
}

struct OurLog {
    log: Engine,
    topics: Vec<String>,
    keep: Option<u64>,
    is_pipelined: bool,
    /// Entries that the last read back did not find, for the log had given them away.
    given_away: AtomicU64,
}

impl Target for OurLog {
    fn settings(&self) -> String {
        let status = self.log.status();
        let way = if self.is_pipelined { "tickets" } else { "append_and_wait" };
        let kept = self.keep.map_or("everything is kept".into(), |bytes| {
            let mib = bytes >> 20;
            format!("retain_bytes {mib} MiB, filled to {} MiB before the load", mib + mib / 4)
        });
        format!("io {}, {}; {}; {way}; {kept}", status.io, status.durability, status.flush)
    }

    fn producer(&self, _number: u32) -> Result<Box<dyn Producer + '_>> {
        Ok(Box::new(OurProducer { log: &self.log, topics: &self.topics, in_flight: VecDeque::new() }))
    }

    fn counters(&self) -> Counters {
        let status = self.log.status();
        Counters {
            groups: Some(status.groups),
            flushes: Some(status.flushes),
            syscalls: (status.syscalls > 0).then_some(status.syscalls),
        }
    }

    fn read_first(&self) -> Result<()> {
        let first = self.log.topics().into_iter().find(|topic| topic.first_offset < topic.next_offset);
        let first = first.ok_or_else(|| anyhow!("there is no entry in the log"))?;
        let read = self.log.read(&first.name, first.first_offset, ReadLimit { entries: 1, bytes: 1 })?;
        ensure!(read.len() == 1, "{} entries came where one was asked for", read.len());
        Ok(())
    }

    fn read_back(&self) -> Result<ReadBack> {
        let (mut back, mut given_away) = (ReadBack::default(), 0);
        for topic in &self.topics {
            // A topic that no batch went to is not there.
            let Some(info) = self.log.topic(topic) else { continue };
            // Several topics share the turns of a producer.
            let mut turns = (self.topics.len() == 1).then(Turns::default);
            let mut next = 0;
            while next < info.next_offset {
                let entries = match self.log.read(topic, next, ReadLimit::default()) {
                    // The log keeps its bound a moment after the load, too.
                    Err(ReadError::Trimmed { first_offset, .. }) => {
                        given_away += first_offset - next;
                        (next, turns) = (first_offset, turns.map(|_| Turns::default()));
                        continue;
                    }
                    read => read?,
                };
                for entry in &entries {
                    ensure!(entry.offset == next, "topic {topic}: offset {next} was to come, {} came", entry.offset);
                    turns.as_mut().map_or(Ok(()), |turns| turns.see(&entry.payload))?;
                    back.payload_bytes += entry.payload.len() as u64;
                    next += 1;
                }
                ensure!(!entries.is_empty(), "topic {topic}: nothing came at offset {next} of {}", info.next_offset);
                back.entries += entries.len() as u64;
            }
        }
        self.given_away.store(given_away, Ordering::Relaxed);
        Ok(back)
    }

    fn given_away(&self) -> u64 {
        self.given_away.load(Ordering::Relaxed)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.log.close()?)
    }
}

struct OurProducer<'a> {
    log: &'a Engine,
    topics: &'a [String],
    in_flight: VecDeque<Ticket>,
}

impl OurProducer<'_> {
    fn topic(&self, topic: u32) -> &str {
        &self.topics[topic as usize]
    }
}

impl Producer for OurProducer<'_> {
    fn append(&mut self, topic: u32, batch: &[Bytes]) -> Result<()> {
        self.log.append_and_wait(self.topic(topic), batch.to_vec(), AppendOptions::default())?;
        Ok(())
    }

    fn send(&mut self, topic: u32, batch: &[Bytes]) -> Result<()> {
        let ticket = self.log.append_batch(self.topic(topic), batch.to_vec())?;
        self.in_flight.push_back(ticket);
        Ok(())
    }

    fn wait_oldest(&mut self) -> Result<()> {
        let ticket = self.in_flight.pop_front().ok_or_else(|| anyhow!("nothing is in flight"))?;
        ticket.wait()?;
        Ok(())
    }
}
