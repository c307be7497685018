//! The keys of a plan, and how their values are written.

use std::fmt;
use std::time::Duration;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{Error, IntoDeserializer, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Slo;

/// What `[load]` and each `[[case]]` may say.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keys {
    /// `append`, `read` or `open`.
    pub(super) measure: Option<Axis<String>>,
    /// `durable` or `written`.
    pub(super) durability: Option<Axis<String>>,
    pub(super) payload: Option<Axis<Size>>,
    pub(super) batch: Option<Axis<u32>>,
    pub(super) producers: Option<Axis<u32>>,
    pub(super) outstanding: Option<Axis<u32>>,
    pub(super) topics: Option<Axis<u32>>,
    pub(super) io: Option<Axis<String>>,
    pub(super) followers: Option<Axis<u32>>,
    pub(super) network: Option<Axis<bool>>,
    /// Batches a second, or `max`: a closed loop.
    pub(super) rate: Option<Axis<Rate>>,
    /// `uniform` or `poisson`.
    pub(super) arrivals: Option<Axis<String>>,
    pub(super) slo: Option<Slo>,
    pub(super) duration: Option<Time>,
    pub(super) warmup: Option<Time>,
    pub(super) rounds: Option<u32>,
    /// Payload in the log before it is read back, or opened.
    pub(super) fill: Option<Size>,
}

impl Keys {
    /// These, and where they are silent those of `load`.
    pub(super) fn over(&self, load: &Keys) -> Keys {
        fn one<T: Clone>(own: &Option<T>, common: &Option<T>) -> Option<T> {
            own.as_ref().or(common.as_ref()).cloned()
        }
        Keys {
            measure: one(&self.measure, &load.measure),
            durability: one(&self.durability, &load.durability),
            payload: one(&self.payload, &load.payload),
            batch: one(&self.batch, &load.batch),
            producers: one(&self.producers, &load.producers),
            outstanding: one(&self.outstanding, &load.outstanding),
            topics: one(&self.topics, &load.topics),
            io: one(&self.io, &load.io),
            followers: one(&self.followers, &load.followers),
            network: one(&self.network, &load.network),
            rate: one(&self.rate, &load.rate),
            arrivals: one(&self.arrivals, &load.arrivals),
            slo: one(&self.slo, &load.slo),
            duration: one(&self.duration, &load.duration),
            warmup: one(&self.warmup, &load.warmup),
            rounds: one(&self.rounds, &load.rounds),
            fill: one(&self.fill, &load.fill),
        }
    }
}

/// One value, or a list of them.
#[derive(Clone, Debug)]
pub(super) struct Axis<T>(pub(super) Vec<T>);

impl<T: Serialize> Serialize for Axis<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(serializer),
            more => more.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Axis<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrMore<T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value, or a list of values")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Vec<T>, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list))
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Vec<T>, E> {
                T::deserialize(value.into_deserializer()).map(|one| vec![one])
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Vec<T>, E> {
                T::deserialize(value.into_deserializer()).map(|one| vec![one])
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Vec<T>, E> {
                T::deserialize(value.into_deserializer()).map(|one| vec![one])
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Vec<T>, E> {
                T::deserialize(value.into_deserializer()).map(|one| vec![one])
            }
        }
        deserializer.deserialize_any(OneOrMore(std::marker::PhantomData)).map(Axis)
    }
}

/// A number, or a text that stands for one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Whole(i64),
    Number(f64),
    Text(String),
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Written::Whole(number) => write!(f, "{number}"),
            Written::Number(number) => write!(f, "{number}"),
            Written::Text(text) => write!(f, "{text:?}"),
        }
    }
}

/// Bytes: `256`, `"64KiB"`, `"1 GB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

const UNITS: &[(&str, u64)] = &[
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(deserializer)?;
        let bytes = match &written {
            Written::Whole(number) => u64::try_from(*number).ok(),
            Written::Number(_) => None,
            Written::Text(text) => UNITS
                .iter()
                .find_map(|(unit, bytes)| text.strip_suffix(unit)?.trim().parse::<u64>().ok()?.checked_mul(*bytes)),
        };
        bytes.map(Size).ok_or_else(|| Error::custom(format!("{written} is no size: 256, \"64KiB\" and \"1GB\" are")))
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

/// `"5s"`, `"0.5s"`, `"200ms"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Time(pub(super) Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(deserializer)?;
        let seconds = match &written {
            Written::Text(text) => {
                let in_unit = |unit: &str, seconds: f64| {
                    text.strip_suffix(unit)?.trim().parse::<f64>().ok().map(|number| number * seconds)
                };
                in_unit("ms", 1e-3).or_else(|| in_unit("s", 1.0))
            }
            Written::Whole(_) | Written::Number(_) => None,
        };
        let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        time.map(Time).ok_or_else(|| Error::custom(format!("{written} is no time: \"5s\" and \"200ms\" are")))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}ms", self.0.as_secs_f64() * 1e3))
    }
}

/// Batches a second; `"max"` is none: as many as are answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rate(pub(super) Option<f64>);

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Whole(number) => Ok(Rate(Some(number as f64))),
            Written::Number(number) => Ok(Rate(Some(number))),
            Written::Text(text) if text == "max" => Ok(Rate(None)),
            written @ Written::Text(_) => {
                Err(Error::custom(format!("{written} is no rate: 50000 (batches a second) and \"max\" are")))
            }
        }
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(rate) => serializer.serialize_f64(rate),
            None => serializer.serialize_str("max"),
        }
    }
}
