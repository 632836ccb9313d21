//! The counters tell what has happened.

use std::time::Duration;

use asya_transport::rabbitmq::Counters;
use asya_transport::{Administration, PublishError, QueueName, Settlement, Transport};

use super::traffic::message;
use super::{ack, broker, foreign_queue, open, receive, receive_all};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_to_messages_is_counted() {
    let broker = broker().await;
    let options = broker.options();
    let vhost = options.address.vhost.clone();
    let transport = open(options).await;
    assert_eq!(transport.counters(), Counters::default());

    // Four stored, of which one had to take the second way.
    let (bound, unbound) = (QueueName::for_actor("bound"), QueueName::for_actor("unbound"));
    transport.declare(&bound).await.unwrap();
    foreign_queue(broker, &vhost, &unbound, "{}");
    for text in ["a", "b", "c"] {
        transport.publish(message(&bound, text)).await.unwrap();
    }
    transport.publish(message(&unbound, "d")).await.unwrap();
    // One that comes back from both ways, and one that is refused.
    let missing = transport
        .publish(message(&QueueName::for_actor("missing"), "e"))
        .await;
    assert!(matches!(missing, Err(PublishError::Unroutable(_))), "{missing:?}");
    let full = QueueName::for_actor("full");
    foreign_queue(
        broker,
        &vhost,
        &full,
        r#"{"x-max-length": 0, "x-overflow": "reject-publish"}"#,
    );
    let refused = transport.publish(message(&full, "f")).await;
    assert!(
        matches!(refused, Err(PublishError::Unavailable(_))),
        "{refused:?}"
    );
    let counters = transport.counters();
    assert_eq!(
        (counters.confirmed, counters.returned, counters.refused),
        (4, 4, 1),
        "{counters:?}"
    );
    assert_eq!(counters.published, 3 + 2 + 2 + 2, "{counters:?}");

    let mut consumer = transport.consume(&bound).await.unwrap();
    let deliveries = receive_all(&mut *consumer, 3).await;
    ack(&deliveries[0]).await;
    ack(&deliveries[1]).await;
    let retry = Settlement::Retry {
        after: Duration::ZERO,
    };
    deliveries[2].receipt.settle(retry).await.unwrap();
    let again = receive(&mut *consumer, 1).await;
    ack(&again[0]).await;
    let counters = transport.counters();
    assert_eq!((counters.received, counters.redelivered), (4, 1), "{counters:?}");
    assert_eq!((counters.acknowledged, counters.requeued), (3, 1), "{counters:?}");
    assert_eq!(counters.reconnects, 0);
}
