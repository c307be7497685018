//! `tail`: a topic's entries, from anywhere, to its end or on with what comes.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use walrus_node::{ClientError, IoMode, ReadLimit, ReadStart, Viewer};

use crate::at::{At, NodeAt};
use crate::cli::Tail;
use crate::fail::{self, Failure};
use crate::output::Output;
use crate::remote;
use crate::start::Start;
use crate::text;

pub(crate) fn run(args: Tail, io: IoMode) -> Result<(), Failure> {
    let command = format!("walrus-node tail {}", text::shell(&args.topic));
    let mut printer = Printer { topic: args.topic, json: args.format.json, left: args.count, out: Output::new() };
    let printed = match args.place.resolve(&command)? {
        At::Folder(dir) => of_folder(&dir, io, args.offset, &mut printer),
        At::Node(node) => of_node(&node, &command, args.offset, args.end, &mut printer),
    };
    // What lies before an error is printed before it is told.
    printer.out.flush()?;
    printed
}

/// Prints entries until there have been enough of them.
struct Printer {
    topic: String,
    json: bool,
    /// How many may still be printed.
    left: Option<u64>,
    out: Output,
}

/// A line of `tail --json`.
#[derive(Serialize)]
struct Line<'a> {
    topic: &'a str,
    offset: u64,
    ts_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

impl Printer {
    fn is_done(&self) -> bool {
        self.left == Some(0)
    }

    fn entry(&mut self, offset: u64, ts_ns: u64, bytes: &[u8]) -> Result<(), Failure> {
        self.left = self.left.map(|left| left - 1);
        if !self.json {
            return self.out.raw(bytes);
        }
        let payload = std::str::from_utf8(bytes).ok();
        let payload_base64 = payload.is_none().then(|| STANDARD.encode(bytes));
        self.out.json(&Line { topic: &self.topic, offset, ts_ns, payload, payload_base64 })
    }
}

/// A folder that is only read does not grow, so its tail ends where it ends.
fn of_folder(dir: &Path, io: IoMode, start: Start, printer: &mut Printer) -> Result<(), Failure> {
    let viewer = super::view(dir, io)?;
    let mut next = first_offset(dir, &viewer, &printer.topic, start)?;
    while !printer.is_done() {
        let limit = ReadLimit { entries: printer.left.map_or(4096, |left| left.min(4096) as usize), bytes: 1 << 20 };
        let entries = viewer.read(&printer.topic, next, limit).map_err(|error| fail::read(dir, &error))?;
        let Some(last) = entries.last() else { break };
        next = last.offset + 1;
        for entry in &entries {
            printer.entry(entry.offset, entry.ts_ns, &entry.payload)?;
        }
    }
    Ok(())
}

fn first_offset(dir: &Path, viewer: &Viewer, topic: &str, start: Start) -> Result<u64, Failure> {
    let Some(info) = viewer.topic(topic) else {
        // Where something is damaged, a topic that is not there may only be out of sight.
        let unknown = || fail::read(dir, &walrus_node::ReadError::UnknownTopic(topic.to_owned()));
        return Err(viewer.verification().damage.first().map_or_else(unknown, |damage| {
            fail::damaged(dir, damage)
                .context(format!("there is no topic `{topic}` in what can be read"))
                .hint(format!("walrus-node topics --data {}", crate::at::typed(dir)))
        }));
    };
    Ok(match start {
        Start::First => info.first_offset,
        Start::End => info.next_offset,
        Start::Offset(offset) => offset,
        Start::Last(entries) => info.next_offset.saturating_sub(entries).max(info.first_offset),
        Start::Time(ts_ns) => viewer.offset_at_time(topic, ts_ns).map_err(|error| fail::read(dir, &error))?,
    })
}

fn of_node(node: &NodeAt, command: &str, start: Start, to_end: bool, printer: &mut Printer) -> Result<(), Failure> {
    let start = match start {
        Start::First => ReadStart::Start,
        Start::End => ReadStart::End,
        Start::Offset(offset) => ReadStart::Offset(offset),
        Start::Last(entries) => ReadStart::Last(entries),
        Start::Time(ts_ns) => ReadStart::Time(ts_ns),
    };
    remote::with_node(node, async |client| {
        let failed = |error: ClientError| {
            let failure = remote::failure(node, &error);
            match error {
                ClientError::Invalid { .. } => failure.hint(format!("{command} {} -o -10", node.flags())),
                _ => failure,
            }
        };
        let mut reading = client.read(&printer.topic, start, to_end, printer.left).await.map_err(failed)?;
        while let Some(entries) = reading.next().await.map_err(failed)? {
            for entry in &entries {
                printer.entry(entry.offset, entry.ts_ns, &entry.payload)?;
            }
            printer.out.flush()?;
        }
        Ok(())
    })
}
