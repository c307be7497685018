//! Redis: a list a topic, every command flushed before it is answered.
//!
//! `RPUSH topic-N entry...` is one command of the append-only file, so a batch is there or not. Of its settings those are taken that make
//! it fastest at what is asked: no snapshots, no rewriting of the file within the window, a connection a producer.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;

use super::resp::{Answer, Connection};
use super::server::{Server, free_port, version};
use crate::payload::Turns;
use crate::result::Spec;
use crate::target::{Kind, Producer, ReadBack, Target};

const PROGRAM: &str = "redis-server";
/// Entries of one answer when everything is read back.
const READ_ENTRIES: usize = 1_000;

pub(super) struct Redis {
    /// `7.0.15`; `None`: it is not installed.
    version: Option<String>,
}

impl Redis {
    pub(super) fn find() -> Redis {
        Redis { version: version(PROGRAM).as_deref().and_then(number) }
    }
}

/// Of `Redis server v=7.0.15 sha=00000000:0 ...`.
fn number(said: &str) -> Option<String> {
    said.split_whitespace().find_map(|word| word.strip_prefix("v=")).map(str::to_owned)
}

impl Kind for Redis {
    fn name(&self) -> String {
        self.version.as_ref().map_or("redis".into(), |version| format!("redis {version}"))
    }

    fn refuses(&self, spec: &Spec) -> Option<String> {
        let missing =
            || self.version.is_none().then(|| format!("{PROGRAM} is not installed: apt-get install redis-server"));
        super::refuses_any(spec).or_else(missing)
    }

    fn open(&self, folder: &Path, spec: &Spec) -> Result<Box<dyn Target>> {
        let port = free_port()?;
        let appendfsync = if spec.kind == "durable" { "always" } else { "no" };
        let settings = format!(
            "--appendonly yes --appendfsync {appendfsync} --save '' --auto-aof-rewrite-percentage 0 --bind 127.0.0.1"
        );
        let args = settings.split(' ').map(|word| word.trim_matches('\'').to_owned());
        let args: Vec<String> = args.chain(["--port".into(), port.to_string(), "--dir".into(), ".".into()]).collect();
        let server = Server::start(PROGRAM, &args, folder, port)?;
        let mut control = Connection::new(server.connect()?)?;
        let asked = control.ask(&["CONFIG", "GET", "appendfsync"])?;
        let expected = ["appendfsync", appendfsync].map(|text| Answer::Bulk(text.into()));
        ensure!(asked == Answer::Array(expected.into()), "appendfsync is not {appendfsync}: {asked:?}");
        Ok(Box::new(RedisLog { server, settings, topics: spec.topics }))
    }
}

struct RedisLog {
    server: Server,
    settings: String,
    topics: u32,
}

fn key(topic: u32) -> String {
    format!("topic-{topic}")
}

impl Target for RedisLog {
    fn settings(&self) -> String {
        format!(
            "{PROGRAM} {}; RPUSH of a batch to a list a topic; a TCP connection a producer on loopback",
            self.settings
        )
    }

    fn producer(&self, _number: u32) -> Result<Box<dyn Producer + '_>> {
        Ok(Box::new(RedisProducer { connection: Connection::new(self.server.connect()?)? }))
    }

    fn cpu_elsewhere(&self) -> Option<Duration> {
        self.server.cpu_time()
    }

    fn read_back(&self) -> Result<ReadBack> {
        let mut connection = Connection::new(self.server.connect()?)?;
        let mut back = ReadBack::default();
        for topic in 0..self.topics {
            read_topic(&mut connection, &key(topic), (self.topics == 1).then(Turns::default), &mut back)
                .with_context(|| format!("the list {}", key(topic)))?;
        }
        Ok(back)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.server.stop()
    }
}

fn read_topic(connection: &mut Connection, key: &str, mut turns: Option<Turns>, back: &mut ReadBack) -> Result<()> {
    let mut next = 0;
    loop {
        let (from, to) = (next.to_string(), (next + READ_ENTRIES - 1).to_string());
        let Answer::Array(entries) = connection.ask(&["LRANGE", key, &from, &to])? else { bail!("no list came") };
        for entry in &entries {
            let Answer::Bulk(payload) = entry else { bail!("an entry is {entry:?}") };
            turns.as_mut().map_or(Ok(()), |turns| turns.see(payload))?;
            back.payload_bytes += payload.len() as u64;
        }
        back.entries += entries.len() as u64;
        next += entries.len();
        if entries.len() < READ_ENTRIES {
            return Ok(());
        }
    }
}

struct RedisProducer {
    connection: Connection,
}

impl Producer for RedisProducer {
    fn append(&mut self, topic: u32, batch: &[Bytes]) -> Result<()> {
        self.send(topic, batch)?;
        self.connection.flush()?;
        self.wait_oldest()
    }

    fn send(&mut self, topic: u32, batch: &[Bytes]) -> Result<()> {
        let key = key(topic);
        let parts: Vec<&[u8]> =
            [&b"RPUSH"[..], key.as_bytes()].into_iter().chain(batch.iter().map(|e| &e[..])).collect();
        self.connection.push(parts.into_iter())
    }

    fn wait_oldest(&mut self) -> Result<()> {
        match self.connection.answer()? {
            Answer::Integer(_) => Ok(()),
            other => bail!("RPUSH was answered with {other:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_the_server_says() {
        assert_eq!(
            number("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64").as_deref(),
            Some("7.0.15")
        );
        assert_eq!(number("something else"), None);
    }

    #[test]
    fn without_the_server_a_case_is_left_out_with_what_brings_it() {
        let spec = Spec { network: true, ..crate::plan::tests::spec() };
        let refused = Redis { version: None }.refuses(&spec).unwrap();
        assert!(refused.contains("apt-get install redis-server"), "{refused}");
        let found = Redis { version: Some("7.0.15".into()) };
        assert_eq!((found.refuses(&spec), found.name().as_str()), (None, "redis 7.0.15"));
        assert!(found.refuses(&Spec { network: false, ..spec.clone() }).is_some());
        assert!(found.refuses(&Spec { followers: 1, ..spec.clone() }).is_some());
        assert!(found.refuses(&Spec { kind: "read".into(), ..spec }).is_some());
    }
}
