//! `diff`: whether two folders hold one history.

use std::path::Path;

use serde::Serialize;
use walrus_node::{IoMode, Lsn, Viewer};

use crate::cli::Diff;
use crate::fail::{self, Exit, Failure};
use crate::output::Output;

/// The object of `diff --json`.
#[derive(Serialize)]
struct Report {
    equal: bool,
    first_differing_lsn: Option<u64>,
}

pub(crate) fn run(args: &Diff, io: IoMode) -> Result<(), Failure> {
    let [a, b] = &args.data[..] else {
        let message = format!("diff compares two folders, and {} is named", args.data.len());
        let message = if args.data.len() > 2 { message.replace(" is ", " are ") } else { message };
        return Err(Failure::new(Exit::Usage, message).hint("walrus-node diff --data A --data B"));
    };
    let (left, right) = (sound(a, io)?, sound(b, io)?);
    let differing = left
        .first_difference(&right)
        .map_err(|error| fail::read(a, &error).context(format!("comparing {} with {}", a.display(), b.display())))?;
    let mut out = Output::new();
    if args.format.json {
        out.json(&Report { equal: differing.is_none(), first_differing_lsn: differing.map(Lsn::get) })?;
    } else {
        print([(a, &left), (b, &right)], differing, &mut out)?;
    }
    out.flush()?;
    // The result has said it: a difference is an answer, not an error.
    differing.map_or(Ok(()), |_| Err(Failure::silent(Exit::Failed)))
}

/// A damaged log is not compared: what is missing from it may be the very difference.
fn sound(dir: &Path, io: IoMode) -> Result<Viewer, Failure> {
    let viewer = super::view(dir, io)?;
    match viewer.verification().damage.first() {
        None => Ok(viewer),
        Some(damage) => {
            Err(fail::damaged(dir, damage).hint(format!("walrus-node verify --data {}", crate::at::typed(dir))))
        }
    }
}

fn print(logs: [(&std::path::PathBuf, &Viewer); 2], differing: Option<Lsn>, out: &mut Output) -> Result<(), Failure> {
    let [(_, left), (_, right)] = logs;
    let ends = [left, right].map(|log| log.verification().durable_lsn);
    match differing {
        None => {
            let end = left.verification();
            return out.line(format_args!("equal: both end before lsn {}, chain {}", end.durable_lsn, end.chain));
        }
        Some(_) if left.log_id() != right.log_id() => out.line(format_args!("different: they are two logs"))?,
        Some(lsn) if lsn == ends[0].min(ends[1]) => {
            out.line(format_args!("different: one goes on from lsn {lsn}, where the other ends; equal before"))?;
        }
        Some(lsn) => out.line(format_args!("different from lsn {lsn} on; equal before"))?,
    }
    for (dir, log) in logs {
        let end = log.verification();
        out.line(format_args!(
            "  {}: log {}, ends before lsn {}, chain {}",
            dir.display(),
            log.log_id(),
            end.durable_lsn,
            end.chain
        ))?;
    }
    Ok(())
}
