//! Consumers that find nothing at first.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::time::timeout;

use super::{Bench, Harness, PATIENCE, ack, receive_all, receive_one, retry, unused_name};
use crate::{ConsumeError, Outgoing};

/// How long a receive is watched to make sure that it waits.
const GLANCE: Duration = Duration::from_millis(50);

/// A receive on an empty queue waits, and ends when something comes.
pub async fn a_waiting_consumer_wakes_when_something_is_published(harness: &dyn Harness) {
    let bench = Bench::new(harness).await;
    let mut consumer = bench.consumer().await;
    let waiting = consumer.receive(10);
    tokio::pin!(waiting);
    assert!(
        timeout(GLANCE, &mut waiting).await.is_err(),
        "an empty queue gave something"
    );
    bench.publish("hello").await;
    let deliveries = timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert_eq!(&deliveries[0].body[..], b"hello");
    ack(&deliveries[0]).await;
    bench.done().await;
}

/// A consumer that waits while the only message is delayed gets it without another event.
pub async fn a_waiting_consumer_wakes_when_a_delay_has_passed(harness: &dyn Harness) {
    let bench = Bench::new(harness).await;
    let mut consumer = bench.consumer().await;
    bench.publish("late").await;
    let delivery = receive_one(&mut *consumer).await;
    let started = Instant::now();
    let mut other = bench.consumer().await;
    let settled = async {
        let waits = timeout(GLANCE, consumer.receive(1)).await;
        assert!(waits.is_err(), "one message was given twice");
        retry(&delivery, Duration::from_millis(200)).await;
    };
    let ((), again) = futures::join!(settled, receive_one(&mut *other));
    assert!(started.elapsed() >= Duration::from_millis(200) + GLANCE);
    ack(&again).await;
    bench.is_empty(harness).await;
    bench.done().await;
}

/// One publish serves one waiting consumer, and the others keep waiting for theirs.
pub async fn many_waiting_consumers_each_get_one(harness: &dyn Harness) {
    let bench = Bench::new(harness).await;
    let waiting = join_all((0..8).map(|_| async {
        let mut consumer = bench.consumer().await;
        receive_one(&mut *consumer).await
    }));
    let publishing = async {
        for number in 0..8 {
            bench.publish(&number.to_string()).await;
        }
    };
    let (deliveries, ()) = futures::join!(waiting, publishing);
    assert_eq!(
        super::texts(&deliveries)
            .into_iter()
            .collect::<HashSet<_>>()
            .len(),
        8
    );
    for delivery in &deliveries {
        ack(delivery).await;
    }
    bench.is_empty(harness).await;
    bench.done().await;
}

/// A receive that is given up at any moment takes nothing along.
pub async fn a_dropped_receive_loses_nothing(harness: &dyn Harness) {
    let bench = Bench::new(harness).await;
    for round in 0..60_u32 {
        let mut consumer = bench.consumer().await;
        let publishing = bench.transport.publish(bench.message(&round.to_string()));
        let giving_up = timeout(Duration::from_micros(u64::from(round) * 50), consumer.receive(10)).await;
        publishing.await.unwrap();
        drop(giving_up);
    }
    let deliveries = receive_all(&mut *bench.consumer().await, 60).await;
    assert_eq!(
        super::texts(&deliveries)
            .into_iter()
            .collect::<HashSet<_>>()
            .len(),
        60
    );
    for delivery in &deliveries {
        ack(delivery).await;
    }
    bench.is_empty(harness).await;
    bench.done().await;
}

/// A consumer may be there before its queue.
pub async fn a_missing_queue_is_reported_until_it_is_declared(harness: &dyn Harness) {
    let bench = Bench::new(harness).await;
    let queue = unused_name();
    let mut consumer = bench.transport.consume(&queue).await.unwrap();
    let refused = timeout(PATIENCE, consumer.receive(1)).await.unwrap();
    assert!(
        matches!(&refused, Err(ConsumeError::NoSuchQueue(missing)) if *missing == queue),
        "{refused:?}"
    );
    bench.administration().declare(&queue).await.unwrap();
    bench
        .transport
        .publish(Outgoing {
            queue: queue.clone(),
            ..bench.message("hello")
        })
        .await
        .unwrap();
    let delivery = receive_one(&mut *consumer).await;
    ack(&delivery).await;
    drop(consumer);
    Bench { queue, ..bench }.done().await;
}
