//! A slot is the place of one call of a runtime that speaks protocol v1, or of one worker of a runtime that speaks v2.
//!
//! The worker is served by a pump task that the actor owns ([`worker`]). The rest here is about v1.
//!
//! A call over v1 is awaited inside the actor's handler on purpose: it takes work only when it is idle, so nothing
//! queues behind a call, and a kill (by the reaper) cancels it. The connection of a killed slot is closed with it and
//! never reused. While a call is under way and more work waits, the connection for the next one is made.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use asya_runtime_protocol::{CallError, Connection};
use ractor::{ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;

use super::{Duty, Message, spawn_pump};

use crate::admission::Work;
use crate::context::{Context, Doorbell, Point, Readiness, SlotDoor};
use crate::ledger::{CallOutcome, EntryId, Generation, Holder, Stage};
use crate::report::{Event, Progress};
use crate::worker::{self, Seat};

/// How long a connection for the next call is waited for. A runtime takes it at once or has no room for it.
const AHEAD_LIMIT: Duration = Duration::from_millis(1);

pub(crate) struct Slot {
    context: Arc<Context>,
    index: usize,
    generation: Generation,
    door: Arc<SlotDoor>,
    pump: JoinSet<()>,
    /// A connection for the next call, made while the one before was under way.
    ahead: Option<Connection>,
}

impl Slot {
    pub(crate) fn new(context: Arc<Context>, index: usize) -> Self {
        let generation = context.ledger.recover(Holder::Slot(index));
        let door = context.doors.slot(index);
        door.is_linked.store(false, Ordering::Release);
        Self {
            context,
            index,
            generation,
            door,
            pump: JoinSet::new(),
            ahead: None,
        }
    }
}

impl Duty for Slot {
    fn door(&self) -> &Doorbell {
        &self.door.bell
    }

    fn started(&mut self, myself: &ActorRef<Message>) {
        self.context.doors.router.wake(); // A delivery that crashed too often may wait for routing now.
        let seat = Seat {
            context: Arc::clone(&self.context),
            index: self.index,
            generation: self.generation,
            door: Arc::clone(&self.door),
        };
        spawn_pump(&mut self.pump, myself, worker::serve(seat));
    }

    async fn look(&mut self, _: &ActorRef<Message>) -> Result<(), ActorProcessingErr> {
        if self.context.session.borrow().is_some() {
            return Ok(()); // The pump has its own ears.
        }
        if self.index >= self.context.config.slots.max(1) {
            return Ok(()); // It is here for a worker of protocol v2.
        }
        if !self.context.is_ready() {
            self.ahead = None;
            return Ok(()); // The probe wakes all slots once the runtime is there.
        }
        if let Some((id, work)) = self.context.ledger.assign(self.index, self.generation) {
            self.run(id, work).await
        } else {
            self.ahead = None; // A runtime that serves one connection at a time would wait for it.
            Ok(())
        }
    }
}

impl Slot {
    async fn run(&mut self, id: EntryId, work: Arc<Work>) -> Result<(), ActorProcessingErr> {
        let context = &Arc::clone(&self.context);
        context.checkpoint(Point::Assigned).await?;
        if !context.config.role.is_end() {
            context.reporter.progress(Progress {
                actor: Arc::clone(&context.actor),
                envelope: Arc::clone(&work.envelope),
                event: Event::Processing,
            });
        }
        let started = Instant::now();
        let ahead = self.ahead.take();
        let (called, next) = tokio::join!(call(context, &work, ahead), connect_ahead(context));
        self.ahead = next.filter(|_| called.is_ok());
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
            self.door.wake();
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
        if self.context.session().is_some() {
            return; // The call over v1 was begun before; how the workers are is told by the session.
        }
        self.context.set_readiness(readiness);
        self.context.doors.probe.wake();
    }
}

/// Calls the runtime, over the connection that is there already if there is one.
async fn call(context: &Context, work: &Work, ahead: Option<Connection>) -> Result<bytes::Bytes, CallError> {
    let client = &context.client;
    if let Some(connection) = ahead {
        let called = client
            .call_over(connection, work.request.clone(), work.budget)
            .await;
        match called {
            // The runtime has closed it since, unread: that says nothing about the message.
            Err(error) if !error.handler_may_have_run() => {}
            called => return called,
        }
    }
    client.call(work.request.clone(), work.budget).await
}

/// Connects for the next call while one is under way, if there is work for it: that takes as long as a short handler.
///
/// Only where calls follow each other: a runtime of protocol v1 takes connections one by one and in order, so other
/// slots would wait behind a connection that has nothing to say yet.
async fn connect_ahead(context: &Context) -> Option<Connection> {
    if context.config.slots > 1 || !context.ledger.waiting(Stage::Ready) {
        return None;
    }
    // Whatever is wrong, the next call finds out.
    context.client.connect(AHEAD_LIMIT).await.ok()
}
