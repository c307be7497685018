//! The commands, one a file.

pub(crate) mod device;
pub(crate) mod peers;
pub(crate) mod run;
pub(crate) mod sweep;
