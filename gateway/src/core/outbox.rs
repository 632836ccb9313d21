//! Getting messages out: the first attempt right after a call, and later attempts at what was left in the outbox by a
//! broker that was away or by a replica that died.
//!
//! Every attempt at a message has the same message id, so the only harm of doing it twice is a repeat that the sidecar
//! recognises (rulings 3, 8).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use asya_gateway_store::{Applied, OutboxEntry, OutboxOutcome, Report, ReportEvent, Store, StoreError, View};
use asya_transport::{Outgoing, PublishError, QueueName, Transport};
use chrono::Utc;
use futures::StreamExt as _;
use futures::stream;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::desk::Desk;
use super::error::unroutable;
use super::metrics;
use super::options::{GatewayOptions, Patience};

/// First attempts under way at once; more go to the outbox.
const FIRST: usize = 1024;
/// Later attempts under way at once.
const LATER: u32 = 64;
/// First pause between probes of a broker that is away.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Remembered messages that nobody takes.
const REMEMBERED: usize = 10_000;

/// What the broker said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attempt {
    /// It has the message.
    Published,
    /// Nobody takes messages there.
    Unroutable { actor: String, queue: String },
    /// Never, for this reason.
    Refused(String),
    /// Not now, for this reason; or nobody knows.
    Away(String),
}

impl Attempt {
    fn result(&self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Unroutable { .. } => "unroutable",
            Self::Refused(_) => "refused",
            Self::Away(_) => "unavailable",
        }
    }
}

/// Publishes messages and settles the outbox.
pub(super) struct Outbox {
    pub(super) store: Arc<dyn Store>,
    transport: Arc<dyn Transport>,
    settled: Desk<(OutboxEntry, OutboxOutcome)>,
    reports: Desk<Report>,
    pub(super) patience: Patience,
    first: Semaphore,
    /// Since when nobody takes a message, by envelope.
    unroutable: Mutex<HashMap<String, Instant>>,
}

impl Outbox {
    pub(super) fn new(
        options: &GatewayOptions,
        settled: Desk<(OutboxEntry, OutboxOutcome)>,
        reports: Desk<Report>,
    ) -> Self {
        Self {
            store: Arc::clone(&options.store),
            transport: Arc::clone(&options.transport),
            settled,
            reports,
            patience: options.patience.clone(),
            first: Semaphore::new(FIRST),
            unroutable: Mutex::default(),
        }
    }

    /// The attempt right after a call was stored, while its caller waits.
    pub(super) async fn first_attempt(&self, entry: &OutboxEntry) -> Attempt {
        match self.first.try_acquire() {
            Ok(_permit) => self.attempt(entry).await,
            Err(_) => Attempt::Away("too many messages wait for the broker".to_owned()),
        }
    }

    async fn attempt(&self, entry: &OutboxEntry) -> Attempt {
        let message = Outgoing {
            queue: QueueName::for_actor(&entry.message.actor),
            message_id: entry.message.message_id.clone(),
            body: entry.message.body.clone(),
            delay: Duration::ZERO,
        };
        let publishing = self.transport.publish(message);
        let attempt = match tokio::time::timeout(self.patience.publish, publishing).await {
            Ok(Ok(())) => Attempt::Published,
            Ok(Err(PublishError::Unroutable(queue))) => Attempt::Unroutable {
                actor: entry.message.actor.clone(),
                queue: queue.to_string(),
            },
            Ok(Err(error @ PublishError::TooLarge { .. })) => Attempt::Refused(error.to_string()),
            Ok(Err(error @ PublishError::Unavailable(_))) => Attempt::Away(error.to_string()),
            Err(_) => Attempt::Away("the broker did not confirm the message in time".to_owned()),
        };
        metrics::publish(attempt.result());
        attempt
    }

    /// Writes down what came of an attempt. `patient` is whether a message that nobody takes is offered again.
    pub(super) async fn settle(
        &self,
        entry: OutboxEntry,
        attempt: Attempt,
        patient: bool,
    ) -> Result<Option<Applied>, StoreError> {
        let outcome = match attempt {
            Attempt::Published => OutboxOutcome::Published,
            Attempt::Refused(error) => OutboxOutcome::Failed { error },
            Attempt::Away(error) => OutboxOutcome::Later {
                after: self.patience.outbox,
                error,
            },
            Attempt::Unroutable { actor, queue } => {
                let error = unroutable(&actor, &queue);
                if patient && self.offer_again(&entry.envelope_id) {
                    let after = self.patience.outbox;
                    OutboxOutcome::Later { after, error }
                } else {
                    OutboxOutcome::Failed { error }
                }
            }
        };
        if !matches!(outcome, OutboxOutcome::Later { .. }) {
            self.remembered().remove(&entry.envelope_id);
        }
        let mut applied = self.settled.hand_in(vec![(entry, outcome)]).await?;
        Ok(applied.pop())
    }

    /// Whether a message that nobody takes is still to be offered; remembers since when that is so.
    fn offer_again(&self, id: &str) -> bool {
        let (now, patience) = (Instant::now(), self.patience.unroutable);
        let mut remembered = self.remembered();
        if remembered.len() >= REMEMBERED {
            // Others may have sent these meanwhile.
            remembered.retain(|_, since| now - *since < 2 * patience);
        }
        let since = *remembered.entry(id.to_owned()).or_insert(now);
        now - since < patience
    }

    fn remembered(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.unroutable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what was left in the outbox, until `stop`.
    ///
    /// While the broker is away one message at a time is tried, with growing pauses; once one gets through, all go.
    pub(super) async fn work(self: Arc<Self>, stop: CancellationToken) {
        let mut pause = None;
        loop {
            let limit = if pause.is_some() { 1 } else { LATER };
            let (claimed, away) = match stop.run_until_cancelled(self.round(limit)).await {
                None => return,
                Some(Ok(round)) => round,
                Some(Err(error)) => {
                    tracing::warn!(%error, "the outbox cannot be read; trying again");
                    (0, false)
                }
            };
            if away {
                let next = pause.map_or(FIRST_PAUSE, |pause: Duration| {
                    (pause * 2).min(self.patience.backoff)
                });
                pause = Some(next);
            } else if claimed > 0 {
                pause = None;
                // There may be more; a full outbox is emptied without pauses.
                continue;
            }
            let wait = pause.map_or(self.patience.outbox, |pause| pause.mul_f64(jitter()));
            if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return;
            }
        }
    }

    /// Claims messages and tries each once. Returns how many there were, and whether the broker is away.
    async fn round(&self, limit: u32) -> Result<(usize, bool), StoreError> {
        let claimed = self.store.claim_outbox(limit, self.patience.lease).await?;
        let count = claimed.len();
        let away = stream::iter(claimed)
            .map(|entry| self.again(entry))
            .buffer_unordered(LATER as usize)
            .fold(false, |away, one| async move { away | one })
            .await;
        Ok((count, away))
    }

    /// One later attempt; returns whether the broker is away.
    async fn again(&self, entry: OutboxEntry) -> bool {
        let id = entry.envelope_id.clone();
        let attempt = match self.is_wanted(&entry).await {
            Ok(true) => self.attempt(&entry).await,
            Ok(false) => Attempt::Refused("it ended before its message was sent".to_owned()),
            Err(error) => {
                tracing::warn!(envelope = id, %error, "a message stays in the outbox: its envelope cannot be read");
                return false;
            }
        };
        let away = matches!(attempt, Attempt::Away(_));
        if let Attempt::Away(reason) = &attempt {
            tracing::warn!(
                envelope = id,
                reason,
                tries = entry.tries,
                "a message waits for the broker"
            );
        }
        if let Err(error) = self.settle(entry, attempt, true).await {
            // Its lease ends and it is sent once more, with the same message id.
            tracing::warn!(envelope = id, %error, "the outbox cannot be written");
        }
        away
    }

    /// Whether anybody still waits for the envelope: it has not ended, and its time is not over.
    async fn is_wanted(&self, entry: &OutboxEntry) -> Result<bool, StoreError> {
        let Some(record) = self.store.get(&entry.envelope_id, View::Basic).await? else {
            return Ok(false);
        };
        if record.status.is_final() || record.attempt != entry.attempt {
            return Ok(false);
        }
        let now = Utc::now();
        if entry.deadline.is_some_and(|deadline| deadline <= now) {
            let report = Report {
                envelope_id: entry.envelope_id.clone(),
                attempt: entry.attempt,
                at: now,
                event: ReportEvent::TimedOut,
            };
            self.reports.hand_in(vec![report]).await?;
            return Ok(false);
        }
        Ok(true)
    }
}

/// Spreads replicas that lost the same broker at the same moment.
fn jitter() -> f64 {
    rand::random_range(0.75..1.25)
}
