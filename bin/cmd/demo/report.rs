//! What a demo has measured: each figure with the floor beside it, and what to type next.

use std::time::Duration;

use super::check::Checked;
use super::floor::{Floor, QUIET_RATIO};
use super::host::HostFacts;
use super::load::{Lag, Loaded, percentile};
use crate::fail::Failure;
use crate::output::Output;
use crate::text::count;

/// Everything that was measured, in one run and one directory.
pub(super) struct Figures {
    pub(super) host: HostFacts,
    pub(super) io: String,
    pub(super) floor: Floor,
    pub(super) floor_after: Floor,
    pub(super) one: Loaded,
    pub(super) many: Loaded,
    pub(super) batches: Loaded,
    /// From the last acknowledgement of the batches until the follower had everything.
    pub(super) behind: Duration,
    pub(super) lag: Lag,
    pub(super) killed: Loaded,
    /// From the leader's death until its follower had everything again.
    pub(super) resumed: Duration,
    pub(super) checked: Checked,
}

impl Figures {
    /// A short table on stdout.
    pub(super) fn print(&self) -> Result<(), Failure> {
        let mut out = Output::new();
        let HostFacts { kernel, cores, file_system, device, .. } = &self.host;
        let [file_system, device] = [file_system, device].map(|name| name.as_deref().unwrap_or("unknown"));
        let io = &self.io;
        out.line(format_args!(
            "walrus-node demo: {file_system} on {device}, kernel {kernel}, {cores} cores, io {io}\n"
        ))?;
        self.device(&mut out)?;
        self.appends(&mut out)?;
        self.mirror(&mut out)?;
        self.kills(&mut out)?;
        if let Some(unrest) = unrest(&self.floor, &self.floor_after) {
            out.line(format_args!("  {:<8} {unrest}", "beware"))?;
        }
        out.line(format_args!("{NEXT}"))?;
        out.flush()
    }

    fn device(&self, out: &mut Output) -> Result<(), Failure> {
        let how = if self.floor.is_direct { "O_DIRECT write" } else { "write" };
        let [before, after] = [self.floor, self.floor_after].map(|floor| rate(floor.per_second));
        row(out, "device", &format!("4 KiB {how} + fdatasync, alone"), &before, "the floor")?;
        row(out, "", "the same again, after the load", &after, "")
    }

    /// Over QUIC on loopback, with the follower on the same disk: a leader alone is faster.
    fn appends(&self, out: &mut Output) -> Result<(), Failure> {
        for (load, what) in [
            (&self.one, "256 B, durable, 1 outstanding"),
            (&self.many, "256 B, durable, 64 outstanding"),
            (&self.batches, "256 B, durable, batches of 256, 32 outstanding"),
        ] {
            let per_second = load.entries_per_second();
            let (p50, p99) = (time(load.percentile(0.5)), time(load.percentile(0.99)));
            let floors = per_second / self.floor.per_second;
            let note = format!("{floors:.2} x the floor; p50 {p50}, p99 {p99}");
            row(out, if load.window.outstanding == 1 { "append" } else { "" }, what, &rate(per_second), &note)?;
        }
        Ok(())
    }

    fn mirror(&self, out: &mut Output) -> Result<(), Failure> {
        let (p50, p99) = (percentile(&self.lag.behind, 0.5), percentile(&self.lag.behind, 0.99));
        let what = "leader's acknowledgement to follower's reader";
        row(out, "mirror", what, &time(p50), &format!("p50 of {}; p99 {}", self.lag.behind.len(), time(p99)))?;
        row(out, "", "behind after the batches", &time(self.behind), "until the follower had everything")
    }

    fn kills(&self, out: &mut Output) -> Result<(), Failure> {
        let Checked { acked, there, blocks, end, chain } = &self.checked;
        let line = format!("{} entries acknowledged when the leader died", count(self.killed.acked));
        let how = "follower, then leader, with SIGKILL under load:";
        out.line(format_args!("  {:<8} {how} {line}", "killed"))?;
        out.line(format_args!(
            "  {:<8} the follower had everything again {} after that, by itself",
            "",
            time(self.resumed)
        ))?;
        let [acked, there, blocks] = [acked, there, blocks].map(|number| count(*number));
        out.line(format_args!(
            "  {:<8} {acked} entries acknowledged, {there} there: none lost, no batch in part",
            "checked"
        ))?;
        out.line(format_args!("  {:<8} both logs are equal: {blocks} blocks, before lsn {end}, chain {chain}", ""))
    }
}

fn row(out: &mut Output, topic: &str, what: &str, figure: &str, note: &str) -> Result<(), Failure> {
    let line = format!("  {topic:<8} {what:<48} {figure:>12}  {note}");
    out.line(format_args!("{}", line.trim_end()))
}

/// A word of warning where the device did not do the same before a load and after it: then others use it too, or it throttles, and
/// what was measured in between says more about them.
fn unrest(before: &Floor, after: &Floor) -> Option<String> {
    let [before, after] = [before, after].map(|floor| floor.per_second);
    (before.max(after) > before.min(after) * QUIET_RATIO).then(|| {
        format!("the device was not quiet: {before:.0} flushes a second before the load, {after:.0} after it; the figures say little")
    })
}

fn rate(per_second: f64) -> String {
    format!("{} /s", count(per_second.round() as u64))
}

fn time(time: Duration) -> String {
    let us = time.as_secs_f64() * 1e6;
    match us {
        ..1_000.0 => format!("{us:.0} us"),
        ..1_000_000.0 => format!("{:.1} ms", us / 1e3),
        _ => format!("{:.1} s", us / 1e6),
    }
}

const NEXT: &str = "
next: seq 1000 | walrus-node append numbers --data log --batch 256
      walrus-node tail numbers --data log -o -3
      walrus-node serve --data log
      walrus-node topics --node 127.0.0.1:7400 --tls log/tls/admin";
