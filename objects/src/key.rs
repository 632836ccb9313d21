//! How results are named.
//!
//! An object (contract data-plane §9, rulings 32 and 33):
//!
//! ```text
//! happy-asya/2026-05-01T12:30:00.123456Z/summarise/order-17.json
//! <prefix>   <time of the first attempt to store it>/<last actor>/<id>.json
//! ```
//!
//! A redelivered message must not become a second object under another time, so a *pointer* is created before the
//! object; whoever comes later reads the key from it and writes the same object again:
//!
//! ```text
//! index-asya/order-17/happy-1      its content is the key of the object
//! index-asya/<id>/<end>-<attempt>
//! ```
//!
//! The two ends have pointers of their own: an envelope that reached both (a hop that was repeated after a crash,
//! with another outcome) keeps both records. A pointer without its object means that storing was interrupted.
//!
//! Ids and actor names are written by [`segment`], so that any text at all is one harmless path segment.

use chrono::{DateTime, Utc};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

/// Folder of the pointers, beside the prefixes of the results.
pub const INDEX: &str = "index-asya";
/// Stands for the last actor when a route names none.
pub const UNKNOWN_ACTOR: &str = "unknown";
/// Longest segment in bytes. File names may have 255; `.json` and the `#<n>` of a file in the making come on top.
pub const LONGEST_SEGMENT: usize = 240;

/// Everything but the unreserved characters of RFC 3986, as `urllib.parse.quote(text, safe="")` does it.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// Begins the hash of a shortened segment; an encoded text never contains it.
const HASH_MARK: char = '=';
const HASH_LENGTH: usize = 64;

/// The end actor that a result comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// `happy-end`: the pipeline came to its end.
    Happy,
    /// `error-end`: the pipeline failed.
    Error,
}

impl End {
    /// `happy` or `error`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Happy => "happy",
            Self::Error => "error",
        }
    }

    /// Prefix of its keys unless configured otherwise (contract data-plane §5.3).
    pub const fn default_prefix(self) -> &'static str {
        match self {
            Self::Happy => "happy-asya/",
            Self::Error => "error-asya/",
        }
    }
}

/// What a key is made of.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The envelope's id; any text.
    pub id: &'a str,
    /// Its route.
    pub actors: &'a [String],
    /// Its position in the route; may lie outside.
    pub current: i64,
    /// Which attempt of the envelope ended; the first is 1.
    pub attempt: u32,
}

impl<'a> Facts<'a> {
    /// The actor that had the envelope last: `actors[current]` if there is such an actor, else the last one, else
    /// [`UNKNOWN_ACTOR`] (ruling 32).
    pub fn last_actor(&self) -> &'a str {
        usize::try_from(self.current)
            .ok()
            .and_then(|at| self.actors.get(at))
            .or(self.actors.last())
            .map(String::as_str)
            .filter(|name| !name.is_empty())
            .unwrap_or(UNKNOWN_ACTOR)
    }
}

/// The key of an object that is stored for the first time at `now`.
pub(crate) fn object(prefix: &str, now: DateTime<Utc>, facts: &Facts<'_>) -> String {
    let time = now.format("%Y-%m-%dT%H:%M:%S%.6fZ");
    let actor = segment(facts.last_actor());
    format!("{prefix}{time}/{actor}/{}", file_name(facts.id))
}

/// The last segment of an object's key.
pub(crate) fn file_name(id: &str) -> String {
    format!("{}.json", segment(id))
}

/// The folder of all pointers of an id.
pub(crate) fn pointers(id: &str) -> String {
    format!("{INDEX}/{}", segment(id))
}

/// The key of a pointer.
pub(crate) fn pointer(id: &str, end: End, attempt: u32) -> String {
    format!("{}/{}-{attempt}", pointers(id), end.name())
}

/// End and attempt from the last segment of a pointer's key; `None` if it is no pointer.
pub(crate) fn parse_pointer(name: &str) -> Option<(End, u32)> {
    let (name, attempt) = name.split_once('-')?;
    let end = [End::Happy, End::Error]
        .into_iter()
        .find(|end| end.name() == name)?;
    Some((end, attempt.parse().ok()?))
}

/// Any text as one path segment of 1 to [`LONGEST_SEGMENT`] ASCII bytes; different texts give different segments.
///
/// Everything outside `A-Z a-z 0-9 - . _ ~` is percent-encoded; so are the dots of `.` and `..`, and the empty text
/// is `%`. A result that is still too long is cut (never inside an escape) and gets `=` and the SHA-256 of the text
/// in hexadecimal; no encoded text contains `=`, so short and shortened names cannot meet.
///
/// ```
/// # use asya_objects::key::segment;
/// assert_eq!(segment("order-17"), "order-17");
/// assert_eq!(segment("a/../ü"), "a%2F..%2F%C3%BC");
/// assert_eq!(segment(".."), "%2E%2E");
/// ```
pub fn segment(text: &str) -> String {
    if matches!(text, "" | "." | "..") {
        return if text.is_empty() {
            "%".to_owned()
        } else {
            "%2E".repeat(text.len())
        };
    }
    let mut encoded: String = utf8_percent_encode(text, ENCODED).collect();
    if encoded.len() > LONGEST_SEGMENT {
        let kept = LONGEST_SEGMENT - HASH_LENGTH - HASH_MARK.len_utf8();
        let escape = encoded[..kept].rfind('%').filter(|at| kept - at < "%XX".len());
        encoded.truncate(escape.unwrap_or(kept));
        encoded.push(HASH_MARK);
        for byte in Sha256::digest(text) {
            for digit in [byte >> 4, byte & 0xf] {
                encoded.extend(char::from_digit(u32::from(digit), 16));
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn facts(actors: &[String], current: i64) -> Facts<'_> {
        Facts {
            id: "i",
            actors,
            current,
            attempt: 1,
        }
    }

    #[test]
    fn the_last_actor_is_the_current_one_or_the_last_of_the_route() {
        let actors = ["a", "b", "c"].map(str::to_owned);
        for (current, expected) in [
            (0, "a"),
            (1, "b"),
            (2, "c"),
            (3, "c"),
            (-1, "c"),
            (i64::MAX, "c"),
            (i64::MIN, "c"),
        ] {
            assert_eq!(
                facts(&actors, current).last_actor(),
                expected,
                "current {current}"
            );
        }
        assert_eq!(facts(&[], 0).last_actor(), "unknown");
        assert_eq!(facts(&[String::new()], 0).last_actor(), "unknown");
    }

    #[test]
    fn a_key_has_prefix_time_actor_and_id() {
        let time = DateTime::parse_from_rfc3339("2026-05-01T14:30:00.000042+02:00")
            .unwrap()
            .to_utc();
        let actors = ["a/b".to_owned()];
        let facts = Facts {
            id: "x y",
            ..facts(&actors, 0)
        };
        assert_eq!(
            object("happy-asya/", time, &facts),
            "happy-asya/2026-05-01T12:30:00.000042Z/a%2Fb/x%20y.json"
        );
        assert_eq!(pointer("x y", End::Error, 3), "index-asya/x%20y/error-3");
    }

    #[test]
    fn pointer_names_are_read_back_and_others_are_not() {
        assert_eq!(parse_pointer("happy-1"), Some((End::Happy, 1)));
        assert_eq!(parse_pointer("error-12"), Some((End::Error, 12)));
        for name in ["happy", "happy-", "happy-x", "other-1", "happy-1#1", ""] {
            assert_eq!(parse_pointer(name), None, "{name}");
        }
    }

    #[test]
    fn a_long_text_is_cut_between_escapes_and_told_apart_by_its_hash() {
        let limit = "x".repeat(LONGEST_SEGMENT);
        assert_eq!(segment(&limit), limit);
        for unit in ["x", "/", "é", "ab/", "a/"] {
            let [one, other] = ["1", "2"].map(|end| segment(&(unit.repeat(300) + end)));
            assert_ne!(one, other);
            for name in [one, other] {
                let (head, hash) = name.split_once('=').unwrap();
                assert!(name.len() <= LONGEST_SEGMENT && head.len() > 170, "{name}");
                assert_eq!(hash.len(), HASH_LENGTH);
                let whole = utf8_percent_encode(&unit.repeat(300), ENCODED).to_string();
                assert!(whole.starts_with(head));
                assert!(
                    !head.ends_with('%') && !head[..head.len() - 1].ends_with('%'),
                    "{head}"
                );
            }
        }
    }

    #[test]
    fn the_hash_is_sha_256_in_hexadecimal() {
        // `printf 'a%.0s' {1..300} | sha256sum`
        assert_eq!(
            segment(&"a".repeat(300)),
            "a".repeat(175) + "=9835fa6bf4e20a9b9ea812506302e98982721a6cf8d2cae67af57129bf21ae90"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_one_harmless_segment(text in any::<String>()) {
            let segment = segment(&text);
            prop_assert!((1..=LONGEST_SEGMENT).contains(&segment.len()));
            prop_assert!(segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%=".contains(&byte)));
            prop_assert!(segment != "." && segment != "..");
        }

        #[test]
        fn different_texts_have_different_segments(
            one in "[./%=a\u{e9}]{0,3}|[./%a]{70,90}",
            other in "[./%=a\u{e9}]{0,3}|[./%a]{70,90}",
        ) {
            prop_assert_eq!(one == other, segment(&one) == segment(&other));
        }
    }
}
