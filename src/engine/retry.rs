//! Trying an append again, for errors that say that nothing was written.
//!
//! Layer: engine. How long to wait is computed here, from the caller's policy and a seed; the waiting is the caller's.

use std::time::Duration;

use bytes::Bytes;

use super::{AppendOptions, Engine};
use crate::commit::error::AppendError;
use crate::commit::ticket::Receipt;
use crate::entropy::Entropy;

/// How often, and after which waits, an append is tried again: exponential backoff with full jitter, each wait drawn evenly from zero to
/// twice the one before ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015). Callers who fail together do not come back
/// together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all, the first one included.
    pub tries: u32,
    /// The longest wait before the second try; doubled for each further one.
    pub first: Duration,
    /// The longest wait of all.
    pub max: Duration,
}

impl Default for RetryPolicy {
    /// Ten tries within about ten seconds.
    fn default() -> RetryPolicy {
        RetryPolicy { tries: 10, first: Duration::from_millis(10), max: Duration::from_secs(4) }
    }
}

impl RetryPolicy {
    /// The longest wait after try number `tried`, counted from 1; none when that was the last.
    fn bound_after(&self, tried: u32) -> Option<Duration> {
        let doubled = self.first.saturating_mul(1u32.checked_shl(tried - 1).unwrap_or(u32::MAX));
        (tried < self.tries).then(|| doubled.min(self.max))
    }
}

/// The waits of one append.
pub(super) struct Backoff {
    policy: RetryPolicy,
    entropy: Entropy,
    tried: u32,
}

impl Backoff {
    pub(super) fn new(policy: RetryPolicy, seed: Option<u64>) -> Backoff {
        Backoff { policy, entropy: Entropy::new(seed), tried: 0 }
    }

    /// How long to wait before the next try; none if there is to be none.
    pub(super) fn next(&mut self) -> Option<Duration> {
        self.tried += 1;
        let bound = self.policy.bound_after(self.tried)?;
        let bound_ns = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX - 1);
        Some(Duration::from_nanos(self.entropy.next_u64() % (bound_ns + 1)))
    }
}

impl Engine {
    /// Appends and waits; an error that is [retryable](AppendError::is_retryable), a full disk or a busy log, is tried again by the policy.
    /// Nothing was written by a try that failed so, therefore nothing is ever written twice.
    ///
    /// # Errors
    /// The last try's; whatever is not retryable at once.
    pub fn append_retrying(
        &self,
        topic: &str,
        entries: Vec<Bytes>,
        options: AppendOptions,
        policy: RetryPolicy,
    ) -> Result<Receipt, AppendError> {
        let mut backoff = Backoff::new(policy, None);
        loop {
            let outcome = self.append_and_wait(topic, entries.clone(), options);
            match outcome {
                Err(error) if error.is_retryable() => match backoff.next() {
                    Some(wait) => std::thread::sleep(wait),
                    None => return Err(error),
                },
                outcome => return outcome,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_drawn_below_a_bound_that_doubles_up_to_the_longest_and_end_with_the_tries() {
        let policy = RetryPolicy { tries: 6, first: Duration::from_millis(10), max: Duration::from_millis(50) };
        let bounds: Vec<_> = (1..=6).map(|tried| policy.bound_after(tried).map(|bound| bound.as_millis())).collect();
        assert_eq!(bounds, [Some(10), Some(20), Some(40), Some(50), Some(50), None]);
        for seed in 0..200 {
            let mut backoff = Backoff::new(policy, Some(seed));
            let waits: Vec<_> = std::iter::from_fn(|| backoff.next()).collect();
            assert_eq!(waits.len(), 5);
            let bounds = [10, 20, 40, 50, 50].map(Duration::from_millis);
            assert!(waits.iter().zip(bounds).all(|(wait, bound)| *wait <= bound), "{waits:?}");
        }
        let first = |seed| Backoff::new(policy, Some(seed)).next();
        assert!((0..20).any(|seed| first(seed) != first(seed + 1)), "no two callers come back at the same time");
        assert_eq!(RetryPolicy { tries: 99, ..policy }.bound_after(80), Some(policy.max), "no shift too far");
    }
}
