//! Carrying out a plan: report, publish, wait for every confirm, and only then name the settlement.
//!
//! Nothing here gives up on a message. A broker that is away is waited for; a queue that does not exist is tried for
//! a while beside other work and then becomes an error; when even error-end does not exist, the delivery is held.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use asya_runtime_protocol::Envelope;
use asya_transport::{Outgoing, PublishError, Settlement};
use futures::future::join_all;

use crate::context::{Context, backoff};
use crate::errors::error_message;
use crate::meters::Sent;
use crate::plan::{Content, Kind, Plan, Planned, Verdict};
use crate::report::{Event, Progress};
use crate::retry::Runs;

/// Messages of one plan that are on their way at once: bounds the memory of a large fan-out.
const WINDOW: usize = 64;

/// First and longest pause between two tries of a publish.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(10));

/// Pause before a message whose final report was refused is delivered again.
const REPORT_RETRY: Duration = Duration::from_secs(2);

/// What has become of a plan.
pub(crate) struct Done<'a> {
    /// How to settle the delivery.
    pub(crate) settlement: Settlement,
    /// What to count.
    pub(crate) outcome: Outcome<'a>,
}

/// How a delivery ended, after all of its plan was carried out.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome<'a> {
    /// As planned.
    Planned(&'a Verdict),
    /// An output could not be sent where it belongs, and went to error-end.
    Diverted,
    /// The final report was refused: the message comes back.
    Unreported,
    /// Nobody wants the envelope any more: nothing was published.
    Cancelled,
}

/// Carries out `plan`; returns how to settle the delivery, which is due once this returns and not before.
pub(crate) async fn carry_out<'a>(context: &Context, plan: &'a Plan) -> Done<'a> {
    if let Some(reason) = is_cancelled(context, plan) {
        tracing::info!(actor = %context.actor, %reason, "envelope is cancelled: what came of it is not published");
        return Done {
            settlement: Settlement::Ack,
            outcome: Outcome::Cancelled,
        };
    }
    // Before a dead letter: a refused report brings the message back, and each time would leave another copy there.
    if let Some(report) = &plan.report
        && let Err(error) = context.reporter.finish(report.clone()).await
    {
        // The reporter says once what is wrong; this is about each message.
        tracing::debug!(actor = %context.actor, envelope = %report.id, %error, "the final report was refused");
        return Done {
            // Whoever does not take the report is at fault, not the message.
            settlement: Settlement::Return { after: REPORT_RETRY },
            outcome: Outcome::Unreported,
        };
    }
    let is_cut_short = matches!(plan.verdict, Verdict::Success { outputs: 0 });
    let patience = Patience::new(context.config.unroutable_patience);
    let mut outcome = Outcome::Planned(&plan.verdict);
    for window in plan.messages.chunks(WINDOW) {
        let sending = window
            .iter()
            .map(|message| send(context, message, is_cut_short, &patience));
        if join_all(sending).await.contains(&Way::Diverted) {
            outcome = Outcome::Diverted;
        }
    }
    Done {
        settlement: plan.settlement,
        outcome,
    }
}

/// Why nobody wants what the plan would publish, if so. Looked at once, at the beginning: a plan that is begun is carried
/// out.
fn is_cancelled(context: &Context, plan: &Plan) -> Option<String> {
    let (id, envelope) = plan.subject()?;
    context
        .notices
        .about(id, envelope.route.attempt())
        .map(|notice| notice.reason.clone())
}

/// Publishes an item of a run that goes on, in the worst case as an error envelope about itself; returns when it is
/// confirmed.
pub(crate) async fn send_item(context: &Context, message: &Planned, patience: &Patience) {
    send(context, message, false, patience).await;
}

/// How long missing queues are put up with. One for all messages of a plan, from the first that found none: a large
/// fan-out to nowhere must not take that long for each part of it.
#[derive(Debug)]
pub(crate) struct Patience {
    limit: Duration,
    tried_since: OnceLock<Instant>,
}

impl Patience {
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            limit,
            tried_since: OnceLock::new(),
        }
    }

    /// What is left now that a queue was missing.
    fn left(&self) -> Duration {
        let since = self.tried_since.get_or_init(Instant::now);
        self.limit.saturating_sub(since.elapsed())
    }
}

/// How a message was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    AsPlanned,
    /// To error-end instead.
    Diverted,
}

/// Sends one message, in the worst case as an error envelope about itself.
async fn send(context: &Context, message: &Planned, is_cut_short: bool, patience: &Patience) -> Way {
    let Err(refused) = publish(context, message, is_cut_short, patience).await else {
        return Way::AsPlanned;
    };
    let replacement = replacement(context, message, &refused);
    if let Err(refused) = publish(context, &replacement, false, patience).await {
        // `publish` refuses error-end and dead letters never, except for their size.
        tracing::error!(actor = %context.actor, message_id = %message.message_id, %refused, "holding a message");
        context.pulse.held.step();
        std::future::pending::<()>().await;
    }
    Way::Diverted
}

/// A child is made known before anything can happen to it.
pub(crate) fn announce(context: &Context, message: &Planned) {
    if let (Some(parent_id), Content::Envelope(child)) = (&message.child_of, &message.content) {
        context.reporter.progress(Progress {
            actor: context.actor.clone(),
            envelope: std::sync::Arc::new(Envelope {
                payload: None,
                ..(**child).clone()
            }),
            event: Event::Child {
                id: child.id.clone(),
                parent_id: parent_id.clone(),
            },
        });
    }
}

/// A message that cannot be sent where it should go.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{0}")]
    Unroutable(PublishError),
    #[error("{0}")]
    TooLarge(PublishError),
}

/// Publishes until confirmed. Refuses what more tries cannot mend.
async fn publish(
    context: &Context,
    message: &Planned,
    is_cut_short: bool,
    patience: &Patience,
) -> Result<(), Refused> {
    let body = message.content.to_bytes();
    let started = Instant::now();
    for tries in 0.. {
        let outgoing = Outgoing {
            queue: message.queue.clone(),
            message_id: message.message_id.clone(),
            body: body.clone(),
            // What the tries take counts: where no delay can be had, it is waited here and the message sent then.
            delay: message.delay.saturating_sub(started.elapsed()),
        };
        let mut wait = backoff(RETRY.0, RETRY.1, tries);
        let sending = Instant::now();
        let published = context.transport.publish(outgoing).await;
        context.pulse.publisher.step();
        if published.is_err() && tries == 0 && message.kind == Kind::ErrorEnd {
            context.meters.error_queue_failed();
        }
        let error = match published {
            Ok(()) => {
                context.meters.sent(&Sent {
                    kind: message.kind,
                    queue: &message.queue,
                    is_cut_short,
                    bytes: body.len(),
                    took: sending.elapsed(),
                });
                return Ok(());
            }
            Err(error @ PublishError::TooLarge { .. }) => return Err(Refused::TooLarge(error)),
            Err(error @ PublishError::Unroutable(_)) => {
                if matches!(message.kind, Kind::Routing | Kind::HappyEnd | Kind::Retry) {
                    let left = patience.left();
                    if left.is_zero() {
                        return Err(Refused::Unroutable(error));
                    }
                    wait = wait.min(left);
                }
                error
            }
            Err(error @ PublishError::Unavailable(_)) => error,
        };
        if tries == 0 || wait >= RETRY.1 {
            tracing::warn!(
                actor = %context.actor, queue = %message.queue, message_id = %message.message_id, %error, ?wait,
                "publishing failed, trying again"
            );
        }
        tokio::time::sleep(wait).await;
    }
    unreachable!("the loop ends by returning only")
}

/// The error envelope that is sent instead of `message`.
fn replacement(context: &Context, message: &Planned, refused: &Refused) -> Planned {
    let config = &context.config;
    let Content::Envelope(envelope) = &message.content else {
        return message.clone();
    };
    let (error, mut envelope) = match refused {
        Refused::Unroutable(_) => {
            let error = format!("unroutable: no actor takes messages from queue {}", message.queue);
            (error, (**envelope).clone())
        }
        Refused::TooLarge(error) => {
            // The payload is what makes it too large; its size stays on record.
            let size = envelope
                .payload
                .as_ref()
                .map_or(0, asya_runtime_protocol::RawJson::len);
            let text = format!(
                "Result cannot be sent to queue {}: {error} (payload of {size} bytes)",
                message.queue
            );
            (
                text,
                Envelope {
                    payload: None,
                    ..(**envelope).clone()
                },
            )
        }
    };
    tracing::warn!(actor = %context.actor, envelope = %envelope.id, %error, "sending to error-end instead");
    // A run that cannot be repeated after all: what it failed of stands in the state that it carries.
    let (details, runs) = if message.kind == Kind::Retry {
        let runs = Runs::take(&mut envelope, &config.actor);
        (runs.last_details(), runs.record())
    } else {
        (None, None)
    };
    let mut replacement = error_message(config, &envelope, &error, details, runs);
    replacement.message_id.clone_from(&message.message_id);
    replacement
}
