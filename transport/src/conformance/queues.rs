//! Declaring, deleting and counting.

use std::time::Duration;

use super::{Bench, Harness, ack, receive_one, retry, unused_name};
use crate::{AdminError, DeleteMode, Depth, PublishError};

/// Ready, unsettled and delayed messages are told apart, and an ack takes one away.
pub async fn depth_counts_each_state(harness: &dyn Harness) {
    let bench = Bench::new(harness).await;
    bench.is_empty(harness).await;
    for number in 0..5 {
        bench.publish(&number.to_string()).await;
    }
    bench
        .depth_becomes(
            harness,
            Depth {
                ready: 5,
                unsettled: 0,
                delayed: 0,
            },
        )
        .await;
    let mut consumer = bench.consumer().await;
    let (first, second) = (
        receive_one(&mut *consumer).await,
        receive_one(&mut *consumer).await,
    );
    bench
        .depth_becomes(
            harness,
            Depth {
                ready: 3,
                unsettled: 2,
                delayed: 0,
            },
        )
        .await;
    retry(&first, Duration::from_mins(10)).await;
    if harness.delays_publishing() {
        bench
            .depth_becomes(
                harness,
                Depth {
                    ready: 3,
                    unsettled: 1,
                    delayed: 1,
                },
            )
            .await;
    }
    ack(&second).await;
    if harness.delays_publishing() {
        bench
            .depth_becomes(
                harness,
                Depth {
                    ready: 3,
                    unsettled: 0,
                    delayed: 1,
                },
            )
            .await;
    }
    bench.done().await;
}

/// Counting a queue that does not exist is an error, not zero.
pub async fn a_missing_queue_has_no_depth(harness: &dyn Harness) {
    let missing = unused_name();
    let depth = harness.transport().administration().depth(&missing).await;
    assert!(
        matches!(&depth, Err(AdminError::NoSuchQueue(queue)) if *queue == missing),
        "{depth:?}"
    );
}

/// Declaring an existing queue leaves its messages alone.
pub async fn declaring_again_changes_nothing(harness: &dyn Harness) {
    let bench = Bench::new(harness).await;
    bench.publish("kept").await;
    bench.administration().declare(&bench.queue).await.unwrap();
    let delivery = receive_one(&mut *bench.consumer().await).await;
    assert_eq!(&delivery.body[..], b"kept");
    ack(&delivery).await;
    bench.done().await;
}

/// The list holds what was declared, in order, and no more after a deletion.
pub async fn declared_queues_are_listed_in_order(harness: &dyn Harness) {
    let (left, right) = (Bench::new(harness).await, Bench::new(harness).await);
    let listed = left.administration().list().await.unwrap();
    assert!(listed.is_sorted(), "{listed:?}");
    assert!(
        listed.contains(&left.queue) && listed.contains(&right.queue),
        "{listed:?}"
    );
    let (administration, queue) = (left.administration(), left.queue.clone());
    left.done().await;
    let listed = administration.list().await.unwrap();
    assert!(
        !listed.contains(&queue) && listed.contains(&right.queue),
        "{listed:?}"
    );
    right.done().await;
}

/// A queue with messages, waiting or in somebody's hands, is not deleted by accident.
pub async fn deleting_if_empty_refuses_while_there_are_messages(harness: &dyn Harness) {
    let bench = Bench::new(harness).await;
    bench.publish("kept").await;
    bench
        .depth_becomes(
            harness,
            Depth {
                ready: 1,
                ..Depth::default()
            },
        )
        .await;
    let refused = bench
        .administration()
        .delete(&bench.queue, DeleteMode::IfEmpty)
        .await;
    assert!(
        matches!(refused, Err(AdminError::NotEmpty { messages: 1, .. })),
        "{refused:?}"
    );
    let delivery = receive_one(&mut *bench.consumer().await).await;
    if harness.tells_states_apart() {
        bench
            .depth_becomes(
                harness,
                Depth {
                    unsettled: 1,
                    ..Depth::default()
                },
            )
            .await;
        let refused = bench
            .administration()
            .delete(&bench.queue, DeleteMode::IfEmpty)
            .await;
        assert!(
            matches!(refused, Err(AdminError::NotEmpty { messages: 1, .. })),
            "{refused:?}"
        );
    }
    ack(&delivery).await;
    bench.is_empty(harness).await;
    bench
        .administration()
        .delete(&bench.queue, DeleteMode::IfEmpty)
        .await
        .unwrap();
    let depth = bench.administration().depth(&bench.queue).await;
    assert!(matches!(depth, Err(AdminError::NoSuchQueue(_))), "{depth:?}");
}

/// Deleting in any case removes queue and messages; publishing there is unroutable afterwards.
pub async fn deleting_always_takes_the_messages_along(harness: &dyn Harness) {
    let bench = Bench::new(harness).await;
    bench.publish("one").await;
    bench.publish("two").await;
    let held = receive_one(&mut *bench.consumer().await).await;
    bench
        .administration()
        .delete(&bench.queue, DeleteMode::Always)
        .await
        .unwrap();
    let refused = bench.transport.publish(bench.message("three")).await;
    assert!(matches!(refused, Err(PublishError::Unroutable(_))), "{refused:?}");
    bench.administration().declare(&bench.queue).await.unwrap();
    drop(held);
    bench.is_empty(harness).await;
    bench.done().await;
}

/// Deleting what is not there is an error, so that a wrong name is noticed.
pub async fn deleting_a_missing_queue_is_an_error(harness: &dyn Harness) {
    let missing = unused_name();
    for mode in [DeleteMode::IfEmpty, DeleteMode::Always] {
        let refused = harness.transport().administration().delete(&missing, mode).await;
        assert!(
            matches!(&refused, Err(AdminError::NoSuchQueue(queue)) if *queue == missing),
            "{refused:?}"
        );
    }
}
