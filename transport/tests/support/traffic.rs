//! Traffic that counts every message, to run while something breaks.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use asya_transport::rabbitmq::{BrokerState, RabbitMqTransport};
use asya_transport::{
    Administration, Delivery, Outgoing, PublishError, QueueName, SettleError, Settlement, Transport,
};
use bytes::Bytes;
use tokio::task::JoinSet;

/// How long a test waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Messages go from one queue to another, each published again until it is stored.
pub(crate) struct Traffic {
    pub(crate) transport: RabbitMqTransport,
    source: QueueName,
    target: QueueName,
    total: usize,
    arrived: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
    collecting: tokio::task::JoinHandle<HashMap<String, usize>>,
}

impl Traffic {
    /// Declares two queues and starts a publisher, a worker that moves messages and a collector.
    pub(crate) async fn start(transport: &RabbitMqTransport, total: usize) -> Self {
        let (source, target) = (QueueName::for_actor("source"), QueueName::for_actor("target"));
        for queue in [&source, &target] {
            transport.declare(queue).await.unwrap();
        }
        let arrived = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        tasks.spawn(publish_all(transport.clone(), source.clone(), total));
        tasks.spawn(work(transport.clone(), source.clone(), target.clone()));
        let collecting = tokio::spawn(collect(
            transport.clone(),
            target.clone(),
            total,
            Arc::clone(&arrived),
        ));
        Self {
            transport: transport.clone(),
            source,
            target,
            total,
            arrived,
            tasks,
            collecting,
        }
    }

    /// Whether everything has arrived.
    pub(crate) fn is_done(&self) -> bool {
        self.collecting.is_finished()
    }

    /// Waits until at least `more` messages have arrived, or all.
    pub(crate) async fn progress(&self, more: usize) {
        let goal = (self.arrived.load(Ordering::Relaxed) + more).min(self.total);
        let started = Instant::now();
        while self.arrived.load(Ordering::Relaxed) < goal {
            if started.elapsed() > PATIENCE {
                self.stuck().await;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn stuck(&self) -> ! {
        panic!(
            "only {} of {} arrived; {:?}, {:?} in the source, {:?} in the target",
            self.arrived.load(Ordering::Relaxed),
            self.total,
            self.transport.state(),
            self.transport.depth(&self.source).await,
            self.transport.depth(&self.target).await
        )
    }

    /// Waits for the end: every message has arrived, and none is left behind. Returns how many arrived twice.
    pub(crate) async fn finish(mut self) -> usize {
        let collected = tokio::time::timeout(PATIENCE, &mut self.collecting).await;
        let Ok(arrived) = collected else {
            self.stuck().await
        };
        let arrived = arrived.unwrap();
        let expected: HashSet<_> = (0..self.total).map(id).collect();
        assert_eq!(arrived.keys().cloned().collect::<HashSet<_>>(), expected);
        let (transport, source) = (self.transport.clone(), self.source.clone());
        until("the source is empty", || async {
            transport
                .depth(&source)
                .await
                .is_ok_and(|depth| depth.total() == 0)
        })
        .await;
        self.tasks.shutdown().await;
        drop(self.target);
        arrived.values().sum::<usize>() - self.total
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

async fn publish_all(transport: RabbitMqTransport, queue: QueueName, total: usize) {
    let mut under_way = JoinSet::new();
    for number in 0..total {
        if under_way.len() >= 50 {
            under_way.join_next().await;
        }
        under_way.spawn(store(transport.clone(), message(&queue, &id(number))));
    }
    under_way.join_all().await;
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
        while under_way.len() >= 40 {
            under_way.join_next().await;
        }
        let Ok(deliveries) = consumer.receive(40 - under_way.len()).await else {
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

async fn collect(
    transport: RabbitMqTransport,
    target: QueueName,
    total: usize,
    arrived: Arc<AtomicUsize>,
) -> HashMap<String, usize> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut consumer = transport.consume(&target).await.unwrap();
    while seen.len() < total {
        let Ok(deliveries) = consumer.receive(100).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        for delivery in deliveries {
            *seen.entry(delivery.message_id.clone().unwrap()).or_default() += 1;
            arrived.store(seen.len(), Ordering::Relaxed);
            acknowledge(&delivery).await;
        }
    }
    seen
}

/// A stale receipt means that the message comes again.
async fn acknowledge(delivery: &Delivery) {
    match delivery.receipt.settle(Settlement::Ack).await {
        Ok(()) | Err(SettleError::Stale) => {}
        Err(error) => panic!("{error}"),
    }
}
