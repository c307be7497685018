//! Entries acknowledged as written before their block is: callers copy them into memory that outlives the process, and go on.
//!
//! ```text
//!   commit thread --lend(next LSN, next offsets, blocks)--> Early --recall--> commit thread
//!   callers       --append: offset, LSN, payload, record--> | open block | full blocks |
//!   commit thread                              <--take--------'            '  written: the slot is free again
//! ```
//!
//! Nobody plans but the commit thread, and here it lends its plan: while that is lent, the blocks that come next in the log are those
//! that callers fill, in the order in which they opened them. So an entry has its LSN and its offset before anything is written, and the
//! next process gives it the same ones (docs/FORMAT.md#early). Whatever else is to be planned, a durable append, a batch, a flush, stops
//! the lending under the queue's lock; then the commit thread takes what is here, and its offsets back, and plans that first.
//!
//! No timers: the commit thread takes what stands here as soon as it is free, and callers fill the next block meanwhile. An entry is seen
//! by readers when its block is published, so they wait for it ([`Early::end`]).
//!
//! Layer: commit. Uses `storage` for the memory, `format` for what stands in it. Knows nothing of places, groups or flushes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock};
use std::thread;

use super::early_block::{EarlyBlock, EarlyEntry};
use super::submission::{Payload, Submission};
use super::ticket::Receipt;
use crate::format::block::payload_bytes_max;
use crate::format::early::{EarlyHeader, Record};
use crate::ids::{Epoch, LogId, TopicId};
use crate::limits::{EARLY_BLOCK_BYTES_MAX, EARLY_ENTRY_SHARE, EARLY_SLOTS};
use crate::lsn::Lsn;
use crate::storage::{Shared, Waker};

/// The memory, and how it is divided.
pub(crate) struct EarlyMemory {
    shared: Shared,
    header: EarlyHeader,
}

impl EarlyMemory {
    /// How it is to be divided for blocks of `block_bytes` on disk.
    pub(crate) fn layout(log_id: LogId, epoch: Epoch, salt: u64, block_bytes: usize) -> EarlyHeader {
        EarlyHeader { log_id, epoch, salt, slots: EARLY_SLOTS, payload_bytes: payload_bytes_max(block_bytes, 1) }
    }

    pub(crate) fn new(mut shared: Shared, header: EarlyHeader) -> EarlyMemory {
        shared.store(&header.encode(), 0);
        EarlyMemory { shared, header }
    }

    /// The payload first: a record without it would be no entry, and is not taken for one.
    fn store(&mut self, block: &EarlyBlock, slot: usize, record: &Record, payload: &[u8]) {
        let index = block.n_entries();
        self.shared.store(payload, self.header.payload_at(slot, block.payload_bytes()));
        self.shared.store(&record.encode(self.header.salt, index, block.before), self.header.record_at(slot, index));
    }
}

/// Bytes on disk of a block that callers fill: a small log has small ones, so that all of them fit one of its segments.
pub(crate) fn early_block_bytes(block_bytes_max: usize, align: usize) -> usize {
    let share = block_bytes_max / (2 * EARLY_SLOTS);
    (share - share % align).clamp(align, EARLY_BLOCK_BYTES_MAX)
}

/// How often a caller looks for the lock before he lets others run, and before he sleeps.
const SPINS_MAX: usize = 50;
const YIELDS_MAX: usize = 50;

/// How often the commit thread lets others run before it sleeps, where callers come in a row: some fifty microseconds on an idle core. To
/// wake it costs a caller ten.
const LINGER_YIELDS: usize = 100;
/// ... and before it takes a block that is not full: a block of 50 entries costs nearly what one of 256 does (docs/decisions/0007).
const FILL_YIELDS: usize = 40;

/// What comes next in the log.
pub(crate) struct Next {
    pub(crate) lsn: Lsn,
    /// How many entries begin in the block before.
    pub(crate) last_entries: u32,
    /// So many early blocks have room.
    pub(crate) blocks: usize,
}

/// What is lent to the callers, and what they have made of it.
pub(crate) struct Early {
    /// Bytes on disk of the blocks that callers fill. Unset for a log whose entries are durable, or a disk that has no such memory: then
    /// nothing is ever lent, and nothing here takes a lock.
    block_bytes: OnceLock<usize>,
    seen: Seen,
    state: Mutex<State>,
    /// Told to callers who wait: a slot is free, or nothing is lent any more.
    room: Condvar,
    waker: Waker,
}

/// What is looked at without the lock, again and again: far from it in memory, for each look would take the lock's cache line from a
/// caller.
#[repr(align(128))]
struct Seen {
    /// For those who push, and would stop it.
    is_lent: AtomicBool,
    /// Behind the last block that has an entry.
    end: AtomicU64,
}

#[derive(Default)]
#[repr(align(128))]
struct State {
    /// Set before anything is lent.
    memory: Option<EarlyMemory>,
    free_slots: Vec<usize>,
    /// The next offset of each topic, as long as they are not the commit thread's.
    offsets: Option<Vec<u64>>,
    /// Something waits to be planned behind what is here.
    stopped: bool,
    next_lsn: Option<Lsn>,
    /// How many entries begin in the block before that.
    last_entries: u32,
    /// So many may still be opened: there is room for them in the log.
    blocks_left: usize,
    open: Option<EarlyBlock>,
    full: VecDeque<EarlyBlock>,
    callers_wait: usize,
    /// The commit thread sleeps until there is something.
    asleep: bool,
}

impl Early {
    pub(crate) fn new(waker: Waker) -> Early {
        Early {
            block_bytes: OnceLock::new(),
            seen: Seen { is_lent: AtomicBool::new(false), end: AtomicU64::new(0) },
            state: Mutex::default(),
            room: Condvar::new(),
            waker,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// For callers, who hold it for a tenth of a microsecond: to sleep until it is free would take a hundred times as long.
    fn lock_soon(&self) -> MutexGuard<'_, State> {
        for turn in 0..SPINS_MAX + YIELDS_MAX {
            match self.state.try_lock() {
                Ok(state) => return state,
                Err(_) if turn < SPINS_MAX => std::hint::spin_loop(),
                Err(_) => thread::yield_now(),
            }
        }
        self.lock()
    }

    /// From here on there is something to lend.
    pub(crate) fn install(&self, memory: EarlyMemory, block_bytes: usize) {
        let mut state = self.lock();
        state.free_slots = (0..memory.header.slots).rev().collect();
        state.memory = Some(memory);
        state.asleep = true; // it may be, and has not told
        self.block_bytes.set(block_bytes).expect("installed once");
    }

    /// Bytes on disk of the blocks that callers fill; none if nothing can be lent.
    pub(super) fn block_bytes(&self) -> Option<usize> {
        self.block_bytes.get().copied()
    }

    fn is_installed(&self) -> bool {
        self.block_bytes.get().is_some()
    }

    // -- callers ----------------------------------------------------------------------------------------------------------

    /// Whether it is worth trying.
    pub(crate) fn is_lent(&self) -> bool {
        self.seen.is_lent.load(Ordering::Acquire)
    }

    /// Takes an entry; with `may_wait`, where all blocks are full, once the commit thread has written one. When it returns, the entry
    /// survives the process.
    ///
    /// # Errors
    /// The entry, if nothing is lent, or not for such a one: it goes by the queue.
    pub(crate) fn append(&self, topic: TopicId, payload: Payload, may_wait: bool) -> Result<Receipt, Payload> {
        let Some(block_bytes) = self.block_bytes() else { return Err(payload) };
        let mut state = self.lock_soon();
        loop {
            if state.stopped || !state.knows(topic) || payload.bytes.len() > block_bytes / EARLY_ENTRY_SHARE {
                return Err(payload);
            }
            if state.make_room(payload.bytes.len(), block_bytes, &self.seen.end) {
                break;
            }
            if state.blocks_left == 0 || !may_wait {
                return Err(payload); // the log has no room that it could have been lent, or has it soon
            }
            state.callers_wait += 1;
            state = self.room.wait(state).expect("no holder of this lock panics");
            state.callers_wait -= 1;
        }
        let receipt = state.put(topic, payload);
        let wake = std::mem::take(&mut state.asleep);
        drop(state);
        if wake {
            self.waker.wake();
        }
        Ok(receipt)
    }

    /// Readers who are published less than this have to wait: what lies before has been acknowledged.
    pub(crate) fn end(&self) -> Lsn {
        Lsn::new(self.seen.end.load(Ordering::Acquire))
    }

    // -- under the queue's lock -------------------------------------------------------------------------------------------

    /// Lends the plan.
    pub(super) fn lend(&self, next: Next, offsets: Vec<u64>) {
        let mut state = self.lock();
        assert!(state.is_empty() && state.offsets.is_none(), "what was lent has come back");
        (state.next_lsn, state.last_entries, state.blocks_left) = (Some(next.lsn), next.last_entries, next.blocks);
        state.offsets = Some(offsets);
        state.stopped = false;
        self.seen.is_lent.store(true, Ordering::Release);
    }

    /// Takes no more.
    pub(super) fn stop(&self) {
        if self.is_lent() && self.seen.is_lent.swap(false, Ordering::AcqRel) {
            let mut state = self.lock();
            state.stopped = true;
            self.tell_of_room(&state);
        }
    }

    /// Takes no more; moves everything that stands here to the commit thread, and the offsets.
    pub(super) fn recall(&self, to: &mut VecDeque<Submission>, offsets: &mut Vec<u64>) -> bool {
        if !self.is_installed() {
            return false;
        }
        self.stop();
        let mut state = self.lock();
        if let Some(lent) = state.offsets.take() {
            *offsets = lent;
        }
        state.take(to, usize::MAX, true)
    }

    /// Moves full blocks to the commit thread, with `also_open` the open one, too. Not all slots at once: the callers need some while it
    /// writes. Returns whether there were any.
    pub(super) fn take(&self, to: &mut VecDeque<Submission>, also_open: bool) -> bool {
        self.is_installed() && self.lock().take(to, EARLY_SLOTS / 2, also_open)
    }

    /// Tells callers that the commit thread sleeps. False: there is something to do.
    pub(super) fn sleep(&self) -> bool {
        if !self.is_installed() {
            return true;
        }
        let mut state = self.lock();
        state.asleep = state.is_empty();
        state.asleep
    }

    pub(super) fn awake(&self) {
        if self.is_installed() {
            self.lock().asleep = false;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.is_installed() || self.lock().is_empty()
    }

    // -- the commit thread ------------------------------------------------------------------------------------------------

    /// Lets others run until a caller has come, or the plan is not lent any more. Returns whether there is something behind `taken`.
    pub(super) fn linger(&self, taken: Lsn) -> bool {
        for _ in 0..LINGER_YIELDS {
            if self.end() > taken || !self.is_lent() {
                break;
            }
            thread::yield_now();
        }
        self.end() > taken
    }

    /// Lets others run until the block behind `taken`, if callers have begun it, is full, or the plan is not lent any more.
    pub(super) fn let_fill(&self, taken: Lsn) {
        for _ in 0..FILL_YIELDS {
            if self.end() != taken.next() || !self.is_lent() {
                return;
            }
            thread::yield_now();
        }
    }

    /// Blocks are written, and survive the process by themselves.
    pub(super) fn free(&self, slots: impl Iterator<Item = usize>) {
        let mut state = self.lock();
        state.free_slots.extend(slots);
        self.tell_of_room(&state);
    }

    /// Behind everything that is planned, before `lsn`, the log has room for so many blocks.
    pub(super) fn extend(&self, lsn: Lsn, blocks: usize) {
        let mut state = self.lock();
        if let Some(next_lsn) = state.next_lsn {
            let opened = (next_lsn.get() - lsn.get()) as usize;
            state.blocks_left = blocks.saturating_sub(opened);
            self.tell_of_room(&state);
        }
    }

    fn tell_of_room(&self, state: &State) {
        if state.callers_wait > 0 {
            self.room.notify_all();
        }
    }
}

impl State {
    fn is_empty(&self) -> bool {
        self.open.is_none() && self.full.is_empty()
    }

    fn knows(&self, topic: TopicId) -> bool {
        self.offsets.as_ref().is_some_and(|offsets| (topic.get() as usize) < offsets.len())
    }

    /// Sees to it that the open block has room, if any can be had.
    fn make_room(&mut self, payload_bytes: usize, block_bytes: usize, end: &AtomicU64) -> bool {
        if self.open.as_ref().is_some_and(|open| !open.has_room(payload_bytes, block_bytes)) {
            let full = self.close_open();
            self.full.extend(full);
        }
        if self.open.is_none()
            && self.blocks_left > 0
            && let Some(slot) = self.free_slots.pop()
        {
            let lsn = self.next_lsn.expect("set when the plan was lent");
            (self.blocks_left, self.next_lsn) = (self.blocks_left - 1, Some(lsn.next()));
            self.open = Some(EarlyBlock::new(lsn, Some(slot), self.last_entries));
            end.store(lsn.next().get(), Ordering::Release);
        }
        self.open.is_some()
    }

    fn close_open(&mut self) -> Option<EarlyBlock> {
        let block = self.open.take()?;
        self.last_entries = block.n_entries() as u32;
        Some(block)
    }

    fn put(&mut self, topic: TopicId, payload: Payload) -> Receipt {
        let open = self.open.as_mut().expect("room was made");
        let (lsn, slot) = (open.lsn, open.slot.expect("an open block has a slot"));
        let next = &mut self.offsets.as_mut().expect("lent")[topic.get() as usize];
        let (offset, Payload { bytes: payload, sum, .. }) = (*next, payload);
        *next += 1;
        let record = Record { topic, payload_bytes: payload.len() as u32, offset, sum, lsn };
        self.memory.as_mut().expect("installed").store(open, slot, &record, &payload);
        open.push(EarlyEntry { topic, offset, sum, payload });
        Receipt { first_offset: offset, last_offset: offset, lsn }
    }

    fn take(&mut self, to: &mut VecDeque<Submission>, blocks_max: usize, also_open: bool) -> bool {
        let before = to.len();
        let full = self.full.len().min(blocks_max);
        to.extend(self.full.drain(..full).map(Submission::Early));
        if also_open && to.len() - before < blocks_max {
            to.extend(self.close_open().map(Submission::Early));
        }
        to.len() > before
    }
}
