//! All brokers that the actors of this cluster use, and the connections to them.

use std::collections::HashMap;
use std::hash::Hash;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use asya_transport::keeping::{self, KeepError, QueueOwner, ReleaseMode};
use asya_transport::rabbitmq::RabbitMqKeeper;
use asya_transport::sqs::SqsKeeper;
use futures::future::BoxFuture;

use super::credentials::{Safe, Secrets};
use super::{Deleted, DeletionPolicy, Ensured, QueueError, QueueSpec, Queues, rabbitmq, sqs};
use crate::registry::{Broker, SecretKey, Transport};
use crate::status::QueueDepth;

/// How long a broker is remembered that nobody asks for.
const FORGOTTEN: Duration = Duration::from_mins(10);

/// Who uses queues: recorded at each queue, so that two clusters on one broker do not take each other's away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Tells this cluster from others; never changes while it lives.
    pub cluster: String,
}

/// [`Queues`] on real brokers. One connection for each broker and set of credentials, opened when it is needed and
/// closed when it was not used for some minutes.
pub struct Brokers {
    pub(super) safe: Safe,
    owner: Owner,
    pub(super) authority: Option<PathBuf>,
    pub(super) settling: Option<Duration>,
    pub(super) http: reqwest::Client,
    pub(super) rabbits: Pool<rabbitmq::Key, RabbitMqKeeper>,
    pub(super) accounts: Pool<sqs::Key, Arc<SqsKeeper>>,
}

impl Brokers {
    /// Connects to nothing yet. TLS trusts the authorities of the system (those of `SSL_CERT_FILE`, if that is set).
    pub fn new(secrets: Arc<dyn Secrets>, owner: Owner) -> Self {
        Self {
            safe: Safe::new(secrets),
            owner,
            authority: None,
            settling: None,
            http: reqwest::Client::new(),
            rabbits: Pool::default(),
            accounts: Pool::default(),
        }
    }

    /// Trusts the authorities of a PEM file as well, for RabbitMQ over TLS and its management API.
    ///
    /// # Errors
    /// When the file cannot be read, or holds no certificate: one line for the person who named it.
    pub fn trusting(mut self, authority: PathBuf) -> Result<Self, String> {
        let place = authority.display();
        let pem =
            std::fs::read(&authority).map_err(|error| format!("cannot read the CA file {place}: {error}"))?;
        let unusable = |error: reqwest::Error| format!("the CA file {place} is not usable: {error}");
        let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(unusable)?;
        if certificates.is_empty() {
            return Err(format!("the CA file {place} holds no certificate in PEM format"));
        }
        self.http = reqwest::Client::builder()
            .tls_certs_merge(certificates)
            .build()
            .map_err(unusable)?;
        self.authority = Some(authority);
        Ok(self)
    }

    /// How long a queue on SQS must have been seen empty before it is deleted. Default: a minute, because the counts of
    /// SQS are not reliable before.
    #[must_use]
    pub fn settling_for(mut self, settling: Duration) -> Self {
        self.settling = Some(settling);
        self
    }

    /// Waits until nothing is being done at a broker any more, also nothing whose caller has stopped waiting. A process
    /// that ends before may take messages along that came while their queue was being deleted.
    pub async fn settled(&self) {
        let keepers = self.rabbits.all();
        futures::future::join_all(keepers.iter().map(RabbitMqKeeper::settled)).await;
    }

    /// As the record at a queue names the user of a queue.
    pub(super) fn owner(&self, queue: &QueueSpec) -> QueueOwner {
        QueueOwner {
            cluster: self.owner.cluster.clone(),
            namespace: queue.namespace.clone(),
        }
    }
}

impl Queues for Brokers {
    fn ensure<'a>(
        &'a self,
        transport: &'a Transport,
        queue: &'a QueueSpec,
    ) -> BoxFuture<'a, Result<Ensured, QueueError>> {
        Box::pin(async move {
            let found = match &transport.broker {
                Broker::RabbitMq(broker) => self.ensure_on_rabbitmq(broker, queue).await,
                Broker::Sqs(account) => self.ensure_on_sqs(account, queue).await,
            };
            Ok(match counted(transport, found)? {
                keeping::Ensured::Present => Ensured::Present,
                keeping::Ensured::Created => Ensured::Created,
                keeping::Ensured::Drifted(difference) => Ensured::Drifted(difference),
            })
        })
    }

    fn depth<'a>(
        &'a self,
        transport: &'a Transport,
        queue: &'a QueueSpec,
    ) -> BoxFuture<'a, Result<QueueDepth, QueueError>> {
        Box::pin(async move {
            let depth = match &transport.broker {
                Broker::RabbitMq(broker) => self.depth_on_rabbitmq(broker, queue).await,
                Broker::Sqs(account) => self.depth_on_sqs(account, queue).await,
            };
            // That a queue is missing is an answer here, no failure.
            if matches!(depth, Err(QueueError::Missing(_))) {
                return depth;
            }
            counted(transport, depth)
        })
    }

    fn release<'a>(
        &'a self,
        transport: &'a Transport,
        queue: &'a QueueSpec,
        policy: DeletionPolicy,
    ) -> BoxFuture<'a, Result<Deleted, QueueError>> {
        Box::pin(async move {
            let mode = match policy {
                DeletionPolicy::DeleteIfEmpty => ReleaseMode::IfEmpty,
                DeletionPolicy::Delete => ReleaseMode::Always,
                DeletionPolicy::Retain => ReleaseMode::Never,
            };
            let released = match &transport.broker {
                Broker::RabbitMq(broker) => self.release_on_rabbitmq(broker, queue, mode).await,
                Broker::Sqs(account) => self.release_on_sqs(account, queue, mode).await,
            };
            Ok(match counted(transport, released)? {
                keeping::Released::Gone => Deleted::Gone,
                keeping::Released::Kept(reason) => Deleted::Kept(reason),
                keeping::Released::Later(reason) => Deleted::Later(reason),
            })
        })
    }
}

/// Counts failures (contract operator §3.3).
fn counted<T>(transport: &Transport, result: Result<T, QueueError>) -> Result<T, QueueError> {
    if let Err(error) = &result {
        let reason = match error {
            QueueError::Credentials(_) => "credentials",
            QueueError::Missing(_) => "missing",
            QueueError::Broker(_) => "broker",
            QueueError::RecentlyDeleted(_) => "recently_deleted",
        };
        let name = transport.name.clone();
        metrics::counter!("asya_operator_broker_errors_total", "transport" => name, "reason" => reason)
            .increment(1);
    }
    result
}

/// What a refusal means here. The Secrets are those that the credentials came from.
pub(super) fn explain(error: KeepError, namespace: &str, keys: &[&SecretKey]) -> QueueError {
    match error {
        KeepError::Missing(queue) => QueueError::Missing(queue),
        KeepError::RecentlyDeleted(queue) => QueueError::RecentlyDeleted(queue),
        KeepError::Refused(reason) => QueueError::Broker(reason),
        KeepError::Login(reason) if keys.is_empty() => QueueError::Credentials(reason),
        KeepError::Login(reason) => {
            let places = keys
                .iter()
                .map(|place| format!("key {:?} of Secret {:?}", place.key, place.name));
            let places = places.collect::<Vec<_>>().join(", ");
            QueueError::Credentials(format!(
                "{reason}; they come from {places} in namespace {namespace:?}"
            ))
        }
    }
}

/// Connections by what they were made of. The key holds secrets, so nothing here can be shown.
pub(super) struct Pool<K, V>(Mutex<HashMap<K, (Instant, V)>>);

impl<K, V> Default for Pool<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> Pool<K, V> {
    /// The one for `key`, made if there is none; others that nobody has asked for in a while are let go.
    pub(super) fn get<E>(&self, key: K, make: impl FnOnce(&K) -> Result<V, E>) -> Result<V, E> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (used, _)| used.elapsed() < FORGOTTEN);
        if let Some((used, value)) = known.get_mut(&key) {
            *used = Instant::now();
            return Ok(value.clone());
        }
        let value = make(&key)?;
        known.insert(key, (Instant::now(), value.clone()));
        Ok(value)
    }

    /// All that are known.
    fn all(&self) -> Vec<V> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().map(|(_, value)| value.clone()).collect()
    }
}
