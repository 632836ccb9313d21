//! From bytes to an [`Envelope`], with the original's tolerance.

use std::fmt;

use bytes::Bytes;
use thiserror::Error;

use super::Envelope;
use crate::json::{self, Fields};
use crate::raw::{ObjectBuilder, RawJson, RawObject};
use crate::route::Route;

/// A message that was read, together with the bytes that it was read from.
#[derive(Clone)]
pub struct Parsed {
    /// What the message says.
    pub envelope: Envelope,
    body: Bytes,
    has_route: bool,
    irregular: bool,
}

impl Parsed {
    /// The message as it came.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Whether the message has a (non-null) `route`.
    pub fn has_route(&self) -> bool {
        self.has_route
    }

    /// Whether a runtime that reads plain JSON could read the bytes otherwise than this crate did: `steps`,
    /// duplicates, another letter case, `null` where it refuses it (contract §2).
    pub fn needs_normalisation(&self) -> bool {
        self.irregular
    }

    /// What to send to the runtime: the message byte for byte unless it needs normalisation. An absent payload or
    /// route stays absent, so that the runtime says what is missing.
    pub fn runtime_request(&self) -> Bytes {
        if self.irregular {
            self.envelope.to_bytes_as_read(self.has_route)
        } else {
            self.body.clone()
        }
    }
}

impl fmt::Debug for Parsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the body, which holds the payload.
        f.debug_struct("Parsed")
            .field("envelope", &self.envelope)
            .field("needs_normalisation", &self.irregular)
            .finish_non_exhaustive()
    }
}

/// Why a message could not be read. `Display` is the text of `payload.error` (contract §7.2).
#[derive(Debug, Error)]
pub enum ParseError {
    /// Not UTF-8, not JSON, or a known field of the wrong type.
    #[error("Failed to parse message: {text}")]
    Json {
        /// What is wrong and where; never quotes values of the message.
        text: String,
        /// Which of the three it is.
        problem: JsonProblem,
    },
    /// `id` is absent, `null` or empty; everything else was read, and the id inside is empty.
    #[error("Envelope missing required 'id' field")]
    MissingId(Box<Parsed>),
}

/// The ways in which a message is unreadable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonProblem {
    /// The bytes are no UTF-8.
    Encoding,
    /// The text is no JSON.
    Syntax,
    /// The JSON is no envelope: not an object, or a known field has the wrong type.
    Shape,
}

impl JsonProblem {
    /// The exception that the Python runtime would name for it.
    pub fn exception_name(self) -> &'static str {
        match self {
            Self::Encoding => "UnicodeDecodeError",
            Self::Syntax => "JSONDecodeError",
            Self::Shape => "ValueError",
        }
    }

    fn because(self, text: &dyn ToString) -> ParseError {
        ParseError::Json {
            text: text.to_string(),
            problem: self,
        }
    }
}

/// See [`Envelope::parse`].
pub(super) fn parse(body: &Bytes) -> Result<Parsed, ParseError> {
    let text = std::str::from_utf8(body).map_err(|error| {
        JsonProblem::Encoding.because(&format!("invalid UTF-8 at byte {}", error.valid_up_to()))
    })?;
    let mut known = Fields::new(["id", "parent_id", "route", "headers", "payload", "deadline"]);
    let mut extra = ObjectBuilder::default();
    if !text.trim_start_matches(json::is_json_space).starts_with('{') {
        // Let the reader say what is wrong with text that is no JSON at all.
        RawJson::parse(body.clone()).map_err(|error| JsonProblem::Syntax.because(&error))?;
        let found = json::kind_of(text);
        return Err(JsonProblem::Shape.because(&format!("the message must be a JSON object, found {found}")));
    }
    json::for_each_member(text, |key, value| {
        if !known.take(key, value) {
            extra.push(key, value);
        }
    })
    .map_err(|error| JsonProblem::Syntax.because(&error))?;

    let slice = |value: &str| RawJson::trusted(body.slice_ref(value.as_bytes()));
    let shape = |text: String| JsonProblem::Shape.because(&text);
    let id = text_field("id", known.value(0)).map_err(shape)?;
    let parent_id = text_field("parent_id", known.value(1)).map_err(shape)?;
    let route = known.value(2).map(slice);
    let (route, odd_route) = route
        .as_ref()
        .map(Route::parse)
        .transpose()
        .map_err(shape)?
        .unwrap_or_default();
    let headers = match known.value(3).map(slice) {
        None => None,
        Some(headers) => Some(RawObject::try_from(headers).map_err(|found| {
            shape(format!(
                "`headers` must be an object, found {}",
                json::kind_of(found.as_str())
            ))
        })?),
    };
    // The original never read `deadline`, so no existing message may fail because of it.
    let deadline = known.value(5).and_then(json::string_of).map(Into::into);
    if let (None, Some(value)) = (&deadline, known.value(5)) {
        extra.push("\"deadline\"", value);
    }
    let parsed = Parsed {
        envelope: Envelope {
            id: id.unwrap_or_default(),
            parent_id,
            route,
            headers,
            payload: known.written(4).map(slice),
            deadline,
            extra: extra.finish(),
        },
        body: body.clone(),
        has_route: known.value(2).is_some(),
        irregular: known.irregular() || odd_route || known.is_null(2) || known.is_null(3),
    };
    if parsed.envelope.id.is_empty() {
        Err(ParseError::MissingId(Box::new(parsed)))
    } else {
        Ok(parsed)
    }
}

fn text_field(name: &str, value: Option<&str>) -> Result<Option<String>, String> {
    let Some(value) = value else { return Ok(None) };
    match json::string_of(value) {
        Some(text) => Ok(Some(text.into_owned())),
        None if value.starts_with('"') => Err(format!("`{name}` is not valid Unicode")),
        None => Err(format!(
            "`{name}` must be a string, found {}",
            json::kind_of(value)
        )),
    }
}
