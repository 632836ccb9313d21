//! A gateway that listens, with a tool, and ways to talk to it: a client, and bytes on a socket.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use asya_gateway::auth;
use asya_gateway::core::{Gateway, GatewayOptions, ToolBook};
use asya_gateway::http::{self, HttpOptions};
use asya_gateway::server::{self, ServerOptions};
use asya_gateway_store::sqlite::{SqliteOptions, SqliteStore};
use asya_gateway_store::{Report, ReportEvent, Store};
use asya_runtime_protocol::{Envelope, RawJson};
use asya_transport::local::{LocalOptions, LocalTransport};
use asya_transport::{QueueName, Settlement, Transport};
use bytes::Bytes;
use chrono::Utc;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Nothing here takes so long unless it hangs.
pub(crate) const LONG: Duration = Duration::from_mins(1);

const TOOLS: &str = r"
tools:
  - name: read
    description: Reads a document
    parameters:
      text: {type: string, required: true}
      pages: {type: integer, default: 1}
    route: [first, second, third]
    progress: true
    timeout: 300
    metadata: {team: docs}
  - name: plain
    route: [first]
    timeout: 0
  - name: lost
    route: [nobody]
";

/// Waits for what must come.
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, work)
        .await
        .unwrap_or_else(|_| panic!("{what}: it did not come"))
}

/// A gateway that listens.
pub(crate) struct Rig {
    pub(crate) gateway: Gateway,
    pub(crate) address: SocketAddr,
    pub(crate) transport: Arc<LocalTransport>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) client: reqwest::Client,
    _directory: TempDir,
    server: Option<JoinHandle<()>>,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::with(HttpOptions::default(), ServerOptions::default()).await
    }

    pub(crate) async fn with(http: HttpOptions, server: ServerOptions) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path().join("gateway.db"), SqliteOptions::default())
            .await
            .unwrap();
        Self::assemble(directory, Arc::new(store), http, server).await
    }

    /// The same over another store.
    pub(crate) async fn over(store: Arc<dyn Store>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self::assemble(directory, store, HttpOptions::default(), ServerOptions::default()).await
    }

    async fn assemble(
        directory: TempDir,
        store: Arc<dyn Store>,
        http: HttpOptions,
        server: ServerOptions,
    ) -> Self {
        // Any number of clients may ask for TLS first; the second time is refused and need not be looked at.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (gateway, transport) = gateway(directory.path(), &store).await;
        let router = http::finish(auth::open(http::router(gateway.clone(), http)));
        let listener = server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let options = ServerOptions {
            draining: gateway.draining(),
            ..server
        };
        Self {
            gateway,
            address,
            transport,
            store,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            _directory: directory,
            server: Some(tokio::spawn(server::serve(listener, router, options))),
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        self.send_with(method, path, body, &[]).await
    }

    pub(crate) async fn send_with(
        &self,
        method: Method,
        path: &str,
        body: impl Into<reqwest::Body>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = self.client.request(method, self.url(path)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::read(soon("an answer", request.send()).await.unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, "").await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        self.send(Method::POST, path, body).await
    }

    /// Calls the tool `read`; the id of the envelope.
    pub(crate) async fn call(&self) -> String {
        let answer = self
            .post("/tools/call", r#"{"name":"read","arguments":{"text":"x"}}"#)
            .await;
        answer.envelope_id()
    }

    /// A running envelope of three actors that nobody has called for: a child.
    pub(crate) async fn child(&self, id: &str) {
        let body = format!(r#"{{"id":"{id}","actors":["first","second","third"],"current":0}}"#);
        let answer = self.post("/envelopes", body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    }

    pub(crate) async fn progress(&self, id: &str, index: i64, status: &str) -> Answer {
        let body = format!(
            r#"{{"actors":["first","second","third"],"current_actor_idx":{index},"status":"{status}","message":"{status} {index}"}}"#
        );
        let path = format!("/envelopes/{id}/progress");
        self.send_with(Method::POST, &path, body, &[("x-asya-index", "exact")])
            .await
    }

    pub(crate) async fn succeed(&self, id: &str, result: &str) -> Answer {
        let body = format!(r#"{{"id":"{id}","status":"succeeded","result":{result}}}"#);
        self.post(&format!("/envelopes/{id}/final"), body).await
    }

    /// Reports what REST has no words for.
    pub(crate) async fn report(&self, id: &str, event: ReportEvent) {
        let report = Report {
            envelope_id: id.to_owned(),
            attempt: 1,
            at: Utc::now(),
            event,
        };
        let source = asya_gateway::core::ReportSource::Grpc;
        self.gateway.report(source, vec![report]).await.unwrap();
    }

    /// Takes the next message of the first actor.
    pub(crate) async fn message(&self) -> Envelope {
        let queue = QueueName::for_actor("first");
        let mut consumer = self.transport.consume(&queue).await.unwrap();
        let delivery = soon("a message", consumer.receive(1))
            .await
            .unwrap()
            .pop()
            .unwrap();
        delivery.receipt.settle(Settlement::Ack).await.unwrap();
        Envelope::parse(&delivery.body).unwrap().envelope
    }

    /// Tells the gateway to stop; returns when no connection is left.
    pub(crate) async fn drain(&mut self) {
        self.gateway.drain();
        let server = self.server.take().unwrap();
        soon("the end of the server", server).await.unwrap();
    }

    /// Sends bytes on a connection of their own, and reads until the server closes it.
    pub(crate) async fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_ref()).await.unwrap();
        read_to_end(&mut stream).await
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// The first line of the answer to a request whose path no client library would send.
    pub(crate) async fn status_of(&self, method: &str, path: &str) -> u16 {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        let answer = self.raw(request).await;
        answer
            .split(' ')
            .nth(1)
            .unwrap_or_else(|| panic!("{answer}"))
            .parse()
            .unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.gateway.drain();
    }
}

/// A gateway over a store and a queue in `directory`, whose actor `first` has a queue.
async fn gateway(directory: &Path, store: &Arc<dyn Store>) -> (Gateway, Arc<LocalTransport>) {
    let tools = directory.join("tools.yaml");
    std::fs::write(&tools, TOOLS).unwrap();
    let transport = LocalTransport::open(&directory.join("queue"), &LocalOptions::default()).unwrap();
    let transport = Arc::new(transport);
    let first = QueueName::for_actor("first");
    transport.administration().declare(&first).await.unwrap();
    let sending: Arc<dyn Transport> = transport.clone();
    let options = GatewayOptions::new(Arc::clone(store), sending, ToolBook::open(&tools).unwrap());
    (Gateway::start(options).await, transport)
}

pub(crate) async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset after the answer is a close, too: what was not read of the request is thrown away.
    let _ = soon("the end of the answer", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) async fn read(response: reqwest::Response) -> Self {
        Self {
            status: response.status(),
            headers: response.headers().clone(),
            text: soon("the body", response.text()).await.unwrap(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/json", "{}", self.text);
        assert!(self.text.ends_with('\n'), "{}", self.text);
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// A member of the answer as it is written.
    pub(crate) fn raw_member(&self, name: &str) -> Option<String> {
        let value = RawJson::parse(Bytes::from(self.text.clone())).unwrap();
        let object = asya_runtime_protocol::RawObject::try_from(value).unwrap();
        object.get(name).map(|value| value.as_str().to_owned())
    }

    /// The envelope that a call of a tool has made.
    pub(crate) fn envelope_id(&self) -> String {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        let result = self.json();
        assert_eq!(result.get("isError"), None, "{}", self.text);
        let handle: Value = serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap();
        handle["envelope_id"].as_str().unwrap().to_owned()
    }

    /// Asserts a refusal in plain text, as the original writes it.
    #[track_caller]
    pub(crate) fn is_refusal(&self, status: u16, text: &str) {
        assert_eq!((self.status.as_u16(), self.text.as_str()), (status, text));
        assert_eq!(self.header("content-type"), "text/plain; charset=utf-8");
        assert_eq!(self.header("x-content-type-options"), "nosniff");
    }

    /// Asserts a refusal whose text begins so.
    #[track_caller]
    pub(crate) fn is_refusal_like(&self, status: u16, beginning: &str) {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        assert!(self.text.starts_with(beginning), "{}", self.text);
    }
}

/// A stream of events that is read while it is open.
pub(crate) struct Events {
    response: reqwest::Response,
    rest: String,
}

/// One event, or a comment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) data: String,
    pub(crate) comment: String,
    pub(crate) retry: String,
}

impl Event {
    fn parse(text: &str) -> Self {
        let mut event = Self::default();
        for line in text.lines() {
            let (field, value) = line.split_once(": ").unwrap_or_else(|| panic!("{text:?}"));
            let place = match field {
                "id" => &mut event.id,
                "event" => &mut event.name,
                "data" => &mut event.data,
                "retry" => &mut event.retry,
                "" => &mut event.comment,
                _ => panic!("{text:?}"),
            };
            assert!(place.is_empty(), "{text:?}");
            value.clone_into(place);
        }
        event
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Events {
    pub(crate) async fn open(rig: &Rig, id: &str) -> Self {
        Self::open_after(rig, id, "").await
    }

    pub(crate) async fn open_after(rig: &Rig, id: &str, last: &str) -> Self {
        let mut request = rig.client.get(rig.url(&format!("/envelopes/{id}/stream")));
        if !last.is_empty() {
            request = request.header("Last-Event-ID", last);
        }
        let response = soon("the head of a stream", request.send()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        Self {
            response,
            rest: String::new(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.response
            .headers()
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// The next event or comment; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.rest.split_once("\n\n") {
                let event = Event::parse(event);
                self.rest = String::from(rest);
                return Some(event);
            }
            let Some(chunk) = soon("an event", self.response.chunk()).await.unwrap() else {
                assert_eq!(self.rest, "", "the stream ended within an event");
                return None;
            };
            self.rest.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// All events to the end of the stream.
    pub(crate) async fn all(mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }

    /// The next event whose message is this.
    pub(crate) async fn until(&mut self, message: &str) -> Event {
        loop {
            let event = self
                .next()
                .await
                .unwrap_or_else(|| panic!("the stream ended before {message:?}"));
            if !event.data.is_empty() && event.json()["message"] == message {
                return event;
            }
        }
    }
}
