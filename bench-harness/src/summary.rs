//! What a run says: one JSON object for programs, a table for people.

use serde::Serialize;

use crate::floor::Floor;
use crate::host::Host;
use crate::workload::{ReadBack, Run};

/// Raised when a field changes its meaning; fields may be added without.
pub(crate) const SCHEMA: u32 = 1;

/// One run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) schema: u32,
    pub(crate) tool: &'static str,
    pub(crate) version: &'static str,
    pub(crate) smoke: bool,
    pub(crate) host: Host,
    /// How the log reached the disk.
    pub(crate) io: &'static str,
    pub(crate) flush: &'static str,
    pub(crate) warnings: Vec<String>,
    /// In the same run and directory: before the load, and after it.
    pub(crate) floor: FloorReport,
    pub(crate) runs: Vec<Run>,
    pub(crate) read_back: ReadBack,
}

/// The device alone, at depth 1.
#[derive(Debug, Serialize)]
pub(crate) struct FloorReport {
    pub(crate) write_bytes: usize,
    pub(crate) is_direct: bool,
    /// 4 KiB written, then fdatasync.
    pub(crate) fdatasync_per_second: f64,
    pub(crate) fdatasync_p50_us: f64,
    /// The same after the load. Far from the one before: the device was not quiet, and the figures are worth little.
    pub(crate) fdatasync_per_second_after: f64,
    /// 4 KiB written with RWF_DSYNC; `None` where the kernel does not know it.
    pub(crate) dsync_per_second: Option<f64>,
}

impl FloorReport {
    pub(crate) fn new(before: Floor, after: Floor, dsync: Option<Floor>) -> FloorReport {
        FloorReport {
            write_bytes: 4096,
            is_direct: before.is_direct,
            fdatasync_per_second: before.per_second,
            fdatasync_p50_us: before.p50.as_secs_f64() * 1e6,
            fdatasync_per_second_after: after.per_second,
            dsync_per_second: dsync.map(|floor| floor.per_second),
        }
    }
}

impl Report {
    /// For people.
    pub(crate) fn print(&self) {
        let Report { host, floor, read_back, .. } = self;
        let unknown = "unknown".to_owned();
        println!(
            "walrus-bench: {} on {}, kernel {}, {} cores, io {}",
            host.file_system.as_ref().unwrap_or(&unknown),
            host.device.as_ref().unwrap_or(&unknown),
            host.kernel,
            host.cores,
            self.io
        );
        let row = |what: &str, per_second: f64, note: &str| println!("  {what:<42} {per_second:>10.0} /s  {note}");
        row("device: 4 KiB write + fdatasync", floor.fdatasync_per_second, "the floor at depth 1");
        row("  the same, after the load", floor.fdatasync_per_second_after, "");
        if let Some(dsync) = floor.dsync_per_second {
            row("device: 4 KiB write with RWF_DSYNC", dsync, "");
        }
        for run in &self.runs {
            let w = run.workload;
            let what = format!("durable, {} x {} B, {} outstanding", w.batch_entries, w.entry_bytes, w.outstanding);
            let times = run.entries_per_second / floor.fdatasync_per_second;
            let note = format!("{times:.2} x the floor; p50 {:.0} us, p99 {:.0} us", run.p50_us, run.p99_us);
            row(&what, run.entries_per_second, &note);
        }
        let ReadBack { entries, megabytes_per_second, .. } = read_back;
        println!("  read back and compared: all {entries} entries, {megabytes_per_second:.0} MB/s");
        self.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    }
}
