//! What every server of protocol v2 does, asked of the Rust server and of the Python runtime alike.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use asya_runtime_protocol::v2::{LinkEvent, Request, WorkerLink};
use asya_runtime_protocol::{Reply, ReplyItem};
use bytes::Bytes;

#[path = "../support/mod.rs"]
mod support;
use support::bounded;
use support::servers::Server;

/// Runs each case against each server.
macro_rules! cases {
    ($($case:ident)*) => {
        mod native {
            $(#[tokio::test] async fn $case() { super::$case(super::Kind::Native).await; })*
        }
        mod python {
            $(#[tokio::test] async fn $case() { super::$case(super::Kind::Python).await; })*
        }
    };
}

mod broken;
mod ending;
mod requests;

fn envelope(id: &str, payload: &str) -> Bytes {
    format!(
        r#"{{"id":"{id}","route":{{"actors":["a","b"],"current":0}},"headers":{{"h":1.5}},"payload":{payload}}}"#
    )
    .into()
}

fn request(payload: &str) -> Request {
    Request {
        budget: None,
        attempt: 1,
        more: false,
        envelope: envelope("i", payload),
    }
}

fn hold(name: &str) -> Request {
    request(&format!(r#"{{"do":"hold","name":"{name}"}}"#))
}

async fn reply(link: &mut WorkerLink) -> (u32, Bytes) {
    match bounded(link.next()).await.unwrap() {
        LinkEvent::Reply { tag, items } => (tag, items),
        other => panic!("{other:?}"),
    }
}

/// Waits until the held request `name` has been started, and hears nothing in the meantime.
async fn started(server: &Server, link: &mut WorkerLink, name: &str) {
    tokio::select! {
        () = server.started(name) => {}
        event = link.next() => panic!("{event:?}"),
    }
}

/// Code of an answer that is one error item.
fn code(items: Bytes) -> String {
    match &Reply::parse(items).unwrap()[..] {
        [ReplyItem::Error { code, .. }] => code.clone(),
        other => panic!("{other:?}"),
    }
}

fn is_output(items: Bytes) -> bool {
    matches!(&Reply::parse(items).unwrap()[..], [ReplyItem::Output { .. }])
}

async fn serves(server: &Server) {
    let (_control, _, id) = server.control().await;
    let mut link = server.link(id).await;
    let tag = link.send(request("7"));
    let (of, items) = reply(&mut link).await;
    assert_eq!(of, tag);
    assert!(is_output(items));
}
