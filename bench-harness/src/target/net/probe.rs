//! How far followers are behind, by one clock: an entry now and then on a topic of its own, through the same log as the load.
//!
//! ```text
//!   probe --append--> leader --ack at A-->                       behind = B - A, the slowest follower's
//!                        `--blocks--> follower --reader, at B-->
//! ```
//!
//! The log is one order, and a follower serves what is durable there only: a probe that has come from a follower covers everything that the
//! leader had taken before it. It is not waited for before the next one goes out, or slow ones would be asked for less often. What is
//! measured is an upper bound: the way from the follower to its reader is part of it.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use walrus_node::{Client, ClientError, ReadStart};

use crate::record::Times;
use crate::result::Lag;

const TOPIC: &str = "lag-probe";
/// Often enough for a timeline, and seldom enough to be no load: one entry in some hundred flushes.
const EVERY: Duration = Duration::from_millis(10);
/// How long the topic may take to be on a follower, and the last probe to arrive.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// By offset: when it was acknowledged, or when it had come.
type Seen = Arc<Mutex<HashMap<u64, Instant>>>;

/// Probes under way.
pub(super) struct Probe {
    stop: watch::Sender<bool>,
    sending: JoinHandle<Result<u64>>,
    acked: Seen,
    /// Each follower's.
    arriving: Vec<(JoinHandle<Result<()>>, Seen)>,
}

impl Probe {
    /// Sends the first one, and waits until every follower has it.
    pub(super) fn start(runtime: &Handle, leader: &str, followers: &[String], tls: &Path) -> Result<Probe> {
        runtime.block_on(async {
            let client = Client::connect(leader, tls).await.context("the leader")?;
            let (mut appender, mut acks) = client.append(TOPIC).await?;
            appender.send(&[Bytes::from_static(b"probe")]).await?;
            appender.flush().await?;
            acks.next().await?;
            let mut arriving = Vec::new();
            for follower in followers {
                let seen = Seen::default();
                let reading =
                    open_when_there(follower, tls).await.with_context(|| format!("a reader of {follower}"))?;
                arriving.push((tokio::spawn(hear(reading, Arc::clone(&seen))), seen));
            }
            let (stop, stopped) = watch::channel(false);
            let acked = Seen::default();
            let sending = tokio::spawn(send(client, appender, acks, stopped, Arc::clone(&acked)));
            Ok(Probe { stop, sending, acked, arriving })
        })
    }

    /// Sends no more, waits until the last one has come, and says how far behind the followers were within `window`: in the warm-up, and
    /// while they catch up behind the load, it is another load. `None`: no probe was acknowledged in it. `drained` is the time until they
    /// had everything of the load.
    pub(super) fn finish(self, runtime: &Handle, window: &Range<Instant>, drained: Duration) -> Result<Option<Lag>> {
        let Probe { stop, sending, acked, arriving } = self;
        let _ = stop.send(true);
        let sent = runtime.block_on(async {
            let sent = sending.await.context("the probe")??;
            for (_, seen) in &arriving {
                let all = async {
                    while (seen.lock().expect("no holder of this lock panics").len() as u64) < sent {
                        sleep(LOOK_AGAIN).await;
                    }
                };
                timeout(PATIENCE, all)
                    .await
                    .with_context(|| format!("{sent} probes did not come within {PATIENCE:?}"))?;
            }
            anyhow::Ok(sent)
        })?;
        let arrivals: Vec<_> =
            arriving.iter().map(|(_, seen)| seen.lock().expect("no holder of this lock panics")).collect();
        arriving.iter().for_each(|(task, _)| task.abort());
        let acked = acked.lock().expect("no holder of this lock panics");
        let mut behind = Vec::new();
        for offset in 1..=sent {
            let Some(ack) = acked.get(&offset) else { continue };
            let last = arrivals.iter().filter_map(|seen| seen.get(&offset)).max();
            behind.extend(last.map(|last| (*ack, last.saturating_duration_since(*ack))));
        }
        Ok(lag(window, &behind, drained))
    }
}

/// Of (acknowledged at, behind by).
fn lag(window: &Range<Instant>, behind: &[(Instant, Duration)], drained: Duration) -> Option<Lag> {
    let behind: Vec<_> = behind.iter().filter(|(at, _)| window.contains(at)).collect();
    let mut times = Times::new();
    behind.iter().for_each(|(_, by)| times.record(*by));
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    (!behind.is_empty()).then(|| Lag {
        p50_us: times.quantile_us(0.5),
        p99_us: times.quantile_us(0.99),
        max_us: behind.iter().map(|(_, by)| us(*by)).fold(0.0, f64::max),
        timeline: behind.iter().map(|(at, by)| ((*at - window.start).as_secs_f64(), us(*by))).collect(),
        drained_us: us(drained),
        hdr: times.latency().map(|all| all.hdr),
    })
}

/// One probe after the other; returns how many there were. The first one, offset 0, is there already.
async fn send(
    client: Client,
    mut appender: walrus_node::Appender,
    mut acks: walrus_node::Acks,
    mut stopped: watch::Receiver<bool>,
    acked: Seen,
) -> Result<u64> {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sent = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopped.wait_for(|stopped| *stopped) => break,
        }
        appender.send(&[Bytes::from_static(b"probe")]).await?;
        appender.flush().await?;
        sent += 1;
        if let Some(ack) = acks.next().await? {
            acked.lock().expect("no holder of this lock panics").insert(ack.last_offset, Instant::now());
        }
    }
    appender.finish().await?;
    client.close().await;
    Ok(sent)
}

/// What comes from a follower. Both are kept: a reader is over when its client is.
struct Reader {
    _client: Client,
    reading: walrus_node::Reading,
}

async fn hear(mut reader: Reader, seen: Seen) -> Result<()> {
    while let Some(entries) = reader.reading.next().await? {
        let now = Instant::now();
        let mut seen = seen.lock().expect("no holder of this lock panics");
        seen.extend(entries.iter().filter(|entry| entry.offset > 0).map(|entry| (entry.offset, now)));
    }
    Ok(())
}

async fn open_when_there(follower: &str, tls: &Path) -> Result<Reader> {
    let client = Client::connect(follower, &PathBuf::from(tls)).await?;
    let started = Instant::now();
    loop {
        match client.read(TOPIC, ReadStart::Start, false, None).await {
            Err(ClientError::UnknownTopic { .. }) if started.elapsed() < PATIENCE => sleep(LOOK_AGAIN).await,
            other => return Ok(Reader { reading: other?, _client: client }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_is_that_of_all_probes_with_the_largest_kept_as_it_was() {
        let began = Instant::now();
        let at = |ms: u64| began + Duration::from_millis(ms);
        let behind: Vec<_> = (1..=100_u64).map(|n| (at(n * 10), Duration::from_micros(n * 10))).collect();
        let lag = lag(&(began..at(1001)), &behind, Duration::from_millis(3)).unwrap();
        assert!((lag.p50_us - 500.0).abs() < 1.0 && (lag.p99_us - 990.0).abs() < 1.0, "{lag:?}");
        assert_eq!((lag.max_us, lag.drained_us, lag.timeline.len()), (1000.0, 3000.0, 100));
        assert!((lag.timeline[99].0 - 1.0).abs() < 1e-9);
        assert_eq!(Times::of_hdr(&lag.hdr.unwrap()).unwrap().count(), 100);
        assert!(super::lag(&(began..at(1001)), &[], Duration::ZERO).is_none());
    }

    #[test]
    fn a_probe_of_the_warm_up_or_from_behind_the_window_is_no_sample() {
        let began = Instant::now();
        let at = |ms: u64| began + Duration::from_millis(ms);
        let behind =
            [(at(50), Duration::from_secs(9)), (at(150), Duration::from_micros(70)), (at(250), Duration::from_secs(9))];
        let lag = lag(&(at(100)..at(200)), &behind, Duration::ZERO).unwrap();
        assert_eq!((lag.max_us, lag.timeline), (70.0, vec![(0.05, 70.0)]));
    }
}
