//! What a reply of the runtime leads to: a pure function from (input, outcome, configuration) to a [`Plan`].

mod ends;

use std::time::Duration;

use asya_runtime_protocol::{
    Envelope, ErrorDetails, GoDuration, HeadersField, RawJson, RawObject, Reply, ReplyItem, Route, child_id,
    message_id,
};
use asya_transport::{QueueName, Settlement};

use crate::admission::{DeliveryFacts, Work};
use crate::config::Config;
use crate::errors::{Failure, OUTPUT_ATTEMPT, error_message, fail};
use crate::ledger::{CallEnd, CallOutcome};
use crate::plan::{Content, Kind, Plan, Planned, Reason, Verdict};
use crate::retry::{self, After, CallTime, Record, RunFailure};

use ends::{retry_end, route_end};

/// What an envelope that somebody ended is called.
const CANCELLED: &str = "cancelled";

/// Decides what becomes of a delivery after its call.
pub(crate) fn route(
    config: &Config,
    work: &Work,
    call: &CallEnd,
    delivery: &DeliveryFacts,
    time: CallTime,
) -> Plan {
    let outcome = &call.outcome;
    let items = match outcome {
        CallOutcome::Reply(reply) => Reply::parse(reply.clone()).map_err(|error| error.to_string()),
        CallOutcome::Broken(text) | CallOutcome::Unread(text) | CallOutcome::Unusable(text) => {
            Err(text.clone())
        }
        CallOutcome::Timeout | CallOutcome::SlotStuck => Err(format!(
            "Runtime timeout exceeded after {}",
            GoDuration(work.budget)
        )),
        CallOutcome::Died(death) => Err(death.code().into()),
        CallOutcome::Cancelled => Err(CANCELLED.into()),
        CallOutcome::Revoked => return Plan::cancelled(String::new()),
        CallOutcome::Expired => {
            let failure = Failure::new(Reason::Deadline, "Deadline exceeded");
            return fail(config, &work.envelope, &work.body, delivery, failure);
        }
        CallOutcome::SlotCrashed => Err("The sidecar crashed repeatedly while this message was run".into()),
    };
    let sent = call.streamed.sent;
    match (items, config.role.is_end()) {
        (Ok(rest), is_end) => {
            let held = call.streamed.held.as_deref().cloned();
            let items: Vec<_> = held.into_iter().chain(rest).collect();
            if is_end {
                return route_end(config, work, items, delivery);
            }
            match after_items(config, work, &items, sent, time) {
                After::Again(plan) => plan,
                After::Over(runs) => {
                    let mut plan = route_step(config, work, items, sent, runs.as_ref());
                    if let (Some(error), Verdict::Success { .. }) = (&call.streamed.failure, &plan.verdict) {
                        plan.verdict = Verdict::Failed {
                            reason: Reason::Runtime,
                            error: error.clone(),
                        };
                    }
                    plan
                }
            }
        }
        (Err(error), false) => after_broken_call(config, work, call, error, delivery, time),
        (Err(error), true) => retry_end(config, work, delivery, call_failure(outcome, error)),
    }
}

/// A call brought no usable answer.
fn after_broken_call(
    config: &Config,
    work: &Work,
    call: &CallEnd,
    error: String,
    delivery: &DeliveryFacts,
    time: CallTime,
) -> Plan {
    let streamed = &call.streamed;
    // What was only held back was not published, so it does not stand in the way of another run.
    let runs = if streamed.sent == 0 {
        let failed = RunFailure::of_call(&call.outcome, &error);
        match retry::after(config, work, &[failed], time) {
            After::Again(plan) => return plan,
            After::Over(runs) => runs,
        }
    } else {
        None
    };
    let is_wanted = !matches!(call.outcome, CallOutcome::Cancelled);
    let held = streamed.held.as_deref().filter(|_| is_wanted).cloned();
    let failure = call_failure(&call.outcome, error);
    if streamed.sent == 0 && held.is_none() {
        let failure = Failure { runs, ..failure };
        return fail(config, &work.envelope, &work.body, delivery, failure);
    }
    // The items before are good; the call failed at the next one (rulings 7).
    let failed_at = streamed.sent + usize::from(held.is_some());
    let mut plan = route_step(
        config,
        work,
        held.into_iter().collect(),
        streamed.sent,
        runs.as_ref(),
    );
    if let [first] = plan.messages.as_mut_slice()
        && let Content::Envelope(envelope) = &mut first.content
    {
        envelope.route.set_split();
    }
    let what = (failure.error.as_str(), failure.details.clone());
    plan.messages
        .push(item_error(config, &work.envelope, failed_at, what, runs.as_ref()));
    plan.verdict = Verdict::Failed {
        reason: Reason::Runtime,
        error: failure.error,
    };
    plan
}

fn call_failure(outcome: &CallOutcome, error: String) -> Failure {
    let mut failure = Failure::new(Reason::Runtime, error);
    if let CallOutcome::Died(death) = outcome {
        failure.details = Some(death.details.clone());
    }
    failure
}

/// A run is repeated only if it produced nothing: the good items of a fan-out are sent, and a repeated run would make
/// them a second time.
fn after_items(config: &Config, work: &Work, items: &[ReplyItem], sent: usize, time: CallTime) -> After {
    if sent > 0 {
        return After::Over(None);
    }
    let failed = items.iter().map(|item| match item {
        ReplyItem::Error { code, details } => Some(RunFailure::reported(code, details.as_ref())),
        ReplyItem::Output { .. } => None,
    });
    match failed.collect::<Option<Vec<_>>>() {
        Some(failures) if !failures.is_empty() => retry::after(config, work, &failures, time),
        Some(_) | None => After::Over(None),
    }
}

/// The messages of streamed items, which are published while the handler runs; the first of them is item `from`. When
/// they are known to be a fan-out, and not before, so that the first one is marked as split.
pub(crate) fn route_stream(config: &Config, work: &Work, items: Vec<ReplyItem>, from: usize) -> Plan {
    route_items(config, work, items, from, from + 2, None)
}

/// Contract data-plane §6.7 and §7.1. The first of the items is number `sent`; those before it are published.
fn route_step(
    config: &Config,
    work: &Work,
    items: Vec<ReplyItem>,
    sent: usize,
    runs: Option<&Record>,
) -> Plan {
    let input = &*work.envelope;
    let count = sent + items.len();
    if count == 0 {
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
    route_items(config, work, items, sent, count, runs)
}

/// The messages of some items of `count`, the first of them number `from`.
fn route_items(
    config: &Config,
    work: &Work,
    items: Vec<ReplyItem>,
    from: usize,
    count: usize,
    runs: Option<&Record>,
) -> Plan {
    let input = &*work.envelope;
    let mut messages = Vec::with_capacity(items.len());
    let mut failure = None;
    for (index, item) in (from..).zip(items) {
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
                failure.get_or_insert_with(|| one_line(&code, details.as_ref()));
                let what = (code.as_str(), details.map(ErrorDetails::into_raw));
                messages.push(item_error(config, input, index, what, runs));
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
    if input.route.attempt() > 1 {
        route.set_attempt(input.route.attempt());
    }
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
    (code, details): (&str, Option<RawJson>),
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
    let mut message = error_message(config, &failed, code, details, runs.cloned());
    message.message_id = output_id(input, index);
    message.child_of = (index > 0).then(|| input.id.clone());
    message
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
