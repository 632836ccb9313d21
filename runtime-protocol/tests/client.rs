//! The client against peers that misbehave, over real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use asya_runtime_protocol::{CallError, FrameError, RuntimeClient, wait_ready};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::sync::oneshot;

mod support;
use support::{LIMIT, bounded, peer};

const REQUEST: Bytes = Bytes::from_static(b"{\"id\":\"i\"}");
const SHORT: Duration = Duration::from_millis(50);

async fn take_request(stream: &mut UnixStream) -> Vec<u8> {
    let mut frame = vec![0; 4 + REQUEST.len()];
    stream.read_exact(&mut frame).await.unwrap();
    frame
}

#[tokio::test]
async fn a_request_is_one_length_and_one_body_and_so_is_the_answer() {
    let (_dir, client, peer) = peer(|mut stream| async move {
        let frame = take_request(&mut stream).await;
        // In pieces, as a socket may deliver it.
        for byte in b"\x00\x00\x00\x02[]" {
            stream.write_all(&[*byte]).await.unwrap();
        }
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        (frame, rest)
    });
    assert_eq!(bounded(client.call(REQUEST, LIMIT)).await.unwrap(), "[]");
    let (frame, rest) = bounded(peer).await.unwrap();
    assert_eq!(frame, b"\x00\x00\x00\x0a{\"id\":\"i\"}");
    assert_eq!(rest, b"", "the client must close after the answer");
}

#[tokio::test]
async fn an_empty_answer_is_an_answer() {
    let (_dir, client, _peer) = peer(|mut stream| async move {
        take_request(&mut stream).await;
        stream.write_all(&[0; 4]).await.unwrap();
    });
    assert_eq!(bounded(client.call(REQUEST, LIMIT)).await.unwrap(), "");
}

#[tokio::test]
async fn without_a_listener_nothing_was_sent() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let client = RuntimeClient::new(&socket, 1024);
    let error = bounded(client.call(REQUEST, LIMIT)).await.unwrap_err();
    assert!(matches!(error, CallError::NotReachable(_)), "{error:?}");
    assert!(
        error
            .to_string()
            .starts_with("failed to connect to runtime socket: "),
        "{error}"
    );
    // The socket of a process that is gone.
    drop(UnixListener::bind(&socket).unwrap());
    let error = bounded(client.call(REQUEST, LIMIT)).await.unwrap_err();
    assert!(matches!(error, CallError::NotReachable(_)), "{error:?}");
}

#[tokio::test]
async fn a_full_connection_queue_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let socket = UnixSocket::new_stream().unwrap();
    socket.bind(&path).unwrap();
    let listener = socket.listen(0).unwrap();
    let first = UnixStream::connect(&path).await.unwrap();
    let full = UnixStream::connect(&path).await.unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::WouldBlock);

    let client = RuntimeClient::new(&path, 1024);
    let error = bounded(client.call(REQUEST, SHORT)).await.unwrap_err();
    assert!(matches!(error, CallError::NotReachable(_)), "{error:?}");

    let call = tokio::spawn(async move { client.call(REQUEST, LIMIT).await });
    bounded(listener.accept()).await.unwrap();
    drop(first);
    let (mut stream, _) = bounded(listener.accept()).await.unwrap();
    take_request(&mut stream).await;
    stream.write_all(b"\x00\x00\x00\x02[]").await.unwrap();
    assert_eq!(bounded(call).await.unwrap().unwrap(), "[]");
}

#[tokio::test]
async fn a_peer_that_closes_early_is_told_from_one_that_was_never_there() {
    for (answer, expected) in [
        (&b""[..], "connection closed before a frame"),
        (
            b"\x00\x00",
            "connection closed inside the length prefix: 2 of 4 bytes",
        ),
        (
            b"\x00\x00\x00\x09[{}",
            "connection closed inside the body: 3 of 9 bytes",
        ),
    ] {
        let (_dir, client, _peer) = peer(move |mut stream| async move {
            take_request(&mut stream).await;
            stream.write_all(answer).await.unwrap();
        });
        let error = bounded(client.call(REQUEST, LIMIT)).await.unwrap_err();
        assert!(matches!(error, CallError::Read(_)), "{error:?}");
        assert_eq!(
            error.to_string(),
            format!("failed to read response from runtime: {expected}")
        );
    }
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_a_failure_to_send() {
    let (_dir, client, _peer) = peer(|stream| async move { drop(stream) });
    // More than the socket buffers, so that the write itself must notice.
    let big = Bytes::from(vec![b' '; 8 * 1024 * 1024]);
    let error = bounded(client.call(big, LIMIT)).await.unwrap_err();
    assert!(matches!(error, CallError::Send(FrameError::Io(_))), "{error:?}");
    assert!(
        error
            .to_string()
            .starts_with("failed to send message to runtime: "),
        "{error}"
    );
}

#[tokio::test]
async fn a_request_that_nobody_read_was_not_taken() {
    let (_dir, client, _peer) = peer(|stream| async move {
        // It is there, whole, and stays there.
        stream.readable().await.unwrap();
    });
    let error = bounded(client.call(REQUEST, LIMIT)).await.unwrap_err();
    assert!(matches!(error, CallError::Send(_)), "{error:?}");
    assert!(!error.handler_may_have_run());
}

#[tokio::test]
async fn an_answer_that_comes_before_the_request_was_taken_counts() {
    let (_dir, client, _peer) = peer(|mut stream| async move {
        stream
            .write_all(b"\x00\x00\x00\x0f[{\"error\":\"no\"}]")
            .await
            .unwrap();
    });
    let big = Bytes::from(vec![b' '; 8 * 1024 * 1024]);
    assert_eq!(
        bounded(client.call(big, LIMIT)).await.unwrap(),
        "[{\"error\":\"no\"}"
    );
}

#[tokio::test]
async fn four_gigabytes_are_refused_by_their_length_alone() {
    let (_dir, client, _peer) = peer(|mut stream| async move {
        take_request(&mut stream).await;
        stream.write_all(b"\xff\xff\xff\xff").await.unwrap();
        stream
    });
    let error = bounded(client.call(REQUEST, LIMIT)).await.unwrap_err();
    assert!(
        matches!(
            error,
            CallError::ReplyTooLarge {
                length: 0xffff_ffff,
                limit: 1_048_576
            }
        ),
        "{error:?}"
    );
    assert!(
        error
            .to_string()
            .starts_with("failed to read response from runtime: "),
        "{error}"
    );
}

#[tokio::test]
async fn the_limit_itself_is_allowed_and_one_more_is_not() {
    for (length, fits) in [(1_048_576_u32, true), (1_048_577, false)] {
        let (_dir, client, _peer) = peer(move |mut stream| async move {
            take_request(&mut stream).await;
            stream.write_all(&length.to_be_bytes()).await.unwrap();
            let body = vec![b' '; usize::try_from(length).unwrap()];
            // The client may have closed by now.
            let _ = stream.write_all(&body).await;
        });
        assert_eq!(bounded(client.call(REQUEST, LIMIT)).await.is_ok(), fits);
    }
}

#[tokio::test]
async fn time_covers_the_handler_and_every_half_of_a_frame() {
    for answer in [&b""[..], b"\x00\x00", b"\x00\x00\x00\x09[{}"] {
        let (closed, was_closed) = oneshot::channel();
        let (_dir, client, _peer) = peer(move |mut stream| async move {
            take_request(&mut stream).await;
            stream.write_all(answer).await.unwrap();
            closed.send(stream.read(&mut [0]).await.unwrap()).unwrap();
        });
        let error = bounded(client.call(REQUEST, SHORT)).await.unwrap_err();
        assert!(matches!(error, CallError::Timeout { after: SHORT }), "{error:?}");
        assert_eq!(error.to_string(), "Runtime timeout exceeded after 50ms");
        assert_eq!(
            bounded(was_closed).await.unwrap(),
            0,
            "the connection must not outlive the call"
        );
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_runs_into_the_limit() {
    let (_dir, client, peer) = peer(|stream| async move { stream });
    let big = Bytes::from(vec![b' '; 8 * 1024 * 1024]);
    let error = bounded(client.call(big, SHORT)).await.unwrap_err();
    assert!(matches!(error, CallError::Timeout { .. }), "{error:?}");
    drop(peer);
}

#[tokio::test]
async fn a_limit_beyond_every_clock_is_no_limit() {
    let (_dir, client, _peer) = peer(|mut stream| async move {
        take_request(&mut stream).await;
        stream.write_all(b"\x00\x00\x00\x02[]").await.unwrap();
    });
    assert_eq!(bounded(client.call(REQUEST, Duration::MAX)).await.unwrap(), "[]");
}

#[tokio::test]
async fn readiness_needs_the_file_and_a_listener() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let not_ready = |limit| wait_ready(dir.path(), &socket, limit);

    let error = bounded(not_ready(SHORT)).await.unwrap_err().to_string();
    assert!(
        error.starts_with("runtime not ready after 50ms: ready file "),
        "{error}"
    );
    // What a killed runtime leaves behind.
    std::fs::write(dir.path().join("runtime-ready"), "ready").unwrap();
    drop(UnixListener::bind(&socket).unwrap());
    let error = bounded(not_ready(SHORT)).await.unwrap_err().to_string();
    assert!(error.contains("onnection refused"), "{error}");

    let waiting = not_ready(LIMIT);
    let listening = async {
        std::fs::remove_file(&socket).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read(&mut [0]).await.unwrap()
    };
    let (ready, read) = bounded(async { tokio::join!(waiting, listening) }).await;
    ready.unwrap();
    assert_eq!(read, 0, "the check must close without a byte");
}

#[tokio::test]
async fn a_ready_runtime_is_seen_at_the_first_look() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let _listener = UnixListener::bind(&socket).unwrap();
    std::fs::write(dir.path().join("runtime-ready"), "ready").unwrap();
    // No time for a second look.
    wait_ready(dir.path(), &socket, Duration::from_millis(49))
        .await
        .unwrap();
}
