//! `dump`: blocks and the entries in them, as they lie in the log.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use walrus_node::{BlockInfo, EntryInfo, IoMode, Lsn, ReadError, Viewer};

use crate::cli::Dump;
use crate::fail::{self, Failure};
use crate::logging::warn;
use crate::output::Output;
use crate::text;

/// A line of `dump --json`: one block.
#[derive(Serialize)]
struct Line<'a> {
    lsn: u64,
    segment: Option<u32>,
    file_offset: Option<u32>,
    epoch: u32,
    ts_ns: u64,
    kind: &'a str,
    bytes: usize,
    remaining: u32,
    chain: String,
    entries: Vec<EntryLine<'a>>,
}

#[derive(Serialize)]
struct EntryLine<'a> {
    topic: &'a str,
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

pub(crate) fn run(args: &Dump, io: IoMode) -> Result<(), Failure> {
    let dir = &args.folder.data;
    let viewer = super::view(dir, io)?;
    if let Some(topic) = &args.topic
        && viewer.topic(topic).is_none()
    {
        return Err(fail::read(dir, &ReadError::UnknownTopic(topic.clone())));
    }
    let mut out = Output::new();
    let dumped = blocks(dir, &viewer, args, &mut out);
    // What lies before an error is printed before it is told.
    out.flush()?;
    dumped?;
    match viewer.verification().damage.first() {
        None => Ok(()),
        Some(damage) => {
            Err(fail::damaged(dir, damage).hint(format!("walrus-node verify --data {}", crate::at::typed(dir))))
        }
    }
}

fn blocks(dir: &Path, viewer: &Viewer, args: &Dump, out: &mut Output) -> Result<(), Failure> {
    let (mut next, end) = (viewer.first_lsn(), viewer.verification().durable_lsn);
    let mut missing_from: Option<Lsn> = None;
    while next < end {
        let blocks = match viewer.blocks(next) {
            Ok(blocks) => blocks,
            // A damaged log is dumped all the same: what lies behind the damage may be what is looked for.
            Err(ReadError::Block(_) | ReadError::Damaged { .. }) => {
                missing_from.get_or_insert(next);
                next = next.next();
                continue;
            }
            Err(error) => return Err(fail::read(dir, &error)),
        };
        if let Some(from) = missing_from.take() {
            out.flush()?;
            warn(&format!(
                "blocks from lsn {from} to before {next} cannot be read, or belong to a batch that is not whole"
            ));
        }
        for block in &blocks {
            show(block, args, out)?;
        }
        next = blocks.last().map_or(end, |block| block.lsn.next());
    }
    Ok(())
}

fn show(block: &BlockInfo, args: &Dump, out: &mut Output) -> Result<(), Failure> {
    let wanted = |entry: &&EntryInfo| args.topic.as_ref().is_none_or(|topic| *topic == entry.topic);
    let entries: Vec<&EntryInfo> = block.entries.iter().filter(wanted).collect();
    if args.topic.is_some() && entries.is_empty() {
        return Ok(());
    }
    if args.format.json { out.json(&line(block, &entries)) } else { print(block, &entries, out) }
}

fn line<'a>(block: &'a BlockInfo, entries: &[&'a EntryInfo]) -> Line<'a> {
    let entry = |entry: &&'a EntryInfo| {
        let payload = std::str::from_utf8(&entry.payload).ok();
        let payload_base64 = payload.is_none().then(|| STANDARD.encode(&entry.payload));
        EntryLine { topic: &entry.topic, offset: entry.offset, payload, payload_base64 }
    };
    Line {
        lsn: block.lsn.get(),
        segment: block.position.map(|position| position.segment().get()),
        file_offset: block.position.map(|position| position.offset()),
        epoch: block.epoch.get(),
        ts_ns: block.ts_ns,
        kind: &block.what,
        bytes: block.bytes,
        remaining: block.remaining,
        chain: block.chain.to_string(),
        entries: entries.iter().map(entry).collect(),
    }
}

fn print(block: &BlockInfo, entries: &[&EntryInfo], out: &mut Output) -> Result<(), Failure> {
    let BlockInfo { lsn, epoch, what, bytes, remaining, chain, .. } = block;
    let position = block.position.map_or("nowhere".to_owned(), |position| position.to_string());
    let group = if *remaining > 0 { format!("  {remaining} more in its batch") } else { String::new() };
    out.line(format_args!(
        "lsn {lsn}  {}  {position}  {}  epoch {epoch}  chain {chain}  {what}{group}",
        text::time(block.ts_ns),
        text::bytes(*bytes as u64),
    ))?;
    for entry in entries {
        let EntryInfo { topic, offset, payload } = entry;
        out.line(format_args!(
            "    {topic} {offset}  {}  {}",
            text::bytes(payload.len() as u64),
            text::glimpse(payload)
        ))?;
    }
    Ok(())
}
