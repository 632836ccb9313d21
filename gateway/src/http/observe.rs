//! What is kept of every request: an id, a line in the log, a count, a time. And what becomes of a handler that panics.
//!
//! Paths are counted by their pattern: a label for each envelope would fill the memory of whoever collects them.

use std::any::Any;
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tracing::Instrument as _;
use uuid::Uuid;

use super::refusal::Refusal;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id that is taken over from the request.
const LONGEST_ID: usize = 128;

/// The layer.
pub(super) async fn observe(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers());
    let method = method(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("other", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default(), method, route);
    let mut response = next.run(request).instrument(span.clone()).await;
    let (status, elapsed) = (response.status(), started.elapsed());
    metrics::counter!("asya_gateway_requests_total",
        "route" => route.clone(), "method" => method, "status" => status.as_str().to_owned())
    .increment(1);
    metrics::histogram!("asya_gateway_request_duration_seconds", "route" => route).record(elapsed);
    span.in_scope(|| {
        tracing::debug!(
            status = status.as_u16(),
            elapsed_ms = elapsed.as_millis(),
            "answered"
        );
    });
    response.headers_mut().entry(REQUEST_ID).or_insert(id);
    response
}

/// The id that the request brings, if it is one that a log can take, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let is_good = |id: &&HeaderValue| {
        (1..=LONGEST_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    let brought = headers.get(REQUEST_ID).filter(is_good).cloned();
    brought.unwrap_or_else(|| {
        let mut buffer = Uuid::encode_buffer();
        let id = Uuid::new_v4().simple().encode_lower(&mut buffer);
        // Hexadecimal digits are always a header.
        HeaderValue::from_str(id).unwrap_or_else(|_| HeaderValue::from_static("none"))
    })
}

/// Methods that nobody has defined are the peer's, and may be any number.
fn method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// What a client is told whose request made a handler panic. The cause is for the log.
pub(super) fn panicked(cause: &(dyn Any + Send)) -> Response {
    let text = cause
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| cause.downcast_ref::<&str>().copied())
        .unwrap_or("no text");
    tracing::error!(cause = text, "a handler has panicked");
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error").into_response()
}
