//! What goes wrong between RabbitMQ and us: connections, queues and permissions. Every message is counted.
//!
//! What it is: tests on one node that stays up, one file for each kind of trouble. What it is not: what happens to the
//! node itself is in `rabbitmq_node.rs`, and what works when nothing goes wrong in the conformance suite.
#![cfg(feature = "rabbitmq")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a panic is how a test fails, also in what tests share"
)]

use asya_tests::rabbitmq::Broker;
use asya_transport::rabbitmq::{RabbitMqOptions, RabbitMqTransport};
use asya_transport::{Consumer, Delivery, QueueName, Settlement};
use tokio::time::timeout;

use self::traffic::PATIENCE;

mod connections;
mod counting;
mod delays;
mod queues;
mod refusals;
mod sharing;
#[path = "../support/traffic.rs"]
mod traffic;

async fn broker() -> &'static Broker {
    tokio::task::spawn_blocking(Broker::shared).await.unwrap()
}

async fn open(options: RabbitMqOptions) -> RabbitMqTransport {
    RabbitMqTransport::connect(options).await.unwrap()
}

async fn receive(consumer: &mut dyn Consumer, credit: usize) -> Vec<Delivery> {
    timeout(PATIENCE, consumer.receive(credit))
        .await
        .unwrap()
        .unwrap()
}

/// Receives until `count` messages are there.
async fn receive_all(consumer: &mut dyn Consumer, count: usize) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    while deliveries.len() < count {
        deliveries.extend(receive(consumer, count - deliveries.len()).await);
    }
    deliveries
}

async fn ack(delivery: &Delivery) {
    delivery.receipt.settle(Settlement::Ack).await.unwrap();
}

/// A queue that somebody else has made, with the arguments given as JSON.
fn foreign_queue(broker: &Broker, vhost: &str, queue: &QueueName, arguments: &str) {
    let body = format!(r#"{{"durable": true, "arguments": {arguments}}}"#);
    broker.manage("PUT", &format!("/api/queues/{vhost}/{queue}"), &body);
}
