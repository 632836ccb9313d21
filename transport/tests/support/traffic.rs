//! Traffic that counts every message, to run while something breaks.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use asya_transport::rabbitmq::{BrokerState, RabbitMqTransport};
use asya_transport::{
    Administration, Delivery, Outgoing, PublishError, QueueName, SettleError, Settlement, Transport,
};
use bytes::Bytes;
use tokio::task::{JoinHandle, JoinSet};

/// How long a test waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Most messages between the publisher and the collector, so that a test ends soon after it has stopped publishing.
const BACKLOG: usize = 400;

/// Messages that are published at the same time.
const PUBLISHING: usize = 50;

/// Messages that are in the worker's hands at the same time.
const WORKING: usize = 40;

/// Messages go from one queue to another, each published again until it is stored, until the test has seen enough.
pub(crate) struct Traffic {
    transport: RabbitMqTransport,
    source: QueueName,
    shared: Arc<Shared>,
    publishing: JoinHandle<usize>,
    others: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    published: AtomicUsize,
    /// How often each message has arrived in the end.
    arrived: Mutex<HashMap<String, usize>>,
}

impl Shared {
    fn arrived(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.arrived.lock().unwrap()
    }
}

impl Traffic {
    /// Declares two queues and starts a publisher, a worker that moves messages and a collector.
    pub(crate) async fn start(transport: &RabbitMqTransport) -> Self {
        let (source, target) = (QueueName::for_actor("source"), QueueName::for_actor("target"));
        for queue in [&source, &target] {
            transport.declare(queue).await.unwrap();
        }
        let shared = Arc::new(Shared::default());
        let publishing = tokio::spawn(publish_all(
            transport.clone(),
            source.clone(),
            Arc::clone(&shared),
        ));
        let mut others = JoinSet::new();
        others.spawn(work(transport.clone(), source.clone(), target.clone()));
        others.spawn(collect(transport.clone(), target, Arc::clone(&shared)));
        Self {
            transport: transport.clone(),
            source,
            shared,
            publishing,
            others,
        }
    }

    /// Waits until `more` messages have arrived.
    pub(crate) async fn progress(&self, more: usize) {
        let goal = self.shared.arrived().len() + more;
        self.until_arrived(goal).await;
    }

    async fn until_arrived(&self, goal: usize) {
        let started = Instant::now();
        loop {
            let arrived = self.shared.arrived().len();
            if arrived >= goal {
                return;
            }
            if started.elapsed() > PATIENCE {
                let depth = self.transport.depth(&self.source).await;
                panic!(
                    "only {arrived} of {goal} arrived, {} were stored; {:?}, {depth:?} in the source",
                    self.shared.published.load(Ordering::Relaxed),
                    self.transport.state(),
                );
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops publishing. Every message must arrive, and none may be left behind. Returns how many arrived twice.
    pub(crate) async fn finish(mut self) -> usize {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let published = tokio::time::timeout(PATIENCE, &mut self.publishing).await;
        let total = published.unwrap().unwrap();
        self.until_arrived(total).await;
        until("the source is empty", || async {
            let depth = self.transport.depth(&self.source).await;
            depth.is_ok_and(|depth| depth.total() == 0)
        })
        .await;
        self.others.shutdown().await;
        let arrived = std::mem::take(&mut *self.shared.arrived());
        assert!(
            (0..total).all(|number| arrived.contains_key(&id(number))),
            "other messages arrived than were published"
        );
        assert_eq!(arrived.len(), total, "messages arrived that nobody published");
        arrived.values().sum::<usize>() - total
    }
}

/// Waits until the transport says that all is well.
pub(crate) async fn connected(transport: &RabbitMqTransport) {
    until("the transport is connected", || async {
        transport.state() == BrokerState::Connected
    })
    .await;
}

/// Waits for a condition.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn id(number: usize) -> String {
    format!("message-{number}")
}

pub(crate) fn message(queue: &QueueName, message_id: &str) -> Outgoing {
    Outgoing {
        queue: queue.clone(),
        message_id: message_id.to_owned(),
        body: Bytes::copy_from_slice(message_id.as_bytes()),
        delay: Duration::ZERO,
    }
}

/// Returns how many messages were published.
async fn publish_all(transport: RabbitMqTransport, queue: QueueName, shared: Arc<Shared>) -> usize {
    let mut under_way = JoinSet::new();
    let mut number = 0;
    while !shared.stopping.load(Ordering::Relaxed) {
        if under_way.len() >= PUBLISHING {
            under_way.join_next().await;
        }
        if number > shared.arrived().len() + BACKLOG {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        }
        let (transport, message, shared) = (
            transport.clone(),
            message(&queue, &id(number)),
            Arc::clone(&shared),
        );
        under_way.spawn(async move {
            store(transport, message).await;
            shared.published.fetch_add(1, Ordering::Relaxed);
        });
        number += 1;
    }
    under_way.join_all().await;
    number
}

/// Publishes until the broker has it, as the sidecar does.
async fn store(transport: RabbitMqTransport, message: Outgoing) {
    loop {
        match transport.publish(message.clone()).await {
            Ok(()) => return,
            Err(PublishError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error}"),
        }
    }
}

async fn work(transport: RabbitMqTransport, source: QueueName, target: QueueName) {
    let mut under_way = JoinSet::new();
    let mut consumer = transport.consume(&source).await.unwrap();
    loop {
        while under_way.len() >= WORKING {
            under_way.join_next().await;
        }
        let Ok(deliveries) = consumer.receive(WORKING - under_way.len()).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        for delivery in deliveries {
            let (transport, target) = (transport.clone(), target.clone());
            under_way.spawn(async move {
                let id = delivery.message_id.clone().unwrap();
                store(transport, message(&target, &id)).await;
                acknowledge(&delivery).await;
            });
        }
    }
}

async fn collect(transport: RabbitMqTransport, target: QueueName, shared: Arc<Shared>) {
    let mut consumer = transport.consume(&target).await.unwrap();
    loop {
        let Ok(deliveries) = consumer.receive(100).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        for delivery in deliveries {
            let id = delivery.message_id.clone().unwrap();
            assert_eq!(id.as_bytes(), &delivery.body[..], "a body under another id");
            *shared.arrived().entry(id).or_default() += 1;
            acknowledge(&delivery).await;
        }
    }
}

/// A stale receipt means that the message comes again.
pub(crate) async fn acknowledge(delivery: &Delivery) {
    match delivery.receipt.settle(Settlement::Ack).await {
        Ok(()) | Err(SettleError::Stale) => {}
        Err(error) => panic!("{error}"),
    }
}
