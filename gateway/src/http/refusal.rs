//! How a request is refused: the original's plain text, or RFC 9457 JSON for clients that prefer it.
//!
//! A handler returns a [`Refusal`]; it becomes text, and carries itself along, so that the layer [`in_json`] can write
//! it the other way when the request's `Accept` prefers JSON (contract gateway §4).

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use asya_gateway_store::StoreError;

use crate::core::LookupError;

/// Why a request is not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    /// The text of the contract.
    title: String,
    /// What exactly was wrong, and what to do.
    detail: Option<String>,
    /// Whether the detail is shown in plain text, too. Texts that clients may match stand alone.
    is_told: bool,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, title: impl Into<String>) -> Self {
        Self {
            status,
            title: title.into(),
            detail: None,
            is_told: false,
        }
    }

    /// 400 with the contract's text alone, for what the original refuses, too.
    pub(super) fn bad(title: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, title)
    }

    /// 400 for a member or parameter that is not what it must be.
    pub(super) fn invalid(title: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            detail: Some(detail.into()),
            is_told: true,
            ..Self::bad(title)
        }
    }

    /// Adds what exactly was wrong, for those who ask for JSON.
    pub(super) fn because(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// There is no such envelope, or it belongs to somebody else.
    pub(super) fn unknown_envelope() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Envelope not found")
    }

    /// Nothing can be done just now; the same request may work a little later.
    pub(super) fn later(title: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, title)
    }

    /// The store did not do it. What it says is for the log: it may name hosts and tables.
    pub(super) fn of_store(what: &str, error: &StoreError) -> Self {
        tracing::error!(%error, "{what}");
        match error {
            StoreError::Unavailable(_) => Self::later(what).because("the store is not available; try again"),
            StoreError::Broken(_) | StoreError::Schema(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, what)
            }
        }
    }

    /// The store did not take a report. It must come again, whatever the reason: a sidecar that reads 500 gives up.
    pub(super) fn of_report(what: &str, error: &StoreError) -> Self {
        tracing::warn!(%error, "{what}: a report could not be stored; it is asked for again");
        Self::later(what).because("the store did not take the report; send it again")
    }

    /// The plain text.
    pub(super) fn text(&self) -> String {
        match &self.detail {
            Some(detail) if self.is_told => format!("{}\n{detail}\n", self.title),
            _ => format!("{}\n", self.title),
        }
    }

    fn problem(&self) -> String {
        #[derive(Serialize)]
        struct Problem<'a> {
            r#type: &'static str,
            title: &'a str,
            status: u16,
            #[serde(skip_serializing_if = "Option::is_none")]
            detail: Option<&'a str>,
        }
        let problem = Problem {
            r#type: "about:blank",
            title: &self.title,
            status: self.status.as_u16(),
            detail: self.detail.as_deref(),
        };
        // Strings and numbers are always JSON.
        serde_json::to_string(&problem).unwrap_or_default() + "\n"
    }
}

impl From<LookupError> for Refusal {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::Unknown => Self::unknown_envelope(),
            LookupError::HistoryGone => Self::new(StatusCode::GONE, error.to_string()),
            LookupError::Store(error) => Self::of_store("Failed to get envelope", &error),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.text().into_response();
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// The layer that writes refusals as JSON for those who prefer it.
pub(super) async fn in_json(request: Request, next: Next) -> Response {
    let is_json = prefers_json(request.headers());
    let mut response = next.run(request).await;
    if !is_json {
        return response;
    }
    if let Some(refusal) = response.extensions_mut().remove::<Refusal>() {
        let headers = response.headers_mut();
        headers.remove(axum::http::header::CONTENT_LENGTH);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        *response.body_mut() = Body::from(refusal.problem());
    }
    response
}

/// Whether a client would rather read JSON than text. One that takes anything gets the text, as from the original.
fn prefers_json(headers: &HeaderMap) -> bool {
    let (mut json, mut text) = (0.0_f32, 0.0_f32);
    for value in headers.get_all(ACCEPT) {
        for range in value.to_str().unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts
                .find_map(|part| part.strip_prefix("q="))
                .map_or(1.0, |quality| quality.parse().unwrap_or(0.0));
            match media.as_str() {
                "application/json" | "application/problem+json" => json = json.max(quality),
                "text/plain" | "text/*" => text = text.max(quality),
                _ => {}
            }
        }
    }
    json > text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_for_those_who_prefer_it() {
        for (accept, expected) in [
            ("", false),
            ("*/*", false),
            ("application/*", false),
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/problem+json, */*", true),
            ("application/json, text/event-stream", true),
            ("application/json, text/plain, */*", false),
            ("application/json;q=0.5, text/plain", false),
            ("application/json, text/plain;q=0.9", true),
            ("application/json;q=0", false),
            ("application/json;q=x", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(prefers_json(&headers), expected, "{accept}");
        }
    }

    #[test]
    fn the_text_of_the_contract_stands_alone_or_comes_first() {
        let alone = Refusal::bad("Invalid request body").because("line 1");
        assert_eq!(alone.text(), "Invalid request body\n");
        assert_eq!(
            alone.problem(),
            "{\"type\":\"about:blank\",\"title\":\"Invalid request body\",\"status\":400,\"detail\":\"line 1\"}\n"
        );
        let told = Refusal::invalid("Invalid request body", "actors: expected strings");
        assert_eq!(told.text(), "Invalid request body\nactors: expected strings\n");
    }
}
