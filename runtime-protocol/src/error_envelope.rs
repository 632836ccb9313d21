//! What error-end receives (contract data-plane §7.2): the failure, and the input as it was.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;

use crate::envelope::Envelope;
use crate::json::{ObjectWriter, push_string};
use crate::raw::RawJson;
use crate::route::Route;

/// The actor that the route of an error envelope names when the input told none; literally this, whatever the error
/// actor is called (contract §7.2).
const UNKNOWN_ROUTE: &str = "error-end";

/// Builds error envelopes.
///
/// ```
/// # use asya_runtime_protocol::{Envelope, ErrorEnvelope};
/// # let body = bytes::Bytes::from_static(br#"{"id":"x","route":{"actors":["a"]},"payload":1e400}"#);
/// let input = Envelope::parse(&body)?.envelope;
/// let message = ErrorEnvelope::new("processing_error").for_envelope(&input).to_bytes();
/// assert_eq!(
///     message,
///     r#"{"id":"x","route":{"actors":["a"],"current":0},"payload":{"error":"processing_error","original_payload":1e400}}"#
/// );
/// # Ok::<(), asya_runtime_protocol::ParseError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ErrorEnvelope {
    error: String,
    details: Option<RawJson>,
    attempts: Option<RawJson>,
    history: Option<RawJson>,
    limit: Option<usize>,
}

impl ErrorEnvelope {
    /// `error` is the code that the runtime gave, or one of the fixed texts of contract §7.2.
    pub fn new(error: impl Into<String>) -> Self {
        Self {
            error: error.into(),
            details: None,
            attempts: None,
            history: None,
            limit: None,
        }
    }

    /// Adds `details`, usually what the runtime reported: `{"message", "type", "traceback"}`.
    pub fn details(mut self, details: impl Into<Option<RawJson>>) -> Self {
        self.details = details.into();
        self
    }

    /// Adds `attempts`: how often the message was run.
    pub fn attempts(mut self, attempts: impl Into<Option<RawJson>>) -> Self {
        self.attempts = attempts.into();
        self
    }

    /// Adds `history`: what happened at each run.
    pub fn history(mut self, history: impl Into<Option<RawJson>>) -> Self {
        self.history = history.into();
        self
    }

    /// Keeps at most `bytes` of the input (default: all of it). An `original_payload` above it is left out, an
    /// `original_body` is cut; either way `original_size` tells the whole length in bytes.
    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit = Some(bytes);
        self
    }

    /// For an input that could be read: it keeps id, parent, route with its position and metadata, headers,
    /// deadline (ruling 14) and unknown members; the payload is spliced in byte for byte.
    ///
    /// A route without actors becomes `{"actors":["error-end"],"current":0}`.
    pub fn for_envelope(&self, input: &Envelope) -> Envelope {
        let mut route = input.route.clone();
        if route.actors.is_empty() {
            route.actors.push(UNKNOWN_ROUTE.to_owned());
            route.current = 0;
        }
        let original = input.payload.as_ref();
        let payload = self.payload(original.map_or(0, RawJson::len), |out| match original {
            Some(payload) if self.fits(payload.len()) => out.raw("original_payload", payload.as_bytes()),
            Some(payload) => write_size(out, payload.len()),
            None => {}
        });
        Envelope {
            route,
            payload: Some(payload),
            ..input.clone()
        }
    }

    /// For an input that is no envelope: the bytes themselves go along, as `original_body` when they are UTF-8, else
    /// as `original_body_base64`. `id` comes from [`fallback_id`](crate::fallback_id).
    pub fn for_unreadable(&self, id: impl Into<String>, body: &[u8]) -> Envelope {
        let limit = self.limit.unwrap_or(usize::MAX);
        let payload = self.payload(body.len().min(limit), |out| {
            match std::str::from_utf8(body) {
                Ok(text) => push_string(out.key("original_body"), &text[..text.floor_char_boundary(limit)]),
                Err(_) => out.text(
                    "original_body_base64",
                    &BASE64.encode(&body[..body.len().min(limit)]),
                ),
            }
            if !self.fits(body.len()) {
                write_size(out, body.len());
            }
        });
        Envelope {
            id: id.into(),
            route: Route::new([UNKNOWN_ROUTE]),
            payload: Some(payload),
            ..Envelope::default()
        }
    }

    fn payload(&self, original_size: usize, original: impl FnOnce(&mut ObjectWriter)) -> RawJson {
        let reported = [
            ("details", &self.details),
            ("attempts", &self.attempts),
            ("history", &self.history),
        ];
        let reported_size: usize = reported
            .iter()
            .filter_map(|(_, value)| value.as_ref())
            .map(RawJson::len)
            .sum();
        let mut out = ObjectWriter::new(Vec::with_capacity(
            self.error.len() + reported_size + original_size + original_size / 2 + 128,
        ));
        out.text("error", &self.error);
        for (name, value) in reported {
            if let Some(value) = value {
                out.raw(name, value.as_bytes());
            }
        }
        original(&mut out);
        RawJson::trusted(Bytes::from(out.finish()))
    }

    fn fits(&self, size: usize) -> bool {
        self.limit.is_none_or(|limit| size <= limit)
    }
}

fn write_size(out: &mut ObjectWriter, size: usize) {
    out.raw("original_size", size.to_string().as_bytes());
}
