//! `status`: how a node is, or what a folder holds.

use std::path::Path;

use serde_json::{Value, json};
use walrus_node::IoMode;

use crate::at::At;
use crate::cli::Status;
use crate::fail::Failure;
use crate::output::{Output, Table};
use crate::remote;

pub(crate) fn run(args: Status, io: IoMode) -> Result<(), Failure> {
    let status = match args.place.resolve("walrus-node status")? {
        At::Folder(dir) => of_folder(&dir, io)?,
        At::Node(node) => {
            let mut status = Value::Null;
            remote::with_node(&node, async |client| {
                status = client.status().await.map_err(|error| remote::failure(&node, &error))?;
                Ok(())
            })?;
            status
        }
    };
    let mut out = Output::new();
    if args.format.json {
        out.json(&status)?;
    } else {
        print(&status, &mut out)?;
    }
    out.flush()
}

/// What a folder tells without a node that runs on it; what only a node knows is null.
fn of_folder(dir: &Path, io: IoMode) -> Result<Value, Failure> {
    let viewer = super::view(dir, io)?;
    let found = viewer.verification();
    let reign = viewer.lineage().last().copied();
    Ok(json!({
        "role": viewer.role().map(|role| role.name()),
        "epoch": reign.map(|reign| reign.epoch.get()),
        "run_id": reign.map(|reign| reign.run_id.to_string()),
        "log_id": viewer.log_id().to_string(),
        "incarnation": viewer.incarnation().get(),
        "durable_lsn": found.durable_lsn.get(),
        "high_lsn": null,
        "io": null,
        "flush": null,
        "durability": "durable",
        "followers": [],
        "slots": [],
        "running": false,
        "damaged": !found.is_ok(),
        "topics": viewer.topics().len(),
        "entries": found.entries,
        "segments": found.segments,
    }))
}

/// The order for people; whatever else a node says comes behind.
const FIRST: [&str; 10] =
    ["role", "epoch", "run_id", "log_id", "incarnation", "durable_lsn", "high_lsn", "io", "flush", "durability"];

fn print(status: &Value, out: &mut Output) -> Result<(), Failure> {
    let Value::Object(fields) = status else { return out.json(status) };
    let rest = fields.keys().map(String::as_str).filter(|key| !FIRST.contains(key));
    let names: Vec<&str> = FIRST.into_iter().chain(rest).collect();
    let width = names.iter().map(|name| name.len()).max().unwrap_or(0);
    for name in names {
        match fields.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::Array(items)) if items.iter().all(Value::is_object) => {
                out.line(format_args!("{name:width$}  {}", if items.is_empty() { "none" } else { "" }))?;
                print_rows(items, out)?;
            }
            Some(value) => out.line(format_args!("{name:width$}  {}", plain(value)))?,
        }
    }
    Ok(())
}

/// Objects that have the same fields, as a table.
fn print_rows(items: &[Value], out: &mut Output) -> Result<(), Failure> {
    let Some(Value::Object(first)) = items.first() else { return Ok(()) };
    let mut names: Vec<&str> = first.keys().map(String::as_str).collect();
    // Who comes before what: a name, then how it is, then numbers.
    names.sort_by_key(|name| ["name", "state"].iter().position(|first| first == name).unwrap_or(usize::MAX));
    let mut table = Table::new(&names);
    for item in items {
        table.row(names.iter().map(|name| plain(&item[*name])).collect());
    }
    table.print(out)
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
