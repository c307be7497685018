//! The highest rate that holds a promise: "p99 below 2 ms up to 41,000 a second".
//!
//! ```text
//!   closed loop -> as fast as it goes      |--------- holds ---------|???|------- does not -------|
//!   then open loops, halving what is open            low ^                 ^ high
//! ```
//!
//! A step holds when something was due in it, the log kept up with the schedule, and the percentile, from the intended times, kept the
//! bound.
//! The rounds at the rate that was found are held to the same.
//!
//! It is looked for once, by short steps: another search of the same log finds another rate, and nobody knows how far from this one.
//!
//! Knows nothing of targets: a step is a function.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::load::Due;
use crate::plan::{CasePlan, Slo};
use crate::round::Played;

/// Halvings: the answer is within a hundredth of the fastest.
const STEPS: u32 = 7;
/// No step is shorter than this, unless the case itself is.
const STEP_MIN: Duration = Duration::from_secs(1);

/// An open loop that sent less than this of what was due did not keep up.
pub(crate) const KEPT_UP: f64 = 0.98;

/// Whether an open loop kept up with its schedule.
pub(crate) fn kept_up(due: Due) -> bool {
    due.sent as f64 >= due.due as f64 * KEPT_UP
}

/// Whether a promise was kept: by something, for where nothing was due nothing was late.
pub(crate) fn holds(slo: Slo, played: &Played) -> bool {
    let (quantile, bound_us) = slo.bound();
    let is_kept = |due: Due| due.due > 0 && kept_up(due) && played.measured.response.quantile_us(quantile) <= bound_us;
    played.due.is_some_and(is_kept)
}

/// Looks for it with steps of a third of the case's time.
///
/// # Errors
/// A step failed, the log answered nothing, or not even the slowest step holds.
pub(crate) fn highest_rate(
    case: &CasePlan,
    slo: Slo,
    play: impl Fn(&CasePlan) -> Result<Played>,
    tell: &mut dyn FnMut(&str),
) -> Result<f64> {
    let duration = (case.duration / 3).max(STEP_MIN).min(case.duration);
    let step = |rate_per_s: Option<f64>| {
        let mut case = CasePlan { duration, slo: None, ..case.clone() };
        case.spec.rate_per_s = rate_per_s;
        play(&case)
    };
    tell("how fast it goes at all");
    let fastest = step(None)?.measured;
    ensure!(
        fastest.batches > 0,
        "no batch was answered within {duration:?}: there is no rate from which to look for one that holds"
    );
    let fastest = fastest.batches as f64 / fastest.seconds;
    let (quantile, _) = slo.bound();
    bisect(fastest, |rate_per_s| {
        let played = step(Some(rate_per_s))?;
        let us = played.measured.response.quantile_us(quantile);
        let holds = holds(slo, &played);
        tell(&format!("at {rate_per_s:.0}/s it was {us:.0} us: {}", if holds { "holds" } else { "does not hold" }));
        Ok(holds)
    })
}

fn bisect(fastest: f64, mut holds: impl FnMut(f64) -> Result<bool>) -> Result<f64> {
    let (mut low, mut high) = (0.0, fastest);
    for _ in 0..STEPS {
        let middle = f64::midpoint(low, high);
        if holds(middle)? { low = middle } else { high = middle }
    }
    ensure!(
        low > 0.0,
        "not even {high:.0} batches a second hold the bound, of {fastest:.0} that it does when asked as fast as it answers"
    );
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;

    #[test]
    fn the_rate_where_it_ceases_to_hold_is_found_within_a_hundredth() {
        for limit in [50.0, 333.0, 990.0, 5000.0] {
            let found = bisect(1000.0, |rate| Ok(rate <= limit)).unwrap();
            assert!(found <= limit && found >= f64::min(limit, 1000.0) - 1000.0 / 100.0, "{found} {limit}");
        }
    }

    #[test]
    fn a_bound_that_nothing_holds_and_a_step_that_fails_are_errors() {
        assert!(bisect(1000.0, |_| Ok(false)).unwrap_err().to_string().contains("not even 8 batches"));
        assert!(bisect(1000.0, |_| anyhow::bail!("no disk")).is_err());
    }

    fn played(batches: u32, response_us: u64, due: Option<Due>) -> Played {
        let mut played = crate::round::tests::played(batches);
        (0..batches).for_each(|_| played.measured.response.record(Duration::from_micros(response_us)));
        played.due = due;
        played
    }

    #[test]
    fn a_log_that_answers_nothing_at_all_is_an_error_of_its_case() {
        let case = Plan::parse("[load]\nslo = { p99_us = 1000 }\n").unwrap().cases.remove(0);
        let nothing = |_: &CasePlan| Ok(played(0, 0, None));
        let error = highest_rate(&case, case.slo.unwrap(), nothing, &mut |_| ()).unwrap_err().to_string();
        assert!(error.contains("no batch was answered"), "{error}");
    }

    #[test]
    fn a_promise_is_kept_only_where_something_was_due() {
        let slo = Plan::parse("[load]\nslo = { p99_us = 1000 }\n").unwrap().cases[0].slo.unwrap();
        let holds = |us, due, sent| holds(slo, &played(10, us, Some(Due { due, sent })));
        assert!(holds(900, 10, 10) && !holds(1100, 10, 10) && !holds(900, 10, 5));
        assert!(!holds(900, 0, 0));
    }

    #[test]
    fn an_open_loop_that_sent_nearly_everything_kept_up() {
        assert!(kept_up(Due { due: 1000, sent: 980 }) && !kept_up(Due { due: 1000, sent: 979 }));
    }
}
