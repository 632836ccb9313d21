//! Connections that end, one way or another.

use asya_tests::Proxy;
use asya_transport::rabbitmq::BrokerState;
use asya_transport::{Administration, ConsumeError, QueueName, SettleError, Settlement, Transport};
use tokio::time::timeout;

use super::traffic::{PATIENCE, Traffic, connected, message};
use super::{ack, broker, open, receive};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_broker_closes_all_connections() {
    let (broker, options) = (broker().await, broker().await.options());
    let vhost = options.address.vhost.clone();
    let transport = open(options).await;
    let traffic = Traffic::start(&transport).await;
    for round in 1..=3 {
        traffic.progress(200).await;
        let vhost = vhost.clone();
        let closing = move || broker.control(&["close_all_connections", "--vhost", &vhost, "test"]);
        tokio::task::spawn_blocking(closing).await.unwrap();
        connected(&transport).await;
        assert!(
            transport.counters().reconnects >= 2 * round,
            "nothing was closed in round {round}"
        );
    }
    traffic.progress(200).await;
    traffic.finish().await;
    assert_eq!(transport.state(), BrokerState::Connected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_network_cuts_connections() {
    let mut options = broker().await.options();
    let proxy = Proxy::before(options.address.port).await;
    options.address.port = proxy.port;
    let transport = open(options).await;
    let traffic = Traffic::start(&transport).await;
    for _ in 0..15 {
        traffic.progress(150).await;
        proxy.cut();
    }
    traffic.progress(150).await;
    traffic.finish().await;
    assert!(
        transport.counters().reconnects >= 15,
        "{:?}",
        transport.counters()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_makes_receipts_stale_and_the_message_comes_again() {
    let mut options = broker().await.options();
    let proxy = Proxy::before(options.address.port).await;
    options.address.port = proxy.port;
    let transport = open(options).await;
    let queue = QueueName::for_actor("stale");
    transport.declare(&queue).await.unwrap();
    transport.publish(message(&queue, "one")).await.unwrap();
    let mut consumer = transport.consume(&queue).await.unwrap();
    let first = receive(&mut *consumer, 1).await.remove(0);
    proxy.cut();
    let reported = timeout(PATIENCE, consumer.receive(1)).await.unwrap();
    assert!(
        matches!(reported, Err(ConsumeError::Unavailable(_))),
        "{reported:?}"
    );
    let second = receive(&mut *consumer, 1).await.remove(0);
    assert_eq!((&second.body[..], second.deliveries), (&b"one"[..], 2));
    let settled = first.receipt.settle(Settlement::Ack).await;
    assert!(matches!(settled, Err(SettleError::Stale)), "{settled:?}");
    ack(&second).await;
    drop(consumer);
    // Only an empty queue without consumers is deleted so, and the broker counts what is not acknowledged.
    transport
        .delete(&queue, asya_transport::DeleteMode::IfEmpty)
        .await
        .unwrap();
}
