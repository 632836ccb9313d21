//! What the endpoint knows of a request and the SDK does not: it travels in the extensions of the HTTP request.

use std::sync::Arc;

use asya_runtime_protocol::RawJson;
use axum::http::HeaderMap;
use rmcp::ErrorData;
use rmcp::model::Extensions;

use super::answers::Answers;
use super::inflight::Key;
use super::message::Era;
use crate::auth::Caller;

/// One request and what becomes of its answer.
pub(super) struct Exchange {
    /// Which half of the history of MCP it belongs to.
    pub(super) era: Era,
    /// Whether the client reads events; otherwise the answer must be one JSON object.
    pub(super) reads_events: bool,
    /// Who asks.
    pub(super) caller: Caller,
    /// The headers of the HTTP request.
    pub(super) headers: HeaderMap,
    /// The arguments of a tool call, byte for byte.
    pub(super) arguments: Option<RawJson>,
    /// Where `notifications/cancelled` finds it.
    pub(super) key: Option<Key>,
    /// Tasks that a subscription watches; the caller sees all of them.
    pub(super) tasks: Vec<String>,
    /// What the answer still lacks.
    pub(super) answers: Answers,
}

impl Exchange {
    /// The exchange of a request that the SDK hands over.
    pub(super) fn of(extensions: &Extensions) -> Result<Arc<Self>, ErrorData> {
        let parts = extensions.get::<axum::http::request::Parts>();
        let exchange = parts.and_then(|parts| parts.extensions.get::<Arc<Self>>());
        exchange
            .cloned()
            .ok_or_else(|| ErrorData::internal_error("the request did not come through the endpoint", None))
    }

    /// A header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}
