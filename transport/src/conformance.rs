//! The test suite that every transport passes, against its real broker.
//!
//! What it is: one function per promise of [`Transport`] and
//! [`Administration`], grouped as [`delivering`], [`settling`], [`waiting`] and [`queues`]. What
//! it is not: a test of how a broker fails; those belong to the transport's own tests.
//!
//! A transport implements [`Harness`] and calls [`conformance_tests!`](crate::conformance_tests) in an integration
//! test, which makes one test of each case:
//!
//! ```text
//! asya_transport::conformance_tests!(MyHarness::connect().await);
//! ```
//!
//! Every case declares queues of its own and deletes them when it passes, so that cases may run side by side on one
//! broker. Nothing sleeps to let something happen: what must happen is awaited, with [`PATIENCE`] as the limit.
#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "this module is test code that is compiled for several test crates: a panic is how a case fails"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::{
    Administration, Consumer, DeleteMode, Delivery, Depth, Outgoing, QueueName, Settlement, Transport,
};

pub mod delivering;
pub mod queues;
pub mod settling;
pub mod waiting;

/// How long a case waits for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Gives the cases a transport to try.
pub trait Harness: Send + Sync {
    /// The transport under test, connected to a broker that works.
    fn transport(&self) -> &dyn Transport;

    /// Whether [`Outgoing::delay`] is offered. Without it the cases of delayed publishing pass unseen.
    fn delays_publishing(&self) -> bool {
        true
    }

    /// Whether [`Depth`] tells unsettled and delayed messages apart from ready ones.
    fn tells_states_apart(&self) -> bool {
        true
    }
}

/// Makes one `#[tokio::test]` of every case. The argument is an expression that makes a new
/// [`Harness`](crate::conformance::Harness) and may use `.await`.
#[macro_export]
macro_rules! conformance_tests {
    ($harness:expr) => {
        $crate::conformance_tests!(@ $harness;
            delivering: bytes_arrive_as_they_were_sent, empty_large_and_binary_bodies_arrive,
                the_message_id_is_kept, a_large_message_is_refused_or_taken, order_is_kept_for_one_consumer,
                credit_is_the_limit_of_one_receive, two_consumers_share_without_overlap,
                publishing_to_a_missing_queue_is_unroutable, a_delayed_message_is_not_early,
                a_dropped_publish_future_still_publishes;
            settling: ack_removes_the_message, retry_comes_back_after_its_delay_and_not_earlier,
                retry_without_delay_comes_back_at_once, deliveries_are_counted, a_return_is_not_counted,
                a_dropped_receipt_gives_the_message_back, a_kept_clone_of_a_receipt_keeps_the_message,
                settling_twice_is_once, a_dropped_settle_future_may_be_repeated,
                receipts_outlive_their_consumer;
            waiting: a_waiting_consumer_wakes_when_something_is_published,
                a_waiting_consumer_wakes_when_a_delay_has_passed, many_waiting_consumers_each_get_one,
                a_dropped_receive_loses_nothing, a_missing_queue_is_reported_until_it_is_declared;
            queues: depth_counts_each_state, a_missing_queue_has_no_depth,
                declaring_again_changes_nothing, declared_queues_are_listed_in_order,
                deleting_if_empty_refuses_while_there_are_messages, deleting_always_takes_the_messages_along,
                deleting_a_missing_queue_is_an_error;
        );
    };
    (@ $harness:expr; $($module:ident : $($case:ident),+ ;)+) => {
        $(mod $module {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let harness = $harness;
                    $crate::conformance::bounded($crate::conformance::$module::$case(&harness)).await;
                }
            )+
        })+
    };
}

/// Runs a case for at most three times [`PATIENCE`].
pub async fn bounded(case: impl Future<Output = ()>) {
    tokio::time::timeout(3 * PATIENCE, case).await.unwrap();
}

/// A declared queue that no other case uses.
struct Bench<'a> {
    transport: &'a dyn Transport,
    queue: QueueName,
}

impl<'a> Bench<'a> {
    async fn new(harness: &'a dyn Harness) -> Self {
        let bench = Self {
            transport: harness.transport(),
            queue: unused_name(),
        };
        bench.administration().declare(&bench.queue).await.unwrap();
        bench
    }

    fn administration(&self) -> &'a dyn Administration {
        self.transport.administration()
    }

    async fn consumer(&self) -> Box<dyn Consumer> {
        self.transport.consume(&self.queue).await.unwrap()
    }

    fn message(&self, text: &str) -> Outgoing {
        Outgoing {
            queue: self.queue.clone(),
            message_id: format!("id of {text}"),
            body: Bytes::copy_from_slice(text.as_bytes()),
            delay: Duration::ZERO,
        }
    }

    async fn publish(&self, text: &str) {
        self.transport.publish(self.message(text)).await.unwrap();
    }

    async fn publish_delayed(&self, text: &str, delay: Duration) {
        self.transport
            .publish(Outgoing {
                delay,
                ..self.message(text)
            })
            .await
            .unwrap();
    }

    /// Waits until the queue holds what is expected; brokers may count with a delay.
    async fn depth_becomes(&self, harness: &dyn Harness, expected: Depth) {
        let started = Instant::now();
        loop {
            let depth = self.administration().depth(&self.queue).await.unwrap();
            let same = if harness.tells_states_apart() {
                depth == expected
            } else {
                depth.ready == expected.ready
            };
            if same {
                return;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "{} holds {depth:?}, not {expected:?}",
                self.queue
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn is_empty(&self, harness: &dyn Harness) {
        self.depth_becomes(harness, Depth::default()).await;
    }

    async fn done(self) {
        self.administration()
            .delete(&self.queue, DeleteMode::Always)
            .await
            .unwrap();
    }
}

fn unused_name() -> QueueName {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    QueueName::for_actor(&format!("conformance-{}-{number}", uuid::Uuid::new_v4().simple()))
}

/// One receive, which must end within [`PATIENCE`].
async fn receive(consumer: &mut dyn Consumer, credit: usize) -> Vec<Delivery> {
    let Ok(deliveries) = tokio::time::timeout(PATIENCE, consumer.receive(credit)).await else {
        panic!("nothing was delivered within {PATIENCE:?}");
    };
    let deliveries = deliveries.unwrap();
    assert!(!deliveries.is_empty(), "a receive without messages must wait");
    assert!(
        deliveries.len() <= credit,
        "{} deliveries for a credit of {credit}",
        deliveries.len()
    );
    deliveries
}

async fn receive_one(consumer: &mut dyn Consumer) -> Delivery {
    receive(consumer, 1).await.remove(0)
}

/// Receives until `count` messages are there.
async fn receive_all(consumer: &mut dyn Consumer, count: usize) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    while deliveries.len() < count {
        deliveries.extend(receive(consumer, count - deliveries.len()).await);
    }
    deliveries
}

async fn ack(delivery: &Delivery) {
    delivery.receipt.settle(Settlement::Ack).await.unwrap();
}

async fn retry(delivery: &Delivery, after: Duration) {
    delivery
        .receipt
        .settle(Settlement::Retry { after })
        .await
        .unwrap();
}

fn texts(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries
        .iter()
        .map(|delivery| std::str::from_utf8(&delivery.body).unwrap())
        .collect()
}
