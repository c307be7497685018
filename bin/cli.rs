//! What can be typed: names, flags, environment variables, help. Parsing refuses what can never be right (a topic with a `/`, a batch of
//! 2,001 entries) before anything is opened.
//!
//! The names are fixed: tests outside this repository type them. Add, do not rename.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use walrus_node::certs::Role;
use walrus_node::{BATCH_ENTRIES_MAX, IoMode, check_name};

use crate::start::Start;

/// A write-ahead log for one Linux server, with a mirror.
#[derive(Parser)]
#[command(
    name = "walrus-node",
    version,
    disable_help_subcommand = true,
    after_help = "\
Examples:
  walrus-node demo
  seq 1000 | walrus-node append numbers --data log --batch 256
  walrus-node tail numbers --data log -n 5"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// How to reach the disk: auto, uring, syscall or mmap
    #[arg(long, global = true, value_name = "MODE", env = "WALRUS_IO", hide_env_values = true, default_value = "auto")]
    pub(crate) io: IoMode,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    Demo(Demo),
    Serve(Serve),
    Append(Append),
    Tail(Tail),
    Topics(Topics),
    Status(Status),
    Verify(Verify),
    Dump(Dump),
    Diff(Diff),
    Repair(Repair),
    Explain(Explain),
    #[command(subcommand)]
    Cert(Cert),
}

/// Run a leader and a follower here: append, kill, resume, compare, measure
///
/// Works in a fresh folder `walrus-demo-XXXXXX` of the current directory, on its real disk, and removes it at the end. Needs no
/// configuration and about ten seconds.
#[derive(Args)]
#[command(after_help = "\
Examples:
  walrus-node demo
  walrus-node demo --input /usr/share/dict/words")]
pub(crate) struct Demo {
    /// Append the lines of this file, instead of made-up ones [default: made-up lines]
    #[arg(long, value_name = "FILE", env = "WALRUS_DEMO_INPUT", hide_env_values = true)]
    pub(crate) input: Option<PathBuf>,
}

/// Run a node: a leader, or with --follow a follower
#[derive(Args)]
#[command(after_help = "\
Without --tls, certificates are made in DATA/tls (yours is DATA/tls/admin), and only this machine can connect.

Examples:
  walrus-node serve --data a
  walrus-node serve --data a --listen 0.0.0.0:7400 --tls pki/leader
  walrus-node serve --data b --tls pki/follower --follow 10.0.0.1:7400")]
pub(crate) struct Serve {
    /// The folder of the log; made if it is not there
    #[arg(long, value_name = "DIR", env = "WALRUS_DATA", hide_env_values = true)]
    pub(crate) data: PathBuf,
    /// Where to listen for clients and followers
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "WALRUS_LISTEN",
        hide_env_values = true,
        default_value = "127.0.0.1:7400"
    )]
    pub(crate) listen: String,
    /// Where to answer /live, /ready, /status, /metrics
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "WALRUS_ADMIN",
        hide_env_values = true,
        default_value = "127.0.0.1:7401"
    )]
    pub(crate) admin: String,
    /// Certificates: a folder that `cert issue` made [default: DATA/tls/node, made if missing]
    #[arg(long, value_name = "DIR", env = "WALRUS_TLS", hide_env_values = true)]
    pub(crate) tls: Option<PathBuf>,
    /// Follow the leader at this address [default: be a leader]
    #[arg(long, value_name = "HOST:PORT", env = "WALRUS_FOLLOW", hide_env_values = true)]
    pub(crate) follow: Option<String>,
    /// The name the leader knows this follower by [default: the certificate's]
    #[arg(long, value_name = "NAME", env = "WALRUS_SLOT", hide_env_values = true)]
    pub(crate) slot: Option<String>,
}

/// Append lines to a topic: one entry a line, each N lines one atomic batch
#[derive(Args)]
#[command(after_help = "\
An entry counts once it is durable. With --json there is one line per durable batch, in order, on stdout.

Examples:
  echo hello | walrus-node append greetings --data log
  walrus-node append text words.txt --data log --batch 256
  walrus-node append text - --node 127.0.0.1:7400 --tls a/tls/admin --json")]
pub(crate) struct Append {
    /// The topic; made by its first entry
    #[arg(value_parser = topic)]
    pub(crate) topic: String,
    /// The lines, or - for stdin
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) place: Place,
    /// Lines in a batch, which is all or nothing: 1 to 2000
    #[arg(
        long,
        value_name = "N",
        env = "WALRUS_BATCH",
        hide_env_values = true,
        default_value = "1",
        allow_negative_numbers = true,
        value_parser = batch
    )]
    pub(crate) batch: usize,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// Print the entries of a topic, and go on with what comes
#[derive(Args)]
#[command(after_help = "\
A folder (--data) does not grow while it is read: its tail ends at its end.

Examples:
  walrus-node tail text --data log -e
  walrus-node tail text --node 127.0.0.1:7400 --tls a/tls/admin -o -10
  walrus-node tail text --data log -o @2026-11-25T01:02:03Z -n 5 --json")]
pub(crate) struct Tail {
    /// The topic
    #[arg(value_parser = topic)]
    pub(crate) topic: String,
    #[command(flatten)]
    pub(crate) place: Place,
    /// Where to begin: start, end, an offset N, the last N as -N, @TIME as RFC 3339 or seconds since 1970
    #[arg(
        short,
        long,
        value_name = "WHERE",
        env = "WALRUS_OFFSET",
        hide_env_values = true,
        default_value = "start",
        allow_hyphen_values = true
    )]
    pub(crate) offset: Start,
    /// Stop after this many entries [default: no limit]
    #[arg(
        short = 'n',
        long,
        value_name = "COUNT",
        env = "WALRUS_COUNT",
        hide_env_values = true,
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub(crate) count: Option<u64>,
    /// Stop at the topic's present end [default: wait for more]
    #[arg(short = 'e', long, env = "WALRUS_END", hide_env_values = true)]
    pub(crate) end: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// List the topics
#[derive(Args)]
#[command(after_help = "\
Examples:
  walrus-node topics --data log
  walrus-node topics --node 127.0.0.1:7400 --tls a/tls/admin --json")]
pub(crate) struct Topics {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// Show how a node is, or what a folder holds
#[derive(Args)]
#[command(after_help = "\
Examples:
  walrus-node status --data log
  walrus-node status --node 127.0.0.1:7400 --tls a/tls/admin --json")]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// Check every block of a log; changes nothing
#[derive(Args)]
#[command(after_help = "\
Exit code 65: something durable is damaged. A torn tail, never acknowledged, is no damage.

Examples:
  walrus-node verify --data log
  walrus-node verify --data log --json")]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) folder: Folder,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// Show the blocks of a log and the entries in them; changes nothing
#[derive(Args)]
#[command(after_help = "\
Examples:
  walrus-node dump --data log
  walrus-node dump --data log orders --json")]
pub(crate) struct Dump {
    /// Only this topic's entries, and the blocks that hold them [default: everything]
    #[arg(value_parser = topic)]
    pub(crate) topic: Option<String>,
    #[command(flatten)]
    pub(crate) folder: Folder,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// Tell whether two folders hold the same log; changes nothing
#[derive(Args)]
#[command(after_help = "\
Exit code 0: equal. 1: different, or one ends earlier. 65: one is damaged.

Examples:
  walrus-node diff --data leader --data follower
  walrus-node diff --data leader --data follower --json")]
pub(crate) struct Diff {
    /// The two folders: give it twice
    #[arg(long, value_name = "DIR", required = true, num_args = 1, action = clap::ArgAction::Append)]
    pub(crate) data: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// Make a damaged log writable again, at the price of what lies behind the damage
///
/// Cuts the log off at the end of the last whole batch before the first damaged place. Nothing is deleted: what is cut is kept in
/// `DIR/quarantine`. A log without damage is left as it is.
#[derive(Args)]
#[command(after_help = "\
Exit code 0: repaired, or nothing to repair. 65: there is no place to cut.

Examples:
  walrus-node verify --data DIR              what is damaged, and where
  walrus-node repair --data DIR --accept-loss")]
pub(crate) struct Repair {
    /// The folder
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Give up what lies behind the damage
    #[arg(long, required_unless_present = "from")]
    pub(crate) accept_loss: bool,
    /// Fetch the very bytes back from another node (a later version)
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "accept_loss", requires = "tls")]
    pub(crate) from: Option<String>,
    /// The certificates for it
    #[arg(long, value_name = "DIR")]
    pub(crate) tls: Option<PathBuf>,
}

/// Say what a code means, and what to type next
#[derive(Args)]
#[command(after_help = "\
Examples:
  walrus-node explain                 all of them
  walrus-node explain 65              an exit code
  walrus-node explain indeterminate   how an append ended
  walrus-node explain net-12          a code of the network")]
pub(crate) struct Explain {
    /// The code; without it they are listed
    #[arg(value_name = "CODE")]
    pub(crate) code: Option<String>,
}

/// Make and check certificates: who may connect, and what for
#[derive(Subcommand)]
#[command(after_help = "\
Examples:
  walrus-node cert init pki
  walrus-node cert issue pki leader --role node --san 10.0.0.1
  walrus-node cert issue pki me --role admin")]
pub(crate) enum Cert {
    Init(CertInit),
    Issue(CertIssue),
    Check(CertCheck),
}

/// Make a certificate authority: DIR/ca.pem and DIR/ca.key
#[derive(Args)]
#[command(after_help = "\
Examples:
  walrus-node cert init pki
  walrus-node cert init pki --cluster orders")]
pub(crate) struct CertInit {
    /// Its folder
    pub(crate) dir: PathBuf,
    /// The cluster that it is for
    #[arg(long, value_name = "NAME", env = "WALRUS_CLUSTER", hide_env_values = true, default_value = "walrus")]
    pub(crate) cluster: String,
}

/// Issue a certificate: the folder DIR/NAME, which is what --tls takes
#[derive(Args)]
#[command(after_help = "\
NAME, localhost, 127.0.0.1 and ::1 are always in it.

Examples:
  walrus-node cert issue pki leader --role node --san 10.0.0.1
  walrus-node cert issue pki billing --role consumer --topics 'invoices.*'")]
pub(crate) struct CertIssue {
    /// The authority's folder
    pub(crate) dir: PathBuf,
    /// Whom it is for
    pub(crate) name: String,
    /// What it allows: node (all, and to follow), producer (append), consumer (read), admin (all)
    #[arg(long, env = "WALRUS_ROLE", hide_env_values = true)]
    pub(crate) role: Role,
    /// Topics it is bound to, * for any bytes; may be given again [default: all]
    #[arg(long, value_name = "GLOB")]
    pub(crate) topics: Vec<String>,
    /// Another host name or address in it; may be given again [default: none]
    #[arg(long, value_name = "NAME")]
    pub(crate) san: Vec<String>,
}

/// Tell when certificates end; exit code 1 if one ends too soon
#[derive(Args)]
#[command(after_help = "\
Examples:
  walrus-node cert check pki
  walrus-node cert check pki --within 90d")]
pub(crate) struct CertCheck {
    /// A folder with certificates, or with folders of them
    pub(crate) dir: PathBuf,
    /// How long they must still be good: a number and s, m, h or d
    #[arg(
        long,
        value_name = "TIME",
        env = "WALRUS_WITHIN",
        hide_env_values = true,
        default_value = "30d",
        value_parser = crate::text::parse_duration
    )]
    pub(crate) within: std::time::Duration,
}

/// Where the log is: a folder of this machine, or a node.
#[derive(Args)]
pub(crate) struct Place {
    /// The log in this folder [env: WALRUS_DATA=]
    #[arg(long, value_name = "DIR", conflicts_with = "node")]
    pub(crate) data: Option<PathBuf>,
    /// The log of the node at this address [env: WALRUS_NODE=]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) node: Option<String>,
    /// For --node: a folder with your certificate, such as DATA/tls/admin
    #[arg(long, value_name = "DIR", env = "WALRUS_TLS", hide_env_values = true)]
    pub(crate) tls: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Folder {
    /// The folder of the log
    #[arg(long, value_name = "DIR", env = "WALRUS_DATA", hide_env_values = true)]
    pub(crate) data: PathBuf,
}

#[derive(Args)]
pub(crate) struct Format {
    /// Print JSON for programs [default: text for people]
    #[arg(long, env = "WALRUS_JSON", hide_env_values = true)]
    pub(crate) json: bool,
}

fn topic(name: &str) -> Result<String, walrus_node::InvalidName> {
    check_name(name).map(|()| name.to_owned())
}

fn batch(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(entries) if (1..=BATCH_ENTRIES_MAX).contains(&entries) => Ok(entries),
        _ => Err(format!("a batch has 1 to {BATCH_ENTRIES_MAX} entries")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_agree_with_each_other() {
        Cli::command().debug_assert();
    }
}
