//! Where a log lies: environment variables and keys, as the original reads them.
//!
//! Layer: faces.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The folder of a handle.
pub(super) fn root(data_dir: Option<PathBuf>, key: Option<&str>) -> PathBuf {
    let explicit = data_dir.is_some();
    let mut root = data_dir
        .or_else(|| std::env::var_os("WALRUS_DATA_DIR").map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from("wal_files"));
    match key {
        Some(key) => root.push(folder_of(key)),
        None if explicit => {}
        None => root.extend(std::env::var("WALRUS_INSTANCE_KEY").ok().map(|key| folder_of(&key))),
    }
    root
}

/// Makes it, for us alone, with those above it that are missing.
pub(super) fn make(root: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(root)
}

/// A key as the name of a folder: letters, digits, `-`, `_` and `.` stay, the rest becomes `_`. Where nothing of it would be left, and
/// where it would lead out of the folder, the key's sum stands in.
fn folder_of(key: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
    let name: String = key.chars().map(keep).collect();
    let is_empty = name.trim_matches('_').is_empty();
    if is_empty || name == "." || name == ".." { format!("ns_{:x}", fnv1a(key.as_bytes())) } else { name }
}

/// FNV-1a, 64 bits: what the original names such folders by.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_folder_within_the_other_whatever_it_says() {
        let within = |key: &str| root(Some("data".into()), Some(key));
        assert_eq!(within("tenant-1.eu"), Path::new("data/tenant-1.eu"));
        assert_eq!(within("prod/payments::v1"), Path::new("data/prod_payments__v1"));
        for key in ["", "///", "..", ".", "größe/..", "\0", "ÄÖÜ"] {
            let root = within(key);
            assert_eq!(root.parent(), Some(Path::new("data")), "{key:?}");
            assert!(root.components().all(|part| matches!(part, std::path::Component::Normal(_))), "{key:?}: {root:?}");
        }
        assert_ne!(within("ÄÖÜ"), within("ÄÖÄ"), "keys of which nothing is left stay apart");
        assert_eq!(root(Some("data".into()), None), Path::new("data"));
    }
}
