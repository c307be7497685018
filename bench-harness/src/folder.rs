//! The folder that a run works in: fresh, beside nothing of the user's, and gone at the end, also after an error.

use std::path::Path;

use anyhow::{Context, Result};
use tempfile::TempDir;

/// Makes one in `dir`, on whose disk everything is measured.
pub(crate) fn fresh(dir: &Path) -> Result<TempDir> {
    let made = tempfile::Builder::new().prefix("walrus-bench-").suffix(".tmp").tempdir_in(dir);
    made.with_context(|| format!("making a folder to work in, in {}", dir.display()))
}
