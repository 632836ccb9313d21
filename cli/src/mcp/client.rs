//! Requests to a gateway, ours or an original one.

use std::time::Duration;

use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sse_stream::{Sse, SseStream};

use super::exit::McpError;
use super::words::plain;

/// Longest time for one request and its answer, streams aside (contract gateway §10.1).
const REQUEST_TIME: Duration = Duration::from_secs(10);

/// Longest silence of a stream; a gateway sends at least a comment every 15 s.
const SILENCE: Duration = Duration::from_mins(5);

/// The longest text of an answer that an error shows.
const SHOWN: usize = 2000;

/// A gateway at an address.
pub(super) struct Client {
    base: Url,
    http: reqwest::Client,
}

impl Client {
    /// Prepares requests; nothing is sent.
    pub(super) fn new(base: &str, token: Option<&str>) -> Result<Self, McpError> {
        let url = format!("{}/", base.trim_end_matches('/'));
        let base = Url::parse(&url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| {
                McpError::Local(format!(
                    "{base:?} is no address; expected one like http://localhost:8089"
                ))
            })?;
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| McpError::Local("ASYA_CLI_MCP_TOKEN holds what no header can".to_owned()))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let http = reqwest::Client::builder()
            .default_headers(headers)
            .connect_timeout(REQUEST_TIME)
            .read_timeout(SILENCE)
            .build()
            .map_err(|error| McpError::Local(told(&error)))?;
        Ok(Self { base, http })
    }

    /// All tools, as `tools/list` has them. The handshake is that of the oldest revision, which every gateway speaks.
    pub(super) async fn tools(&self) -> Result<Vec<Value>, McpError> {
        let initialize = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2024-11-05", "capabilities": {},
            "clientInfo": {"name": "asya-cli", "version": env!("CARGO_PKG_VERSION")},
        }});
        let (session, _) = self.mcp(&initialize, None).await?;
        let list = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {}});
        let (_, mut answer) = self.mcp(&list, session).await?;
        match answer.pointer_mut("/result/tools").map(Value::take) {
            Some(Value::Array(tools)) => Ok(tools),
            _ => Err(McpError::NotUnderstood(shortened(&answer.to_string()))),
        }
    }

    async fn mcp(
        &self,
        request: &Value,
        session: Option<HeaderValue>,
    ) -> Result<(Option<HeaderValue>, Value), McpError> {
        let body = request.to_string();
        let mut post = self
            .json(Method::POST, "mcp")?
            .header(CONTENT_TYPE, "application/json");
        if let Some(session) = session {
            post = post.header("Mcp-Session-Id", session);
        }
        let response = send(post.body(body.clone()), Some(&body)).await?;
        let session = response.headers().get("Mcp-Session-Id").cloned();
        let text = text(response).await?;
        let answer = serde_json::from_str(&text).map_err(|_| McpError::NotUnderstood(shortened(&text)))?;
        Ok((session, answer))
    }

    /// Calls a tool; `arguments` is JSON text. The answer is the text of a `CallToolResult`.
    pub(super) async fn call(
        &self,
        tool: &str,
        arguments: &str,
        key: Option<&str>,
    ) -> Result<String, McpError> {
        let body = format!("{{\"name\":{},\"arguments\":{arguments}}}", Value::from(tool));
        let mut post = self
            .json(Method::POST, "tools/call")?
            .header(CONTENT_TYPE, "application/json");
        if let Some(key) = key {
            post = post.header("Idempotency-Key", key);
        }
        text(send(post.body(body.clone()), Some(&body)).await?).await
    }

    /// An envelope as it stands, as JSON text.
    pub(super) async fn envelope(&self, id: &str) -> Result<String, McpError> {
        let get = self.json(Method::GET, &envelope_path(id, ""))?;
        json_text(send(get, None).await?).await
    }

    /// Cancels an envelope; the answer is JSON text.
    pub(super) async fn cancel(&self, id: &str, reason: Option<&str>) -> Result<String, McpError> {
        let mut delete = self.json(Method::DELETE, &envelope_path(id, ""))?;
        if let Some(reason) = reason {
            let body = json!({"reason": reason}).to_string();
            delete = delete.header(CONTENT_TYPE, "application/json").body(body);
        }
        json_text(send(delete, None).await?).await
    }

    /// The events of an envelope, from after `last` on.
    pub(super) async fn stream(
        &self,
        id: &str,
        last: Option<&str>,
    ) -> Result<BoxStream<'static, Result<Sse, sse_stream::Error>>, McpError> {
        let url = self.url(&envelope_path(id, "/stream"))?;
        let mut get = self.http.get(url).header(ACCEPT, "text/event-stream");
        if let Some(last) = last {
            get = get.header("Last-Event-ID", last);
        }
        let response = send(get, None).await?;
        let bytes = response.bytes_stream().map_err(std::io::Error::other);
        Ok(Box::pin(SseStream::from_bytes_stream(bytes)))
    }

    /// Whether anybody answers there.
    pub(super) async fn is_healthy(&self, limit: Duration) -> bool {
        let Ok(get) = self.json(Method::GET, "health") else {
            return false;
        };
        get.timeout(limit)
            .send()
            .await
            .is_ok_and(|response| response.status().is_success())
    }

    fn json(&self, method: Method, path: &str) -> Result<RequestBuilder, McpError> {
        let request = self.http.request(method, self.url(path)?);
        Ok(request.timeout(REQUEST_TIME).header(ACCEPT, "application/json"))
    }

    fn url(&self, path: &str) -> Result<Url, McpError> {
        self.base
            .join(path)
            .map_err(|error| McpError::Local(error.to_string()))
    }
}

fn envelope_path(id: &str, suffix: &str) -> String {
    let id = percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC);
    // `./` so that an id is never taken for a scheme.
    format!("./envelopes/{id}{suffix}")
}

async fn send(request: RequestBuilder, payload: Option<&str>) -> Result<Response, McpError> {
    let failed = |reason, answer| McpError::Request {
        reason,
        payload: payload.map(shortened),
        answer,
    };
    let response = request.send().await.map_err(|error| failed(told(&error), None))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let hint = match status.as_u16() {
        401 | 403 => "; a token is read from ASYA_CLI_MCP_TOKEN",
        _ => "",
    };
    let answer = response.text().await.ok().filter(|text| !text.trim().is_empty());
    Err(failed(
        format!("{status}{hint}"),
        answer.as_deref().map(shortened),
    ))
}

async fn text(response: Response) -> Result<String, McpError> {
    response.text().await.map_err(|error| McpError::Request {
        reason: told(&error),
        payload: None,
        answer: None,
    })
}

/// An error with its causes: the first alone never says what it was.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// An answer that must be JSON, as text.
async fn json_text(response: Response) -> Result<String, McpError> {
    let text = text(response).await?;
    match serde_json::from_str::<&RawValue>(&text) {
        Ok(_) => Ok(text),
        Err(_) => Err(McpError::NotUnderstood(shortened(&text))),
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", plain(&text[..at])),
        None => plain(text),
    }
}
