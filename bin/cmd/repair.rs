//! `repair`: a damaged log is cut off where it is still whole.

use walrus_node::{IoMode, OpenError, Repaired, Role, accept_loss};

use crate::cli::Repair;
use crate::fail::{self, Exit, Failure};
use crate::output::Output;
use crate::text::{count, shell};

pub(crate) fn run(args: &Repair, io: IoMode) -> Result<(), Failure> {
    let typed = shell(&args.data.to_string_lossy());
    if args.from.is_some() {
        let what = "fetching blocks back from another node is not in this version";
        let hint = format!("give up what is damaged: walrus-node repair --data {typed} --accept-loss");
        return Err(Failure::new(Exit::Usage, what.to_owned()).hint(hint));
    }
    let repaired = accept_loss(&args.data, io).map_err(|error| failure(args, &error))?;
    let mut out = Output::new();
    match repaired {
        None => out.line(format_args!("the log in {} is not damaged; nothing was changed", args.data.display()))?,
        Some(repaired) => print(args, &repaired, &mut out)?,
    }
    out.flush()
}

/// Where the place to cut is not known, there is nothing that this command could do.
fn failure(args: &Repair, error: &OpenError) -> Failure {
    let failure = fail::open(&args.data, error);
    match error {
        OpenError::SuperblockDamaged { .. } | OpenError::FileDamaged { .. } => failure
            .no_hints()
            .note("nothing was changed, and no cut can mend this: without it nobody knows which blocks are the log")
            .hint("keep the folder as it is, and put back a copy of that file if there is one")
            .hint("a follower has the entries: walrus-node tail TOPIC --data FOLLOWER_DIR")
            .hint("if this is a follower's folder, begin anew: walrus-node serve --data NEW_DIR --follow HOST:PORT --tls DIR"),
        _ => failure,
    }
}

fn print(args: &Repair, repaired: &Repaired, out: &mut Output) -> Result<(), Failure> {
    for damage in &repaired.damage {
        out.line(format_args!("damaged: {damage}"))?;
    }
    if !repaired.damage.is_empty() {
        let lost = repaired.was_lsn.get() - repaired.cut_lsn.get();
        let (cut, was) = (repaired.cut_lsn, repaired.was_lsn);
        out.line(format_args!(
            "cut: the log ends before lsn {cut} now; it ended before lsn {was}, {} blocks later",
            count(lost)
        ))?;
        if repaired.lost.is_empty() {
            out.line(format_args!("lost: no entry that could still be read behind the cut"))?;
        }
    }
    for (topic, first, end) in &repaired.lost {
        out.line(format_args!(
            "lost: `{topic}` from offset {first} to {} ({} entries at least)",
            end - 1,
            count(end - first)
        ))?;
    }
    if repaired.cursors_lost {
        out.line(format_args!("lost: every cursor; the file was damaged, and readers begin where they say"))?;
    }
    for file in &repaired.kept {
        out.line(format_args!("kept: {}", args.data.join(file).display()))?;
    }
    if !repaired.damage.is_empty() {
        out.line(format_args!("{}", what_about_the_mirror(repaired)))?;
    }
    Ok(())
}

/// What the cut means to the other nodes.
fn what_about_the_mirror(repaired: &Repaired) -> String {
    let cut = repaired.cut_lsn;
    match repaired.role {
        Some(Role::Follower) => {
            format!("mirror: as soon as it follows again, it asks its leader for lsn {cut} and what comes after it")
        }
        _ => format!(
            "mirror: a follower that has lsn {cut} or more stops with exit code 6 and keeps every byte: what was cut here can be read \
             there, with walrus-node tail TOPIC --data FOLLOWER_DIR; then it needs a fresh folder"
        ),
    }
}
