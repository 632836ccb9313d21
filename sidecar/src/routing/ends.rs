//! What becomes of a message at an end actor.

use std::time::Duration;

use asya_runtime_protocol::{ErrorDetails, RawJson, RawObject, ReplyItem};
use asya_transport::Settlement;

use super::one_line;
use crate::admission::{DeliveryFacts, Work};
use crate::config::{Config, Role};
use crate::context::backoff;
use crate::errors::{Failure, dead_letter};
use crate::plan::{Plan, Reason, Verdict};
use crate::report::{FinalReport, FinalStatus};

/// First and longest pause before an end actor tries a message again.
const END_RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Contract data-plane §9: nothing is published, the result is reported.
pub(super) fn route_end(
    config: &Config,
    work: &Work,
    items: Vec<ReplyItem>,
    delivery: &DeliveryFacts,
) -> Plan {
    let mut result = work.envelope.payload.clone();
    match items.into_iter().next() {
        Some(ReplyItem::Error { code, details }) => {
            let failure = Failure {
                reason: Reason::Runtime,
                error: one_line(&code, details.as_ref()),
                details: details.map(ErrorDetails::into_raw),
                runs: None,
            };
            return retry_end(config, work, delivery, failure);
        }
        Some(ReplyItem::Output {
            payload,
            has_payload: true,
            ..
        }) => result = Some(payload),
        Some(ReplyItem::Output { .. }) | None => {}
    }
    Plan {
        messages: Vec::new(),
        report: Some(final_report(config, work, result)),
        settlement: Settlement::Ack,
        verdict: Verdict::Consumed,
    }
}

fn final_report(config: &Config, work: &Work, result: Option<RawJson>) -> FinalReport {
    let mut report = FinalReport {
        actor: config.actor.as_str().into(),
        id: work.envelope.id.clone(),
        status: FinalStatus::Succeeded,
        result: None,
        error: None,
        error_details: None,
        message: work.body.clone(),
    };
    if config.role == Role::ErrorEnd {
        let failure = work.envelope.payload.as_ref().map(failure_of).unwrap_or_default();
        report.status = FinalStatus::Failed;
        report.error = failure.error.as_ref().and_then(RawJson::to_text);
        report.error_details = failure.details;
    } else {
        report.result = result;
    }
    report
}

/// The members of an error envelope's payload that a final report repeats.
#[derive(Default)]
struct WrittenFailure {
    error: Option<RawJson>,
    details: Option<RawJson>,
}

fn failure_of(payload: &RawJson) -> WrittenFailure {
    match RawObject::try_from(payload.clone()) {
        Ok(payload) => WrittenFailure {
            error: payload.get("error"),
            details: payload.get("details"),
        },
        Err(_) => WrittenFailure::default(),
    }
}

/// An end actor could not do its work: the queue keeps the message for a while; in the end the dead-letter queue.
pub(super) fn retry_end(config: &Config, work: &Work, delivery: &DeliveryFacts, failure: Failure) -> Plan {
    if delivery.deliveries > config.max_deliveries {
        return dead_letter(config, Some(&work.envelope), &work.body, delivery, failure);
    }
    let after = backoff(END_RETRY.0, END_RETRY.1, delivery.deliveries.saturating_sub(1));
    tracing::warn!(
        actor = %config.actor, envelope = %work.envelope.id, error = %failure.error, ?after,
        "end actor failed, trying again later"
    );
    Plan::retry(after)
}
