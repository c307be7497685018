//! The folder that a demo works in, and that is gone when it is over: in the end, after an error, after a panic.

use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};

use crate::fail::{Exit, Failure};

/// A fresh folder `walrus-demo-XXXXXX` of the current directory.
pub(super) struct Folder {
    path: PathBuf,
}

/// Nobody makes this many folders of one name by chance.
const TRIES: usize = 100;

impl Folder {
    pub(super) fn fresh() -> Result<Folder, Failure> {
        let mut failed = None;
        for _ in 0..TRIES {
            let path = PathBuf::from(format!("walrus-demo-{}", random_letters()));
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Folder { path }),
                Err(error) => failed = Some(error),
            }
        }
        let why = failed.map_or(String::new(), |error| error.to_string());
        let message = format!("cannot make a folder in the current directory: {why}");
        Err(Failure::new(Exit::Failed, message)
            .hint("cd to a folder that you may write, on the disk that you want to see"))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it, and says if that failed.
    pub(super) fn remove(self) -> Result<(), Failure> {
        let removed = std::fs::remove_dir_all(&self.path);
        removed.map_err(|error| {
            let message = format!("cannot remove {}: {error}", self.path.display());
            Failure::new(Exit::Failed, message).hint(format!("rm -r {}", self.path.display()))
        })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Removed already, as a rule. Who failed before has more important things to say than this.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn random_letters() -> String {
    // Each state is seeded anew by the operating system.
    let mut bits = RandomState::new().hash_one(0);
    let mut letter = || {
        let letter = b"abcdefghijklmnopqrstuvwxyz234567"[(bits % 32) as usize];
        bits /= 32;
        char::from(letter)
    };
    (0..6).map(|_| letter()).collect()
}
