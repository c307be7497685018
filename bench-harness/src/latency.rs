//! A histogram of nanoseconds, as a result carries it: V2 deflate in base64, and the figures that are read off it.
//!
//! ```text
//!   Histogram --encode--> `hdr` of a result --decode--> Histogram (merge adds them) --summarise--> Latency
//! ```
//!
//! Knows nothing of: how a time is taken.

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

use crate::result::Latency;

/// A percentile is spoken of when so many samples lie beyond it.
const BEYOND_MIN: f64 = 10.0;
/// Points of the curve in each nine.
const POINTS_PER_NINE: u32 = 16;

/// An empty histogram that takes any time: three digits, and it grows.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are between 0 and 5")
}

pub(crate) fn encode(histogram: &Histogram<u64>) -> String {
    let mut packed = Vec::new();
    V2DeflateSerializer::new().serialize(histogram, &mut packed).expect("a Vec takes every byte");
    STANDARD.encode(packed)
}

/// # Errors
/// For anything but what [`encode`] writes.
pub(crate) fn decode(hdr: &str) -> Result<Histogram<u64>> {
    let packed = STANDARD.decode(hdr).context("the histogram is not base64")?;
    let mut histogram: Histogram<u64> =
        Deserializer::new().deserialize(&mut packed.as_slice()).context("the histogram is not V2 deflate")?;
    histogram.auto(true);
    Ok(histogram)
}

/// The figures of a distribution; `None` of none.
pub(crate) fn summarise(histogram: &Histogram<u64>) -> Option<Latency> {
    if histogram.is_empty() {
        return None;
    }
    let count = histogram.len();
    let at = |percentile: f64| histogram.value_at_quantile(percentile / 100.0) as f64 / 1e3;
    let enough = |percentile: f64| count as f64 * (1.0 - percentile / 100.0) >= BEYOND_MIN - 1e-6;
    Some(Latency {
        count,
        min_us: histogram.min() as f64 / 1e3,
        mean_us: histogram.mean() / 1e3,
        p50_us: at(50.0),
        p90_us: at(90.0),
        p99_us: at(99.0),
        p999_us: at(99.9),
        p9999_us: enough(99.99).then(|| at(99.99)),
        p99999_us: enough(99.999).then(|| at(99.999)),
        max_us: histogram.max() as f64 / 1e3,
        curve: curve(count).map(|percentile| (percentile, at(percentile))).collect(),
        hdr: encode(histogram),
    })
}

/// Percentiles at even steps of nines, up to the last one that samples bear out.
fn curve(count: u64) -> impl Iterator<Item = f64> {
    let nines = (count as f64).log10();
    let steps = (nines * f64::from(POINTS_PER_NINE)).floor() as u32;
    (0..=steps).map(|step| 100.0 * (1.0 - 10f64.powf(-f64::from(step) / f64::from(POINTS_PER_NINE))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = histogram();
        values.into_iter().for_each(|value| histogram.record(value).unwrap());
        histogram
    }

    #[test]
    fn a_histogram_comes_back_as_it_was_and_goes_on_growing() {
        let before = of((1..5_000).map(|i| i * 37));
        let mut after = decode(&encode(&before)).unwrap();
        assert_eq!(after, before);
        after.record(90_000_000_000).unwrap();
        assert_eq!(after.len(), before.len() + 1);
    }

    #[test]
    fn what_is_no_histogram_is_refused() {
        assert!(decode("not base64!").unwrap_err().to_string().contains("base64"));
        assert!(decode("AAAA").unwrap_err().to_string().contains("V2"));
    }

    #[test]
    fn percentiles_without_ten_samples_beyond_them_are_not_spoken_of() {
        let few = summarise(&of((0..99_000).map(|i| 1_000 + i))).unwrap();
        assert_eq!(few.p9999_us, None);
        let enough = summarise(&of((0..100_000).map(|i| 1_000 + i))).unwrap();
        assert!(enough.p9999_us.is_some() && enough.p99999_us.is_none());
        assert!(summarise(&histogram()).is_none());
    }

    #[test]
    fn the_curve_rises_from_the_least_to_the_last_nine_that_samples_bear_out() {
        let latency = summarise(&of((1..=10_000).map(|i| i * 1_000))).unwrap();
        assert_eq!(latency.curve[0].0, 0.0);
        let last = latency.curve.last().unwrap();
        assert!((99.98..=99.9901).contains(&last.0), "{last:?}");
        assert!(latency.curve.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
        assert!((latency.p50_us - 5_000.0).abs() < 10.0 && (latency.p99_us - 9_900.0).abs() < 10.0);
    }
}
