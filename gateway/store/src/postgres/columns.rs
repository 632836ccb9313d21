//! Words to columns: whole batches travel as one array for each column, and `unnest` makes rows of them.

use std::time::Duration;

use asya_runtime_protocol::RawJson;
use chrono::{DateTime, Utc};

/// One column of a batch.
pub(super) fn column<'a, T, C>(items: &'a [T], of: impl Fn(&'a T) -> C) -> Vec<C> {
    items.iter().map(of).collect()
}

/// An array of texts as a literal, because arrays of arrays must not be ragged: `{"a","b"}`.
pub(super) fn array_literal<T: AsRef<str>>(items: &[T]) -> String {
    let mut literal = String::from("{");
    for (place, item) in items.iter().enumerate() {
        literal.push_str(if place == 0 { "\"" } else { ",\"" });
        for character in item.as_ref().chars() {
            if matches!(character, '"' | '\\') {
                literal.push('\\');
            }
            literal.push(character);
        }
        literal.push('"');
    }
    literal.push('}');
    literal
}

/// The text of some JSON.
pub(super) fn json_text(json: Option<&RawJson>) -> Option<&str> {
    json.map(RawJson::as_str)
}

/// For columns of the original that hold 32 bits: what is beyond becomes the greatest or smallest that they hold.
pub(super) fn int32(number: i64) -> i32 {
    let smallest = i64::from(i32::MIN);
    let clamped = number.clamp(smallest, i64::from(i32::MAX));
    i32::try_from(clamped).unwrap_or(i32::MAX)
}

/// A count in such a column.
pub(super) fn count(number: impl TryInto<i32>) -> i32 {
    number.try_into().unwrap_or(i32::MAX)
}

/// A timeout in whole seconds, rounded up, for the original.
pub(super) fn seconds(timeout: Duration) -> i32 {
    count(timeout.as_millis().div_ceil(1000))
}

/// A span in milliseconds.
pub(super) fn milliseconds(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// A span in microseconds, at most a century, so that sums with instants stay in range.
pub(super) fn microseconds(span: Duration) -> i64 {
    const CENTURY: i64 = 100 * 366 * 24 * 60 * 60 * 1_000_000;
    i64::try_from(span.as_micros()).unwrap_or(CENTURY).min(CENTURY)
}

/// An instant that the database can compare with: what lies before or after its calendar is as good as its ends.
pub(super) fn instant(at: DateTime<Utc>) -> DateTime<Utc> {
    const YEAR_1: i64 = -62_135_596_800;
    const YEAR_9999: i64 = 253_402_300_799;
    DateTime::from_timestamp(at.timestamp().clamp(YEAR_1, YEAR_9999), 0)
        .filter(|end| end.timestamp() != at.timestamp())
        .unwrap_or(at)
}

/// Whether a text can be in the database at all: U+0000 cannot, so that nothing has such an id.
pub(super) fn can_exist(text: &str) -> bool {
    !text.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn array_literals_keep_quotes_and_backslashes() {
        assert_eq!(array_literal::<&str>(&[]), "{}");
        assert_eq!(
            array_literal(&["a", "b c", "", "NULL"]),
            r#"{"a","b c","","NULL"}"#
        );
        assert_eq!(
            array_literal(&["say \"hi\"", "C:\\{x},y"]),
            r#"{"say \"hi\"","C:\\{x},y"}"#
        );
    }

    #[test]
    fn instants_beyond_the_calendar_become_its_ends() {
        let now = Utc::now();
        assert_eq!(instant(now), now);
        assert_eq!(
            instant(DateTime::<Utc>::MIN_UTC).to_rfc3339(),
            "0001-01-01T00:00:00+00:00"
        );
        assert_eq!(
            instant(DateTime::<Utc>::MAX_UTC).to_rfc3339(),
            "9999-12-31T23:59:59+00:00"
        );
    }

    #[test]
    fn numbers_beyond_a_column_are_clamped() {
        assert_eq!(int32(i64::MAX), i32::MAX);
        assert_eq!(int32(i64::MIN), i32::MIN);
        assert_eq!(int32(-7), -7);
        assert_eq!(count(u32::MAX), i32::MAX);
        assert_eq!(seconds(Duration::from_millis(1)), 1);
        assert_eq!(seconds(Duration::ZERO), 0);
    }
}
