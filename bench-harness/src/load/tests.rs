//! Loads on a target in memory that counts, checks the contract, and stalls or fails when it is told to.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;

use anyhow::{bail, ensure};

use super::*;
use crate::payload::Turns;
use crate::plan::tests::spec;
use crate::target::ReadBack;

#[derive(Default)]
struct Memory {
    /// A producer's entries go to several topics: in each of them its turn has gaps.
    has_topics: bool,
    topics: Mutex<HashMap<u32, (u64, Turns)>>,
    batches: AtomicU32,
    in_flight_max: AtomicU32,
    /// The batch that takes so long.
    stall: Option<(u32, Duration)>,
    /// The batch that fails.
    fail_at: Option<u32>,
    /// Producers that cannot be made.
    no_producer: Option<u32>,
}

struct Hand<'a> {
    memory: &'a Memory,
    in_flight: u32,
}

impl Target for Memory {
    fn settings(&self) -> String {
        String::new()
    }

    fn producer(&self, number: u32) -> Result<Box<dyn Producer + '_>> {
        ensure!(self.no_producer != Some(number), "no producer {number}");
        Ok(Box::new(Hand { memory: self, in_flight: 0 }))
    }

    fn read_back(&self) -> Result<ReadBack> {
        let entries = self.topics.lock().unwrap().values().map(|(entries, _)| entries).sum();
        Ok(ReadBack { entries, payload_bytes: 0 })
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

impl Producer for Hand<'_> {
    fn append(&mut self, topic: u32, batch: &[Bytes]) -> Result<()> {
        let number = self.memory.batches.fetch_add(1, Ordering::Relaxed);
        if let Some((_, time)) = self.memory.stall.filter(|(at, _)| *at == number) {
            thread::sleep(time);
        }
        if self.memory.fail_at == Some(number) {
            bail!("the disk is gone");
        }
        let mut topics = self.memory.topics.lock().unwrap();
        let (entries, turns) = topics.entry(topic).or_default();
        *entries += batch.len() as u64;
        if !self.memory.has_topics {
            batch.iter().try_for_each(|entry| turns.see(entry))?;
        }
        Ok(())
    }

    fn send(&mut self, topic: u32, batch: &[Bytes]) -> Result<()> {
        self.in_flight += 1;
        self.memory.in_flight_max.fetch_max(self.in_flight, Ordering::Relaxed);
        self.append(topic, batch)
    }

    fn wait_oldest(&mut self) -> Result<()> {
        ensure!(self.in_flight > 0, "nothing is in flight");
        self.in_flight -= 1;
        Ok(())
    }
}

const MS: Duration = Duration::from_millis(1);

fn load(spec: &Spec) -> Load<'_> {
    Load { spec, window: Window { warmup: 10 * MS, duration: 40 * MS }, milestone: None, seed: 3 }
}

fn run(load: &Load<'_>, memory: &Memory) -> Result<Loaded<()>> {
    load.run(memory, || (), |_| ())
}

#[test]
fn everything_that_is_sent_is_acknowledged_and_counted_by_each_kind_of_load() {
    let poisson = |spec: Spec| Spec { rate_per_s: Some(2000.0), arrivals: Some("poisson".into()), ..spec };
    for spec in [
        spec(),
        Spec { producers: 4, batch: 3, ..spec() },
        Spec { producers: 2, outstanding: 7, topics: 5, ..spec() },
        poisson(Spec { producers: 2, ..spec() }),
    ] {
        let memory = Memory { has_topics: spec.topics > 1, ..Memory::default() };
        let loaded = run(&load(&spec), &memory).unwrap();
        assert_eq!(memory.read_back().unwrap().entries, loaded.acked.entries, "{spec:?}");
        assert_eq!(loaded.acked.entries, loaded.acked.batches * u64::from(spec.batch));
        let measured = &loaded.measured;
        assert!(measured.batches > 0 && measured.batches < loaded.acked.batches, "{spec:?}: the warm-up is no sample");
        assert_eq!(loaded.due.is_some(), spec.rate_per_s.is_some());
        match loaded.due {
            None => assert_eq!((measured.service.count(), measured.response.count()), (measured.batches, 0)),
            Some(Due { due, .. }) => assert_eq!(measured.response.count(), due, "all that were due"),
        }
    }
}

#[test]
fn a_window_is_as_wide_as_it_was_asked_for() {
    let memory = Memory::default();
    run(&load(&Spec { outstanding: 9, ..spec() }), &memory).unwrap();
    assert_eq!(memory.in_flight_max.load(Ordering::Relaxed), 9);
}

#[test]
fn every_topic_gets_its_share_also_where_producers_and_topics_have_a_divisor() {
    for (producers, topics) in [(1, 10), (3, 10), (4, 10), (4, 2), (10, 4)] {
        let memory = Memory { has_topics: true, ..Memory::default() };
        run(&load(&Spec { producers, topics, ..spec() }), &memory).unwrap();
        assert_eq!(memory.topics.lock().unwrap().len() as u32, topics, "{producers} producers");
    }
}

#[test]
fn a_stall_is_one_sample_of_a_closed_loop_and_all_that_were_due_meanwhile_of_an_open_one() {
    let stalled = || Memory { stall: Some((60, 100 * MS)), ..Memory::default() };
    let open = Spec { rate_per_s: Some(1000.0), arrivals: Some("uniform".into()), ..spec() };
    let window = Window { warmup: Duration::ZERO, duration: 1000 * MS };
    let open = run(&Load { window, ..load(&open) }, &stalled()).unwrap().measured;
    // Of the hundred that were due within the stall, fifty waited for half of it at least.
    let share_of_fifty = 1.0 - 50.0 / open.response.count() as f64;
    assert!(open.response.quantile_us(share_of_fifty) >= 49_000.0, "{}", open.response.quantile_us(share_of_fifty));
    assert!(open.service.quantile_us(1.0) >= 100_000.0);

    let closed = run(&Load { window, ..load(&spec()) }, &stalled()).unwrap().measured;
    assert!(closed.service.quantile_us(1.0) >= 100_000.0 && closed.response.count() == 0);
}

#[test]
fn a_stall_that_outlasts_the_window_is_seen_in_every_batch_that_was_due_in_it() {
    let stalled = Memory { stall: Some((10, 400 * MS)), ..Memory::default() };
    let spec = Spec { rate_per_s: Some(1000.0), arrivals: Some("uniform".into()), ..spec() };
    let window = Window { warmup: Duration::ZERO, duration: 200 * MS };
    let loaded = run(&Load { window, ..load(&spec) }, &stalled).unwrap();
    let Measured { response, service, .. } = loaded.measured;
    assert_eq!(response.count(), 200, "what was due is a sample, sent or not");
    // The one that stalled is there with all of its time, which it took after the end; the others have waited until it came.
    assert!(service.quantile_us(1.0) >= 400_000.0 && service.count() <= 11, "{}", service.quantile_us(1.0));
    assert!(response.quantile_us(0.5) >= 200_000.0, "{}", response.quantile_us(0.5));
}

#[test]
fn a_schedule_that_is_too_fast_is_seen_by_what_was_not_sent() {
    let slow = Memory { stall: Some((10, 400 * MS)), ..Memory::default() };
    let spec = Spec { rate_per_s: Some(1000.0), arrivals: Some("uniform".into()), ..spec() };
    let window = Window { warmup: Duration::ZERO, duration: 200 * MS };
    let due = run(&Load { window, ..load(&spec) }, &slow).unwrap().due.unwrap();
    assert!(due.due == 200 && due.sent <= 11, "{due:?}");
}

#[test]
fn a_milestone_is_told_once_and_ends_the_load_if_it_says_so() {
    let told = Mutex::new(Vec::new());
    let then = |entries| {
        told.lock().unwrap().push(entries);
        Next::Stop
    };
    let spec = Spec { batch: 4, producers: 2, ..spec() };
    let window = Window { warmup: Duration::from_secs(600), duration: MS };
    let milestone = Some(Milestone { entries: 1001, then: &then });
    let loaded = run(&Load { window, milestone, ..load(&spec) }, &Memory::default()).unwrap();
    assert_eq!(*told.lock().unwrap(), [1004]);
    assert!(loaded.acked.entries >= 1004, "{:?}", loaded.acked);
}

#[test]
fn the_first_failure_ends_the_load_and_says_what_was_under_way() {
    let spec = Spec { producers: 3, batch: 2, ..spec() };
    let window = Window { warmup: Duration::from_secs(600), duration: MS };
    let gone = Memory { fail_at: Some(50), ..Memory::default() };
    let error = run(&Load { window, ..load(&spec) }, &gone).err().map(|error| format!("{error:#}")).unwrap();
    assert!(error.contains("2 x 256 B") && error.contains("the disk is gone"), "{error}");

    let none = Memory { no_producer: Some(1), ..Memory::default() };
    let error = run(&Load { window, ..load(&spec) }, &none).err().map(|error| format!("{error:#}")).unwrap();
    assert!(error.contains("no producer 1"), "{error}");
}
