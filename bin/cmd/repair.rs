//! `repair`: a damaged log is cut off where it is still whole.

use walrus_node::{IoMode, Repaired, accept_loss};

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
    let repaired = accept_loss(&args.data, io).map_err(|error| fail::open(&args.data, &error))?;
    let mut out = Output::new();
    match repaired {
        None => out.line(format_args!("the log in {} is not damaged; nothing was changed", args.data.display()))?,
        Some(repaired) => print(args, &repaired, &mut out)?,
    }
    out.flush()
}

fn print(args: &Repair, repaired: &Repaired, out: &mut Output) -> Result<(), Failure> {
    if let Some(damage) = &repaired.damage {
        out.line(format_args!("damaged: {damage}"))?;
        let lost = repaired.was_lsn.get() - repaired.cut_lsn.get();
        let (cut, was) = (repaired.cut_lsn, repaired.was_lsn);
        out.line(format_args!(
            "cut: the log ends before lsn {cut} now; it ended before lsn {was}, {} blocks later",
            count(lost)
        ))?;
    }
    for (topic, first, end) in &repaired.lost {
        out.line(format_args!(
            "lost: `{topic}` from offset {first} to {} ({} entries at least)",
            end - 1,
            count(end - first)
        ))?;
    }
    for file in &repaired.kept {
        out.line(format_args!("kept: {}", args.data.join(file).display()))?;
    }
    Ok(())
}
