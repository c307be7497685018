//! The window: one thread keeps so many batches in flight. A batch is seen to be acknowledged in its turn, so one that is ready early
//! counts as late as the one before it, which is what its caller would see.

use std::collections::VecDeque;
use std::time::Instant;

use anyhow::Result;

use super::Worker;

pub(super) fn run(worker: &mut Worker<'_>, outstanding: usize) -> Result<()> {
    let mut in_flight = VecDeque::with_capacity(outstanding);
    let mut now = Instant::now();
    loop {
        while in_flight.len() < outstanding && worker.goes_on(now) {
            let topic = worker.fill();
            in_flight.push_back(now);
            worker.producer.send(topic, &worker.batch)?;
            if in_flight.len() < outstanding {
                now = Instant::now();
            }
        }
        let Some(sent) = in_flight.pop_front() else { return Ok(()) };
        worker.producer.wait_oldest()?;
        now = Instant::now();
        worker.acked(None, sent, now);
    }
}
