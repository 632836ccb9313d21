//! RabbitMQ that may not be there yet.
//!
//! The transport itself only exists once it has connected. Here it is a [`Transport`] from the first moment on, which
//! says that the broker is away until it is there: what is to be published waits in the outbox meanwhile.

use std::sync::{Arc, OnceLock};

use asya_program::rabbitmq::to_change;
use asya_transport::rabbitmq::{BrokerState, RabbitMqOptions, RabbitMqTransport};
use asya_transport::{
    AdminError, Administration, BoxError, ConsumeError, Consumer, DeleteMode, Depth, Outgoing, PublishError,
    QueueName, Transport,
};
use futures::future::BoxFuture;
use tokio::sync::oneshot;

/// The broker; clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct Broker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Where it is, without secrets.
    address: String,
    max_message_size: usize,
    connected: OnceLock<RabbitMqTransport>,
}

impl Broker {
    pub(super) fn new(options: &RabbitMqOptions) -> Self {
        Self(Arc::new(Inner {
            address: options.address.to_string(),
            max_message_size: options.max_message_size,
            connected: OnceLock::new(),
        }))
    }

    /// Connects, for as long as nobody answers. What is refused is told to `refused`, in one line that names the
    /// variables to change (rulings 22).
    pub(super) async fn connect(
        self,
        options: RabbitMqOptions,
        is_url: bool,
        refused: oneshot::Sender<String>,
    ) {
        match RabbitMqTransport::connect(options).await {
            Ok(transport) => {
                tracing::info!(broker = self.0.address, "connected to RabbitMQ");
                // Nobody else sets it.
                let _ = self.0.connected.set(transport);
                // Held, so that whoever waits for a refusal waits on.
                refused_never(refused).await;
            }
            Err(error) => {
                // Nobody listens any more at the end.
                let _ = refused.send(format!("{}: {error}", to_change(&error, is_url)));
            }
        }
    }

    /// Whether it takes messages now.
    pub(super) fn probe(&self) -> Result<(), String> {
        let address = &self.0.address;
        match self.0.connected.get().map(RabbitMqTransport::state) {
            Some(BrokerState::Connected) => Ok(()),
            None => Err(format!("no connection to RabbitMQ at {address} yet")),
            Some(BrokerState::Reconnecting { since, reason }) => Err(format!(
                "the connection to RabbitMQ at {address} is lost for {} s: {reason}",
                since.elapsed().as_secs()
            )),
            Some(BrokerState::Blocked { since, reason }) => Err(format!(
                "RabbitMQ at {address} takes no messages for {} s: {reason}",
                since.elapsed().as_secs()
            )),
        }
    }

    fn connected(&self) -> Result<&RabbitMqTransport, BoxError> {
        self.0
            .connected
            .get()
            .ok_or_else(|| format!("no connection to RabbitMQ at {} yet", self.0.address).into())
    }
}

/// Keeps the sender for as long as it is polled.
async fn refused_never(sender: oneshot::Sender<String>) {
    std::future::pending::<()>().await;
    drop(sender);
}

impl Transport for Broker {
    fn name(&self) -> &'static str {
        "rabbitmq"
    }

    fn max_message_size(&self) -> Option<usize> {
        let connected = self.0.connected.get();
        connected.map_or(Some(self.0.max_message_size), Transport::max_message_size)
    }

    fn consume<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<Box<dyn Consumer>, ConsumeError>> {
        match self.connected() {
            Ok(transport) => transport.consume(queue),
            Err(error) => Box::pin(async { Err(ConsumeError::Unavailable(error)) }),
        }
    }

    fn publish(&self, message: Outgoing) -> BoxFuture<'static, Result<(), PublishError>> {
        match self.connected() {
            Ok(transport) => transport.publish(message),
            Err(error) => Box::pin(async { Err(PublishError::Unavailable(error)) }),
        }
    }

    fn administration(&self) -> &dyn Administration {
        self
    }
}

impl Administration for Broker {
    fn declare<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<(), AdminError>> {
        match self.connected() {
            Ok(transport) => transport.administration().declare(queue),
            Err(error) => Box::pin(async { Err(AdminError::Unavailable(error)) }),
        }
    }

    fn delete<'a>(&'a self, queue: &'a QueueName, mode: DeleteMode) -> BoxFuture<'a, Result<(), AdminError>> {
        match self.connected() {
            Ok(transport) => transport.administration().delete(queue, mode),
            Err(error) => Box::pin(async { Err(AdminError::Unavailable(error)) }),
        }
    }

    fn depth<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<Depth, AdminError>> {
        match self.connected() {
            Ok(transport) => transport.administration().depth(queue),
            Err(error) => Box::pin(async { Err(AdminError::Unavailable(error)) }),
        }
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<QueueName>, AdminError>> {
        match self.connected() {
            Ok(transport) => transport.administration().list(),
            Err(error) => Box::pin(async { Err(AdminError::Unavailable(error)) }),
        }
    }
}
