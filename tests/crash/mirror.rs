//! A follower's run: the blocks of a leader's log, in pieces of whole groups, and the same blocks again after every crash.

use bytes::Bytes;
use walrus_node::sim::SimDisk;
use walrus_node::{Engine, LogId, Lsn};

use crate::enumerate::{Recording, Writing};
use crate::leader::{batch, options};
use crate::oracle::Submitted;
use crate::random::Random;

/// A leader's log as its followers get it.
#[derive(Clone)]
pub(crate) struct History {
    pub(crate) log_id: LogId,
    /// Whole atomic groups, each with the number of batches that are whole once it is there.
    pub(crate) groups: Vec<Group>,
}

#[derive(Clone)]
pub(crate) struct Group {
    pub(crate) first_lsn: Lsn,
    pub(crate) blocks: Vec<Bytes>,
    pub(crate) batches: usize,
}

/// A leader's history of `batches` batches, and what was submitted to it.
pub(crate) fn leader_history(seed: u64, batches: usize) -> (History, Submitted) {
    let mut random = Random(seed ^ 0xf0f0);
    let log = Engine::open_sim(&SimDisk::new(seed), options(seed)).expect("the simulated disk opens");
    let (mut submitted, mut ends) = (Submitted::default(), Vec::new());
    for number in 0..batches {
        let batch = batch(&mut random, number);
        let ticket = batch.append(&log).expect("the log takes it");
        ends.push(ticket.wait().expect("nothing fails here").lsn);
        submitted.batches.push(batch);
    }
    let (mut groups, mut blocks, mut next) = (Vec::new(), Vec::new(), Lsn::FIRST);
    while next < log.tip().lsn {
        for block in log.portable_blocks(next, 0).expect("its blocks can be read") {
            blocks.push(block.bytes);
            next = block.lsn.next();
            if block.remaining == 0 {
                let blocks = std::mem::take(&mut blocks);
                let first_lsn = Lsn::new(next.get() - blocks.len() as u64);
                groups.push(Group { first_lsn, blocks, batches: ends.iter().filter(|lsn| **lsn < next).count() });
            }
        }
    }
    (History { log_id: log.status().log_id, groups }, submitted)
}

/// Runs a follower and records it.
pub(crate) fn record(seed: u64) -> Recording {
    let (history, submitted) = leader_history(seed, 16);
    let disk = SimDisk::new(seed);
    let mut random = Random(seed ^ 0xabcd);
    let half = history.groups.len() / 2;
    for part in [&history.groups[..half], &history.groups[half..]] {
        let log =
            Engine::open_mirror_sim(&disk, Some(history.log_id), options(seed)).expect("the simulated disk opens");
        let mut waiting = Vec::new();
        for group in part {
            waiting.push((group.batches, log.apply(group.blocks.clone()).expect("the leader's blocks are good")));
            if random.below(3) > 0 {
                for (batches, ticket) in waiting.drain(..).rev() {
                    ticket.wait().expect("nothing fails here");
                    disk.mark(batches as u64);
                }
            }
        }
        log.close().expect("nothing fails here");
    }
    Recording { disk, submitted, writing: Writing::Mirror(history) }
}

/// Applies everything that a follower does not have yet, the very same bytes. Returns how many batches are durable then.
pub(crate) fn catch_up(log: &Engine, history: &History, groups_max: usize) -> usize {
    let next = log.tip().lsn;
    let mut batches = 0;
    for group in history.groups.iter().filter(|group| group.first_lsn >= next).take(groups_max) {
        log.apply(group.blocks.clone()).expect("what follows its end is taken").wait().expect("nothing fails here");
        batches = group.batches;
    }
    batches
}
