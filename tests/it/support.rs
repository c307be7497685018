//! What the tests share: folders on the real disk, small logs, entries that say who wrote them.

use std::path::Path;

use bytes::Bytes;
use walrus_node::{Engine, IoMode, Options, ReadLimit};

/// A folder under the target directory: on a real disk, where /tmp is often memory.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder can be made in the target directory")
}

/// How `WALRUS_IO` asks the tests to reach the disk.
pub(crate) fn io_mode() -> IoMode {
    std::env::var("WALRUS_IO")
        .map_or(IoMode::Auto, |mode| mode.parse().expect("WALRUS_IO is auto, uring, syscall or mmap"))
}

/// Options of a log with small segments, so that rotation is never far.
pub(crate) fn small() -> Options {
    Options { io: io_mode(), segment_bytes_first: 256 << 10, segment_bytes_max: 512 << 10, ..Options::default() }
}

pub(crate) fn open(path: &Path) -> Engine {
    Engine::open(path, small()).expect("the log opens")
}

/// Every payload of a topic.
pub(crate) fn payloads(engine: &Engine, topic: &str) -> Vec<Bytes> {
    let (mut all, mut offset) = (Vec::new(), 0);
    loop {
        let entries = engine.read(topic, offset, ReadLimit::default()).expect("the topic can be read");
        let Some(last) = entries.last() else { return all };
        offset = last.offset + 1;
        all.extend(entries.into_iter().map(|entry| entry.payload));
    }
}

/// Waits for what a background thread does sooner or later.
///
/// # Panics
/// After a minute: then it does not.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..6_000 {
        if done() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("waited for a minute, and it is still not so that {what}");
}
