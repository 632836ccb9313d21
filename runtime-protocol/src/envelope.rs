//! The message of a queue: an [`Envelope`] around a payload that nobody here looks into.

use bytes::Bytes;

use crate::json::ObjectWriter;
use crate::raw::{RawJson, RawObject};
use crate::route::Route;

mod parse;

pub use parse::{JsonProblem, ParseError, Parsed};

/// One message (contract data-plane §2).
///
/// Read with [`Envelope::parse`], written with [`Envelope::to_bytes`]; payload, headers and unknown members keep
/// their bytes between the two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// Identity; any non-empty text. Empty only inside [`ParseError::MissingId`] and in requests to a handler.
    pub id: String,
    /// The envelope that this one was split from.
    pub parent_id: Option<String>,
    /// Where it goes.
    pub route: Route,
    /// Free members for people and tools (trace ids, priorities).
    pub headers: Option<RawObject>,
    /// What the handlers work on; `None` when the member is absent, which is not the same as `null`.
    pub payload: Option<RawJson>,
    /// RFC 3339 time after which nobody waits for the result, as text.
    pub deadline: Option<String>,
    /// Unknown top-level members, carried unchanged. A `deadline` that is no string is one of them.
    pub extra: RawObject,
}

impl Envelope {
    /// Reads a queue message.
    ///
    /// Accepts what the original accepts: keys in another letter case where the exact one is absent, the last of
    /// several equal keys, `null` for an absent field, `route.steps` for absent `route.actors`, any depth of
    /// nesting. Payload, headers and metadata share the buffer of `body`.
    pub fn parse(body: &Bytes) -> Result<Parsed, ParseError> {
        parse::parse(body)
    }

    /// Writes the message: `id`, `parent_id`, `route`, `headers`, `payload`, `deadline`, unknown members; absent
    /// ones are left out, but an absent payload becomes `null`.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = self.writer();
        out.text("id", &self.id);
        self.write_parent(&mut out);
        self.route.write(out.key("route"));
        self.write_headers(&mut out);
        out.raw(
            "payload",
            self.payload.as_ref().map_or(b"null", RawJson::as_bytes),
        );
        self.write_tail(out)
    }

    /// The message without the members that were absent where it was read (`has_route`: whether `route` was there).
    fn to_bytes_as_read(&self, has_route: bool) -> Bytes {
        let mut out = self.writer();
        if !self.id.is_empty() {
            out.text("id", &self.id);
        }
        self.write_parent(&mut out);
        if has_route {
            self.route.write(out.key("route"));
        }
        self.write_headers(&mut out);
        if let Some(payload) = &self.payload {
            out.raw("payload", payload.as_bytes());
        }
        self.write_tail(out)
    }

    fn write_parent(&self, out: &mut ObjectWriter) {
        if let Some(parent_id) = &self.parent_id {
            out.text("parent_id", parent_id);
        }
    }

    fn write_headers(&self, out: &mut ObjectWriter) {
        if let Some(headers) = &self.headers {
            out.raw("headers", headers.as_raw().as_bytes());
        }
    }

    fn write_tail(&self, mut out: ObjectWriter) -> Bytes {
        if let Some(deadline) = &self.deadline {
            out.text("deadline", deadline);
        }
        out.members(self.extra.inner());
        out.finish().into()
    }

    /// A writer with room for everything, escapes aside.
    fn writer(&self) -> ObjectWriter {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        ObjectWriter::new(Vec::with_capacity(
            self.id.len()
                + text(&self.parent_id)
                + text(&self.deadline)
                + self.route.size_hint()
                + self.headers.as_ref().map_or(0, |headers| headers.as_raw().len())
                + self.payload.as_ref().map_or(4, RawJson::len)
                + self.extra.as_raw().len()
                + 96,
        ))
    }
}
