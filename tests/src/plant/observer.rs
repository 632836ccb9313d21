//! The queues as the test sees them: over a connection of its own, one step at a time.

use std::time::Duration;

use asya_transport::rabbitmq::{RabbitMqOptions, RabbitMqTransport};
use asya_transport::{
    Administration as _, ConsumeError, DeleteMode, Outgoing, QueueName, Settlement, Transport as _,
};
use bytes::Bytes;
use futures::future::join_all;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::arrived::Arrived;
use crate::waiting::wait_for;

/// Messages published, or taken out, together.
const BATCH: usize = 500;

/// A queue that gives nothing for so long is empty, when nobody fills it.
const EMPTY: Duration = Duration::from_millis(500);

pub(super) struct Observer {
    transport: RabbitMqTransport,
    runtime: Runtime,
}

impl Observer {
    pub(super) fn connect(options: RabbitMqOptions) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let transport = runtime.block_on(RabbitMqTransport::connect(options)).unwrap();
        Self { transport, runtime }
    }

    pub(super) fn declare(&self, queue: &QueueName) {
        wait_for("a queue to be declared", || {
            self.runtime.block_on(self.transport.declare(queue)).ok()
        });
    }

    pub(super) fn delete(&self, queue: &QueueName) {
        let deleting = self.transport.delete(queue, DeleteMode::Always);
        self.runtime.block_on(deleting).unwrap();
    }

    /// Messages that wait in the queue; `None` when it does not exist or the broker does not answer.
    pub(super) fn depth(&self, queue: &QueueName) -> Option<u64> {
        let looked = self.runtime.block_on(self.transport.depth(queue));
        looked.ok().map(|depth| depth.ready)
    }

    /// Publishes all, in batches, each until the broker has it.
    pub(super) fn publish(&self, messages: impl IntoIterator<Item = (QueueName, String, Bytes)>) {
        let mut messages = messages.into_iter().map(|(queue, message_id, body)| Outgoing {
            queue,
            message_id,
            body,
            delay: Duration::ZERO,
        });
        loop {
            let batch: Vec<_> = messages.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                return;
            }
            for message in self.refused(&batch) {
                wait_for("the broker to take a message", || {
                    self.runtime
                        .block_on(self.transport.publish(message.clone()))
                        .ok()
                });
            }
        }
    }

    /// Publishes once; what was not taken.
    fn refused(&self, batch: &[Outgoing]) -> Vec<Outgoing> {
        let publishing = batch
            .iter()
            .map(|message| self.transport.publish(message.clone()));
        let results = self.runtime.block_on(join_all(publishing));
        let failed = batch.iter().zip(results).filter(|(_, result)| result.is_err());
        failed.map(|(message, _)| message.clone()).collect()
    }

    /// Takes out everything that is in the queue, showing it to `look`.
    pub(super) fn take_all(&self, queue: &QueueName, mut look: impl FnMut(Arrived)) {
        self.runtime.block_on(async {
            let mut consumer = self.transport.consume(queue).await.unwrap();
            while let Ok(received) = timeout(EMPTY, consumer.receive(BATCH)).await {
                let deliveries = match received {
                    Ok(deliveries) => deliveries,
                    Err(ConsumeError::NoSuchQueue(_)) => return,
                    // A connection that was closed before.
                    Err(ConsumeError::Unavailable(_)) => continue,
                };
                for delivery in &deliveries {
                    look(Arrived::new(delivery));
                }
                let settling = deliveries
                    .iter()
                    .map(|delivery| delivery.receipt.settle(Settlement::Ack));
                for settled in join_all(settling).await {
                    settled.expect("nothing disturbs the broker while results are read");
                }
            }
        });
    }

    /// Runs something asynchronous beside.
    pub(super) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }
}
