//! Scalars with a grammar of their own: durations and sizes.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration as Go and Kubernetes write it: `500ms`, `30s`, `1h30m`; `0` needs no unit.
///
/// Serialises to the same grammar, which is also the form of the environment variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct GoDuration(pub Duration);

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration")]
pub struct NotADuration(String);

/// Units and their nanoseconds; longer names first where one begins with another.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("μs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3600e9),
];

impl FromStr for GoDuration {
    type Err = NotADuration;

    fn from_str(text: &str) -> Result<Self, NotADuration> {
        let refuse = || NotADuration(text.to_owned());
        if text == "0" {
            return Ok(Self::default());
        }
        let (mut rest, mut total) = (text, Duration::ZERO);
        while !rest.is_empty() {
            let end = rest
                .find(|c: char| !(c.is_ascii_digit() || c == '.'))
                .ok_or_else(refuse)?;
            let amount: f64 = rest[..end].parse().map_err(|_| refuse())?;
            let (unit, nanoseconds) = UNITS
                .into_iter()
                .find(|(unit, _)| rest[end..].starts_with(unit))
                .ok_or_else(refuse)?;
            let part = Duration::try_from_secs_f64(amount * nanoseconds / 1e9).map_err(|_| refuse())?;
            total = total.checked_add(part).ok_or_else(refuse)?;
            rest = &rest[end + unit.len()..];
        }
        if text.is_empty() {
            Err(refuse())
        } else {
            Ok(Self(total))
        }
    }
}

impl fmt::Display for GoDuration {
    /// Whole seconds as `90s`, else the largest unit that needs no fraction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanoseconds = self.0.as_nanos();
        for (size, unit) in [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")] {
            if nanoseconds.is_multiple_of(size) {
                return write!(f, "{}{unit}", nanoseconds / size);
            }
        }
        write!(f, "{nanoseconds}ns")
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

impl JsonSchema for GoDuration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(0|([0-9]+(\\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$",
        })
    }
}

/// A count of bytes, at least one: an integer, or a Kubernetes quantity such as `64Mi` or `10M`.
///
/// Serialises to the integer, which is also the form of the environment variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A text that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a size in bytes")]
pub struct NotASize(String);

impl FromStr for ByteSize {
    type Err = NotASize;

    fn from_str(text: &str) -> Result<Self, NotASize> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let factor: u64 = match &text[digits..] {
            "" => 1,
            "k" => 1_000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            _ => 0,
        };
        let bytes = text[..digits]
            .parse::<u64>()
            .ok()
            .and_then(|amount| amount.checked_mul(factor));
        bytes
            .filter(|bytes| *bytes > 0)
            .map(Self)
            .ok_or_else(|| NotASize(text.to_owned()))
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Bytes(u64),
            Quantity(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Bytes(0) => Err(D::Error::custom("a size is at least 1 byte")),
            Written::Bytes(bytes) => Ok(Self(bytes)),
            Written::Quantity(text) => text.parse().map_err(D::Error::custom),
        }
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "minimum": 1,
            "pattern": "^0*[1-9][0-9]{0,15}(k|M|G|Ki|Mi|Gi)?$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_round_trip() {
        for (text, canonical) in [
            ("0", "0s"),
            ("500ms", "500ms"),
            ("30s", "30s"),
            ("5m", "300s"),
            ("1h30m", "5400s"),
            ("1.5s", "1500ms"),
            ("250us", "250us"),
            ("250µs", "250us"),
            ("7ns", "7ns"),
        ] {
            assert_eq!(
                text.parse::<GoDuration>().map(|d| d.to_string()).as_deref(),
                Ok(canonical),
                "{text}"
            );
        }
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "1 s",
            "1d",
            "1s2",
            "..s",
            "99999999999999999999h",
        ] {
            assert!(text.parse::<GoDuration>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_integers_or_quantities() {
        for (text, bytes) in [
            ("1", 1),
            ("64Mi", 64 << 20),
            ("10M", 10_000_000),
            ("2Ki", 2048),
            ("3k", 3000),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in [
            "",
            "0",
            "Mi",
            "1.5Gi",
            "-1",
            "5MB",
            "99999999999999999999",
            "18446744073709551615Ki",
        ] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }
}
