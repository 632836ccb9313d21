//! Requests and their answers.

use std::collections::HashMap;

use asya_runtime_protocol::v2::{ControlEvent, LinkError, Request};
use asya_runtime_protocol::{Reply, ReplyItem};
use bytes::Bytes;

use crate::support::servers::{Kind, Server, Settings};
use crate::support::{LIMIT, bounded};
use crate::{code, envelope, is_output, reply, request};

cases! {
    the_offer_is_complete
    answers_are_those_of_v1
    many_requests_are_answered_once_each
    large_messages_pass_in_both_directions
    a_request_beyond_the_limit_is_answered_and_the_next_one_is_served
}

async fn the_offer_is_complete(kind: Kind) {
    let settings = Settings {
        concurrency: 3,
        ..Settings::default()
    };
    let server = Server::start(kind, settings).await;
    let (mut control, welcome, id) = server.control().await;
    assert_eq!(
        (welcome.workers, welcome.concurrency, welcome.batch_size),
        (1, 3, 1)
    );
    assert_eq!(welcome.window(), 3);
    assert!(!welcome.stream);
    assert_eq!(welcome.max_message_size, settings.max_message_size);
    assert!(!welcome.server.is_empty());
    assert_eq!((id.worker, id.incarnation), (0, 1));
    control.ping(7);
    assert_eq!(bounded(control.next()).await.unwrap(), ControlEvent::Pong(7));
    control.goodbye();
    assert!(matches!(bounded(control.next()).await, Err(LinkError::Closed)));
}

async fn answers_are_those_of_v1(kind: Kind) {
    let server = Server::start(kind, Settings::default()).await;
    let (_control, _, id) = server.control().await;
    let mut link = server.link(id).await;
    for body in [
        envelope("i", "1"),
        envelope("i", r#"{"do":"many","text":"zwölf \u0000"}"#),
        envelope("i", "null"),
        Bytes::from_static(b"{}"),
        Bytes::from_static(b"not JSON"),
        Bytes::from_static(b"\xff"),
        Bytes::new(),
    ] {
        link.send(Request {
            envelope: body.clone(),
            ..request("")
        });
        let (_, items) = reply(&mut link).await;
        assert_eq!(items, bounded(server.v1().call(body, LIMIT)).await.unwrap());
    }
    link.send(request(r#"{"do":"fail"}"#));
    let (_, items) = reply(&mut link).await;
    let items = Reply::parse(items).unwrap();
    let [
        ReplyItem::Error {
            code,
            details: Some(details),
        },
    ] = &items[..]
    else {
        panic!("{items:?}")
    };
    assert_eq!(code, "processing_error");
    assert_eq!(details.exception().unwrap(), "LookupError");
}

async fn many_requests_are_answered_once_each(kind: Kind) {
    const ALL: usize = 3000;
    const AHEAD: usize = 500;
    let settings = Settings {
        concurrency: 8,
        ..Settings::default()
    };
    let server = Server::start(kind, settings).await;
    let (_control, _, id) = server.control().await;
    let mut link = server.link(id).await;
    let mut sent = HashMap::new();
    let mut answered = 0;
    while answered < ALL {
        while sent.len() < AHEAD && answered + sent.len() < ALL {
            let number = answered + sent.len();
            sent.insert(link.send(request(&number.to_string())), number);
        }
        let (tag, items) = reply(&mut link).await;
        let number = sent.remove(&tag).unwrap();
        let items = Reply::parse(items).unwrap();
        let [ReplyItem::Output { payload, .. }] = &items[..] else {
            panic!("{items:?}")
        };
        assert_eq!(payload.as_bytes(), number.to_string().as_bytes());
        answered += 1;
    }
    assert_eq!(link.unanswered_len(), 0);
}

async fn large_messages_pass_in_both_directions(kind: Kind) {
    let server = Server::start(kind, Settings::default()).await;
    let (_control, _, id) = server.control().await;
    let mut link = server.link(id).await;
    let payload = format!("\"{}\"", "x".repeat(3 * 1024 * 1024));
    let tags: Vec<_> = (0..4).map(|_| link.send(request(&payload))).collect();
    for tag in tags {
        let (of, items) = reply(&mut link).await;
        assert_eq!(of, tag);
        assert!(items.len() > payload.len());
        assert!(is_output(items));
    }
}

async fn a_request_beyond_the_limit_is_answered_and_the_next_one_is_served(kind: Kind) {
    let settings = Settings {
        max_message_size: 200_000,
        ..Settings::default()
    };
    let server = Server::start(kind, settings).await;
    let (_control, _, id) = server.control().await;
    let mut link = server.link(id).await;
    let large = link.send(request(&format!("\"{}\"", "x".repeat(300_000))));
    let small = link.send(request("1"));
    let mut answers = HashMap::new();
    for _ in 0..2 {
        let (tag, items) = reply(&mut link).await;
        answers.insert(tag, items);
    }
    assert_eq!(code(answers.remove(&large).unwrap()), "msg_parsing_error");
    assert!(is_output(answers.remove(&small).unwrap()));
}
