//! The publisher sends what a plan says and waits for every confirm, many plans at a time.
//!
//! Its handler awaits nothing from the broker: each plan is a task that the actor owns, so that stopping the actor
//! ends them all, and its successor sends the same messages with the same ids again.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;

use crate::context::{Context, Fault, Point, Wake};
use crate::ledger::{EntryId, Generation, Holder};
use crate::plan::Plan;
use crate::publishing;

#[derive(Clone, Copy)]
pub(crate) struct Publisher;

pub(crate) enum Message {
    /// Look for plans.
    Look,
    /// End as a test demands.
    Inject(Fault),
}

impl Wake for Message {
    fn wake() -> Self {
        Self::Look
    }
}

pub(crate) struct State {
    context: Arc<Context>,
    generation: Generation,
    tasks: JoinSet<Result<(), ActorProcessingErr>>,
}

impl Actor for Publisher {
    type Msg = Message;
    type State = State;
    type Arguments = Arc<Context>;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        context: Arc<Context>,
    ) -> Result<State, ActorProcessingErr> {
        let generation = context.ledger.recover(Holder::Publisher);
        Ok(State {
            context,
            generation,
            tasks: JoinSet::new(),
        })
    }

    async fn post_start(
        &self,
        myself: ActorRef<Self::Msg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.context.doors.publisher.connect(myself);
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Look => {
                state.context.doors.publisher.answered();
                super::collect(&mut state.tasks)?;
                while let Some((id, plan)) = state.context.ledger.take_for_publisher(state.generation) {
                    state
                        .tasks
                        .spawn(carry_out(Arc::clone(&state.context), state.generation, id, plan));
                }
                Ok(())
            }
            Message::Inject(fault) => fault.strike(),
        }
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
