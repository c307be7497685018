//! The crash enumerator.
//!
//! A run of the log on the simulated disk is recorded: every write, every flush, every name, and the moment of every
//! acknowledgement. Then, for every operation of the recording, the power is cut just before it, and of the 512-byte sectors that
//! no flush has covered there survive: none; all; every prefix; all but each one; and subsets drawn from a seed. Each such disk is
//! opened, read, written again (with the very bytes that were cut, too), and cut once more, also in the middle of its recovery.
//!
//! What must hold each time is in `oracle.rs`: every acknowledged entry is there, batches are whole, the order is kept, there is
//! nothing that nobody wrote, and no damage is reported where there was only a crash.
//!
//! `WALRUS_SLOW=1` runs more seeds.

mod enumerate;
mod faults;
mod leader;
mod mirror;
mod oracle;
mod random;
mod repair;
mod retention;
mod slots;

use enumerate::{Effort, enumerate};

/// Seeds of the recorded runs; with `WALRUS_SLOW=1` ten times as many.
fn seeds(runs: u64) -> Vec<u64> {
    let slow = std::env::var_os("WALRUS_SLOW").is_some();
    (1..=if slow { 10 * runs } else { runs }).collect()
}

/// Says it to whoever runs the test command: what the test runner catches is shown to nobody when the test passes.
fn report(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[test]
fn no_crash_of_a_leader_loses_an_acknowledged_entry_or_shows_part_of_a_batch() {
    let states: usize = seeds(2).into_iter().map(|seed| enumerate(&leader::record(seed), Effort::FULL)).sum();
    report(&format!("crash states of a leader: {states}"));
    assert!(states >= 50_000, "only {states} states: the recorded runs have become too small to prove anything");
}

#[test]
fn no_crash_of_a_leader_at_mixed_levels_loses_what_was_acknowledged_as_durable_nor_a_kill_what_was_written() {
    let states: usize = seeds(1).into_iter().map(|seed| enumerate(&leader::record_mixed(seed), Effort::FULL)).sum();
    report(&format!("crash states of a leader at mixed durability levels: {states}"));
    assert!(states >= 25_000, "only {states} states: the recorded runs have become too small to prove anything");
}

#[test]
fn no_kill_loses_an_entry_that_was_acknowledged_before_its_block_nor_does_a_power_cut_leave_a_gap() {
    let effort = Effort { sectors_at_once: 10, subsets: 5, go_on_every: 5, second_crashes: 5 };
    let states: usize = seeds(2).into_iter().map(|seed| enumerate(&leader::record_early(seed), effort)).sum();
    report(&format!("crash states of a leader that acknowledges entries before their blocks: {states}"));
    assert!(states >= 20_000, "only {states} states: the recorded runs have become too small to prove anything");
}

#[test]
fn no_crash_while_segments_are_packed_loses_a_block_or_shows_it_twice() {
    let states: usize = seeds(2).into_iter().map(|seed| enumerate(&leader::record_packing(seed), Effort::FULL)).sum();
    report(&format!("crash states of a log that packs its segments: {states}"));
    assert!(states >= 10_000, "only {states} states: the recorded runs have become too small to prove anything");
}

#[test]
fn no_crash_of_a_log_that_gives_segments_away_loses_more_or_brings_anything_back() {
    let states: usize = seeds(1).into_iter().map(|seed| enumerate(&retention::record(seed), Effort::FULL)).sum();
    report(&format!("crash states of a log that gives segments away: {states}"));
    assert!(states >= 25_000, "only {states} states: the recorded runs have become too small to prove anything");
}

#[test]
fn no_crash_of_a_follower_shows_part_of_a_batch_or_anything_but_its_leaders_history() {
    let states: usize = seeds(2).into_iter().map(|seed| enumerate(&mirror::record(seed), Effort::FULL)).sum();
    report(&format!("crash states of a follower: {states}"));
    assert!(states >= 10_000, "only {states} states: the recorded runs have become too small to prove anything");
}
