//! A leader's run that gives segments away: in its first reign when somebody asks, in the second by the bytes that it keeps. Segments
//! come round as spares in both.

use walrus_node::sim::SimDisk;
use walrus_node::{Engine, Level, Lsn, Options, Ticket};

use crate::enumerate::{Recording, Writing};
use crate::leader::{self, batch};
use crate::oracle::{Submitted, mark_acknowledged, mark_gone, mark_may_go};
use crate::random::Random;

/// Segments of 64 KiB, three of them kept.
pub(crate) fn options(seed: u64) -> Options {
    Options { retain_bytes: Some(3 * (64 << 10)), ..leader::options(seed) }
}

/// Runs it and records it.
pub(crate) fn record(seed: u64) -> Recording {
    let mut run =
        Run { disk: SimDisk::new(seed), submitted: Submitted::default(), lsns: Vec::new(), waiting: Vec::new() };
    let mut random = Random(seed ^ 0x7e7e);
    let log = Engine::open_sim(&run.disk, leader::options(seed)).expect("the simulated disk opens");
    for i in 0..16 {
        run.append(&log, &mut random);
        if random.below(3) == 0 {
            run.acknowledge();
        }
        if i % 5 == 4 {
            run.acknowledge();
            run.trim(&log, random.below(4));
        }
    }
    run.acknowledge();
    log.close().expect("nothing fails here");
    drop(log);

    // From here on it gives away by itself, also what it has acknowledged before we have noted that.
    mark_may_go(&run.disk, run.submitted.batches.len());
    let log = Engine::open_sim(&run.disk, options(seed + 100)).expect("the simulated disk opens");
    for _ in 0..14 {
        run.append(&log, &mut random);
        mark_may_go(&run.disk, run.submitted.batches.len());
        if random.below(2) == 0 {
            run.acknowledge();
        }
    }
    run.acknowledge();
    run.note_gone(log.status().first_lsn);
    log.close().expect("nothing fails here");
    let recycled = |at: &usize| run.disk.op(*at).contains(".seg to wal/spare-");
    let times = (0..run.disk.trace_len()).filter(recycled).count();
    assert!(times >= 3, "segments came round {times} times only: too few to prove anything");
    Recording { disk: run.disk, submitted: run.submitted, writing: Writing::Trimming }
}

/// Gives away everything that can be, in a second run; what may go has been noted.
pub(crate) fn trim_and_close(log: &Engine) -> Result<(), String> {
    log.trim(log.tip().lsn).map_err(|error| error.to_string())?;
    log.close().map_err(|error| error.to_string())
}

struct Run {
    disk: SimDisk,
    submitted: Submitted,
    /// Of the last block of each batch that was acknowledged.
    lsns: Vec<Lsn>,
    waiting: Vec<Ticket>,
}

impl Run {
    fn append(&mut self, log: &Engine, random: &mut Random) {
        let batch = batch(random, self.submitted.batches.len());
        self.waiting.push(batch.append(log).expect("the log takes it"));
        self.submitted.batches.push(batch);
    }

    fn acknowledge(&mut self) {
        for ticket in self.waiting.drain(..) {
            self.lsns.push(ticket.wait().expect("nothing fails here").lsn);
            mark_acknowledged(&self.disk, self.lsns.len(), Level::Durable);
        }
    }

    /// Asks for all but the last so many batches to go.
    fn trim(&self, log: &Engine, all_but: usize) {
        let first_needed = self.lsns.len() - 1 - all_but;
        mark_may_go(&self.disk, first_needed);
        let first = log.trim(self.lsns[first_needed]).expect("nothing fails here");
        assert!(first <= self.lsns[first_needed]);
        self.note_gone(first);
    }

    /// Somebody was told that the log begins at `first`.
    fn note_gone(&self, first: Lsn) {
        mark_gone(&self.disk, self.lsns.iter().filter(|lsn| **lsn < first).count());
    }
}
