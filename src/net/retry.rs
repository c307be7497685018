//! How long to wait before the next try.
//!
//! Layer: net. Uses `entropy`. Sleeps nowhere: the caller does.

use std::time::Duration;

use crate::entropy::Entropy;

/// The first wait: a restarted leader is back in about this time.
const FIRST: Duration = Duration::from_millis(50);

/// The longest wait. A follower is back this long after its leader at the latest.
const LONGEST: Duration = Duration::from_secs(5);

/// Waits that double from 50 ms to 5 s, jittered: a hundred followers of one leader must not come back in one instant.
#[derive(Debug)]
pub(crate) struct Backoff {
    failures: u32,
    entropy: Entropy,
}

impl Backoff {
    /// Nothing has failed yet.
    pub(crate) fn new(entropy: Entropy) -> Backoff {
        Backoff { failures: 0, entropy }
    }

    /// It worked: the next failure is the first one again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// It failed: how long to wait. Between half and all of the step, so that it never becomes a busy loop.
    pub(crate) fn next_wait(&mut self) -> Duration {
        let step = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let half = step / 2;
        half + half.mul_f64((self.entropy.next_u64() >> 11) as f64 / (1u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound_and_are_never_nothing() {
        let mut backoff = Backoff::new(Entropy::new(Some(1)));
        let waits: Vec<_> = (0..100).map(|_| backoff.next_wait()).collect();
        assert!(waits.iter().all(|&wait| wait >= FIRST / 2 && wait <= LONGEST));
        assert!(waits[0] <= FIRST && waits[99] >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.next_wait() <= FIRST);
    }
}
