//! The commands, one a file.

pub(crate) mod compare;
pub(crate) mod device;
pub(crate) mod merge;
pub(crate) mod peers;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod sweep;
