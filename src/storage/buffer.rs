//! Memory that a device can read and write by itself, and the slots a queue writes from.
//!
//! ```text
//!     Pool --take--> Slot --Queue::write--> in flight (the queue owns it) --completion--> Pool
//! ```
//!
//! A slot owns its memory and moves: into the caller's hands, into the operation, back. So nobody can touch bytes that the
//! kernel is reading, and no `unsafe` is needed to say so.
//!
//! Layer: storage. Uses `limits`. Knows nothing of rings, files or what the bytes mean.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::mem;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

use rustix::mm::{Advice, madvise};

use crate::limits::{ALIGN_MIN, BLOCK_BYTES_MAX};

/// Bytes of a small slot. Most commit groups of small entries fit; a larger one takes a large slot.
pub(crate) const SLOT_SMALL_BYTES: usize = 128 << 10;
/// Bytes of a large slot: any block.
pub(crate) const SLOT_LARGE_BYTES: usize = BLOCK_BYTES_MAX;

/// 64 small and 8 large ones: 16 MiB together, two largest groups.
const SLOTS_SMALL: usize = 64;
const SLOTS_LARGE: usize = 8;

const _: () = assert!(SLOT_SMALL_BYTES.is_multiple_of(ALIGN_MIN) && SLOT_SMALL_BYTES < SLOT_LARGE_BYTES);
// Huge pages are cut into slots, and none is left over.
const _: () =
    assert!((SLOTS_SMALL * SLOT_SMALL_BYTES).is_multiple_of(HUGE_BYTES) && HUGE_BYTES.is_multiple_of(SLOT_SMALL_BYTES));
const _: () =
    assert!((SLOTS_LARGE * SLOT_LARGE_BYTES).is_multiple_of(HUGE_BYTES) && HUGE_BYTES.is_multiple_of(SLOT_LARGE_BYTES));
// A slot's number goes into a 16-bit field of a submission.
const _: () = assert!(2 * (SLOTS_SMALL + SLOTS_LARGE) <= u16::MAX as usize);

/// Bytes of a huge page. What is read directly into memory that lies together arrives twice as fast (docs/decisions/0008), and what is
/// written from it leaves as fast.
pub(super) const HUGE_BYTES: usize = 2 << 20;

/// Page-aligned memory, zeroed when new, and in huge pages where it fills them. From the allocator, since what comes and goes with every
/// open and every read is used again there, while a mapping of its own costs a page fault a page each time.
pub(crate) struct AlignedBuf {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it owns its memory, as a `Box<[u8]>` does, and hands out nothing but borrows of itself.
unsafe impl Send for AlignedBuf {}
// SAFETY: as above; a shared borrow only reads.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// # Panics
    /// When there is no memory, as any allocation does.
    pub(crate) fn new(len: usize) -> AlignedBuf {
        assert!(len > 0, "an empty buffer has no address");
        let align = if len.is_multiple_of(HUGE_BYTES) { HUGE_BYTES } else { ALIGN_MIN };
        let layout = Layout::from_size_align(len, align).expect("no buffer is near the size of the address space");
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        if align == HUGE_BYTES {
            // Asked for before anything touches it. A kernel that has none takes small ones.
            // SAFETY: whole pages of ours, and the advice changes nothing of what they hold.
            let _ = unsafe { madvise(start.as_ptr().cast(), len, Advice::LinuxHugepage) };
        }
        // SAFETY: so many bytes were allocated here.
        unsafe { start.write_bytes(0, len) };
        AlignedBuf { start, layout }
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this very layout, and freed nowhere else.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: so many bytes were allocated here and zeroed, and live as long as `self`; whoever changes them borrows it alone.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.layout.size()) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; and `self` is borrowed alone.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }
}

/// One of the equal parts into which a buffer was cut. It owns its part as a buffer owns the whole.
struct Part {
    start: NonNull<u8>,
    len: usize,
    /// Keeps the memory.
    _whole: Arc<AlignedBuf>,
}

// SAFETY: nobody else has this part of the memory (see `AlignedBuf::cut`), and it hands out nothing but borrows of itself.
unsafe impl Send for Part {}
// SAFETY: as above; a shared borrow only reads.
unsafe impl Sync for Part {}

impl AlignedBuf {
    /// Cuts it into parts of `len` bytes each; what is left over is nobody's.
    fn cut(self, len: usize) -> impl Iterator<Item = Part> {
        let whole = Arc::new(self);
        (0..whole.len() / len).map(move |number| {
            // SAFETY: so many whole parts lie within the buffer.
            let start = unsafe { whole.start.add(number * len) };
            Part { start, len, _whole: Arc::clone(&whole) }
        })
    }
}

impl Part {
    fn bytes(&self) -> &[u8] {
        // SAFETY: the buffer lives as long as `self`, was zeroed when new, and was given up by value when it was cut: only this part, one
        // of those that do not overlap, leads to these bytes.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; and `self` is borrowed alone.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

/// A piece of a queue's memory, to be filled and written. Goes back by [`Queue::write`](super::Queue::write); one that is
/// merely dropped is lost to its queue.
#[must_use = "a slot that is dropped is lost to its queue"]
pub(crate) struct Slot {
    index: u16,
    memory: Part,
}

impl Slot {
    /// Its number in the pool, under which a ring may have registered its memory.
    pub(crate) fn index(&self) -> u16 {
        self.index
    }

    pub(crate) fn capacity(&self) -> usize {
        self.memory.len
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.memory.bytes()
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.memory.bytes_mut()
    }
}

/// The slots that are not in use. Memory is made a huge page at a time when a slot is first taken, so a queue that writes little costs
/// little, and a block that is written lies together.
pub(crate) struct Pool {
    small: Class,
    large: Class,
}

/// Slots of one size.
struct Class {
    bytes: usize,
    free: Vec<Slot>,
    /// Numbers of those that are not made yet.
    unmade: Range<usize>,
}

impl Class {
    fn new(bytes: usize, numbers: Range<usize>) -> Class {
        Class { bytes, free: Vec::with_capacity(numbers.len()), unmade: numbers }
    }

    fn take(&mut self) -> Option<Slot> {
        if self.free.is_empty() {
            self.make();
            self.free.reverse(); // the first one is taken first
        }
        self.free.pop()
    }

    /// Makes as many as a huge page holds, if there are any to make.
    fn make(&mut self) {
        if !self.unmade.is_empty() {
            let parts = AlignedBuf::new(HUGE_BYTES).cut(self.bytes);
            self.free
                .extend(self.unmade.by_ref().zip(parts).map(|(index, memory)| Slot { index: index as u16, memory }));
        }
    }
}

impl Pool {
    pub(crate) fn new() -> Pool {
        Pool::numbered_from(0)
    }

    fn numbered_from(first: usize) -> Pool {
        let middle = first + SLOTS_SMALL;
        Pool {
            small: Class::new(SLOT_SMALL_BYTES, first..middle),
            large: Class::new(SLOT_LARGE_BYTES, middle..middle + SLOTS_LARGE),
        }
    }

    /// Gives up all memory without freeing it, since a broken ring may still use it, and begins anew. Slots that are out
    /// keep their numbers, and the new ones have others.
    pub(crate) fn leak(&mut self) {
        mem::forget(mem::replace(self, Pool::numbered_from(SLOTS_SMALL + SLOTS_LARGE)));
    }

    /// A slot of at least `len` bytes. A large one stands in for a small one never: the largest blocks would starve behind
    /// the smallest.
    pub(crate) fn take(&mut self, len: usize) -> Option<Slot> {
        if len <= SLOT_SMALL_BYTES { self.small.take() } else { self.large.take() }
    }

    pub(crate) fn give(&mut self, slot: Slot) {
        let class = if slot.capacity() == SLOT_SMALL_BYTES { &mut self.small } else { &mut self.large };
        assert!(class.free.iter().all(|free| free.index != slot.index), "a slot of another queue");
        class.free.push(slot);
    }

    /// Every slot, made now and in the order of their numbers: what a ring registers. Nothing has been taken yet.
    pub(crate) fn make_all(&mut self) -> impl Iterator<Item = &Slot> {
        for class in [&mut self.small, &mut self.large] {
            assert!(class.free.is_empty(), "the pool is in use");
            while !class.unmade.is_empty() {
                class.make();
            }
        }
        self.small.free.iter().chain(&self.large.free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_zeroed_and_aligned_for_direct_io() {
        let buf = AlignedBuf::new(3 * ALIGN_MIN);
        assert!(buf.iter().all(|byte| *byte == 0));
        assert_eq!(buf.as_ptr() as usize % ALIGN_MIN, 0);
        let huge = AlignedBuf::new(2 * HUGE_BYTES);
        assert!(huge.iter().all(|byte| *byte == 0));
        assert_eq!(huge.as_ptr() as usize % HUGE_BYTES, 0);
    }

    #[test]
    fn slots_of_a_class_run_out_and_come_back() {
        let mut pool = Pool::new();
        let mut taken: Vec<Slot> = std::iter::from_fn(|| pool.take(SLOT_SMALL_BYTES)).collect();
        assert_eq!(taken.len(), SLOTS_SMALL);
        assert!(pool.take(1).is_none());
        let large = pool.take(SLOT_SMALL_BYTES + 1).expect("the other class is untouched");
        assert_eq!(large.capacity(), SLOT_LARGE_BYTES);
        pool.give(taken.swap_remove(7));
        assert_eq!(pool.take(1).map(|slot| slot.index()), Some(7));
    }

    #[test]
    fn slots_of_one_huge_page_have_no_byte_in_common_and_outlive_their_pool() {
        let mut pool = Pool::new();
        let mut slots: Vec<Slot> = std::iter::from_fn(|| pool.take(SLOT_SMALL_BYTES)).collect();
        drop(pool);
        slots.iter_mut().for_each(|slot| {
            let number = slot.index as u8;
            slot.bytes_mut().fill(number);
        });
        for slot in &slots {
            assert_eq!(slot.bytes().as_ptr() as usize % ALIGN_MIN, 0);
            assert!(
                slot.bytes().len() == SLOT_SMALL_BYTES && slot.bytes().iter().all(|byte| *byte == slot.index as u8)
            );
        }
    }

    #[test]
    fn slots_are_made_in_the_order_of_their_numbers() {
        let mut pool = Pool::new();
        assert!(pool.make_all().enumerate().all(|(at, slot)| at == slot.index() as usize));
        assert_eq!(pool.make_all_len(), SLOTS_SMALL + SLOTS_LARGE);
    }

    impl Pool {
        fn make_all_len(&self) -> usize {
            self.small.free.len() + self.large.free.len()
        }
    }
}
