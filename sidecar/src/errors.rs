//! Building what error-end receives, and what goes to a dead-letter queue when error-end is no option.

use std::borrow::Cow;
use std::time::Duration;

use asya_runtime_protocol::{Envelope, ErrorEnvelope, RawJson, fallback_id, message_id};
use asya_transport::{QueueName, Settlement};
use bytes::Bytes;

use crate::admission::DeliveryFacts;
use crate::config::Config;
use crate::plan::{Content, Kind, Plan, Planned, Reason, Verdict};
use crate::report::{FinalReport, FinalStatus};
use crate::retry::{Record, Runs};

/// The attempt in the ids of outputs and error envelopes, whichever run made them: repeated hops publish the same ids.
/// Only the message that asks for a further run has another one (`retry`).
pub(crate) const OUTPUT_ATTEMPT: u32 = 1;

/// An input that could be read has failed: error-end gets it with its payload as it was. In an end actor, which
/// publishes nothing to other actors (contract data-plane §9), it goes to the dead-letter queue instead.
pub(crate) fn fail(
    config: &Config,
    input: &Envelope,
    body: &Bytes,
    delivery: &DeliveryFacts,
    failure: Failure,
) -> Plan {
    if config.feeds_itself() {
        return dead_letter(config, Some(input), body, delivery, failure);
    }
    // A message that is refused before it is run still tells about the runs that it had.
    let mut input = Cow::Borrowed(input);
    let mut runs = failure.runs;
    if runs.is_none() && Runs::are_told_by(&input) {
        runs = Runs::take(input.to_mut(), &config.actor).record();
    }
    let message = error_message(config, &input, &failure.error, failure.details, runs);
    Plan::failed(message, failure.reason, failure.error)
}

/// The error envelope of `envelope`, ready to be sent.
pub(crate) fn error_message(
    config: &Config,
    envelope: &Envelope,
    error: &str,
    details: Option<RawJson>,
    runs: Option<Record>,
) -> Planned {
    let step = envelope.route.step() + 1;
    let (attempts, history) = runs.map(|runs| (runs.attempts, runs.history)).unzip();
    let builder = ErrorEnvelope::new(error)
        .details(details)
        .attempts(attempts)
        .history(history);
    let mut content = fitting(config, |limit| {
        builder.clone().limit(limit).for_envelope(envelope)
    });
    content.route.set_step(step);
    Planned {
        kind: Kind::ErrorEnd,
        queue: QueueName::for_actor(&config.error_end),
        message_id: message_id(&envelope.id, step, OUTPUT_ATTEMPT, 0),
        content: Content::Envelope(Box::new(content)),
        child_of: None,
        delay: Duration::ZERO,
    }
}

/// An input that could not be read: error-end gets its bytes under an id that every delivery of it shares.
pub(crate) fn fail_unreadable(
    config: &Config,
    body: &Bytes,
    delivery: &DeliveryFacts,
    failure: Failure,
) -> Plan {
    if config.feeds_itself() {
        return dead_letter(config, None, body, delivery, failure);
    }
    let queue = QueueName::for_actor(&config.actor);
    let id = fallback_id(queue.as_str(), delivery.message_id.as_deref(), body);
    let builder = ErrorEnvelope::new(&failure.error).details(failure.details);
    let content = fitting(config, |limit| {
        builder.clone().limit(limit).for_unreadable(&id, body)
    });
    let message = Planned {
        kind: Kind::ErrorEnd,
        queue: QueueName::for_actor(&config.error_end),
        message_id: message_id(&id, 1, OUTPUT_ATTEMPT, 0),
        content: Content::Envelope(Box::new(content)),
        child_of: None,
        delay: Duration::ZERO,
    };
    Plan::failed(message, failure.reason, failure.error)
}

/// The message goes to the dead-letter queue of this actor, byte for byte, and the failure is reported.
pub(crate) fn dead_letter(
    config: &Config,
    input: Option<&Envelope>,
    body: &Bytes,
    delivery: &DeliveryFacts,
    failure: Failure,
) -> Plan {
    let queue = QueueName::for_actor(&config.actor);
    let message_id = delivery
        .message_id
        .clone()
        .unwrap_or_else(|| fallback_id(queue.as_str(), None, body));
    tracing::error!(
        actor = %config.actor, %message_id, reason = failure.reason.as_str(), error = %failure.error,
        queue = %queue.dead_letter(), "message goes to the dead-letter queue"
    );
    let report = input
        .filter(|input| !input.id.is_empty())
        .map(|input| FinalReport {
            actor: config.actor.as_str().into(),
            id: input.id.clone(),
            status: FinalStatus::Failed,
            result: None,
            error: Some(failure.error.clone()),
            error_details: failure.details.clone(),
            message: body.clone(),
        });
    Plan {
        messages: vec![Planned {
            kind: Kind::DeadLetter,
            queue: queue.dead_letter(),
            message_id,
            content: Content::Raw(body.clone()),
            child_of: None,
            delay: Duration::ZERO,
        }],
        report,
        settlement: Settlement::Ack,
        verdict: Verdict::Failed {
            reason: failure.reason,
            error: failure.error,
        },
    }
}

/// What went wrong.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) reason: Reason,
    /// The text of `payload.error`.
    pub(crate) error: String,
    /// The `payload.details` that a runtime reported.
    pub(crate) details: Option<RawJson>,
    /// The runs that it had, if retries were possible.
    pub(crate) runs: Option<Record>,
}

impl Failure {
    pub(crate) fn new(reason: Reason, error: impl Into<String>) -> Self {
        Self {
            reason,
            error: error.into(),
            details: None,
            runs: None,
        }
    }
}

/// Keeps as much of the original as the size limit of messages allows. Escaping can make text up to six times
/// longer, so the length is known only once it is written.
fn fitting(config: &Config, build: impl Fn(usize) -> Envelope) -> Envelope {
    let limit = config.publish_limit;
    for keep in [limit, limit / 2] {
        let envelope = build(keep);
        let payload = envelope.payload.as_ref().map_or(0, RawJson::len);
        if payload + 1024 <= limit {
            return envelope;
        }
    }
    build(limit / 8)
}
