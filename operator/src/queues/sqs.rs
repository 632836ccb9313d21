//! Queues on Amazon SQS.

use std::collections::BTreeMap;
use std::sync::Arc;

use asya_transport::keeping::{Ensured, KeepError, ReleaseMode, Released};
use asya_transport::sqs::{self, SqsKeeper, SqsOptions, StaticKeys};

use super::brokers::{Brokers, explain};
use super::credentials::Hidden;
use super::{QueueError, QueueSpec};
use crate::registry::{SecretKey, Sqs};
use crate::status::QueueDepth;

/// The dead-letter queue that all actors share unless each has its own (contract operator §8.4).
const SHARED_DEAD_LETTERS: &str = "asya-dlq";

/// The least visibility timeout that is chosen here, in seconds (O-07).
const VISIBLE_AFTER: u32 = 300;

/// The largest that SQS takes.
const MOST_VISIBLE_AFTER: u32 = 43_200;

/// What makes one client differ from another.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    region: String,
    endpoint: Option<String>,
    keys: Option<(Hidden, Hidden)>,
}

impl Brokers {
    pub(super) async fn ensure_on_sqs(
        &self,
        account: &Sqs,
        queue: &QueueSpec,
    ) -> Result<Ensured, QueueError> {
        not_shared(queue)?;
        let keeper = self.account(account, &queue.namespace).await?;
        let dead_letter = &account.queues.dead_letter;
        let wanted = sqs::Wanted {
            owner: self.owner(queue),
            create: account.queues.auto_create,
            visibility_timeout: visibility(account, queue),
            dead_letter: dead_letter.enabled.then(|| sqs::DeadLetter {
                queue: own_dead_letters(account, queue).unwrap_or_else(|| SHARED_DEAD_LETTERS.into()),
                receives: dead_letter.max_retry_count.clamp(1, 1000),
                retention: dead_letter.retention_days.clamp(1, 14) * 86_400,
            }),
            labels: labels(account, queue),
            tags: account.tags.clone(),
        };
        let ensured = keeper.ensure(&queue.name, &wanted).await;
        ensured.map_err(|error| self.rejected(error, account, &queue.namespace))
    }

    pub(super) async fn depth_on_sqs(
        &self,
        account: &Sqs,
        queue: &QueueSpec,
    ) -> Result<QueueDepth, QueueError> {
        let keeper = self.account(account, &queue.namespace).await?;
        let depth = keeper.depth(&queue.name).await;
        let depth = depth
            .map_err(|error| self.rejected(error, account, &queue.namespace))?
            .ok_or_else(|| QueueError::Missing(queue.name.clone()))?;
        Ok(QueueDepth {
            queued: depth.ready,
            processing: Some(depth.unsettled),
        })
    }

    pub(super) async fn release_on_sqs(
        &self,
        account: &Sqs,
        queue: &QueueSpec,
        mode: ReleaseMode,
    ) -> Result<Released, QueueError> {
        if not_shared(queue).is_err() {
            return Ok(Released::Kept(format!(
                "{SHARED_DEAD_LETTERS} holds the dead letters of all actors"
            )));
        }
        let keeper = self.account(account, &queue.namespace).await?;
        let own = own_dead_letters(account, queue);
        let released = keeper
            .release(&queue.name, own.as_deref(), &self.owner(queue), mode)
            .await;
        released.map_err(|error| self.rejected(error, account, &queue.namespace))
    }

    async fn account(&self, account: &Sqs, namespace: &str) -> Result<Arc<SqsKeeper>, QueueError> {
        if account.region.is_empty() {
            return Err(QueueError::Broker(
                "the transport has no `region`; add it to the operator's registry".into(),
            ));
        }
        let keys = match &account.credentials {
            Some(places) => {
                let id = self.key(namespace, &places.access_key_id).await?;
                let secret = self.key(namespace, &places.secret_access_key).await?;
                id.zip(secret)
            }
            None => None,
        };
        let key = Key {
            region: account.region.clone(),
            endpoint: account.endpoint.clone(),
            keys,
        };
        self.accounts
            .get(key, |key| Ok(Arc::new(SqsKeeper::new(self.options(key)))))
    }

    async fn key(&self, namespace: &str, place: &SecretKey) -> Result<Option<Hidden>, QueueError> {
        self.safe.value(namespace, place).await
    }

    fn options(&self, key: &Key) -> SqsOptions {
        let mut options = SqsOptions::new(&key.region);
        options.endpoint.clone_from(&key.endpoint);
        options.keys = key.keys.as_ref().map(|(id, secret)| StaticKeys {
            access_key_id: id.0.clone(),
            secret_access_key: secret.0.clone(),
        });
        if let Some(settling) = self.settling {
            options.settling = settling;
        }
        options
    }

    fn rejected(&self, error: KeepError, account: &Sqs, namespace: &str) -> QueueError {
        let places = account.credentials.iter();
        let places: Vec<_> = places
            .flat_map(|places| [&places.access_key_id, &places.secret_access_key])
            .collect();
        if let KeepError::Login(_) = &error {
            for place in &places {
                self.safe.doubt(namespace, &place.name);
            }
        }
        explain(error, namespace, &places)
    }
}

/// An actor called `dlq` would own everybody's dead letters (O-03).
fn not_shared(queue: &QueueSpec) -> Result<(), QueueError> {
    if queue.name == SHARED_DEAD_LETTERS {
        let text =
            format!("{SHARED_DEAD_LETTERS} is the dead-letter queue that all actors share; rename the actor");
        return Err(QueueError::Broker(text));
    }
    Ok(())
}

fn own_dead_letters(account: &Sqs, queue: &QueueSpec) -> Option<String> {
    let dead_letter = &account.queues.dead_letter;
    (dead_letter.enabled && dead_letter.per_actor).then(|| format!("{}-dlq", queue.name))
}

/// Long enough for a call and its settling, unless it was configured.
fn visibility(account: &Sqs, queue: &QueueSpec) -> u32 {
    let chosen = queue.processing_seconds.saturating_mul(2).max(VISIBLE_AFTER);
    account
        .visibility_timeout
        .unwrap_or(chosen)
        .min(MOST_VISIBLE_AFTER)
}

/// The two default tags, unless they are configured.
fn labels(account: &Sqs, queue: &QueueSpec) -> BTreeMap<String, String> {
    let labels = [
        ("asya.sh/actor", &queue.actor),
        ("asya.sh/namespace", &queue.namespace),
    ];
    let labels = labels
        .into_iter()
        .filter(|(key, _)| !account.tags.contains_key(*key));
    labels
        .map(|(key, value)| (key.to_owned(), value.clone()))
        .collect()
}
