//! The publisher sends what a plan says and waits for every confirm, many plans at a time.
//!
//! Its handler awaits nothing from the broker: each plan is a task that the actor owns, so that stopping the actor
//! ends them all, and its successor sends the same messages with the same ids again.

use std::sync::Arc;

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
        while let Some((id, plan)) = self.context.ledger.take_for_publisher(self.generation) {
            self.tasks
                .spawn(carry_out(Arc::clone(&self.context), self.generation, id, plan));
        }
        Ok(())
    }
}

async fn carry_out(
    context: Arc<Context>,
    generation: Generation,
    id: EntryId,
    plan: Arc<Plan>,
) -> Result<(), ActorProcessingErr> {
    context.checkpoint(Point::Planned).await?;
    let settlement = publishing::carry_out(&context, &plan).await;
    context.checkpoint(Point::Confirmed).await?;
    context.ledger.published(id, generation, settlement);
    context.doors.acker.wake();
    Ok(())
}
