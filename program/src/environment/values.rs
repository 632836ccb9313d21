//! What the values of variables look like: pure parsers, each of which knows how to say what it expects.

use std::borrow::Cow;
use std::time::Duration;

/// What a value should have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// What was expected, as it follows "expected".
    pub what: Cow<'static, str>,
    /// What is wrong, as it follows the value; a general word when there is nothing to add.
    pub problem: Option<String>,
}

impl Expected {
    /// `what` as it follows "expected".
    pub fn new(what: impl Into<Cow<'static, str>>) -> Self {
        Self {
            what: what.into(),
            problem: None,
        }
    }

    /// Says what is wrong, as it follows the value.
    #[must_use]
    pub fn because(mut self, problem: impl Into<String>) -> Self {
        self.problem = Some(problem.into());
        self
    }
}

type Parsed<T> = Result<T, Expected>;

/// Any text. It never fails; it has the form of all parsers.
pub fn text(value: &str) -> Parsed<String> {
    Ok(value.to_owned())
}

/// Yes or no (contract data-plane §5).
pub fn boolean(value: &str) -> Parsed<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(Expected::new("true or false")),
    }
}

/// A duration as Go writes it, or a number of seconds.
pub fn duration(value: &str) -> Parsed<Duration> {
    /// Beyond it a point in time may not exist. Nobody means a century.
    const LONGEST: Duration = Duration::from_hours(100 * 366 * 24);
    let expected = || Expected::new("a duration such as 90s, 5m or 1h30m, or a number of seconds");
    match any_duration(value, &expected) {
        Ok(duration) if duration > LONGEST => Err(expected().because("is longer than a century")),
        other => other,
    }
}

fn any_duration(value: &str, expected: &impl Fn() -> Expected) -> Parsed<Duration> {
    if value.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && let Ok(seconds) = value.parse::<f64>()
    {
        return Duration::try_from_secs_f64(seconds).map_err(|_| expected());
    }
    go_duration(value).ok_or_else(expected)
}

/// A duration of which some time is left.
pub fn positive_duration(value: &str) -> Parsed<Duration> {
    match duration(value) {
        Ok(Duration::ZERO) => Err(Expected::new("a duration above zero")),
        other => other,
    }
}

fn go_duration(value: &str) -> Option<Duration> {
    // Longer names first where one begins with another.
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("μs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    let (mut rest, mut total) = (value, Duration::ZERO);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let amount: f64 = rest[..end].parse().ok()?;
        let (unit, seconds) = UNITS
            .into_iter()
            .find(|(unit, _)| rest[end..].starts_with(unit))?;
        total = total.checked_add(Duration::try_from_secs_f64(amount * seconds).ok()?)?;
        rest = &rest[end + unit.len()..];
    }
    (!value.is_empty()).then_some(total)
}

/// A whole number above zero.
pub fn at_least_one<T: std::str::FromStr + PartialOrd + From<u8>>(value: &str) -> Parsed<T> {
    match value.parse::<T>() {
        Ok(number) if number >= T::from(1) => Ok(number),
        _ => Err(Expected::new("a whole number above zero")),
    }
}

/// A TCP port.
pub fn port(value: &str) -> Parsed<u16> {
    at_least_one(value).map_err(|_| Expected::new("a port from 1 to 65535"))
}

/// A size in bytes, at least 1 and at most 64 MiB.
pub fn size(value: &str) -> Parsed<usize> {
    const MOST: usize = 64 << 20;
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let factor = match &value[digits..] {
        "" => Some(1),
        "k" => Some(1_000),
        "M" => Some(1_000_000),
        "Ki" => Some(1 << 10),
        "Mi" => Some(1 << 20),
        _ => None,
    };
    let number = value[..digits].parse::<usize>().ok();
    number
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor))
        .filter(|size| (1..=MOST).contains(size))
        .ok_or_else(|| Expected::new("a size from 1 to 67108864 bytes, for example 1048576 or 1Mi"))
}

/// The name of an actor. Any text would do for a queue; one with white space is a slip of the pen.
pub fn actor_name(value: &str) -> Parsed<String> {
    const LONGEST: usize = 200;
    let expected = || Expected::new("a name without white space, as it stands in routes");
    if value.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(expected().because("holds white space"));
    }
    if value.split('.').any(|word| word == "*" || word == "#") {
        return Err(expected().because("would stand for other names in the exchange's bindings"));
    }
    if value.len() > LONGEST {
        return Err(Expected::new("at most 200 bytes").because("is too long for the name of a queue"));
    }
    Ok(value.to_owned())
}

/// The name of an exchange that can be declared.
pub fn exchange(value: &str) -> Parsed<String> {
    if value.starts_with("amq.") || value.len() > 255 {
        return Err(Expected::new(
            "at most 255 bytes that do not begin with amq., which is the broker's own",
        ));
    }
    Ok(value.to_owned())
}

/// A JSON object.
pub fn json_object(value: &str) -> Parsed<serde_json::Map<String, serde_json::Value>> {
    serde_json::from_str(value).map_err(|error| {
        let example = r#"a JSON object, for example {"x-queue-type": "quorum"}"#;
        Expected::new(example).because(format!("is none ({error})"))
    })
}

/// Where to listen: `HOST:PORT`, and without a host everywhere.
pub fn listen_address(value: &str) -> Parsed<String> {
    let parts = value.rsplit_once(':');
    match parts.map(|(host, port)| (host, port.parse::<u16>())) {
        Some((host, Ok(_))) if !host.contains(char::is_whitespace) => Ok(value.to_owned()),
        _ => Err(Expected::new("HOST:PORT or :PORT")),
    }
}

/// The first part of metric names.
pub fn namespace(value: &str) -> Parsed<String> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    if value.chars().all(good) && !value.starts_with(|c: char| c.is_ascii_digit()) {
        Ok(value.to_owned())
    } else {
        Err(Expected::new(
            "letters, digits, `_` and `:`, and no digit at the start",
        ))
    }
}

/// A URL without what may be secret in it.
pub(super) fn without_secrets(value: &str) -> String {
    let Ok(mut url) = url::Url::parse(value) else {
        return "***".into();
    };
    // Only URLs that cannot have any refuse to lose them.
    let _none = (url.set_username(""), url.set_password(None));
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_does_and_bare_numbers_as_seconds() {
        for (text, milliseconds) in [
            ("90s", 90_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("500ms", 500),
            ("1.5h", 5_400_000),
            ("300", 300_000),
            ("0.5", 500),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in [
            "",
            "abc",
            "5",
            "-5s",
            "5 m",
            "1h30",
            "s",
            "inf",
            "1e400",
            "5x",
            "1e19",
            "99999999h",
        ] {
            assert_eq!(duration(text).is_ok(), text == "5", "{text}");
        }
        assert!(positive_duration("0").is_err());
    }

    #[test]
    fn booleans_in_any_case() {
        for (text, value) in [("TRUE", true), ("1", true), ("Yes", true), ("on", true)] {
            assert_eq!(boolean(text), Ok(value));
        }
        for (text, value) in [("False", false), ("0", false), ("NO", false), ("off", false)] {
            assert_eq!(boolean(text), Ok(value));
        }
        assert!(boolean("maybe").is_err());
    }

    #[test]
    fn sizes_have_units_and_bounds() {
        assert_eq!(size("1Mi"), Ok(1 << 20));
        assert_eq!(size("10k"), Ok(10_000));
        assert_eq!(size("67108864"), Ok(64 << 20));
        for text in ["0", "65Mi", "1Gi", "-1", "", "Mi", "99999999999999999999"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_to_listen_at_are_those_of_go() {
        for text in [":8080", "0.0.0.0:9090", "[::1]:80", "localhost:0"] {
            assert!(listen_address(text).is_ok(), "{text}");
        }
        for text in ["8080", "host", ":http", ":99999", "a b:80"] {
            assert!(listen_address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_url_is_shown_without_secrets() {
        let shown = without_secrets("amqp://me:hush@host:1/v?token=hush#hush");
        assert_eq!(shown, "amqp://host:1/v");
        assert_eq!(without_secrets("hush"), "***");
        assert_eq!(without_secrets("amqp://me:hu/sh@host"), "***");
    }
}
