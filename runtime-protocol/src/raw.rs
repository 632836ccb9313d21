//! JSON that is carried, not interpreted: [`RawJson`] is any value, [`RawObject`] is an object.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde::ser::{Error as _, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::json;

/// One JSON text as its writer wrote it: numbers, key order, escapes and inner white space are never touched.
///
/// Clones and slices share the buffer of the message that they came from. `Debug` shows the size alone, so that a
/// payload cannot slip into a log. Equality is equality of bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RawJson(Bytes);

impl RawJson {
    /// `null`.
    pub const fn null() -> Self {
        Self(Bytes::from_static(b"null"))
    }

    /// Checks that `text` is one JSON value in UTF-8 and keeps it, without white space around it.
    pub fn parse(text: impl Into<Bytes>) -> Result<Self, serde_json::Error> {
        let text = text.into();
        let value: &RawValue = serde_json::from_slice(&text)?;
        Ok(Self(text.slice_ref(value.get().as_bytes())))
    }

    /// Encodes a Rust value.
    pub fn from_value<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::to_vec(value).map(|text| Self(text.into()))
    }

    /// Encodes a string.
    pub fn from_text(text: &str) -> Self {
        let mut out = Vec::with_capacity(text.len() + 2);
        json::push_string(&mut out, text);
        Self(out.into())
    }

    /// Wraps text that this crate cut out of checked JSON or composed itself.
    pub(crate) fn trusted(text: impl Into<Bytes>) -> Self {
        Self(text.into())
    }

    /// The part of `self` that `part` points to; `part` must be a whole value inside it.
    pub(crate) fn part(&self, part: &str) -> Self {
        Self(self.0.slice_ref(part.as_bytes()))
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        // Every way into this type checks UTF-8; an unchecked conversion would need `unsafe`.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The JSON text as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The JSON text as a shared buffer.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// Length of the text in bytes.
    #[expect(clippy::len_without_is_empty, reason = "a JSON text is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether this is `null`.
    pub fn is_null(&self) -> bool {
        &self.0[..] == b"null"
    }

    /// Decodes into a Rust value (nesting limit of `serde_json`: 128 levels).
    pub fn to<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.0)
    }

    /// The text of a JSON string; `None` for any other value.
    pub fn to_text(&self) -> Option<String> {
        json::string_of(self.as_str()).map(Cow::into_owned)
    }
}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawJson({} bytes)", self.0.len())
    }
}

impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_slice::<&RawValue>(&self.0)
            .map_err(S::Error::custom)?
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RawJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(Bytes::from(Box::<str>::from(value).into_string())))
    }
}

/// A JSON object kept as text, its members in order, duplicates included.
///
/// Look-ups scan the text (the last duplicate counts), so an object that is only carried costs nothing.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RawObject(RawJson);

/// One member of a [`RawObject`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    key: RawJson,
    /// The value, byte for byte.
    pub value: RawJson,
}

impl Member {
    /// The key as text; lone surrogates, which no Rust string can hold, are shown as they are escaped.
    pub fn key(&self) -> Cow<'_, str> {
        let raw = self.key.as_str();
        json::string_of(raw).unwrap_or_else(|| Cow::Borrowed(raw.trim_matches('"')))
    }
}

impl RawObject {
    /// `{}`.
    pub const fn new() -> Self {
        Self(RawJson(Bytes::from_static(b"{}")))
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.inner().is_empty()
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The object as any JSON value.
    pub fn as_raw(&self) -> &RawJson {
        &self.0
    }

    /// The object as any JSON value.
    pub fn into_raw(self) -> RawJson {
        self.0
    }

    /// The value under `key`.
    pub fn get(&self, key: &str) -> Option<RawJson> {
        self.get_str(key).map(|value| self.0.part(value))
    }

    /// The raw text of the value under `key`.
    pub(crate) fn get_str(&self, key: &str) -> Option<&str> {
        let mut found = None;
        self.scan(|raw_key, value| {
            if json::key_is(raw_key, key) {
                found = Some(value);
            }
        });
        found
    }

    /// All members in order.
    pub fn members(&self) -> Vec<Member> {
        let mut members = Vec::new();
        self.scan(|key, value| {
            members.push(Member {
                key: self.0.part(key),
                value: self.0.part(value),
            });
        });
        members
    }

    /// Sets `key`: earlier members of that name go, the new one becomes the last; all others keep their bytes.
    pub fn insert(&mut self, key: &str, value: &RawJson) {
        let mut rest = self.without(key);
        let mut raw_key = Vec::with_capacity(key.len() + 2);
        json::push_string(&mut raw_key, key);
        rest.push_bytes(&raw_key, value.as_bytes());
        *self = rest.finish();
    }

    /// Removes `key`; says whether it was there.
    pub fn remove(&mut self, key: &str) -> bool {
        let found = self.get_str(key).is_some();
        if found {
            *self = self.without(key).finish();
        }
        found
    }

    /// Everything between the braces, trimmed.
    pub(crate) fn inner(&self) -> &str {
        let text = self.0.as_str();
        text.strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
            .unwrap_or_default()
            .trim_matches(json::is_json_space)
    }

    fn without(&self, key: &str) -> ObjectBuilder {
        let mut rest = ObjectBuilder::default();
        self.scan(|raw_key, value| {
            if !json::key_is(raw_key, key) {
                rest.push(raw_key, value);
            }
        });
        rest
    }

    fn scan<'a>(&'a self, visit: impl FnMut(&'a str, &'a str)) {
        let checked = json::for_each_member(self.0.as_str(), visit);
        debug_assert!(checked.is_ok(), "a RawObject holds a checked object");
    }
}

impl Default for RawObject {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RawObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawObject({} bytes)", self.0.len())
    }
}

impl TryFrom<RawJson> for RawObject {
    /// The value itself, when it is not an object.
    type Error = RawJson;

    fn try_from(value: RawJson) -> Result<Self, RawJson> {
        if value.0.first() == Some(&b'{') {
            Ok(Self(value))
        } else {
            Err(value)
        }
    }
}

impl From<RawObject> for RawJson {
    fn from(object: RawObject) -> Self {
        object.0
    }
}

impl Serialize for RawObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Collects members into a [`RawObject`].
#[derive(Default)]
pub(crate) struct ObjectBuilder(Vec<u8>);

impl ObjectBuilder {
    /// Appends a member; `raw_key` with its quotes.
    pub(crate) fn push(&mut self, raw_key: &str, value: &str) {
        self.push_bytes(raw_key.as_bytes(), value.as_bytes());
    }

    fn push_bytes(&mut self, raw_key: &[u8], value: &[u8]) {
        self.0.reserve(raw_key.len() + value.len() + 3);
        self.0.push(if self.0.is_empty() { b'{' } else { b',' });
        self.0.extend_from_slice(raw_key);
        self.0.push(b':');
        self.0.extend_from_slice(value);
    }

    pub(crate) fn finish(mut self) -> RawObject {
        if self.0.is_empty() {
            return RawObject::new();
        }
        self.0.push(b'}');
        RawObject(RawJson::trusted(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &'static str) -> RawObject {
        RawObject::try_from(RawJson::parse(Bytes::from_static(text.as_bytes())).unwrap()).unwrap()
    }

    #[test]
    fn values_keep_their_bytes_and_lose_only_outer_space() {
        let raw = RawJson::parse(Bytes::from_static(
            b" \n[1e400, \"\\ud800\" ,12345678901234567890] ",
        ))
        .unwrap();
        assert_eq!(raw.as_str(), r#"[1e400, "\ud800" ,12345678901234567890]"#);
        assert_eq!(serde_json::to_string(&raw).unwrap(), raw.as_str());
        let wrapped: std::collections::BTreeMap<String, RawJson> =
            serde_json::from_str(r#"{"a": [1.50 ,{}]}"#).unwrap();
        assert_eq!(wrapped["a"].as_str(), "[1.50 ,{}]");
    }

    #[test]
    fn not_json_or_not_utf8_is_refused() {
        for text in [&b"NaN"[..], b"", b"{}{}", b"\"\xff\"", b"[1,]"] {
            assert!(RawJson::parse(Bytes::from_static(text)).is_err());
        }
    }

    #[test]
    fn debug_output_never_shows_the_content() {
        let raw = RawJson::from_text("secret");
        assert_eq!(format!("{raw:?}"), "RawJson(8 bytes)");
        assert_eq!(format!("{:?}", object(r#"{"secret":1}"#)), "RawObject(12 bytes)");
    }

    #[test]
    fn an_object_is_edited_without_touching_its_other_members() {
        let mut headers = object(r#"{ "a" : 1.0 , "b":[ 1 ],"a":2, "\ud800":{}}"#);
        assert_eq!(headers.get("a").unwrap().as_str(), "2");
        assert_eq!(headers.members().len(), 4);
        assert_eq!(headers.members()[3].key(), r"\ud800");
        headers.insert("a", &RawJson::null());
        assert_eq!(headers.as_str(), r#"{"b":[ 1 ],"\ud800":{},"a":null}"#);
        assert!(headers.remove("b"));
        assert!(!headers.remove("b"));
        assert_eq!(headers.as_str(), r#"{"\ud800":{},"a":null}"#);
    }

    #[test]
    fn an_object_of_white_space_is_empty() {
        assert!(object("{ \n }").is_empty());
        assert!(!object(r#"{"":0}"#).is_empty());
        assert!(RawObject::try_from(RawJson::null()).is_err());
    }
}
