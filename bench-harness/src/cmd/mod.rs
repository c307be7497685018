//! The commands that only read results: nothing is measured here.

pub(crate) mod compare;
pub(crate) mod merge;
pub(crate) mod report;
