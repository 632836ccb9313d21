//! The right to settle one delivery.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use lapin::BasicProperties;

use super::clerk::Clerk;
use super::ledger::Verdict;
use super::memory::Memory;
use super::message::{Message, counted};
use super::publisher::Publisher;
use crate::{QueueName, Receipt, SettleError, Settlement};

/// What a receipt needs of its transport.
#[derive(Debug, Clone)]
pub(super) struct Office {
    pub(super) publisher: Publisher,
    pub(super) memory: Arc<Memory>,
}

/// The delivery, as it must be published again when it is to come back later.
pub(super) struct Kept {
    pub(super) queue: QueueName,
    pub(super) body: Bytes,
    pub(super) properties: BasicProperties,
    pub(super) message_id: Option<String>,
    pub(super) deliveries: u32,
}

/// Whether the broker was told, or the channel ended first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Written,
    Stale,
}

type Settling = Shared<BoxFuture<'static, Outcome>>;

/// Valid on the channel that brought the delivery, whose end makes it stale.
pub(super) struct RabbitReceipt {
    tag: u64,
    clerk: Arc<Clerk>,
    office: Office,
    kept: Arc<Kept>,
    settling: Mutex<Option<Settling>>,
}

impl RabbitReceipt {
    pub(super) fn new(tag: u64, clerk: Arc<Clerk>, office: Office, kept: Kept) -> Self {
        Self {
            tag,
            clerk,
            office,
            kept: Arc::new(kept),
            settling: Mutex::new(None),
        }
    }

    fn start(&self, settlement: Settlement) -> Settling {
        match settlement {
            Settlement::Ack => tell(&self.clerk, self.tag, Verdict::Ack),
            Settlement::Retry {
                after: Duration::ZERO,
            }
            | Settlement::Return {
                after: Duration::ZERO,
            } => self.give_back(),
            Settlement::Retry { after } => self.delay(after, self.kept.deliveries),
            Settlement::Return { after } => self.delay(after, self.kept.deliveries.saturating_sub(1)),
        }
    }

    fn give_back(&self) -> Settling {
        self.office.memory.gave_back(&self.kept);
        tell(&self.clerk, self.tag, Verdict::Requeue)
    }

    /// Puts the message into a delay queue and acknowledges it once it is there. While that cannot be done, the
    /// delivery is held here for as long and then given back.
    fn delay(&self, after: Duration, deliveries: u32) -> Settling {
        let kept = Arc::clone(&self.kept);
        let message = Message {
            queue: kept.queue.clone(),
            body: kept.body.clone(),
            properties: counted(kept.properties.clone(), deliveries),
        };
        let publishing = self.office.publisher.publish(message, after);
        let (clerk, tag, memory) = (Arc::clone(&self.clerk), self.tag, Arc::clone(&self.office.memory));
        let started = tokio::time::Instant::now();
        // A task, since nobody has to await the settling.
        let task = tokio::spawn(async move {
            let Err(error) = publishing.await else {
                return tell(&clerk, tag, Verdict::Ack).await;
            };
            tracing::debug!(queue = %kept.queue, %error, ?after, "cannot delay the message on the broker, holding it");
            tokio::spawn(async move {
                tokio::time::sleep_until(started + after).await;
                memory.gave_back(&kept);
                tell(&clerk, tag, Verdict::Requeue).await
            });
            Outcome::Written
        });
        task.map(|ended| ended.unwrap_or(Outcome::Stale)).boxed().shared()
    }
}

fn tell(clerk: &Clerk, tag: u64, verdict: Verdict) -> Settling {
    let written = clerk.settle(tag, verdict);
    let outcome = async move {
        let Some(written) = written else {
            return Outcome::Stale;
        };
        written.await.map_or(Outcome::Stale, |()| Outcome::Written)
    };
    outcome.boxed().shared()
}

impl Receipt for RabbitReceipt {
    fn settle(&self, settlement: Settlement) -> BoxFuture<'static, Result<(), SettleError>> {
        let mut settling = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        // The first settlement decides; later ones wait for it.
        let outcome = settling.get_or_insert_with(|| self.start(settlement)).clone();
        let outcome = outcome.map(|outcome| match outcome {
            Outcome::Written => Ok(()),
            Outcome::Stale => Err(SettleError::Stale),
        });
        outcome.boxed()
    }
}

impl Drop for RabbitReceipt {
    fn drop(&mut self) {
        let settling = self.settling.get_mut().unwrap_or_else(PoisonError::into_inner);
        if settling.is_none() {
            // The order is in the ledger; nobody waits for it to be carried out.
            let _unawaited = self.give_back();
        }
    }
}

impl fmt::Debug for RabbitReceipt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RabbitReceipt")
            .field("queue", &self.kept.queue)
            .field("tag", &self.tag)
            .finish_non_exhaustive()
    }
}
