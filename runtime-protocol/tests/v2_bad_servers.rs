//! The sidecar's end of protocol v2 against servers that break it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use asya_runtime_protocol::v2::{
    Advert, ConnectError, Control, ControlEvent, LinkError, LinkEvent, Request, WorkerId, WorkerLink,
};
use bytes::Bytes;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

mod support;
use support::peer_v2::{
    CANCEL, ERROR, GOODBYE, ITEMS, NONCE, PARTIAL, PONG, PROGRESS, REPLY, STOPPING, WELCOME, WELCOME_CONTROL,
    WELCOME_WORKER, WORKER, frame, peer, take, welcome,
};
use support::{LIMIT, bounded};

const ID: WorkerId = WorkerId {
    worker: 0,
    incarnation: 1,
};
const MAX_FRAME: usize = 1024;
const SHORT: Duration = Duration::from_millis(50);

/// A link to a server that says `bytes` after its WELCOME, listens to the end, and tells what it heard.
async fn link_to(bytes: Vec<u8>) -> (TempDir, WorkerLink, oneshot::Receiver<Vec<u8>>) {
    let (tell, heard) = oneshot::channel();
    let (dir, advert, _peer) = peer(|mut stream| async move {
        welcome(&mut stream, WELCOME_WORKER).await;
        // A client may close before it has taken all of it.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all).await;
        let _ = tell.send(all);
    });
    let link = bounded(WorkerLink::connect(&advert, ID, MAX_FRAME, LIMIT)).await;
    (dir, link.unwrap(), heard)
}

fn request() -> Request {
    Request {
        budget: None,
        attempt: 1,
        more: false,
        envelope: Bytes::from_static(b"{}"),
    }
}

/// Events until the end of the link, with two requests under way: tags 1 and 2.
async fn all(link: &mut WorkerLink) -> (Vec<LinkEvent>, LinkError) {
    assert_eq!((link.send(request()), link.send(request())), (1, 2));
    let mut events = Vec::new();
    loop {
        match bounded(link.next()).await {
            Ok(event) => events.push(event),
            Err(error) => return (events, error),
        }
    }
}

#[tokio::test]
async fn whatever_breaks_the_rules_is_named_and_ends_the_link() {
    let mut reserved = frame(REPLY, 0, 1, "[]");
    reserved[7] = 9;
    let answered = frame(REPLY, 0, 1, "[]");
    for (bytes, expected) in [
        (vec![0xff; 100], "unknown frame type 0xff"),
        (b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), "unknown frame type 0x2f"),
        (frame(0x7e, 0, 1, ""), "unknown frame type 0x7e"),
        (
            frame(REPLY, 0, 99, "[]"),
            "REPLY with tag 99, which no unanswered request has",
        ),
        (
            frame(ITEMS, 0, 99, "[1]"),
            "ITEMS with tag 99, which no unanswered request has",
        ),
        (
            frame(PARTIAL, 0, 0, "1"),
            "PARTIAL with tag 0, which no unanswered request has",
        ),
        (
            [answered.clone(), answered].concat(),
            "REPLY with tag 1, which no unanswered request has",
        ),
        (reserved, "REPLY with 0x0009 where the header must be zero"),
        (frame(REPLY, 4, 1, "[]"), "REPLY with unknown flags 0x04"),
        (
            frame(REPLY, 0, 1, ""),
            "REPLY with a body of 0 bytes, at least 1 are needed",
        ),
        (
            frame(CANCEL, 0, 1, "123456789"),
            "CANCEL is not allowed from the server of a worker connection",
        ),
        (
            frame(STOPPING, 0, 0, ""),
            "STOPPING is not allowed from the server of a worker connection",
        ),
        (
            frame(WELCOME, 0, 0, "{}"),
            "WELCOME is not allowed from the server of a worker connection",
        ),
        (frame(GOODBYE, 0, 3, ""), "GOODBYE with tag 3, which must be 0"),
        (frame(PROGRESS, 0, 1, "[]x"), "PROGRESS cannot be read: "),
        (
            frame(PROGRESS, 0, 1, r#"{"fraction":1.5}"#),
            "PROGRESS with fraction 1.5, expected 0 to 1",
        ),
        (
            frame(PROGRESS, 0, 1, "x".repeat(65_537)),
            "PROGRESS with a body of 65537 bytes, the limit is 65536 bytes",
        ),
    ] {
        let (_dir, mut link, heard) = link_to(bytes).await;
        let (_, error) = all(&mut link).await;
        let LinkError::Protocol(text) = error else {
            panic!("{expected}: {error:?}")
        };
        assert!(text.starts_with(expected), "{text}, not {expected}");
        assert!(matches!(bounded(link.next()).await, Err(LinkError::Closed)));
        drop(link);
        // The server hears why.
        let heard = bounded(heard).await.unwrap();
        let told = frame(ERROR, 0, 0, &text);
        assert!(heard.ends_with(&told), "{expected}: {heard:?}");
    }
}

#[tokio::test]
async fn an_error_is_passed_on_without_what_could_disturb_a_log() {
    let text = format!("no\nmore\u{1b}[31m {}", "x".repeat(5_000));
    let (_dir, mut link, _heard) = link_to(frame(ERROR, 0, 0, text)).await;
    let (_, error) = all(&mut link).await;
    let LinkError::Remote(text) = error else {
        panic!("{error:?}")
    };
    assert!(text.starts_with("no more [31m xxx"), "{text}");
    assert_eq!(text.len(), 1024);
    assert_eq!(link.unanswered().collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test]
async fn a_server_may_end_at_any_byte() {
    let frames = [
        frame(ITEMS, 0, 2, "[1,2]"),
        frame(REPLY, 0, 2, "[3]"),
        frame(REPLY, 0, 1, "[]"),
    ];
    let bytes = frames.concat();
    let ends: Vec<_> = (1..=3).map(|count| frames[..count].concat().len()).collect();
    for length in 0..=bytes.len() {
        let (_dir, mut link, _heard) = link_to(bytes[..length].to_vec()).await;
        let (events, error) = all(&mut link).await;
        assert!(matches!(error, LinkError::Closed), "{error:?} after {length}");
        assert_eq!(events.len(), ends.iter().filter(|end| **end <= length).count());
        let left: &[u32] = match events.len() {
            0 | 1 => &[1, 2],
            2 => &[1],
            _ => &[],
        };
        assert_eq!(link.unanswered().collect::<Vec<_>>(), left);
    }
}

#[tokio::test]
async fn half_a_frame_and_silence_wait_and_lose_nothing() {
    let (go_on, may_go_on) = oneshot::channel::<()>();
    let (_dir, advert, _peer) = peer(|mut stream| async move {
        welcome(&mut stream, WELCOME_WORKER).await;
        let answer = frame(REPLY, 0, 1, "[1]");
        let (half, rest) = answer.split_at(13);
        stream.write_all(half).await.unwrap();
        may_go_on.await.unwrap();
        for byte in rest {
            stream.write_all(&[*byte]).await.unwrap();
        }
        take(&mut stream).await
    });
    let mut link = bounded(WorkerLink::connect(&advert, ID, MAX_FRAME, LIMIT))
        .await
        .unwrap();
    link.send(request());
    // Whoever waits may give up and wait again.
    for _ in 0..3 {
        assert!(timeout(SHORT, link.next()).await.is_err());
    }
    go_on.send(()).unwrap();
    let expected = LinkEvent::Reply {
        tag: 1,
        items: Bytes::from_static(b"[1]"),
    };
    assert_eq!(bounded(link.next()).await.unwrap(), expected);
}

#[tokio::test]
async fn an_answer_beyond_the_limit_ends_its_request_and_no_other() {
    let large = "x".repeat(MAX_FRAME + 1);
    let fits = "y".repeat(MAX_FRAME);
    let bytes = [
        frame(ITEMS, 0, 1, "[0]"),
        frame(ITEMS, 0, 1, &large),
        frame(ITEMS, 0, 1, "[1]"),
        frame(PARTIAL, 0, 1, &large),
        frame(PROGRESS, 0, 1, "{}"),
        frame(REPLY, 0, 1, &large),
        frame(PARTIAL, 0, 2, &fits),
        frame(REPLY, 0, 2, &large),
    ]
    .concat();
    let (_dir, mut link, _heard) = link_to(bytes).await;
    let (events, error) = all(&mut link).await;
    assert!(matches!(error, LinkError::Closed), "{error:?}");
    let too_large = |tag| LinkEvent::TooLarge {
        tag,
        length: MAX_FRAME + 1,
        limit: MAX_FRAME,
    };
    assert_eq!(
        events,
        [
            LinkEvent::Items {
                tag: 1,
                items: "[0]".into()
            },
            LinkEvent::ItemsTooLarge {
                tag: 1,
                length: MAX_FRAME + 1,
                limit: MAX_FRAME,
            },
            LinkEvent::Items {
                tag: 1,
                items: "[1]".into()
            },
            LinkEvent::Progress {
                tag: 1,
                fraction: None,
                message: None,
            },
            too_large(1),
            LinkEvent::Partial {
                tag: 2,
                value: fits.into()
            },
            too_large(2),
        ]
    );
    assert_eq!((link.unanswered().count(), link.unanswered_len()), (0, 0));
}

/// The most virtual memory that this process ever had, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmPeak:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn an_announced_length_of_two_gigabytes_takes_no_memory() {
    let before = peak();
    for max_frame in [MAX_FRAME, 3 << 30] {
        let (_dir, advert, _peer) = peer(|mut stream| async move {
            welcome(&mut stream, WELCOME_WORKER).await;
            let header = [0x80, 0, 0, 0, REPLY, 0, 0, 0, 0, 0, 0, 1];
            stream.write_all(&header).await.unwrap();
            stream.write_all(&vec![b' '; 1024 * 1024]).await.unwrap();
        });
        let link = WorkerLink::connect(&advert, ID, max_frame, LIMIT);
        let mut link = bounded(link).await.unwrap();
        link.send(request());
        if max_frame == MAX_FRAME {
            let expected = LinkEvent::TooLarge {
                tag: 1,
                length: 1 << 31,
                limit: MAX_FRAME,
            };
            assert_eq!(bounded(link.next()).await.unwrap(), expected);
        }
        assert!(matches!(bounded(link.next()).await, Err(LinkError::Closed)));
    }
    let grown = peak() - before;
    assert!(grown < 1 << 30, "{grown} bytes were claimed");
}

/// What connecting to a server comes to that says `bytes` and then ends.
async fn connect_to(bytes: Vec<u8>) -> Result<(), ConnectError> {
    let (_dir, advert, _peer) = peer(|mut stream| async move {
        take(&mut stream).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream
    });
    bounded(Control::connect(&advert, LIMIT)).await.map(|_| ())
}

#[tokio::test]
async fn without_a_welcome_there_is_no_connection() {
    let refused = connect_to(frame(ERROR, 0, 0, "not you")).await;
    assert!(
        matches!(&refused, Err(ConnectError::Refused(text)) if text == "not you"),
        "{refused:?}"
    );
    let no_batch = WELCOME_CONTROL.replace("batch", "other");
    let many = WELCOME_CONTROL.replace(r#""workers": 2"#, r#""workers": 4000000000"#);
    let wide = WELCOME_CONTROL.replace(r#""size": 4"#, r#""size": 65000"#);
    for (bytes, expected) in [
        (
            frame(WELCOME, 0, 0, "{}"),
            "WELCOME cannot be read: missing field",
        ),
        (frame(WELCOME, 0, 0, "nothing"), "WELCOME cannot be read: "),
        (
            frame(WELCOME, 0, 0, no_batch),
            "WELCOME cannot be read: missing field `batch`",
        ),
        (
            frame(WELCOME, 0, 0, WELCOME_CONTROL.replace(": 2, \"rev", ": 3, \"rev")),
            "WELCOME with protocol 3, expected 2",
        ),
        (
            frame(WELCOME, 0, 0, many),
            "WELCOME with workers 4000000000, expected 1 to 4096",
        ),
        (
            frame(WELCOME, 0, 0, wide),
            "WELCOME with concurrency × batch.size 195000, expected 1 to 65536",
        ),
        (
            frame(
                WELCOME,
                0,
                0,
                WELCOME_CONTROL.replace("\"concurrency\": 3", "\"concurrency\": 0"),
            ),
            "WELCOME with concurrency 0, expected 1 to 65536",
        ),
        (
            frame(WELCOME, 0, 5, WELCOME_CONTROL),
            "WELCOME with tag 5, which must be 0",
        ),
        (frame(WORKER, 0, 0, "{}"), "WORKER is not allowed before WELCOME"),
        (b"\x00\x00\x00\x02[]garbage".to_vec(), "unknown frame type 0x5b"),
    ] {
        match connect_to(bytes).await {
            Err(ConnectError::Ended(LinkError::Protocol(text))) => {
                assert!(text.starts_with(expected), "{text}, not {expected}");
            }
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_is_gone_or_silent_is_no_connection() {
    let (dir, advert, _peer) = peer(|mut stream| async move {
        take(&mut stream).await.unwrap();
    });
    let closed = bounded(Control::connect(&advert, LIMIT)).await.map(|_| ());
    assert!(
        matches!(closed, Err(ConnectError::Ended(LinkError::Closed))),
        "{closed:?}"
    );
    let gone = Advert {
        socket: dir.path().join("gone"),
        nonce: NONCE.to_owned(),
    };
    let gone = bounded(Control::connect(&gone, LIMIT)).await.map(|_| ());
    assert!(matches!(gone, Err(ConnectError::NotReachable(_))), "{gone:?}");
    let (_dir, advert, _peer) = peer(|mut stream: UnixStream| async move {
        let welcome = frame(WELCOME, 0, 0, WELCOME_CONTROL);
        stream.write_all(&welcome[..40]).await.unwrap();
        std::future::pending::<()>().await;
    });
    let silent = bounded(Control::connect(&advert, SHORT)).await.map(|_| ());
    assert!(
        matches!(silent, Err(ConnectError::TimedOut { after: SHORT })),
        "{silent:?}"
    );
}

#[tokio::test]
async fn a_control_connection_is_as_strict() {
    let ready = r#"{"worker": 0, "incarnation": 1, "state": "ready"}"#;
    for (bytes, expected) in [
        (
            frame(WORKER, 0, 1, ready),
            "WORKER with tag 1 about worker 0 of 2",
        ),
        (
            frame(WORKER, 0, 7, ready.replace("\"worker\": 0", "\"worker\": 7")),
            "WORKER with tag 7 about worker 7 of 2",
        ),
        (
            frame(WORKER, 0, 0, ready.replace("ready", "dancing")),
            "WORKER cannot be read: unknown variant",
        ),
        (
            frame(WORKER, 0, 0, ready.replace("state", "mood")),
            "WORKER cannot be read: missing field `state`",
        ),
        (
            frame(REPLY, 0, 1, "[]"),
            "REPLY is not allowed from the server of a control connection",
        ),
        (
            frame(PONG, 0, 1, "x"),
            "PONG with a body of 1 bytes, the limit is 0 bytes",
        ),
    ] {
        let (_dir, advert, _peer) = peer(move |mut stream| async move {
            welcome(&mut stream, WELCOME_CONTROL).await;
            stream.write_all(&frame(WORKER, 0, 0, ready)).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
            take(&mut stream).await
        });
        let (mut control, _) = bounded(Control::connect(&advert, LIMIT)).await.unwrap();
        assert!(matches!(
            bounded(control.next()).await.unwrap(),
            ControlEvent::Worker(ID, _)
        ));
        match bounded(control.next()).await {
            Err(LinkError::Protocol(text)) => assert!(text.starts_with(expected), "{text}, not {expected}"),
            other => panic!("{expected}: {other:?}"),
        }
        assert!(matches!(bounded(control.next()).await, Err(LinkError::Closed)));
    }
}
