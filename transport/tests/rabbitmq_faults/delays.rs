//! Messages that are to come later.

use std::time::Duration;

use asya_transport::{
    AdminError, Administration, DeleteMode, Outgoing, PublishError, QueueName, Settlement, Transport,
};
use tokio::time::timeout;

use super::traffic::{PATIENCE, message};
use super::{broker, open, receive};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_retry_leaves_room_for_others_and_keeps_its_count() {
    for quorum in [false, true] {
        let mut options = broker().await.options();
        options.queues.quorum = quorum;
        let transport = open(options).await;
        let queue = QueueName::for_actor("later");
        transport.declare(&queue).await.unwrap();
        transport.publish(message(&queue, "failing")).await.unwrap();
        transport.publish(message(&queue, "waiting")).await.unwrap();
        let mut consumer = transport.consume(&queue).await.unwrap();
        for expected in 1..=3 {
            let failing = receive(&mut *consumer, 1).await.remove(0);
            assert_eq!(
                (failing.message_id.as_deref(), failing.deliveries),
                (Some("failing"), expected)
            );
            let retry = Settlement::Retry {
                after: Duration::from_millis(400),
            };
            failing.receipt.settle(retry).await.unwrap();
            if expected == 1 {
                let waiting = receive(&mut *consumer, 1).await.remove(0);
                assert_eq!(waiting.message_id.as_deref(), Some("waiting"));
                waiting.receipt.settle(Settlement::Ack).await.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_message_to_a_missing_queue_is_unroutable_at_once() {
    let transport = open(broker().await.options()).await;
    let delayed = Outgoing {
        delay: Duration::from_secs(30),
        ..message(&QueueName::for_actor("nowhere"), "lost")
    };
    let refused = timeout(PATIENCE, transport.publish(delayed)).await.unwrap();
    assert!(matches!(refused, Err(PublishError::Unroutable(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_with_delayed_messages_is_not_deleted() {
    let transport = open(broker().await.options()).await;
    let queue = QueueName::for_actor("delayed");
    transport.declare(&queue).await.unwrap();
    let delayed = Outgoing {
        delay: Duration::from_mins(10),
        ..message(&queue, "later")
    };
    transport.publish(delayed).await.unwrap();
    let refused = transport.delete(&queue, DeleteMode::IfEmpty).await;
    assert!(
        matches!(refused, Err(AdminError::NotEmpty { messages: 1, .. })),
        "{refused:?}"
    );
    transport.delete(&queue, DeleteMode::Always).await.unwrap();
    transport.declare(&queue).await.unwrap();
    transport.delete(&queue, DeleteMode::IfEmpty).await.unwrap();
}
