//! The reaper repairs what was lost between actors and ends what hangs. It does no I/O.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::context::{Context, Fault, Readiness, Wake};
use crate::ledger::Stage;

/// Pause between two rounds.
const INTERVAL: Duration = Duration::from_millis(250);

/// How much longer than its own time limit a call may take before its slot is killed.
const MARGIN: Duration = Duration::from_secs(2);

pub(crate) struct Reaper;

pub(crate) enum Message {
    /// Make a round.
    Look,
    /// End as a test demands.
    Inject(Fault),
}

impl Wake for Message {
    fn wake() -> Self {
        Self::Look
    }
}

impl Actor for Reaper {
    type Msg = Message;
    type State = Arc<Context>;
    type Arguments = Arc<Context>;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        context: Arc<Context>,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(context)
    }

    async fn post_start(
        &self,
        myself: ActorRef<Self::Msg>,
        context: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        context.doors.reaper.connect(myself);
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Message,
        context: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Look => {
                context.doors.reaper.answered();
                make_round(context);
                // Armed again only now: one tick is outstanding at any time.
                myself.send_after(INTERVAL, || Message::Look);
                Ok(())
            }
            Message::Inject(fault) => fault.strike(),
        }
    }
}

fn make_round(context: &Context) {
    for slot in context.ledger.overdue(Instant::now(), MARGIN) {
        tracing::error!(actor = %context.actor, slot, "a slot hung past its own time limit and is killed");
        context.set_readiness(Readiness::Suspended);
        context.doors.probe.wake();
        context.doors.slots[slot].kill();
        context.doors.router.wake();
    }
    if context.ledger.waiting(Stage::Routing) {
        context.doors.router.wake();
    }
    if context.ledger.waiting(Stage::Ready) && context.is_ready() {
        context.doors.wake_slots();
    }
    // Always: they also collect tasks that have failed.
    context.doors.publisher.wake();
    context.doors.acker.wake();
}
