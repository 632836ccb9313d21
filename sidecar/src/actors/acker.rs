//! The acker settles deliveries whose outputs are confirmed. It is the only actor that does.
//!
//! Settlements are started together and awaited in owned tasks, so that a broker which can coalesce them does.

use std::sync::Arc;
use std::time::Duration;

use asya_transport::{SettleError, Settlement, SharedReceipt};
use futures::stream::{FuturesUnordered, StreamExt as _};
use ractor::{ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;

use super::{Duty, Message};

use crate::context::{Context, Doorbell, Point, backoff};
use crate::ledger::{EntryId, Generation, Holder};

/// Settlements awaited by one task.
const BATCH: usize = 256;

pub(crate) struct Acker {
    context: Arc<Context>,
    generation: Generation,
    tasks: JoinSet<Result<(), ActorProcessingErr>>,
}

impl Duty for Acker {
    fn door(&self) -> &Doorbell {
        &self.context.doors.acker
    }

    async fn look(&mut self, _: &ActorRef<Message>) -> Result<(), ActorProcessingErr> {
        super::collect(&mut self.tasks)?;
        self.start_settling();
        Ok(())
    }
}

impl Acker {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        let generation = context.ledger.recover(Holder::Acker);
        Self {
            context,
            generation,
            tasks: JoinSet::new(),
        }
    }

    fn start_settling(&mut self) {
        loop {
            let mut batch = Vec::new();
            while batch.len() < BATCH
                && let Some(job) = self.context.ledger.take_for_acker(self.generation)
            {
                batch.push(job);
            }
            if batch.is_empty() {
                return;
            }
            self.tasks
                .spawn(settle_batch(Arc::clone(&self.context), self.generation, batch));
        }
    }
}

async fn settle_batch(
    context: Arc<Context>,
    generation: Generation,
    batch: Vec<(EntryId, SharedReceipt, Settlement)>,
) -> Result<(), ActorProcessingErr> {
    context.checkpoint(Point::Settling).await?;
    let context = &context;
    let mut settling: FuturesUnordered<_> = batch
        .into_iter()
        .map(|(id, receipt, settlement)| async move {
            settle(context, &receipt, settlement).await;
            id
        })
        .collect();
    while let Some(id) = settling.next().await {
        context.checkpoint(Point::Settled).await?;
        if let Some(took) = context.ledger.settled(id, generation) {
            context.credits.settled(took);
        }
    }
    Ok(())
}

/// Settles until the broker has taken note, or says that the delivery is no longer ours.
async fn settle(context: &Context, receipt: &SharedReceipt, settlement: Settlement) {
    let mut tries = 0;
    loop {
        let settled = receipt.settle(settlement).await;
        context.pulse.acker.step();
        match settled {
            Ok(()) => return,
            Err(SettleError::Stale) => {
                tracing::warn!(actor = %context.actor, "a delivery was taken back before it was settled; it may run again");
                return;
            }
            Err(SettleError::Unavailable(error)) => {
                let wait = backoff(Duration::from_millis(50), Duration::from_secs(5), tries);
                tracing::warn!(actor = %context.actor, %error, ?wait, "settling failed, trying again");
                tokio::time::sleep(wait).await;
                tries = tries.saturating_add(1);
            }
        }
    }
}
