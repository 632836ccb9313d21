//! Kubernetes quantities: `0.5`, `500m`, `1Gi`, `1e3`.

/// A quantity in billionths, rounded up as the API server does; `None` if it is none, or too large to tell.
pub(super) fn nanos(text: &str) -> Option<i128> {
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = text
        .find(|each: char| !each.is_ascii_digit() && each != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (twos, tens) = scale(suffix)?;
    let digits = digits.checked_mul(1_i128.checked_shl(twos)?)?;
    let tens = tens
        .checked_add(9)?
        .checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let power = 10_i128.checked_pow(tens.unsigned_abs());
    let nanos = match power {
        Some(power) if tens >= 0 => digits.checked_mul(power)?,
        Some(power) => digits / power + i128::from(digits % power != 0),
        // So small that only its being there is left.
        None if tens < 0 => i128::from(digits != 0),
        None if digits == 0 => 0,
        None => return None,
    };
    Some(if is_negative { -nanos } else { nanos })
}

/// Powers of two and of ten that a suffix stands for.
fn scale(suffix: &str) -> Option<(u32, i32)> {
    let scale = match suffix {
        "" => (0, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        _ => (0, suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    Some(scale)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::nanos;

    #[test]
    fn spellings_of_one_amount_are_equal() {
        let table = [
            ("1", "1000m"),
            ("1.0", "1"),
            ("0.5", "500m"),
            (".5", "0.500"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1G", "1000000000"),
            ("1e3", "1k"),
            ("1E3", "1000"),
            ("12E", "12e18"),
            ("100u", "0.1m"),
            ("0.1n", "1n"),
            ("0", "0Ei"),
            ("-1", "-1000m"),
            ("+1", "1"),
            ("1e-30", "1n"),
        ];
        for (left, right) in table {
            assert!(nanos(left).is_some(), "{left}");
            assert_eq!(nanos(left), nanos(right), "{left} {right}");
        }
        let different = [("1", "1m"), ("1Gi", "1G"), ("1", "2"), ("-1", "1"), ("1n", "0")];
        for (left, right) in different {
            assert_ne!(nanos(left), nanos(right), "{left} {right}");
        }
        for none in [
            "", ".", "1.2.3", "Gi", "1 Gi", "1g", "1ei", "e3", "true", "1e", "9e999",
        ] {
            assert_eq!(nanos(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn milli_is_a_thousandth(amount in 0_u32..) {
            prop_assert_eq!(nanos(&format!("{amount}m")), nanos(&amount.to_string()).map(|nanos| nanos / 1000));
        }

        #[test]
        fn any_text_can_be_looked_at(text in "\\PC*") {
            nanos(&text);
        }
    }
}
