//! `explain`: what a code means, what was and was not changed, and what to type next.
//!
//! A code is the exit code of a command, the number in a message of the network (`code 12`), or the word for how an append ended.

use walrus_node::codes;

use crate::cli::Explain;
use crate::fail::{Exit, Failure};
use crate::output::Output;

/// One code, as it is asked for.
struct Page {
    name: &'static str,
    title: &'static str,
    text: &'static str,
}

const fn page(name: &'static str, title: &'static str, text: &'static str) -> Page {
    Page { name, title, text }
}

/// The exit codes of this command. The numbers are fixed.
const EXITS: &[Page] = &[
    page("0", "ok", "Everything that was asked for is done. What was appended is durable."),
    page(
        "1",
        "a difference, or a failed check",
        "Two logs differ, a topic or a folder is not there, a file could not be read. An append says how many\n\
        entries were acknowledged: those are durable. Otherwise nothing was changed.\n\
        next: the hint of the message; walrus-node topics --data DIR",
    ),
    page(
        "2",
        "usage",
        "The command line, a topic name, a batch size or an offset can never be right. An append says how many\n\
        entries were acknowledged: those are durable. Otherwise nothing was changed.\n\
        next: walrus-node COMMAND --help",
    ),
    page(
        "3",
        "unreachable",
        "The node did not answer, or the connection was lost. An append says how many entries were acknowledged: those are\n\
        durable; of the others nothing is known, and none was sent twice.\nnext: walrus-node status --node HOST:PORT --tls DIR",
    ),
    page(
        "4",
        "not the leader",
        "A follower takes no appends. Nothing was written.\nnext: the same command with --node of the leader, which the message names",
    ),
    page(
        "5",
        "not allowed",
        "There is no certificate, it is of another authority, or its role or topics do not allow it. Nothing was changed.\n\
        next: walrus-node cert issue DIR NAME --role admin; and --tls DIR/NAME",
    ),
    page(
        "6",
        "diverged",
        "Two logs have different histories, or are different logs. Both keep every byte; nothing was mixed.\n\
        next: walrus-node diff --data A --data B",
    ),
    page(
        "65",
        "data damaged",
        "Something durable fails its checks. The message names segment, offset and LSN. Nothing was changed.\n\
        next: walrus-node verify --data DIR; walrus-node tail TOPIC --data DIR reads what is whole;\n\
        walrus-node repair --data DIR --accept-loss cuts the rest off and keeps it in DIR/quarantine. Where the superblock or `base` is\n\
        damaged, it says what is left to do",
    ),
    page(
        "75",
        "temporary",
        "Another process has the folder, the disk is full or does not answer, an address is taken, or the log has halted.\n\
        What was acknowledged is durable; an append is to be gone on with behind it, not repeated.\n\
        next: fuser -v DIR/LOCK; df -h DIR; dmesg",
    ),
    page(
        "130",
        "interrupted",
        "Ctrl-C, or a second signal. What was acknowledged is durable; a node recovers at its next start. An append is to be gone on with\n\
        behind what it said was acknowledged, not repeated.\nnext: the hint of the message",
    ),
];

/// How an append ends that did not succeed.
const APPENDS: &[Page] = &[
    page(
        "rejected",
        "refused before anything was written",
        "The word for all of full, busy, unexpected-offset and halted, and for what can never be right: a name, a batch too large.\n\
        No offset was given out.\nnext: walrus-node explain, with the word that the message has",
    ),
    page(
        "full",
        "the disk is full",
        "Nothing was written and no offset was given out. Reads go on, and appends too as soon as there is room.\n\
        next: df -h DIR; keep less (Options::retain_bytes), or lower Options::min_free",
    ),
    page(
        "busy",
        "the caller did not want to wait",
        "Nothing was written.\nnext: try again, or use append, which waits",
    ),
    page(
        "unexpected-offset",
        "the topic does not end where the caller believed",
        "Nothing was written. If it was a second try, the first has arrived.\n\
        next: read the topic from the expected offset on",
    ),
    page(
        "rolled-back",
        "a write or a flush failed, and so did writing it once more",
        "It was cut off durably: it is not in the log and will never appear. The log\n\
        takes no writes until it is opened again.\nnext: dmesg; then restart the process",
    ),
    page(
        "indeterminate",
        "a write or a flush failed",
        "Whether it is in the log is known when the log is opened again: it is there whole, or not at all.\n\
        next: restart the process; then read the topic's end, or append with expect_offset",
    ),
    page(
        "halted",
        "the log takes no writes",
        "Nothing of this append was written. Reads go on; status says why.\n\
        next: walrus-node status --node HOST:PORT --tls DIR; dmesg; then restart the process",
    ),
];

/// What to do about a code of the network: the rest is in its words.
const NETWORK: &[(u16, &str)] = &[
    (0, "The other side has done what was asked and ends in order.\nnext: nothing"),
    (1, "What it took is durable. Clients come again by themselves.\nnext: walrus-node status, on the node that stops"),
    (
        2,
        "One of the two programs has a bug, or something else listens there.\nnext: walrus-node --version, on both sides",
    ),
    (
        3,
        "One of the two programs is too old for the other.\nnext: walrus-node --version, on both sides; upgrade the older one",
    ),
    (4, "A batch is longer than any node takes. Nothing of it was written.\nnext: smaller batches: --batch N"),
    (5, "It is not one that cert issue has made.\nnext: walrus-node cert check DIR"),
    (
        6,
        "Its role, or its topics, do not go so far.\nnext: walrus-node cert issue DIR NAME --role ROLE [--topics GLOB]",
    ),
    (
        8,
        "A follower's folder mirrors one log for ever.\nnext: walrus-node serve --follow HOST:PORT with a fresh --data",
    ),
    (
        9,
        "It takes no appends; nothing was written.\nnext: the same command with --node of the leader, which the message names",
    ),
    (11, "Both keep every byte.\nnext: walrus-node diff --data A --data B"),
    (
        12,
        "Retention has given away what the follower needs next.\nnext: walrus-node serve --follow HOST:PORT with a fresh --data",
    ),
    (
        14,
        "One certificate, or all clients together, have too much open.\nnext: fewer connections; clients come again by themselves",
    ),
    (
        15,
        "The other machine is gone, stopped or cut off.\nnext: ping HOST; look at the network; they come again by themselves",
    ),
    (16, "Nothing of it was written.\nnext: walrus-node verify --data DIR, on the sender"),
    (18, "Nothing was written.\nnext: df -h DIR, on the node"),
    (19, "The node met something that no other code is for.\nnext: the node's log; walrus-node status"),
    (20, "Nothing was ever appended to a topic of that name.\nnext: walrus-node topics --node HOST:PORT --tls DIR"),
    (21, "A name, a batch or an offset can never be right. Nothing was changed.\nnext: walrus-node COMMAND --help"),
    (22, "What lies before and behind can be read.\nnext: walrus-node verify --data DIR, on the node"),
    (
        23,
        "Nothing of it was written, or it was rolled back. Reads go on.\nnext: walrus-node status; dmesg; restart the node",
    ),
    (
        24,
        "A write or a flush failed. It is there whole or not at all.\nnext: restart the node; then read the topic's end",
    ),
    (25, "A fresh follower has no log before it has reached its leader.\nnext: walrus-node status, on the follower"),
    (26, "The node is older than what asks it.\nnext: walrus-node --version, on both sides; upgrade the older one"),
    (27, "Two processes use one certificate.\nnext: give each follower a certificate of its own"),
];

pub(crate) fn run(args: &Explain) -> Result<(), Failure> {
    let mut out = Output::new();
    match &args.code {
        None => list(&mut out)?,
        Some(code) => {
            let known = EXITS.iter().chain(APPENDS).find(|page| page.name == code);
            if let Some(Page { name, title, text }) = known {
                out.line(format_args!("{name}: {title}\n\n{text}"))?;
                if network(code).is_some() {
                    out.line(format_args!(
                        "\nIn a message of the network (`code {code}`): walrus-node explain net-{code}"
                    ))?;
                }
            } else if let Some((number, title)) = network(code) {
                let advice = NETWORK.iter().find(|(known, _)| *known == number).map_or("", |(_, advice)| advice);
                out.line(format_args!("code {number}: {title}\n\n{advice}"))?;
            } else {
                let failure = Failure::new(Exit::Usage, format!("there is no code `{code}`"));
                return Err(
                    failure.hint("walrus-node explain lists all of them; a number of the network is written net-12")
                );
            }
        }
    }
    out.flush()
}

/// A code of the network: `net-12`, or `12` where that is no exit code.
fn network(code: &str) -> Option<(u16, &'static str)> {
    let number: u16 = code.strip_prefix("net-").unwrap_or(code).parse().ok()?;
    codes().find(|(known, _)| *known == number)
}

fn list(out: &mut Output) -> Result<(), Failure> {
    out.line(format_args!("exit codes"))?;
    EXITS.iter().try_for_each(|page| out.line(format_args!("  {:<18} {}", page.name, page.title)))?;
    out.line(format_args!("how an append ended"))?;
    APPENDS.iter().try_for_each(|page| out.line(format_args!("  {:<18} {}", page.name, page.title)))?;
    out.line(format_args!("codes of the network"))?;
    codes().try_for_each(|(number, title)| out.line(format_args!("  net-{number:<14} {title}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_page_that_says_what_to_do_next() {
        for (number, title) in codes() {
            let advice = NETWORK.iter().find(|(known, _)| *known == number).map(|(_, advice)| *advice);
            let (cause, next) =
                advice.and_then(|advice| advice.split_once("\nnext: ")).expect("a cause, then what to do");
            assert!(!cause.is_empty() && !next.is_empty() && !title.is_empty(), "code {number}");
        }
        assert_eq!(NETWORK.len(), codes().count());
        for exit in 0..=u8::MAX {
            let known = Exit::of(exit) as u8 == exit || exit == Exit::Interrupted as u8;
            assert_eq!(EXITS.iter().any(|page| page.name == exit.to_string()), known, "exit {exit}");
        }
        assert!(EXITS[1..].iter().chain(APPENDS).all(|page| page.text.contains("\nnext: ")));
    }
}
