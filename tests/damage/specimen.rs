//! The logs that are damaged.

use std::collections::BTreeMap;

use bytes::Bytes;
use walrus_node::sim::{SimDisk, Survivors};
use walrus_node::{Engine, Options, Ticket, Viewer};

use crate::layout::{Block, SEGMENT_BYTES, blocks, hint_lsn};

/// A log, and everything that is to be known of it.
pub(crate) struct Specimen {
    pub(crate) name: &'static str,
    pub(crate) disk: SimDisk,
    pub(crate) closed: bool,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// By topic number, from 1: its name and its entries.
    pub(crate) topics: Vec<(&'static str, Vec<Bytes>)>,
    /// Live blocks by LSN, from 1.
    pub(crate) blocks: Vec<Block>,
    pub(crate) hints: [u64; 2],
    /// What the disk held at earlier moments.
    pub(crate) earlier: Vec<BTreeMap<String, Vec<u8>>>,
}

impl Specimen {
    /// The end of the log: one behind its last block.
    pub(crate) fn end(&self) -> u64 {
        self.blocks.len() as u64 + 1
    }

    pub(crate) fn block(&self, lsn: u64) -> &Block {
        &self.blocks[lsn as usize - 1]
    }

    /// The first and the last LSN of the group that a block belongs to.
    pub(crate) fn group_of(&self, lsn: u64) -> std::ops::RangeInclusive<u64> {
        let last = lsn + u64::from(self.block(lsn).remaining);
        let inside = |first: &u64| *first > 1 && self.block(*first - 1).remaining > 0;
        let mut first = lsn;
        while inside(&first) {
            first -= 1;
        }
        first..=last
    }
}

fn options(seed: u64) -> Options {
    let bytes = SEGMENT_BYTES as u64;
    Options {
        segment_bytes_first: bytes,
        segment_bytes_max: bytes,
        seed: Some(seed),
        scrub: None,
        ..Options::default()
    }
}

fn read_all(disk: &SimDisk) -> BTreeMap<String, Vec<u8>> {
    let disk = disk.copy(); // at one moment: spares are being made
    disk.files().into_iter().map(|(name, _)| (name.clone(), disk.read_file(&name))).collect()
}

const TOPICS: [&str; 3] = ["orders", "payments", "größen"];

/// Appends, and remembers what it has appended.
#[derive(Default)]
struct Run {
    entries: [Vec<Bytes>; 3],
    /// Topic numbers are given in the order of first use.
    used: Vec<usize>,
    earlier: Vec<BTreeMap<String, Vec<u8>>>,
}

impl Run {
    fn append(&mut self, log: &Engine, topic: usize, n: usize) -> Ticket {
        let from = self.entries[topic].len();
        let batch: Vec<_> = (from..from + n).map(|i| Bytes::from(format!("{:x}", 16 * topic + i % 16))).collect();
        self.entries[topic].extend(batch.clone());
        if !self.used.contains(&topic) {
            self.used.push(topic);
        }
        log.append_batch(TOPICS[topic], batch).expect("the log takes it")
    }

    /// Appends one by one, each acknowledged before the next; remembers the disk as it was on the way.
    fn append_singly(&mut self, disk: &SimDisk, log: &Engine, sizes: &[(usize, usize)]) {
        for &(topic, n) in sizes {
            self.append(log, topic, n).wait().expect("nothing fails here");
            self.earlier.push(read_all(disk));
        }
    }

    fn specimen(self, name: &'static str, disk: SimDisk, closed: bool) -> Specimen {
        let files = read_all(&disk);
        let segments = files.iter().filter(|(name, _)| name.starts_with("wal/") && name.ends_with(".seg"));
        let blocks: Vec<_> = segments.flat_map(|(name, bytes)| blocks(name, bytes)).collect();
        assert!(blocks.iter().zip(1..).all(|(block, lsn)| block.lsn == lsn), "every block of the log is found");
        let slots = &files["superblock"];
        let hints = [hint_lsn(&slots[..4096]), hint_lsn(&slots[4096..])];
        let topics = self.used.iter().map(|topic| (TOPICS[*topic], self.entries[*topic].clone())).collect();
        let specimen = Specimen { name, disk, closed, files, topics, blocks, hints, earlier: self.earlier };
        specimen.check();
        specimen
    }
}

impl Specimen {
    /// What it must have, to prove anything.
    fn check(&self) {
        let segments: std::collections::BTreeSet<_> = self.blocks.iter().map(|block| block.segment).collect();
        assert!(segments.len() >= 2, "several segments");
        assert!(self.blocks.iter().any(|block| block.remaining > 0), "a batch of several blocks");
        assert!(self.blocks.iter().any(|block| block.total_len > 4096), "a block of several sectors");
        assert_eq!(self.blocks.iter().filter(|block| !block.is_data).count(), 2 + self.topics.len(), "reigns, topics");
        let entries: usize = self.blocks.iter().filter(|block| block.is_data).map(|block| block.entries.len()).sum();
        assert_eq!(
            entries,
            self.topics.iter().map(|(_, entries)| entries.len()).sum::<usize>(),
            "every entry has its block"
        );
    }
}

/// Which topic, how many entries. Few, and short: each of their bits costs two openings of the log.
const FIRST_REIGN: &[(usize, usize)] = &[(0, 1), (0, 3), (1, 258), (0, 1), (2, 1)];
const SECOND_REIGN: &[(usize, usize)] = &[(0, 1), (2, 2), (1, 1), (0, 1), (1, 2), (2, 1), (0, 1)];

/// Two reigns, both closed in order.
pub(crate) fn closed() -> Specimen {
    let disk = SimDisk::new(5);
    let mut run = Run::default();
    for (reign, sizes) in [FIRST_REIGN, SECOND_REIGN].into_iter().enumerate() {
        let log = Engine::open_sim(&disk, options(reign as u64)).expect("it opens");
        run.append_singly(&disk, &log, sizes);
        log.close().expect("nothing fails here");
    }
    let disk = disk.copy();
    run.specimen("closed in order", disk, true)
}

/// The first reign ends with a torn batch, which the second cuts off and erases; the second is killed behind an entry that no mark covers.
pub(crate) fn killed() -> Specimen {
    let disk = SimDisk::new(6);
    let mut run = Run::default();
    let log = Engine::open_sim(&disk, options(0)).expect("it opens");
    run.append_singly(&disk, &log, FIRST_REIGN);
    let whole = run.entries.clone();
    let before = disk.trace_len();
    run.append(&log, 1, 600).wait().expect("nothing fails here");
    let torn = tear(&disk, before..disk.trace_len());
    drop(log);
    run.entries = whole;
    run.earlier.push(read_all(&torn));

    let log = Engine::open_sim(&torn, options(1)).expect("it opens");
    assert!(torn.files().iter().any(|(name, _)| name.starts_with("quarantine/")), "the torn batch was set aside");
    run.append_singly(&torn, &log, SECOND_REIGN);
    let disk = torn.kill(torn.trace_len(), 1);
    drop(log);
    run.specimen("killed", disk, false)
}

/// A crash during the last batch, after which some of its later blocks are there and its first is not.
fn tear(disk: &SimDisk, during: std::ops::Range<usize>) -> SimDisk {
    let crashes =
        during.rev().flat_map(|at| (0..disk.pending_sectors(at)).map(move |sector| (at, Survivors::Missing(sector))));
    let torn = |crashed: &SimDisk| {
        let viewer = Viewer::open_sim(crashed).expect("a crash does no damage");
        viewer.verification().torn_tail_bytes > 4096
    };
    crashes.map(|(at, survivors)| disk.crash(at, &survivors)).find(torn).expect("some crash tears the batch")
}
