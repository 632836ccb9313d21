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
        let (keeper, password) = self.keeper(broker, &queue.namespace).await?;
        let mut wanted = Wanted {
            owner: self.owner(queue),
            arguments: arguments(broker, queue)?,
            create: broker.queues.auto_create,
            dead_letter: broker.queues.dead_letter.enabled,
            recreate: false,
        };
        let name = QueueName::from_full_name(&queue.name);
        let refused = |error| self.refused(error, broker, &queue.namespace);
        let ensured = keeper.ensure(&name, &wanted).await.map_err(refused)?;
        let Ensured::Drifted(difference) = ensured else {
            return Ok(ensured);
        };
        if !broker.queues.force_recreate {
            return Ok(Ensured::Drifted(difference));
        }
        let reason = match broker.management_port {
            None => Some("forceRecreate needs managementPort, to see who holds messages of it".to_owned()),
            Some(port) => management::in_hand(&self.http, broker, port, &password, &queue.name)
                .await
                .unwrap_or_else(Some),
        };
        if let Some(reason) = reason {
            return Ok(Ensured::Drifted(format!(
                "{difference}; not made anew because {reason}"
            )));
        }
        wanted.recreate = true;
        keeper.ensure(&name, &wanted).await.map_err(refused)
    }

    /// Why an empty queue without consumers must not be deleted (yet): AMQP tells nothing of messages that somebody
    /// without a consumer holds. Without a management API the caller has seen to it that nobody is left who might.
    async fn held(&self, broker: &RabbitMq, password: &Hidden, queues: &[&QueueName]) -> Option<Released> {
        let port = broker.management_port?;
        for queue in queues {
            match management::in_hand(&self.http, broker, port, password, queue.as_str()).await {
                Ok(None) => {}
                Ok(Some(reason)) => return Some(Released::Kept(reason)),
                Err(reason) => return Some(Released::Later(reason)),
            }
        }
        None
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
            None => Err(QueueError::Missing(queue.name.clone())),
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
        let has_dead_letters = broker.queues.dead_letter.enabled;
        let dead_letters = name.dead_letter();
        let queues = [&name, &dead_letters];
        let queues = if has_dead_letters {
            &queues[..]
        } else {
            &queues[..1]
        };
        let held = if mode == ReleaseMode::IfEmpty {
            self.held(broker, &password, queues).await
        } else {
            None
        };
        let mode = if held.is_some() { ReleaseMode::Never } else { mode };
        let released = keeper
            .release(&name, &self.owner(queue), mode, &arguments, has_dead_letters)
            .await
            .map_err(|error| self.refused(error, broker, &queue.namespace))?;
        Ok(held.unwrap_or(released))
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
