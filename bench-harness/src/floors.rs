//! The floors of a run: which of them bounds a case, and what they were beside each of its rounds.
//!
//! ```text
//!   floor A | round of A | floor A, floor B | round of B | floor B ...       drift shows, and is divided out
//! ```
//!
//! | load | its floor |
//! |---|---|
//! | one batch at a time | its own bytes, written and flushed at depth 1 |
//! | many lone appends | 4 KiB at depth 1: a share above 1 is entries per floor flush |
//! | several batches | their own bytes, pipelined four deep, however many batches are in flight |
//! | large entries, several | sequential bandwidth, by writes of 1 MiB |
//! | written, read, open | none: the device need not take part |
//!
//! Knows the device and specs; nothing of targets.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::device::Device;
use crate::floor::{Floor, Flush, Prepared, WRITE_BYTES};
use crate::pipeline::Pipeline;
use crate::result::{FloorFigure, Spec};
use crate::steady::median;

/// Payload of this size makes a load one of bandwidth.
const LARGE_BYTES: u64 = 16 << 10;
const SEQUENTIAL_BYTES: u64 = 1 << 20;
const SEQUENTIAL_DEPTH: u32 = 4;
const PIPELINED_DEPTH: u32 = 4;

/// Looks at each of two ways to flush, in turn; and how near to each other they count as alike.
const PROBES: u32 = 5;
const ALIKE: f64 = 0.95;

/// The file that is written over: long enough that no cache of a device holds it, and short in a smoke run.
const FILE_BYTES: u64 = 256 << 20;
const FILE_BYTES_SMOKE: u64 = 16 << 20;

/// Bytes of the file that is written over.
fn file_bytes(smoke: bool) -> u64 {
    if smoke { FILE_BYTES_SMOKE } else { FILE_BYTES }
}

/// Why the floors of a case cannot be measured, if so: a write of one is a batch, and the prepared file has to hold it.
pub(crate) fn refuses(spec: &Spec, smoke: bool) -> Option<String> {
    let (largest, file) = (FloorKind::beside(spec).into_iter().map(|kind| kind.bytes).max()?, file_bytes(smoke));
    let more = if smoke { ", without --smoke up to 256 MiB" } else { "" };
    (largest > file).then(|| {
        format!(
            "batch = {} x payload = {} is {} in one write, and the file on which its floor is measured has {}{more}; take smaller batches",
            spec.batch,
            spec.payload_bytes,
            size(largest),
            size(file)
        )
    })
}

/// A floor: so many bytes a write, so many writes in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FloorKind {
    pub(crate) bytes: u64,
    pub(crate) depth: u32,
    /// Each write durable when it completes; otherwise all of them at the end.
    pub(crate) is_durable: bool,
}

impl FloorKind {
    /// One write of a page after the other: what every run measures, and what tells whether the device was quiet.
    pub(crate) const LONE: FloorKind = FloorKind { bytes: WRITE_BYTES as u64, depth: 1, is_durable: true };
    pub(crate) const SEQUENTIAL: FloorKind = FloorKind::sequential(SEQUENTIAL_BYTES);

    pub(crate) const fn sequential(bytes: u64) -> FloorKind {
        FloorKind { bytes, depth: SEQUENTIAL_DEPTH, is_durable: false }
    }

    pub(crate) const fn durable(bytes: u64, depth: u32) -> FloorKind {
        FloorKind { bytes: bytes.next_multiple_of(WRITE_BYTES as u64), depth, is_durable: true }
    }

    /// Which floor bounds a case.
    pub(crate) fn of(spec: &Spec) -> Option<FloorKind> {
        let bytes = spec.payload_bytes * u64::from(spec.batch);
        let in_flight = u64::from(spec.producers) * u64::from(spec.outstanding);
        match () {
            () if spec.kind != "durable" => None,
            () if in_flight == 1 => Some(FloorKind::durable(bytes.max(1), 1)),
            () if spec.payload_bytes >= LARGE_BYTES => Some(FloorKind::SEQUENTIAL),
            () if spec.batch == 1 => Some(FloorKind::LONE),
            () => Some(FloorKind::durable(bytes.max(1), PIPELINED_DEPTH)),
        }
    }

    /// What is measured beside a case: its bound first, then what helps to understand it.
    pub(crate) fn beside(spec: &Spec) -> Vec<FloorKind> {
        let Some(bound) = FloorKind::of(spec) else { return Vec::new() };
        let own_bytes = (spec.payload_bytes * u64::from(spec.batch)).next_multiple_of(WRITE_BYTES as u64);
        let more = match bound {
            FloorKind { is_durable: false, .. } => Some(FloorKind::sequential(own_bytes)),
            FloorKind { depth: PIPELINED_DEPTH, .. } => Some(FloorKind::durable(bound.bytes, 2 * PIPELINED_DEPTH)),
            _ => None,
        };
        std::iter::once(bound).chain(more.filter(|more| *more != bound)).collect()
    }

    /// What a case did in the unit of its floor: batches where a floor's write is a batch, entries against lone writes, or its bytes.
    pub(crate) fn unit_of(self, spec: &Spec, batches_per_s: f64) -> f64 {
        if self.is_durable {
            batches_per_s
        } else {
            batches_per_s * f64::from(spec.batch) * spec.payload_bytes as f64 / self.bytes as f64
        }
    }

    pub(crate) fn name(self) -> String {
        let bytes = size(self.bytes);
        match self.is_durable {
            true => format!("{bytes}, depth {}", self.depth),
            false => format!("sequential, {bytes} writes"),
        }
    }
}

/// What must be said of the floor of a case, beside its name: several batches are held against four writes in flight, not against as many
/// as there are.
pub(crate) fn remark(spec: &Spec) -> Option<String> {
    let in_flight = u64::from(spec.producers) * u64::from(spec.outstanding);
    let floor = FloorKind::of(spec).filter(|floor| floor.is_durable && floor.depth == PIPELINED_DEPTH)?;
    (in_flight != u64::from(floor.depth))
        .then(|| format!("the floor pipelined {} deep; the case has {in_flight} in flight", floor.depth))
}

/// `4 KiB`, `1 MiB`, `100 B`.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0 => "0 B".into(),
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} B"),
    }
}

/// A short look at one way to flush.
struct Probe {
    per_s: f64,
    /// The device counted a flush for each write.
    counts_flushes: bool,
}

/// Whether RWF_DSYNC is the slower way, beyond what chance does: where they are alike, runs should not differ in it.
fn is_slower(dsync: &[Probe], fdatasync: &[Probe]) -> bool {
    let per_s = |probes: &[Probe]| median(&probes.iter().map(|probe| probe.per_s).collect::<Vec<_>>());
    dsync.is_empty() || per_s(dsync) < per_s(fdatasync) * ALIKE
}

/// What the device did, as often as it was asked.
pub(crate) struct Floors {
    prepared: Prepared,
    flush: Flush,
    time: Duration,
    /// Each durable write, either way, was a flush by the device's own count. Not so with FUA, nor without a device.
    pub(crate) counts_flushes: bool,
    samples: BTreeMap<FloorKind, Vec<Floor>>,
}

impl Floors {
    /// Prepares the file in `dir`, and finds out which way to flush is the faster one here: that one is the floor. RWF_DSYNC where they
    /// are alike, for that is how the log writes.
    pub(crate) fn new(dir: &Path, device: &Device, time: Duration, smoke: bool) -> Result<Floors> {
        let file_bytes = file_bytes(smoke);
        let mut prepared = Prepared::new(dir, file_bytes).with_context(|| {
            format!("preparing {} in {} to measure the floor with", size(file_bytes), dir.display())
        })?;
        let mut counted = |flush| {
            let before = device.counts();
            let floor = prepared.measure(flush, time / PROBES)?;
            let flushes = device.counts().zip(before).map_or(0, |(after, before)| (after - before).flushes);
            Ok::<_, std::io::Error>(Probe { per_s: floor.per_second, counts_flushes: flushes >= floor.count })
        };
        let (mut fdatasync, mut dsync) = (Vec::new(), Vec::new());
        for _ in 0..PROBES {
            fdatasync.push(counted(Flush::Fdatasync).context("measuring 4 KiB and fdatasync")?);
            // A kernel before 4.13 does not know it.
            dsync.extend(counted(Flush::Dsync).ok());
        }
        let counts_flushes = fdatasync.iter().chain(&dsync).all(|probe| probe.counts_flushes);
        let flush = if is_slower(&dsync, &fdatasync) { Flush::Fdatasync } else { Flush::Dsync };
        Ok(Floors { prepared, flush, time, counts_flushes, samples: BTreeMap::new() })
    }

    /// How a write of depth 1 is made durable.
    pub(crate) fn way(&self) -> &'static str {
        let (direct, cached) = match self.flush {
            Flush::Fdatasync => ("O_DIRECT and fdatasync", "page cache and fdatasync: no O_DIRECT here"),
            Flush::Dsync => ("O_DIRECT and RWF_DSYNC", "page cache and RWF_DSYNC: no O_DIRECT here"),
        };
        if self.prepared.is_direct { direct } else { cached }
    }

    /// Measures one now.
    pub(crate) fn measure(&mut self, kind: FloorKind) -> Result<Floor> {
        self.measure_for(kind, self.time)
    }

    pub(crate) fn measure_for(&mut self, kind: FloorKind, time: Duration) -> Result<Floor> {
        let bytes = kind.bytes as usize;
        let measured = if kind.is_durable && kind.depth == 1 {
            self.prepared.measure_of(bytes, self.flush, time)
        } else {
            Pipeline { bytes, depth: kind.depth, is_durable: kind.is_durable }.measure(&mut self.prepared, time)
        };
        let floor = measured.with_context(|| format!("measuring the floor: {}", kind.name()))?;
        self.samples.entry(kind).or_default().push(floor);
        Ok(floor)
    }

    /// Medians of everything that was measured.
    pub(crate) fn figures(&self) -> Vec<FloorFigure> {
        let figure = |(kind, floors): (&FloorKind, &Vec<Floor>)| {
            let middle = |of: fn(&Floor) -> f64| median(&floors.iter().map(of).collect::<Vec<_>>());
            FloorFigure {
                name: kind.name(),
                bytes: kind.bytes,
                depth: kind.depth,
                per_s: middle(|floor| floor.per_second),
                p50_us: middle(|floor| floor.p50.as_secs_f64() * 1e6),
                p99_us: middle(|floor| floor.p99.as_secs_f64() * 1e6),
                is_direct: floors.iter().all(|floor| floor.is_direct),
            }
        };
        self.samples.iter().map(figure).collect()
    }

    /// Highest over lowest lone floor: how restless the device was.
    pub(crate) fn spread(&self) -> Option<f64> {
        let lone = self.samples.get(&FloorKind::LONE)?.iter().map(|floor| floor.per_second);
        let (low, high) = lone.fold((f64::MAX, 0.0_f64), |(low, high), one| (low.min(one), high.max(one)));
        (low > 0.0 && high > 0.0).then(|| high / low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::spec;

    #[test]
    fn each_load_is_held_against_the_floor_that_bounds_it() {
        let of = |edit: fn(&mut Spec)| {
            let mut spec = spec();
            edit(&mut spec);
            FloorKind::of(&spec).map(FloorKind::name)
        };
        let is = |name: &str| Some(name.to_owned());
        assert_eq!(of(|_| ()), is("4 KiB, depth 1"));
        assert_eq!(of(|s| s.producers = 64), is("4 KiB, depth 1"));
        assert_eq!(of(|s| s.outstanding = 1024), is("4 KiB, depth 1"));
        assert_eq!(of(|s| s.batch = 256), is("64 KiB, depth 1"));
        assert_eq!(of(|s| (s.batch, s.outstanding) = (256, 8)), is("64 KiB, depth 4"));
        assert_eq!(of(|s| (s.payload_bytes, s.producers) = (65536, 8)), is("sequential, 1 MiB writes"));
        assert_eq!(of(|s| s.payload_bytes = 65536), is("64 KiB, depth 1"));
        assert_eq!(of(|s| s.payload_bytes = 5000), is("8 KiB, depth 1"));
        for kind in ["written", "read", "open"] {
            let spec = Spec { kind: kind.into(), ..spec() };
            assert_eq!(FloorKind::of(&spec), None);
        }
    }

    #[test]
    fn beside_a_bound_stands_what_helps_to_understand_it() {
        let of = |spec: Spec| FloorKind::beside(&spec).into_iter().map(FloorKind::name).collect::<Vec<_>>();
        assert_eq!(of(spec()), ["4 KiB, depth 1"]);
        assert_eq!(of(Spec { batch: 256, outstanding: 8, ..spec() }), ["64 KiB, depth 4", "64 KiB, depth 8"]);
        let large = Spec { payload_bytes: 65536, producers: 8, ..spec() };
        assert_eq!(of(large.clone()), ["sequential, 1 MiB writes", "sequential, 64 KiB writes"]);
        assert_eq!(of(Spec { payload_bytes: 1 << 20, ..large }), ["sequential, 1 MiB writes"]);
        assert!(of(Spec { kind: "read".into(), ..spec() }).is_empty());
    }

    #[test]
    fn a_batch_that_the_prepared_file_cannot_hold_is_refused_with_both_sizes() {
        let of = |batch, payload_bytes, kind: &str| Spec { batch, payload_bytes, kind: kind.into(), ..spec() };
        let large = of(300, 1 << 20, "durable");
        assert!(
            refuses(&large, false).unwrap().contains("300 MiB in one write")
                && refuses(&of(300, 1 << 20, "written"), false).is_none()
        );
        let small = of(17, 1 << 20, "durable");
        assert!(refuses(&small, false).is_none());
        assert!(refuses(&small, true).unwrap().contains("has 16 MiB, without --smoke up to 256 MiB"));
        assert!(refuses(&of(256, 1 << 20, "durable"), false).is_none() && refuses(&spec(), true).is_none());
    }

    #[test]
    fn a_floor_of_another_depth_than_the_case_is_said_to_be_one() {
        let of = |batch, outstanding| remark(&Spec { batch, outstanding, ..spec() });
        assert_eq!(of(256, 8).unwrap(), "the floor pipelined 4 deep; the case has 8 in flight");
        assert!(of(256, 4).is_none() && of(256, 1).is_none() && of(1, 1024).is_none());
    }

    #[test]
    fn of_two_ways_that_are_alike_the_logs_own_is_taken() {
        let probes =
            |per_s: &[f64]| per_s.iter().map(|per_s| Probe { per_s: *per_s, counts_flushes: true }).collect::<Vec<_>>();
        assert!(!is_slower(&probes(&[97.0, 20.0, 99.0]), &probes(&[100.0])));
        assert!(is_slower(&probes(&[90.0]), &probes(&[100.0])) && is_slower(&[], &probes(&[1.0])));
    }

    #[test]
    fn a_case_is_counted_in_the_unit_of_its_floor() {
        let large = Spec { payload_bytes: 65536, producers: 8, ..spec() };
        assert!((FloorKind::SEQUENTIAL.unit_of(&large, 1600.0) - 100.0).abs() < 1e-9);
        let batches = Spec { batch: 256, ..spec() };
        assert!((FloorKind::durable(65536, 1).unit_of(&batches, 1600.0) - 1600.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_measured_is_told_by_name_and_its_spread_is_that_of_the_lone_floor() {
        let dir = tempfile::tempdir().unwrap();
        let device = Device::under(dir.path(), None);
        let mut floors = Floors::new(dir.path(), &device, Duration::from_millis(5), true).unwrap();
        assert!(floors.spread().is_none() && floors.figures().is_empty());
        let one = floors.measure(FloorKind::LONE).unwrap();
        assert!((floors.spread().unwrap() - 1.0).abs() < 1e-9);
        floors.measure(FloorKind::LONE).unwrap();
        floors.measure(FloorKind::durable(1 << 16, 1)).unwrap();
        let names: Vec<_> = floors.figures().into_iter().map(|figure| figure.name).collect();
        assert_eq!(names, ["4 KiB, depth 1", "64 KiB, depth 1"]);
        assert!(one.count > 0 && floors.spread().unwrap() >= 1.0);
    }
}
