//! An error as a person meets it: what failed, where, with which values; then `hint:` with the next command to type; then the exit code.
//!
//! ```text
//!     error: cannot read topic `orders` of the log in a: there is no topic `orders`
//!     hint: walrus-node topics --data a
//! ```
//!
//! Every error of the library is given its exit code here, and nowhere else.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;

use walrus_node::{AppendError, CloseError, Damage, OpenError, ReadError};

use crate::text::shell;

/// How a command ends. The numbers are fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Ok = 0,
    /// A difference, a failed check, something that is not there.
    Failed = 1,
    Usage = 2,
    Unreachable = 3,
    NotLeader = 4,
    NotAllowed = 5,
    Diverged = 6,
    Damaged = 65,
    /// Locked, full: the same command may succeed later.
    Temporary = 75,
    /// Ctrl-C, as shells count it.
    Interrupted = 130,
}

impl Exit {
    /// The exit of a code that the library gives.
    pub(crate) fn of(code: u8) -> Exit {
        use Exit::*;
        let all = [Ok, Failed, Usage, Unreachable, NotLeader, NotAllowed, Diverged, Damaged, Temporary];
        all.into_iter().find(|exit| *exit as u8 == code).unwrap_or(Failed)
    }
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    /// Nothing is said when it is empty.
    message: String,
    hints: Vec<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into(), hints: Vec::new() }
    }

    /// From a message of the library, whose hint stands behind the word: taken apart, so that what is added stands before it.
    pub(crate) fn of_text(exit: Exit, text: &str) -> Failure {
        const HINT: &str = "hint: ";
        match text.find(HINT).filter(|at| text[..*at].ends_with(char::is_whitespace)) {
            Some(at) => Failure::new(exit, text[..at].trim_end()).hint(text[at + HINT.len()..].trim_end()),
            None => Failure::new(exit, text),
        }
    }

    /// Ends the command without a word: the results have said it all, or nobody listens any more.
    pub(crate) fn silent(exit: Exit) -> Failure {
        Failure::new(exit, "")
    }

    /// Adds the next command to type.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hints.push(hint.into());
        self
    }

    /// Leaves the hints out.
    #[must_use]
    pub(crate) fn no_hints(mut self) -> Failure {
        self.hints.clear();
        self
    }

    /// Says first what was being done.
    #[must_use]
    pub(crate) fn context(mut self, doing: impl Display) -> Failure {
        if !self.message.is_empty() {
            self.message = format!("{doing}: {}", self.message);
        }
        self
    }

    /// Says last what has been done all the same.
    #[must_use]
    pub(crate) fn note(mut self, note: impl Display) -> Failure {
        if !self.message.is_empty() {
            self.message = format!("{}\n{note}", self.message);
        }
        self
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Whether it is only that the reader of our output has gone.
    pub(crate) fn is_silent(&self) -> bool {
        self.message.is_empty()
    }

    pub(crate) fn print(&self) {
        if self.message.is_empty() {
            return;
        }
        // A closed stderr is no reason to fail in another way than we do already.
        let mut stderr = io::stderr().lock();
        let _ = writeln!(stderr, "error: {}", self.message);
        for hint in &self.hints {
            let _ = writeln!(stderr, "hint: {hint}");
        }
    }
}

/// Writing results failed. A reader that has seen enough (`| head`) is no failure.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::silent(Exit::Ok),
            _ => Failure::new(Exit::Failed, format!("cannot write to stdout: {error}")),
        }
    }
}

/// A log that is damaged, in the same words whoever finds it.
pub(crate) fn damaged(dir: &Path, damage: &Damage) -> Failure {
    let dir_shown = dir.display();
    Failure::new(Exit::Damaged, format!("the log in {dir_shown} is damaged: {damage}"))
}

/// A log in a folder could not be opened.
pub(crate) fn open(dir: &Path, error: &OpenError) -> Failure {
    let (shown, typed) = (dir.display(), shell(&dir.to_string_lossy()));
    let verify = format!("walrus-node verify --data {typed}");
    let cannot = |exit| Failure::new(exit, format!("cannot open the log in {shown}: {error}"));
    match error {
        OpenError::Damaged(damage) => damaged(dir, damage).hint(verify),
        OpenError::SuperblockDamaged { .. } | OpenError::FileDamaged { .. } => cannot(Exit::Damaged).hint(verify),
        OpenError::Locked(_) => cannot(Exit::Temporary).hint(format!(
            "ask the node that has it: --node HOST:PORT --tls {typed}/tls/admin; or see who it is: fuser -v {typed}/LOCK"
        )),
        OpenError::Role { is: "follower" } => {
            cannot(Exit::NotLeader).hint("append to its leader, and the entries come here by themselves: --node HOST:PORT")
        }
        OpenError::Role { .. } => {
            cannot(Exit::Usage).hint(format!("walrus-node serve --data {typed}, without --follow"))
        }
        OpenError::NoLog => cannot(Exit::Failed).hint(make_one(&typed)),
        OpenError::OtherLog { .. } => {
            cannot(Exit::Diverged).hint("a follower's folder mirrors one log for ever: give --data another folder")
        }
        OpenError::Newer { .. } => cannot(Exit::Failed).hint("walrus-node --version, and install the newer one"),
        OpenError::Storage(error) if error.is_not_found() => {
            Failure::new(Exit::Failed, format!("there is no log in {shown}: {error}")).hint(make_one(&typed))
        }
        OpenError::Storage(error) if error.is_full() => cannot(Exit::Temporary).hint(free_some(&typed)),
        OpenError::Halted { .. } => cannot(Exit::Temporary).hint(free_some(&typed)),
        _ => cannot(Exit::Failed),
    }
}

/// The same for a node that is to run on it.
pub(crate) fn open_to_serve(dir: &Path, error: &OpenError) -> Failure {
    let typed = shell(&dir.to_string_lossy());
    match error {
        OpenError::Role { is: "follower" } => open(dir, error)
            .no_hints()
            .hint(format!("name its leader: walrus-node serve --data {typed} --follow HOST:PORT --tls DIR")),
        _ => open(dir, error),
    }
}

fn make_one(typed: &str) -> String {
    format!("the first append makes it: echo hello | walrus-node append greetings --data {typed}")
}

fn free_some(typed: &str) -> String {
    format!("make room, then try again: df -h {typed}")
}

/// An append to a folder failed.
pub(crate) fn append(dir: &Path, error: &AppendError) -> Failure {
    let (shown, typed) = (dir.display(), shell(&dir.to_string_lossy()));
    let exit = match error {
        AppendError::InvalidTopic { .. } | AppendError::InvalidBatch { .. } | AppendError::TooLarge { .. } => {
            Exit::Usage
        }
        AppendError::NotLeader => Exit::NotLeader,
        AppendError::Full { .. }
        | AppendError::Halted { .. }
        | AppendError::RolledBack { .. }
        | AppendError::Indeterminate { .. } => Exit::Temporary,
        _ => Exit::Failed,
    };
    let failure = Failure::new(exit, format!("cannot append to the log in {shown}: {error}"));
    match error {
        AppendError::Full { .. } => failure.hint(free_some(&typed)),
        AppendError::Halted { .. } | AppendError::RolledBack { .. } | AppendError::Indeterminate { .. } => {
            failure.hint(format!("see what is there: walrus-node verify --data {typed}"))
        }
        _ => failure,
    }
}

/// The log was not closed in order.
pub(crate) fn close(dir: &Path, error: &CloseError) -> Failure {
    Failure::new(Exit::Temporary, format!("closing the log in {}: {error}", dir.display()))
}

/// Reading a folder failed.
pub(crate) fn read(dir: &Path, error: &ReadError) -> Failure {
    let (shown, typed) = (dir.display(), shell(&dir.to_string_lossy()));
    let cannot = |exit| Failure::new(exit, format!("cannot read the log in {shown}: {error}"));
    let tail = |topic: &str, from: &dyn Display| {
        let topic = shell(topic);
        format!("walrus-node tail {topic} --data {typed} -o {from}")
    };
    match error {
        ReadError::UnknownTopic(_) => cannot(Exit::Failed).hint(format!("walrus-node topics --data {typed}")),
        ReadError::BeyondEnd { topic, .. } => cannot(Exit::Usage).hint(tail(topic, &"-10")),
        ReadError::Trimmed { topic, first_offset, .. } => cannot(Exit::Usage).hint(tail(topic, first_offset)),
        ReadError::Damaged { topic, damage, next_good_offset, .. } => match next_good_offset {
            Some(next) => damaged(dir, damage).hint(tail(topic, next)),
            None => damaged(dir, damage).hint(format!("walrus-node verify --data {typed}")),
        },
        _ => cannot(Exit::Failed),
    }
}
