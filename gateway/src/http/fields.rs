//! The members of a request's JSON object, each read as what it must be.
//!
//! As in the original: unknown members and whatever follows the first value are ignored, the last of several members
//! of one name counts, another letter case is a fallback, and `null` is as good as absent (contract gateway §4).
//! Payloads, results and details stay the text that they are.

use asya_runtime_protocol::{Member, RawJson, RawObject};
use bytes::Bytes;
use serde::de::{Deserializer as _, Visitor};
use serde_json::value::RawValue;

use super::refusal::Refusal;

/// The text for every body that cannot be read.
const INVALID: &str = "Invalid request body";

/// See the module documentation.
pub(super) struct Fields(Vec<Member>);

impl Fields {
    /// Reads the object that a body begins with.
    pub(super) fn read(body: &Bytes) -> Result<Self, Refusal> {
        let refuse = |cause: String| Refusal::bad(INVALID).because(cause);
        let mut values = serde_json::Deserializer::from_slice(body).into_iter::<&RawValue>();
        let first = match values.next() {
            Some(Ok(first)) => first.get(),
            Some(Err(error)) => return Err(refuse(error.to_string())),
            None => return Err(refuse("the body is empty; expected a JSON object".to_owned())),
        };
        let value =
            RawJson::parse(body.slice_ref(first.as_bytes())).map_err(|error| refuse(error.to_string()))?;
        let object = RawObject::try_from(value).map_err(|_| refuse("expected a JSON object".to_owned()))?;
        Ok(Self(object.members()))
    }

    /// The same for a body that may be absent.
    pub(super) fn read_optional(body: &Bytes) -> Result<Self, Refusal> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self(Vec::new()));
        }
        Self::read(body)
    }

    /// The value as it is written.
    pub(super) fn raw(&self, name: &str) -> Option<RawJson> {
        let last = |is_it: &dyn Fn(&str) -> bool| self.0.iter().rev().find(|member| is_it(&member.key()));
        let exact = last(&|key| key == name);
        let found = exact.or_else(|| last(&|key| key.eq_ignore_ascii_case(name)))?;
        (!found.value.is_null()).then(|| found.value.clone())
    }

    /// A string that names something: at most 1024 bytes, without lone surrogates and without NUL.
    pub(super) fn name(&self, name: &str) -> Result<Option<String>, Refusal> {
        let Some(value) = self.raw(name) else {
            return Ok(None);
        };
        as_name(&value).map(Some).ok_or_else(|| invalid(name, A_NAME))
    }

    /// A string for people: what no text can hold becomes U+FFFD.
    pub(super) fn words(&self, name: &str) -> Result<Option<String>, Refusal> {
        let Some(value) = self.raw(name) else {
            return Ok(None);
        };
        as_words(&value)
            .map(Some)
            .ok_or_else(|| invalid(name, "expected a string"))
    }

    /// An integer of 64 bits.
    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let Some(value) = self.raw(name) else {
            return Ok(None);
        };
        value
            .to::<i64>()
            .map(Some)
            .map_err(|_| invalid(name, "expected an integer from -2^63 to 2^63-1"))
    }

    /// A list of actors.
    pub(super) fn actors(&self, name: &str) -> Result<Option<Vec<String>>, Refusal> {
        let Some(value) = self.raw(name) else {
            return Ok(None);
        };
        let elements: Vec<&RawValue> = serde_json::from_str(value.as_str())
            .map_err(|_| invalid(name, "expected an array of strings"))?;
        if elements.len() > MOST_ACTORS {
            let count = elements.len();
            return Err(invalid(
                name,
                &format!("{count} actors; a route has at most {MOST_ACTORS}"),
            ));
        }
        let read = |(at, element): (usize, &&RawValue)| {
            let value = RawJson::parse(Bytes::copy_from_slice(element.get().as_bytes())).ok();
            value.as_ref().and_then(as_name).ok_or_else(|| {
                let place = format!("{name}[{at}]");
                invalid(&place, A_NAME)
            })
        };
        elements
            .iter()
            .enumerate()
            .map(read)
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// An object.
    pub(super) fn object(&self, name: &str) -> Result<Option<RawObject>, Refusal> {
        let Some(value) = self.raw(name) else {
            return Ok(None);
        };
        RawObject::try_from(value)
            .map(Some)
            .map_err(|_| invalid(name, "expected an object"))
    }
}

/// As many hops as an envelope may make (`ASYA_MAX_HOPS`).
pub(super) const MOST_ACTORS: usize = 10_000;

/// The refusal of one member.
pub(super) fn invalid(name: &str, expected: &str) -> Refusal {
    Refusal::invalid(INVALID, format!("{name}: {expected}"))
}

/// Longest name or id, in bytes: the indexes of PostgreSQL hold no more than about 2700.
const LONGEST_NAME: usize = 1024;
const A_NAME: &str =
    "expected a string of at most 1024 bytes without unpaired surrogates and without \\u0000";

fn as_name(value: &RawJson) -> Option<String> {
    let text = value.to_text()?;
    (text.len() <= LONGEST_NAME && !text.contains('\0')).then_some(text)
}

pub(super) fn as_words(value: &RawJson) -> Option<String> {
    struct Bytes;
    impl Visitor<'_> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a string")
        }

        fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }
    }
    if !value.as_str().starts_with('"') {
        return None;
    }
    let mut reader = serde_json::Deserializer::from_str(value.as_str());
    // Read as bytes, an unpaired surrogate is the three bytes that UTF-8 would have for it if it could.
    let bytes = reader.deserialize_bytes(Bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    Some(
        text.replace("\u{fffd}\u{fffd}\u{fffd}", "\u{fffd}")
            .replace('\0', "\u{fffd}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &'static str) -> Fields {
        Fields::read(&Bytes::from_static(text.as_bytes())).unwrap()
    }

    #[test]
    fn the_exact_name_counts_then_the_last_and_null_is_absent() {
        let read = fields(r#"{"ID":"folded","id":"first","id":"last","Message":"m","x":null} trailing"#);
        assert_eq!(read.name("id").unwrap().as_deref(), Some("last"));
        assert_eq!(read.name("message").unwrap().as_deref(), Some("m"));
        assert_eq!(read.name("x").unwrap(), None);
        assert_eq!(read.name("y").unwrap(), None);
    }

    #[test]
    fn values_stay_the_text_that_they_are() {
        let read = fields(r#"{"result": {"b":1.0, "a":12345678901234567890,"s":"\ud800\u0000"} }"#);
        assert_eq!(
            read.raw("result").unwrap().as_str(),
            r#"{"b":1.0, "a":12345678901234567890,"s":"\ud800\u0000"}"#
        );
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in [
            "",
            " ",
            "[]",
            "null",
            "1",
            "\"x\"",
            "{",
            "{\"a\":}",
            "{\"a\":1",
            "\u{feff}{}",
            "NaN",
        ] {
            let error = Fields::read(&Bytes::from_static(text.as_bytes())).err().unwrap();
            assert_eq!(error.text(), "Invalid request body\n", "{text}");
        }
        assert!(Fields::read(&Bytes::from_static(b"{\"a\":\"\xff\"}")).is_err());
    }

    #[test]
    fn wrong_types_are_told_by_name() {
        let read = fields(
            r#"{"s":5,"i":9223372036854775808,"f":1.0,"t":"x","n":"a\u0000b","l":"\ud800","a":["x",7],"o":[]}"#,
        );
        let told = [
            read.name("s").unwrap_err(),
            read.words("s").unwrap_err(),
            read.integer("i").unwrap_err(),
            read.integer("f").unwrap_err(),
            read.integer("t").unwrap_err(),
            read.name("n").unwrap_err(),
            read.name("l").unwrap_err(),
            read.actors("a").unwrap_err(),
            read.actors("o")
                .map(|_| ())
                .err()
                .unwrap_or_else(|| invalid("o", "none")),
            read.object("o").unwrap_err(),
        ];
        for (refusal, place) in told
            .iter()
            .zip(["s", "s", "i", "f", "t", "n", "l", "a[1]", "o", "o"])
        {
            let text = refusal.text();
            assert!(
                text.starts_with(&format!("Invalid request body\n{place}: ")),
                "{text}"
            );
        }
    }

    #[test]
    fn words_for_people_survive_what_no_text_can_hold() {
        let read = fields(r#"{"a":"x\ud800y","b":"a\u0000b","c":"\ud83d\ude00"}"#);
        assert_eq!(read.words("a").unwrap().as_deref(), Some("x\u{fffd}y"));
        assert_eq!(read.words("b").unwrap().as_deref(), Some("a\u{fffd}b"));
        assert_eq!(read.words("c").unwrap().as_deref(), Some("😀"));
    }

    #[test]
    fn a_route_of_a_hundred_thousand_actors_is_refused() {
        let actors = vec!["a"; 100_000];
        let body = serde_json::to_vec(&serde_json::json!({"actors": actors})).unwrap();
        let read = Fields::read(&body.into()).unwrap();
        let text = read.actors("actors").unwrap_err().text();
        assert!(
            text.contains("100000 actors; a route has at most 10000"),
            "{text}"
        );
    }

    #[test]
    fn nesting_costs_no_stack() {
        let deep = format!("{{\"result\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
        let read = Fields::read(&deep.into()).unwrap();
        assert_eq!(read.raw("result").unwrap().len(), 400_000);
    }
}
