//! A slot calls the runtime with one delivery at a time.
//!
//! It awaits the call inside its handler on purpose: it takes work only when it is idle, so nothing queues behind a
//! call, and a kill (by the reaper) cancels it. The connection of a killed slot is closed with it and never reused.

use std::sync::Arc;
use std::time::Instant;

use asya_runtime_protocol::CallError;
use ractor::{ActorProcessingErr, ActorRef};

use super::{Duty, Message};

use crate::admission::Work;
use crate::context::{Context, Doorbell, Point, Readiness};
use crate::ledger::{CallOutcome, EntryId, Generation, Holder};
use crate::report::{Event, Progress};

pub(crate) struct Slot {
    context: Arc<Context>,
    index: usize,
    generation: Generation,
}

impl Slot {
    pub(crate) fn new(context: Arc<Context>, index: usize) -> Self {
        let generation = context.ledger.recover(Holder::Slot(index));
        Self {
            context,
            index,
            generation,
        }
    }
}

impl Duty for Slot {
    fn door(&self) -> &Doorbell {
        &self.context.doors.slots[self.index]
    }

    fn started(&mut self, _: &ActorRef<Message>) {
        self.context.doors.router.wake(); // A delivery that crashed too often may wait for routing now.
    }

    async fn look(&mut self, _: &ActorRef<Message>) -> Result<(), ActorProcessingErr> {
        if !self.context.is_ready() {
            return Ok(()); // The probe wakes all slots once the runtime is there.
        }
        match self.context.ledger.assign(self.index, self.generation) {
            Some((id, work)) => self.run(id, work).await,
            None => Ok(()),
        }
    }
}

impl Slot {
    async fn run(&self, id: EntryId, work: Arc<Work>) -> Result<(), ActorProcessingErr> {
        let context = &self.context;
        context.checkpoint(Point::Assigned).await?;
        if !context.config.role.is_end() {
            context.reporter.progress(Progress {
                actor: Arc::clone(&context.actor),
                envelope: Arc::clone(&work.envelope),
                event: Event::Processing,
            });
        }
        let started = Instant::now();
        let called = context.client.call(work.request.clone(), work.budget).await;
        context.checkpoint(Point::Replied).await?;
        context.pulse.slots.step();
        match called {
            Err(CallError::NotReachable(reason)) => {
                context.meters.not_reached();
                tracing::info!(actor = %context.actor, %reason, "runtime not reachable, waiting for it");
                self.ask_probe(Readiness::NotReady);
                context.ledger.unassigned(id, self.index, self.generation);
            }
            Err(error) if !error.handler_may_have_run() => {
                tracing::info!(actor = %context.actor, %error, "the runtime went away before it read the request");
                context.meters.not_reached();
                self.ask_probe(Readiness::NotReady);
                context
                    .ledger
                    .unread(id, self.index, self.generation, error.to_string());
                context.doors.router.wake();
            }
            called => {
                let took = started.elapsed();
                context.credits.called(took);
                let outcome = self.outcome(called, &work);
                context.meters.called(took, &outcome);
                context.ledger.replied(id, self.index, self.generation, outcome);
                context.doors.router.wake();
            }
        }
        if work.suspect {
            context.doors.wake_slots(); // They kept still while it ran.
        } else {
            self.door().wake();
        }
        Ok(())
    }

    fn outcome(&self, called: Result<bytes::Bytes, CallError>, work: &Work) -> CallOutcome {
        match called {
            Ok(reply) => CallOutcome::Reply(reply),
            Err(CallError::Timeout { .. }) => {
                self.ask_probe(Readiness::Suspended);
                tracing::warn!(
                    actor = %self.context.actor, envelope = %work.envelope.id, timeout = ?work.budget,
                    "no answer from the runtime in time"
                );
                CallOutcome::Timeout
            }
            Err(error) => {
                // The runtime may have died with this message: look before the next one is given to it.
                self.ask_probe(Readiness::NotReady);
                match error {
                    CallError::ReplyTooLarge { .. } => CallOutcome::Unusable(error.to_string()),
                    _ => CallOutcome::Broken(error.to_string()),
                }
            }
        }
    }

    fn ask_probe(&self, readiness: Readiness) {
        self.context.set_readiness(readiness);
        self.context.doors.probe.wake();
    }
}
