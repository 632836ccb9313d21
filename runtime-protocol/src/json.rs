//! Reading JSON objects and arrays one level deep, and writing the few tokens that this crate composes itself.
//!
//! The reader is `serde_json`'s, asked for raw values only: it checks the syntax of everything below without
//! building it, so nesting costs no stack and numbers or strings are never interpreted.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::Deserializer;
use serde_json::value::RawValue;

/// The kind of the JSON value that `text` starts with, for error messages: they never quote the value itself.
pub(crate) fn kind_of(text: &str) -> &'static str {
    match text.trim_start_matches(is_json_space).as_bytes().first() {
        None => "nothing",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        Some(b'-' | b'0'..=b'9') => "a number",
        Some(_) => "no JSON value",
    }
}

/// Whether JSON counts `c` as white space.
pub(crate) fn is_json_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// Calls `visit` with the raw key (quotes included) and the raw value of each member, in order.
pub(crate) fn for_each_member<'a>(
    text: &'a str,
    visit: impl FnMut(&'a str, &'a str),
) -> Result<(), serde_json::Error> {
    struct Members<F>(F);
    impl<'de, F: FnMut(&'de str, &'de str)> Visitor<'de> for Members<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
            while let Some((key, value)) = map.next_entry::<&'de RawValue, &'de RawValue>()? {
                (self.0)(key.get(), value.get());
            }
            Ok(())
        }
    }
    let mut reader = Deserializer::from_str(text);
    reader.deserialize_map(Members(visit))?;
    reader.end()
}

/// Calls `visit` with the raw text of each element, in order.
pub(crate) fn for_each_element<'a>(
    text: &'a str,
    visit: impl FnMut(&'a str),
) -> Result<(), serde_json::Error> {
    struct Elements<F>(F);
    impl<'de, F: FnMut(&'de str)> Visitor<'de> for Elements<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
            while let Some(element) = elements.next_element::<&'de RawValue>()? {
                (self.0)(element.get());
            }
            Ok(())
        }
    }
    let mut reader = Deserializer::from_str(text);
    reader.deserialize_seq(Elements(visit))?;
    reader.end()
}

/// The text that a raw JSON string stands for; `None` if it is no string or holds a lone surrogate, which no Rust
/// string can.
pub(crate) fn string_of(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(raw).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// Whether the raw key (quotes included) reads `name`.
pub(crate) fn key_is(raw_key: &str, name: &str) -> bool {
    string_of(raw_key).is_some_and(|key| key == name)
}

/// Appends `text` as a JSON string, escaping only what JSON requires.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut copied = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let short = match byte {
            b'"' | b'\\' => byte,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0..=0x1f => 0,
            _ => continue,
        };
        out.extend_from_slice(&bytes[copied..at]);
        copied = at + 1;
        if short == 0 {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 0xf)]);
        } else {
            out.extend_from_slice(&[b'\\', short]);
        }
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
}

/// Appends an integer.
pub(crate) fn push_integer(out: &mut Vec<u8>, number: i64) {
    if let 0..=9 = number {
        out.extend(u8::try_from(number).map(|digit| b'0' + digit));
    } else {
        out.extend_from_slice(number.to_string().as_bytes());
    }
}

/// Writes an object member by member into a buffer.
pub(crate) struct ObjectWriter {
    out: Vec<u8>,
    start: usize,
}

impl ObjectWriter {
    /// Opens an object at the end of `out`.
    pub(crate) fn new(mut out: Vec<u8>) -> Self {
        out.push(b'{');
        Self {
            start: out.len(),
            out,
        }
    }

    /// Writes the key; the caller appends the value to the buffer that it gets.
    pub(crate) fn key(&mut self, name: &str) -> &mut Vec<u8> {
        self.separate();
        push_string(&mut self.out, name);
        self.out.push(b':');
        &mut self.out
    }

    /// Writes a member whose value is JSON already.
    pub(crate) fn raw(&mut self, name: &str, value: &[u8]) {
        self.key(name).extend_from_slice(value);
    }

    /// Writes a member whose value is a string.
    pub(crate) fn text(&mut self, name: &str, value: &str) {
        push_string(self.key(name), value);
    }

    /// Writes members that are JSON already: the inside of an object, possibly empty.
    pub(crate) fn members(&mut self, inner: &str) {
        if !inner.is_empty() {
            self.separate();
            self.out.extend_from_slice(inner.as_bytes());
        }
    }

    /// Closes the object.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.out.push(b'}');
        self.out
    }

    fn separate(&mut self) {
        if self.out.len() > self.start {
            self.out.push(b',');
        }
    }
}

/// Known members of one object: the exact name first, another letter case as fallback, the last of several wins
/// (contract data-plane §2, ruling 15).
pub(crate) struct Fields<'a, const N: usize> {
    names: [&'static str; N],
    exact: [Option<&'a str>; N],
    folded: [Option<&'a str>; N],
    irregular: bool,
}

impl<'a, const N: usize> Fields<'a, N> {
    pub(crate) fn new(names: [&'static str; N]) -> Self {
        Self {
            names,
            exact: [None; N],
            folded: [None; N],
            irregular: false,
        }
    }

    /// Takes the member if its key is known; says whether it did.
    pub(crate) fn take(&mut self, raw_key: &str, value: &'a str) -> bool {
        let Some(key) = string_of(raw_key) else {
            return false;
        };
        if let Some(at) = self.names.iter().position(|name| key == *name) {
            self.irregular |= self.exact[at].is_some();
            self.exact[at] = Some(value);
        } else if let Some(at) = self.names.iter().position(|name| key.eq_ignore_ascii_case(name)) {
            self.irregular = true;
            self.folded[at] = Some(value);
        } else {
            return false;
        }
        true
    }

    /// The value of field number `at` as written, `null` included.
    pub(crate) fn written(&self, at: usize) -> Option<&'a str> {
        self.exact[at].or(self.folded[at])
    }

    /// The value of field number `at`; `null` counts as absent.
    pub(crate) fn value(&self, at: usize) -> Option<&'a str> {
        self.written(at).filter(|value| *value != "null")
    }

    /// Whether field number `at` is written as `null`.
    pub(crate) fn is_null(&self, at: usize) -> bool {
        self.written(at) == Some("null")
    }

    /// Whether some reader of the same bytes could pick other values: duplicates, or keys in another letter case.
    pub(crate) fn irregular(&self) -> bool {
        self.irregular
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_json_requires_and_no_further() {
        let mut out = Vec::new();
        push_string(&mut out, "a\"b\\c\n\r\t\u{1}\u{1f}é</&\u{2028}");
        assert_eq!(
            std::str::from_utf8(&out).unwrap(),
            "\"a\\\"b\\\\c\\n\\r\\t\\u0001\\u001fé</&\u{2028}\""
        );
        assert_eq!(
            serde_json::from_slice::<String>(&out).unwrap(),
            "a\"b\\c\n\r\t\u{1}\u{1f}é</&\u{2028}"
        );
    }

    #[test]
    fn integers_are_written_in_full() {
        for number in [0, 9, 10, -1, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            push_integer(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
        }
    }

    #[test]
    fn the_exact_key_wins_over_another_case_and_the_last_of_equals_wins() {
        let mut fields = Fields::new(["id"]);
        for_each_member(r#"{"id":1,"ID":2,"id":3,"Id":4,"ix":5}"#, |key, value| {
            assert_eq!(fields.take(key, value), key != "\"ix\"");
        })
        .unwrap();
        assert_eq!(fields.value(0), Some("3"));
        assert!(fields.irregular());
    }

    #[test]
    fn an_escaped_key_is_the_key_and_a_lone_surrogate_is_nobodys() {
        assert!(key_is(r#""\u0069d""#, "id"));
        assert_eq!(string_of(r#""\ud800""#), None);
        assert!(!key_is(r#""\ud800""#, "id"));
    }
}
