//! A broker whose confirmations can be held back: the real one behind a gate.

use std::sync::Arc;

use asya_transport::{Administration, ConsumeError, Consumer, Outgoing, PublishError, QueueName, Transport};
use futures::future::BoxFuture;
use tokio::sync::watch;

/// The local queues, which confirm once the gate is open.
pub(crate) struct Gate {
    behind: Arc<dyn Transport>,
    published: watch::Sender<u32>,
    open: watch::Sender<bool>,
}

impl Gate {
    /// Closed.
    pub(crate) fn before(behind: Arc<dyn Transport>) -> Arc<Self> {
        Arc::new(Self {
            behind,
            published: watch::Sender::new(0),
            open: watch::Sender::new(false),
        })
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    /// How many messages the broker was given.
    pub(crate) fn published(&self) -> u32 {
        *self.published.borrow()
    }

    /// Waits until the broker was given so many.
    pub(crate) async fn reached(&self, count: u32) {
        let mut published = self.published.subscribe();
        published.wait_for(|published| *published >= count).await.unwrap();
    }
}

impl Transport for Gate {
    fn name(&self) -> &'static str {
        self.behind.name()
    }

    fn max_message_size(&self) -> Option<usize> {
        self.behind.max_message_size()
    }

    fn consume<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<Box<dyn Consumer>, ConsumeError>> {
        self.behind.consume(queue)
    }

    fn publish(&self, message: Outgoing) -> BoxFuture<'static, Result<(), PublishError>> {
        assert!(!message.body.ends_with(b"panic"), "a broker's client that panics");
        let publishing = self.behind.publish(message);
        let (published, mut open) = (self.published.clone(), self.open.subscribe());
        Box::pin(async move {
            let answer = publishing.await;
            published.send_modify(|published| *published += 1);
            open.wait_for(|open| *open).await.unwrap();
            answer
        })
    }

    fn administration(&self) -> &dyn Administration {
        self.behind.administration()
    }
}
