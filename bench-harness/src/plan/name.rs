//! The name of a case: what `--only` looks into, and what two runs are compared by.
//!
//! `durable 256B x64thr`, `durable 256x256B x1thr 8out`, `read 4KiB`, `durable 256B x64thr 50000/s poisson`. What is as usual is not said.

use super::CasePlan;
use crate::result::Spec;

impl CasePlan {
    /// Of the case, without its target.
    pub(crate) fn name(&self) -> String {
        let Spec { kind, payload_bytes, batch, producers, outstanding, topics, io, followers, network, .. } =
            &self.spec;
        let entry = if *batch == 1 { short(*payload_bytes) } else { format!("{batch}x{}", short(*payload_bytes)) };
        let mut name = format!("{kind} {entry}");
        let mut say = |is: bool, what: String| {
            if is {
                name.push(' ');
                name.push_str(&what);
            }
        };
        let is_append = !matches!(kind.as_str(), "read" | "open");
        say(is_append || *producers > 1, format!("x{producers}thr"));
        say(is_append && *outstanding > 1, format!("{outstanding}out"));
        say(!is_append, format!("of {}", short(self.fill_bytes)));
        say(*topics > 1, format!("{topics}topics"));
        say(io != "auto", io.clone());
        say(*network, "net".into());
        say(*followers > 0, format!("{followers}followers"));
        // A rate that was looked for is a result, and no name.
        let rate = self.spec.rate_per_s.filter(|_| self.slo.is_none());
        say(rate.is_some(), format!("{}/s", rate.unwrap_or_default()));
        say(self.slo.is_some(), self.slo.map(|slo| slo.name()).unwrap_or_default());
        say(self.spec.arrivals.is_some(), self.spec.arrivals.clone().unwrap_or_default());
        name
    }
}

/// `256B`, `64KiB`, `1GB`.
fn short(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("GB", 1_000_000_000), ("MB", 1_000_000)];
    let whole = units.into_iter().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{bytes}B"), |(name, unit)| format!("{}{name}", bytes / unit))
}
