//! Putting a log together: recover, take over, start the threads, and, on a leader, begin a reign.
//!
//! Layer: engine. The order in which things start stands here and nowhere else.

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::applied::Applied;
use super::reign::PendingReign;
use super::{Engine, Inner, Options};
use crate::commit::alarm::Alarm;
use crate::commit::committer::Committer;
use crate::commit::flushing::{FlushEvery, Pace};
use crate::commit::next_tail::NextTail;
use crate::commit::plan::BlockLimit;
use crate::commit::progress::Progress;
use crate::commit::queue::Queue;
use crate::commit::submission::Level;
use crate::commit::writer::{HaltReason, Writer, WriterState};
use crate::entropy::Entropy;
use crate::format::superblock::{Role, Superblock};
use crate::ids::{LogId, NodeId, RunId};
use crate::log::early::{self, End, FoundBlock};
use crate::log::keeper::{Keeper, Kept, Policy, Published, Retention, SegmentSizes};
use crate::log::meta::{BlockMeta, Sink};
use crate::log::open::{Writable, create, make_writable};
use crate::log::recovery::{Contents, OpenError, Parts, Recovered, open_parts};
use crate::log::scrub::Scrub;
use crate::log::segments::{Beginning, Segments};
use crate::log::walk::SegmentMap;
use crate::storage::{self, Access, Disk};
use crate::topic::cursor::{CursorError, CursorFile};
use crate::topic::index::Index;

/// What a folder is opened as.
#[derive(Clone, Copy)]
pub(super) enum As {
    Leader,
    /// With the leader's log id, which a folder without a log needs.
    Mirror(Option<LogId>),
}

impl As {
    fn role(self) -> Role {
        match self {
            As::Leader => Role::Leader,
            As::Mirror(_) => Role::Follower,
        }
    }
}

pub(super) fn open_path(path: &Path, options: Options, purpose: As) -> Result<Engine, OpenError> {
    open_disk(Disk::open(path, options.io, Access::Write)?, options, purpose)
}

pub(super) fn open_disk(disk: Disk, options: Options, purpose: As) -> Result<Engine, OpenError> {
    let options = options.bounded(disk.total_bytes()?);
    if options.level == Level::Written {
        disk.write_through_cache();
    }
    let mut entropy = Entropy::new(options.seed);
    let parts = parts_or_new_log(&disk, purpose, options.check_bytes_max, &mut entropy)?;
    let (index, beginning) = (Arc::new(Index::new(&parts.base)), Beginning::of(&parts.base));
    let recovered = parts.recover(&*index)?;
    recovered.expect_role(purpose.role())?;
    if let As::Mirror(Some(wanted)) = purpose {
        let here = recovered.superblock.now.log_id;
        if here != wanted {
            return Err(OpenError::OtherLog { here, wanted });
        }
    }
    // Before anything is changed: a damaged file of cursors refuses the open as a damaged log does.
    let cursors = CursorFile::load(&disk, recovered.superblock.now.log_id)?;
    let mut next_offsets = index.next_offsets();
    let found = found_or_set_aside(&disk, purpose, &recovered, &index, &mut next_offsets)?;
    let run_id = matches!(purpose, As::Leader).then(|| RunId::new(entropy.next_u128()));
    let writable = make_writable(&disk, recovered, run_id, wall_clock_ns())?;
    let end = |topic: &str| index.topic(topic)?.slot.id().map(|id| next_offsets[id.get() as usize]);
    cursors.lower_to_ends(|topic| end(topic).unwrap_or(0)).map_err(not_lowered)?;
    start(disk, options, purpose, writable, Derived { index, cursors, beginning, next_offsets, found }, entropy)
}

/// What was read beside the segments.
struct Derived {
    index: Arc<Index>,
    cursors: CursorFile,
    beginning: Beginning,
    /// Of each topic, behind what was found.
    next_offsets: Vec<u64>,
    /// What an earlier reign acknowledged, and is not in the log.
    found: Vec<FoundBlock>,
}

/// What an earlier reign acknowledged and had no time to write. A follower takes its leader's blocks and no others.
fn found_or_set_aside(
    disk: &Disk,
    purpose: As,
    recovered: &Recovered,
    index: &Index,
    next_offsets: &mut [u64],
) -> Result<Vec<FoundBlock>, OpenError> {
    let superblock = &recovered.superblock.now;
    match purpose {
        As::Leader => {
            let Some(reign) = index.history().lineage.last().cloned() else { return Ok(Vec::new()) };
            let last_entries = recovered.last_segment.blocks.last().map_or(0, BlockMeta::n_entries);
            let (log_id, lsn) = (superblock.log_id, recovered.tail.lsn);
            early::load(disk, &End { log_id, epoch: reign.epoch, lsn, last_entries }, next_offsets)
        }
        As::Mirror(_) => {
            early::set_aside(disk, superblock.incarnation)?;
            Ok(Vec::new())
        }
    }
}

fn not_lowered(error: CursorError) -> OpenError {
    OpenError::Halted { reason: format!("a cursor stands behind the end of its topic, and {error}") }
}

fn parts_or_new_log(
    disk: &Disk,
    purpose: As,
    check_bytes_max: u64,
    entropy: &mut Entropy,
) -> Result<Box<Parts>, OpenError> {
    if let Contents::Log(parts) = open_parts(disk, check_bytes_max)? {
        return Ok(parts);
    }
    let log_id = match purpose {
        As::Leader => LogId::new(entropy.next_u128()),
        As::Mirror(log_id) => log_id.ok_or(OpenError::NoLog)?,
    };
    create(disk, purpose.role(), log_id, NodeId::new(entropy.next_u128()))?;
    match open_parts(disk, check_bytes_max)? {
        Contents::Log(parts) => Ok(parts),
        Contents::Empty => Err(OpenError::NoLog),
    }
}

/// Where the log goes on, and how.
struct Start {
    superblock: Superblock,
    live: SegmentMap,
    planned: NextTail,
    /// How many entries begin in the last block.
    last_entries: u32,
    limit: BlockLimit,
}

impl Start {
    fn of(writable: &Writable, options: &Options) -> Start {
        let (superblock, tail) = (writable.superblock.now.clone(), writable.tail);
        let in_use = tail.position.segment();
        let live = writable.segments.range(..=in_use).map(|(number, segment)| (*number, Arc::clone(segment)));
        let live: SegmentMap = live.collect();
        let planned = NextTail::new(tail, live.get(&in_use).cloned());
        let last_entries = writable.last_segment.blocks.last().map_or(0, BlockMeta::n_entries);
        let smallest = writable.segments.range(in_use..).map(|(_, segment)| segment.header.bytes).min();
        let segment_bytes = smallest.unwrap_or(u64::MAX).min(options.segment_bytes_first);
        let limit = BlockLimit::new(superblock.align as usize, segment_bytes);
        Start { superblock, live, planned, last_entries, limit }
    }

    fn published(&self) -> Published {
        let Superblock { epoch, run_id, .. } = self.superblock;
        Published { tail: self.planned.tail, linear: self.planned.linear(), epoch, run_id }
    }
}

/// What the callers and the threads have in common.
struct Common {
    queue: Arc<Queue>,
    segments: Arc<Segments>,
    keeper: Arc<Keeper>,
    progress: Arc<Progress>,
    halted: HaltReason,
    followers: Arc<AtomicU64>,
}

/// Starts the threads; then the log writes what was found, and begins its reign.
fn start(
    disk: Disk,
    options: Options,
    purpose: As,
    writable: Writable,
    derived: Derived,
    mut entropy: Entropy,
) -> Result<Engine, OpenError> {
    let Derived { index, cursors, beginning, next_offsets, found } = derived;
    let io = disk.queue()?;
    let io_name = io.name();
    let start = Start::of(&writable, &options);
    let Superblock { log_id, node_id, epoch, run_id, .. } = start.superblock;
    let mut warnings: Vec<_> = disk.io().fallback.into_iter().collect();
    warnings.extend_from_slice(&writable.warnings);
    let segments = Arc::new(Segments::new(start.live.clone(), log_id, beginning));
    let kept = Kept { segments: Arc::clone(&segments), remembers: Arc::clone(&index) as _, clock: wall_clock_ns };
    let (disk_too, published, policy) = (disk.clone(), start.published(), policy(&options));
    let keeper = Keeper::start(disk_too, writable, published, policy, kept, entropy.fork(), io.waker());
    let common = Common {
        queue: Arc::new(Queue::new(io.waker(), options.queue)),
        segments,
        keeper: Arc::new(keeper),
        progress: Arc::new(Progress::new(start.planned.tail, start.superblock.incarnation)),
        halted: HaltReason::default(),
        followers: Arc::default(),
    };
    let (limit, applied) = (start.limit, Mutex::new(Applied::at(&index, start.planned.tail)));
    let writer = writer(io, start, &common, Arc::clone(&index) as _, next_offsets, options.flush_every);
    let durable = common.progress.durable.clone();
    let scrubbed = Arc::clone(&common.segments);
    let scrub = Scrub::start(scrubbed, move || durable.lsn(), options.scrub).map_err(no_thread)?;
    // The last: from here on somebody has to close the queue, or the thread would wait for ever, and hold LOCK.
    let (committer, thread) = Committer::start(writer).map_err(no_thread)?;
    let Common { queue, segments, keeper, progress, halted, followers } = common;
    let reign = PendingReign::new(matches!(purpose, As::Leader).then_some((epoch, run_id)));
    let inner = Arc::new(Inner {
        role: purpose.role(),
        log_id,
        node_id,
        limit,
        level: options.level,
        io: io_name,
        warnings,
        queue,
        committer,
        keeper,
        reign,
        segments,
        index,
        cursors,
        scrub,
        progress,
        followers,
        halted,
        thread: Mutex::new(Some(thread)),
        applied,
        disk,
    });
    let mut engine = Engine { inner };
    engine.write_found(found)?;
    engine.begin_reign_if_there_is_room()?;
    let warning = engine.begin_early(&mut entropy)?;
    Arc::get_mut(&mut engine.inner).expect("nobody shares it yet").warnings.extend(warning);
    Ok(engine)
}

/// The commit thread to be.
fn writer(
    io: storage::Queue,
    start: Start,
    common: &Common,
    sink: Arc<dyn Sink>,
    next_offsets: Vec<u64>,
    every: FlushEvery,
) -> Writer {
    let Start {
        superblock: Superblock { log_id, incarnation, epoch, run_id, .. }, planned, last_entries, limit, ..
    } = start;
    let alarm = Alarm::new(io.waker());
    Writer {
        io,
        queue: Arc::clone(&common.queue),
        keeper: Arc::clone(&common.keeper),
        segments: Arc::clone(&common.segments),
        sink,
        progress: Arc::clone(&common.progress),
        halted: Arc::clone(&common.halted),
        pace: Pace { every, followers: Arc::clone(&common.followers), alarm, now: Instant::now },
        log_id,
        limit,
        incarnation,
        epoch,
        run_id,
        next_offsets,
        durable: planned.clone(),
        planned,
        clock: wall_clock_ns,
        last_entries,
        state: WriterState::default(),
    }
}

fn no_thread(error: std::io::Error) -> OpenError {
    OpenError::Halted { reason: format!("a thread could not be started: {error}") }
}

fn policy(options: &Options) -> Policy {
    Policy {
        sizes: SegmentSizes { first: options.segment_bytes_first, max: options.segment_bytes_max },
        retention: Retention { bytes: options.retain_bytes, age: options.retain_age },
        min_free: options.min_free.expect("the options were bounded to the disk"),
    }
}

/// Nanoseconds since 1970. The log keeps its own time from running backwards.
pub(super) fn wall_clock_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
