//! The device's own counters: what really reached it, whoever asked.
//!
//! Of the whole disk under the folder, by `/sys/dev/block/MAJ:MIN/stat`. A folder without a disk of its own (tmpfs, overlay) has none, and
//! what follows from them is not told then.
//!
//! Knows nothing of logs.

use std::ops::Sub;
use std::path::{Path, PathBuf};

use crate::host::disk_of;

/// The kernel counts in these, whatever the device's sectors are.
const SECTOR_BYTES: u64 = 512;

/// Where the counters stand.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    stat: Option<PathBuf>,
}

/// Since the machine started; or, of two of them, what lies between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeviceCounts {
    pub(crate) writes: u64,
    pub(crate) bytes_written: u64,
    /// Kernels since 5.5 count them; one that does not has none.
    pub(crate) flushes: u64,
}

impl Device {
    /// Of the disk under `dir`; `mounted` is what its mount names as its device.
    pub(crate) fn under(dir: &Path, mounted: Option<&str>) -> Device {
        let stat = disk_of(dir, mounted).map(|disk| disk.join("stat"));
        Device { stat: stat.filter(|stat| stat.exists()) }
    }

    pub(crate) fn counts(&self) -> Option<DeviceCounts> {
        parse(&std::fs::read_to_string(self.stat.as_ref()?).ok()?)
    }
}

/// Fields are numbered from 1 in the kernel's Documentation/block/stat.rst: 5 writes, 7 sectors written, 16 flushes.
fn parse(stat: &str) -> Option<DeviceCounts> {
    let fields: Vec<u64> = stat.split_whitespace().map_while(|field| field.parse().ok()).collect();
    let field = |number: usize| fields.get(number - 1).copied();
    Some(DeviceCounts {
        writes: field(5)?,
        bytes_written: field(7)? * SECTOR_BYTES,
        flushes: field(16).unwrap_or_default(),
    })
}

impl Sub for DeviceCounts {
    type Output = DeviceCounts;

    fn sub(self, before: DeviceCounts) -> DeviceCounts {
        DeviceCounts {
            writes: self.writes.saturating_sub(before.writes),
            bytes_written: self.bytes_written.saturating_sub(before.bytes_written),
            flushes: self.flushes.saturating_sub(before.flushes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Device {
        /// Whose counters stand in this file.
        pub(crate) fn of_stat(stat: &Path) -> Device {
            Device { stat: Some(stat.to_owned()) }
        }
    }

    #[test]
    fn the_kernels_fields_are_taken_by_their_numbers() {
        let stat = "9326 4767 2265786 7474 10512 10701 2178848 5602 0 3136 13465 6713 40 270024 352 1088 36\n";
        let expected = DeviceCounts { writes: 10512, bytes_written: 2_178_848 * 512, flushes: 1088 };
        assert_eq!(parse(stat), Some(expected));
        let old = stat.rsplitn(3, ' ').last().unwrap();
        assert_eq!(parse(old), Some(DeviceCounts { flushes: 0, ..expected }));
        assert_eq!(parse("1 2 3"), None);
    }

    #[test]
    fn what_lies_between_two_looks_is_their_difference() {
        let at = |n| DeviceCounts { writes: n, bytes_written: n * 4096, flushes: n / 2 };
        assert_eq!(at(10) - at(4), DeviceCounts { writes: 6, bytes_written: 6 * 4096, flushes: 3 });
    }
}
