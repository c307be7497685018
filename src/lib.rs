#![allow(dead_code)]
//! walrus
pub mod engine;
mod format;
pub mod ids;
mod limits;
pub mod lsn;
mod topic;

#[cfg(feature = "replication")]
mod wire;
