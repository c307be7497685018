//! Is the follower's log a prefix of ours? docs/PROTOCOL.md#subscribe-and-resume
//!
//! A follower claims a history with three values: the LSN it goes on at, the run id of its last reign, and the chain. The
//! chain runs over every block before, so equal values mean equal histories, block by block; nothing is assumed from numbers
//! that merely fit. If they are not equal, the logs parted somewhere, and [`Search`] asks for a few chains to find out where:
//!
//! ```text
//!     FIRST        common                 follower's tail, or ours
//!       |============|------- unequal ------|
//!       '--- chains equal ---'--- never equal again ---'        so halving finds it
//! ```
//!
//! Layer: wire. Knows nothing of where the chains come from.

use std::fmt;

use crate::ids::{Chain, Epoch, RunId};
use crate::lsn::Lsn;

/// The end of a log, and what leads there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    /// The next block's number.
    pub(crate) lsn: Lsn,
    /// The reign of the last block.
    pub(crate) epoch: Epoch,
    pub(crate) run_id: RunId,
    /// The chain behind the last block.
    pub(crate) chain: Chain,
}

impl fmt::Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ends before lsn {} in epoch {} (run {}, chain {})", self.lsn, self.epoch, self.run_id, self.chain)
    }
}

/// What our own log says about the place that a follower claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OurSide {
    /// Our durable tail.
    pub(crate) tail: Tail,
    /// Our chain before the claimed LSN; `None` when it lies beyond our tail or before what we keep.
    pub(crate) chain: Option<Chain>,
    /// The run id of the block before the claimed LSN; `None` when there is none.
    pub(crate) run_id: Option<RunId>,
}

/// What is to be done about a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Equal: go on there.
    Continue,
    /// We no longer keep that place, so nothing can be said, and nothing may be assumed.
    BehindRetention,
    /// Unequal, or ahead of us.
    Diverged,
}

/// Judges a follower's claim.
pub(crate) fn verdict(claim: &Tail, ours: &OurSide) -> Verdict {
    if claim.lsn > ours.tail.lsn {
        return Verdict::Diverged;
    }
    let Some(chain) = ours.chain else { return Verdict::BehindRetention };
    // An empty log has no reign yet, and is a prefix of every log.
    let same_run = claim.lsn <= Lsn::FIRST || ours.run_id == Some(claim.run_id);
    if chain == claim.chain && same_run { Verdict::Continue } else { Verdict::Diverged }
}

/// The search for the last place at which two logs are equal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search {
    /// The chains before it are equal.
    equal: Lsn,
    /// The chains before it are unequal, or not known; nothing equal lies behind.
    unequal: Lsn,
}

impl Search {
    /// Between two logs with these tails.
    pub(crate) fn new(leader: Lsn, follower: Lsn) -> Search {
        // Up to and with the shorter one's tail both have a chain.
        let shorter = leader.min(follower).max(Lsn::FIRST);
        Search { equal: Lsn::FIRST, unequal: shorter.next() }
    }

    /// The place to compare next; `None` when the search is over.
    pub(crate) fn probe(&self) -> Option<Lsn> {
        let gap = self.unequal.blocks_since(self.equal);
        (gap > 1).then(|| self.equal.plus(gap / 2))
    }

    /// The chains before `at` are equal or not. A chain that one side no longer keeps counts as unequal: the common
    /// point is then a lower bound, which is what a report may err towards.
    pub(crate) fn answer(&mut self, at: Lsn, equal: bool) {
        assert!(self.equal < at && at < self.unequal, "the answer to another question");
        if equal {
            self.equal = at;
        } else {
            self.unequal = at;
        }
    }

    /// Both logs are equal below it.
    pub(crate) fn common(&self) -> Lsn {
        self.equal
    }
}

/// Two logs that parted: what both sides print before they part company.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Divergence {
    /// Both logs are equal below it.
    pub(crate) common: Lsn,
    pub(crate) leader: Tail,
    pub(crate) follower: Tail,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Divergence { common, leader, follower } = self;
        write!(
            f,
            "the histories are unequal from lsn {common} on; the leader's log {leader}; the follower's log {follower}; \
             the follower holds {} and the leader {} blocks that the other has not",
            follower.lsn.blocks_since(*common),
            leader.lsn.blocks_since(*common),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(lsn: u64, run: u128, chain: u64) -> Tail {
        Tail { lsn: Lsn::new(lsn), epoch: Epoch::new(1), run_id: RunId::new(run), chain: Chain::new(chain) }
    }

    fn ours(chain: Option<u64>, run: u128) -> OurSide {
        OurSide { tail: tail(100, 7, 1234), chain: chain.map(Chain::new), run_id: Some(RunId::new(run)) }
    }

    #[test]
    fn only_an_equal_claim_goes_on() {
        assert_eq!(verdict(&tail(50, 7, 5), &ours(Some(5), 7)), Verdict::Continue);
        assert_eq!(verdict(&tail(100, 7, 5), &ours(Some(5), 7)), Verdict::Continue);
        assert_eq!(verdict(&tail(50, 7, 5), &ours(Some(6), 7)), Verdict::Diverged, "another chain");
        assert_eq!(verdict(&tail(50, 8, 5), &ours(Some(5), 7)), Verdict::Diverged, "another reign");
        assert_eq!(verdict(&tail(101, 7, 5), &ours(None, 7)), Verdict::Diverged, "ahead of its leader");
        assert_eq!(verdict(&tail(50, 7, 5), &ours(None, 7)), Verdict::BehindRetention);
    }

    #[test]
    fn an_empty_log_is_a_prefix_of_every_log_but_only_with_an_empty_history() {
        let start = OurSide { run_id: None, ..ours(Some(0), 7) };
        assert_eq!(verdict(&tail(1, 0, 0), &start), Verdict::Continue);
        assert_eq!(verdict(&tail(1, 0, 9), &start), Verdict::Diverged);
    }

    #[test]
    fn the_search_finds_every_common_point_of_every_pair_of_short_logs() {
        for leader in 1..24 {
            for follower in 1..24 {
                for common in 1..=u64::min(leader, follower) {
                    let mut search = Search::new(Lsn::new(leader), Lsn::new(follower));
                    let mut questions = 0;
                    while let Some(at) = search.probe() {
                        assert!(at.get() <= leader && at.get() <= follower, "both sides have that chain");
                        search.answer(at, at.get() <= common);
                        questions += 1;
                    }
                    assert_eq!(search.common().get(), common);
                    assert!(questions <= 5);
                }
            }
        }
    }

    #[test]
    fn the_report_names_the_common_point_and_both_tails() {
        let report = Divergence { common: Lsn::new(40), leader: tail(50, 7, 5), follower: tail(60, 8, 6) }.to_string();
        for part in ["from lsn 40", "before lsn 50", "before lsn 60", "20 and the leader 10", "chain 0000000000000005"]
        {
            assert!(report.contains(part), "{report}");
        }
    }
}
