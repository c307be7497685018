//! This log over the network: a leader, its followers, and producers that are its clients.
//!
//! The log is prepared as the embedded one is: filled up to its bound before the load, so that the window writes to segments that were
//! written before, on the leader and on every follower.

use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::OnceCell;
use walrus_node::{BATCH_ENTRIES_MAX, Client, ClientError, IoMode, Level, Options, ReadStart};

use super::cluster::{Cluster, runtime};
use super::probe::Probe;
use super::session::{NetProducer, Sessions};
use crate::payload::{Payloads, Turns};
use crate::result::{Check, Lag, OURS, Spec};
use crate::target::ours::{BEFORE, BEFORE_BATCH, BEFORE_ENTRY_BYTES, BEFORE_IN_FLIGHT, Ours};
use crate::target::{Counters, Kind, Producer, ReadBack, Target};

/// A producer has a session for each topic, and a node so many streams for each connection.
const TOPICS_MAX: u32 = 64;
const CLIENT_THREADS: usize = 2;
/// The log is filled in so many parts, and one more: then its oldest segments have come back once.
const FILL_PARTS: u64 = 4;

/// walrus-node, by its protocol.
pub(super) struct NetNode {
    /// As for the embedded log.
    pub(super) fills_before: bool,
}

impl Kind for NetNode {
    fn name(&self) -> String {
        OURS.into()
    }

    fn refuses(&self, spec: &Spec) -> Option<String> {
        let kind = spec.kind.as_str();
        match () {
            () if spec.followers > 0 && !spec.network => {
                Some("followers are those of a node: they take `network = true`".into())
            }
            () if !spec.network => Some("it is a node here; without a connection it is embedded".into()),
            () if !matches!(kind, "durable" | "written") => Some(format!("`{kind}` is measured in this process")),
            () if spec.topics > TOPICS_MAX => {
                Some(format!("a producer has at most {TOPICS_MAX} sessions, one a topic"))
            }
            () if spec.batch as usize > BATCH_ENTRIES_MAX => {
                Some(format!("a batch has at most {BATCH_ENTRIES_MAX} entries, not {}", spec.batch))
            }
            () => spec.io.parse::<IoMode>().err().map(|error| error.to_string()),
        }
    }

    fn open(&self, folder: &Path, spec: &Spec) -> Result<Box<dyn Target>> {
        let level = if spec.kind == "written" { Level::Written } else { Level::Durable };
        let keep = Ours { fills_before: self.fills_before }.keep_bytes(spec);
        let options = Options { io: spec.io.parse()?, level, retain_bytes: keep, ..Options::default() };
        let cluster = Cluster::start(folder, &options, spec.followers)?;
        let clients = client_runtime(spec)?;
        let client = clients.block_on(Client::connect(&cluster.leader_address(), &cluster.client_tls()))?;
        if let Some(keep) = keep {
            fill_before(&cluster, &clients, &client, keep)
                .context("filling the log up to its bound before the load")?;
        }
        let probe = Mutex::new(match spec.followers {
            0 => None,
            _ => {
                let (leader, followers) = (cluster.leader_address(), cluster.follower_addresses());
                let probe = Probe::start(clients.handle(), &leader, &followers, &cluster.client_tls());
                Some(probe.context("the probe of the lag")?)
            }
        });
        Ok(Box::new(NetLog {
            cluster,
            clients,
            client,
            topics: (0..spec.topics).map(|topic| format!("topic-{topic}")).collect(),
            shared: (0..spec.topics).map(|_| OnceCell::new()).collect(),
            producers: spec.producers,
            followers: spec.followers,
            keep,
            probe,
            last_ack: LastAck::default(),
            given_away: AtomicU64::new(0),
        }))
    }
}

/// What a program would take: with one producer the thread that produces does the network's work, too, as with the blocking socket of the
/// others; several share threads for it.
fn client_runtime(spec: &Spec) -> Result<Runtime> {
    if spec.producers == 1 && spec.followers == 0 {
        return Builder::new_current_thread().enable_all().build().context("a runtime for the producer");
    }
    runtime(CLIENT_THREADS, "clients")
}

/// The same as for the embedded log. In parts that are smaller than what is kept, each of which has to be on the followers before the next
/// one comes: a follower that does not find the blocks it needs has to begin anew.
fn fill_before(cluster: &Cluster, clients: &Runtime, client: &Client, keep: u64) -> Result<()> {
    let batch_bytes = BEFORE_ENTRY_BYTES * u64::from(BEFORE_BATCH);
    let mut payloads = Payloads::new(0, 0, 1, BEFORE_ENTRY_BYTES);
    for _part in 0..FILL_PARTS + 1 {
        clients.block_on(fill_part(client, &mut payloads, keep / FILL_PARTS / batch_bytes))?;
        cluster.caught_up()?;
    }
    Ok(())
}

async fn fill_part(client: &Client, payloads: &mut Payloads, batches: u64) -> Result<()> {
    let (mut appender, mut acks) = client.append(BEFORE).await?;
    let (mut batch, mut in_flight) = (Vec::new(), 0);
    for _ in 0..batches {
        payloads.fill(&mut batch, BEFORE_BATCH);
        appender.send(&batch).await?;
        in_flight += 1;
        if in_flight == BEFORE_IN_FLIGHT {
            appender.flush().await?;
            acks.next().await?;
            in_flight -= 1;
        }
    }
    appender.finish().await?;
    while acks.next().await?.is_some() {}
    Ok(())
}

/// When the last acknowledgement of all was there.
#[derive(Default)]
pub(super) struct LastAck(Mutex<Option<Instant>>);

impl LastAck {
    pub(super) fn was(&self, at: Instant) {
        let mut last = self.0.lock().expect("no holder of this lock panics");
        *last = (*last).max(Some(at));
    }

    fn get(&self) -> Option<Instant> {
        *self.0.lock().expect("no holder of this lock panics")
    }
}

struct NetLog {
    cluster: Cluster,
    clients: Runtime,
    client: Client,
    topics: Vec<String>,
    shared: Box<Sessions>,
    producers: u32,
    followers: u32,
    keep: Option<u64>,
    probe: Mutex<Option<Probe>>,
    last_ack: LastAck,
    /// Entries that the last read back did not find, for the log had given them away.
    given_away: AtomicU64,
}

impl NetLog {
    fn measured_lag(&self, window: &Range<Instant>) -> Result<Option<Lag>> {
        let Some(probe) = self.probe.lock().expect("no holder of this lock panics").take() else { return Ok(None) };
        let had_all = self.cluster.caught_up().context("behind the load")?;
        let drained = self.last_ack.get().map_or(Duration::ZERO, |last| had_all.saturating_duration_since(last));
        probe.finish(self.clients.handle(), window, drained)
    }

    async fn read_topic(&self, topic: &str, mut turns: Option<Turns>, back: &mut ReadBack) -> Result<u64> {
        let mut reading = match self.client.read(topic, ReadStart::Start, true, None).await {
            // A topic that no batch went to is not there.
            Err(ClientError::UnknownTopic { .. }) => return Ok(0),
            other => other?,
        };
        while let Some(entries) = reading.next().await? {
            for entry in &entries {
                turns.as_mut().map_or(Ok(()), |turns| turns.see(&entry.payload))?;
                back.payload_bytes += entry.payload.len() as u64;
            }
            back.entries += entries.len() as u64;
        }
        Ok(reading.start_offset())
    }
}

impl Target for NetLog {
    fn settings(&self) -> String {
        let status = self.cluster.leader_status();
        let word = |key: &str| status[key].as_str().unwrap_or("unknown").to_owned();
        let kept = self.keep.map_or("everything is kept".into(), |bytes| {
            let mib = bytes >> 20;
            format!("retain_bytes {mib} MiB, filled to {} MiB before the load", mib + mib / 4)
        });
        format!(
            "io {}, {}; {}; QUIC with mutual TLS on loopback, one connection, a session a topic; followers: {}; nodes in this \
             process, two threads each; {kept}",
            word("io"),
            word("durability"),
            word("flush"),
            self.followers
        )
    }

    fn producer(&self, _number: u32) -> Result<Box<dyn Producer + '_>> {
        let shared = (self.producers > 1).then_some(&self.shared[..]);
        Ok(Box::new(NetProducer::new(&self.clients, &self.client, &self.topics, shared, &self.last_ack)))
    }

    fn counters(&self) -> Counters {
        let status = self.cluster.leader_status();
        let count = |key: &str| status[key].as_u64();
        Counters {
            groups: count("groups"),
            flushes: count("flushes"),
            syscalls: count("syscalls").filter(|calls| *calls > 0),
        }
    }

    fn read_back(&self) -> Result<ReadBack> {
        let (mut back, mut given_away) = (ReadBack::default(), 0);
        for topic in &self.topics {
            // Several topics share the turns of a producer.
            let turns = (self.topics.len() == 1).then(Turns::default);
            let first = self.clients.block_on(self.read_topic(topic, turns, &mut back));
            given_away += first.with_context(|| format!("topic {topic}"))?;
        }
        self.given_away.store(given_away, Ordering::Relaxed);
        Ok(back)
    }

    fn lag(&self, window: &Range<Instant>) -> Option<Lag> {
        match self.measured_lag(window) {
            Ok(lag) => lag,
            Err(error) => {
                // `checks` fails for the same reason, and says so in the result.
                eprintln!("warning: how far the followers were behind is not known: {error:#}");
                None
            }
        }
    }

    fn checks(&self) -> Result<Vec<Check>> {
        if self.followers == 0 {
            return Ok(Vec::new());
        }
        let (ok, detail) = match self.cluster.caught_up() {
            Ok(_) => equal(&self.cluster.ends()),
            Err(error) => (false, format!("{error:#}")),
        };
        Ok(vec![Check { name: "followers equal their leader".into(), ok, detail }])
    }

    fn given_away(&self) -> u64 {
        self.given_away.load(Ordering::Relaxed)
    }

    fn close(self: Box<Self>) -> Result<()> {
        let NetLog { cluster, clients, client, .. } = *self;
        clients.block_on(client.close());
        clients.shutdown_background();
        cluster.stop()
    }
}

/// Whether all ends are the first one, and what they are.
fn equal(ends: &[(Value, Value)]) -> (bool, String) {
    let (leader, followers) = ends.split_first().expect("there is a leader");
    let differing = followers.iter().filter(|end| *end != leader).count();
    let (lsn, chain) = leader;
    let chain = chain.as_str().unwrap_or("unknown");
    (differing == 0, format!("lsn {lsn}, chain {chain}; {differing} of {} followers have another", followers.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::spec;

    #[test]
    fn a_case_without_a_connection_or_with_too_many_topics_is_refused_with_the_reason() {
        let kind = NetNode { fills_before: false };
        let net = Spec { network: true, ..spec() };
        assert_eq!(kind.refuses(&net), None);
        assert_eq!(kind.refuses(&Spec { followers: 2, ..net.clone() }), None);
        let refused = |spec: Spec| kind.refuses(&spec).unwrap();
        assert!(refused(spec()).contains("embedded"));
        assert!(refused(Spec { followers: 1, ..spec() }).contains("network = true"));
        assert!(refused(Spec { topics: TOPICS_MAX + 1, ..net.clone() }).contains("sessions"));
        assert!(refused(Spec { kind: "open".into(), ..net.clone() }).contains("`open`"));
        assert!(refused(Spec { io: "floppy".into(), ..net }).contains("floppy"));
    }

    #[test]
    fn an_end_that_is_another_or_has_another_chain_is_no_equal() {
        let end = |lsn: u64, chain: &str| (Value::from(lsn), Value::from(chain));
        assert!(equal(&[end(7, "ab"), end(7, "ab")]).0);
        assert!(!equal(&[end(7, "ab"), end(7, "ab"), end(6, "ab")]).0);
        let (ok, detail) = equal(&[end(7, "ab"), end(7, "cd")]);
        assert!(!ok && detail == "lsn 7, chain ab; 1 of 1 followers have another", "{detail}");
    }

    #[test]
    fn a_log_that_gives_blocks_away_while_it_is_filled_keeps_its_follower() {
        let (dir, keep) = (tempfile::tempdir().unwrap(), 16 << 20);
        let segments = Options { segment_bytes_first: 2 << 20, segment_bytes_max: 4 << 20, ..Options::default() };
        let cluster = Cluster::start(dir.path(), &Options { retain_bytes: Some(keep), ..segments }, 1).unwrap();
        let clients = runtime(CLIENT_THREADS, "clients").unwrap();
        let client = clients.block_on(Client::connect(&cluster.leader_address(), &cluster.client_tls())).unwrap();
        fill_before(&cluster, &clients, &client, keep).unwrap();
        // The keeper gives away in its own time.
        let (told, patience) = (Instant::now(), Duration::from_secs(20));
        while cluster.leader_status()["first_lsn"].as_u64().unwrap() <= 1 {
            assert!(told.elapsed() < patience, "nothing was given away: {}", cluster.leader_status());
            std::thread::yield_now();
        }
        assert!(equal(&cluster.ends()).0, "{:?}", cluster.ends());
        clients.block_on(client.close());
        cluster.stop().unwrap();
    }

    #[test]
    fn the_last_acknowledgement_is_the_latest_in_whichever_order_they_are_told() {
        let (last, now) = (LastAck::default(), Instant::now());
        last.was(now + Duration::from_secs(2));
        last.was(now);
        assert_eq!(last.get(), Some(now + Duration::from_secs(2)));
    }
}
