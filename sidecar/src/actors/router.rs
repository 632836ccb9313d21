//! The router turns arrivals into work and replies into plans. It decides by pure functions and does no I/O.
//!
//! It takes one job at a time, so that a job which makes it crash is the one that is charged for it; a job that did
//! so too often is condemned without being looked at again.

use std::sync::Arc;
use std::time::Duration;

use asya_runtime_protocol::Envelope;
use ractor::{ActorProcessingErr, ActorRef};

use super::{Duty, Message};

use crate::admission::{self, Admission, DeliveryFacts, Work};
use crate::context::{Context, Doorbell, Point};
use crate::ledger::{CallOutcome, Cancelled, Generation, Holder, MAX_CRASHES, RouterJob};
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
                    let admitted = match &admission {
                        Admission::Run(work) => Some(Arc::clone(work)),
                        Admission::Refuse(_) => None,
                    };
                    context.ledger.admitted(id, self.generation, admission);
                    if let Some(work) = admitted {
                        context.doors.wake_slots();
                        // A notice that came in between did not find it in the ledger.
                        if context.notices.about_envelope(&work.envelope).is_some() {
                            let is_meant = |envelope: &Envelope| envelope.id == work.envelope.id;
                            context.cancel(is_meant, Cancelled::Noticed);
                        }
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
                    let notice = context.notices.about_envelope(&work.envelope);
                    let plan = if let Some(notice) = notice {
                        Plan::cancelled(notice.reason.clone())
                    } else if delivery.crashes >= MAX_CRASHES && !is_known {
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
        let envelope = match &admission {
            Admission::Run(work) => Some(Arc::clone(&work.envelope)),
            // What can be read was received, though it may be at the wrong actor or too late. It happens seldom enough to
            // be read once more for it.
            Admission::Refuse(_) => Envelope::parse(body).ok().map(|parsed| Arc::new(parsed.envelope)),
        };
        let Some(envelope) = envelope else {
            return admission;
        };
        if let Some(notice) = context.notices.about_envelope(&envelope) {
            self.report_cancelled(&envelope, Duration::ZERO, &notice.reason);
            return Admission::refuse(Plan::cancelled(notice.reason.clone()));
        }
        if !context.config.role.is_end() {
            self.report(&envelope, Event::Received { bytes: body.len() });
        }
        admission
    }

    fn report_cancelled(&self, envelope: &Arc<Envelope>, took: Duration, reason: &str) {
        tracing::info!(
            actor = %self.context.actor, envelope = %envelope.id, %reason,
            "envelope is cancelled: it ends here"
        );
        let reason = reason.to_owned();
        self.report(envelope, Event::Cancelled { took, reason });
    }

    fn report_outcome(&self, work: &Work, plan: &Plan, took: Duration) {
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
            Verdict::Cancelled { reason } => self.report_cancelled(&work.envelope, took, reason),
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
