//! What a handler gets and gives.

use std::fmt;
use std::time::Instant;

use bytes::Bytes;
use tokio::task::JoinError;

use crate::envelope::Envelope;
use crate::json::{ObjectWriter, push_string};
use crate::raw::{RawJson, RawObject};
use crate::reply::HeadersField;
use crate::route::Route;

/// A handler in Rust. Called for one request at a time unless [`ServerOptions`](super::ServerOptions) allow more.
pub trait Handler: Send + Sync + 'static {
    /// Works on one message. No item means that the pipeline ends here (contract §6.5).
    fn handle(
        &self,
        request: RequestEnvelope,
    ) -> impl Future<Output = Result<Vec<HandlerItem>, HandlerError>> + Send;
}

impl<F, R> Handler for F
where
    F: Fn(RequestEnvelope) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Vec<HandlerItem>, HandlerError>> + Send,
{
    fn handle(
        &self,
        request: RequestEnvelope,
    ) -> impl Future<Output = Result<Vec<HandlerItem>, HandlerError>> + Send {
        self(request)
    }
}

/// A request as it came.
#[derive(Clone)]
pub struct RequestEnvelope {
    /// What it says; the id may be empty, a runtime does not need one.
    pub envelope: Envelope,
    /// The bytes that it was read from.
    pub body: Bytes,
    /// When its time is up. The sidecar keeps the time, and cancels it by dropping the handler's future. `None` if
    /// there is no limit, and over protocol v1.
    pub deadline: Option<Instant>,
    /// Which try this is, from 1; always 1 over protocol v1.
    pub attempt: u32,
}

impl RequestEnvelope {
    /// The payload; `null` when absent.
    pub fn payload(&self) -> RawJson {
        self.envelope.payload.clone().unwrap_or_else(RawJson::null)
    }
}

impl fmt::Debug for RequestEnvelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the body, which holds the payload.
        f.debug_struct("RequestEnvelope")
            .field("envelope", &self.envelope)
            .field("deadline", &self.deadline)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// One item of an answer.
#[derive(Clone, Debug)]
pub enum HandlerItem {
    /// Payload mode: the server adds the input's route, one position on (ruling 18), and its headers.
    Payload(RawJson),
    /// Envelope mode: what the handler wrote. With validation on, the actors up to the current one must be the
    /// input's, and a `current` left as it was means "finished here" and is advanced by one (ruling 34).
    Envelope(EnvelopeItem),
}

/// An envelope as a handler returns it; what is absent is not written, so the default is `{}`.
#[derive(Clone, Debug, Default)]
pub struct EnvelopeItem {
    /// The result.
    pub payload: Option<RawJson>,
    /// Where it goes.
    pub route: Option<Route>,
    /// Its headers; [`HeadersField::Absent`] keeps the input's.
    pub headers: HeadersField,
    /// Further members, for example directives to the sidecar of an end actor (ruling 4).
    pub extra: RawObject,
}

/// A failure that becomes an error item.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct HandlerError {
    code: String,
    message: String,
    exception: String,
    bases: Vec<String>,
    traceback: String,
}

impl HandlerError {
    /// A `processing_error` with this text; its type reads `HandlerError`.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            code: "processing_error".to_owned(),
            message: message.into(),
            exception: "HandlerError".to_owned(),
            bases: Vec::new(),
            traceback: String::new(),
        }
    }

    /// Another code, for example `msg_parsing_error`.
    pub fn code(mut self, code: impl Into<String>) -> Self {
        self.code = code.into();
        self
    }

    /// The name by which retry rules know this failure (`details.type`).
    pub fn exception(mut self, name: impl Into<String>) -> Self {
        self.exception = name.into();
        self
    }

    /// Wider names for the same failure, the nearest first: retry rules that name one of them match it too
    /// (`details.mro`, which Python handlers fill with the bases of the exception's class).
    pub fn is_a<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.bases.extend(names.into_iter().map(Into::into));
        self
    }

    /// Where it happened; the chain of causes for example (`details.traceback`).
    pub fn traceback(mut self, text: impl Into<String>) -> Self {
        self.traceback = text.into();
        self
    }

    pub(super) fn panicked(error: JoinError) -> Self {
        let message = match error.try_into_panic() {
            Ok(panic) => match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
                (Some(text), _) => (*text).to_owned(),
                (None, Some(text)) => text.clone(),
                (None, None) => "the handler panicked".to_owned(),
            },
            Err(error) => error.to_string(),
        };
        Self::new(message).exception("Panic")
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut details =
            ObjectWriter::new(Vec::with_capacity(self.message.len() + self.traceback.len() + 96));
        details.text("message", &self.message);
        details.text("type", &self.exception);
        details.text("traceback", &self.traceback);
        if !self.bases.is_empty() {
            self.write_classes(details.key("mro"));
        }
        let mut item = ObjectWriter::new(std::mem::take(out));
        item.text("error", &self.code);
        item.raw("details", &details.finish());
        *out = item.finish();
    }

    fn write_classes(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        push_string(out, &self.exception);
        for base in &self.bases {
            out.push(b',');
            push_string(out, base);
        }
        out.push(b']');
    }
}
