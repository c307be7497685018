//! Names of things that are numbers: one type each, so that none is passed for another.
//!
//! Layer 0. Uses std. Knows nothing of what they name.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $int:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($int);

        impl $name {
            /// From the plain number.
            pub const fn new(number: $int) -> $name {
                $name(number)
            }

            /// The plain number.
            pub const fn get(self) -> $int {
                self.0
            }

            /// The number behind this one.
            ///
            /// # Panics
            /// When the numbers run out; at one a second that takes more than a century.
            #[must_use]
            pub const fn next(self) -> $name {
                match self.0.checked_add(1) {
                    Some(number) => $name(number),
                    None => panic!("number overflow"),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

macro_rules! id128 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(u128);

        impl $name {
            /// From the plain number.
            pub const fn new(bits: u128) -> $name {
                $name(bits)
            }

            /// The plain number.
            pub const fn get(self) -> u128 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

number! {
    /// The number of one reign of a leader; portable, in every block.
    Epoch, u32
}
number! {
    /// Which stretch of this disk's writing a block belongs to; local, in every envelope.
    Incarnation, u32
}
number! {
    /// The number of a segment file. Numbers rise, are never used twice, and may have gaps.
    SegmentNo, u32
}
number! {
    /// A topic's number in this log, from 1 in the order of the TOPIC blocks. 0 is the log's own control topic.
    TopicId, u32
}

id128! {
    /// The log's id, random at its creation and the same on every node that mirrors it.
    LogId
}
id128! {
    /// One node's own id, random at the creation of its folder.
    NodeId
}
id128! {
    /// The random name of one reign of a leader.
    RunId
}

impl TopicId {
    /// The control topic: EPOCH, TOPIC, COMMIT and ABORT blocks are entries of it.
    pub const CONTROL: TopicId = TopicId::new(0);
}

impl LogId {
    /// The seed of the header chain: format.md, "Block".
    pub(crate) const fn chain_seed(self) -> u64 {
        self.0 as u64
    }
}

/// The running hash over all portable blocks up to and with one block. Equal (LSN, chain) means equal history.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chain(u64);

impl Chain {
    /// The chain before the first block.
    pub const START: Chain = Chain(0);

    /// From the number on disk or on the wire.
    pub const fn new(bits: u64) -> Chain {
        Chain(bits)
    }

    /// The plain number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
