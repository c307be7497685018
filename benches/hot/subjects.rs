//! What is counted and timed: each a closure that can be called again and again, and the work of getting it ready.
//!
//! ```text
//!   pure    encode, decode, checksum, plan, index     the engine's files, compiled into this program
//!   engine  append, read, recovery scan               the public interface, in a folder on the disk
//! ```
//!
//! The engine works through plain system calls here: what the kernel does is in no count, so that only the program's own part is, and
//! a ring would share that part with threads of the kernel. In the times it is, so those of the engine are mostly the disk's.
//!
//! Knows nothing of who counts, or of clocks.

use std::collections::VecDeque;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;
use walrus_node::{AppendOptions, Engine, IoMode, Options, ReadLimit, Viewer};

use crate::commit::plan::{BlockLimit, shape};
use crate::commit::submission::{Append, Level, Payload, Payloads, Submission, TopicSlot};
use crate::commit::ticket::ticket;
use crate::format::base::Base;
use crate::format::block::{
    BlockView, ENVELOPE_BYTES, EntryIn, Envelope, Head, Kind, Place, encode_portable, entry_flags, portable_len, seal,
    total_len,
};
use crate::format::checksum::payload_sum;
use crate::format::control::TopicDefinition;
use crate::format::index::SegmentIndex;
use crate::format::meta::{BlockMeta, Run};
use crate::format::segment::SegmentHeader;
use crate::ids::{Chain, Epoch, Incarnation, LogId, SegmentNo, TopicId};
use crate::limits::BLOCK_BYTES_MAX;
use crate::log::meta::Sink;
use crate::lsn::{Lsn, Position};
use crate::topic::index::Index;

/// One call of what is counted.
pub(crate) type Work = Box<dyn FnMut()>;

/// One thing that is counted and timed.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    /// How often it is called for a count.
    pub(crate) calls: u32,
    pub(crate) prepare: fn() -> Work,
}

pub(crate) const SUBJECTS: &[Subject] = &[
    Subject { name: "encode a block of 1 x 256 B", calls: 100, prepare: || encode(1) },
    Subject { name: "encode a block of 256 x 256 B", calls: 20, prepare: || encode(256) },
    Subject { name: "decode a block of 1 x 256 B", calls: 100, prepare: || decode(1) },
    Subject { name: "decode a block of 256 x 256 B", calls: 20, prepare: || decode(256) },
    Subject { name: "checksum of 100 B", calls: 1000, prepare: || checksum(100) },
    Subject { name: "checksum of 4 KiB", calls: 100, prepare: || checksum(4 << 10) },
    Subject { name: "checksum of 64 KiB", calls: 20, prepare: || checksum(64 << 10) },
    Subject { name: "plan a group of 64 lone appends", calls: 100, prepare: || plan(64, 1) },
    Subject { name: "plan a group of one batch of 2,000", calls: 100, prepare: || plan(1, 2000) },
    Subject { name: "index: publish 64 blocks", calls: 20, prepare: publish },
    Subject { name: "index: write that of 1,000 blocks", calls: 10, prepare: write_index },
    Subject { name: "index: parse that of 1,000 blocks", calls: 10, prepare: parse_index },
    Subject { name: "append 1 x 256 B, alone", calls: 200, prepare: || append(1) },
    Subject { name: "append 256 x 256 B, alone", calls: 20, prepare: || append(256) },
    Subject { name: "read 256 x 256 B", calls: 20, prepare: read },
    Subject { name: "recovery scan of 200 blocks", calls: 3, prepare: recovery_scan },
];

// -- blocks ---------------------------------------------------------------------------------------------------------------

const LOG: LogId = LogId::new(0x1234_5678_9abc_def0_1111);
const ALIGN: usize = 4096;
const TOPIC: TopicId = TopicId::new(1);

fn place() -> Place {
    Place { log_id: LOG, salt: 77, position: Position::new(SegmentNo::new(1), 4096), align: ALIGN }
}

fn payload(bytes: usize) -> Bytes {
    (0..bytes).map(|i| (i * 31) as u8).collect()
}

/// Writes a block of entries as it goes to disk: what the commit thread does with it.
fn write_block(out: &mut [u8], payloads: &[Payload], portable: usize) {
    let head = Head {
        kind: Kind::Data,
        epoch: Epoch::new(3),
        lsn: Lsn::new(9),
        ts_ns: 1000,
        prev_chain: Chain::new(5),
        remaining: 0,
        txn: None,
    };
    let entries = payloads.iter().zip(100..).map(|(payload, offset)| EntryIn {
        topic: TOPIC,
        offset,
        flags: payload.flags,
        sum: payload.sum,
        payload: &payload.bytes,
    });
    encode_portable(&mut out[ENVELOPE_BYTES..][..portable], LOG, &head, entries, payloads.len());
    let position = place().position;
    let envelope = Envelope { incarnation: Incarnation::new(6), position, durable_lsn: Lsn::new(8) };
    seal(out, place().salt, &envelope, portable);
}

fn payloads(n: usize) -> Vec<Payload> {
    vec![Payload::new(payload(256), entry_flags::WHOLE); n]
}

fn encode(n: usize) -> Work {
    let payloads = payloads(n);
    let portable = portable_len(n, n * 256);
    let mut out = vec![0; total_len(portable, ALIGN)];
    Box::new(move || {
        write_block(black_box(&mut out), black_box(&payloads), portable);
        black_box(&out);
    })
}

fn decode(n: usize) -> Work {
    let portable = portable_len(n, n * 256);
    let mut block = vec![0; total_len(portable, ALIGN)];
    write_block(&mut block, &payloads(n), portable);
    Box::new(move || {
        let view = BlockView::parse(black_box(&block), &place()).expect("it was just written");
        view.portable.verify_payloads().expect("it was just written");
        black_box(view.portable.entries().count());
    })
}

fn checksum(bytes: usize) -> Work {
    let payload = payload(bytes);
    Box::new(move || {
        black_box(payload_sum(black_box(&payload)));
    })
}

// -- plans ----------------------------------------------------------------------------------------------------------------

/// Shapes a group of so many appends with so many entries each.
fn plan(appends: usize, entries_each: usize) -> Work {
    let topic = TopicSlot::undefined("t");
    topic.define(TOPIC);
    let topic = Arc::new(topic);
    let append = |_| {
        Submission::Append(Append {
            topic: Arc::clone(&topic),
            payloads: Payloads::of(vec![payload(256); entries_each], BLOCK_BYTES_MAX / 2),
            n_entries: entries_each,
            payload_bytes: entries_each * 256,
            level: Level::Durable,
            expect_offset: None,
            staging: None,
            reply: ticket().1,
        })
    };
    let waiting: VecDeque<_> = (0..appends).map(append).collect();
    let limit = BlockLimit { align: ALIGN, bytes_max: BLOCK_BYTES_MAX };
    Box::new(move || {
        let group = shape(black_box(&waiting), limit);
        assert_eq!(group.taken, waiting.len());
        black_box(group);
    })
}

// -- indexes --------------------------------------------------------------------------------------------------------------

const FIRST_BLOCK: Position = Position::new(SegmentNo::new(1), ALIGN as u32);

fn block_meta(number: u32, kind: Kind, runs: Vec<Run>, control: Option<Vec<u8>>) -> BlockMeta {
    BlockMeta {
        lsn: Lsn::FIRST.plus(number.into()),
        position: FIRST_BLOCK.checked_add(number * ALIGN as u32).expect("a segment holds them"),
        total_len: ALIGN as u32,
        body_len: 3000,
        chain: Chain::new(u64::from(number) * 7),
        ts_ns: u64::from(number) * 100,
        kind,
        remaining: 0,
        txn: None,
        runs,
        control,
    }
}

/// A TOPIC block, and `n` blocks of ten entries behind it.
fn block_metas(n: u32) -> Vec<BlockMeta> {
    let definition = TopicDefinition { id: TOPIC, name: "t".to_owned() }.encode();
    let mut blocks = vec![block_meta(0, Kind::Topic, Vec::new(), Some(definition))];
    blocks.extend((0..n).map(|i| {
        let run = Run { topic: TOPIC, first_offset: u64::from(i) * 10, entries: 10 };
        block_meta(1 + i, Kind::Data, vec![run], None)
    }));
    blocks
}

/// A new index each time: one that went on growing would not do the same work twice.
fn publish() -> Work {
    let (first_lsn, first_position, chain) = (Lsn::FIRST, FIRST_BLOCK, Chain::START);
    let base = Base { first_lsn, first_position, chain, lineage: Vec::new(), topics: Vec::new() };
    let blocks = block_metas(64);
    Box::new(move || {
        let index = Index::new(&base);
        blocks.iter().for_each(|block| index.publish(std::slice::from_ref(black_box(block))));
        black_box(index);
    })
}

fn segment_index() -> SegmentIndex {
    let header = SegmentHeader {
        align: ALIGN as u32,
        log_id: LOG,
        number: SegmentNo::new(1),
        bytes: 16 << 20,
        packed: false,
        generation: 1,
        salt: 9,
        prepared_ts_ns: 5,
    };
    SegmentIndex { header, incarnation: Incarnation::new(4), prev_chain: Chain::START, blocks: block_metas(1000) }
}

fn write_index() -> Work {
    let index = segment_index();
    Box::new(move || {
        black_box(black_box(&index).encode().expect("it has blocks"));
    })
}

fn parse_index() -> Work {
    let bytes = segment_index().encode().expect("it has blocks");
    Box::new(move || {
        black_box(SegmentIndex::parse(black_box(&bytes)).expect("it was just written"));
    })
}

// -- the engine -----------------------------------------------------------------------------------------------------------

fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder can be made in the target directory")
}

fn open(path: &Path, segment_bytes_first: u64) -> Engine {
    let options =
        Options { io: IoMode::Syscall, scrub: None, seed: Some(1), segment_bytes_first, ..Options::default() };
    Engine::open(path, options).expect("the log opens")
}

fn append_to(log: &Engine, entries: &[Bytes]) {
    log.append_and_wait("t", entries.to_vec(), AppendOptions::default()).expect("it is durable");
}

/// A caller who waits, with nobody else there: he commits in his own thread.
fn append(n: usize) -> Work {
    let (folder, entries) = (folder(), vec![payload(256); n]);
    let log = open(folder.path(), 16 << 20);
    append_to(&log, &entries);
    Box::new(move || {
        let _alive = &folder;
        append_to(&log, black_box(&entries));
    })
}

fn read() -> Work {
    let folder = folder();
    let log = open(folder.path(), 16 << 20);
    append_to(&log, &vec![payload(256); 256]);
    Box::new(move || {
        let _alive = &folder;
        let entries = log.read("t", 0, ReadLimit::default()).expect("they are there");
        assert_eq!(black_box(entries).len(), 256);
    })
}

/// Looks at all that a killed process has left: its files as they stood while it ran. The blocks fill most of the first segment; the rest
/// of it and two spares are searched for what may stand behind them.
fn recovery_scan() -> Work {
    const BLOCKS: u64 = 200;
    let (alive, left) = (folder(), folder());
    let log = open(alive.path(), 1 << 20);
    (0..BLOCKS).for_each(|_| append_to(&log, &vec![payload(256); 10]));
    while segments(alive.path()) < 3 {
        std::thread::yield_now(); // another thread makes the spares
    }
    copy_folder(alive.path(), left.path()).expect("a folder can be copied");
    drop(log);
    Box::new(move || {
        let viewer = Viewer::open(left.path(), IoMode::Syscall).expect("there is a log");
        let found = viewer.verification();
        assert!(found.is_ok() && found.entries == BLOCKS * 10, "{found:?}");
        black_box(viewer);
    })
}

fn segments(path: &Path) -> usize {
    let names = path.join("wal").read_dir().expect("the log has its folder");
    names.filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().extension() == Some("seg".as_ref()))).count()
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in from.read_dir()? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            std::fs::create_dir(&target)?;
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
