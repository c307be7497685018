//! Ours over each peer, under the same load, pair by pair: a pair is the same round of each, so both were played in one turn of the run.
//!
//! A round that failed on one side makes no pair; those behind it keep their numbers, and their partners.
//!
//! A pair never spans two runs. Both may have been faster or slower in one round than in another: their ratio was not.
//!
//! Pure.

use crate::result::{Case, OURS, Ratio, Round};
use crate::stats::ratio_of_pairs;

/// A figure of a round that is compared.
type Figure = (&'static str, fn(&Round) -> Option<f64>);

const FIGURES: [Figure; 2] =
    [("entries_per_s", |round| Some(round.entries_per_s)), ("cpu_us_per_entry", |round| round.cpu_us_per_entry)];

/// Every ratio that these runs have a pair of: loads as they come, in each of them the peers as they come.
pub(crate) fn of(runs: &[&[Case]]) -> Vec<Ratio> {
    let mut ratios: Vec<Ratio> = Vec::new();
    for case in runs.iter().flat_map(|cases| cases.iter()).filter(|case| case.target != OURS) {
        let is_known = |ratio: &Ratio| ratio.case == case.load() && ratio.peer == case.target;
        if !ratios.iter().any(is_known) {
            ratios.extend(FIGURES.iter().filter_map(|figure| one(runs, case, figure)));
        }
    }
    ratios
}

fn one(runs: &[&[Case]], of: &Case, (name, figure): &Figure) -> Option<Ratio> {
    let pairs: Vec<(f64, f64)> = runs.iter().flat_map(|cases| pairs(cases, of, *figure)).collect();
    let ratio = ratio_of_pairs(&pairs)?;
    let searched = of.rate_was_searched();
    let shown = |end: Option<f64>| end.filter(|_| !searched);
    Some(Ratio {
        case: of.load().into(),
        peer: of.target.clone(),
        of: (*name).into(),
        median: ratio.value,
        low: shown(ratio.low),
        high: shown(ratio.high),
        pairs: ratio.rounds,
        searched,
    })
}

/// Our rounds and the peer's in one run. A figure that one of them has not makes no pair.
fn pairs(cases: &[Case], of: &Case, figure: fn(&Round) -> Option<f64>) -> Vec<(f64, f64)> {
    let rounds = |target: &str| {
        let case = cases.iter().find(|case| case.target == target && case.load() == of.load());
        case.map_or(&[][..], |case| &case.rounds)
    };
    let both = partners(rounds(OURS), rounds(&of.target));
    both.into_iter().filter_map(|(ours, theirs)| figure(ours).zip(figure(theirs))).collect()
}

/// Rounds of one number. Results from before there were numbers have them in order.
fn partners<'a>(ours: &'a [Round], theirs: &'a [Round]) -> Vec<(&'a Round, &'a Round)> {
    if ours.iter().chain(theirs).any(|round| round.number.is_none()) {
        return ours.iter().zip(theirs).collect();
    }
    let partner = |round: &Round| theirs.iter().find(|other| other.number == round.number);
    ours.iter().filter_map(|round| Some((round, partner(round)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn each_peer_under_each_load_that_is_ours_too_has_a_ratio_of_both_figures() {
        let outcome = fixture::outcome();
        let ratios = of(&[&outcome.cases]);
        let peers = outcome.cases.iter().filter(|case| case.target != OURS).count();
        assert_eq!(ratios.len(), 2 * peers);
        let faster = ratios.iter().find(|ratio| ratio.case.ends_with("x64thr") && ratio.peer == fixture::PEER).unwrap();
        assert!((faster.median / (411.0 / 104.0) - 1.0).abs() < 0.05 && faster.pairs == 5, "{faster:?}");
        assert!(faster.low.unwrap() <= faster.median && faster.median <= faster.high.unwrap());
    }

    #[test]
    fn a_peer_alone_has_no_ratio_and_neither_have_we() {
        let mut outcome = fixture::outcome();
        outcome.cases.retain(|case| case.target != OURS);
        assert!(of(&[&outcome.cases]).is_empty());
        let ours: Vec<Case> = fixture::outcome().cases.into_iter().filter(|case| case.target == OURS).collect();
        assert!(of(&[&ours]).is_empty());
    }

    #[test]
    fn a_ratio_of_rates_that_were_searched_has_no_interval() {
        let mut cases = fixture::outcome().cases;
        let load = cases[0].load().to_owned();
        let same_load = |case: &&mut Case| case.load() == load;
        cases.iter_mut().filter(same_load).for_each(|case| case.searched = Some(fixture::searched(true)));
        let (searched, given): (Vec<_>, Vec<_>) = of(&[&cases]).into_iter().partition(|ratio| ratio.case == load);
        assert!(
            !searched.is_empty() && searched.iter().all(|ratio| ratio.searched && ratio.low.or(ratio.high).is_none())
        );
        assert!(given.iter().all(|ratio| !ratio.searched && ratio.low.is_some()));
    }

    #[test]
    fn rounds_of_two_runs_are_never_made_a_pair() {
        let (mut one, mut two) = (fixture::outcome().cases, fixture::outcome().cases);
        one.retain(|case| case.target == OURS);
        two.retain(|case| case.target != OURS);
        assert!(of(&[&one, &two]).is_empty());
        let all = fixture::outcome().cases;
        assert!(of(&[&all, &all]).iter().all(|ratio| ratio.pairs == 10));
    }

    #[test]
    fn a_round_that_failed_leaves_its_partner_alone_and_all_others_together() {
        // The machine was slower from round to round: only rounds of one number have the ratio 2.
        let slower = |base: f64, case: &mut Case| {
            for (round, at) in case.rounds.iter_mut().zip(0..) {
                round.entries_per_s = base / f64::from(1 << at);
            }
        };
        let mut cases = fixture::outcome().cases;
        slower(200.0, cases.iter_mut().find(|case| case.target == OURS).unwrap());
        let peer = cases.iter_mut().find(|case| case.target == fixture::PEER).unwrap();
        slower(100.0, peer);
        peer.rounds.remove(1);
        let ratio = of(&[&cases]).remove(0);
        assert_eq!((ratio.pairs, ratio.median), (4, 2.0));
        assert_eq!((ratio.low, ratio.high), (Some(2.0), Some(2.0)));

        cases.iter_mut().flat_map(|case| &mut case.rounds).for_each(|round| round.number = None);
        assert_eq!(of(&[&cases])[0].pairs, 4, "an old result");
    }

    #[test]
    fn a_round_that_one_side_has_not_and_a_figure_that_it_does_not_know_are_left_out() {
        let mut cases = fixture::outcome().cases;
        let peer = cases.iter_mut().find(|case| case.target == fixture::PEER).unwrap();
        peer.rounds.truncate(4);
        peer.rounds[0].cpu_us_per_entry = None;
        let pairs: Vec<u32> = of(&[&cases]).iter().take(2).map(|ratio| ratio.pairs).collect();
        assert_eq!(pairs, [4, 3]);
    }
}
