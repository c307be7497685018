//! One module per promise, against the public API and the real disk of the current folder.

mod append;
mod support;
