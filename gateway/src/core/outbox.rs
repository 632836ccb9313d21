//! Getting messages out: the first attempt right after a call, and later attempts at what was left in the outbox by a
//! broker that was away or by a replica that died.
//!
//! Every attempt at a message has the same message id. A message that the broker may have is not tried again before it
//! has spoken or is lost, and one that it has confirmed is kept in mind until the store has that too, however long the
//! store is away. So a repeat comes of crashes alone, and changes no final state (rulings 3, 8).

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use asya_gateway_store::{
    Applied, OutboxEntry, OutboxOutcome, Report, ReportEvent, Status, Store, StoreError, View,
};
use asya_transport::{Outgoing, PublishError, QueueName, Transport};
use chrono::Utc;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::desk::Desk;
use super::error::unroutable;
use super::metrics;
use super::options::{GatewayOptions, Patience};

use self::pace::Pace;

mod pace;

/// First attempts under way at once; more go to the outbox.
const FIRST: usize = 1024;
/// KiB of their bodies: a broker that takes nothing for a while must not take all memory.
const FIRST_KIB: u32 = 128 * 1024;
/// Later attempts under way at once. A queue whose replicas are away may keep some waiting for long; the others go on
/// meanwhile.
const LATER: usize = 256;
/// Bytes of their bodies above which no more are taken.
const LATER_BYTES: usize = 64 * 1024 * 1024;
/// First pause before what was published is written down again; it doubles up to the pause between two searches.
const SETTLE_AGAIN: Duration = Duration::from_millis(100);
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
    first_kib: Semaphore,
    /// Since when nobody takes a message, by envelope.
    unroutable: Mutex<HashMap<String, Instant>>,
    /// Envelopes and attempts whose message is being sent by us, or was sent and is not settled.
    in_hand: Mutex<HashSet<(String, u32)>>,
    /// Once it is cancelled, what is not settled is left to others.
    stop: CancellationToken,
}

/// A message that nobody else in this process sends. From before it may be published until it is settled.
pub(super) struct InHand<'a> {
    outbox: &'a Outbox,
    key: (String, u32),
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.outbox.in_hand().remove(&self.key);
    }
}

/// Whether anybody still waits for a message of the outbox.
enum Wanted {
    Yes,
    /// It was sent before: its envelope runs.
    Sent,
    /// Its envelope has ended.
    No,
}

impl Outbox {
    pub(super) fn new(
        options: &GatewayOptions,
        settled: Desk<(OutboxEntry, OutboxOutcome)>,
        reports: Desk<Report>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            store: Arc::clone(&options.store),
            transport: Arc::clone(&options.transport),
            settled,
            reports,
            patience: options.patience.clone(),
            first: Semaphore::new(FIRST),
            first_kib: Semaphore::new(FIRST_KIB as usize),
            unroutable: Mutex::default(),
            in_hand: Mutex::default(),
            stop,
        }
    }

    fn in_hand(&self) -> MutexGuard<'_, HashSet<(String, u32)>> {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message in hand; `None` if somebody has it already.
    pub(super) fn take_in_hand(&self, entry: &OutboxEntry) -> Option<InHand<'_>> {
        let key = (entry.envelope_id.clone(), entry.attempt);
        let is_free = self.in_hand().insert(key.clone());
        is_free.then(|| InHand { outbox: self, key })
    }

    /// The attempt right after a call was stored, while its caller waits.
    pub(super) async fn first_attempt(&self, entry: &OutboxEntry) -> Attempt {
        let kib = u32::try_from(entry.message.body.len() / 1024).map_or(FIRST_KIB, |kib| kib.min(FIRST_KIB));
        match (self.first.try_acquire(), self.first_kib.try_acquire_many(kib)) {
            (Ok(_permit), Ok(_kib)) => self.attempt(entry).await,
            _ => Attempt::Away("too many messages wait for the broker".to_owned()),
        }
    }

    async fn attempt(&self, entry: &OutboxEntry) -> Attempt {
        let message = Outgoing {
            queue: QueueName::for_actor(&entry.message.actor),
            message_id: entry.message.message_id.clone(),
            body: entry.message.body.clone(),
            delay: Duration::ZERO,
        };
        let mut publishing = self.transport.publish(message);
        let answer = loop {
            match tokio::time::timeout(self.patience.publish, &mut publishing).await {
                Ok(answer) => break answer,
                // It was handed over and cannot be taken back: a second attempt would only make a second message.
                Err(_) => self.renew(entry).await,
            }
        };
        let attempt = match answer {
            Ok(()) => Attempt::Published,
            Err(PublishError::Unroutable(queue)) => Attempt::Unroutable {
                actor: entry.message.actor.clone(),
                queue: queue.to_string(),
            },
            Err(error @ PublishError::TooLarge { .. }) => Attempt::Refused(error.to_string()),
            Err(error @ PublishError::Unavailable(_)) => Attempt::Away(error.to_string()),
        };
        metrics::publish(attempt.result());
        attempt
    }

    /// Keeps the message ours while the broker takes its time.
    async fn renew(&self, entry: &OutboxEntry) {
        let ours = OutboxOutcome::Later {
            after: self.patience.lease,
            error: "the broker has not confirmed the message yet".to_owned(),
        };
        if let Err(error) = self.settled.hand_in(vec![(entry.clone(), ours)]).await {
            tracing::warn!(envelope = entry.envelope_id, %error, "a message may be sent twice: its claim cannot be renewed");
        }
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
        let mut applied = if outcome == OutboxOutcome::Published {
            self.settle_published(entry).await?
        } else {
            self.settled.hand_in(vec![(entry, outcome)]).await?
        };
        Ok(applied.pop())
    }

    /// Nobody but us knows that it was published, and anybody else would publish it again: the store is asked until it
    /// has it, or until `stop`.
    async fn settle_published(&self, entry: OutboxEntry) -> Result<Vec<Applied>, StoreError> {
        let (mut pause, mut is_told) = (SETTLE_AGAIN, false);
        loop {
            let settled = vec![(entry.clone(), OutboxOutcome::Published)];
            let error = match self.settled.hand_in(settled).await {
                Ok(applied) => return Ok(applied),
                Err(error) => error,
            };
            if !std::mem::replace(&mut is_told, true) {
                let envelope = &entry.envelope_id;
                tracing::warn!(envelope, %error, "a message was published, and that cannot be written down; trying again");
            }
            let waiting = tokio::time::sleep(pause);
            if self.stop.run_until_cancelled(waiting).await.is_none() {
                return Err(error);
            }
            pause = (pause * 2).min(self.patience.outbox);
        }
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

    /// Sends what was left in the outbox, until the end begins. What is under way then is finished, or left to others at
    /// `stop`.
    ///
    /// While the broker is away one message at a time is tried, with growing pauses; once one gets through, all go.
    pub(super) async fn work(self: Arc<Self>, draining: CancellationToken) {
        let sending = self.send_what_was_left(&draining);
        self.stop.run_until_cancelled(sending).await;
    }

    async fn send_what_was_left(&self, draining: &CancellationToken) {
        let (mut under_way, mut bytes) = (FuturesUnordered::new(), 0);
        let mut pace = Pace::new(&self.patience);
        while !draining.is_cancelled() {
            let free = LATER.saturating_sub(under_way.len());
            let is_full = free == 0 || bytes >= LATER_BYTES;
            if pace.is_due() && !is_full {
                let limit = pace.limit(free);
                match self.store.claim_outbox(limit, self.patience.lease).await {
                    Ok(claimed) => {
                        pace.claimed(claimed.len() >= limit as usize);
                        for entry in claimed {
                            let size = entry.message.body.len();
                            bytes += size;
                            under_way.push(async move { (self.again(entry).await, size) });
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the outbox cannot be read; trying again");
                        pace.claimed(false);
                    }
                }
            }
            let is_full = under_way.len() >= LATER || bytes >= LATER_BYTES;
            tokio::select! {
                Some((away, size)) = under_way.next() => {
                    bytes -= size;
                    if let Some(away) = away {
                        pace.tried(away);
                    }
                }
                () = tokio::time::sleep_until(pace.due), if !is_full => {}
                () = draining.cancelled() => {}
            }
        }
        while under_way.next().await.is_some() {}
    }

    /// One later attempt; returns whether the broker is away, where that was learned.
    async fn again(&self, entry: OutboxEntry) -> Option<bool> {
        // Our claim of it ran out while the store was away. Whoever has it settles it.
        let _hand = self.take_in_hand(&entry)?;
        let id = entry.envelope_id.clone();
        let attempt = match self.is_wanted(&entry).await {
            Ok(Wanted::Yes) => self.attempt(&entry).await,
            Ok(Wanted::Sent) => Attempt::Published,
            Ok(Wanted::No) => Attempt::Refused("it ended before its message was sent".to_owned()),
            Err(error) => {
                tracing::warn!(envelope = id, %error, "a message stays in the outbox: its envelope cannot be read");
                return None;
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
        Some(away)
    }

    /// Whether anybody still waits for the message: its envelope has not ended, and its time is not over.
    async fn is_wanted(&self, entry: &OutboxEntry) -> Result<Wanted, StoreError> {
        let Some(record) = self.store.get(&entry.envelope_id, View::Basic).await? else {
            return Ok(Wanted::No);
        };
        if record.status.is_final() || record.attempt != entry.attempt {
            return Ok(Wanted::No);
        }
        if record.status == Status::Running {
            return Ok(Wanted::Sent);
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
            return Ok(Wanted::No);
        }
        Ok(Wanted::Yes)
    }
}
