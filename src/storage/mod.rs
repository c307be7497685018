//! Bytes on a device: folders, files, writes and flushes.
//!
//! Three ways to reach a disk stand behind one contract, and one conformance suite (`conformance.rs`) holds them to it:
//!
//! ```text
//!                Disk (a folder)          File                     Queue (the commit thread's)
//!   host         dir.rs                   dir.rs                   uring.rs | syscall.rs
//!   simulated    sim.rs                   sim.rs                   sim.rs
//! ```
//!
//! **What is durable when.** A completed [`Queue::write`] with [`Sync::Durable`] is on stable storage, itself alone. Any other
//! write is there once a flush of its file *that began after the write was complete* has succeeded. A name (made, renamed,
//! removed) is there once its folder has been flushed. Nothing else is promised: after a power cut any subset of 512-byte
//! sectors of unflushed writes may be there.
//!
//! **What never escapes.** A short write is finished or failed, an interrupted call is repeated, a completion is matched by its
//! token, and a slot belongs to the kernel until its completion has come. A failed flush is reported once and never repeated
//! here or above.
//!
//! Layer: storage. Uses `limits`. Knows nothing of blocks, LSNs or topics.
