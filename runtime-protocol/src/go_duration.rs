//! Durations as the original prints them, because clients read them in error texts.

use std::fmt;
use std::time::Duration;

/// Nanoseconds.
const MINUTE: u128 = 60_000_000_000;

/// Shows a duration the way Go does: `5m0s`, `1h30m0s`, `1.5s`, `500ms`, `0s` (contract §7.2).
///
/// ```
/// # use asya_runtime_protocol::GoDuration;
/// # use std::time::Duration;
/// assert_eq!(GoDuration(Duration::from_secs(300)).to_string(), "5m0s");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoDuration(pub Duration);

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        match nanos {
            0 => return f.write_str("0s"),
            1..1_000 => return write!(f, "{nanos}ns"),
            1_000..1_000_000 => return write_decimal(f, nanos, 1_000, "µs"),
            1_000_000..1_000_000_000 => return write_decimal(f, nanos, 1_000_000, "ms"),
            _ => {}
        }
        let minutes = nanos / MINUTE;
        if minutes >= 60 {
            write!(f, "{}h", minutes / 60)?;
        }
        if minutes > 0 {
            write!(f, "{}m", minutes % 60)?;
        }
        write_decimal(f, nanos % MINUTE, 1_000_000_000, "s")
    }
}

/// `nanos / unit` with as many decimals as it has.
fn write_decimal(f: &mut fmt::Formatter<'_>, nanos: u128, unit: u128, name: &str) -> fmt::Result {
    write!(f, "{}", nanos / unit)?;
    let (mut rest, mut digit) = (nanos % unit, unit / 10);
    if rest > 0 {
        f.write_str(".")?;
    }
    while rest > 0 {
        write!(f, "{}", rest / digit)?;
        rest %= digit;
        digit /= 10;
    }
    f.write_str(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_go() {
        for (duration, text) in [
            (Duration::ZERO, "0s"),
            (Duration::from_nanos(7), "7ns"),
            (Duration::from_nanos(1_050), "1.05µs"),
            (Duration::from_millis(500), "500ms"),
            (Duration::from_micros(1_500), "1.5ms"),
            (Duration::from_secs(1), "1s"),
            (Duration::from_millis(1_500), "1.5s"),
            (Duration::from_mins(5), "5m0s"),
            (Duration::from_mins(90), "1h30m0s"),
            (Duration::from_hours(1), "1h0m0s"),
            (Duration::from_nanos(61_000_000_001), "1m1.000000001s"),
        ] {
            assert_eq!(GoDuration(duration).to_string(), text);
        }
    }
}
