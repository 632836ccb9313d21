//! The publisher sends what a plan says and waits for every confirm, many plans at a time.
//!
//! Its handler awaits nothing from the broker: the plans that come together are a task that the actor owns, so that
//! stopping the actor ends them all, and its successor sends the same messages with the same ids again.

use std::sync::Arc;

use futures::stream::{FuturesUnordered, StreamExt as _};
use ractor::{ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;

use super::{Duty, Message};

use crate::context::{Context, Doorbell, Point};
use crate::ledger::{EntryId, Generation, Holder};
use crate::plan::Plan;
use crate::publishing;

pub(crate) struct Publisher {
    context: Arc<Context>,
    generation: Generation,
    tasks: JoinSet<Result<(), ActorProcessingErr>>,
}

impl Publisher {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        let generation = context.ledger.recover(Holder::Publisher);
        Self {
            context,
            generation,
            tasks: JoinSet::new(),
        }
    }
}

impl Duty for Publisher {
    fn door(&self) -> &Doorbell {
        &self.context.doors.publisher
    }

    async fn look(&mut self, _: &ActorRef<Message>) -> Result<(), ActorProcessingErr> {
        super::collect(&mut self.tasks)?;
        let ledger = &self.context.ledger;
        let plans: Vec<_> = std::iter::from_fn(|| ledger.take_for_publisher(self.generation)).collect();
        if !plans.is_empty() {
            self.tasks
                .spawn(carry_out_all(Arc::clone(&self.context), self.generation, plans));
        }
        Ok(())
    }
}

/// Carries out the plans that came together side by side: one that has to wait holds up no other.
async fn carry_out_all(
    context: Arc<Context>,
    generation: Generation,
    plans: Vec<(EntryId, Arc<Plan>)>,
) -> Result<(), ActorProcessingErr> {
    let context = &context;
    let mut running: FuturesUnordered<_> = plans
        .iter()
        .map(|(id, plan)| carry_out(context, generation, *id, plan))
        .collect();
    while let Some(ended) = running.next().await {
        ended?;
    }
    Ok(())
}

async fn carry_out(
    context: &Context,
    generation: Generation,
    id: EntryId,
    plan: &Plan,
) -> Result<(), ActorProcessingErr> {
    context.checkpoint(Point::Planned).await?;
    let done = publishing::carry_out(context, plan).await;
    context.checkpoint(Point::Confirmed).await?;
    if let Some(took) = context.ledger.published(id, generation, done.settlement) {
        context.meters.done(done.outcome, took);
    }
    context.pulse.publisher.step();
    context.doors.acker.wake();
    Ok(())
}
