//! Answers to what never reaches the SDK.

use asya_runtime_protocol::RawJson;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// A request that is answered before the SDK sees it.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    kind: Kind,
    allow: Option<&'static str>,
}

#[derive(Debug)]
enum Kind {
    /// Plain text, for what is wrong with HTTP.
    Text(String),
    /// A JSON-RPC error.
    Rpc {
        id: Option<RawJson>,
        code: i32,
        message: String,
    },
}

#[derive(Serialize)]
struct Body<'a> {
    jsonrpc: &'static str,
    /// `null` where it is not known.
    id: Option<&'a RawJson>,
    error: Error<'a>,
}

#[derive(Serialize)]
struct Error<'a> {
    code: i32,
    message: &'a str,
}

impl Refusal {
    /// The body is no single JSON object (contract gateway §8).
    pub(super) fn not_json() -> Self {
        Self::rpc(
            StatusCode::BAD_REQUEST,
            None,
            -32700,
            "request body is not valid json",
        )
    }

    /// A JSON-RPC error.
    pub(super) fn rpc(
        status: StatusCode,
        id: Option<RawJson>,
        code: i32,
        message: impl Into<String>,
    ) -> Self {
        let message = message.into();
        Self {
            status,
            kind: Kind::Rpc { id, code, message },
            allow: None,
        }
    }

    /// Plain text.
    pub(super) fn text(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            kind: Kind::Text(text.into()),
            allow: None,
        }
    }

    /// Names the methods that are served.
    pub(super) fn allow(self, methods: &'static str) -> Self {
        let allow = Some(methods);
        Self { allow, ..self }
    }

    #[cfg(test)]
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    #[cfg(test)]
    pub(super) fn code(&self) -> i32 {
        match &self.kind {
            Kind::Text(_) => 0,
            Kind::Rpc { code, .. } => *code,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = match self.kind {
            Kind::Text(text) => (self.status, format!("{text}\n")).into_response(),
            Kind::Rpc { id, code, message } => {
                let body = Body {
                    jsonrpc: "2.0",
                    id: id.as_ref(),
                    error: Error {
                        code,
                        message: &message,
                    },
                };
                (self.status, axum::Json(body)).into_response()
            }
        };
        if let Some(methods) = self.allow {
            let methods = HeaderValue::from_static(methods);
            response.headers_mut().insert(header::ALLOW, methods);
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            let soon = HeaderValue::from_static("10");
            response.headers_mut().insert(header::RETRY_AFTER, soon);
        }
        response
    }
}
