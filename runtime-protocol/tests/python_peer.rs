//! The Rust client against the Python runtime as a real process: the same bytes on both ends of protocol v1.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use asya_runtime_protocol::{CallError, Envelope, Reply, ReplyItem, RuntimeClient, wait_ready};
use bytes::Bytes;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

mod support;
use support::{LIMIT, bounded, nested};

const HANDLERS: &str = r#"
import os, sys

def echo(payload):
    return payload

def fan(payload):
    return [payload, None, payload]

def nothing(payload):
    return None

def fail(payload):
    raise KeyError("missing thing")

class Outage(ConnectionError):
    pass

def outage(payload):
    raise Outage("gone")

def leave(payload):
    sys.exit(3)

def die(payload):
    os._exit(3)

def reroute(envelope):
    envelope["route"]["actors"].append("extra")
    envelope["route"]["current"] += 1
    envelope["headers"] = {"set": "by handler"}
    return envelope
"#;

/// The runtime with one of the handlers above.
struct Python {
    child: Child,
    dir: TempDir,
    client: RuntimeClient,
}

impl Drop for Python {
    fn drop(&mut self) {
        // It may have ended by itself; what counts is that it is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Python {
    async fn start(handler: &str, variables: &[(&str, &str)]) -> Self {
        let runtime = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/asya_runtime.py");
        assert!(runtime.is_file(), "{} is missing", runtime.display());
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("peer_handlers.py"), HANDLERS).unwrap();
        let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
        let child = Command::new(python)
            .arg(runtime)
            .env("ASYA_HANDLER", format!("peer_handlers.{handler}"))
            .env("ASYA_SOCKET_DIR", dir.path())
            .env("PYTHONPATH", dir.path())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let socket = dir.path().join("asya-runtime.sock");
        let python = Self {
            child,
            client: RuntimeClient::new(&socket, 64 * 1024 * 1024),
            dir,
        };
        wait_ready(python.dir.path(), &socket, LIMIT).await.unwrap();
        python
    }

    fn socket(&self) -> PathBuf {
        self.client.socket().to_owned()
    }

    async fn call(&self, request: impl Into<Bytes>) -> Bytes {
        bounded(self.client.call(request.into(), LIMIT)).await.unwrap()
    }

    async fn items(&self, request: impl Into<Bytes>) -> Vec<ReplyItem> {
        Reply::parse(self.call(request).await).unwrap()
    }

    /// The only item's code, message and exception.
    async fn error(&self, request: impl Into<Bytes>) -> (String, String, String) {
        let items = self.items(request).await;
        let [
            ReplyItem::Error {
                code,
                details: Some(details),
            },
        ] = &items[..]
        else {
            panic!("{items:?}")
        };
        (
            code.clone(),
            details.message().unwrap(),
            details.exception().unwrap(),
        )
    }

    async fn is_alive(&self) {
        let items = self.items(request("1")).await;
        assert_eq!(items.len(), 1, "{items:?}");
    }
}

fn request(payload: &str) -> String {
    format!(
        r#"{{"id":"i","route":{{"actors":["a","b"],"current":0}},"headers":{{"h":1.5}},"payload":{payload}}}"#
    )
}

fn output(item: &ReplyItem) -> (&str, i64, Vec<&str>) {
    let ReplyItem::Output {
        payload,
        route: Some(route),
        ..
    } = item
    else {
        panic!("{item:?}")
    };
    (
        payload.as_str(),
        route.current,
        route.actors.iter().map(String::as_str).collect(),
    )
}

#[tokio::test]
async fn an_echo_comes_back_one_position_on() {
    let python = Python::start("echo", &[]).await;
    let items = python.items(request("12345678901234567890")).await;
    assert_eq!(
        items.iter().map(output).collect::<Vec<_>>(),
        [("12345678901234567890", 1, vec!["a", "b"])]
    );
    let ReplyItem::Output { headers, .. } = items.into_iter().next().unwrap() else {
        unreachable!()
    };
    assert_eq!(headers.or_input(None).unwrap().get("h").unwrap().as_str(), "1.5");
}

#[tokio::test]
async fn text_survives_with_its_lone_surrogates() {
    let python = Python::start("echo", &[]).await;
    for text in [
        r#""\u00e9\ud83d\ude00""#,
        r#""\ud800""#,
        "\"é😀\u{2028}\"",
        r#""""#,
    ] {
        let [ReplyItem::Output { payload, .. }] = &python.items(request(text)).await[..] else {
            panic!("{text}")
        };
        // Escapes may be spelt differently; what they stand for may not differ.
        if let Ok(text) = serde_json::from_str::<String>(text) {
            assert_eq!(payload.to_text().unwrap(), text);
        } else {
            assert_eq!(payload.as_str(), text);
        }
    }
}

#[tokio::test]
async fn the_readiness_check_and_broken_frames_leave_it_working() {
    let python = Python::start("echo", &[]).await;
    for part in [&b""[..], b"\x00\x00", b"\x00\x00\x00\xff{"] {
        let mut stream = UnixStream::connect(python.socket()).await.unwrap();
        stream.write_all(part).await.unwrap();
        drop(stream);
        python.is_alive().await;
    }
    let ready = std::fs::read_to_string(python.dir.path().join("runtime-ready")).unwrap();
    assert!(ready.starts_with("ready\nv2 "), "{ready}");
}

#[tokio::test]
async fn length_and_body_may_come_in_any_pieces() {
    let python = Python::start("echo", &[]).await;
    let body = request("1");
    let mut stream = UnixStream::connect(python.socket()).await.unwrap();
    let frame = [
        &u32::try_from(body.len()).unwrap().to_be_bytes()[..],
        body.as_bytes(),
    ]
    .concat();
    for byte in frame {
        stream.write_all(&[byte]).await.unwrap();
    }
    let mut answer = Vec::new();
    bounded(stream.read_to_end(&mut answer)).await.unwrap();
    let (length, answer) = answer.split_at(4);
    assert_eq!(
        length,
        u32::try_from(answer.len()).unwrap().to_be_bytes(),
        "one frame, then the end"
    );
    assert_eq!(Reply::parse(Bytes::copy_from_slice(answer)).unwrap().len(), 1);
}

#[tokio::test]
async fn bad_requests_are_answered_and_survived() {
    let python = Python::start("echo", &[]).await;
    for (request, exception, part) in [
        (&b""[..], "JSONDecodeError", ""),
        (b"{", "JSONDecodeError", ""),
        (b"\xff", "UnicodeDecodeError", ""),
        (
            b"{}",
            "ValueError",
            "Missing required field 'payload' in envelope",
        ),
        (
            b"{\"payload\":1}",
            "ValueError",
            "Missing required field 'route' in envelope",
        ),
        (
            b"{\"payload\":1,\"route\":[]}",
            "ValueError",
            "Field 'route' must be a dict",
        ),
        (
            b"{\"payload\":1,\"route\":{\"actors\":[]}}",
            "ValueError",
            "Field 'route.actors' cannot be empty",
        ),
        (
            b"{\"payload\":1,\"route\":{\"actors\":[\"a\"],\"current\":2}}",
            "ValueError",
            "Invalid route.current=2",
        ),
    ] {
        let (code, message, found) = python.error(request).await;
        assert_eq!(
            (code.as_str(), found.as_str()),
            ("msg_parsing_error", exception),
            "{message}"
        );
        assert!(message.contains(part), "{message}");
        python.is_alive().await;
    }
}

#[tokio::test]
async fn depth_and_size_end_in_an_answer() {
    let python = Python::start("echo", &[]).await;
    assert_eq!(
        python.error(request(&nested(200_000))).await.0,
        "msg_parsing_error"
    );
    python.is_alive().await;
    // 64 MiB with its shell: the largest frame that both sides take.
    let shell = request("\"\"").len();
    let payload = format!("\"{}\"", "x".repeat(64 * 1024 * 1024 - shell - 64));
    let items = python.items(request(&payload)).await;
    let [ReplyItem::Output { payload: back, .. }] = &items[..] else {
        panic!("{items:?}")
    };
    assert!(back.as_str() == payload);
    python.is_alive().await;
}

#[tokio::test]
async fn a_frame_over_the_limit_is_refused_with_a_reason() {
    let python = Python::start("echo", &[("ASYA_MAX_MESSAGE_SIZE", "4096")]).await;
    let payload = format!("\"{}\"", "x".repeat(8 * 1024 * 1024));
    let (code, message, _) = python.error(request(&payload)).await;
    assert!(
        ["connection_error", "msg_parsing_error"].contains(&code.as_str()),
        "{code}: {message}"
    );
    python.is_alive().await;
    let mut stream = UnixStream::connect(python.socket()).await.unwrap();
    stream.write_all(b"\xff\xff\xff\xff").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    bounded(stream.read_to_end(&mut answer)).await.unwrap();
    python.is_alive().await;
}

#[tokio::test]
async fn results_become_items() {
    let fan = Python::start("fan", &[]).await;
    let items = fan.items(request("7")).await;
    let route = || vec!["a", "b"];
    assert_eq!(
        items.iter().map(output).collect::<Vec<_>>(),
        [("7", 1, route()), ("null", 1, route()), ("7", 1, route())]
    );
    let nothing = Python::start("nothing", &[]).await;
    assert_eq!(nothing.call(request("7")).await, "[]");
}

#[tokio::test]
async fn an_envelope_handler_changes_the_route_and_the_headers() {
    let python = Python::start("reroute", &[("ASYA_HANDLER_MODE", "envelope")]).await;
    let items = python.items(request("7")).await;
    assert_eq!(
        items.iter().map(output).collect::<Vec<_>>(),
        [("7", 1, vec!["a", "b", "extra"])]
    );
    let ReplyItem::Output { headers, .. } = items.into_iter().next().unwrap() else {
        unreachable!()
    };
    assert_eq!(
        headers.or_input(None).unwrap().get("set").unwrap().as_str(),
        "\"by handler\""
    );
}

#[tokio::test]
async fn whatever_the_envelope_needed_the_runtime_reads_the_normalised_request() {
    let python = Python::start("echo", &[]).await;
    for body in [
        r#"{"id":"i","route":{"steps":["a","b"]},"payload":7}"#,
        r#"{"id":"i","headers":null,"route":{"actors":["a","b"],"current":null},"payload":7}"#,
        r#"{"ID":"i","ROUTE":{"Actors":["a","b"],"Current":0},"Payload":7}"#,
        r#"{"id":"i","route":{"actors":["x"]},"route":{"actors":["a","b"]},"payload":8,"payload":7}"#,
    ] {
        let request = Envelope::parse(&Bytes::from_static(body.as_bytes()))
            .unwrap()
            .runtime_request();
        let items = python.items(request).await;
        assert_eq!(
            items.iter().map(output).collect::<Vec<_>>(),
            [("7", 1, vec!["a", "b"])],
            "{body}"
        );
    }
}

#[tokio::test]
async fn failures_of_the_handler_are_told_and_survived() {
    for (handler, exception) in [("fail", "KeyError"), ("leave", "SystemExit")] {
        let python = Python::start(handler, &[]).await;
        for _ in 0..2 {
            let (code, _, found) = python.error(request("1")).await;
            assert_eq!((code.as_str(), found.as_str()), ("processing_error", exception));
        }
    }
}

#[tokio::test]
async fn the_classes_of_an_exception_are_named() {
    let python = Python::start("outage", &[]).await;
    let items = python.items(request("1")).await;
    let [
        ReplyItem::Error {
            details: Some(details),
            ..
        },
    ] = &items[..]
    else {
        panic!("{items:?}")
    };
    assert_eq!(details.exception().as_deref(), Some("Outage"));
    let module = details.exceptions().remove(0);
    assert!(module.ends_with(".Outage"), "{module}");
    assert_eq!(
        details.exceptions()[1..],
        ["ConnectionError", "OSError", "Exception"]
    );
}

#[tokio::test]
async fn a_worker_that_dies_in_a_call_is_a_lost_answer_and_is_replaced() {
    let mut python = Python::start("die", &[]).await;
    for _ in 0..2 {
        let error = bounded(python.client.call(request("1").into(), LIMIT))
            .await
            .unwrap_err();
        assert!(
            matches!(error, CallError::Read(_)) && error.handler_may_have_run(),
            "{error:?}"
        );
    }
    assert!(python.child.try_wait().unwrap().is_none(), "the runtime lives on");
    python.child.kill().unwrap();
    python.child.wait().unwrap();
    let error = bounded(python.client.call(request("1").into(), LIMIT))
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::NotReachable(_)), "{error:?}");
}
