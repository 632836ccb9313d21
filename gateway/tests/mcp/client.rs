//! A client that sends what it is told to and hides nothing of the answer.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

/// Longest time for one answer. Far above what is needed, since machines may be busy.
const LIMIT: Duration = Duration::from_secs(90);

pub(crate) struct Client {
    url: String,
    http: reqwest::Client,
    era: Era,
    /// Sent with every request.
    pub(crate) headers: HeaderMap,
}

enum Era {
    Stateless { tasks: bool },
    Handshake,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body as one JSON object.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The messages of a stream of events, or the one of a body, as text.
    pub(crate) fn messages(&self) -> Vec<String> {
        if !self.header("content-type").starts_with("text/event-stream") {
            return vec![self.text.clone()];
        }
        let data = self.text.lines().filter_map(|line| line.strip_prefix("data:"));
        data.map(|data| data.trim().to_owned())
            .filter(|data| !data.is_empty())
            .collect()
    }

    /// The last message: the response.
    pub(crate) fn last(&self) -> Value {
        serde_json::from_str(self.messages().last().expect("a message")).unwrap()
    }

    /// Its result.
    pub(crate) fn result(&self) -> Value {
        let last = self.last();
        assert!(last.get("result").is_some(), "no result: {last}");
        last["result"].clone()
    }

    /// The text of a tool's result.
    pub(crate) fn tool_text(&self) -> String {
        let result = self.result();
        result["content"][0]["text"].as_str().expect("a text").to_owned()
    }

    pub(crate) fn error_code(&self) -> i64 {
        self.last()["error"]["code"]
            .as_i64()
            .unwrap_or_else(|| panic!("no error: {}", self.text))
    }

    pub(crate) fn error_text(&self) -> String {
        self.last()["error"]["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

impl Client {
    pub(crate) fn stateless(url: String) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(
            "accept",
            HeaderValue::from_static("application/json, text/event-stream"),
        );
        headers.insert("mcp-protocol-version", HeaderValue::from_static("2026-07-28"));
        Self {
            url,
            http: http(),
            era: Era::Stateless { tasks: true },
            headers,
        }
    }

    /// The same without the tasks extension.
    pub(crate) fn without_tasks(mut self) -> Self {
        self.era = Era::Stateless { tasks: false };
        self
    }

    pub(crate) async fn handshake(url: String, version: &'static str) -> Self {
        let mut client = Self {
            url,
            http: http(),
            era: Era::Handshake,
            headers: HeaderMap::new(),
        };
        client.set("accept", "application/json, text/event-stream");
        let answer = client.request("initialize", initialize(version)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let session = answer.header("mcp-session-id").to_owned();
        client.set("mcp-session-id", &session);
        client.set("mcp-protocol-version", version);
        let answer = client.notify("notifications/initialized", json!({})).await;
        assert_eq!((answer.status, answer.text.as_str()), (202, ""));
        client
    }

    /// One that sends nothing by itself.
    pub(crate) fn bare(url: String) -> Self {
        Self {
            url,
            http: http(),
            era: Era::Handshake,
            headers: HeaderMap::new(),
        }
    }

    pub(crate) fn set(&mut self, name: &'static str, value: &str) {
        self.headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        );
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.set(name, value);
        self
    }

    /// Calls a tool.
    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Answer {
        self.request("tools/call", json!({"name": tool, "arguments": arguments}))
            .await
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn request(&self, method: &str, params: Value) -> Answer {
        read(self.open(method, params).await).await
    }

    /// Sends a request and leaves the body unread.
    pub(crate) async fn open(&self, method: &str, params: Value) -> reqwest::Response {
        let params = self.params(params);
        let name = params["name"].as_str().or(params["taskId"].as_str());
        let mut headers = self.headers.clone();
        if matches!(self.era, Era::Stateless { .. }) {
            headers.insert("mcp-method", HeaderValue::from_str(method).unwrap());
            if let Some(name) = name.filter(|_| method != "initialize") {
                headers.insert("mcp-name", HeaderValue::from_str(name).unwrap());
            }
        }
        let message = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
        self.send(headers, message.to_string()).await
    }

    pub(crate) async fn notify(&self, method: &str, params: Value) -> Answer {
        let message = json!({"jsonrpc": "2.0", "method": method, "params": params});
        let mut headers = self.headers.clone();
        if matches!(self.era, Era::Stateless { .. }) {
            headers.insert("mcp-method", HeaderValue::from_str(method).unwrap());
        }
        read(self.send(headers, message.to_string()).await).await
    }

    /// Sends a body as it is.
    pub(crate) async fn post(&self, body: impl Into<String>) -> Answer {
        read(self.send(self.headers.clone(), body.into()).await).await
    }

    /// Any method without a body.
    pub(crate) async fn bodyless(&self, method: &str, path: &str) -> reqwest::Response {
        let url = self.url.replace("/mcp", path);
        let request = self.http.request(method.parse().unwrap(), url);
        request.headers(self.headers.clone()).send().await.unwrap()
    }

    fn params(&self, mut params: Value) -> Value {
        if let Era::Stateless { tasks } = self.era {
            let extensions = if tasks {
                json!({"io.modelcontextprotocol/tasks": {}})
            } else {
                json!({})
            };
            let own = json!({
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {"extensions": extensions},
            });
            for (key, value) in own.as_object().unwrap() {
                let meta = &mut params["_meta"];
                if meta.get(key).is_none() {
                    meta[key] = value.clone();
                }
            }
        }
        params
    }

    async fn send(&self, mut headers: HeaderMap, body: String) -> reqwest::Response {
        headers
            .entry("content-type")
            .or_insert(HeaderValue::from_static("application/json"));
        self.http
            .post(&self.url)
            .headers(headers)
            .body(body)
            .send()
            .await
            .unwrap()
    }
}

fn http() -> reqwest::Client {
    reqwest::Client::builder().timeout(LIMIT).build().unwrap()
}

pub(crate) async fn read(response: reqwest::Response) -> Answer {
    Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        text: response.text().await.unwrap(),
    }
}

/// Reads a stream until it has this text; returns what was read.
pub(crate) async fn read_until(response: &mut reqwest::Response, text: &str) -> String {
    let mut read = String::new();
    while !read.contains(text) {
        let chunk = response.chunk().await.unwrap();
        let chunk = chunk.unwrap_or_else(|| panic!("the stream ended without {text}: {read}"));
        read.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    read
}

pub(crate) fn initialize(version: &str) -> Value {
    json!({"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}})
}
