//! The reaper repairs what was lost between actors and ends what hangs. It does no I/O.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ractor::{ActorProcessingErr, ActorRef};

use super::{Duty, Message};

use crate::context::{Context, Doorbell, Readiness};
use crate::ledger::Stage;

/// Pause between two rounds.
const INTERVAL: Duration = Duration::from_millis(250);

/// How much longer than its own time limit a call may take before its slot is killed.
const MARGIN: Duration = Duration::from_secs(2);

/// How long a message may take from its answer to its settlement before the tuned credit does without it.
const STALLED: Duration = Duration::from_millis(500);

pub(crate) struct Reaper {
    context: Arc<Context>,
}

impl Reaper {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

impl Duty for Reaper {
    fn door(&self) -> &Doorbell {
        &self.context.doors.reaper
    }

    async fn look(&mut self, myself: &ActorRef<Message>) -> Result<(), ActorProcessingErr> {
        make_round(&self.context);
        self.context.pulse.reaper.step();
        // Armed again only now: one tick is outstanding at any time.
        myself.send_after(INTERVAL, || Message::Look);
        Ok(())
    }
}

fn make_round(context: &Context) {
    for slot in context.ledger.overdue(Instant::now(), MARGIN) {
        tracing::error!(actor = %context.actor, slot, "a slot hung past its own time limit and is killed");
        context.set_readiness(Readiness::Suspended);
        context.doors.probe.wake();
        context.doors.slot(slot).bell.kill();
        context.doors.router.wake();
    }
    context
        .credits
        .stalled(context.ledger.stalled(Instant::now(), STALLED));
    if let Some(elapsed) = context.ledger.longest_run(Instant::now()) {
        let surplus = context.credits.surplus(elapsed);
        let returned = context.ledger.return_surplus(surplus);
        if returned > 0 {
            tracing::info!(
                actor = %context.actor, returned, ?elapsed,
                "a call takes long; what waits behind it goes back to the queue"
            );
        }
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
