//! Invariants of every round. A figure of a log that loses entries, or that acknowledges before it has flushed, is worth nothing.
//!
//! Pure.

use crate::device::DeviceCounts;
use crate::load::Acked;
use crate::result::{Check, Spec};
use crate::target::{Counters, ReadBack};

/// Everything that producers have seen acknowledged comes back, and nothing else.
pub(crate) fn all_came_back(acked: u64, back: ReadBack, given_away: u64, spec: &Spec) -> Check {
    let ok = back.entries + given_away == acked && back.payload_bytes == back.entries * spec.payload_bytes;
    let kept =
        if given_away > 0 { format!(", {given_away} had been given away for the log's bound") } else { String::new() };
    Check {
        name: "everything acknowledged reads back".into(),
        ok,
        detail: format!(
            "{acked} entries acknowledged, {} came back with {} bytes{kept}",
            back.entries, back.payload_bytes
        ),
    }
}

/// What was acknowledged before the kill is there. More may be: what was under way.
pub(crate) fn all_is_there_after_a_kill(acked: u64, back: ReadBack) -> Check {
    Check {
        name: "everything acknowledged before SIGKILL is there".into(),
        ok: back.entries >= acked,
        detail: format!("{acked} entries acknowledged, {} are there", back.entries),
    }
}

/// From before the first append of a load until after its last acknowledgement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flushing {
    pub(crate) acked: Acked,
    pub(crate) own: Counters,
    /// Of a device that counts each flush.
    pub(crate) device: Option<DeviceCounts>,
}

/// Each durable acknowledgement had a flush behind it: one flush covers what is in flight together at most.
pub(crate) fn flushed(spec: &Spec, flushing: Flushing) -> Vec<Check> {
    if spec.kind != "durable" {
        return Vec::new();
    }
    let Flushing { acked, own, device } = flushing;
    let in_flight = u64::from(spec.producers) * u64::from(spec.outstanding);
    let needed = acked.batches.div_ceil(in_flight);
    let check = |who: &str, flushes: u64| Check {
        name: format!("flushes cover acknowledgements, by {who} count"),
        ok: flushes >= needed,
        detail: format!(
            "{} batches, {in_flight} in flight: at least {needed} flushes, {flushes} counted",
            acked.batches
        ),
    };
    let by_device = device.map(|device| check("the device's", device.flushes));
    let by_log = own.flushes.map(|flushes| check("the log's", flushes));
    by_device.into_iter().chain(by_log).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::spec;

    #[test]
    fn a_lost_a_surplus_and_a_short_entry_break_the_count() {
        let check = |entries, payload_bytes, given_away| {
            all_came_back(10, ReadBack { entries, payload_bytes }, given_away, &spec()).ok
        };
        assert!(check(10, 2560, 0) && check(7, 7 * 256, 3));
        assert!(!check(9, 9 * 256, 0) && !check(11, 11 * 256, 0) && !check(10, 2559, 0) && !check(10, 2560, 1));
    }

    #[test]
    fn after_a_kill_more_may_be_there_and_less_may_not() {
        let check = |entries| all_is_there_after_a_kill(10, ReadBack { entries, payload_bytes: 0 }).ok;
        assert!(check(10) && check(11) && !check(9));
    }

    #[test]
    fn a_lone_producer_needs_a_flush_for_each_and_many_share_as_many_as_are_in_flight() {
        let device = |flushes| Some(DeviceCounts { flushes, ..DeviceCounts::default() });
        let flushing = |device, own| Flushing {
            acked: Acked { entries: 100, batches: 100 },
            own: Counters { flushes: own, ..Counters::default() },
            device,
        };
        let all_ok = |spec: &Spec, flushing| flushed(spec, flushing).iter().all(|check| check.ok);
        let many = Spec { producers: 4, outstanding: 8, ..spec() };
        assert!(all_ok(&spec(), flushing(device(100), Some(100))) && all_ok(&many, flushing(device(4), Some(4))));
        assert!(!all_ok(&spec(), flushing(device(99), Some(100))) && !all_ok(&spec(), flushing(None, Some(99))));
        assert!(!all_ok(&many, flushing(device(3), None)));
        assert_eq!(flushed(&spec(), flushing(device(1), Some(1))).len(), 2);
        assert!(flushed(&spec(), flushing(None, None)).is_empty());
        assert!(flushed(&Spec { kind: "written".into(), ..spec() }, flushing(device(0), Some(0))).is_empty());
    }
}
