//! Peers that are slow, silent or too many.

use std::time::Duration;

use asya_gateway::http::HttpOptions;
use asya_gateway::server::ServerOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Rig, read_to_end, soon};

fn impatient() -> ServerOptions {
    ServerOptions {
        header_timeout: Duration::from_millis(200),
        ..ServerOptions::default()
    }
}

#[tokio::test]
async fn a_head_that_comes_drop_by_drop_is_not_waited_for() {
    let rig = Rig::with(HttpOptions::default(), impatient()).await;
    for beginning in ["", "P", "PRI * HTTP/2.0\r\n", "GET /health HTTP/1.1\r\nX: "] {
        let mut stream = rig.connect().await;
        stream.write_all(beginning.as_bytes()).await.unwrap();
        let dripping = async {
            // Something always comes, and never enough.
            while stream.write_all(b"x").await.is_ok() {
                let mut answer = [0; 1];
                let read = tokio::time::timeout(Duration::from_millis(20), stream.read(&mut answer)).await;
                if matches!(read, Ok(Ok(0) | Err(_))) {
                    return;
                }
            }
        };
        if beginning.starts_with("GET") {
            soon("the end of the connection", dripping).await;
        } else {
            drop(dripping);
            assert_eq!(read_to_end(&mut stream).await, "", "{beginning:?}");
        }
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let options = HttpOptions {
        body_timeout: Duration::from_millis(200),
        ..HttpOptions::default()
    };
    let rig = Rig::with(options, ServerOptions::default()).await;
    for path in [
        "/tools/call",
        "/envelopes",
        "/envelopes/e/progress",
        "/envelopes/e/final",
    ] {
        let answer = rig
            .raw(format!(
                "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{\"name\""
            ))
            .await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_431() {
    let rig = Rig::start().await;
    let large = format!(
        "GET /health HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n",
        "x".repeat(70_000)
    );
    assert!(rig.raw(large).await.starts_with("HTTP/1.1 431 "));
    let many = format!(
        "GET /health HTTP/1.1\r\nHost: x\r\n{}\r\n",
        "X: y\r\n".repeat(200)
    );
    assert!(rig.raw(many).await.starts_with("HTTP/1.1 431 "));
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(66_000));
    let answer = rig.raw(long).await;
    assert!(
        answer.starts_with("HTTP/1.1 414 ") || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );
    assert_eq!(rig.get("/health").await.text, "OK\n");
}

#[tokio::test]
async fn what_is_no_http_is_400() {
    let rig = Rig::start().await;
    for bytes in [
        &b"nonsense\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
    ] {
        let answer = rig.raw(bytes).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
            "{answer}"
        );
    }
    assert_eq!(rig.get("/health").await.text, "OK\n");
}

#[tokio::test]
async fn a_thousand_idle_streams_disturb_nobody() {
    let rig = Rig::start().await;
    rig.child("idle").await;
    let mut streams = Vec::new();
    for _ in 0..1000 {
        let mut stream = rig.connect().await;
        stream
            .write_all(b"GET /envelopes/idle/stream HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        streams.push(stream);
    }
    for stream in &mut streams {
        let mut head = [0; 15];
        soon("the head", stream.read_exact(&mut head)).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");
    }
    let id = rig.call().await;
    rig.succeed(&id, "1").await.json();
    rig.succeed("idle", "2").await.json();
    for stream in &mut streams {
        let rest = read_to_end(stream).await;
        assert!(
            rest.contains(r#""status":"succeeded""#) && rest.ends_with("0\r\n\r\n"),
            "{rest}"
        );
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_their_turn() {
    let options = ServerOptions {
        max_connections: 2,
        ..impatient()
    };
    let rig = Rig::with(HttpOptions::default(), options).await;
    // Two that say nothing hold all places until their time is over.
    let _idle = [rig.connect().await, rig.connect().await];
    assert_eq!(rig.get("/health").await.text, "OK\n");
}
