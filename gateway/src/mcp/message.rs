//! A POST body taken apart as text: what the SDK reads, and the arguments, which it must not touch.
//!
//! The SDK decodes whole messages into values that lose numbers beyond 64 bits, `1.0`, lone surrogates and the order of
//! keys. So the arguments are cut out of the text here and go around it, and it gets the message without them. What it
//! gets is composed from what was read here, so the two can never disagree about a duplicate key.

use asya_runtime_protocol::{RawJson, RawObject};
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use serde_json::Value;

use super::refusal::Refusal;

/// The first revision without a handshake.
const STATELESS: &str = "2026-07-28";
/// Where a request of such a revision says so.
const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
/// Beyond this many the tasks of one subscription are not watched.
const MOST_TASKS: usize = 100;

/// Which half of the history of MCP a request belongs to (contract gateway §8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Era {
    /// 2026-07-28 and later: every request stands for itself.
    Stateless,
    /// 2025-11-25 and earlier: `initialize`, then a session.
    Handshake,
}

impl Era {
    /// The era of a request without a body, by the version in its header.
    pub(super) fn of_headers(headers: &HeaderMap) -> Self {
        let version = headers
            .get("mcp-protocol-version")
            .and_then(|value| value.to_str().ok());
        // ISO dates compare as text.
        if version.is_some_and(|version| version >= STATELESS) {
            Self::Stateless
        } else {
            Self::Handshake
        }
    }
}

/// One message of a client.
#[derive(Debug)]
pub(super) struct Incoming {
    /// Which half of the history it belongs to.
    pub(super) era: Era,
    /// The method; `None` for an answer.
    pub(super) method: Option<String>,
    /// The id of a request; `None` for notifications.
    pub(super) id: Option<RawJson>,
    /// `params.arguments`, byte for byte.
    pub(super) arguments: Option<RawJson>,
    /// `params` without the arguments.
    pub(super) params: Value,
    /// The message without the arguments, for the SDK.
    pub(super) body: Bytes,
}

impl Incoming {
    /// Reads a body.
    pub(super) fn read(headers: &HeaderMap, body: Bytes) -> Result<Self, Refusal> {
        let raw = RawJson::parse(body).map_err(|_| Refusal::not_json())?;
        // A batch is refused as the original refuses it; the newer revisions have none.
        let mut message = RawObject::try_from(raw).map_err(|_| Refusal::not_json())?;
        let id = message.get("id");
        let arguments = cut_arguments(&mut message, id.as_ref())?;
        // Of the rest nothing is worth more than what a value holds; what none can hold is told here, not by the SDK.
        let mut rest: Value = message.as_raw().to().map_err(|_| Refusal::not_json())?;
        let body = Bytes::from(rest.to_string());
        let method = rest["method"].as_str().map(str::to_owned);
        let params = rest["params"].take();
        let era = era(headers, method.as_deref(), &params);
        if era == Era::Stateless && method.as_deref() == Some("initialize") {
            let text = "Method initialize not found: this revision has no handshake";
            return Err(Refusal::rpc(StatusCode::NOT_FOUND, id, -32601, text));
        }
        if rest["jsonrpc"] != "2.0" {
            return Err(Refusal::rpc(in_band(era), id, -32600, "Invalid JSON-RPC version"));
        }
        if id.as_ref().is_some_and(|id| !is_id(id)) {
            let text = "Invalid Request: an id must be a string or an integer of 64 bits";
            return Err(Refusal::rpc(StatusCode::BAD_REQUEST, None, -32600, text));
        }
        let is_answer = rest.get("result").is_some() || rest.get("error").is_some();
        if method.is_none() && !is_answer {
            let text = "Invalid Request: the method is missing";
            return Err(Refusal::rpc(StatusCode::BAD_REQUEST, id, -32600, text));
        }
        // Written in one way, so that a notification that names it finds it.
        let id = id.and_then(|_| RawJson::from_value(&rest["id"]).ok());
        Ok(Self {
            era,
            method,
            id,
            arguments,
            params,
            body,
        })
    }

    /// Whether it is a request of this method.
    pub(super) fn is(&self, method: &str) -> bool {
        self.method.as_deref() == Some(method)
    }

    /// The tasks that a subscription asks for, when its client knows the tasks extension.
    pub(super) fn task_ids(&self) -> Vec<String> {
        let knows = self
            .params
            .pointer("/_meta/io.modelcontextprotocol~1clientCapabilities/extensions/io.modelcontextprotocol~1tasks")
            .is_some();
        let ids = self
            .params
            .pointer("/notifications/taskIds")
            .and_then(Value::as_array);
        let Some(ids) = ids.filter(|_| knows && self.is("subscriptions/listen")) else {
            return Vec::new();
        };
        ids.iter()
            .filter_map(Value::as_str)
            .take(MOST_TASKS)
            .map(str::to_owned)
            .collect()
    }
}

/// Takes the arguments out of the parameters of a message; parameters of `null` count as none.
fn cut_arguments(message: &mut RawObject, id: Option<&RawJson>) -> Result<Option<RawJson>, Refusal> {
    let Some(params) = message.get("params").filter(|params| !params.is_null()) else {
        message.remove("params");
        return Ok(None);
    };
    let mut params = RawObject::try_from(params).map_err(|_| {
        let text = "Invalid Request: params must be an object";
        Refusal::rpc(StatusCode::BAD_REQUEST, id.cloned(), -32600, text)
    })?;
    let arguments = params.get("arguments");
    params.remove("arguments");
    message.insert("params", params.as_raw());
    Ok(arguments)
}

fn era(headers: &HeaderMap, method: Option<&str>, params: &Value) -> Era {
    let says_version = params
        .get("_meta")
        .is_some_and(|meta| meta.get(VERSION_KEY).is_some());
    match method {
        // A client that has the parameters of a handshake means one, whatever else it sends.
        Some("initialize") if !says_version || params.get("protocolVersion").is_some() => Era::Handshake,
        Some("server/discover") => Era::Stateless,
        _ if says_version => Era::Stateless,
        _ => Era::of_headers(headers),
    }
}

/// Old clients read the body of a refusal only when the status is 200.
fn in_band(era: Era) -> StatusCode {
    match era {
        Era::Handshake => StatusCode::OK,
        Era::Stateless => StatusCode::BAD_REQUEST,
    }
}

fn is_id(id: &RawJson) -> bool {
    id.to_text().is_some() || id.to::<i64>().is_ok()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn read(body: &'static str) -> Result<Incoming, Refusal> {
        Incoming::read(&HeaderMap::new(), Bytes::from_static(body.as_bytes()))
    }

    #[test]
    fn arguments_are_cut_out_byte_for_byte() {
        let incoming = read(
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"n": 18446744073709551616.0, "s":"\ud800"},"_meta":{}}}"#,
        )
        .unwrap();
        assert_eq!(
            incoming.arguments.unwrap().as_str(),
            r#"{"n": 18446744073709551616.0, "s":"\ud800"}"#
        );
        let body: Value = serde_json::from_slice(&incoming.body).unwrap();
        assert_eq!(body["params"], serde_json::json!({"name": "t", "_meta": {}}));
        assert_eq!(incoming.era, Era::Handshake);
    }

    #[test]
    fn of_two_arguments_the_last_counts_and_the_sdk_sees_none() {
        let incoming = read(
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{"a":1},"name":"x","arguments":{"a":2}},"id":"2"}"#,
        )
        .unwrap();
        assert_eq!(incoming.arguments.unwrap().as_str(), r#"{"a":2}"#);
        assert!(!String::from_utf8_lossy(&incoming.body).contains("arguments"));
        assert_eq!(incoming.id.unwrap().as_str(), r#""2""#);
    }

    #[test]
    fn the_era_is_what_the_request_itself_says() {
        let modern = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
        assert_eq!(read(modern).unwrap().era, Era::Stateless);
        let discover = r#"{"jsonrpc":"2.0","id":1,"method":"server/discover"}"#;
        assert_eq!(read(discover).unwrap().era, Era::Stateless);
        let plain = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
        assert_eq!(read(plain).unwrap().era, Era::Handshake);
        let headers = |version| {
            HeaderMap::from_iter([(
                "mcp-protocol-version".parse().unwrap(),
                HeaderValue::from_static(version),
            )])
        };
        let by_header = |version| Incoming::read(&headers(version), Bytes::from_static(plain.as_bytes()));
        assert_eq!(by_header("2026-07-28").unwrap().era, Era::Stateless);
        assert_eq!(by_header("2025-11-25").unwrap().era, Era::Handshake);
    }

    #[test]
    fn what_is_no_message_is_refused_with_the_reason() {
        for (body, code, status) in [
            ("nonsense", -32700, 400),
            ("[]", -32700, 400),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":"\ud800"}}"#,
                -32700,
                400,
            ),
            (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, -32600, 200),
            (r#"{"id":1,"method":"ping"}"#, -32600, 200),
            (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, -32600, 400),
            (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, -32600, 400),
            (r#"{"jsonrpc":"2.0","id":1,"method":5}"#, -32600, 400),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}"#,
                -32600,
                400,
            ),
        ] {
            let refusal = read(body).unwrap_err();
            assert_eq!(
                (refusal.code(), refusal.status().as_u16()),
                (code, status),
                "{body}"
            );
        }
    }

    #[test]
    fn tasks_are_watched_for_clients_that_know_them() {
        let body = |extensions: &str| {
            let text = format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{{"notifications":{{"taskIds":["a",5,"b"]}},"_meta":{{"io.modelcontextprotocol/clientCapabilities":{{"extensions":{extensions}}}}}}}}}"#
            );
            Incoming::read(&HeaderMap::new(), Bytes::from(text)).unwrap()
        };
        assert_eq!(
            body(r#"{"io.modelcontextprotocol/tasks":{}}"#).task_ids(),
            ["a", "b"]
        );
        assert!(body("{}").task_ids().is_empty());
    }
}
