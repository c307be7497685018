//! The object of `status --json`. Its fields are promises: add, do not rename.
//!
//! Layer: node.

use serde_json::{Value, json};

use crate::follower::Lag;
use crate::leader::{FollowerRow, Server};
use crate::wire::SOFTWARE;

/// How the node is. Ids and hashes are hex strings: a JSON reader may hold numbers as 64-bit floats.
pub(super) fn object(server: &Server, follows: Option<&Lag>) -> Value {
    let view = follows.map(Lag::view);
    let mut object = json!({
        "name": server.name(),
        "software": SOFTWARE,
        "role": if view.is_some() { "follower" } else { "leader" },
        "followers": server.followers().iter().map(follower).collect::<Vec<_>>(),
        "slots": [],
    });
    let mut put = |key: &str, value: Value| object[key] = value;
    if let Some(log) = server.log_status() {
        let high = view.as_ref().map_or(log.durable_lsn, |view| view.high.max(log.durable_lsn));
        put("epoch", log.epoch.get().into());
        put("run_id", log.run_id.to_string().into());
        put("log_id", log.log_id.to_string().into());
        put("node_id", log.node_id.to_string().into());
        put("incarnation", log.incarnation.get().into());
        put("durable_lsn", log.durable_lsn.get().into());
        put("high_lsn", high.get().into());
        put("chain", log.durable_chain.to_string().into());
        put("io", log.io.into());
        put("flush", log.flush.into());
        put("durability", log.durability.into());
        put("published_lsn", log.published_lsn.get().into());
        put("groups", log.groups.into());
        put("flushes", log.flushes.into());
        put("syscalls", log.syscalls.into());
        put("halted", log.halted.into());
        put("failures_survived", log.failures_survived.into());
        put("last_failure", log.last_failure.into());
        put("warnings", log.warnings.into());
        put("log_bytes", log.log_bytes.into());
        put("first_lsn", log.first_lsn.get().into());
        put("free_bytes", log.free_bytes.into());
        put("space", log.space.name().into());
        put("packed_bytes_saved", log.packed_bytes_saved.into());
        put("scrub_passes", log.scrubbed.passes.into());
        put("scrub_bytes", log.scrubbed.bytes.into());
        put("scrub_damaged_blocks", log.scrubbed.damaged_blocks.into());
        put("scrub_damage", log.scrubbed.damage.iter().map(ToString::to_string).collect());
        put("topics", log.topics.into());
    }
    if let Some(view) = &view {
        put(
            "leader",
            json!({
                "address": server.leader_hint(),
                "connected": view.connected,
                "connects": view.connects,
                "as_of_ns": view.as_of_ns,
                "stale_seconds": view.as_of.map(|at| at.elapsed().as_secs_f64()),
                "trouble": view.trouble,
            }),
        );
    }
    object
}

fn follower(row: &FollowerRow) -> Value {
    json!({
        "name": row.name,
        "state": row.state,
        "durable_lsn": row.durable_lsn,
        "lag_blocks": row.lag_blocks,
        "lag_bytes": row.lag_bytes,
        "lag_seconds": row.lag_seconds,
    })
}
