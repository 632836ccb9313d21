//! Old and new sidecars with old and new runtimes: where one side is old, the bytes are those of protocol v1.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use asya_runtime_protocol::v2::{ConnectError, Control, LinkEvent, Request};
use asya_runtime_protocol::{
    HandlerError, HandlerItem, Protocols, RawJson, Ready, Reply, ReplyItem, RequestEnvelope, RuntimeClient,
    read_ready, wait_ready,
};
use bytes::Bytes;
use serde_json::Value;
use tempfile::TempDir;

mod support;
use support::servers::{self, until};
use support::{LIMIT, Served, bounded};

/// A request to each of which the answers are known, byte for byte: what an old runtime says, and what ours do.
const EXCHANGES: [(&str, &str, &str); 4] = [
    (
        r#"{"id":"i","route":{"actors":["a","b"],"current":0},"payload":{"b": [1.0, "zwölf"],"a":null},"headers":{"h" : 1.5}}"#,
        r#"[{"payload": {"b": [1.0, "zw\u00f6lf"], "a": null}, "route": {"actors": ["a", "b"], "current": 1}, "headers": {"h": 1.5}}]"#,
        r#"[{"payload":{"b":[1.0,"zw\u00f6lf"],"a":null},"route":{"actors":["a","b"],"current":1},"headers":{"h":1.5}}]"#,
    ),
    (
        r#"{"id":"i","route":{"actors":["a"],"current":0},"payload":"x"}"#,
        r#"[{"payload": "x", "route": {"actors": ["a"], "current": 1}}]"#,
        r#"[{"payload":"x","route":{"actors":["a"],"current":1}}]"#,
    ),
    (
        r#"{"id":"i","route":{"actors":["a"],"current":0},"payload":[1,null]}"#,
        r#"[{"payload": 1, "route": {"actors": ["a"], "current": 1}}, {"payload": null, "route": {"actors": ["a"], "current": 1}}]"#,
        r#"[{"payload":1,"route":{"actors":["a"],"current":1}},{"payload":null,"route":{"actors":["a"],"current":1}}]"#,
    ),
    (
        r#"{"id":"i","route":{"actors":["a"],"current":0},"payload":{"do":"none"}}"#,
        "[]",
        "[]",
    ),
];
const FAILING: &str = r#"{"id":"i","route":{"actors":["a"],"current":0},"payload":{"do":"fail"}}"#;

const HANDLER: &str = r#"
def handle(payload):
    if isinstance(payload, dict) and payload.get("do") == "fail":
        raise LookupError("missing thing")
    if isinstance(payload, dict) and payload.get("do") == "none":
        return None
    return payload
"#;

/// A sidecar as it was before protocol v2: length and body in two writes, one answer, closed.
fn old_sidecar(socket: &Path, body: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
        .write_all(&u32::try_from(body.len()).unwrap().to_be_bytes())
        .unwrap();
    stream.write_all(body).unwrap();
    let mut header = [0; 4];
    stream.read_exact(&mut header).unwrap();
    let mut answer = vec![0; usize::try_from(u32::from_be_bytes(header)).unwrap()];
    stream.read_exact(&mut answer).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"", "one answer and no more");
    answer
}

async fn old_sidecar_calls(socket: &Path, body: &str) -> String {
    let (socket, body) = (socket.to_owned(), body.to_owned());
    let call = tokio::task::spawn_blocking(move || old_sidecar(&socket, body.as_bytes()));
    String::from_utf8(bounded(call).await.unwrap()).unwrap()
}

/// A sidecar of today: v2 where the ready file offers it, else v1.
async fn new_sidecar_calls(dir: &Path, body: &str) -> String {
    let body = Bytes::copy_from_slice(body.as_bytes());
    let answer = match read_ready(dir).unwrap().unwrap() {
        Ready { v2: None } => {
            let client = RuntimeClient::new(dir.join("asya-runtime.sock"), 1024 * 1024);
            bounded(client.call(body, LIMIT)).await.unwrap()
        }
        Ready { v2: Some(advert) } => {
            let (mut control, _) = bounded(Control::connect(&advert, LIMIT)).await.unwrap();
            let id = servers::ready(&mut control).await;
            let link = asya_runtime_protocol::v2::WorkerLink::connect(&advert, id, 1024 * 1024, LIMIT);
            let mut link = bounded(link).await.unwrap();
            link.send(Request {
                budget: Some(Duration::from_mins(1)),
                attempt: 1,
                more: false,
                envelope: body,
            });
            match bounded(link.next()).await.unwrap() {
                LinkEvent::Reply { items, .. } => items,
                other => panic!("{other:?}"),
            }
        }
    };
    String::from_utf8(answer.to_vec()).unwrap()
}

/// A Python process that serves; it ends with the value.
struct Python {
    dir: TempDir,
    child: Child,
}

impl Drop for Python {
    fn drop(&mut self) {
        // What counts is that it is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Python {
    async fn start(program: &str, arguments: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("matrix_handler.py"), HANDLER).unwrap();
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(program);
        let child = Command::new(std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into()))
            .arg(program)
            .args(arguments(dir.path()))
            .env("ASYA_HANDLER", "matrix_handler.handle")
            .env("ASYA_SOCKET_DIR", dir.path())
            .env("PYTHONPATH", dir.path())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let python = Self { dir, child };
        wait_ready(python.dir.path(), &python.socket(), LIMIT)
            .await
            .unwrap();
        python
    }

    async fn old() -> Self {
        Self::start("tests/fixtures/v1_runtime.py", |dir| {
            vec![dir.display().to_string()]
        })
        .await
    }

    async fn new() -> Self {
        Self::start("python/asya_runtime.py", |_| Vec::new()).await
    }

    fn socket(&self) -> std::path::PathBuf {
        self.dir.path().join("asya-runtime.sock")
    }

    /// What came over the connections that said anything, once there are so many.
    async fn received(&self, count: usize) -> Vec<String> {
        let file = self.dir.path().join("received");
        let read = || -> Vec<String> {
            let text = std::fs::read_to_string(&file).unwrap();
            text.lines().map(str::to_owned).collect()
        };
        until("the runtime has written what it received", || {
            read().len() >= count
        })
        .await;
        read()
    }
}

async fn handle(request: RequestEnvelope) -> Result<Vec<HandlerItem>, HandlerError> {
    let payload: Value = serde_json::from_slice(request.payload().as_bytes()).unwrap();
    let item = |value: &Value| HandlerItem::Payload(RawJson::parse(value.to_string()).unwrap());
    match &payload {
        Value::Object(members) if members.get("do") == Some(&"fail".into()) => {
            Err(HandlerError::new("missing thing").exception("LookupError"))
        }
        Value::Object(members) if members.get("do") == Some(&"none".into()) => Ok(Vec::new()),
        Value::Array(values) => Ok(values.iter().map(item).collect()),
        _ => Ok(vec![HandlerItem::Payload(request.payload())]),
    }
}

fn value(json: &str) -> Value {
    serde_json::from_str(json).unwrap()
}

fn failure(answer: &str) -> (String, String, String) {
    match &Reply::parse(answer.to_owned().into()).unwrap()[..] {
        [
            ReplyItem::Error {
                code,
                details: Some(details),
            },
        ] => (
            code.clone(),
            details.exception().unwrap(),
            details.message().unwrap(),
        ),
        other => panic!("{other:?}"),
    }
}

fn expected_failure() -> (String, String, String) {
    (
        "processing_error".into(),
        "LookupError".into(),
        "missing thing".into(),
    )
}

/// As the wire has it: the length and the body, in hexadecimal digits.
fn v1_frame(body: &str) -> String {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let mut digits = String::new();
    for byte in length.iter().chain(body.as_bytes()) {
        write!(digits, "{byte:02x}").unwrap();
    }
    digits
}

#[tokio::test]
async fn old_sidecar_and_old_runtime() {
    let python = Python::old().await;
    for (request, expected, _) in EXCHANGES {
        assert_eq!(old_sidecar_calls(&python.socket(), request).await, expected);
    }
    let failed = old_sidecar_calls(&python.socket(), FAILING).await;
    assert_eq!(failure(&failed), expected_failure());
}

#[tokio::test]
async fn old_sidecar_and_new_python_runtime() {
    let python = Python::new().await;
    for (request, old, new) in EXCHANGES {
        let answer = old_sidecar_calls(&python.socket(), request).await;
        assert_eq!(answer, new);
        assert_eq!(value(&answer), value(old));
    }
    let failed = old_sidecar_calls(&python.socket(), FAILING).await;
    assert_eq!(failure(&failed), expected_failure());
}

#[tokio::test]
async fn old_sidecar_and_new_rust_runtime() {
    let v1 = Served::with(handle, |options| options.protocols = Protocols::V1Only).await;
    let both = Served::start(handle).await;
    for request in EXCHANGES
        .map(|(request, ..)| request)
        .into_iter()
        .chain([FAILING, "", "{", "{}"])
    {
        let answer = old_sidecar_calls(&both.options.socket(), request).await;
        // Nothing of v1 changes because v2 is there.
        assert_eq!(answer, old_sidecar_calls(&v1.options.socket(), request).await);
    }
    for (request, old, _) in EXCHANGES {
        let answer = old_sidecar_calls(&both.options.socket(), request).await;
        assert_eq!(value(&answer), value(old));
    }
    let failed = old_sidecar_calls(&both.options.socket(), FAILING).await;
    assert_eq!(failure(&failed), expected_failure());
}

#[tokio::test]
async fn new_sidecar_and_old_runtime() {
    let python = Python::old().await;
    assert_eq!(read_ready(python.dir.path()).unwrap(), Some(Ready { v2: None }));
    let mut expected_bytes = Vec::new();
    for (request, expected, _) in EXCHANGES {
        assert_eq!(new_sidecar_calls(python.dir.path(), request).await, expected);
        expected_bytes.push(v1_frame(request));
    }
    let failed = new_sidecar_calls(python.dir.path(), FAILING).await;
    assert_eq!(failure(&failed), expected_failure());
    expected_bytes.push(v1_frame(FAILING));
    // One connection for each request, and on it nothing but the frame.
    assert_eq!(python.received(expected_bytes.len()).await, expected_bytes);
    let served = Served::with(handle, |options| options.protocols = Protocols::V1Only).await;
    for (request, expected, _) in EXCHANGES {
        let answer = new_sidecar_calls(served.dir.path(), request).await;
        assert_eq!(value(&answer), value(expected));
    }
}

#[tokio::test]
async fn new_sidecar_and_new_runtime() {
    let python = Python::new().await;
    let served = Served::start(handle).await;
    for dir in [python.dir.path(), served.dir.path()] {
        assert!(read_ready(dir).unwrap().unwrap().v2.is_some());
        for request in EXCHANGES.map(|(request, ..)| request) {
            let answer = new_sidecar_calls(dir, request).await;
            let old = old_sidecar_calls(&dir.join("asya-runtime.sock"), request).await;
            assert_eq!(answer, old);
        }
        let failed = new_sidecar_calls(dir, FAILING).await;
        assert_eq!(failure(&failed), expected_failure());
    }
}

#[tokio::test]
async fn a_ready_file_that_a_killed_runtime_left_leads_nowhere() {
    let mut python = Python::new().await;
    let stale = read_ready(python.dir.path()).unwrap().unwrap().v2.unwrap();
    python.child.kill().unwrap();
    python.child.wait().unwrap();
    let refused = bounded(Control::connect(&stale, LIMIT)).await.map(|_| ());
    assert!(
        matches!(refused, Err(ConnectError::NotReachable(_))),
        "{refused:?}"
    );
    // Another one in its place, which says something else about itself.
    let served = Served::with(handle, |options| {
        options.socket_dir = python.dir.path().to_owned();
    })
    .await;
    let present = read_ready(python.dir.path()).unwrap().unwrap().v2.unwrap();
    assert_eq!(present.socket, stale.socket);
    assert_ne!(present.nonce, stale.nonce);
    let refused = bounded(Control::connect(&stale, LIMIT)).await.map(|_| ());
    assert!(matches!(refused, Err(ConnectError::Refused(_))), "{refused:?}");
    drop(served);
}
