//! Receipts of the embedded queue that come too late, and what closing does.
#![cfg(feature = "local")]
#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a test fails, also in what tests share"
)]

mod common;

use std::time::Duration;

use asya_transport::local::{LocalOptions, LocalTransport, StoreError};
use asya_transport::{
    Administration, ConsumeError, DeleteMode, Depth, PublishError, QueueName, SettleError, Settlement,
    Transport,
};
use common::{PATIENCE, message, open, publish, queue, receive, text};

#[tokio::test]
async fn closing_gives_messages_back_and_makes_receipts_stale() {
    let directory = tempfile::tempdir().unwrap();
    let transport = open(directory.path()).await;
    publish(&transport, "a").await;
    let ours = receive(&transport, 1).await;
    drop(transport);

    let transport = open(directory.path()).await;
    let theirs = receive(&transport, 1).await;
    assert_eq!((text(&theirs[0]), theirs[0].deliveries), ("a", 2));
    for settlement in [
        Settlement::Ack,
        Settlement::Retry {
            after: Duration::ZERO,
        },
    ] {
        let settled = ours[0].receipt.settle(settlement).await;
        assert!(matches!(settled, Err(SettleError::Stale)), "{settled:?}");
    }
    drop(ours);
    assert_eq!(
        transport.depth(&queue()).await.unwrap(),
        Depth {
            unsettled: 1,
            ..Depth::default()
        }
    );
    theirs[0].receipt.settle(Settlement::Ack).await.unwrap();
    assert_eq!(transport.depth(&queue()).await.unwrap().total(), 0);
}

#[tokio::test]
async fn an_old_receipt_does_not_settle_a_newer_claim_on_the_same_row() {
    let directory = tempfile::tempdir().unwrap();
    let transport = open(directory.path()).await;
    publish(&transport, "old").await;
    let old = receive(&transport, 1).await;
    transport.delete(&queue(), DeleteMode::Always).await.unwrap();
    transport.declare(&queue()).await.unwrap();
    publish(&transport, "new").await;
    let new = receive(&transport, 1).await;

    let settled = old[0].receipt.settle(Settlement::Ack).await;
    assert!(matches!(settled, Err(SettleError::Stale)), "{settled:?}");
    drop(old);
    assert_eq!(
        transport.depth(&queue()).await.unwrap(),
        Depth {
            unsettled: 1,
            ..Depth::default()
        }
    );
    new[0].receipt.settle(Settlement::Ack).await.unwrap();
}

#[tokio::test]
async fn two_opened_transports_of_one_process_do_not_share_leases() {
    let directory = tempfile::tempdir().unwrap();
    let (left, right) = (open(directory.path()).await, open(directory.path()).await);
    publish(&left, "a").await;
    publish(&left, "b").await;
    let by_left = receive(&left, 1).await;
    let by_right = receive(&right, 1).await;
    assert_eq!((text(&by_left[0]), text(&by_right[0])), ("a", "b"));
    drop(right);
    // Closing one gives back its own message only.
    let again = receive(&left, 10).await;
    assert_eq!(again.iter().map(text).collect::<Vec<_>>(), ["b"]);
}

#[tokio::test]
async fn closing_finishes_what_was_asked_and_ends_who_waits() {
    let directory = tempfile::tempdir().unwrap();
    let transport = open(directory.path()).await;
    let mut consumer = transport.consume(&queue()).await.unwrap();
    let other = QueueName::for_actor("other");
    transport.declare(&other).await.unwrap();
    let mut waiting_consumer = transport.consume(&other).await.unwrap();
    let waiting = tokio::spawn(async move { waiting_consumer.receive(1).await });
    let confirms: Vec<_> = (0..100)
        .map(|number| transport.publish(message(&number.to_string())))
        .collect();
    let late = transport.clone();
    drop(transport);
    publish(&late, "a clone keeps it open").await;
    drop(late);

    for confirm in confirms {
        confirm.await.unwrap();
    }
    let ended = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert!(closed(&ended.unwrap_err()), "the waiting consumer");
    let refused = consumer.receive(1).await.unwrap_err();
    assert!(closed(&refused), "{refused:?}");
    let reopened = open(directory.path()).await;
    assert_eq!(reopened.depth(&queue()).await.unwrap().ready, 101);
}

fn closed(error: &ConsumeError) -> bool {
    let ConsumeError::Unavailable(cause) = error else {
        return false;
    };
    matches!(cause.downcast_ref(), Some(StoreError::Closed))
}

#[tokio::test]
async fn a_message_above_the_limit_is_refused_by_the_configured_figure() {
    let directory = tempfile::tempdir().unwrap();
    let options = LocalOptions {
        max_message_size: 10,
        ..Default::default()
    };
    let transport = LocalTransport::open(directory.path(), &options).unwrap();
    transport.declare(&queue()).await.unwrap();
    publish(&transport, "0123456789").await;
    let refused = transport.publish(message("0123456789x")).await;
    assert!(
        matches!(refused, Err(PublishError::TooLarge { size: 11, limit: 10 })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn depths_tells_every_queue_in_one_answer() {
    let directory = tempfile::tempdir().unwrap();
    let transport = open(directory.path()).await;
    let other = QueueName::for_actor("a-other");
    transport.declare(&other).await.unwrap();
    publish(&transport, "a").await;
    publish(&transport, "b").await;
    let _held = receive(&transport, 1).await;
    let expected = [
        (other, Depth::default()),
        (
            queue(),
            Depth {
                ready: 1,
                unsettled: 1,
                delayed: 0,
            },
        ),
    ];
    assert_eq!(transport.depths().await.unwrap(), expected);
}
