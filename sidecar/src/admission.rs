//! Whether an arrival is run, and with what: a pure decision about one message.

use std::sync::Arc;
use std::time::Duration;

use asya_runtime_protocol::{Envelope, ParseError, Parsed};
use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::config::Config;
use crate::errors::{Failure, fail, fail_unreadable};
use crate::plan::{Plan, Reason};
use crate::retry::Runs;

/// What the queue says about a delivery, beside its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeliveryFacts {
    pub(crate) message_id: Option<String>,
    /// How often the queue has handed it out, this time included.
    pub(crate) deliveries: u32,
    /// How often a part of this sidecar crashed with it in hand.
    pub(crate) crashes: u32,
}

/// A message that is to be run.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) envelope: Arc<Envelope>,
    /// The message as it came.
    pub(crate) body: Bytes,
    /// What the runtime is sent.
    pub(crate) request: Bytes,
    /// How long the runtime may take.
    pub(crate) budget: Duration,
    /// Delivered so often that it may have killed processes: it runs alone.
    pub(crate) suspect: bool,
    /// This run and those before it; the envelope does not tell about them any more.
    pub(crate) runs: Runs,
    /// Whether the message told about earlier runs, here or elsewhere; what the runtime answers must not.
    pub(crate) had_runs: bool,
}

/// The decision.
#[derive(Debug)]
pub(crate) enum Admission {
    /// Give it to the runtime.
    Run(Arc<Work>),
    /// Do this instead.
    Refuse(Box<Plan>),
}

impl Admission {
    pub(crate) fn refuse(plan: Plan) -> Self {
        Self::Refuse(Box::new(plan))
    }
}

/// Decides about one arrival at time `now`.
pub(crate) fn admit(
    config: &Config,
    body: &Bytes,
    delivery: &DeliveryFacts,
    now: DateTime<Utc>,
) -> Admission {
    if body.len() > config.max_message_size {
        let error = format!(
            "Message of {} bytes is over the limit of {} bytes (ASYA_MAX_MESSAGE_SIZE)",
            body.len(),
            config.max_message_size
        );
        let failure = Failure::new(Reason::Validation, error);
        // Its id is needed to tell who waits for it; its payload is kept as far as the queues take it.
        return Admission::refuse(match Envelope::parse(body) {
            Ok(parsed) => fail(config, &parsed.envelope, body, delivery, failure),
            Err(_) => fail_unreadable(config, body, delivery, failure),
        });
    }
    let parsed = match Envelope::parse(body) {
        Ok(parsed) => parsed,
        Err(error) => {
            let reason = match error {
                ParseError::Json { .. } => Reason::Parse,
                ParseError::MissingId(_) => Reason::Validation,
            };
            let failure = Failure::new(reason, error.to_string());
            return Admission::refuse(fail_unreadable(config, body, delivery, failure));
        }
    };
    match refusal(config, &parsed.envelope, now) {
        Some(failure) => Admission::refuse(fail(config, &parsed.envelope, body, delivery, failure)),
        None => Admission::Run(Arc::new(work(config, parsed, delivery, now))),
    }
}

/// Why a readable envelope is not run, if so.
fn refusal(config: &Config, envelope: &Envelope, now: DateTime<Utc>) -> Option<Failure> {
    if config.role.is_end() {
        return None; // End actors check neither route nor deadline (contract §9, rulings 14).
    }
    let actual = envelope.route.current_actor().unwrap_or_default();
    if actual != config.actor {
        let error = format!(
            "Route mismatch: message routed to wrong actor (expected: {}, actual: {actual})",
            config.actor
        );
        return Some(Failure::new(Reason::RouteMismatch, error));
    }
    if envelope.route.step() >= config.max_hops {
        let error = format!(
            "Hop limit of {} reached (ASYA_MAX_HOPS): the route goes in circles",
            config.max_hops
        );
        return Some(Failure::new(Reason::Validation, error));
    }
    if deadline(envelope).is_some_and(|deadline| deadline <= now) {
        return Some(Failure::new(Reason::Deadline, "Deadline exceeded"));
    }
    None
}

fn work(config: &Config, mut parsed: Parsed, delivery: &DeliveryFacts, now: DateTime<Utc>) -> Work {
    let request = parsed.runtime_request(); // The handler may see the state of retries in the headers.
    let had_runs = !config.role.is_end() && Runs::are_told_by(&parsed.envelope);
    let runs = if had_runs {
        Runs::take(&mut parsed.envelope, &config.actor)
    } else {
        Runs::first()
    };
    let left = match deadline(&parsed.envelope) {
        Some(deadline) if !config.role.is_end() => (deadline - now).to_std().unwrap_or_default(),
        _ => Duration::MAX,
    };
    Work {
        request,
        body: parsed.body().clone(),
        budget: config.runtime_timeout.min(left),
        suspect: delivery.deliveries > config.max_deliveries,
        runs,
        had_runs,
        envelope: Arc::new(parsed.envelope),
    }
}

/// The envelope's deadline; a text that is no RFC 3339 time is none, since the original never read it.
pub(crate) fn deadline(envelope: &Envelope) -> Option<DateTime<Utc>> {
    let text = envelope.deadline.as_deref()?;
    DateTime::parse_from_rfc3339(text)
        .ok()
        .map(|deadline| deadline.with_timezone(&Utc))
}
