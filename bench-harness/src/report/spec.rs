//! What was asked of a target, in words, and as axes of a sweep.
//!
//! Knows nothing of: figures.

use crate::figures;
use crate::result::Spec;

/// Something of a spec that a sweep varies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    Payload,
    Batch,
    Producers,
    Outstanding,
    Topics,
    Followers,
    Rate,
    Io,
    Kind,
}

impl Axis {
    pub(super) const ALL: [Axis; 9] = [
        Axis::Payload,
        Axis::Batch,
        Axis::Producers,
        Axis::Outstanding,
        Axis::Topics,
        Axis::Followers,
        Axis::Rate,
        Axis::Io,
        Axis::Kind,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Axis::Payload => "payload",
            Axis::Batch => "entries of a batch",
            Axis::Producers => "threads",
            Axis::Outstanding => "batches in flight, each thread",
            Axis::Topics => "topics",
            Axis::Followers => "followers",
            Axis::Rate => "offered batches a second",
            Axis::Io => "way to the disk",
            Axis::Kind => "durability",
        }
    }

    /// Where a spec stands on it: by number, then by word.
    pub(super) fn value(self, spec: &Spec) -> (f64, String) {
        let counted = |number: u32| (f64::from(number), figures::whole(number.into()));
        match self {
            Axis::Payload => (spec.payload_bytes as f64, figures::bytes(spec.payload_bytes)),
            Axis::Batch => counted(spec.batch),
            Axis::Producers => counted(spec.producers),
            Axis::Outstanding => counted(spec.outstanding),
            Axis::Topics => counted(spec.topics),
            Axis::Followers => counted(spec.followers),
            Axis::Rate => match spec.rate_per_s {
                Some(rate) => (rate, figures::short(rate)),
                None => (f64::MAX, "all it can".into()),
            },
            Axis::Io => (0.0, spec.io.clone()),
            Axis::Kind => (0.0, spec.kind.clone()),
        }
    }

    /// `spec` with this put aside: equal for specs that differ in nothing else.
    pub(super) fn put_aside(self, spec: &mut Spec) {
        match self {
            Axis::Payload => spec.payload_bytes = 0,
            Axis::Batch => spec.batch = 0,
            Axis::Producers => spec.producers = 0,
            Axis::Outstanding => spec.outstanding = 0,
            Axis::Topics => spec.topics = 0,
            Axis::Followers => spec.followers = 0,
            Axis::Rate => (spec.rate_per_s, spec.arrivals) = (None, None),
            Axis::Io => spec.io.clear(),
            Axis::Kind => spec.kind.clear(),
        }
    }
}

/// `durable, 256 B, batches of 256, 64 threads`: everything that is not as plain as can be. Axes put aside are not mentioned.
pub(super) fn words(spec: &Spec) -> String {
    let number = |number: u32| figures::whole(number.into());
    let some = |is_so: bool, words: String| is_so.then_some(words);
    let parts = [
        some(!spec.kind.is_empty(), spec.kind.clone()),
        some(spec.payload_bytes > 0, figures::bytes(spec.payload_bytes)),
        some(spec.batch > 1, format!("batches of {}", number(spec.batch))),
        some(
            spec.producers > 0,
            if spec.producers == 1 { "1 thread".into() } else { format!("{} threads", number(spec.producers)) },
        ),
        some(spec.outstanding > 1, format!("{} in flight", number(spec.outstanding))),
        some(spec.topics > 1, format!("{} topics", number(spec.topics))),
        some(spec.network, "over loopback".into()),
        some(
            spec.followers > 0,
            if spec.followers == 1 { "1 follower".into() } else { format!("{} followers", spec.followers) },
        ),
        spec.rate_per_s.map(|rate| {
            let arrivals = spec.arrivals.as_deref().map_or(String::new(), |arrivals| format!(", {arrivals}"));
            format!("{}/s offered{arrivals}", figures::count(rate))
        }),
        some(!spec.io.is_empty() && spec.io != "auto", spec.io.clone()),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn a_spec_is_told_in_words_and_what_is_plain_is_left_out() {
        let plain = fixture::spec(256, 1, 1);
        assert_eq!(words(&plain), "durable, 256 B, 1 thread");
        let busy = Spec {
            rate_per_s: Some(50_000.0),
            arrivals: Some("poisson".into()),
            followers: 1,
            network: true,
            io: "syscall".into(),
            ..fixture::spec(4096, 256, 64)
        };
        assert_eq!(
            words(&busy),
            "durable, 4 KiB, batches of 256, 64 threads, over loopback, 1 follower, 50,000/s offered, poisson, syscall"
        );
    }

    #[test]
    fn specs_that_differ_along_one_axis_are_equal_once_it_is_put_aside() {
        for axis in Axis::ALL {
            let mut other = Spec {
                kind: "written".into(),
                outstanding: 7,
                topics: 9,
                io: "mmap".into(),
                followers: 3,
                rate_per_s: Some(5.0),
                arrivals: Some("uniform".into()),
                ..fixture::spec(64, 16, 4)
            };
            let mut one = other.clone();
            let plain = fixture::spec(256, 1, 1);
            match axis {
                Axis::Payload => one.payload_bytes = plain.payload_bytes,
                Axis::Batch => one.batch = plain.batch,
                Axis::Producers => one.producers = plain.producers,
                Axis::Outstanding => one.outstanding = plain.outstanding,
                Axis::Topics => one.topics = plain.topics,
                Axis::Followers => one.followers = plain.followers,
                Axis::Rate => one.rate_per_s = plain.rate_per_s,
                Axis::Io => one.io.clone_from(&plain.io),
                Axis::Kind => one.kind.clone_from(&plain.kind),
            }
            assert_ne!(axis.value(&one), axis.value(&other), "{axis:?}");
            axis.put_aside(&mut one);
            axis.put_aside(&mut other);
            assert_eq!(one, other, "{axis:?}");
        }
    }
}
