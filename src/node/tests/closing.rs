//! A node whose disk hangs.

use super::*;
use crate::node::{NodeError, shutdown::close_in_time};
use crate::storage::sim::SimDisk;

#[tokio::test]
async fn a_disk_that_never_answers_does_not_keep_a_node_from_ending() {
    let disk = SimDisk::new(1);
    let log = Engine::open_sim(&disk, Options { seed: Some(1), ..Options::default() }).unwrap();
    log.append("t", "durable").unwrap().wait().unwrap();
    let hold = disk.hold();
    let stuck = log.append("t", "stuck").unwrap();
    let error = close_in_time(log, Duration::from_millis(20)).await.unwrap_err();
    assert!(matches!(error, NodeError::DiskHangs { .. }) && error.exit_code() == 75, "{error}");
    assert!(stuck.try_outcome().is_none(), "nothing is claimed about it");
    drop(hold); // or the test would not end either
}
