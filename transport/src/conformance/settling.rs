//! From receive to the end of a delivery.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Bench, Harness, ack, receive_all, receive_one, retry};
use crate::Settlement;

/// An acknowledged message is gone.
pub async fn ack_removes_the_message(harness: &dyn Harness) {
    let bench = Bench::new(harness).await;
    bench.publish("one").await;
    bench.publish("two").await;
    let mut consumer = bench.consumer().await;
    for delivery in receive_all(&mut *consumer, 2).await {
        ack(&delivery).await;
    }
    bench.is_empty(harness).await;
    bench.done().await;
}

/// A retry with a delay comes back, but not before.
pub async fn retry_comes_back_after_its_delay_and_not_earlier(harness: &dyn Harness) {
    let bench = Bench::new(harness).await;
    bench.publish("again").await;
    let mut consumer = bench.consumer().await;
    let first = receive_one(&mut *consumer).await;
    let delay = Duration::from_millis(300);
    let started = Instant::now();
    retry(&first, delay).await;
    let second = receive_one(&mut *consumer).await;
    assert!(started.elapsed() >= delay, "{:?} is too early", started.elapsed());
    assert_eq!(second.body, first.body);
    assert_eq!(second.message_id, first.message_id);
    ack(&second).await;
    bench.is_empty(harness).await;
    bench.done().await;
}

/// A retry without a delay does not wait for anything else to happen.
pub async fn retry_without_delay_comes_back_at_once(harness: &dyn Harness) {
    let bench = Bench::new(harness).await;
    bench.publish("again").await;
    let mut consumer = bench.consumer().await;
    let first = receive_one(&mut *consumer).await;
    retry(&first, Duration::ZERO).await;
    let second = receive_one(&mut *consumer).await;
    assert_eq!(&second.body[..], b"again");
    ack(&second).await;
    bench.is_empty(harness).await;
    bench.done().await;
}

/// The count of deliveries grows by one each time.
pub async fn deliveries_are_counted(harness: &dyn Harness) {
    let bench = Bench::new(harness).await;
    bench.publish("counted").await;
    let mut consumer = bench.consumer().await;
    for expected in 1..=3 {
        let delivery = receive_one(&mut *consumer).await;
        assert_eq!(delivery.deliveries, expected);
        retry(&delivery, Duration::ZERO).await;
    }
    bench.done().await;
}

/// A message that is given back for no fault of its own is as good as new.
pub async fn a_return_is_not_counted(harness: &dyn Harness) {
    let bench = Bench::new(harness).await;
    bench.publish("blameless").await;
    let mut consumer = bench.consumer().await;
    for _ in 0..3 {
        let delivery = receive_one(&mut *consumer).await;
        assert_eq!(delivery.deliveries, 1);
        let after = Duration::from_millis(100);
        let returned = delivery.receipt.settle(Settlement::Return { after }).await;
        assert!(returned.is_ok(), "{returned:?}");
    }
    let last = receive_one(&mut *consumer).await;
    retry(&last, Duration::from_millis(100)).await;
    let last = receive_one(&mut *consumer).await;
    assert_eq!(last.deliveries, 2, "a retry is counted");
    ack(&last).await;
    bench.is_empty(harness).await;
    bench.done().await;
}

/// Forgetting a delivery is no loss: it comes back.
pub async fn a_dropped_receipt_gives_the_message_back(harness: &dyn Harness) {
    let bench = Bench::new(harness).await;
    bench.publish("kept").await;
    let mut consumer = bench.consumer().await;
    drop(receive_one(&mut *consumer).await);
    let again = receive_one(&mut *consumer).await;
    assert_eq!(&again.body[..], b"kept");
    assert!(again.deliveries > 1, "{} deliveries", again.deliveries);
    ack(&again).await;
    bench.is_empty(harness).await;
    bench.done().await;
}

/// Only the last clone of a receipt gives the message back.
pub async fn a_kept_clone_of_a_receipt_keeps_the_message(harness: &dyn Harness) {
    let bench = Bench::new(harness).await;
    bench.publish("shared").await;
    bench.publish("next").await;
    let mut consumer = bench.consumer().await;
    let delivery = receive_one(&mut *consumer).await;
    let clone = Arc::clone(&delivery.receipt);
    drop(delivery);
    let next = receive_one(&mut *consumer).await;
    assert_eq!(&next.body[..], b"next");
    clone.settle(Settlement::Ack).await.unwrap();
    ack(&next).await;
    bench.is_empty(harness).await;
    bench.done().await;
}

/// A second settlement is a success without effect, whatever it asks for.
pub async fn settling_twice_is_once(harness: &dyn Harness) {
    let bench = Bench::new(harness).await;
    bench.publish("one").await;
    let mut consumer = bench.consumer().await;
    let first = receive_one(&mut *consumer).await;
    let (left, right) = futures::join!(
        first.receipt.settle(Settlement::Ack),
        first.receipt.settle(Settlement::Ack)
    );
    left.unwrap();
    right.unwrap();
    retry(&first, Duration::ZERO).await;
    bench.is_empty(harness).await;

    bench.publish("two").await;
    let second = receive_one(&mut *consumer).await;
    retry(&second, Duration::ZERO).await;
    ack(&second).await; // too late: it was given back
    let third = receive_one(&mut *consumer).await;
    assert_eq!(&third.body[..], b"two");
    ack(&third).await;
    bench.is_empty(harness).await;
    bench.done().await;
}

/// When it is unknown whether a settlement arrived, it may be made again.
pub async fn a_dropped_settle_future_may_be_repeated(harness: &dyn Harness) {
    let bench = Bench::new(harness).await;
    bench.publish("one").await;
    let delivery = receive_one(&mut *bench.consumer().await).await;
    drop(delivery.receipt.settle(Settlement::Ack));
    ack(&delivery).await;
    bench.is_empty(harness).await;
    bench.done().await;
}

/// A consumer that is dropped takes nothing back.
pub async fn receipts_outlive_their_consumer(harness: &dyn Harness) {
    let bench = Bench::new(harness).await;
    bench.publish("one").await;
    bench.publish("two").await;
    let first = receive_one(&mut *bench.consumer().await).await;
    let second = receive_one(&mut *bench.consumer().await).await;
    assert_eq!((&first.body[..], &second.body[..]), (&b"one"[..], &b"two"[..]));
    ack(&first).await;
    ack(&second).await;
    bench.is_empty(harness).await;
    bench.done().await;
}
