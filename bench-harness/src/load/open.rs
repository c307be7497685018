//! The open loop: batches go out by a schedule, whatever the log does, as they do where callers do not wait for each other.
//!
//! ```text
//!   schedule    |     |     |     |     |
//!   log         [--]  [------------stall-----------][-][-][-]
//!   response          |<----------------------------->|           from the intended time: every batch that the stall held up shows it
//!   service                                         [-]           from the send
//! ```
//!
//! Each batch that is due within the window is a sample, from its intended time. When the window ends, each producer waits for the one that
//! it has under way, whose time is known then; what it had not come to send by then is given up, and counts as having waited until then: a
//! stall at the end is seen as one in the middle is.
//!
//! A batch that is late goes out at once. A thread sleeps until shortly before its time and then looks at the clock again and again,
//! unless there are as many producers as cores: then the log needs the core more.

use std::num::NonZeroU64;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Worker;
use crate::schedule::Schedule;

/// How long before its time a thread is awake, where it can afford that.
const SPIN: Duration = Duration::from_micros(50);

pub(super) fn run(worker: &mut Worker<'_>, schedule: Schedule) -> Result<()> {
    // A kernel wakes a sleeper up to 50 us late, to save wakes, unless it is told otherwise. One that cannot be told is late by that.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let spin = if (worker.shared.load.spec.producers as usize) < cores { SPIN } else { Duration::ZERO };
    let opens = worker.start + worker.shared.load.window.warmup;
    for offset in schedule {
        let intended = worker.start + offset;
        if intended >= worker.end {
            break;
        }
        let is_measured = intended >= opens;
        worker.tally.due.due += u64::from(is_measured);
        let now = Instant::now();
        if !worker.goes_on(now) {
            worker.recorder.given_up(intended, now.max(worker.end));
            continue;
        }
        wait_until(intended, spin);
        let topic = worker.fill();
        let sent = Instant::now();
        worker.producer.append(topic, &worker.batch)?;
        let acked = Instant::now();
        worker.acked(Some(intended), sent, acked);
        worker.tally.due.sent += u64::from(is_measured && sent < worker.end);
    }
    Ok(())
}

fn wait_until(time: Instant, spin: Duration) {
    let left = time.saturating_duration_since(Instant::now());
    if left > spin {
        thread::sleep(left - spin);
    }
    while Instant::now() < time {
        std::hint::spin_loop();
    }
}
