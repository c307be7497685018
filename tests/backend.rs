//! The backend of `walrus-rust` is chosen for the whole process, so its test has a process of its own, and is one test.

use std::io::ErrorKind;

use walrus_node::{Walrus, disable_fd_backend, enable_fd_backend};

#[test]
fn on_mapped_files_batches_are_sequential_and_whole_and_io_uring_is_unsupported() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let open = || Walrus::builder().data_dir(folder.path()).build().unwrap();
    let batch: Vec<Vec<u8>> = (0..700).map(|i| format!("entry {i}").into_bytes()).collect();
    let batch: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
    let large = vec![vec![7; 1 << 20]; 12];
    let large: Vec<&[u8]> = large.iter().map(Vec::as_slice).collect();

    disable_fd_backend();
    let wal = open();
    wal.append_for_topic("t", b"first").unwrap();
    wal.batch_append_for_topic("t", &batch).unwrap();
    wal.batch_append_for_topic("large", &large).unwrap();
    assert_eq!(wal.batch_read_for_topic("t", usize::MAX, false).unwrap().len(), 701);

    // A handle of mapped files, and io_uring asked for.
    enable_fd_backend();
    assert_eq!(wal.batch_append_for_topic("t", &batch).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(wal.batch_append_for_topic("t", &batch).unwrap_err().kind(), ErrorKind::Unsupported, "not WouldBlock");
    assert_eq!(wal.batch_read_for_topic("t", usize::MAX, true).unwrap_err().kind(), ErrorKind::Unsupported);
    wal.batch_append_for_topic("t", &[]).unwrap();
    assert!(wal.batch_read_for_topic("nobody", 1, true).unwrap().is_empty());
    wal.append_for_topic("t", b"a single entry is no matter of io_uring").unwrap();
    assert_eq!(wal.read_next("t", true).unwrap().unwrap().data, b"first");
    drop(wal);

    // Another backend finds the same bytes.
    let wal = open();
    let entries = wal.batch_read_for_topic("t", usize::MAX, true).unwrap();
    assert!(entries[..700].iter().map(|entry| &entry.data[..]).eq(batch.iter().copied()));
    assert_eq!(entries.len(), 701);
    assert!(wal.batch_read_for_topic("large", usize::MAX, true).unwrap().iter().all(|entry| entry.data == large[0]));
    wal.batch_append_for_topic("t", &batch).unwrap();
    disable_fd_backend();
    wal.batch_append_for_topic("t", &batch).unwrap(); // descriptors do for what needs none
}
