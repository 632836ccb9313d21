//! The sidecar's end of protocol v2 against servers that follow it, byte by byte.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use asya_runtime_protocol::v2::{
    CancelReason, Control, ControlEvent, Gone, LinkError, LinkEvent, Request, Welcome, WorkerId, WorkerLink,
    WorkerState,
};
use bytes::Bytes;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

mod support;
use support::peer_v2::{
    CANCEL, GOODBYE, ITEMS, KILL, NONCE, PARTIAL, PING, PONG, PROGRESS, REPLY, REQUEST, STOPPING,
    WELCOME_CONTROL, WELCOME_WORKER, WORKER, frame, peer, take, welcome,
};
use support::{LIMIT, bounded};

const ID: WorkerId = WorkerId {
    worker: 1,
    incarnation: 3,
};

fn request(envelope: impl Into<Bytes>) -> Request {
    Request {
        budget: None,
        attempt: 1,
        more: false,
        envelope: envelope.into(),
    }
}

#[tokio::test]
async fn the_control_connection_tells_what_the_server_offers_and_how_its_workers_are() {
    let (_dir, advert, peer) = peer(|mut stream| async move {
        let hello = welcome(&mut stream, WELCOME_CONTROL).await;
        for (tag, body) in [
            (0, r#"{"worker": 0, "incarnation": 1, "state": "starting"}"#),
            (
                1,
                r#"{"worker": 1, "incarnation": 3, "state": "ready", "pid": 4711, "more": 1}"#,
            ),
            (
                1,
                r#"{"worker": 1, "incarnation": 3, "state": "gone", "signal": 9, "signal_name": "SIGKILL", "exit_code": null, "oom": false, "killed": true, "reason": "slow"}"#,
            ),
        ] {
            stream.write_all(&frame(WORKER, 0, tag, body)).await.unwrap();
        }
        stream.write_all(&frame(STOPPING, 0, 0, "")).await.unwrap();
        let mut came = Vec::new();
        while let Some(one) = take(&mut stream).await {
            let (kind, _, tag, _) = one;
            came.push(one);
            match kind {
                PING => stream.write_all(&frame(PONG, 0, tag, "")).await.unwrap(),
                GOODBYE => break,
                _ => {}
            }
        }
        (hello, came)
    });
    let (mut control, offered) = bounded(Control::connect(&advert, LIMIT)).await.unwrap();
    assert_eq!(
        offered,
        Welcome {
            server: "peer/1".to_owned(),
            workers: 2,
            concurrency: 3,
            batch_size: 4,
            batch_wait: Duration::from_millis(20),
            stream: true,
            cancel_grace: Duration::from_secs(5),
            max_message_size: 1024,
        }
    );
    assert_eq!(offered.window(), 12);
    let gone = Gone {
        signal: Some(9),
        signal_name: Some("SIGKILL".to_owned()),
        killed: true,
        reason: "slow".to_owned(),
        ..Gone::default()
    };
    let first = WorkerId {
        worker: 0,
        incarnation: 1,
    };
    for expected in [
        ControlEvent::Worker(first, WorkerState::Starting),
        ControlEvent::Worker(ID, WorkerState::Ready { pid: Some(4711) }),
        ControlEvent::Worker(ID, WorkerState::Gone(gone)),
        ControlEvent::Stopping,
    ] {
        assert_eq!(bounded(control.next()).await.unwrap(), expected);
    }
    control.cancel(ID, 17, CancelReason::Deadline);
    control.cancel(ID, 18, CancelReason::Asked);
    control.kill(ID, 17);
    control.ping(5);
    assert_eq!(bounded(control.next()).await.unwrap(), ControlEvent::Pong(5));
    control.goodbye();
    assert!(matches!(bounded(control.next()).await, Err(LinkError::Closed)));
    let (hello, came) = bounded(peer).await.unwrap();
    let client = concat!("asya-sidecar/", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        hello,
        json!({"protocol": 2, "revision": 0, "nonce": NONCE, "connection": "control", "client": client})
    );
    assert_eq!(
        came,
        [
            (CANCEL, 0, 17, vec![0, 0, 0, 1, 0, 0, 0, 3, 1]),
            (CANCEL, 0, 18, vec![0, 0, 0, 1, 0, 0, 0, 3, 2]),
            (KILL, 0, 17, vec![0, 0, 0, 1, 0, 0, 0, 3]),
            (PING, 0, 5, vec![]),
            (GOODBYE, 0, 0, vec![]),
        ]
    );
}

#[tokio::test]
async fn requests_go_in_order_and_answers_come_in_any() {
    let (_dir, advert, peer) = peer(|mut stream| async move {
        let hello = welcome(&mut stream, WELCOME_WORKER).await;
        let mut came = Vec::new();
        for _ in 0..3 {
            came.push(take(&mut stream).await.unwrap());
        }
        let (first, second, third) = (came[0].2, came[1].2, came[2].2);
        for answer in [
            frame(ITEMS, 0, third, "[1,2]"),
            frame(REPLY, 0, second, "[]"),
            frame(PARTIAL, 0, third, "\"a\""),
            frame(PROGRESS, 0, third, r#"{"fraction": 0.5, "message": "half"}"#),
            frame(PROGRESS, 0, third, "{}"),
            frame(REPLY, 0, third, "[3]"),
            frame(GOODBYE, 0, 0, ""),
        ] {
            stream.write_all(&answer).await.unwrap();
        }
        assert_ne!(first, second);
        (hello, came)
    });
    let mut link = bounded(WorkerLink::connect(&advert, ID, 1024, LIMIT))
        .await
        .unwrap();
    let first = link.send(Request {
        budget: Some(Duration::from_micros(1_500)),
        more: true,
        ..request("{\"a\":1}")
    });
    let second = link.send(Request {
        attempt: 7,
        ..request("{\"b\":1}")
    });
    let third = link.send(request(""));
    assert_eq!(link.unanswered().collect::<Vec<_>>(), [first, second, third]);
    for expected in [
        LinkEvent::Items {
            tag: third,
            items: Bytes::from_static(b"[1,2]"),
        },
        LinkEvent::Reply {
            tag: second,
            items: Bytes::from_static(b"[]"),
        },
        LinkEvent::Partial {
            tag: third,
            value: Bytes::from_static(b"\"a\""),
        },
        LinkEvent::Progress {
            tag: third,
            fraction: Some(0.5),
            message: Some("half".to_owned()),
        },
        LinkEvent::Progress {
            tag: third,
            fraction: None,
            message: None,
        },
        LinkEvent::Reply {
            tag: third,
            items: Bytes::from_static(b"[3]"),
        },
        LinkEvent::Goodbye,
    ] {
        assert_eq!(bounded(link.next()).await.unwrap(), expected);
    }
    assert!(matches!(bounded(link.next()).await, Err(LinkError::Closed)));
    assert_eq!(link.unanswered().collect::<Vec<_>>(), [first]);
    assert_eq!(link.unanswered_len(), 1);
    let (hello, came) = bounded(peer).await.unwrap();
    assert_eq!(hello["connection"], "worker");
    assert_eq!((&hello["worker"], &hello["incarnation"]), (&json!(1), &json!(3)));
    let prefix =
        |budget: [u8; 4], attempt, envelope: &[u8]| [&budget, &[0, 0, 0, attempt][..], envelope].concat();
    assert_eq!(
        came,
        [
            (REQUEST, 1, first, prefix([0, 0, 0, 2], 1, b"{\"a\":1}")),
            (REQUEST, 0, second, prefix([0xff; 4], 7, b"{\"b\":1}")),
            (REQUEST, 0, third, prefix([0xff; 4], 1, b"")),
        ]
    );
}

/// What the worker does with the first request before it is gone.
#[derive(Clone, Copy, Debug)]
enum Last {
    Reads,
    Sees,
    IsGone,
}

#[tokio::test]
async fn a_request_that_was_read_is_told_from_one_that_was_not() {
    for (last, is_unread) in [(Last::Reads, false), (Last::Sees, true), (Last::IsGone, true)] {
        let (_dir, advert, peer) = peer(move |mut stream| async move {
            welcome(&mut stream, WELCOME_WORKER).await;
            match last {
                Last::Reads => drop(take(&mut stream).await),
                Last::Sees => stream.readable().await.unwrap(),
                Last::IsGone => {}
            }
        });
        let connecting = WorkerLink::connect(&advert, ID, 1024, LIMIT);
        let mut link = bounded(connecting).await.unwrap();
        assert!(!link.is_newest_unread(), "nothing was sent");
        if matches!(last, Last::IsGone) {
            bounded(peer).await.unwrap();
        }
        link.send(request("{}"));
        assert!(matches!(bounded(link.next()).await, Err(LinkError::Closed)));
        assert_eq!(
            (link.unanswered_len(), link.is_newest_unread()),
            (1, is_unread),
            "{last:?}"
        );
    }
}

#[tokio::test]
async fn both_sides_may_have_much_to_say_at_the_same_time() {
    const SIZE: usize = 3 * 1024 * 1024;
    let (_dir, advert, peer) = peer(|mut stream| async move {
        welcome(&mut stream, WELCOME_WORKER).await;
        let (mut reads, mut writes) = stream.split();
        // Everything is written before anything is read.
        for tag in 1..=4 {
            let items = format!("[\"{}\"]", "x".repeat(SIZE));
            writes.write_all(&frame(REPLY, 0, tag, items)).await.unwrap();
        }
        let mut requests = vec![0; 4 * (12 + 8 + SIZE)];
        reads.read_exact(&mut requests).await.unwrap();
    });
    let mut link = bounded(WorkerLink::connect(&advert, ID, 2 * SIZE, LIMIT))
        .await
        .unwrap();
    for _ in 0..4 {
        link.send(request(vec![b' '; SIZE]));
    }
    for tag in 1..=4 {
        match bounded(link.next()).await.unwrap() {
            LinkEvent::Reply { tag: of, items } => assert_eq!((of, items.len()), (tag, SIZE + 4)),
            other => panic!("{other:?}"),
        }
    }
    link.goodbye();
    assert!(matches!(bounded(link.next()).await, Err(LinkError::Closed)));
    bounded(peer).await.unwrap();
}
