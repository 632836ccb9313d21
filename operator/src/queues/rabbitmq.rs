//! Queues on RabbitMQ.

use std::path::PathBuf;
use std::time::Duration;

use asya_transport::QueueName;
use asya_transport::keeping::{Ensured, KeepError, ReleaseMode, Released};
use asya_transport::rabbitmq::{Address, QueueArguments, RabbitMqKeeper, RabbitMqOptions, Wanted};

use super::arguments::of_queue;
use super::brokers::{Brokers, explain};
use super::credentials::Hidden;
use super::{QueueError, QueueSpec, management};
use crate::registry::RabbitMq;
use crate::status::QueueDepth;

/// Limit for one attempt to connect: an operator that waits longer only tells later that nobody answers.
const CONNECTING: Duration = Duration::from_secs(5);

/// The password where the transport names none.
const DEFAULT_PASSWORD: &str = "guest";

/// What makes one connection differ from another.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    host: String,
    port: u16,
    user: String,
    password: Hidden,
    vhost: String,
    tls: bool,
    exchange: String,
    authority: Option<PathBuf>,
}

impl Key {
    fn options(&self) -> RabbitMqOptions {
        let mut options = RabbitMqOptions::new(Address {
            tls: self.tls,
            vhost: self.vhost.clone(),
            ..Address::new(&self.host, self.port, &self.user, &self.password.0)
        });
        options.exchange.clone_from(&self.exchange);
        options.tls.ca.clone_from(&self.authority);
        options.connect_timeout = CONNECTING;
        options.connection_name = "asya-operator".into();
        options
    }
}

impl Brokers {
    pub(super) async fn ensure_on_rabbitmq(
        &self,
        broker: &RabbitMq,
        queue: &QueueSpec,
    ) -> Result<Ensured, QueueError> {
        let (keeper, _) = self.keeper(broker, &queue.namespace).await?;
        let wanted = Wanted {
            owner: self.owner(queue),
            arguments: arguments(broker, queue)?,
            create: broker.queues.auto_create,
            dead_letter: broker.queues.dead_letter.enabled,
            recreate: broker.queues.force_recreate,
        };
        let name = QueueName::from_full_name(&queue.name);
        let ensured = keeper.ensure(&name, &wanted).await;
        ensured.map_err(|error| self.refused(error, broker, &queue.namespace))
    }

    /// From the management API where there is one; by AMQP, without what is in flight, where there is none or where
    /// it does not answer.
    pub(super) async fn depth_on_rabbitmq(
        &self,
        broker: &RabbitMq,
        queue: &QueueSpec,
    ) -> Result<QueueDepth, QueueError> {
        let (keeper, password) = self.keeper(broker, &queue.namespace).await?;
        if let Some(port) = broker.management_port {
            match management::depth(&self.http, broker, port, &password, &queue.name).await {
                Ok(Some(depth)) => return Ok(depth),
                Ok(None) => {}
                Err(reason) => {
                    tracing::warn!(queue = queue.name, %reason, "counting ready messages over AMQP only");
                }
            }
        }
        let ready = keeper.ready(&QueueName::from_full_name(&queue.name)).await;
        match ready.map_err(|error| self.refused(error, broker, &queue.namespace))? {
            Some(queued) => Ok(QueueDepth {
                queued,
                processing: None,
            }),
            None => Ok(QueueDepth {
                queued: 0,
                processing: Some(0),
            }),
        }
    }

    pub(super) async fn release_on_rabbitmq(
        &self,
        broker: &RabbitMq,
        queue: &QueueSpec,
        mode: ReleaseMode,
    ) -> Result<Released, QueueError> {
        let (keeper, password) = self.keeper(broker, &queue.namespace).await?;
        let arguments = arguments(broker, queue)?;
        let name = QueueName::from_full_name(&queue.name);
        // AMQP tells nothing of messages that somebody without a consumer holds.
        if let (ReleaseMode::IfEmpty, Some(port)) = (mode, broker.management_port)
            && let Ok(Some(QueueDepth {
                processing: Some(held @ 1..),
                ..
            })) = management::depth(&self.http, broker, port, &password, &queue.name).await
        {
            let released = keeper
                .release(&name, &self.owner(queue), ReleaseMode::Never, &arguments)
                .await;
            released.map_err(|error| self.refused(error, broker, &queue.namespace))?;
            return Ok(Released::Kept(format!(
                "{} has {held} unacknowledged messages",
                queue.name
            )));
        }
        let released = keeper.release(&name, &self.owner(queue), mode, &arguments).await;
        released.map_err(|error| self.refused(error, broker, &queue.namespace))
    }

    async fn keeper(
        &self,
        broker: &RabbitMq,
        namespace: &str,
    ) -> Result<(RabbitMqKeeper, Hidden), QueueError> {
        if broker.host.is_empty() {
            return Err(QueueError::Broker(
                "the transport has no `host`; add it to the operator's registry".into(),
            ));
        }
        let password = match &broker.password {
            Some(place) => self.safe.value(namespace, place).await?,
            None => None,
        };
        let password = password.unwrap_or_else(|| Hidden(DEFAULT_PASSWORD.into()));
        let key = Key {
            host: broker.host.clone(),
            port: broker.port,
            user: broker.username.clone(),
            password: password.clone(),
            vhost: broker.vhost.clone(),
            tls: broker.tls,
            exchange: broker.exchange.clone(),
            authority: self.authority.clone(),
        };
        let keeper = self.rabbits.get(key, |key| RabbitMqKeeper::new(key.options()));
        keeper
            .map(|keeper| (keeper, password))
            .map_err(|error| QueueError::Broker(error.to_string()))
    }

    fn refused(&self, error: KeepError, broker: &RabbitMq, namespace: &str) -> QueueError {
        if let (KeepError::Login(_), Some(place)) = (&error, &broker.password) {
            self.safe.doubt(namespace, &place.name);
        }
        explain(error, namespace, broker.password.as_ref().as_slice())
    }
}

fn arguments(broker: &RabbitMq, queue: &QueueSpec) -> Result<QueueArguments, QueueError> {
    let arguments = of_queue(&broker.queues, &queue.name);
    QueueArguments::read(&arguments).map_err(|error| QueueError::Broker(error.to_string()))
}
