//! Where a figure was measured: without it, a figure says nothing.
//!
//! Also compiled into the command, for `demo`. Reads /proc and /sys; what they do not say is `None`.

use std::fs;
use std::io;
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The machine and the device, as far as they bear on the figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostFacts {
    pub(crate) cpu: Option<String>,
    pub(crate) cores: usize,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) kernel: String,
    /// What the CPU says of a hypervisor, and what the firmware calls the machine.
    pub(crate) virtualisation: Option<String>,
    pub(crate) directory: String,
    pub(crate) file_system: Option<String>,
    pub(crate) mount_options: Option<String>,
    pub(crate) device: Option<String>,
    pub(crate) device_model: Option<String>,
    /// `write back`: what is written is safe only after a flush.
    pub(crate) write_cache: Option<String>,
    /// Whether the device takes single writes past its cache: `yes` or `no`.
    pub(crate) fua: Option<String>,
    pub(crate) scheduler: Option<String>,
    /// Of this process, where they bear on io_uring and many files.
    pub(crate) limits: Option<String>,
}

impl HostFacts {
    /// This machine, and the file system of `dir`.
    pub(crate) fn of(dir: &Path) -> io::Result<HostFacts> {
        let dir = dir.canonicalize()?;
        let mount = mount_of(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(), &dir);
        let disk = disk_of(&dir, mount.as_ref().map(|mount| mount.device.as_str()));
        let of_disk = |file: &str| disk.as_ref().and_then(|disk| line_of(&disk.join(file)));
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Ok(HostFacts {
            cpu: field(&cpuinfo, "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: fs::read_to_string("/proc/meminfo").ok().and_then(|text| memory_bytes(&text)),
            kernel: line_of(Path::new("/proc/sys/kernel/osrelease")).unwrap_or_default(),
            virtualisation: virtualisation(&cpuinfo),
            directory: dir.display().to_string(),
            device_model: of_disk("device/model"),
            write_cache: of_disk("queue/write_cache"),
            fua: of_disk("queue/fua").map(|fua| if fua == "0" { "no".into() } else { "yes".into() }),
            scheduler: of_disk("queue/scheduler").map(|names| chosen(&names)),
            limits: fs::read_to_string("/proc/self/limits").ok().map(|text| limits(&text)),
            file_system: mount.as_ref().map(|mount| mount.file_system.clone()),
            mount_options: mount.as_ref().map(|mount| mount.options.clone()),
            device: mount.map(|mount| mount.device),
        })
    }
}

/// The folder in /sys of the whole disk under `dir`; none under what has no disk of its own.
pub(crate) fn disk_of(dir: &Path, device: Option<&str>) -> Option<PathBuf> {
    let sys = |number: u64| {
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        PathBuf::from(format!("/sys/dev/block/{major}:{minor}")).canonicalize().ok()
    };
    let own = fs::metadata(dir).ok().and_then(|of| sys(of.st_dev()));
    // Some file systems have a number of their own; the mount names the disk then.
    let named = || device.and_then(|path| fs::metadata(path).ok()).and_then(|of| sys(of.st_rdev()));
    let found = own.or_else(named)?;
    let is_part = found.join("partition").exists();
    Some(if is_part { found.parent()?.to_owned() } else { found })
}

fn line_of(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// The first `name : value` of a text.
fn field(text: &str, name: &str) -> Option<String> {
    let (_, value) = text.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| key.trim() == name)?;
    Some(value.trim().to_owned())
}

/// `MemTotal:  16384000 kB`
fn memory_bytes(meminfo: &str) -> Option<u64> {
    field(meminfo, "MemTotal")?.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// `none [mq-deadline] kyber`: the one in brackets.
fn chosen(names: &str) -> String {
    let inside = names.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    inside.map_or(names, |(name, _)| name).to_owned()
}

fn virtualisation(cpuinfo: &str) -> Option<String> {
    let flags = field(cpuinfo, "flags").unwrap_or_default();
    let product = line_of(Path::new("/sys/class/dmi/id/product_name"));
    match flags.split(' ').any(|flag| flag == "hypervisor") {
        true => Some(product.map_or("virtual machine".into(), |name| format!("virtual machine ({name})"))),
        false => product.map(|name| format!("none ({name})")),
    }
}

/// `Max open files  1024  4096  files`: the first number is what holds now.
fn limits(text: &str) -> String {
    let of = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    let wanted =
        [("Max open files", "open files"), ("Max locked memory", "locked bytes"), ("Max file size", "file bytes")];
    let said = wanted.iter().filter_map(|(name, short)| Some(format!("{short} {}", of(name)?)));
    said.collect::<Vec<_>>().join(", ")
}

/// What a line of mountinfo says.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    file_system: String,
    device: String,
    options: String,
}

/// The deepest mount above `dir`; of several at one place the last, which hides the others.
fn mount_of(mountinfo: &str, dir: &Path) -> Option<Mount> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let (mut place, mut kind) = (place.split(' ').skip(4), kind.split(' '));
        let (point, options) = (place.next()?, place.next()?);
        let (file_system, device) = (kind.next()?.to_owned(), kind.next()?.to_owned());
        // The mount's own options, then those of the file system that it shares with other mounts.
        let options = format!("{options},{}", kind.next().unwrap_or_default());
        dir.starts_with(point).then_some((point.len(), Mount { file_system, device, options }))
    });
    mounts.max_by_key(|(len, _)| *len).map(|(_, mount)| mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_and_last_mount_above_a_folder_is_its_own() {
        let mounts = "\
            22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n\
            23 22 0:5 / /data rw - tmpfs tmpfs rw\n\
            24 22 0:6 / /data rw,noatime master:1 - xfs /dev/nvme0n1 rw\n\
            25 22 0:7 / /data2 rw - btrfs /dev/sdb rw\n";
        let of = |dir: &str| mount_of(mounts, Path::new(dir)).unwrap();
        let mount = |file_system: &str, device: &str, options: &str| Mount {
            file_system: file_system.into(),
            device: device.into(),
            options: options.into(),
        };
        assert_eq!(of("/home"), mount("ext4", "/dev/vda", "rw,relatime,rw,discard"));
        assert_eq!(of("/data/log"), mount("xfs", "/dev/nvme0n1", "rw,noatime,rw"));
    }

    #[test]
    fn the_files_of_the_kernel_are_read_as_they_are_written() {
        assert_eq!(memory_bytes("MemTotal:       24684084 kB\nMemFree: 1 kB\n"), Some(24_684_084 << 10));
        assert_eq!(chosen("none [mq-deadline] kyber bfq"), "mq-deadline");
        assert_eq!(chosen("none"), "none");
        let text = "Limit  Soft Limit  Hard Limit  Units\nMax open files   20000  30000  files\nMax file size  unlimited  x  bytes\n";
        assert_eq!(limits(text), "open files 20000, file bytes unlimited");
        assert_eq!(field("processor\t: 0\nmodel name\t: A B\n", "model name"), Some("A B".into()));
    }

    #[test]
    fn this_machine_has_a_kernel_and_a_core() {
        let host = HostFacts::of(Path::new(".")).unwrap();
        assert!(!host.kernel.is_empty() && host.cores > 0 && host.file_system.is_some());
    }
}
