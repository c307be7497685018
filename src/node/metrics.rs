//! The metrics, in Prometheus's text format: one table of name, type and help.
//!
//! Layer: node.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::follower::View;
use crate::leader::Server;
use crate::log::keeper::SpaceState;

/// A page under construction.
#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, "gauge", help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn counter(&mut self, name: &str, help: &str, value: &AtomicU64) {
        self.family(name, "counter", help);
        let _ = writeln!(self.0, "{name} {}", value.load(Ordering::Relaxed));
    }

    fn labelled(&mut self, name: &str, label: &str, rows: impl Iterator<Item = (String, f64)>) {
        for (row, value) in rows {
            let row = row.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = writeln!(self.0, "{name}{{{label}=\"{row}\"}} {value}");
        }
    }
}

/// The page of `/metrics`.
pub(super) fn page(server: &Server, follows: Option<&View>) -> String {
    let mut page = Page::default();
    page.family("walrus_build_info", "gauge", "The version of this program.");
    page.labelled("walrus_build_info", "version", std::iter::once((env!("CARGO_PKG_VERSION").to_owned(), 1.0)));
    page.family("walrus_node_role", "gauge", "1 for the role this node has.");
    let is = |role| if follows.is_some() == (role == "follower") { 1.0 } else { 0.0 };
    page.labelled(
        "walrus_node_role",
        "role",
        ["leader", "follower"].map(|role| (role.to_owned(), is(role))).into_iter(),
    );

    if let Some(log) = server.log_status() {
        page.gauge("walrus_epoch", "The number of the reign of the last block.", log.epoch.get().into());
        page.gauge("walrus_durable_lsn", "The first block that is not durable yet.", log.durable_lsn.get() as f64);
        page.gauge("walrus_log_bytes", "Bytes of the segment files in use.", log.log_bytes as f64);
        page.gauge("walrus_first_lsn", "The first block that is still there.", log.first_lsn.get() as f64);
        page.gauge("walrus_free_bytes", "Bytes that are free on the log's file system.", log.free_bytes as f64);
        page.family("walrus_space", "gauge", "1 for the state of the room to go on.");
        let is = |state: SpaceState| (state.name().to_owned(), f64::from(u8::from(log.space == state)));
        page.labelled("walrus_space", "state", [SpaceState::Ok, SpaceState::Low, SpaceState::Full].map(is).into_iter());
        let help = "Durable blocks that the scrub has found damaged, and that are still part of the log.";
        page.gauge("walrus_scrub_damaged_blocks", help, log.scrubbed.damaged_blocks as f64);
        let help = "Bytes of durable blocks that were read again and checked.";
        page.counter("walrus_scrub_bytes_total", help, &AtomicU64::new(log.scrubbed.bytes));
        page.gauge("walrus_topics", "Topics in the log.", log.topics as f64);
        let survived = AtomicU64::new(log.failures_survived);
        let help = "Failed writes and flushes that were fenced off, and written again elsewhere.";
        page.counter("walrus_log_failures_survived_total", help, &survived);
        page.gauge("walrus_log_halted", "1 when the log takes no writes.", f64::from(u8::from(log.halted.is_some())));
    }
    served(&mut page, server);
    followers(&mut page, server);
    if let Some(view) = follows {
        follower(&mut page, view);
    }
    page.0
}

fn served(page: &mut Page, server: &Server) {
    let n = server.counters();
    page.counter(
        "walrus_appended_batches_total",
        "Batches appended over the network and durable.",
        &n.appended_batches,
    );
    page.counter("walrus_appended_entries_total", "Their entries.", &n.appended_entries);
    page.counter("walrus_appended_bytes_total", "Their payload bytes.", &n.appended_bytes);
    page.counter("walrus_read_entries_total", "Entries served to readers over the network.", &n.read_entries);
    page.counter("walrus_replication_sent_blocks_total", "Blocks shipped to followers.", &n.shipped_blocks);
    page.counter("walrus_replication_sent_bytes_total", "Their bytes.", &n.shipped_bytes);
    page.counter(
        "walrus_refused_connections_total",
        "Connections refused before they said anything.",
        &n.refused_connections,
    );
}

fn followers(page: &mut Page, server: &Server) {
    let rows = server.followers();
    type Value = fn(&crate::leader::FollowerRow) -> f64;
    let table: [(&str, &str, Value); 5] = [
        ("walrus_replication_connected", "1 while the follower is connected.", |row| {
            f64::from(u8::from(matches!(row.state, "streaming" | "catching-up")))
        }),
        ("walrus_replication_durable_lsn", "The first block that is not durable on the follower.", |row| {
            row.durable_lsn as f64
        }),
        ("walrus_replication_lag_blocks", "Durable blocks that the follower has not.", |row| row.lag_blocks as f64),
        ("walrus_replication_lag_bytes", "Their bytes; what was not sent yet is estimated.", |row| {
            row.lag_bytes as f64
        }),
        ("walrus_replication_lag_seconds", "Since when the follower has not everything.", |row| row.lag_seconds),
    ];
    for (name, help, value) in table {
        page.family(name, "gauge", help);
        page.labelled(name, "follower", rows.iter().map(|row| (row.name.clone(), value(row))));
    }
}

fn follower(page: &mut Page, view: &View) {
    let connected = f64::from(u8::from(view.connected));
    page.gauge("walrus_follower_connected", "1 while this follower is connected to its leader.", connected);
    page.gauge("walrus_high_lsn", "The leader's durable watermark as last heard.", view.high.get() as f64);
    let fresh = view.as_of_ns as f64 / 1e9;
    let help = "The leader's clock when this follower last had everything; 0: never in this process.";
    page.gauge("walrus_follower_fresh_timestamp_seconds", help, fresh);
    if let Some(at) = view.as_of {
        let stale = at.elapsed().as_secs_f64();
        page.gauge("walrus_follower_staleness_seconds", "How long ago that was by this node's clock.", stale);
    }
    page.counter("walrus_follower_connects_total", "Connections made to the leader.", &AtomicU64::new(view.connects));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_label_cannot_break_out_of_it() {
        let mut page = Page::default();
        page.labelled("m", "l", std::iter::once(("a\"} 1\nx\\".to_owned(), 2.0)));
        assert_eq!(page.0, "m{l=\"a\\\"} 1\\nx\\\\\"} 2\n");
    }
}
