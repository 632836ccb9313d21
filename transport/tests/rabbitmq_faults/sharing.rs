//! Consumers that share a queue.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use asya_transport::{Administration, DeleteMode, QueueName, Settlement, Transport};
use futures::future::join_all;
use tokio::time::timeout;

use super::traffic::message;
use super::{ack, broker, open, receive, receive_all};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_messages_for_two_slow_consumers_are_shared_evenly() {
    let options = broker().await.options();
    let (left, right) = (open(options.clone()).await, open(options).await);
    let queue = QueueName::for_actor("slow");
    left.declare(&queue).await.unwrap();
    let mut consumers = [
        left.consume(&queue).await.unwrap(),
        right.consume(&queue).await.unwrap(),
    ];
    join_all((0..10).map(|number| left.publish(message(&queue, &number.to_string())))).await;
    let worked = join_all(consumers.iter_mut().map(|consumer| async {
        let mut count = 0;
        while let Ok(deliveries) = timeout(Duration::from_secs(2), consumer.receive(1)).await {
            for delivery in deliveries.unwrap() {
                tokio::time::sleep(Duration::from_millis(200)).await; // the slow handler
                delivery.receipt.settle(Settlement::Ack).await.unwrap();
                count += 1;
            }
        }
        count
    }))
    .await;
    assert_eq!(worked, [5, 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asking_again_while_the_broker_is_told_to_stop_is_heard() {
    let transport = open(broker().await.options()).await;
    let queue = QueueName::for_actor("crossing");
    transport.declare(&queue).await.unwrap();
    let mut consumer = transport.consume(&queue).await.unwrap();
    for round in 0..300_u64 {
        let given_up = timeout(Duration::from_millis(5), consumer.receive(1)).await;
        assert!(given_up.is_err(), "nothing was published");
        // The pump waits a moment, then cancels, which takes a moment: this falls before, into and after it. A timer
        // would be too coarse.
        let (paused, pause) = (Instant::now(), Duration::from_micros(4_000 + round * 15));
        while paused.elapsed() < pause {
            tokio::task::yield_now().await;
        }
        let text = round.to_string();
        let publishing = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            transport.publish(message(&queue, &text)).await.unwrap();
        };
        let (deliveries, ()) = futures::join!(receive(&mut *consumer, 1), publishing);
        assert_eq!(deliveries[0].body, text);
        ack(&deliveries[0]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_consumer_does_not_ask_for_goes_to_another() {
    let options = broker().await.options();
    let (greedy, modest) = (open(options.clone()).await, open(options).await);
    let queue = QueueName::for_actor("hoard");
    greedy.declare(&queue).await.unwrap();
    join_all((0..30).map(|number| greedy.publish(message(&queue, &number.to_string())))).await;
    let mut hoarder = greedy.consume(&queue).await.unwrap();
    let held = receive_all(&mut *hoarder, 20).await;
    assert_eq!(held.len(), 20);
    // Each settled one makes room for another, which nobody asks for.
    for delivery in &held[..8] {
        delivery.receipt.settle(Settlement::Ack).await.unwrap();
    }
    let mut other = modest.consume(&queue).await.unwrap();
    let mut got = Vec::new();
    while got.len() < 10 {
        got.extend(receive(&mut *other, 10 - got.len()).await);
    }
    let ids: HashSet<_> = got
        .iter()
        .chain(&held)
        .filter_map(|delivery| delivery.message_id.clone())
        .collect();
    assert_eq!(ids.len(), 30);
}

/// Consumers that the broker has on a queue.
async fn consumers(vhost: &str, queue: &QueueName) -> usize {
    let broker = broker().await;
    let shown = broker.manage("GET", &format!("/api/consumers/{vhost}"), "");
    shown.matches(&format!("\"name\":\"{queue}\"")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grown_credit_that_is_not_used_any_more_hoards_nothing() {
    let options = broker().await.options();
    let (grown, other) = (open(options.clone()).await, open(options).await);
    let queue = QueueName::for_actor("grown");
    grown.declare(&queue).await.unwrap();
    join_all((0..3_000).map(|number| grown.publish(message(&queue, &number.to_string())))).await;
    let mut consumer = grown.consume(&queue).await.unwrap();
    let mut seen = HashSet::new();
    let mut credit = 1;
    while credit <= 1024 {
        for delivery in receive(&mut *consumer, credit).await {
            assert!(
                seen.insert(delivery.message_id.clone().unwrap()),
                "delivered twice"
            );
            ack(&delivery).await;
        }
        credit *= 2;
    }
    // From here on nobody asks: what the broker has sent ahead must go to somebody else, and once only.
    let mut heir = other.consume(&queue).await.unwrap();
    while seen.len() < 3_000 {
        for delivery in receive(&mut *heir, 100).await {
            assert!(
                seen.insert(delivery.message_id.clone().unwrap()),
                "delivered twice"
            );
            ack(&delivery).await;
        }
    }
    drop((consumer, heir));
    grown.delete(&queue, DeleteMode::IfEmpty).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credit_that_goes_back_to_one_leaves_the_rest_to_others() {
    let options = broker().await.options();
    let (slow, other) = (open(options.clone()).await, open(options).await);
    let queue = QueueName::for_actor("slowed");
    slow.declare(&queue).await.unwrap();
    let mut consumer = slow.consume(&queue).await.unwrap();
    // Fast for a while, with much credit, on an empty queue.
    slow.publish(message(&queue, "first")).await.unwrap();
    ack(&receive_all(&mut *consumer, 1).await[0]).await;
    slow.publish(message(&queue, "second")).await.unwrap();
    let second = receive(&mut *consumer, 500).await;
    ack(&second[0]).await;
    // Now it asks for one after the other, and takes its time with each.
    join_all((0..200).map(|number| slow.publish(message(&queue, &number.to_string())))).await;
    let mut mine = HashSet::new();
    let mut theirs = HashSet::new();
    let mut heir = other.consume(&queue).await.unwrap();
    let mut in_hand = receive(&mut *consumer, 1).await.remove(0);
    loop {
        // The slow handler: as long as the other finds something.
        while let Ok(deliveries) = timeout(Duration::from_secs(3), heir.receive(50)).await {
            for delivery in deliveries.unwrap() {
                assert!(theirs.insert(delivery.message_id.clone().unwrap()));
                ack(&delivery).await;
            }
            if mine.len() + theirs.len() == 199 {
                break;
            }
        }
        assert!(mine.insert(in_hand.message_id.clone().unwrap()));
        ack(&in_hand).await;
        if mine.len() + theirs.len() == 200 {
            break;
        }
        in_hand = receive(&mut *consumer, 1).await.remove(0);
    }
    assert!(mine.len() <= 3, "the slow one kept {} of 200", mine.len());
    assert!(mine.is_disjoint(&theirs));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credit_that_goes_up_and_down_under_load_stays_supplied_by_few_consumers() {
    let options = broker().await.options();
    let vhost = options.address.vhost.clone();
    let transport = open(options).await;
    let queue = QueueName::for_actor("wave");
    transport.declare(&queue).await.unwrap();
    let total = 4_000;
    join_all((0..total).map(|number| transport.publish(message(&queue, &number.to_string())))).await;
    let mut consumer = transport.consume(&queue).await.unwrap();
    let mut seen = HashSet::new();
    let mut in_hand = Vec::new();
    // How many messages the caller can hold: it grows by doubling, and falls to a few while it holds many.
    for capacity in [
        1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 3, 100, 2, 1024, 1, 300,
    ]
    .into_iter()
    .cycle()
    {
        if seen.len() == total {
            break;
        }
        while in_hand.len() < capacity && seen.len() < total {
            let credit = capacity - in_hand.len();
            for delivery in receive(&mut *consumer, credit).await {
                assert!(
                    seen.insert(delivery.message_id.clone().unwrap()),
                    "delivered twice"
                );
                in_hand.push(delivery);
            }
            assert!(in_hand.len() <= capacity);
        }
        // Settles the older half.
        for delivery in in_hand.drain(..in_hand.len().div_ceil(2)) {
            ack(&delivery).await;
        }
        let count = consumers(&vhost, &queue).await;
        assert!(count <= 17, "{count} consumers on one channel");
    }
    for delivery in &in_hand {
        ack(delivery).await;
    }
}
