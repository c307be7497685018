//! What a case cannot be, said by the key that is to blame.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::CasePlan;
use crate::result::Spec;

const PAYLOAD_BYTES_MAX: u64 = 256 << 20;
const BATCH_MAX: u32 = 2_000;
const BATCH_BYTES_MAX: u64 = 1 << 30;
/// More threads than this measure the scheduler.
const PRODUCERS_MAX: u32 = 4_096;
const OUTSTANDING_MAX: u32 = 1 << 20;
const TOPICS_MAX: u32 = 1_000_000;
const FOLLOWERS_MAX: u32 = 16;
const ROUNDS_MAX: u32 = 100;
/// A round's single seconds are kept, each as histograms of its own: an hour of them is some hundred MiB, and a week a slip of the unit.
const ROUND_TIME_MAX: Duration = Duration::from_secs(3_600);
/// A floor of less would be a handful of writes, of which no rate follows.
const FLOOR_TIME_MIN: Duration = Duration::from_millis(1);
/// The times of a floor's writes are kept one by one, and each round waits for two floors.
const FLOOR_TIME_MAX: Duration = Duration::from_secs(600);
/// Less is not one batch in the longest round: nothing would be due.
const RATE_MIN: f64 = 0.001;
/// More is beyond the clock: its unit is a nanosecond.
const RATE_MAX: f64 = 1e9;
const IO_MODES: &[&str] = &["auto", "uring", "syscall", "mmap"];

/// # Errors
/// The first key that cannot be what it is.
pub(super) fn case(case: &CasePlan) -> Result<()> {
    let Spec { payload_bytes, batch, producers, outstanding, topics, followers, .. } = case.spec;
    within("payload", payload_bytes, 0, PAYLOAD_BYTES_MAX)?;
    within("batch", batch.into(), 1, BATCH_MAX.into())?;
    within("producers", producers.into(), 1, PRODUCERS_MAX.into())?;
    within("outstanding", outstanding.into(), 1, OUTSTANDING_MAX.into())?;
    within("topics", topics.into(), 1, TOPICS_MAX.into())?;
    within("followers", followers.into(), 0, FOLLOWERS_MAX.into())?;
    within("rounds", case.rounds.into(), 1, ROUNDS_MAX.into())?;
    let bytes = payload_bytes * u64::from(batch);
    ensure!(
        bytes <= BATCH_BYTES_MAX,
        "batch = {batch} x payload = {payload_bytes} is {bytes} bytes, at most {BATCH_BYTES_MAX} go"
    );
    let io = case.spec.io.as_str();
    ensure!(IO_MODES.contains(&io), "io = {io:?}, and must be one of {}", IO_MODES.join(", "));
    ensure!(!case.duration.is_zero(), "duration = \"0s\": there is nothing to measure in no time");
    for (key, time) in [("duration", case.duration), ("warmup", case.warmup)] {
        ensure!(
            time <= ROUND_TIME_MAX,
            "{key} = {time:?}, and must be at most {ROUND_TIME_MAX:?}: its seconds are kept one by one"
        );
    }
    open_loop(case)?;
    reading(case)
}

/// How long a floor is measured, as `key` asks for it.
///
/// # Errors
/// So short that nothing follows from it, or longer than its times are kept.
pub(crate) fn floor_time(key: &str, time: Duration) -> Result<()> {
    ensure!(
        (FLOOR_TIME_MIN..=FLOOR_TIME_MAX).contains(&time),
        "{key} = {time:?}, and must be {FLOOR_TIME_MIN:?} to {FLOOR_TIME_MAX:?}: the device needs time for some writes"
    );
    Ok(())
}

fn within(key: &str, value: u64, min: u64, max: u64) -> Result<()> {
    ensure!((min..=max).contains(&value), "{key} = {value}, and must be {min} to {max}");
    Ok(())
}

fn open_loop(case: &CasePlan) -> Result<()> {
    let Spec { rate_per_s, outstanding, arrivals, .. } = &case.spec;
    if let Some(slo) = case.slo {
        let told = [slo.p50_us, slo.p99_us, slo.p999_us].into_iter().flatten().collect::<Vec<_>>();
        ensure!(told.len() == 1, "slo names {} percentiles; it takes one of p50_us, p99_us, p999_us", told.len());
        ensure!(told[0] > 0.0, "slo = {} us: no log answers before it is asked", told[0]);
        ensure!(rate_per_s.is_none(), "rate beside slo: with slo, the rate is what is looked for");
    }
    if let Some(rate) = rate_per_s {
        ensure!(
            (RATE_MIN..=RATE_MAX).contains(rate),
            "rate = {rate}, and must be {RATE_MIN} to {RATE_MAX} batches a second (a clock's unit is a nanosecond), or \"max\""
        );
    }
    let Some(arrivals) = arrivals else { return Ok(()) };
    ensure!(
        matches!(arrivals.as_str(), "uniform" | "poisson"),
        "arrivals = {arrivals:?}, and must be uniform or poisson"
    );
    ensure!(rate_per_s.is_some() || case.slo.is_some(), "arrivals without rate: a closed loop has no schedule");
    ensure!(
        *outstanding == 1,
        "outstanding = {outstanding} with a rate: an open loop has one a producer; take more producers"
    );
    Ok(())
}

fn reading(case: &CasePlan) -> Result<()> {
    let kind = case.spec.kind.as_str();
    if !matches!(kind, "read" | "open") {
        return Ok(());
    }
    ensure!(case.spec.arrivals.is_none(), "rate with measure = {kind:?}: nothing is offered there");
    ensure!(case.fill_bytes > 0, "fill = 0 with measure = {kind:?}: there would be nothing in the log");
    ensure!(case.spec.payload_bytes > 0, "payload = 0 with measure = {kind:?}: fill would never be reached");
    Ok(())
}
