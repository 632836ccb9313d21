//! What the tests of the embedded queue share.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::Path;
use std::time::Duration;

use asya_transport::local::{LocalOptions, LocalTransport};
use asya_transport::{Administration, Delivery, Outgoing, QueueName, Transport};
use bytes::Bytes;
use tokio::time::timeout;

/// How long a test waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn queue() -> QueueName {
    QueueName::for_actor("test")
}

/// Opens the directory and declares [`queue`].
pub(crate) async fn open(directory: &Path) -> LocalTransport {
    let transport = LocalTransport::open(directory, &LocalOptions::default()).unwrap();
    transport.declare(&queue()).await.unwrap();
    transport
}

pub(crate) fn message(text: &str) -> Outgoing {
    Outgoing {
        queue: queue(),
        message_id: text.to_owned(),
        body: Bytes::copy_from_slice(text.as_bytes()),
        delay: Duration::ZERO,
    }
}

pub(crate) async fn publish(transport: &LocalTransport, text: &str) {
    transport.publish(message(text)).await.unwrap();
}

/// Receives at least one message, or fails the test after [`PATIENCE`].
pub(crate) async fn receive(transport: &LocalTransport, credit: usize) -> Vec<Delivery> {
    let mut consumer = transport.consume(&queue()).await.unwrap();
    timeout(PATIENCE, consumer.receive(credit))
        .await
        .unwrap()
        .unwrap()
}

pub(crate) fn text(delivery: &Delivery) -> &str {
    std::str::from_utf8(&delivery.body).unwrap()
}
