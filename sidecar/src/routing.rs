//! What a reply of the runtime leads to: a pure function from (input, outcome, configuration) to a [`Plan`].

use std::time::Duration;

use asya_runtime_protocol::{
    Envelope, ErrorDetails, GoDuration, HeadersField, RawJson, RawObject, Reply, ReplyItem, Route, child_id,
    message_id,
};
use asya_transport::{QueueName, Settlement};

use crate::admission::{DeliveryFacts, Work};
use crate::config::{Config, Role};
use crate::context::backoff;
use crate::errors::{Failure, OUTPUT_ATTEMPT, dead_letter, error_message, fail};
use crate::ledger::CallOutcome;
use crate::plan::{Content, Kind, Plan, Planned, Reason, Verdict};
use crate::report::{FinalReport, FinalStatus};
use crate::retry::{self, After, CallTime, Record, RunFailure};

/// First and longest pause before an end actor tries a message again.
const END_RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Decides what becomes of a delivery after its call.
pub(crate) fn route(
    config: &Config,
    work: &Work,
    outcome: &CallOutcome,
    delivery: &DeliveryFacts,
    time: CallTime,
) -> Plan {
    let items = match outcome {
        CallOutcome::Reply(reply) => Reply::parse(reply.clone()).map_err(|error| error.to_string()),
        CallOutcome::Broken(text) | CallOutcome::Unread(text) | CallOutcome::Unusable(text) => {
            Err(text.clone())
        }
        CallOutcome::Timeout | CallOutcome::SlotStuck => Err(format!(
            "Runtime timeout exceeded after {}",
            GoDuration(work.budget)
        )),
        CallOutcome::SlotCrashed => Err("The sidecar crashed repeatedly while this message was run".into()),
    };
    match (items, config.role.is_end()) {
        (Ok(items), false) => match after_items(config, work, &items, time) {
            After::Again(plan) => plan,
            After::Over(runs) => route_step(config, work, items, runs.as_ref()),
        },
        (Ok(items), true) => route_end(config, work, items, delivery),
        (Err(error), false) => {
            let failed = RunFailure::of_call(outcome, &error);
            match retry::after(config, work, &[failed], time) {
                After::Again(plan) => plan,
                After::Over(runs) => {
                    let failure = Failure {
                        runs,
                        ..Failure::new(Reason::Runtime, error)
                    };
                    fail(config, &work.envelope, &work.body, delivery, failure)
                }
            }
        }
        (Err(error), true) => retry_end(config, work, delivery, Failure::new(Reason::Runtime, error)),
    }
}

/// A run is repeated only if it produced nothing: the good items of a fan-out are sent, and a repeated run would make
/// them a second time.
fn after_items(config: &Config, work: &Work, items: &[ReplyItem], time: CallTime) -> After {
    let failed = items.iter().map(|item| match item {
        ReplyItem::Error { code, details } => Some(RunFailure::reported(code, details.as_ref())),
        ReplyItem::Output { .. } => None,
    });
    match failed.collect::<Option<Vec<_>>>() {
        Some(failures) if !failures.is_empty() => retry::after(config, work, &failures, time),
        Some(_) | None => After::Over(None),
    }
}

/// Contract data-plane §6.7 and §7.1.
fn route_step(config: &Config, work: &Work, items: Vec<ReplyItem>, runs: Option<&Record>) -> Plan {
    let input = &*work.envelope;
    let count = items.len();
    if items.is_empty() {
        let mut finished = input.clone();
        finished.route.set_step(input.route.step() + 1);
        let message = Planned {
            kind: Kind::HappyEnd,
            queue: QueueName::for_actor(&config.happy_end),
            message_id: output_id(input, 0),
            content: Content::Envelope(Box::new(finished)),
            child_of: None,
            delay: Duration::ZERO,
        };
        return success(vec![message], 0);
    }
    let mut messages = Vec::with_capacity(count);
    let mut failure = None;
    for (index, item) in items.into_iter().enumerate() {
        match item {
            ReplyItem::Output {
                payload,
                route,
                is_legacy,
                headers,
                extra,
                ..
            } => {
                let route = route.unwrap_or_else(|| route_without_one(input, is_legacy));
                let output = Output {
                    payload,
                    route,
                    headers,
                    extra,
                };
                messages.push(output.into_message(config, work, index, count));
            }
            // Only this item fails; the good ones beside it are sent all the same (rulings 7).
            ReplyItem::Error { code, details } => {
                messages.push(item_error(config, input, index, (&code, details.as_ref()), runs));
                failure.get_or_insert_with(|| one_line(&code, details.as_ref()));
            }
        }
    }
    let mut plan = success(messages, count);
    if let Some(error) = failure {
        plan.verdict = Verdict::Failed {
            reason: Reason::Runtime,
            error,
        };
    }
    plan
}

/// Where an item goes that does not say: in the older form along the input's route, else the route ends here, as it
/// did for the original.
fn route_without_one(input: &Envelope, is_legacy: bool) -> Route {
    let mut route = input.route.advanced();
    if !is_legacy {
        route.current = i64::try_from(route.actors.len()).unwrap_or(i64::MAX);
    }
    route
}

fn success(messages: Vec<Planned>, outputs: usize) -> Plan {
    Plan {
        messages,
        report: None,
        settlement: Settlement::Ack,
        verdict: Verdict::Success { outputs },
    }
}

/// One good item of a reply.
struct Output {
    payload: RawJson,
    route: Route,
    headers: HeadersField,
    extra: RawObject,
}

impl Output {
    fn into_message(self, config: &Config, work: &Work, index: usize, count: usize) -> Planned {
        let input = &*work.envelope;
        let (id, parent_id) = identity(input, index);
        let mut route = self.route;
        note_hop(&mut route, input, index, count);
        let (kind, queue) = match route.current_actor() {
            Some(actor) => (Kind::Routing, QueueName::for_actor(actor)),
            None => (Kind::HappyEnd, QueueName::for_actor(&config.happy_end)),
        };
        let mut extra = input.extra.clone();
        for member in self.extra.members() {
            if member.key() == "deadline" {
                continue; // A handler has no say in it, and the input's is written already.
            }
            extra.insert(&member.key(), &member.value);
        }
        let mut headers = self.headers.or_input(input.headers.as_ref());
        if work.had_runs {
            retry::remove(&mut headers); // The runtime was sent them, and gave them back.
        }
        let envelope = Envelope {
            id,
            parent_id,
            route,
            headers,
            payload: Some(self.payload),
            deadline: input.deadline.clone(),
            extra,
        };
        Planned {
            kind,
            queue,
            message_id: output_id(input, index),
            content: Content::Envelope(Box::new(envelope)),
            child_of: (index > 0).then(|| input.id.clone()),
            delay: Duration::ZERO,
        }
    }
}

/// Item 0 is the input under its own id; the others are its children (contract §7.1).
fn identity(input: &Envelope, index: usize) -> (String, Option<String>) {
    let id = child_id(&input.id, index, input.route.step(), input.route.is_split());
    let parent_id = if index == 0 {
        input.parent_id.clone()
    } else {
        Some(input.id.clone())
    };
    (id, parent_id)
}

/// Writes down in the metadata what later hops need to know, whatever the handler made of it (rulings 3).
fn note_hop(route: &mut Route, input: &Envelope, index: usize, count: usize) {
    route.set_step(input.route.step() + 1);
    let is_split = index == 0 && (count > 1 || input.route.is_split());
    if is_split {
        route.set_split();
    } else {
        route.clear_split();
    }
}

fn output_id(input: &Envelope, index: usize) -> String {
    message_id(&input.id, input.route.step() + 1, OUTPUT_ATTEMPT, index)
}

/// The handler failed at item `index`: that item fails under the id that it would have had (rulings 7).
fn item_error(
    config: &Config,
    input: &Envelope,
    index: usize,
    (code, details): (&str, Option<&ErrorDetails>),
    runs: Option<&Record>,
) -> Planned {
    let (id, parent_id) = identity(input, index);
    let mut failed = Envelope {
        id,
        parent_id,
        ..input.clone()
    };
    if index > 0 {
        failed.route.clear_split();
    }
    let mut message = error_message(
        config,
        &failed,
        code,
        details.map(|details| details.as_raw().clone()),
        runs.cloned(),
    );
    message.message_id = output_id(input, index);
    message.child_of = (index > 0).then(|| input.id.clone());
    message
}

/// Contract data-plane §9: nothing is published, the result is reported.
fn route_end(config: &Config, work: &Work, items: Vec<ReplyItem>, delivery: &DeliveryFacts) -> Plan {
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
fn retry_end(config: &Config, work: &Work, delivery: &DeliveryFacts, failure: Failure) -> Plan {
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

/// A failure in one line for people: the code, and the message if there is one.
fn one_line(code: &str, details: Option<&ErrorDetails>) -> String {
    match details.and_then(ErrorDetails::message) {
        Some(message) => format!("{code}: {}", message.lines().next().unwrap_or_default()),
        None => code.to_owned(),
    }
}

#[cfg(test)]
mod tests;
