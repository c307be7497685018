//! Every target over the network under a real load of a moment: everything comes back, followers are equal, and a lag is told.

use std::time::Duration;

use super::*;
use crate::device::Device;
use crate::plan::{CasePlan, Plan};
use crate::round::{Bench, Played};

fn cases(keys: &str) -> Vec<CasePlan> {
    Plan::parse(&format!("[load]\nnetwork = true\nwarmup = \"20ms\"\nduration = \"200ms\"\n{keys}")).unwrap().cases
}

/// Plays a case and holds its invariants.
fn play(kind: &dyn Kind, case: &CasePlan) -> Played {
    let dir = tempfile::tempdir().unwrap();
    let device = Device::under(dir.path(), None);
    let bench = Bench { device: &device, counts_flushes: false, seed: 3 };
    let played =
        bench.play(kind, case, dir.path(), &mut |_| ()).unwrap_or_else(|error| panic!("{}: {error:#}", case.name()));
    for check in &played.checks {
        assert!(check.ok, "{}: {}: {}", case.name(), check.name, check.detail);
    }
    assert!(played.measured.entries > 0, "{}", case.name());
    played
}

/// A server of somebody else's, or `None` with a word on stderr where it is not installed.
fn installed(kind: impl Kind + 'static, spec: &Spec) -> Option<Box<dyn Kind>> {
    let reason = kind.refuses(spec);
    reason.inspect(|reason| eprintln!("skipped: {} {reason}", kind.name())).map_or(Some(Box::new(kind)), |_| None)
}

#[test]
fn our_node_takes_lone_appends_pipelined_batches_and_several_topics() {
    let kind = node::NetNode { fills_before: false };
    for keys in
        ["producers = 4", "batch = 16\noutstanding = 8", "outstanding = 16\ntopics = 5", "durability = \"written\""]
    {
        for case in cases(keys) {
            assert_eq!(kind.refuses(&case.spec), None);
            let played = play(&kind, &case);
            assert!(played.lag.is_none() && played.settings.contains("QUIC"), "{}", played.settings);
        }
    }
}

#[test]
fn followers_equal_their_leader_and_were_behind_by_a_time_that_is_told() {
    let kind = node::NetNode { fills_before: false };
    let case = cases("followers = 2\nbatch = 16\noutstanding = 4").remove(0);
    let played = play(&kind, &case);
    let check = played.checks.iter().find(|check| check.name == "followers equal their leader").unwrap();
    assert!(check.detail.contains("0 of 2"), "{}", check.detail);
    let lag = played.lag.unwrap();
    assert!(lag.p50_us > 0.0 && lag.p50_us <= lag.p99_us && lag.p99_us <= lag.max_us * 1.001, "{lag:?}");
    assert!(!lag.timeline.is_empty() && lag.hdr.is_some());
}

#[test]
fn redis_takes_the_same_loads_where_it_is_installed() {
    let all = cases("producers = [1, 4]").into_iter().chain(cases("batch = 16\noutstanding = 8\ntopics = 3"));
    for case in all.chain(cases("durability = \"written\"")) {
        let Some(kind) = installed(redis::Redis::find(), &case.spec) else { return };
        let played = play(&*kind, &case);
        assert!(played.settings.contains("appendfsync"), "{}", played.settings);
        assert!(played.spent.usage.cpu > Duration::ZERO);
    }
}

#[test]
fn nats_takes_the_same_loads_where_a_version_that_flushes_is_installed() {
    for case in cases("producers = [1, 4]").into_iter().chain(cases("outstanding = 16\ntopics = 3")) {
        let Some(kind) = installed(nats::Nats::find(), &case.spec) else { return };
        let played = play(&*kind, &case);
        assert!(played.settings.contains("sync_interval: always"), "{}", played.settings);
    }
}
