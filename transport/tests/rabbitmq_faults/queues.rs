//! Queues and exchanges that are missing, full, deleted, or other than we would make them.

use std::collections::HashSet;
use std::time::Duration;

use asya_transport::rabbitmq::RabbitMqTransport;
use asya_transport::{Administration, ConsumeError, DeleteMode, PublishError, QueueName, Transport};
use futures::future::join_all;
use tokio::time::timeout;

use super::traffic::{PATIENCE, Traffic, id, message, until};
use super::{ack, broker, foreign_queue, open, receive, receive_all};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_survives_that_its_queue_is_deleted_and_made_again() {
    let transport = open(broker().await.options()).await;
    let queue = QueueName::for_actor("again");
    transport.declare(&queue).await.unwrap();
    let mut consumer = transport.consume(&queue).await.unwrap();
    for round in 0..3 {
        let text = format!("round {round}");
        transport.publish(message(&queue, &text)).await.unwrap();
        let delivery = receive(&mut *consumer, 5).await.remove(0);
        assert_eq!(delivery.body, text);
        ack(&delivery).await;
        let (missed, deleted) = futures::join!(
            timeout(PATIENCE, consumer.receive(5)),
            transport.delete(&queue, DeleteMode::Always)
        );
        deleted.unwrap();
        let missed = missed.unwrap();
        assert!(matches!(missed, Err(ConsumeError::NoSuchQueue(_))), "{missed:?}");
        transport.declare(&queue).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_makes_its_own_queue_when_told_to() {
    let broker = broker().await;
    let mut options = broker.options();
    options.queues.auto_create = true;
    options.queues.arguments = serde_json::from_str(r#"{"x-max-priority": 3}"#).unwrap();
    let vhost = options.address.vhost.clone();
    let transport = open(options).await;
    let queue = QueueName::for_actor("own");
    let mut consumer = transport.consume(&queue).await.unwrap();
    let sending = async {
        until("the queue exists", || async {
            transport.depth(&queue).await.is_ok()
        })
        .await;
        transport.publish(message(&queue, "hello")).await.unwrap();
    };
    let (deliveries, ()) = futures::join!(receive(&mut *consumer, 1), sending);
    assert_eq!(&deliveries[0].body[..], b"hello");
    let shown = broker.manage("GET", &format!("/api/queues/{vhost}/asya-own"), "");
    assert!(
        shown.contains(r#""x-max-priority":3"#) && shown.contains(r#""durable":true"#),
        "{shown}"
    );
    let bindings = broker.manage("GET", &format!("/api/queues/{vhost}/asya-own/bindings"), "");
    assert!(bindings.contains(r#""routing_key":"own""#), "{bindings}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_any_kind_is_used_as_it_is() {
    let broker = broker().await;
    let mut options = broker.options();
    // What we would create is of no matter where there is a queue already.
    options.queues.auto_create = true;
    options.queues.arguments = serde_json::from_str(r#"{"x-max-priority": 3}"#).unwrap();
    let vhost = options.address.vhost.clone();
    let transport = open(options).await;
    let kinds = [
        r#"{"x-queue-type":"quorum"}"#,
        r#"{"x-max-length":7}"#,
        r#"{"x-dead-letter-exchange":"","x-dead-letter-routing-key":"asya-x-dlq"}"#,
    ];
    for (number, arguments) in kinds.into_iter().enumerate() {
        let queue = QueueName::for_actor(&format!("kind-{number}"));
        foreign_queue(broker, &vhost, &queue, arguments);
        // Nothing is bound yet, so this goes through the default exchange.
        transport.publish(message(&queue, "before")).await.unwrap();
        assert_eq!(transport.counters().returned, number as u64 + 1);
        let mut consumer = transport.consume(&queue).await.unwrap();
        let delivery = receive(&mut *consumer, 1).await.remove(0);
        assert_eq!((&delivery.body[..], delivery.deliveries), (&b"before"[..], 1));
        ack(&delivery).await;
        transport.declare(&queue).await.unwrap();
        // Consuming has bound it, and changed nothing else.
        transport.publish(message(&queue, "after")).await.unwrap();
        assert_eq!(transport.counters().returned, number as u64 + 1);
        let shown = broker.manage("GET", &format!("/api/queues/{vhost}/{queue}"), "");
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        let expected: serde_json::Value = serde_json::from_str(arguments).unwrap();
        assert_eq!(shown["arguments"], expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_other_publishers_are_taken_as_they_are() {
    let broker = broker().await;
    let options = broker.options();
    let vhost = options.address.vhost.clone();
    let transport = open(options).await;
    let queue = QueueName::for_actor("theirs");
    transport.declare(&queue).await.unwrap();
    let ways = [
        ("asya", "theirs", r#"{"delivery_mode": 1}"#),
        (
            "asya",
            "theirs",
            r#"{"content_type": "text/plain", "headers": {"x-asya-deliveries": "many"}}"#,
        ),
        ("amq.default", "asya-theirs", "{}"),
    ];
    for (number, (exchange, key, properties)) in ways.into_iter().enumerate() {
        let publish = format!(
            r#"{{"properties": {properties}, "routing_key": "{key}", "payload": "{number}", "payload_encoding": "string"}}"#
        );
        let path = format!("/api/exchanges/{vhost}/{exchange}/publish");
        let routed = broker.manage("POST", &path, &publish);
        assert!(routed.contains("true"), "{routed}");
    }
    let mut consumer = transport.consume(&queue).await.unwrap();
    let deliveries = receive_all(&mut *consumer, ways.len()).await;
    for (number, delivery) in deliveries.iter().enumerate() {
        assert_eq!(delivery.body, number.to_string());
        assert_eq!((delivery.message_id.as_deref(), delivery.deliveries), (None, 1));
        ack(delivery).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_unroutable_is_never_taken_for_another_message() {
    let transport = open(broker().await.options()).await;
    let queue = QueueName::for_actor("there");
    transport.declare(&queue).await.unwrap();
    let publishes = (0..3_000_usize).map(|number| {
        let missing = number % 7 == 3;
        let target = if missing {
            QueueName::for_actor(&format!("missing-{}", number % 5))
        } else {
            queue.clone()
        };
        let publishing = transport.publish(message(&target, &number.to_string()));
        async move { (number, missing, publishing.await) }
    });
    let mut stored = HashSet::new();
    for (number, missing, result) in join_all(publishes).await {
        match result {
            Ok(()) => assert!(
                !missing && stored.insert(number.to_string()),
                "{number} is not stored"
            ),
            Err(PublishError::Unroutable(_)) => assert!(missing, "{number} is stored"),
            Err(error) => panic!("{error}"),
        }
    }
    let mut consumer = transport.consume(&queue).await.unwrap();
    let mut arrived = HashSet::new();
    while arrived.len() < stored.len() {
        for delivery in receive(&mut *consumer, 500).await {
            assert!(arrived.insert(delivery.message_id.clone().unwrap()));
            ack(&delivery).await;
        }
    }
    assert_eq!(arrived, stored);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_was_looked_for_thousands_of_times_is_found_in_the_end() {
    let transport = open(broker().await.options()).await;
    let queue = QueueName::for_actor("late");
    // More often than a connection has channels.
    for _ in 0..50 {
        let looks = (0..100).map(|_| transport.depth(&queue));
        join_all(looks).await;
    }
    until("the queue is declared", || async {
        transport.declare(&queue).await.is_ok()
    })
    .await;
    transport.publish(message(&queue, "hello")).await.unwrap();
    let mut consumer = transport.consume(&queue).await.unwrap();
    ack(&receive(&mut *consumer, 1).await.remove(0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_full_queue_refuses_is_stored_once_there_is_room() {
    let broker = broker().await;
    let options = broker.options();
    let vhost = options.address.vhost.clone();
    let transport = open(options).await;
    let queue = QueueName::for_actor("full");
    foreign_queue(
        broker,
        &vhost,
        &queue,
        r#"{"x-max-length": 2, "x-overflow": "reject-publish"}"#,
    );
    let storing = (0..30).map(|number| {
        let (transport, message) = (transport.clone(), message(&queue, &id(number)));
        tokio::spawn(async move {
            loop {
                match transport.publish(message.clone()).await {
                    Ok(()) => return,
                    Err(PublishError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
                    Err(error) => panic!("{error}"),
                }
            }
        })
    });
    let storing = join_all(storing.collect::<Vec<_>>());
    until("the queue is full", || async {
        transport.counters().refused >= 28
    })
    .await;
    let mut consumer = transport.consume(&queue).await.unwrap();
    let mut arrived = HashSet::new();
    while arrived.len() < 30 {
        for delivery in receive(&mut *consumer, 1).await {
            assert!(
                arrived.insert(delivery.message_id.clone().unwrap()),
                "stored twice"
            );
            ack(&delivery).await;
        }
    }
    for stored in storing.await {
        stored.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_exchange_is_deleted() {
    let broker = broker().await;
    let options = broker.options();
    let vhost = options.address.vhost.clone();
    let transport = open(options).await;
    let traffic = Traffic::start(&transport).await;
    for _ in 0..3 {
        traffic.progress(200).await;
        // Closes the publishing channel, and takes the bindings along.
        broker.manage("DELETE", &format!("/api/exchanges/{vhost}/asya"), "");
    }
    traffic.progress(200).await;
    traffic.finish().await;
    assert!(transport.counters().returned > 0, "the bindings were still there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_somebody_consumes_is_not_deleted_when_empty() {
    let transport = open(broker().await.options()).await;
    let queue = QueueName::for_actor("used");
    transport.declare(&queue).await.unwrap();
    let mut consumer = transport.consume(&queue).await.unwrap();
    let deleting = async {
        until("the consumer is there", || async {
            consumers(&transport, &queue).await
        })
        .await;
        transport.delete(&queue, DeleteMode::IfEmpty).await
    };
    let refused = tokio::select! {
        refused = deleting => refused,
        received = consumer.receive(1) => panic!("{received:?}"),
    };
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("in use"), "{text}");
}

/// Whether a deletion is refused because of consumers; it may not happen while there are none.
async fn consumers(transport: &RabbitMqTransport, queue: &QueueName) -> bool {
    let broker = broker().await;
    let shown = broker.manage("GET", "/api/consumers", "");
    transport.depth(queue).await.unwrap();
    shown.contains(queue.as_str())
}
