//! `topics`: which there are, and how far each goes.

use serde::Serialize;
use walrus_node::{IoMode, TopicInfo, TopicRow};

use crate::at::At;
use crate::cli::Topics;
use crate::fail::Failure;
use crate::logging::warn;
use crate::output::{Output, Table};
use crate::remote;
use crate::text::count;

/// A line of `topics --json`.
#[derive(Serialize)]
struct Line {
    topic: String,
    id: u32,
    first_offset: u64,
    next_offset: u64,
}

pub(crate) fn run(args: Topics, io: IoMode) -> Result<(), Failure> {
    let topics = match args.place.resolve("walrus-node topics")? {
        At::Folder(dir) => {
            let viewer = super::view(&dir, io)?;
            if let Some(damage) = viewer.verification().damage.first() {
                warn(&format!("the log in {} is damaged, and topics may be missing: {damage}", dir.display()));
            }
            let line = |topic: TopicInfo| {
                let TopicInfo { name, id, first_offset, next_offset } = topic;
                Line { topic: name, id: id.get(), first_offset, next_offset }
            };
            viewer.topics().into_iter().map(line).collect()
        }
        At::Node(node) => {
            let mut rows = Vec::new();
            remote::with_node(&node, async |client| {
                rows = client.topics().await.map_err(|error| remote::failure(&node, &error))?;
                Ok(())
            })?;
            let line = |topic: TopicRow| {
                let TopicRow { name, id, first_offset, next_offset, .. } = topic;
                Line { topic: name, id, first_offset, next_offset }
            };
            rows.into_iter().map(line).collect()
        }
    };
    print(topics, args.format.json)
}

fn print(topics: Vec<Line>, json: bool) -> Result<(), Failure> {
    let mut out = Output::new();
    let mut table = Table::new(&["TOPIC", "ENTRIES", "FIRST", "NEXT"]);
    for topic in topics {
        if json {
            out.json(&topic)?;
        } else {
            let entries = topic.next_offset - topic.first_offset;
            let offsets = [topic.first_offset, topic.next_offset].map(|offset| offset.to_string());
            table.row([vec![topic.topic, count(entries)], offsets.to_vec()].concat());
        }
    }
    if !json {
        table.print(&mut out)?;
    }
    out.flush()
}
