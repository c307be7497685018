//! `merge`: several results as one, the same case of each put together.
//!
//! ```text
//!   rounds            one after the other, in the order of the files
//!   response, service histograms added, figures read off anew
//!   medians           of all rounds
//!   ratios            anew, pair by pair: a pair never spans two files
//! ```
//!
//! A merged result is more rounds of the same cases: loads that ran side by side are not added up.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::Args;

use crate::record::Times;
use crate::result::{
    Case, Check, Cost, FloorFigure, FloorShare, Lag, Latency, Lost, Noise, Outcome, Round, Searched, Steady,
};
use crate::stats::median;
use crate::{Usage, comparison, input, ratios};

/// Put several results together: histograms added, rounds one after the other
#[derive(Args)]
#[command(after_help = "Example:\n  walrus-bench merge monday.json tuesday.json -o both.json")]
pub(crate) struct Merge {
    /// Results, or reports of them
    #[arg(required = true, num_args = 1.., value_name = "RUN.json")]
    runs: Vec<PathBuf>,
    /// Where the result goes [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Merge {
    /// Reads, merges, writes.
    pub(crate) fn run(&self, out: &mut dyn Write) -> Result<ExitCode> {
        self.spares_its_inputs().map_err(Usage)?;
        let outcomes = self.runs.iter().map(|path| input::read(path)).collect::<Result<Vec<_>>>()?;
        let json = serde_json::to_string_pretty(&merged(&outcomes)?)?;
        match &self.output {
            None => writeln!(out, "{json}")?,
            Some(path) => {
                std::fs::write(path, json).with_context(|| format!("{} cannot be written", path.display()))?
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// A run cannot be had again: it is not written over by what was made of it, whatever it is called there.
    fn spares_its_inputs(&self) -> Result<()> {
        let file = |path: &Path| std::fs::metadata(path).ok().map(|about| (about.dev(), about.ino()));
        let Some(output) = &self.output else { return Ok(()) };
        let same = self.runs.iter().find(|run| file(run).is_some() && file(run) == file(output));
        same.map_or(Ok(()), |run| {
            Err(anyhow!("{} is one of the results that are merged: name another file with -o", run.display()))
        })
    }
}

/// One result of several. The facts that can be only one thing are those of the first; notes say where others differ.
pub(crate) fn merged(outcomes: &[Outcome]) -> Result<Outcome> {
    let outcomes = &numbered_on(outcomes)[..];
    let first = outcomes.first().context("there is nothing to merge")?;
    let mut ids: Vec<&str> = Vec::new();
    for case in outcomes.iter().flat_map(|outcome| &outcome.cases) {
        if !ids.contains(&case.id.as_str()) {
            ids.push(&case.id);
        }
    }
    let of_id =
        |id: &str| outcomes.iter().flat_map(|outcome| &outcome.cases).filter(|case| case.id == id).collect::<Vec<_>>();
    Ok(Outcome {
        kind: "merge".into(),
        smoke: outcomes.iter().any(|outcome| outcome.smoke),
        release: outcomes.iter().all(|outcome| outcome.release),
        started_unix_s: outcomes.iter().map(|outcome| outcome.started_unix_s).min().unwrap_or_default(),
        seconds: outcomes.iter().map(|outcome| outcome.seconds).sum(),
        plan: plans(outcomes),
        noise: noise(outcomes),
        device: device(outcomes),
        cases: ids.iter().map(|id| Ok(with_lost(case(&of_id(id))?, outcomes))).collect::<Result<_>>()?,
        lost: lost(outcomes, &ids),
        ratios: ratios::of(&outcomes.iter().map(|outcome| &outcome.cases[..]).collect::<Vec<_>>()),
        notes: notes(outcomes),
        ..first.clone()
    })
}

/// Rounds of a result behind those of the one before it: each number stands for one turn of one run, also when they are merged again.
fn numbered_on(outcomes: &[Outcome]) -> Vec<Outcome> {
    let mut outcomes = outcomes.to_vec();
    let mut before = 0;
    for outcome in &mut outcomes {
        let numbers = || outcome.cases.iter().flat_map(|case| &case.rounds).filter_map(|round| round.number);
        let last = before + numbers().max().unwrap_or(0);
        for round in outcome.cases.iter_mut().flat_map(|case| &mut case.rounds) {
            round.number = round.number.map(|number| number + before);
        }
        before = last;
    }
    outcomes
}

/// Cases of which nothing was measured in any of the results.
fn lost(outcomes: &[Outcome], measured: &[&str]) -> Vec<Lost> {
    let mut lost: Vec<Lost> = Vec::new();
    for one in outcomes.iter().flat_map(|outcome| &outcome.lost).filter(|one| !measured.contains(&one.id.as_str())) {
        match lost.iter_mut().find(|known| known.id == one.id) {
            Some(known) => known.failed_rounds += one.failed_rounds,
            None => lost.push(one.clone()),
        }
    }
    lost
}

/// With the rounds that failed where nothing of the case was measured.
fn with_lost(case: Case, outcomes: &[Outcome]) -> Case {
    let lost = outcomes.iter().flat_map(|outcome| &outcome.lost).filter(|lost| lost.id == case.id);
    Case { failed_rounds: case.failed_rounds + lost.map(|lost| lost.failed_rounds).sum::<u32>(), ..case }
}

fn plans(outcomes: &[Outcome]) -> String {
    let mut plans: Vec<&str> = outcomes.iter().map(|outcome| outcome.plan.as_str()).collect();
    plans.dedup();
    plans.join("\n# and\n")
}

fn noise(outcomes: &[Outcome]) -> Noise {
    let worst =
        |of: fn(&Noise) -> Option<f64>| outcomes.iter().filter_map(|outcome| of(&outcome.noise)).max_by(f64::total_cmp);
    Noise {
        noisy: outcomes.iter().any(|outcome| outcome.noise.noisy),
        cpu_pressure: worst(|noise| noise.cpu_pressure),
        io_pressure: worst(|noise| noise.io_pressure),
        steal: worst(|noise| noise.steal),
        floor_spread: worst(|noise| noise.floor_spread),
    }
}

fn device(outcomes: &[Outcome]) -> Vec<FloorFigure> {
    let all: Vec<&FloorFigure> = outcomes.iter().flat_map(|outcome| &outcome.device).collect();
    let mut device: Vec<FloorFigure> = Vec::new();
    for figure in &all {
        if device.iter().any(|known| known.name == figure.name) {
            continue;
        }
        let of = |of: fn(&FloorFigure) -> f64| {
            median(all.iter().filter(|other| other.name == figure.name).map(|other| of(other))).unwrap_or(of(figure))
        };
        let (per_s, p50_us, p99_us) = (of(|f| f.per_s), of(|f| f.p50_us), of(|f| f.p99_us));
        device.push(FloorFigure { per_s, p50_us, p99_us, ..(*figure).clone() });
    }
    device
}

fn notes(outcomes: &[Outcome]) -> Vec<String> {
    let mut notes = vec![format!("merged from {} results", outcomes.len())];
    for (at, other) in outcomes.iter().enumerate().skip(1) {
        for difference in comparison::host_differences(&outcomes[0], other) {
            let comparison::Difference { fact, a, b } = difference;
            notes.push(format!("result {} is of another host: {fact} is {b}, in the first it is {a}", at + 1));
        }
    }
    for note in outcomes.iter().flat_map(|outcome| &outcome.notes) {
        if !notes.contains(note) {
            notes.push(note.clone());
        }
    }
    notes
}

/// One case of the same case in several results.
fn case(parts: &[&Case]) -> Result<Case> {
    let first = parts[0];
    if parts.len() == 1 {
        return Ok(first.clone());
    }
    let rounds: Vec<Round> = parts.iter().flat_map(|part| part.rounds.iter().cloned()).collect();
    let entries_per_s = median(rounds.iter().map(|round| round.entries_per_s)).unwrap_or(first.entries_per_s);
    let batch = f64::from(first.spec.batch.max(1));
    let sum = |of: fn(&Case) -> Option<&Latency>| {
        latencies(parts.iter().filter_map(|part| of(part))).with_context(|| format!("case {}", first.id))
    };
    Ok(Case {
        entries_per_s,
        batches_per_s: entries_per_s / batch,
        mib_per_s: entries_per_s * first.spec.payload_bytes as f64 / f64::from(1 << 20),
        floor: floor(parts, &rounds),
        response: sum(|case| case.response.as_ref())?,
        service: sum(|case| case.service.as_ref())?,
        steady: steady(parts),
        cost: cost(parts),
        checks: checks(parts),
        failed_rounds: parts.iter().map(|part| part.failed_rounds).sum(),
        lag: lag(parts)?,
        overloaded: parts.iter().any(|part| part.overloaded),
        searched: searched(parts),
        rounds,
        ..first.clone()
    })
}

fn latencies<'a>(parts: impl Iterator<Item = &'a Latency>) -> Result<Option<Latency>> {
    let mut sum = Times::new();
    for part in parts {
        sum.add(&Times::of_hdr(&part.hdr)?);
    }
    Ok(sum.latency())
}

fn floor(parts: &[&Case], rounds: &[Round]) -> Option<FloorShare> {
    let floors: Vec<&FloorShare> = parts.iter().filter_map(|part| part.floor.as_ref()).collect();
    let first = floors.first()?;
    let share = median(rounds.iter().filter_map(|round| round.floor_share)).unwrap_or(first.share);
    let floor_per_s = median(rounds.iter().filter_map(|round| round.floor_per_s)).unwrap_or(first.floor_per_s);
    let case_per_s = median(floors.iter().map(|floor| floor.case_per_s)).unwrap_or(first.case_per_s);
    Some(FloorShare { name: first.name.clone(), case_per_s, floor_per_s, share })
}

/// Several runs have looked for the rate several times.
fn searched(parts: &[&Case]) -> Option<Searched> {
    let all: Vec<&Searched> = parts.iter().filter_map(|part| part.searched.as_ref()).collect();
    Some(Searched {
        searches: all.iter().map(|one| one.searches).sum(),
        rounds_held: all.iter().map(|one| one.rounds_held).sum(),
        holds: all.iter().all(|one| one.holds),
        ..(*all.first()?).clone()
    })
}

/// Steady if every part was; else the first word of one that was not.
fn steady(parts: &[&Case]) -> Steady {
    let unsteady = parts.iter().find(|part| !part.steady.steady);
    unsteady.unwrap_or(&parts[0]).steady.clone()
}

fn checks(parts: &[&Case]) -> Vec<Check> {
    let mut checks: Vec<Check> = Vec::new();
    for check in parts.iter().flat_map(|part| &part.checks) {
        match checks.iter_mut().find(|known| known.name == check.name) {
            None => checks.push(check.clone()),
            // One that failed is never hidden behind one that held.
            Some(known) if known.ok && !check.ok => *known = check.clone(),
            Some(_) => {}
        }
    }
    checks
}

/// The means of the parts, weighed by their entries: exact for what is per entry. For what is per second, group or flush it is near the
/// truth as far as the parts are alike, for a result does not say how many of those there were. The most memory of any.
fn cost(parts: &[&Case]) -> Cost {
    let mean = |of: fn(&Cost) -> Option<f64>| {
        let (mut sum, mut weight) = (0.0, 0.0);
        for part in parts {
            let entries = part.rounds.iter().map(|round| round.entries as f64).sum::<f64>();
            if let Some(value) = of(&part.cost).filter(|_| entries > 0.0) {
                (sum, weight) = (sum + value * entries, weight + entries);
            }
        }
        (weight > 0.0).then(|| sum / weight)
    };
    Cost {
        cpu_us_per_entry: mean(|cost| cost.cpu_us_per_entry),
        context_switches_per_entry: mean(|cost| cost.context_switches_per_entry),
        syscalls_per_group: mean(|cost| cost.syscalls_per_group),
        entries_per_group: mean(|cost| cost.entries_per_group),
        device_writes_per_s: mean(|cost| cost.device_writes_per_s),
        device_flushes_per_s: mean(|cost| cost.device_flushes_per_s),
        entries_per_flush: mean(|cost| cost.entries_per_flush),
        write_amplification: mean(|cost| cost.write_amplification),
        rss_bytes_max: parts.iter().filter_map(|part| part.cost.rss_bytes_max).max(),
    }
}

/// Percentiles of all samples; the timeline of the part that was furthest behind.
fn lag(parts: &[&Case]) -> Result<Option<Lag>> {
    let lags: Vec<&Lag> = parts.iter().filter_map(|part| part.lag.as_ref()).collect();
    let Some(worst) = lags.iter().max_by(|a, b| a.max_us.total_cmp(&b.max_us)) else { return Ok(None) };
    let mut sum = Times::new();
    for hdr in lags.iter().filter_map(|lag| lag.hdr.as_deref()) {
        sum.add(&Times::of_hdr(hdr)?);
    }
    let drained_us = lags.iter().map(|lag| lag.drained_us).fold(0.0, f64::max);
    Ok(Some(match sum.latency() {
        None => Lag { drained_us, ..(*worst).clone() },
        Some(all) => Lag {
            p50_us: all.p50_us,
            p99_us: all.p99_us,
            max_us: worst.max_us,
            timeline: worst.timeline.clone(),
            drained_us,
            hdr: Some(all.hdr),
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn rounds_stand_one_after_the_other_and_histograms_are_added() {
        let (a, mut b) = (fixture::outcome(), fixture::outcome());
        fixture::scale_entries_per_s(&mut b.cases[0], 2.0);
        let merged = merged(&[a.clone(), b.clone()]).unwrap();
        assert_eq!(merged.cases.len(), a.cases.len());
        let (case, before) = (&merged.cases[0], &a.cases[0]);
        assert_eq!(case.rounds.len(), before.rounds.len() * 2);
        let both = a.cases[0].rounds.iter().chain(&b.cases[0].rounds).map(|round| round.entries_per_s);
        assert_eq!(Some(case.entries_per_s), median(both));
        let (sum, one) = (case.service.as_ref().unwrap(), before.service.as_ref().unwrap());
        assert_eq!(sum.count, 2 * one.count);
        assert_eq!(
            (sum.p50_us, sum.max_us),
            (one.p50_us, one.max_us),
            "the same samples twice have the same percentiles"
        );
        assert_eq!(Times::of_hdr(&sum.hdr).unwrap().count(), sum.count);
    }

    #[test]
    fn failed_rounds_are_added_up_and_a_case_is_lost_only_where_nobody_has_measured_it() {
        let (mut a, mut b) = (fixture::outcome(), fixture::outcome());
        let (here, nowhere) = (b.cases.remove(0), b.cases.remove(0));
        a.cases.remove(1);
        a.cases[0].failed_rounds = 2;
        a.lost = vec![fixture::lost(&nowhere)];
        b.lost = vec![fixture::lost(&here), fixture::lost(&nowhere)];
        let merged = merged(&[a, b]).unwrap();
        assert_eq!(merged.cases[0].failed_rounds, 7);
        let lost: Vec<_> = merged.lost.iter().map(|lost| (&lost.id, lost.failed_rounds)).collect();
        assert_eq!(lost, [(&nowhere.id, 10)]);
    }

    #[test]
    fn rounds_keep_their_partners_when_results_are_merged_twice() {
        let (mut a, b) = (fixture::outcome(), fixture::outcome());
        a.cases[1].rounds.remove(0);
        let pairs = |outcome: &Outcome| outcome.ratios[0].pairs;
        let once = merged(&[a.clone(), b.clone()]).unwrap();
        let twice = merged(&[once.clone(), b]).unwrap();
        assert_eq!((pairs(&once), pairs(&twice)), (9, 14));
        let numbers: Vec<_> = twice.cases[0].rounds.iter().map(|round| round.number.unwrap()).collect();
        assert_eq!(numbers, (1..=15).collect::<Vec<_>>());
    }

    #[test]
    fn a_result_is_not_written_over_by_what_it_is_merged_into() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b, link, new] = ["a.json", "b.json", "link.json", "new.json"].map(|name| dir.path().join(name));
        let json = serde_json::to_string(&fixture::outcome()).unwrap();
        [&a, &b].iter().for_each(|path| std::fs::write(path, &json).unwrap());
        std::os::unix::fs::symlink(&b, &link).unwrap();
        let merge = |output: &Path| Merge { runs: vec![a.clone(), b.clone()], output: Some(output.to_owned()) };
        for output in [&a, &link, &dir.path().join("./a.json")] {
            let error = merge(output).run(&mut Vec::new()).unwrap_err();
            assert!(error.is::<Usage>() && error.to_string().contains("one of the results"), "{error}");
        }
        assert_eq!([&a, &b].map(|path| std::fs::read_to_string(path).unwrap()), [json.clone(), json]);
        merge(&new).run(&mut Vec::new()).unwrap();
        assert!(new.exists());
        merge(&new).run(&mut Vec::new()).unwrap();
    }

    #[test]
    fn ratios_are_made_anew_from_the_pairs_of_each_file() {
        let (a, mut b) = (fixture::outcome(), fixture::outcome());
        let ratio = a.ratios[0].clone();
        let ours =
            b.cases.iter_mut().find(|case| case.target == crate::result::OURS && case.load() == ratio.case).unwrap();
        fixture::scale_entries_per_s(ours, 3.0);
        let merged = merged(&[a, b]).unwrap();
        let both = merged.ratios.iter().find(|other| other.case == ratio.case && other.peer == ratio.peer).unwrap();
        assert_eq!(both.pairs, 2 * ratio.pairs);
        assert!(
            both.median > ratio.median * 1.2 && both.median < ratio.median * 3.0,
            "{} {}",
            ratio.median,
            both.median
        );
    }

    #[test]
    fn a_failed_check_and_a_noisy_run_are_never_hidden_by_a_good_one() {
        let (a, mut b) = (fixture::outcome(), fixture::outcome());
        b.noise.noisy = true;
        b.cases[0].checks[0].ok = false;
        b.host.kernel = "another".into();
        let merged = merged(&[a, b]).unwrap();
        assert!(merged.noise.noisy && !merged.cases[0].checks[0].ok);
        assert!(merged.notes.iter().any(|note| note.contains("kernel is another")), "{:?}", merged.notes);
    }

    #[test]
    fn cases_that_only_one_result_has_are_kept_as_they_are() {
        let (mut a, mut b) = (fixture::outcome(), fixture::outcome());
        let (kept_of_a, kept_of_b) = (a.cases.remove(1), b.cases.remove(0));
        a.cases.truncate(1);
        b.cases.truncate(1);
        let ids: Vec<String> = merged(&[a, b]).unwrap().cases.into_iter().map(|case| case.id).collect();
        assert_eq!(ids, [kept_of_b.id, kept_of_a.id]);
    }

    #[test]
    fn a_result_merged_with_nothing_keeps_its_figures() {
        let a = fixture::outcome();
        let merged = merged(std::slice::from_ref(&a)).unwrap();
        assert_eq!(serde_json::to_value(&merged.cases).unwrap(), serde_json::to_value(&a.cases).unwrap());
        assert_eq!(serde_json::to_value(&merged.ratios).unwrap(), serde_json::to_value(&a.ratios).unwrap());
    }

    #[test]
    fn figures_of_the_device_are_the_medians_by_name() {
        let (a, mut b, c) = (fixture::outcome(), fixture::outcome(), fixture::outcome());
        b.device[0].per_s *= 10.0;
        let merged = merged(&[a.clone(), b, c]).unwrap();
        assert_eq!(merged.device[0].per_s, a.device[0].per_s);
        assert!((merged.seconds - a.seconds * 3.0).abs() < 1e-6);
    }
}
