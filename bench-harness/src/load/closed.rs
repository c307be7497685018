//! The closed loop: as fast as the log answers, and never faster. A stall is one slow sample, however long: that is what the open loop
//! is for.

use std::time::Instant;

use anyhow::Result;

use super::Worker;

pub(super) fn run(worker: &mut Worker<'_>) -> Result<()> {
    let mut sent = Instant::now();
    while worker.goes_on(sent) {
        let topic = worker.fill();
        worker.producer.append(topic, &worker.batch)?;
        let acked = Instant::now();
        worker.acked(None, sent, acked);
        // What lies between is the making of the next batch: some tens of nanoseconds, and a clock read saved.
        sent = acked;
    }
    Ok(())
}
