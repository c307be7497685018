//! Where a figure was measured: without it, a figure says nothing.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The machine, as far as it bears on the figures.
#[derive(Debug, Serialize)]
pub(crate) struct Host {
    pub(crate) kernel: String,
    pub(crate) cores: usize,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) directory: String,
    pub(crate) file_system: Option<String>,
    pub(crate) device: Option<String>,
}

/// The machine, as a result keeps it. To be replaced by the core's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct HostFacts {}

impl Host {
    /// This machine, and the file system of `dir`.
    pub(crate) fn of(dir: &Path) -> io::Result<Host> {
        let dir = dir.canonicalize()?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let (file_system, device) = mount_of(&mounts, &dir).unzip();
        Ok(Host {
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: fs::read_to_string("/proc/meminfo").ok().and_then(|text| memory_bytes(&text)),
            directory: dir.display().to_string(),
            file_system,
            device,
        })
    }
}

/// `MemTotal:  16384000 kB`
fn memory_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// File system and device of the deepest mount above `dir`; of several at one place the last, which hides the others.
fn mount_of(mountinfo: &str, dir: &Path) -> Option<(String, String)> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let point = place.split(' ').nth(4)?;
        let mut kind = kind.split(' ');
        dir.starts_with(point).then_some((point.len(), (kind.next()?.to_owned(), kind.next()?.to_owned())))
    });
    mounts.max_by_key(|(len, _)| *len).map(|(_, mount)| mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_and_last_mount_above_a_folder_is_its_own() {
        let mounts = "\
            22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
            23 22 0:5 / /data rw - tmpfs tmpfs rw\n\
            24 22 0:6 / /data rw master:1 - xfs /dev/nvme0n1 rw\n\
            25 22 0:7 / /data2 rw - btrfs /dev/sdb rw\n";
        let of = |dir: &str| mount_of(mounts, Path::new(dir)).unwrap();
        assert_eq!(of("/home"), ("ext4".into(), "/dev/vda".into()));
        assert_eq!(of("/data/log"), ("xfs".into(), "/dev/nvme0n1".into()));
    }

    #[test]
    fn this_machine_has_a_kernel_and_a_core() {
        let host = Host::of(Path::new(".")).unwrap();
        assert!(!host.kernel.is_empty() && host.cores > 0 && host.file_system.is_some());
    }
}
