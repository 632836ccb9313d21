//! How a request is refused, so that curl, browsers, MCP clients and gRPC clients all understand it.

use axum::Json;
use axum::http::header::{ACCEPT, CONTENT_TYPE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It comes from a page or under a name that is none of ours.
    Origin(String),
    /// It has no token.
    Anonymous {
        /// Where OAuth metadata are.
        metadata: Option<String>,
    },
    /// Its token is not good.
    BadToken {
        /// Why.
        reason: String,
        /// Where OAuth metadata are.
        metadata: Option<String>,
    },
    /// Whether its token is good cannot be told just now.
    NoAnswer(String),
    /// Who sent it may not do this; those named here may.
    Forbidden(&'static str),
}

impl Refusal {
    const fn status(&self) -> StatusCode {
        match self {
            Self::Origin(_) | Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Anonymous { .. } | Self::BadToken { .. } => StatusCode::UNAUTHORIZED,
            Self::NoAnswer(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Origin(reason) | Self::NoAnswer(reason) | Self::BadToken { reason, .. } => reason.clone(),
            Self::Anonymous { .. } => {
                "a bearer token is needed; send the header Authorization: Bearer TOKEN".to_owned()
            }
            Self::Forbidden(who) => format!("this token may not do that; only {who} may"),
        }
    }

    /// What RFC 6750 and RFC 9728 want in `WWW-Authenticate`.
    fn challenge(&self) -> Option<HeaderValue> {
        let (error, metadata) = match self {
            Self::Anonymous { metadata } => ("", metadata),
            Self::BadToken { metadata, .. } => (", error=\"invalid_token\"", metadata),
            _ => return None,
        };
        let metadata = metadata
            .as_ref()
            .map_or_else(String::new, |url| format!(", resource_metadata=\"{url}\""));
        HeaderValue::from_str(&format!("Bearer realm=\"asya-gateway\"{error}{metadata}")).ok()
    }
}

/// The answer, in the form that this client reads.
pub(super) fn refuse(headers: &HeaderMap, refusal: &Refusal) -> Response {
    let is = |name, word: &str| {
        headers
            .get_all(name)
            .iter()
            .any(|value| value.to_str().is_ok_and(|value| value.contains(word)))
    };
    if is(CONTENT_TYPE, "application/grpc") {
        return grpc(refusal);
    }
    let (status, text) = (refusal.status(), refusal.text());
    let mut response = if is(ACCEPT, "json") && !is(ACCEPT, "text/event-stream") {
        let title = status.canonical_reason().unwrap_or_default();
        let problem =
            json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": text});
        let mut response = Json(problem).into_response();
        let problem_json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, problem_json);
        response
    } else {
        format!("{text}\n").into_response()
    };
    *response.status_mut() = status;
    let as_said = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, as_said);
    if let Some(challenge) = refusal.challenge() {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let soon = HeaderValue::from_static("10");
        response
            .headers_mut()
            .insert(axum::http::header::RETRY_AFTER, soon);
    }
    response
}

fn grpc(refusal: &Refusal) -> Response {
    let text = refusal.text();
    let status = match refusal.status() {
        StatusCode::UNAUTHORIZED => tonic::Status::unauthenticated(text),
        StatusCode::FORBIDDEN => tonic::Status::permission_denied(text),
        _ => tonic::Status::unavailable(text),
    };
    status.into_http()
}
