//! Damage: every bit of a small log flipped in turn, and every 4 KiB sector zeroed, swapped with its neighbour, and replaced by what it
//! held before.
//!
//! After each, a viewer and an opening for writing must both either show exactly what the log held, or name the place: segment, offset
//! and LSN of the very block that was hit. They never show other bytes, never part of a batch, never a shorter log without saying so
//! (unless nothing on the disk says that what is missing was durable, and then by whole groups from the group that was hit), and
//! never panic. An opening that refuses has changed nothing.
//!
//! What was durable is told by the test itself, from the bytes as docs/FORMAT.md#block, docs/FORMAT.md#superblock and
//! docs/FORMAT.md#durable-marks draw them: it shares no code with the program's own reading.

mod judge;
mod layout;
mod packed;
mod sites;
mod specimen;
mod stories;

use judge::{Blow, judge};
use specimen::Specimen;

/// Strikes a fresh copy of the specimen with each blow and judges what is left. Returns how many.
///
/// # Panics
/// When a blow does what must not be, with the first few of them.
fn strike_each(specimen: &Specimen, blows: &[Blow]) -> judge::Tally {
    // Each blow takes and gives back some hundred kilobytes. glibc returns such memory to the kernel each time, and half of the run would
    // be page faults, until it has seen one large piece come back.
    drop(std::hint::black_box(vec![1u8; 16 << 20]));
    let (next, failures) = (std::sync::atomic::AtomicUsize::new(0), std::sync::Mutex::new(Vec::new()));
    let tallies = std::sync::Mutex::new(judge::Tally::default());
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let mut tally = judge::Tally::default();
                loop {
                    let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(blow) = blows.get(number) else { break };
                    match judge(specimen, blow, number) {
                        Ok(verdict) => tally.count(verdict),
                        Err(what) => failures.lock().unwrap().push(format!("{blow}: {what}")),
                    }
                }
                tallies.lock().unwrap().add(&tally);
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let shown = failures.iter().take(20).map(String::as_str).collect::<Vec<_>>().join("\n  ");
    assert!(failures.is_empty(), "{}: {} of {} blows:\n  {shown}", specimen.name, failures.len(), blows.len());
    tallies.into_inner().unwrap()
}

fn flip_every_bit(specimen: &Specimen) {
    let blows = sites::bits(specimen);
    let tally = strike_each(specimen, &blows);
    println!("{}: {} bits flipped, {tally}", specimen.name, blows.len());
    assert!(blows.len() > 40_000 && tally.named > 20_000, "the specimen is too small to prove anything: {tally}");
    assert_eq!(specimen.closed, tally.cut == 0, "behind a clean stop every block was durable: {tally}");
}

fn strike_every_sector(specimen: &Specimen) {
    let blows = sites::sectors(specimen);
    let tally = strike_each(specimen, &blows);
    println!("{}: {} sectors zeroed, swapped or turned back, {tally}", specimen.name, blows.len());
    assert!(blows.len() > 60 && tally.named > 30, "the specimen is too small to prove anything: {tally}");
}

#[test]
fn no_flipped_bit_of_a_log_closed_in_order_is_served_or_silently_cut() {
    flip_every_bit(&specimen::closed());
}

#[test]
fn no_flipped_bit_below_the_durable_marks_of_a_killed_log_is_served_or_silently_cut() {
    flip_every_bit(&specimen::killed());
}

#[test]
fn a_lost_misplaced_or_stale_sector_of_a_log_closed_in_order_is_named() {
    strike_every_sector(&specimen::closed());
}

#[test]
fn a_lost_misplaced_or_stale_sector_of_a_killed_log_is_named_below_the_durable_marks() {
    strike_every_sector(&specimen::killed());
}
