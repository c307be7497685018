//! The end of a demo: is every acknowledged entry there, is no batch in part, do both folders hold one log?

use walrus_node::{Chain, IoMode, Lsn, ReadLimit, Viewer};

use super::load::Loaded;
use super::node::Nodes;
use crate::fail::{self, Exit, Failure};

/// What was found. There is one only if nothing was wrong.
pub(super) struct Checked {
    /// Entries that were acknowledged.
    pub(super) acked: u64,
    /// Entries that are there: a kill leaves some that were durable before anybody was told.
    pub(super) there: u64,
    pub(super) blocks: u64,
    /// Where both logs end.
    pub(super) end: Lsn,
    pub(super) chain: Chain,
}

/// Looks at both folders.
pub(super) fn both(nodes: &Nodes, io: IoMode, loads: &[&Loaded]) -> Result<Checked, Failure> {
    let open = |name: &str| {
        let dir = nodes.data(name);
        let viewer = Viewer::open(&dir, io).map_err(|error| fail::open(&dir, &error))?;
        match viewer.verification().damage.first() {
            Some(damage) => Err(fail::damaged(&dir, damage)),
            None => Ok(viewer),
        }
    };
    let (leader, follower) = (open("leader")?, open("follower")?);
    let differing = leader.first_difference(&follower).map_err(|error| fail::read(&nodes.data("leader"), &error))?;
    if let Some(lsn) = differing {
        return Err(Failure::new(Exit::Failed, format!("leader and follower differ from lsn {lsn} on")));
    }
    let found = leader.verification();
    let mut checked = Checked { acked: 0, there: 0, blocks: found.blocks, end: found.durable_lsn, chain: found.chain };
    for load in loads {
        checked.acked += load.acked;
        checked.there += entries(nodes, &leader, load)?;
    }
    Ok(checked)
}

/// Compares every entry of a topic with what was sent; returns how many there are.
fn entries(nodes: &Nodes, log: &Viewer, load: &Loaded) -> Result<u64, Failure> {
    let wrong = |what: String| Failure::new(Exit::Failed, format!("topic {}: {what}", load.topic));
    let mut there = 0;
    loop {
        let read = log.read(&load.topic, there, ReadLimit::default());
        let read = read.map_err(|error| fail::read(&nodes.data("leader"), &error))?;
        if read.is_empty() {
            break;
        }
        for entry in &read {
            if entry.payload != load.source.entry(entry.offset) {
                return Err(wrong(format!("entry {} is not what was sent", entry.offset)));
            }
        }
        there += read.len() as u64;
    }
    if there < load.acked {
        return Err(wrong(format!("{} entries were acknowledged, and only {there} are there", load.acked)));
    }
    if there > load.sent {
        return Err(wrong(format!("{} entries were sent, and {there} are there", load.sent)));
    }
    if there % load.window.batch as u64 != 0 {
        return Err(wrong(format!("{there} entries are there, so a batch of {} is there in part", load.window.batch)));
    }
    Ok(there)
}
