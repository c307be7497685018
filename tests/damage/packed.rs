//! A log that has given segments away, uses their files again, and has packed others: bits of every file flipped in turn.
//!
//! A viewer reads every block; an opening for writing believes the indexes. Neither may show other bytes, and neither may pass over what is
//! missing: the viewer names damage or shows everything, the opening knows every offset and refuses those that it cannot read.
//!
//! Every third bit here, every bit with `WALRUS_SLOW=1`; zeros and what no block has reached are sampled.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use walrus_node::sim::SimDisk;
use walrus_node::{Engine, LogEntry, Options, ReadError, ReadLimit, Viewer};

const SEGMENT_BYTES: u64 = 64 << 10;
const FLAGS_AT: usize = 12;
const GENERATION_AT: usize = 56;

struct Specimen {
    disk: SimDisk,
    /// First offset and entries of each topic.
    topics: BTreeMap<String, (u64, Vec<Bytes>)>,
}

fn options() -> Options {
    Options {
        segment_bytes_first: SEGMENT_BYTES,
        segment_bytes_max: SEGMENT_BYTES,
        min_free: Some(0),
        seed: Some(5),
        scrub: None,
        ..Options::default()
    }
}

fn append(log: &Engine, from: usize, n: usize) {
    for i in from..from + n {
        let entries = (0..1 + i % 3).map(|j| Bytes::from(format!("{i}.{j}"))).collect();
        log.append_batch(["orders", "payments"][i % 2], entries).unwrap().wait().unwrap();
    }
}

fn all(first: u64, read: impl Fn(u64) -> Result<Vec<LogEntry>, ReadError>) -> Result<Vec<Bytes>, ReadError> {
    let mut all = Vec::new();
    loop {
        let entries = read(first + all.len() as u64)?;
        if entries.is_empty() {
            return Ok(all);
        }
        all.extend(entries.into_iter().map(|entry| entry.payload));
    }
}

fn specimen() -> Specimen {
    let disk = SimDisk::new(5);
    let log = Engine::open_sim(&disk, options()).unwrap();
    append(&log, 0, 40);
    log.trim(log.status().durable_lsn).unwrap();
    append(&log, 40, 40);
    assert!(log.pack() > 0);
    log.set_cursor("reader", "orders", log.topic("orders").unwrap().next_offset).unwrap();
    let topics = log.topics().into_iter().map(|topic| {
        let read = |offset| log.read(&topic.name, offset, ReadLimit::default());
        (topic.name.clone(), (topic.first_offset, all(topic.first_offset, read).unwrap()))
    });
    let topics: BTreeMap<_, _> = topics.collect();
    log.close().unwrap();
    let u32_at = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let segments: Vec<_> = files(&disk).into_iter().filter(|(name, _)| name.ends_with(".seg")).collect();
    assert!(segments.iter().any(|(_, bytes)| u32_at(bytes, FLAGS_AT) == 1), "no segment is packed");
    assert!(segments.iter().any(|(_, bytes)| u32_at(bytes, GENERATION_AT) > 0), "no segment was recycled");
    assert!(topics.values().all(|(first, entries)| *first > 0 && !entries.is_empty()), "nothing was given away");
    Specimen { disk, topics }
}

fn files(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    disk.files().into_iter().map(|(name, _)| (name.clone(), disk.read_file(&name))).collect()
}

/// The places to strike: file, byte, bit.
fn places(specimen: &Specimen) -> Vec<(String, usize, u8)> {
    let step = if std::env::var_os("WALRUS_SLOW").is_some() { 1 } else { 3 };
    let mut places = Vec::new();
    for (name, bytes) in files(&specimen.disk).into_iter().filter(|(name, _)| name != "LOCK") {
        for (i, sector) in bytes.chunks(64).enumerate() {
            let is_used = sector.iter().any(|byte| *byte != 0);
            let step = if is_used { step } else { 509 };
            let bits = (0..sector.len() * 8).skip(i % step).step_by(step);
            places.extend(bits.map(|bit| (name.clone(), i * 64 + bit / 8, (bit % 8) as u8)));
        }
    }
    places
}

/// What a viewer and an opening make of a struck disk. Returns whether either said anything.
fn judge(specimen: &Specimen, struck: &SimDisk) -> Result<bool, String> {
    let mut said = false;
    match Viewer::open_sim(struck) {
        Err(_) => said = true,
        Ok(viewer) => {
            said |= !viewer.verification().is_ok();
            for (topic, (first, entries)) in &specimen.topics {
                match all(*first, |offset| viewer.read(topic, offset, ReadLimit::default())) {
                    Ok(read) if read == *entries => {}
                    Ok(read) if entries.starts_with(&read) && said => {}
                    Ok(read) => return Err(format!("viewer: {} of {} entries of {topic}", read.len(), entries.len())),
                    Err(_) => said = true,
                }
            }
        }
    }
    match Engine::open_sim(&struck.copy(), options()) {
        Err(_) => said = true,
        Ok(log) => {
            for (topic, (first, entries)) in &specimen.topics {
                let end = log.topic(topic).map_or(0, |topic| topic.next_offset);
                if end != first + entries.len() as u64 {
                    return Err(format!("engine: {topic} ends at {end}, though it opens"));
                }
                for (i, entry) in entries.iter().enumerate() {
                    match log.read(topic, first + i as u64, ReadLimit { entries: 1, bytes: 1 << 20 }) {
                        Ok(read) if read.len() == 1 && read[0].payload == *entry => {}
                        Ok(read) => return Err(format!("engine: {topic} {}: {read:?}", first + i as u64)),
                        Err(_) => said = true,
                    }
                }
            }
        }
    }
    Ok(said)
}

#[test]
fn no_flipped_bit_of_a_log_with_recycled_and_packed_segments_is_served_or_silently_cut() {
    let specimen = specimen();
    assert_eq!(judge(&specimen, &specimen.disk.copy()), Ok(false), "unstruck");
    let places = places(&specimen);
    let (next, said) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some((file, byte, bit)) = places.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let struck = specimen.disk.copy();
                    struck.flip_bit(file, *byte as u64, *bit);
                    match judge(&specimen, &struck) {
                        Ok(told) => said.fetch_add(usize::from(told), Ordering::Relaxed),
                        Err(what) => panic!("bit {bit} of byte {byte} of {file}: {what}"),
                    };
                }
            });
        }
    });
    let said = said.into_inner();
    println!("{} bits flipped, {said} told", places.len());
    assert!(places.len() > 30_000 && said > 5_000, "{} bits, {said} told: too few to prove anything", places.len());
}
