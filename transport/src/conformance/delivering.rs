//! From publish to receive.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;

use super::{Bench, Harness, ack, receive, receive_all, receive_one, texts, unused_name};
use crate::{Outgoing, PublishError};

/// What was published is received, on its first delivery.
pub async fn bytes_arrive_as_they_were_sent(harness: &dyn Harness) {
    let bench = Bench::new(harness).await;
    bench.publish("hello").await;
    let delivery = receive_one(&mut *bench.consumer().await).await;
    assert_eq!(&delivery.body[..], b"hello");
    assert_eq!(delivery.deliveries, 1);
    ack(&delivery).await;
    bench.done().await;
}

/// No body is special: nothing at all, a mebibyte, every byte value.
pub async fn empty_large_and_binary_bodies_arrive(harness: &dyn Harness) {
    let bench = Bench::new(harness).await;
    let mut consumer = bench.consumer().await;
    let binary: Vec<u8> = (0..=255).chain([0, 0, 0xff, 0xfe]).collect();
    let large: Vec<u8> = (0..1_048_576_u32)
        .map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    for body in [Vec::new(), binary, large].map(Bytes::from) {
        let message = Outgoing {
            body: body.clone(),
            ..bench.message("body")
        };
        bench.transport.publish(message).await.unwrap();
        let delivery = receive_one(&mut *consumer).await;
        assert!(
            delivery.body == body,
            "a body of {} bytes came back different",
            body.len()
        );
        ack(&delivery).await;
    }
    bench.done().await;
}

/// The publisher's identity of the message travels beside the body.
pub async fn the_message_id_is_kept(harness: &dyn Harness) {
    let bench = Bench::new(harness).await;
    let message_id = "3f2a/step-4 ü".to_owned();
    let message = Outgoing {
        message_id: message_id.clone(),
        ..bench.message("body")
    };
    bench.transport.publish(message).await.unwrap();
    let delivery = receive_one(&mut *bench.consumer().await).await;
    assert_eq!(delivery.message_id, Some(message_id));
    ack(&delivery).await;
    bench.done().await;
}

/// A message above the limit is refused for good, with both figures; one at the limit is none of this case's business.
pub async fn a_large_message_is_refused_or_taken(harness: &dyn Harness) {
    let Some(limit) = harness.transport().max_message_size() else {
        return;
    };
    let bench = Bench::new(harness).await;
    let message = Outgoing {
        body: Bytes::from(vec![0; limit + 1]),
        ..bench.message("large")
    };
    let refused = bench.transport.publish(message).await;
    assert!(
        matches!(refused, Err(PublishError::TooLarge { size, limit: stated }) if size == limit + 1 && stated == limit),
        "{refused:?}"
    );
    bench.is_empty(harness).await;
    bench.done().await;
}

/// First in, first out, for a publisher that pipelines and one consumer.
pub async fn order_is_kept_for_one_consumer(harness: &dyn Harness) {
    let bench = Bench::new(harness).await;
    let sent: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    let confirms = sent
        .iter()
        .map(|text| bench.transport.publish(bench.message(text)));
    for confirm in join_all(confirms).await {
        confirm.unwrap();
    }
    let mut consumer = bench.consumer().await;
    let mut received = Vec::new();
    while received.len() < sent.len() {
        let deliveries = receive(&mut *consumer, 7).await;
        received.extend(texts(&deliveries).into_iter().map(str::to_owned));
        for delivery in &deliveries {
            ack(delivery).await;
        }
    }
    assert_eq!(received, sent);
    bench.done().await;
}

/// However much is there, one receive gives at most its credit.
pub async fn credit_is_the_limit_of_one_receive(harness: &dyn Harness) {
    let bench = Bench::new(harness).await;
    for number in 0..20 {
        bench.publish(&number.to_string()).await;
    }
    let mut consumer = bench.consumer().await;
    let mut held = Vec::new();
    for credit in [1, 3, 2] {
        held.extend(receive(&mut *consumer, credit).await);
    }
    let rest = receive_all(&mut *consumer, 20 - held.len()).await;
    held.extend(rest);
    assert_eq!(texts(&held).into_iter().collect::<HashSet<_>>().len(), 20);
    for delivery in &held {
        ack(delivery).await;
    }
    bench.is_empty(harness).await;
    bench.done().await;
}

/// Each message goes to one of two consumers.
pub async fn two_consumers_share_without_overlap(harness: &dyn Harness) {
    let bench = Bench::new(harness).await;
    for number in 0..40 {
        bench.publish(&number.to_string()).await;
    }
    let (mut left, mut right) = (bench.consumer().await, bench.consumer().await);
    let mut held = Vec::new();
    while held.len() < 40 {
        for consumer in [&mut left, &mut right] {
            if held.len() < 40 {
                held.extend(receive(&mut **consumer, 3.min(40 - held.len())).await);
            }
        }
    }
    assert_eq!(texts(&held).into_iter().collect::<HashSet<_>>().len(), 40);
    for delivery in &held {
        assert_eq!(delivery.deliveries, 1);
        ack(delivery).await;
    }
    bench.is_empty(harness).await;
    bench.done().await;
}

/// The publisher hears that nobody takes the message, by name.
pub async fn publishing_to_a_missing_queue_is_unroutable(harness: &dyn Harness) {
    let bench = Bench::new(harness).await;
    let missing = unused_name();
    let lost = Outgoing {
        queue: missing.clone(),
        ..bench.message("lost")
    };
    // In the middle of others, which must not suffer.
    let (before, refused, after) = futures::join!(
        bench.transport.publish(bench.message("before")),
        bench.transport.publish(lost),
        bench.transport.publish(bench.message("after")),
    );
    before.unwrap();
    after.unwrap();
    assert!(
        matches!(&refused, Err(PublishError::Unroutable(queue)) if *queue == missing),
        "{refused:?}"
    );
    let deliveries = receive_all(&mut *bench.consumer().await, 2).await;
    assert_eq!(texts(&deliveries), ["before", "after"]);
    bench.done().await;
}

/// A publish with a delay is not delivered before that has passed.
pub async fn a_delayed_message_is_not_early(harness: &dyn Harness) {
    if !harness.delays_publishing() {
        return;
    }
    let bench = Bench::new(harness).await;
    let delay = Duration::from_millis(300);
    let started = Instant::now();
    bench.publish_delayed("late", delay).await;
    bench.publish("now").await;
    let mut consumer = bench.consumer().await;
    let first = receive(&mut *consumer, 5).await;
    assert_eq!(texts(&first), ["now"]);
    let second = receive_one(&mut *consumer).await;
    assert!(started.elapsed() >= delay, "{:?} is too early", started.elapsed());
    assert_eq!(&second.body[..], b"late");
    bench.done().await;
}

/// A message is on its way when `publish` returns; nobody has to wait for the confirmation.
pub async fn a_dropped_publish_future_still_publishes(harness: &dyn Harness) {
    let bench = Bench::new(harness).await;
    drop(bench.transport.publish(bench.message("unawaited")));
    let delivery = receive_one(&mut *bench.consumer().await).await;
    assert_eq!(&delivery.body[..], b"unawaited");
    ack(&delivery).await;
    bench.done().await;
}
