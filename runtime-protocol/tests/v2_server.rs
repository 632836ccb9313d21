//! What the server for Rust handlers does over protocol v2 that other servers do in other ways.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use asya_runtime_protocol::v2::{Control, LinkError, LinkEvent, Request, WorkerLink};
use asya_runtime_protocol::{
    Handler, HandlerError, HandlerItem, RawJson, Reply, ReplyItem, RequestEnvelope, ServerOptions, read_ready,
};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Notify;

mod support;
use support::peer_v2::{ERROR, HELLO, WELCOME, frame, take};
use support::{LIMIT, Served, bounded, servers};

const ENVELOPE: &str = r#"{"id":"i","route":{"actors":["a"],"current":0},"payload":1}"#;

fn request() -> Request {
    Request {
        budget: None,
        attempt: 1,
        more: false,
        envelope: Bytes::from_static(ENVELOPE.as_bytes()),
    }
}

async fn start(
    handler: impl Handler,
    change: impl FnOnce(&mut ServerOptions),
) -> (Served, Control, WorkerLink) {
    let served = Served::with(handler, change).await;
    let advert = read_ready(served.dir.path()).unwrap().unwrap().v2.unwrap();
    let (mut control, _) = bounded(Control::connect(&advert, LIMIT)).await.unwrap();
    let id = servers::ready(&mut control).await;
    let link = WorkerLink::connect(&advert, id, 64 * 1024 * 1024, LIMIT);
    (served, control, bounded(link).await.unwrap())
}

async fn items(link: &mut WorkerLink) -> Vec<ReplyItem> {
    match bounded(link.next()).await.unwrap() {
        LinkEvent::Reply { items, .. } => Reply::parse(items).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_handler_knows_its_deadline_and_its_attempt() {
    let handler = async |request: RequestEnvelope| {
        let left = request
            .deadline
            .map(|end| end.saturating_duration_since(Instant::now()).as_secs());
        let text = format!(
            "[{},{}]",
            left.map_or("null".to_owned(), |left| left.to_string()),
            request.attempt
        );
        Ok(vec![HandlerItem::Payload(RawJson::parse(text).unwrap())])
    };
    let (served, _control, mut link) = start(handler, |_| {}).await;
    link.send(Request {
        budget: Some(Duration::from_hours(2)),
        attempt: 3,
        ..request()
    });
    link.send(request());
    let mut payloads = Vec::new();
    for _ in 0..2 {
        let [ReplyItem::Output { payload, .. }] = &items(&mut link).await[..] else {
            panic!("one item")
        };
        payloads.push(payload.as_str().to_owned());
    }
    // A second or more of the two hours may be gone.
    let left: (u64, u32) = serde_json::from_str(&payloads[0]).unwrap();
    assert!((7_000..=7_200).contains(&left.0) && left.1 == 3, "{payloads:?}");
    assert_eq!(payloads[1], "[null,1]");
    let [ReplyItem::Output { payload, .. }] = &Reply::parse(served.call(ENVELOPE).await).unwrap()[..] else {
        panic!("one item")
    };
    assert_eq!(payload.as_str(), "[null,1]", "over v1");
}

#[tokio::test]
async fn a_panic_costs_one_request() {
    let handler = async |request: RequestEnvelope| {
        assert!(request.attempt == 1, "attempt {}", request.attempt);
        Ok(vec![HandlerItem::Payload(request.payload())])
    };
    let (_served, _control, mut link) = start(handler, |_| {}).await;
    link.send(Request {
        attempt: 2,
        ..request()
    });
    link.send(request());
    let panicked = items(&mut link).await;
    let [
        ReplyItem::Error {
            code,
            details: Some(details),
        },
    ] = &panicked[..]
    else {
        panic!("{panicked:?}")
    };
    assert_eq!(code, "processing_error");
    assert_eq!(details.exception().unwrap(), "Panic");
    assert_eq!(details.message().unwrap(), "attempt 2");
    assert!(matches!(items(&mut link).await[..], [ReplyItem::Output { .. }]));
}

#[tokio::test]
async fn both_protocols_share_the_places_for_calls() {
    let (started, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (started, go_on) = (Arc::clone(&started), Arc::clone(&go_on));
        move |request: RequestEnvelope| {
            let (started, go_on) = (Arc::clone(&started), Arc::clone(&go_on));
            async move {
                started.notify_one();
                go_on.notified().await;
                Ok::<_, HandlerError>(vec![HandlerItem::Payload(request.payload())])
            }
        }
    };
    let (served, _control, mut link) =
        start(handler, |options| options.concurrency = NonZeroUsize::MIN).await;
    link.send(request());
    tokio::select! {
        () = started.notified() => {}
        event = link.next() => panic!("{event:?}"),
    }
    let client = served.client();
    let call = tokio::spawn(async move { client.call(ENVELOPE.into(), LIMIT).await.unwrap() });
    // The call over v1 waits for the one over v2, not the other way round.
    go_on.notify_one();
    items(&mut link).await;
    bounded(started.notified()).await;
    go_on.notify_one();
    assert_eq!(Reply::parse(bounded(call).await.unwrap()).unwrap().len(), 1);
}

#[tokio::test]
async fn answers_that_are_too_long_become_errors() {
    let handler = async |_: RequestEnvelope| {
        let text = format!("\"{}\"", "x".repeat(2_000));
        Ok(vec![HandlerItem::Payload(RawJson::parse(text).unwrap())])
    };
    let (_served, _control, mut link) = start(handler, |options| options.max_frame = 1_000).await;
    link.send(request());
    let [
        ReplyItem::Error {
            details: Some(details),
            ..
        },
    ] = &items(&mut link).await[..]
    else {
        panic!("an error")
    };
    assert!(details.message().unwrap().ends_with("the limit is 1000 bytes"));
}

#[tokio::test]
async fn half_a_frame_and_silence_end_the_connection_in_time() {
    let served = Served::with(support::echo, |options| {
        options.io_timeout = Duration::from_millis(100);
    })
    .await;
    let advert = read_ready(served.dir.path()).unwrap().unwrap().v2.unwrap();
    for connection in [
        r#""control""#.to_owned(),
        r#""worker","worker":0,"incarnation":1"#.to_owned(),
    ] {
        let mut stream = UnixStream::connect(&advert.socket).await.unwrap();
        let hello = format!(
            r#"{{"protocol":2,"nonce":"{}","connection":{connection},"client":"t"}}"#,
            advert.nonce
        );
        stream.write_all(&frame(HELLO, 0, 0, hello)).await.unwrap();
        assert_eq!(bounded(take(&mut stream)).await.unwrap().0, WELCOME);
        stream.write_all(&[0, 0, 0]).await.unwrap();
        let (kind, text) = loop {
            let (kind, _, _, text) = bounded(take(&mut stream)).await.unwrap();
            if kind != support::peer_v2::WORKER {
                break (kind, String::from_utf8(text).unwrap());
            }
        };
        assert_eq!(
            (kind, &*text),
            (ERROR, "a frame took longer than 100ms to arrive")
        );
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn who_does_not_read_is_not_worked_for() {
    const SIZE: usize = 1024 * 1024;
    let calls = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let handler = {
        let calls = Arc::clone(&calls);
        move |_: RequestEnvelope| {
            calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            async {
                let text = format!("\"{}\"", "x".repeat(SIZE));
                Ok::<_, HandlerError>(vec![HandlerItem::Payload(RawJson::parse(text).unwrap())])
            }
        }
    };
    let (_served, mut control, mut link) = start(handler, |_| {}).await;
    for _ in 0..50 {
        link.send(request());
    }
    // One answer is read; behind it the server fills the socket and what it may hold, and goes no further.
    items(&mut link).await;
    let mut done = 0;
    loop {
        // It has looked around since.
        control.ping(1);
        bounded(control.next()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = calls.load(std::sync::atomic::Ordering::SeqCst);
        if now == done {
            break;
        }
        done = now;
    }
    assert!((2..20).contains(&done), "{done} of 50 were run for nobody");
    for _ in 1..50 {
        assert!(matches!(items(&mut link).await[..], [ReplyItem::Output { .. }]));
    }
}

#[tokio::test]
async fn dropping_the_server_ends_its_connections() {
    let (served, mut control, mut link) = start(support::echo, |_| {}).await;
    served.abort();
    assert!(matches!(bounded(control.next()).await, Err(LinkError::Closed)));
    assert!(matches!(bounded(link.next()).await, Err(LinkError::Closed)));
    let path = served.options.socket();
    servers::until("the files are gone", || !path.exists()).await;
    assert_eq!(std::fs::read_dir(served.dir.path()).unwrap().count(), 0);
}
