//! Clients that break the rules, or say nothing.

use asya_runtime_protocol::v2::{ConnectError, Control, WorkerId, WorkerLink};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::support::peer_v2::{ERROR, GOODBYE, HELLO, PONG, REPLY, REQUEST, WELCOME, frame, take};
use crate::support::servers::{Kind, Server, Settings};
use crate::support::{LIMIT, bounded};
use crate::{envelope, serves};

cases! {
    a_hello_that_is_not_meant_for_it_is_refused_with_a_reason
    broken_frames_end_their_own_connection_only
    a_connection_may_end_at_any_byte
    rules_about_requests_are_enforced
    who_says_nothing_makes_room
}

async fn a_hello_that_is_not_meant_for_it_is_refused_with_a_reason(kind: Kind) {
    let server = Server::start(kind, Settings::default()).await;
    let (_control, _, id) = server.control().await;
    let mut stale = server.advert.clone();
    "0123456789abcdef".clone_into(&mut stale.nonce);
    let refused = bounded(Control::connect(&stale, LIMIT)).await.map(|_| ());
    assert!(
        matches!(&refused, Err(ConnectError::Refused(text)) if text.contains("nonce")),
        "{refused:?}"
    );
    for wrong in [
        WorkerId { worker: 1, ..id },
        WorkerId {
            incarnation: id.incarnation + 1,
            ..id
        },
    ] {
        let refused = bounded(WorkerLink::connect(&server.advert, wrong, 1024, LIMIT)).await;
        assert!(matches!(&refused, Err(ConnectError::Refused(_))), "{refused:?}");
    }
    let nonce = &server.advert.nonce;
    for hello in [
        format!(r#"{{"protocol":3,"nonce":"{nonce}","connection":"control","client":"t"}}"#),
        format!(r#"{{"protocol":2,"nonce":"{nonce}","connection":"other","client":"t"}}"#),
        format!(r#"{{"protocol":2,"nonce":"{nonce}","connection":"worker","client":"t"}}"#),
        "[]".to_owned(),
        "{ ".to_owned(),
    ] {
        let mut stream = UnixStream::connect(&server.advert.socket).await.unwrap();
        stream.write_all(&frame(HELLO, 0, 0, &hello)).await.unwrap();
        ends_with_error(&mut stream, &hello).await;
    }
    serves(&server).await;
}

async fn ends_with_error(stream: &mut UnixStream, why: &str) {
    let last = bounded(take(stream)).await;
    let (kind, _, _, text) = last.unwrap_or_else(|| panic!("closed: {why}"));
    assert_eq!(kind, ERROR, "{why}");
    assert!(
        !text.is_empty() && std::str::from_utf8(&text).is_ok(),
        "{why}: {text:?}"
    );
    assert_eq!(bounded(take(stream)).await, None, "{why}");
}

fn hello(server: &Server, id: WorkerId) -> Vec<u8> {
    frame(
        HELLO,
        0,
        0,
        format!(
            r#"{{"protocol":2,"revision":9,"nonce":"{}","connection":"worker","worker":{},"incarnation":{},"client":"t","x":1}}"#,
            server.advert.nonce, id.worker, id.incarnation
        ),
    )
}

/// A worker connection that the test writes by itself.
async fn raw_link(server: &Server, id: WorkerId) -> UnixStream {
    let mut stream = UnixStream::connect(&server.advert.socket).await.unwrap();
    stream.write_all(&hello(server, id)).await.unwrap();
    let (kind, ..) = bounded(take(&mut stream)).await.unwrap();
    assert_eq!(kind, WELCOME);
    stream
}

fn raw_request(flags: u8, tag: u32, payload: &str) -> Vec<u8> {
    let body = [&[0xff; 4], &[0, 0, 0, 1], &envelope("i", payload)[..]].concat();
    frame(REQUEST, flags, tag, body)
}

fn raw_hold(tag: u32) -> Vec<u8> {
    raw_request(0, tag, r#"{"do":"hold","name":"a"}"#)
}

async fn broken_frames_end_their_own_connection_only(kind: Kind) {
    let server = Server::start(kind, Settings::default()).await;
    let (_control, _, id) = server.control().await;
    let mut reserved = raw_request(0, 1, "1");
    reserved[6] = 1;
    for (bytes, why) in [
        (frame(0x7f, 0, 1, ""), "an unknown type"),
        (frame(REPLY, 0, 1, "[]"), "the other direction"),
        (frame(HELLO, 0, 0, "{}"), "a second HELLO"),
        (frame(PONG, 0, 1, ""), "a type of the other connection"),
        (raw_request(2, 1, "1"), "unknown flags"),
        (reserved, "bytes that must be zero"),
        (frame(REQUEST, 0, 1, "1234567"), "a body that is too short"),
        (frame(GOODBYE, 0, 0, "x"), "a GOODBYE with a body"),
    ] {
        let mut stream = raw_link(&server, id).await;
        stream.write_all(&bytes).await.unwrap();
        ends_with_error(&mut stream, why).await;
    }
    // Before HELLO nothing else is listened to.
    let mut stream = UnixStream::connect(&server.advert.socket).await.unwrap();
    stream.write_all(&raw_request(0, 1, "1")).await.unwrap();
    ends_with_error(&mut stream, "a REQUEST before HELLO").await;
    // A length of 2 GiB costs nothing but the connection.
    let mut stream = UnixStream::connect(&server.advert.socket).await.unwrap();
    let header = [0x80, 0, 0, 0, HELLO, 0, 0, 0, 0, 0, 0, 0];
    stream.write_all(&header).await.unwrap();
    ends_with_error(&mut stream, "2 GiB").await;
    serves(&server).await;
}

async fn a_connection_may_end_at_any_byte(kind: Kind) {
    let server = Server::start(kind, Settings::default()).await;
    let (_control, _, id) = server.control().await;
    let bytes = [hello(&server, id), raw_request(0, 1, "1")].concat();
    for length in 0..bytes.len() {
        let mut stream = UnixStream::connect(&server.advert.socket).await.unwrap();
        stream.write_all(&bytes[..length]).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        // Closed with or without a WELCOME, by an end or by a reset: it must only be closed.
        let _ = bounded(stream.read_to_end(&mut rest)).await;
    }
    serves(&server).await;
}

async fn rules_about_requests_are_enforced(kind: Kind) {
    let server = Server::start(kind, Settings::default()).await;
    let (_control, _, id) = server.control().await;
    let twice = [raw_hold(1), raw_hold(1)].concat();
    let batch = [raw_request(1, 1, "1"), raw_request(0, 2, "1")].concat();
    let many: Vec<u8> = (1..=1026).flat_map(raw_hold).collect();
    for (bytes, why) in [
        (twice, "a tag twice"),
        (batch, "a batch of two where one is the most"),
        (many, "more than window + 1024"),
    ] {
        let mut stream = raw_link(&server, id).await;
        stream.write_all(&bytes).await.unwrap();
        ends_with_error(&mut stream, why).await;
    }
    serves(&server).await;
}

async fn who_says_nothing_makes_room(kind: Kind) {
    let server = Server::start(kind, Settings::default()).await;
    let mut silent = Vec::new();
    for _ in 0..17 {
        silent.push(UnixStream::connect(&server.advert.socket).await.unwrap());
    }
    // The oldest makes room for the seventeenth, the others go when their time is up.
    assert_eq!(bounded(silence(&mut silent[0])).await, None);
    serves(&server).await;
    for stream in &mut silent {
        assert_eq!(bounded(silence(stream)).await, None);
    }
}

/// Nothing, or an ERROR that says why, and then the end.
async fn silence(stream: &mut UnixStream) -> Option<u8> {
    let (kind, ..) = take(stream).await?;
    assert_eq!(kind, ERROR);
    take(stream).await.map(|(kind, ..)| kind)
}
