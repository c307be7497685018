//! TEMPORARY in-memory stand-in for the engine, so that the network layers can be compiled and tried before the merge.
//! Everything in this file is thrown away then.
#![allow(missing_docs)]

use std::collections::HashSet;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::format::block::{EntryIn, Head, Kind, PortableView, encode_portable, entry_flags, portable_len};
use crate::format::checksum::payload_sum;
pub use crate::format::control::Reign;
use crate::format::control::TopicDefinition;
use crate::ids::{Chain, Epoch, Incarnation, LogId, NodeId, RunId, TopicId};
use crate::lsn::Lsn;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoMode {
    #[default]
    Auto,
    Uring,
    Syscall,
}

#[derive(Clone, Debug, Default)]
pub struct Options {
    pub io: IoMode,
    pub seed: Option<u64>,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    #[error("{path} is in use by another process")]
    Locked { path: PathBuf },
    #[error("{path} is the folder of a {is}")]
    Role { path: PathBuf, is: &'static str },
    #[error("no log yet")]
    NoLog,
    #[error("damaged: {reason}")]
    Damaged { reason: String },
    #[error("io: {0}")]
    Io(#[from] std::io::Error),
}

#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    #[error("{0}")]
    InvalidTopic(String),
    #[error("a batch of {entries} entries, 1 to 2000 are allowed")]
    InvalidBatch { entries: usize },
    #[error("a batch of {bytes} bytes is too large")]
    TooLarge { bytes: usize },
    #[error("this folder belongs to a follower")]
    NotLeader,
    #[error("full")]
    Full {},
    #[error("halted: {reason}")]
    Halted { reason: String },
    #[error("indeterminate: {reason}")]
    Indeterminate { reason: String },
    #[error("closed")]
    Closed,
}

#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    #[error("no topic {0:?}")]
    UnknownTopic(String),
    #[error("damaged")]
    Damaged { next_good_offset: Option<u64> },
    #[error("closed")]
    Closed,
}

#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    #[error("corrupt: {0}")]
    Corrupt(String),
    #[error("diverged: {0}")]
    Diverged(String),
    #[error("not whole")]
    NotWhole,
    #[error(transparent)]
    Append(#[from] AppendError),
}

#[derive(Debug, thiserror::Error)]
#[error("close")]
pub struct CloseError;

#[derive(Clone, Debug)]
pub struct TopicInfo {
    pub name: String,
    pub id: TopicId,
    pub first_offset: u64,
    pub next_offset: u64,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub offset: u64,
    pub ts_ns: u64,
    pub payload: Bytes,
}

#[derive(Clone, Copy, Debug)]
pub struct ReadLimit {
    pub entries: usize,
    pub bytes: usize,
}

#[derive(Clone, Copy, Debug)]
pub struct Receipt {
    pub first_offset: u64,
    pub last_offset: u64,
    pub lsn: Lsn,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Tip {
    pub(crate) lsn: Lsn,
    pub(crate) chain: Chain,
    pub(crate) run_id: RunId,
    pub(crate) epoch: Epoch,
}

#[derive(Clone, Debug)]
pub(crate) struct PortableBlock {
    pub(crate) lsn: Lsn,
    pub(crate) remaining: u32,
    pub(crate) bytes: Bytes,
}

#[derive(Clone, Debug)]
pub struct Status {
    pub role: &'static str,
    pub epoch: Epoch,
    pub run_id: RunId,
    pub log_id: LogId,
    pub node_id: NodeId,
    pub incarnation: Incarnation,
    pub durable_lsn: Lsn,
    pub durable_chain: Chain,
    pub io: String,
    pub flush: String,
    pub durability: &'static str,
    pub halted: Option<String>,
    pub warnings: Vec<String>,
    pub log_bytes: u64,
}

pub struct Ticket(Result<Receipt, AppendError>);

impl Ticket {
    pub fn wait(self) -> Result<Receipt, AppendError> {
        self.0
    }
}

impl Future for Ticket {
    type Output = Result<Receipt, AppendError>;
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(self.0.clone())
    }
}

struct State {
    path: PathBuf,
    leader: bool,
    log_id: LogId,
    node_id: NodeId,
    blocks: Vec<PortableBlock>,
    chain: Chain,
    lineage: Vec<Reign>,
    topics: Vec<(String, Vec<Entry>)>,
    closed: bool,
    wakers: Vec<Waker>,
}

#[derive(Clone)]
pub struct Engine(Arc<Shared>);

struct Shared(Mutex<State>);

fn open_paths() -> &'static Mutex<HashSet<PathBuf>> {
    static OPEN: OnceLock<Mutex<HashSet<PathBuf>>> = OnceLock::new();
    OPEN.get_or_init(Mutex::default)
}

fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

fn random() -> u128 {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).unwrap();
    u128::from_le_bytes(bytes)
}

impl State {
    fn save(&self) {
        let mut out = vec![u8::from(self.leader)];
        out.extend_from_slice(&self.log_id.get().to_le_bytes());
        out.extend_from_slice(&self.node_id.get().to_le_bytes());
        for block in &self.blocks {
            out.extend_from_slice(&(block.bytes.len() as u32).to_le_bytes());
            out.extend_from_slice(&block.bytes);
        }
        let _ = std::fs::write(self.path.join("fake.log"), out);
    }

    fn tail(&self) -> Lsn {
        Lsn::new(self.blocks.len() as u64 + 1)
    }

    fn take(&mut self, bytes: Bytes) {
        let view = PortableView::parse(&bytes, self.log_id).unwrap();
        assert_eq!((view.head.lsn, view.head.prev_chain), (self.tail(), self.chain));
        for entry in view.entries() {
            match view.head.kind {
                Kind::Epoch => self.lineage.push(Reign::parse(entry.payload).unwrap()),
                Kind::Topic => self.topics.push((TopicDefinition::parse(entry.payload).unwrap().name, Vec::new())),
                _ => {
                    let payload = bytes.slice(entry.payload_at..entry.payload_at + entry.payload.len());
                    let topic = &mut self.topics[entry.topic.get() as usize - 1].1;
                    topic.push(Entry { offset: entry.offset, ts_ns: view.head.ts_ns, payload });
                }
            }
        }
        self.chain = view.chain;
        let (lsn, remaining) = (view.head.lsn, view.head.remaining);
        self.blocks.push(PortableBlock { lsn, remaining, bytes });
    }

    fn write(&mut self, kind: Kind, topic: TopicId, offset: u64, entries: &[Bytes], remaining: u32) {
        let epoch = self.lineage.last().map_or(Epoch::new(1), |reign| reign.epoch);
        let lsn = self.tail();
        let head = Head { kind, epoch, lsn, ts_ns: now_ns(), prev_chain: self.chain, remaining };
        let len = portable_len(entries.len(), entries.iter().map(Bytes::len).sum());
        let mut out = vec![0; len];
        let ins = entries.iter().enumerate().map(|(i, payload)| EntryIn {
            topic,
            offset: offset + i as u64,
            flags: entry_flags::WHOLE,
            sum: payload_sum(payload),
            payload,
        });
        encode_portable(&mut out, self.log_id, &head, ins, entries.len());
        self.take(out.into());
    }

    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let state = self.0.get_mut().unwrap();
        state.save();
        open_paths().lock().unwrap().remove(&state.path);
    }
}

impl Engine {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap()
    }

    fn open_as(path: &Path, leader: bool, log_id: Option<LogId>) -> Result<Engine, OpenError> {
        std::fs::create_dir_all(path)?;
        let path = path.canonicalize()?;
        let saved = std::fs::read(path.join("fake.log")).ok();
        let mut state = State {
            path: path.clone(),
            leader,
            log_id: log_id.unwrap_or(LogId::new(random())),
            node_id: NodeId::new(random()),
            blocks: Vec::new(),
            chain: Chain::START,
            lineage: Vec::new(),
            topics: Vec::new(),
            closed: false,
            wakers: Vec::new(),
        };
        if saved.is_none() && log_id.is_none() && !leader {
            return Err(OpenError::NoLog);
        }
        if let Some(saved) = saved {
            if (saved[0] == 1) != leader {
                return Err(OpenError::Role { path, is: if saved[0] == 1 { "leader" } else { "follower" } });
            }
            state.log_id = LogId::new(u128::from_le_bytes(saved[1..17].try_into().unwrap()));
            state.node_id = NodeId::new(u128::from_le_bytes(saved[17..33].try_into().unwrap()));
            let mut rest = &saved[33..];
            while !rest.is_empty() {
                let len = u32::from_le_bytes(rest[..4].try_into().unwrap()) as usize;
                state.take(Bytes::copy_from_slice(&rest[4..4 + len]));
                rest = &rest[4 + len..];
            }
        }
        if !open_paths().lock().unwrap().insert(path.clone()) {
            return Err(OpenError::Locked { path });
        }
        if leader {
            let epoch = state.lineage.last().map_or(Epoch::new(1), |reign| reign.epoch.next());
            let reign = Reign { epoch, run_id: RunId::new(random()), start_lsn: state.tail() };
            state.write(Kind::Epoch, TopicId::CONTROL, 0, &[reign.encode().into()], 0);
        }
        state.save();
        Ok(Engine(Arc::new(Shared(Mutex::new(state)))))
    }

    pub fn open(path: &Path, _options: Options) -> Result<Engine, OpenError> {
        Engine::open_as(path, true, None)
    }

    pub(crate) fn open_mirror(path: &Path, log_id: Option<LogId>, _options: Options) -> Result<Engine, OpenError> {
        Engine::open_as(path, false, log_id)
    }

    pub fn append(&self, topic: &str, entry: impl Into<Bytes>) -> Result<Ticket, AppendError> {
        self.append_batch(topic, vec![entry.into()])
    }

    pub fn append_batch(&self, topic: &str, entries: Vec<Bytes>) -> Result<Ticket, AppendError> {
        crate::topic::check_name(topic).map_err(|error| AppendError::InvalidTopic(error.to_string()))?;
        if entries.is_empty() || entries.len() > 2000 {
            return Err(AppendError::InvalidBatch { entries: entries.len() });
        }
        let mut state = self.state();
        if !state.leader {
            return Err(AppendError::NotLeader);
        }
        if state.closed {
            return Err(AppendError::Closed);
        }
        if !state.topics.iter().any(|(name, _)| name == topic) {
            let id = TopicId::new(state.topics.len() as u32 + 1);
            let body = TopicDefinition { id, name: topic.into() }.encode();
            state.write(Kind::Topic, TopicId::CONTROL, 0, &[body.into()], 0);
        }
        let index = state.topics.iter().position(|(name, _)| name == topic).unwrap();
        let first_offset = state.topics[index].1.len() as u64;
        let mut blocks: Vec<Vec<Bytes>> = vec![Vec::new()];
        for entry in entries {
            let last = blocks.last().unwrap();
            if last.len() == 256 || last.iter().map(Bytes::len).sum::<usize>() + entry.len() > 900_000 {
                blocks.push(Vec::new());
            }
            blocks.last_mut().unwrap().push(entry);
        }
        let mut offset = first_offset;
        for (i, block) in blocks.iter().enumerate() {
            let remaining = (blocks.len() - 1 - i) as u32;
            state.write(Kind::Data, TopicId::new(index as u32 + 1), offset, block, remaining);
            offset += block.len() as u64;
        }
        let lsn = Lsn::new(state.tail().get() - 1);
        state.wake();
        Ok(Ticket(Ok(Receipt { first_offset, last_offset: offset - 1, lsn })))
    }

    pub fn read(&self, topic: &str, offset: u64, limit: ReadLimit) -> Result<Vec<Entry>, ReadError> {
        let state = self.state();
        let (_, entries) =
            state.topics.iter().find(|(name, _)| name == topic).ok_or_else(|| ReadError::UnknownTopic(topic.into()))?;
        let mut bytes = 0;
        let rest = entries.iter().skip(offset as usize).take(limit.entries);
        Ok(rest
            .take_while(|entry| {
                let first = bytes == 0;
                bytes += entry.payload.len() + 1;
                first || bytes <= limit.bytes
            })
            .cloned()
            .collect())
    }

    pub fn topics(&self) -> Vec<TopicInfo> {
        let state = self.state();
        let infos = state.topics.iter().enumerate().map(|(i, (name, entries))| TopicInfo {
            name: name.clone(),
            id: TopicId::new(i as u32 + 1),
            first_offset: 0,
            next_offset: entries.len() as u64,
        });
        infos.collect()
    }

    pub fn topic(&self, name: &str) -> Option<TopicInfo> {
        self.topics().into_iter().find(|info| info.name == name)
    }

    pub fn offset_at_time(&self, topic: &str, ts_ns: u64) -> Result<u64, ReadError> {
        let state = self.state();
        let (_, entries) =
            state.topics.iter().find(|(name, _)| name == topic).ok_or_else(|| ReadError::UnknownTopic(topic.into()))?;
        Ok(entries.iter().take_while(|entry| entry.ts_ns < ts_ns).count() as u64)
    }

    pub fn durable(&self) -> Watermark {
        Watermark(Arc::clone(&self.0))
    }

    pub fn status(&self) -> Status {
        let state = self.state();
        let reign = state.lineage.last().copied();
        Status {
            role: if state.leader { "leader" } else { "follower" },
            epoch: reign.map_or(Epoch::new(0), |reign| reign.epoch),
            run_id: reign.map_or(RunId::new(0), |reign| reign.run_id),
            log_id: state.log_id,
            node_id: state.node_id,
            incarnation: Incarnation::new(1),
            durable_lsn: state.tail(),
            durable_chain: state.chain,
            io: "memory".into(),
            flush: "none".into(),
            durability: "durable",
            halted: None,
            warnings: Vec::new(),
            log_bytes: state.blocks.iter().map(|block| block.bytes.len() as u64).sum(),
        }
    }

    pub fn close(&self) -> Result<(), CloseError> {
        let mut state = self.state();
        state.closed = true;
        state.save();
        state.wake();
        Ok(())
    }

    pub(crate) fn lineage(&self) -> Vec<Reign> {
        self.state().lineage.clone()
    }

    pub(crate) fn tail(&self) -> Tip {
        let state = self.state();
        let reign = state.lineage.last().copied();
        Tip {
            lsn: state.tail(),
            chain: state.chain,
            run_id: reign.map_or(RunId::new(0), |reign| reign.run_id),
            epoch: reign.map_or(Epoch::new(0), |reign| reign.epoch),
        }
    }

    pub(crate) fn chain_before(&self, lsn: Lsn) -> Result<Option<Chain>, ReadError> {
        let state = self.state();
        Ok(match lsn.get() {
            0 => None,
            1 => Some(Chain::START),
            n => {
                let block = state.blocks.get(n as usize - 2);
                block.map(|block| PortableView::parse(&block.bytes, state.log_id).unwrap().chain)
            }
        })
    }

    pub(crate) fn portable_blocks(&self, from: Lsn, bytes_max: usize) -> Result<Vec<PortableBlock>, ReadError> {
        let state = self.state();
        let mut bytes = 0;
        let rest = state.blocks.iter().skip(from.get() as usize - 1);
        Ok(rest
            .take_while(|block| {
                let first = bytes == 0;
                bytes += block.bytes.len();
                first || bytes <= bytes_max
            })
            .cloned()
            .collect())
    }

    pub(crate) fn apply(&self, blocks: Vec<Bytes>) -> Result<Ticket, ApplyError> {
        let mut state = self.state();
        if state.closed {
            return Err(AppendError::Closed.into());
        }
        let (mut next, mut chain, mut remaining) = (state.tail(), state.chain, 0);
        for bytes in &blocks {
            let view = PortableView::parse(bytes, state.log_id).map_err(|e| ApplyError::Corrupt(e.to_string()))?;
            view.verify_payloads().map_err(|e| ApplyError::Corrupt(e.to_string()))?;
            if (view.head.lsn, view.head.prev_chain) != (next, chain) {
                return Err(ApplyError::Diverged(format!("block {} after {next}", view.head.lsn)));
            }
            (next, chain, remaining) = (next.next(), view.chain, view.head.remaining);
        }
        if remaining != 0 {
            return Err(ApplyError::NotWhole);
        }
        for bytes in blocks {
            state.take(bytes);
        }
        let lsn = Lsn::new(state.tail().get() - 1);
        state.wake();
        Ok(Ticket(Ok(Receipt { first_offset: 0, last_offset: 0, lsn })))
    }
}

#[derive(Clone)]
pub struct Watermark(Arc<Shared>);

impl Watermark {
    pub fn lsn(&self) -> Lsn {
        self.0.0.lock().unwrap().tail()
    }

    pub fn wait_past(&self, lsn: Lsn, timeout: Duration) -> Lsn {
        let _ = (lsn, timeout);
        self.lsn()
    }

    pub fn changed_past(&self, lsn: Lsn) -> impl Future<Output = Lsn> + Send + 'static {
        Changed { shared: Arc::clone(&self.0), lsn }
    }
}

struct Changed {
    shared: Arc<Shared>,
    lsn: Lsn,
}

impl Future for Changed {
    type Output = Lsn;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Lsn> {
        let mut state = self.shared.0.lock().unwrap();
        if state.tail() > self.lsn || state.closed {
            return Poll::Ready(state.tail());
        }
        state.wakers.push(cx.waker().clone());
        Poll::Pending
    }
}
