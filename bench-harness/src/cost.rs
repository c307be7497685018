//! What a load cost: processor, context switches, memory and the device's work, as differences of two looks at the window's ends.
//!
//! Of this whole process, the load generator in it. Knows nothing of what was done for it.

use std::ops::Sub;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

use crate::device::{Device, DeviceCounts};
use crate::result::{Cost, Spec};
use crate::steady::median;
use crate::target::Counters;

/// A look at everything. Memory is what was most since the look before it: each look has the kernel begin a new peak, so that of the look
/// at the end of a window is the window's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    pub(crate) context_switches: u64,
    pub(crate) device: Option<DeviceCounts>,
    pub(crate) rss_bytes_max: Option<u64>,
}

impl Usage {
    pub(crate) fn now(device: &Device) -> Usage {
        let rss_bytes_max = peak_rss_bytes();
        forget_peak();
        let Ok(used) = getrusage(UsageWho::RUSAGE_SELF) else {
            unreachable!("the kernel knows the one thing it is asked for")
        };
        let time = |of: TimeVal| Duration::new(of.tv_sec() as u64, of.tv_usec() as u32 * 1000);
        let switches = used.voluntary_context_switches() + used.involuntary_context_switches();
        Usage {
            cpu: time(used.user_time()) + time(used.system_time()),
            context_switches: switches as u64,
            device: device.counts(),
            rss_bytes_max,
        }
    }
}

impl Sub for Usage {
    type Output = Usage;

    fn sub(self, before: Usage) -> Usage {
        Usage {
            cpu: self.cpu - before.cpu,
            context_switches: self.context_switches - before.context_switches,
            device: self.device.zip(before.device).map(|(after, before)| after - before),
            rss_bytes_max: self.rss_bytes_max,
        }
    }
}

/// The most memory that this process has had since [`forget_peak`].
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// A kernel that does not let it be forgotten tells the peak of the whole run, which is an upper bound.
fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// One round's window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    pub(crate) entries: u64,
    pub(crate) seconds: f64,
    pub(crate) usage: Usage,
    pub(crate) counters: Counters,
}

impl Spent {
    pub(crate) fn cpu_us_per_entry(&self) -> Option<f64> {
        per(self.usage.cpu.as_secs_f64() * 1e6, self.entries)
    }

    fn cost(&self, spec: &Spec) -> Cost {
        let Spent { entries, seconds, usage, counters, .. } = *self;
        let Counters { groups, flushes: _, syscalls } = counters;
        let device = usage.device;
        let payload_bytes = entries * spec.payload_bytes;
        // A read that was answered from the page cache asks nothing of the device; what others ask of it is not its cost.
        let device = device.filter(|_| matches!(spec.kind.as_str(), "durable" | "written"));
        Cost {
            cpu_us_per_entry: self.cpu_us_per_entry(),
            context_switches_per_entry: per(usage.context_switches as f64, entries),
            syscalls_per_group: syscalls.zip(groups).and_then(|(syscalls, groups)| per(syscalls as f64, groups)),
            entries_per_group: groups.and_then(|groups| per(entries as f64, groups)),
            device_writes_per_s: device.map(|device| device.writes as f64 / seconds),
            device_flushes_per_s: device.map(|device| device.flushes as f64 / seconds),
            entries_per_flush: device.and_then(|device| per(entries as f64, device.flushes)),
            write_amplification: device.and_then(|device| per(device.bytes_written as f64, payload_bytes)),
            rss_bytes_max: usage.rss_bytes_max,
        }
    }
}

fn per(what: f64, count: u64) -> Option<f64> {
    (count > 0).then(|| what / count as f64)
}

/// Medians over the rounds, field by field; of memory the most.
pub(crate) fn of_case(rounds: &[Spent], spec: &Spec) -> Cost {
    let costs: Vec<Cost> = rounds.iter().map(|round| round.cost(spec)).collect();
    let middle = |of: fn(&Cost) -> Option<f64>| {
        let told: Vec<f64> = costs.iter().filter_map(of).collect();
        (!told.is_empty()).then(|| median(&told))
    };
    Cost {
        cpu_us_per_entry: middle(|cost| cost.cpu_us_per_entry),
        context_switches_per_entry: middle(|cost| cost.context_switches_per_entry),
        syscalls_per_group: middle(|cost| cost.syscalls_per_group),
        entries_per_group: middle(|cost| cost.entries_per_group),
        device_writes_per_s: middle(|cost| cost.device_writes_per_s),
        device_flushes_per_s: middle(|cost| cost.device_flushes_per_s),
        entries_per_flush: middle(|cost| cost.entries_per_flush),
        write_amplification: middle(|cost| cost.write_amplification),
        rss_bytes_max: costs.iter().filter_map(|cost| cost.rss_bytes_max).max(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::spec;

    fn spent(entries: u64, cpu_ms: u64, flushes: u64) -> Spent {
        let device = DeviceCounts { writes: 2 * flushes, bytes_written: 4096 * flushes, flushes };
        Spent {
            entries,
            seconds: 2.0,
            usage: Usage {
                cpu: Duration::from_millis(cpu_ms),
                context_switches: 3 * entries,
                device: Some(device),
                rss_bytes_max: Some(entries),
            },
            counters: Counters { groups: Some(entries / 4), flushes: Some(entries / 4), syscalls: None },
        }
    }

    #[test]
    fn costs_are_medians_of_the_rounds_and_what_is_not_known_is_not_zero() {
        let cost = of_case(&[spent(1000, 10, 250), spent(2000, 10, 250), spent(4000, 10, 250)], &spec());
        assert_eq!((cost.cpu_us_per_entry, cost.entries_per_flush), (Some(5.0), Some(8.0)));
        assert_eq!((cost.entries_per_group, cost.syscalls_per_group), (Some(4.0), None));
        assert_eq!((cost.device_flushes_per_s, cost.device_writes_per_s), (Some(125.0), Some(250.0)));
        assert_eq!(cost.write_amplification, Some(2.0));
        assert_eq!(cost.rss_bytes_max, Some(4000));
    }

    #[test]
    fn no_device_and_no_flush_say_nothing_of_entries_a_flush() {
        let none = Spent { usage: Usage { device: None, ..spent(8, 1, 1).usage }, ..spent(8, 1, 1) };
        let cost = of_case(&[none], &spec());
        assert_eq!((cost.device_flushes_per_s, cost.entries_per_flush, cost.write_amplification), (None, None, None));
        assert_eq!(of_case(&[spent(8, 1, 0)], &spec()).entries_per_flush, None);
        assert_eq!(of_case(&[spent(0, 1, 1)], &spec()).cpu_us_per_entry, None);
    }

    #[test]
    fn work_that_this_process_does_is_seen() {
        let device = Device::under(std::path::Path::new("/proc"), None);
        let before = Usage::now(&device);
        let mut sum = 0_u64;
        while (Usage::now(&device) - before).cpu < Duration::from_millis(20) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!((Usage::now(&device) - before).device.is_none());
        assert!(Usage::now(&device).rss_bytes_max.unwrap() > 1 << 20);
    }

    #[test]
    fn the_memory_of_a_window_is_that_of_the_look_at_its_end() {
        let with = |rss_bytes_max| Usage { rss_bytes_max, ..Usage::default() };
        assert_eq!(
            (with(Some(5)) - with(Some(9))).rss_bytes_max,
            Some(5),
            "what was more before the window is none of it"
        );
    }
}
