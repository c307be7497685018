//! Why a connection, a stream or a request ended: docs/PROTOCOL.md#codes
//!
//! A code is an open number, not an enum: a newer peer may send one that this program has never heard of, and that must be
//! a sentence in a log, not a decoding error. What a program *does* about a code is its class.
//!
//! Layer: wire. Knows nothing of who reports it to whom.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why something ended. The same numbers close a connection, end a stream and refuse a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Code(pub(crate) u16);

/// What whoever meets a code does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Nothing to do.
    Done,
    /// Try again, with backoff.
    Retry,
    /// Somebody else is the right one to ask.
    Redirect,
    /// Stop; a human has to decide.
    Halt,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $class:ident, $text:literal;)*) => {
        impl Code {
            $($(#[$doc])* pub(crate) const $name: Code = Code($number);)*

            /// The code in words; an unknown one has none.
            pub(crate) fn text(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some($text),)*
                    _ => None,
                }
            }

            /// What to do about it. An unknown code is tried again: that destroys nothing, and backs off.
            pub(crate) fn class(self) -> Class {
                match self.0 {
                    $($number => Class::$class,)*
                    _ => Class::Retry,
                }
            }

            /// Every code of this version, in order.
            pub(crate) const ALL: &'static [Code] = &[$(Code($number)),*];
        }
    };
}

codes! {
    /// The end that was asked for.
    OK = 0, Done, "done";
    /// The node stops in good order; what it accepted is durable.
    DRAINING = 1, Retry, "the node is stopping";
    /// The peer broke a rule of the protocol.
    PROTOCOL = 2, Halt, "the protocol was broken";
    /// No common minor version.
    VERSION = 3, Halt, "no common version of the protocol";
    /// A frame is longer than its type allows.
    FRAME_TOO_LARGE = 4, Halt, "a frame is too large";
    /// The certificate names nobody.
    UNAUTHENTICATED = 5, Halt, "the certificate carries no walrus identity";
    /// The certificate's role does not allow it.
    FORBIDDEN = 6, Halt, "the certificate does not allow it";
    /// The two logs have different ids.
    LOG_MISMATCH = 8, Halt, "the two nodes hold different logs";
    /// Appends go to the leader.
    NOT_LEADER = 9, Redirect, "this node is a follower";
    /// The follower's history is not a prefix of the leader's.
    DIVERGED = 11, Halt, "the two histories are unequal";
    /// The follower needs blocks that retention has taken away.
    BEHIND_RETENTION = 12, Halt, "the blocks asked for are no longer kept";
    /// Too many connections or requests.
    LIMIT = 14, Retry, "too many connections or requests";
    /// The control stream fell silent.
    HEARTBEAT_TIMEOUT = 15, Retry, "nothing was heard for too long";
    /// A block does not fit its sums.
    CHECKSUM = 16, Halt, "a block does not fit its checksum";
    /// The disk is full.
    FULL = 18, Retry, "the disk is full";
    /// A bug, or an error that has no code of its own.
    INTERNAL = 19, Retry, "an internal error";
    /// No topic of that name.
    UNKNOWN_TOPIC = 20, Halt, "no such topic";
    /// A topic name, a batch or a start that can never be right.
    INVALID = 21, Halt, "the request is not valid";
    /// The log is damaged at the place asked for.
    DAMAGED = 22, Halt, "the log is damaged";
    /// The log takes no writes until the node is restarted.
    HALTED = 23, Retry, "the log is halted";
    /// Whether the batch exists is known only after a restart.
    INDETERMINATE = 24, Retry, "it is not known whether the batch was written";
    /// The follower has not reached its leader yet, so it has no log.
    NOT_READY = 25, Retry, "the node is not ready";
    /// A request type that this program does not know.
    UNKNOWN_REQUEST = 26, Halt, "the node does not know this request";
    /// The same follower connected again.
    REPLACED = 27, Retry, "a newer connection of the same follower took over";
}

/// The codes that close a connection or refuse a request: number and words, in order.
pub fn codes() -> impl Iterator<Item = (u16, &'static str)> {
    Code::ALL.iter().map(|code| (code.0, code.text().unwrap_or_default()))
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text() {
            Some(text) => write!(f, "{text} (code {})", self.0),
            None => write!(f, "unknown code {}", self.0),
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A peer broke a rule, or a rule forbids to go on with it: the code to close with, and what happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Violation {
    pub(crate) code: Code,
    pub(crate) what: String,
}

impl Violation {
    pub(crate) fn new(code: Code, what: impl Into<String>) -> Violation {
        Violation { code, what: what.into() }
    }

    /// A broken rule of docs/PROTOCOL.md.
    pub(crate) fn protocol(what: impl Into<String>) -> Violation {
        Violation::new(Code::PROTOCOL, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_stands_in_the_protocol_page_with_its_number_name_and_class() {
        let page = include_str!("../../docs/PROTOCOL.md");
        for &code in Code::ALL {
            let class = format!("{:?}", code.class()).to_lowercase();
            let row = page.lines().find(|line| line.starts_with(&format!("| {} |", code.0)) && line.contains(&class));
            assert!(row.is_some(), "no row of class {class} for {code}");
        }
    }

    #[test]
    fn an_unknown_code_is_printable_and_tried_again() {
        assert_eq!(Code(999).to_string(), "unknown code 999");
        assert_eq!(Code(999).class(), Class::Retry);
    }
}
