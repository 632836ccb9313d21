//! The router turns arrivals into work and replies into plans. It decides by pure functions and does no I/O.
//!
//! It takes one job at a time, so that a job which makes it crash is the one that is charged for it; a job that did
//! so too often is condemned without being looked at again.

use std::sync::Arc;

use asya_runtime_protocol::Envelope;
use ractor::{ActorProcessingErr, ActorRef};

use super::{Duty, Message};

use crate::admission::{self, Admission, DeliveryFacts, Work};
use crate::context::{Context, Doorbell, Point};
use crate::ledger::{CallOutcome, Generation, Holder, MAX_CRASHES, RouterJob};
use crate::plan::{Plan, Verdict};
use crate::report::{Event, Progress};
use crate::retry::CallTime;
use crate::{condemn, publishing, routing};

/// Jobs done before the actor looks at its other ports (stop, kill) again.
const BATCH: usize = 64;

pub(crate) struct Router {
    context: Arc<Context>,
    generation: Generation,
}

impl Duty for Router {
    fn door(&self) -> &Doorbell {
        &self.context.doors.router
    }

    async fn look(&mut self, _: &ActorRef<Message>) -> Result<(), ActorProcessingErr> {
        self.work().await
    }
}

impl Router {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        let generation = context.ledger.recover(Holder::Router);
        Self { context, generation }
    }

    async fn work(&self) -> Result<(), ActorProcessingErr> {
        let context = &self.context;
        for _ in 0..BATCH {
            match context.ledger.take_for_router(self.generation) {
                None => return Ok(()),
                Some(RouterJob::Admit { id, body, delivery }) => {
                    context.checkpoint(Point::Admitting).await?;
                    let admission = self.admit(&body, &delivery);
                    let runs = matches!(admission, Admission::Run(_));
                    context.ledger.admitted(id, self.generation, admission);
                    if runs {
                        context.doors.wake_slots();
                    } else {
                        context.doors.publisher.wake();
                    }
                }
                Some(RouterJob::Route {
                    id,
                    work,
                    call,
                    delivery,
                }) => {
                    context.checkpoint(Point::Routing).await?;
                    let is_known = matches!(call.outcome, CallOutcome::SlotCrashed);
                    let plan = if delivery.crashes >= MAX_CRASHES && !is_known {
                        condemn::plan(&context.config, &work.body, &delivery)
                    } else {
                        let time = CallTime::ended_now(call.took);
                        routing::route(&context.config, &work, &call, &delivery, time)
                    };
                    // All of them first: no part of a fan-out may come to its end while another is still unknown, and
                    // a run that is reported as over has no more children.
                    for message in &plan.messages {
                        publishing::announce(context, message);
                    }
                    self.report_outcome(&work, &plan, call.took);
                    if matches!(call.outcome, CallOutcome::Reply(_)) && plan.is_failure() {
                        context.meters.handler_failed();
                    }
                    context.ledger.routed(id, self.generation, plan);
                    context.doors.publisher.wake();
                }
            }
            context.pulse.router.step();
        }
        context.doors.router.wake();
        Ok(())
    }

    fn admit(&self, body: &bytes::Bytes, delivery: &DeliveryFacts) -> Admission {
        let context = &self.context;
        if delivery.crashes >= MAX_CRASHES {
            return Admission::refuse(condemn::plan(&context.config, body, delivery));
        }
        let admission = admission::admit(&context.config, body, delivery, chrono::Utc::now());
        if !context.config.role.is_end() {
            let envelope = match &admission {
                Admission::Run(work) => Some(Arc::clone(&work.envelope)),
                // What can be read was received, though it may be at the wrong actor or too late. It happens seldom
                // enough to be read once more for it.
                Admission::Refuse(_) => Envelope::parse(body).ok().map(|parsed| Arc::new(parsed.envelope)),
            };
            if let Some(envelope) = envelope {
                self.report(&envelope, Event::Received { bytes: body.len() });
            }
        }
        admission
    }

    fn report_outcome(&self, work: &Work, plan: &Plan, took: std::time::Duration) {
        match &plan.verdict {
            Verdict::Success { outputs } => self.report(
                &work.envelope,
                Event::Completed {
                    took,
                    outputs: *outputs,
                    rerouted: plan.rerouted(&work.envelope.route).map(Into::into),
                },
            ),
            Verdict::Failed { reason, error } => {
                tracing::info!(
                    actor = %self.context.actor, envelope = %work.envelope.id, reason = reason.as_str(), %error,
                    "envelope failed here"
                );
                self.report(
                    &work.envelope,
                    Event::Failed {
                        took,
                        error: error.clone(),
                    },
                );
            }
            Verdict::Retried {
                attempt,
                after,
                error,
            } => {
                tracing::info!(
                    actor = %self.context.actor, envelope = %work.envelope.id, attempt, ?after, %error,
                    "run failed, trying again later"
                );
                self.report(
                    &work.envelope,
                    Event::Retrying {
                        took,
                        attempt: *attempt,
                        after: *after,
                        error: error.clone(),
                    },
                );
            }
            Verdict::Consumed | Verdict::Returned => {}
        }
    }

    fn report(&self, envelope: &Arc<Envelope>, event: Event) {
        self.context.reporter.progress(Progress {
            actor: Arc::clone(&self.context.actor),
            envelope: Arc::clone(envelope),
            event,
        });
    }
}
