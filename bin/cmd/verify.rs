//! `verify`: every block of a log looked at, nothing changed.

use serde::Serialize;
use walrus_node::{Damage, IoMode, OpenError, Verification, Viewer};

use crate::cli::Verify;
use crate::fail::{self, Exit, Failure};
use crate::output::Output;
use crate::text::{bytes, count};

/// The object of `verify --json`. A damaged place without segment, offset and LSN is a small file of the folder.
#[derive(Serialize)]
struct Report {
    ok: bool,
    segments: usize,
    blocks: u64,
    entries: u64,
    durable_lsn: u64,
    chain: String,
    damage: Vec<Place>,
    torn_tail_bytes: u64,
}

#[derive(Serialize)]
struct Place {
    segment: Option<u32>,
    file_offset: Option<u32>,
    lsn: Option<u64>,
    reason: String,
}

pub(crate) fn run(args: &Verify, io: IoMode) -> Result<(), Failure> {
    let dir = &args.folder.data;
    let mut out = Output::new();
    let found = match Viewer::open(dir, io) {
        Ok(viewer) => viewer.verification().clone(),
        Err(error) => {
            // Without a superblock nothing behind it can be looked at, and a program is told in the same shape.
            if args.format.json && is_damage(&error) {
                out.json(&Report::of_unreadable(&error))?;
                out.flush()?;
            }
            return Err(without_advice_to_verify(fail::open(dir, &error), &error));
        }
    };
    if args.format.json {
        out.json(&Report::of(&found))?;
    } else {
        print(&found, &mut out)?;
    }
    out.flush()?;
    match found.damage.first() {
        None => Ok(()),
        Some(damage) => {
            let typed = crate::at::typed(dir);
            Err(fail::damaged(dir, damage)
                .hint(format!("see what can still be read: walrus-node dump --data {typed}"))
                .hint(format!("give up what lies behind it: walrus-node repair --data {typed} --accept-loss")))
        }
    }
}

fn is_damage(error: &OpenError) -> bool {
    fail::open("".as_ref(), error).exit() == Exit::Damaged
}

/// Whoever has just verified need not be told to.
fn without_advice_to_verify(failure: Failure, error: &OpenError) -> Failure {
    if is_damage(error) { failure.no_hints() } else { failure }
}

fn print(found: &Verification, out: &mut Output) -> Result<(), Failure> {
    let Verification { segments, blocks, entries, durable_lsn, chain, damage, torn_tail_bytes } = found;
    out.line(format_args!("{}", if damage.is_empty() { "ok" } else { "DAMAGED" }))?;
    out.line(format_args!("  segments     {segments}"))?;
    out.line(format_args!("  blocks       {}", count(*blocks)))?;
    out.line(format_args!("  entries      {}", count(*entries)))?;
    out.line(format_args!("  ends before  lsn {durable_lsn}, chain {chain}"))?;
    if *torn_tail_bytes > 0 {
        out.line(format_args!(
            "  torn tail    {}, never acknowledged; the next writer cuts them off",
            bytes(*torn_tail_bytes)
        ))?;
    }
    for place in damage {
        out.line(format_args!("  damage       {place}"))?;
    }
    Ok(())
}

impl Report {
    fn of(found: &Verification) -> Report {
        let place = |damage: &Damage| Place {
            segment: Some(damage.segment.get()),
            file_offset: Some(damage.file_offset),
            lsn: Some(damage.lsn.get()),
            reason: damage.reason.clone(),
        };
        Report {
            ok: found.is_ok(),
            segments: found.segments,
            blocks: found.blocks,
            entries: found.entries,
            durable_lsn: found.durable_lsn.get(),
            chain: found.chain.to_string(),
            damage: found.damage.iter().map(place).collect(),
            torn_tail_bytes: found.torn_tail_bytes,
        }
    }

    fn of_unreadable(error: &OpenError) -> Report {
        let damage = vec![Place { segment: None, file_offset: None, lsn: None, reason: error.to_string() }];
        let chain = walrus_node::Chain::START.to_string();
        Report { ok: false, segments: 0, blocks: 0, entries: 0, durable_lsn: 0, chain, damage, torn_tail_bytes: 0 }
    }
}
