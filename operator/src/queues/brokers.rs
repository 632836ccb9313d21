//! All brokers that the actors of this cluster use.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::credentials::{Safe, Secrets};
use super::{Deleted, DeletionPolicy, Ensured, QueueError, QueueSpec, Queues};
use crate::registry::Transport;
use crate::status::QueueDepth;

/// Who uses queues: recorded at each queue, so that two clusters on one broker do not take each other's away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Tells this cluster from others; never changes while it lives.
    pub cluster: String,
}

/// [`Queues`] on real brokers. One connection for each broker and set of credentials.
pub struct Brokers {
    safe: Safe,
    owner: Owner,
}

impl Brokers {
    /// Connects to nothing yet.
    pub fn new(secrets: Arc<dyn Secrets>, owner: Owner) -> Self {
        Self { safe: Safe::new(secrets), owner }
    }
}

impl Queues for Brokers {
    fn ensure<'a>(&'a self, transport: &'a Transport, queue: &'a QueueSpec) -> BoxFuture<'a, Result<Ensured, QueueError>> {
        let _ = (transport, queue, &self.safe, &self.owner);
        Box::pin(async { Err(QueueError::Broker("not yet".into())) })
    }

    fn depth<'a>(&'a self, transport: &'a Transport, queue: &'a QueueSpec) -> BoxFuture<'a, Result<QueueDepth, QueueError>> {
        let _ = (transport, queue);
        Box::pin(async { Err(QueueError::Broker("not yet".into())) })
    }

    fn release<'a>(
        &'a self,
        transport: &'a Transport,
        queue: &'a QueueSpec,
        policy: DeletionPolicy,
    ) -> BoxFuture<'a, Result<Deleted, QueueError>> {
        let _ = (transport, queue, policy);
        Box::pin(async { Err(QueueError::Broker("not yet".into())) })
    }
}
