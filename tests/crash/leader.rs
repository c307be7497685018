//! A leader's run: single appends, batches within a block, over several blocks and over segments, some waited for one by one and
//! some many at a time, a clean close in the middle, and a second reign.

use std::cell::Cell;

use bytes::Bytes;
use walrus_node::sim::SimDisk;
use walrus_node::{Engine, FlushEvery, Level, Options, Ticket};

use crate::enumerate::{Recording, Writing};
use crate::oracle::{Batch, Submitted, mark_acknowledged};
use crate::random::Random;

/// The smallest segments: every few batches the log goes on into the next.
pub(crate) fn options(seed: u64) -> Options {
    let bytes = 64 << 10;
    // Without the scrub, which only reads: a thread less for each of so many opens.
    Options {
        segment_bytes_first: bytes,
        segment_bytes_max: bytes,
        seed: Some(seed),
        scrub: None,
        ..Options::default()
    }
}

const TOPICS: [&str; 3] = ["orders", "payments", "größen"];

/// Batches of the kinds that the format distinguishes.
pub(crate) fn batch(random: &mut Random, number: usize) -> Batch {
    let topic = TOPICS[random.below(TOPICS.len())];
    let (n, bytes) = match random.below(12) {
        0..=4 => (1, random.below(200)),
        5..=6 => (2 + random.below(30), random.below(100)),
        7 => (257 + random.below(40), random.below(12)),
        8 => (3, 9_000 + random.below(3_000)),
        9 => (4, 20_000 + random.below(20_000)),
        // Larger than a block of these segments: fragments.
        10 => (1, 58_000 + random.below(20_000)),
        _ => (2, 30_000 + random.below(40_000)),
    };
    let entry = |i| Bytes::from(format!("{number}.{i}/{n} {}", "x".repeat(bytes)));
    Batch {
        topic,
        entries: (0..n).map(entry).collect(),
        is_fed: bytes > 20_000 && random.below(2) == 0,
        level: Level::Durable,
    }
}

/// Nine blocks of these segments.
pub(crate) fn batch_of_many_blocks(number: usize) -> Batch {
    let entry = |i| Bytes::from(format!("{number}.{i}/9 {}", "y".repeat(50_000)));
    Batch { topic: TOPICS[0], entries: (0..9).map(entry).collect(), is_fed: false, level: Level::Durable }
}

/// The same as [`batch`], durable or written by a coin.
pub(crate) fn batch_of_any_level(random: &mut Random, number: usize) -> Batch {
    let batch = batch(random, number);
    let level = if random.below(3) == 0 { Level::Durable } else { Level::Written };
    Batch { level, ..batch }
}

/// Runs a leader and records it.
pub(crate) fn record(seed: u64) -> Recording {
    record_run(seed, &[14, 12], batch, |_| {})
}

/// Runs a leader with appends at both durability levels and records it.
pub(crate) fn record_mixed(seed: u64) -> Recording {
    record_run(seed, &[12, 10], batch_of_any_level, |_| {})
}

/// Runs a leader whose full segments are packed, again and again, and records it.
pub(crate) fn record_packing(seed: u64) -> Recording {
    let small = |random: &mut Random, number: usize| Batch { is_fed: number % 9 == 8, ..small_batch(random, number) };
    let saved = Cell::new(0);
    let recording = record_run(seed, &[22, 20], small, |log| saved.set(saved.get() + log.pack()));
    assert!(saved.get() > 0, "nothing was packed, so nothing is proven");
    recording
}

/// Nothing but padding in its blocks, or, now and then, a group of two.
fn small_batch(random: &mut Random, number: usize) -> Batch {
    let n = if random.below(8) == 0 { 257 } else { 1 + random.below(3) };
    let entries = (0..n).map(|i| Bytes::from(format!("{number}.{i}"))).collect();
    Batch { topic: TOPICS[random.below(TOPICS.len())], entries, is_fed: false, level: Level::Durable }
}

/// Runs a leader of a `written` log, whose single entries are acknowledged before their blocks, and records it.
pub(crate) fn record_early(seed: u64) -> Recording {
    let mut random = Random(seed);
    let disk = SimDisk::new(seed);
    let mut submitted = Submitted::default();
    for reign in 0..2 {
        let log = Engine::open_sim(&disk, early_options(seed + 100 * reign)).expect("the simulated disk opens");
        for _ in 0..if reign == 0 { 26 } else { 18 } {
            let batch = mostly_single(&mut random, submitted.batches.len());
            let level = batch.level;
            let ticket = batch.append(&log).expect("the log takes it");
            submitted.batches.push(batch);
            ticket.wait().expect("nothing fails here");
            mark_acknowledged(&disk, submitted.batches.len(), level);
            if random.below(8) == 0 {
                log.topics(); // waits until the blocks are written
            }
        }
        log.close().expect("nothing fails here");
        mark_acknowledged(&disk, submitted.batches.len(), Level::Durable);
    }
    let stores = (0..disk.trace_len()).filter(|at| disk.op(*at).contains(" early ")).count();
    assert!(stores > 60, "only {stores} stores into shared memory, so nothing is proven");
    Recording { disk, submitted, writing: Writing::Early }
}

pub(crate) fn early_options(seed: u64) -> Options {
    let flush_every = FlushEvery { entries: Some(20), interval: None };
    Options { level: Level::Written, flush_every, ..options(seed) }
}

/// Entries of their own, a few of them durable, and now and then a batch.
fn mostly_single(random: &mut Random, number: usize) -> Batch {
    let (n, level) = match random.below(12) {
        0 => (1, Level::Durable),
        1 => (3, Level::Written),
        _ => (1, Level::Written),
    };
    let bytes = random.below(700);
    let entries = (0..n).map(|i| Bytes::from(format!("{number}.{i}/{n} {}", "z".repeat(bytes)))).collect();
    Batch { topic: TOPICS[random.below(TOPICS.len())], entries, is_fed: false, level }
}

fn record_run(
    seed: u64,
    reigns: &[usize],
    batch: impl Fn(&mut Random, usize) -> Batch,
    now_and_then: impl Fn(&Engine),
) -> Recording {
    let mut random = Random(seed);
    let disk = SimDisk::new(seed);
    let mut submitted = Submitted::default();
    for (reign, batches) in reigns.iter().enumerate() {
        let options = Options {
            flush_every: FlushEvery { entries: Some(40), interval: None },
            ..options(seed + 100 * reign as u64)
        };
        let log = Engine::open_sim(&disk, options).expect("the simulated disk opens");
        let mut waiting: Vec<(usize, Level, Ticket)> = Vec::new();
        for _ in 0..*batches {
            let number = submitted.batches.len();
            let batch = batch(&mut random, number);
            if waiting.is_empty() && random.below(3) == 0 {
                batch.append_and_wait(&log, number).expect("nothing fails here");
                mark_acknowledged(&disk, number + 1, batch.level);
            } else {
                waiting.push((number, batch.level, batch.append(&log).expect("the log takes it")));
            }
            submitted.batches.push(batch);
            // The second reign waits rarely: groups are in flight when a segment ends and the hint moves.
            if random.below(6) > [1, 4][reign] {
                acknowledge(&disk, &mut waiting);
                now_and_then(&log);
            }
        }
        acknowledge(&disk, &mut waiting);
        log.close().expect("nothing fails here");
        mark_acknowledged(&disk, submitted.batches.len(), Level::Durable); // a clean close has flushed everything
    }
    Recording { disk, submitted, writing: Writing::Leader }
}

/// Waits for every ticket and notes it in the recording: from here on the batch must never be missing, or only after a power cut
/// if it was acknowledged as written. The last first: its acknowledgement is one for all before it, so one that is answered out of
/// order is a promise too early.
fn acknowledge(disk: &SimDisk, waiting: &mut Vec<(usize, Level, Ticket)>) {
    for (number, level, ticket) in waiting.drain(..).rev() {
        ticket.wait().expect("nothing fails here");
        mark_acknowledged(disk, number + 1, level);
    }
}
