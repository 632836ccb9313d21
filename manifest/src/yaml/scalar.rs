//! Plain scalars to values: the YAML 1.2 core schema, limited to what JSON can hold.

use serde_json::Number;

use super::Kind;

/// Why a scalar has no value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScalarError {
    #[error("`{0}` is not a number that JSON can hold")]
    NotFinite(String),
    #[error("the number {0} does not fit into 64 bits")]
    TooLarge(String),
    #[error("`{text}` is not a value of the tag !!{tag}")]
    WrongTag { text: String, tag: String },
    #[error("the tag {0} is not known")]
    UnknownTag(String),
}

/// The value of an unquoted, untagged scalar.
pub(super) fn resolve(text: &str) -> Result<Kind, ScalarError> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Kind::Null),
        "true" | "True" | "TRUE" => return Ok(Kind::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Kind::Bool(false)),
        _ => {}
    }
    if let Some(number) = integer(text) {
        return number.map(Kind::Number);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Err(ScalarError::NotFinite(text.to_owned()));
    }
    if is_float(unsigned) {
        return float(text).map(Kind::Number);
    }
    Ok(Kind::Text(text.to_owned()))
}

/// The value of a scalar with a tag of the core schema, e.g. `!!str 8080`.
pub(super) fn resolve_tagged(text: &str, tag: &str) -> Result<Kind, ScalarError> {
    if tag == "str" {
        return Ok(Kind::Text(text.to_owned()));
    }
    let kind = resolve(text)?;
    let fits = match tag {
        "null" => kind == Kind::Null,
        "bool" => matches!(kind, Kind::Bool(_)),
        "int" => matches!(&kind, Kind::Number(number) if !number.is_f64()),
        "float" => matches!(kind, Kind::Number(_)),
        _ => return Err(ScalarError::UnknownTag(format!("!!{tag}"))),
    };
    if fits {
        Ok(kind)
    } else {
        Err(ScalarError::WrongTag {
            text: text.to_owned(),
            tag: tag.to_owned(),
        })
    }
}

/// `None` when the text is no integer at all.
fn integer(text: &str) -> Option<Result<Number, ScalarError>> {
    let too_large = || ScalarError::TooLarge(text.to_owned());
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix)
            && !digits.is_empty()
            && digits.chars().all(|digit| digit.is_digit(radix))
        {
            return Some(
                u64::from_str_radix(digits, radix)
                    .map(Number::from)
                    .map_err(|_| too_large()),
            );
        }
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let signed = text.parse::<i64>().map(Number::from);
    Some(
        signed
            .or_else(|_| text.parse::<u64>().map(Number::from))
            .map_err(|_| too_large()),
    )
}

/// `(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(unsigned: &str) -> bool {
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mantissa_holds = digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty());
    let exponent_holds = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    mantissa_holds && exponent_holds
}

fn float(text: &str) -> Result<Number, ScalarError> {
    text.parse::<f64>()
        .ok()
        .and_then(Number::from_f64)
        .ok_or_else(|| ScalarError::NotFinite(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Option<String> {
        match resolve(text) {
            Ok(Kind::Number(number)) => Some(number.to_string()),
            _ => None,
        }
    }

    #[test]
    fn numbers_follow_the_core_schema() {
        for (text, value) in [
            ("0", "0"),
            ("-12", "-12"),
            ("+7", "7"),
            ("0x1F", "31"),
            ("0o17", "15"),
            ("010", "10"),
            ("18446744073709551615", "18446744073709551615"),
            ("1.5", "1.5"),
            (".5", "0.5"),
            ("1.", "1.0"),
            ("1e3", "1000.0"),
            ("-1.5E-1", "-0.15"),
        ] {
            assert_eq!(number(text).as_deref(), Some(value), "{text}");
        }
    }

    #[test]
    fn words_of_older_yaml_and_near_numbers_are_text() {
        for text in [
            "yes", "off", "1_000", "0b1", "0x", "1.2.3", "e5", "1e", ".", "-", "+", "12:30", "1.e", "nan",
        ] {
            assert_eq!(resolve(text), Ok(Kind::Text(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn what_json_cannot_hold_is_refused() {
        for text in [".inf", "-.INF", ".nan", "1e400"] {
            assert_eq!(resolve(text), Err(ScalarError::NotFinite(text.to_owned())));
        }
        let large = "99999999999999999999";
        assert_eq!(resolve(large), Err(ScalarError::TooLarge(large.to_owned())));
    }

    #[test]
    fn tags_decide() {
        assert_eq!(resolve_tagged("8080", "str"), Ok(Kind::Text("8080".to_owned())));
        assert!(matches!(
            resolve_tagged("x", "int"),
            Err(ScalarError::WrongTag { .. })
        ));
        assert!(matches!(
            resolve_tagged("x", "binary"),
            Err(ScalarError::UnknownTag(_))
        ));
    }
}
