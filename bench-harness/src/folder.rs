//! The folder that a run works in: fresh, beside nothing of the user's, and gone at the end: also after an error, and after Ctrl-C.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// A signal has come: what fails from now on fails because its folder is taken away.
static INTERRUPTED_NOW: AtomicBool = AtomicBool::new(false);
/// What a signal has to remove.
static NOW: Mutex<Option<PathBuf>> = Mutex::new(None);

/// As a shell says it of a command that was interrupted.
const INTERRUPTED: i32 = 130;

/// Makes one in `dir`, on whose disk everything is measured.
pub(crate) fn fresh(dir: &Path) -> Result<TempDir> {
    let made = tempfile::Builder::new().prefix("walrus-bench-").suffix(".tmp").tempdir_in(dir);
    let made = made.with_context(|| format!("making a folder to work in, in {}", dir.display()))?;
    *NOW.lock().expect("no holder of this lock panics") = Some(made.path().to_owned());
    ctrlc::set_handler(interrupted).context("asking to hear of Ctrl-C")?;
    Ok(made)
}

/// Leaves the end of an interrupted run to the one that removes its folder: an error that came of that is no news, nor its exit code.
pub(crate) fn wait_if_interrupted() {
    while INTERRUPTED_NOW.load(Ordering::Relaxed) {
        std::thread::park();
    }
}

/// Gigabytes are not left behind because somebody had seen enough.
fn interrupted() {
    INTERRUPTED_NOW.store(true, Ordering::Relaxed);
    #[cfg(feature = "net")]
    crate::target::net::kill_all();
    let folder = NOW.lock().expect("no holder of this lock panics").take();
    // Logs are still being written in it: a file that is made behind the first look is found by the second.
    let is_gone = folder.iter().all(|folder| (0..100).any(|_| std::fs::remove_dir_all(folder).is_ok()));
    if !is_gone {
        eprintln!("warning: {} could not be removed", folder.unwrap_or_default().display());
    }
    std::process::exit(INTERRUPTED);
}
