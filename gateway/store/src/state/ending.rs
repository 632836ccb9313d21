//! The first word and the last one: sent, not sent, succeeded, failed, timed out, cancelled.

use std::sync::Arc;

use asya_runtime_protocol::{RawJson, RawObject};

use super::{Draft, actor_at, length, route, text, without_nul};
use crate::model::{Final, FinalFailure, FinalSuccess, Kind, Outcome, Record, Status};

/// What an envelope failed of whose deadline has passed (contract gateway §6).
const TIMED_OUT: &str = "envelope timed out";
/// What an envelope failed of that somebody cancelled (rulings 10). Also the code with which a sidecar gives up a
/// cancelled call.
const CANCELLED: &str = "cancelled";
/// The code with which a sidecar gives up a message whose deadline has passed.
const DEADLINE_EXCEEDED: &str = "Deadline exceeded";

/// The broker has confirmed the first message. Says nothing new about what is running already.
pub(super) fn published(next: &mut Record) -> Option<Draft> {
    if next.status != Status::Pending {
        return None;
    }
    next.status = Status::Running;
    next.message = Some("Sending envelope to first actor".to_owned());
    Some(Draft {
        message: next.message.clone(),
        ..Draft::of(next, Kind::Sent)
    })
}

/// The first message can never be published. What runs already has been published all the same, so it goes on.
pub(super) fn not_published(next: &mut Record, error: &str) -> Option<Draft> {
    if next.status != Status::Pending {
        return None;
    }
    let error = format!("failed to send envelope: {}", without_nul(error));
    Some(fail(next, Outcome::Failed, error))
}

/// The deadline has passed. Progress and message stay as they are.
pub(super) fn timed_out(next: &mut Record) -> Draft {
    fail(next, Outcome::TimedOut, TIMED_OUT.to_owned())
}

/// Somebody does not want it any more.
pub(super) fn cancelled(next: &mut Record, reason: &str) -> Draft {
    let reason = text(reason).map_or_else(String::new, |reason| format!(": {reason}"));
    next.message = Some(format!("Cancelled{reason}"));
    let update = fail(next, Outcome::Cancelled, CANCELLED.to_owned());
    Draft {
        message: next.message.clone(),
        ..update
    }
}

fn fail(next: &mut Record, outcome: Outcome, error: String) -> Draft {
    next.status = Status::Failed;
    next.outcome = Some(outcome);
    next.error = Some(error.clone());
    Draft {
        error: Some(error),
        ..Draft::of(next, Kind::Final)
    }
}

/// An end actor has had the last word (contract gateway §4.3).
pub(super) fn ended(next: &mut Record, said: &Final) -> Draft {
    next.progress_percent = 100.0;
    let place = match said {
        Final::Succeeded(said) => succeeded(next, said),
        Final::Failed(said) => failed(next, said),
    };
    let result = match said {
        Final::Succeeded(said) => said.result.clone().filter(is_told),
        Final::Failed(said) => failed_result(said),
    };
    if let Some(result) = &result {
        next.result = Some(result.clone());
    }
    Draft {
        message: next.message.clone(),
        result,
        error: next.error.clone(),
        progress_percent: Some(100.0),
        actor: place.actor,
        actors: (!next.actors.is_empty()).then(|| Arc::from(next.actors.as_slice())),
        current_actor_idx: place.index,
        ..Draft::of(next, Kind::Final)
    }
}

/// Where it ended, as far as that was said.
struct Place {
    index: Option<i64>,
    actor: Option<String>,
}

fn succeeded(next: &mut Record, said: &FinalSuccess) -> Place {
    let place = take_place(next, &said.actors, said.actor_index, said.actor.as_deref());
    next.status = Status::Succeeded;
    next.outcome = Some(Outcome::Succeeded);
    next.error = None;
    let mut message = "Envelope completed successfully".to_owned();
    if let Some(stored_at) = said.stored_at.as_deref().and_then(text) {
        message = format!("{message}, results stored at {stored_at}");
        next.stored_at = Some(stored_at);
    }
    next.message = Some(message);
    let completed = surely_completed(next, said.actor_index);
    next.actors_completed = next.actors_completed.max(completed);
    place
}

/// How many actors must have completed in an envelope that succeeded: all, if the last one was reached; an envelope may
/// also end early. Reports of the last actor may still be under way when the end actor has had its word.
fn surely_completed(next: &Record, index: Option<i64>) -> u32 {
    let total = length(&next.actors);
    let reached_last = total > 0 && next.current_actor_idx >= total - 1;
    let completed = if reached_last {
        total
    } else {
        index.unwrap_or(0).clamp(0, total)
    };
    u32::try_from(completed).unwrap_or(u32::MAX)
}

fn failed(next: &mut Record, said: &FinalFailure) -> Place {
    let place = take_place(next, &said.actors, said.actor_index, said.actor.as_deref());
    next.status = Status::Failed;
    next.error = said.error.as_deref().and_then(text);
    next.outcome = Some(match next.error.as_deref() {
        Some(CANCELLED) => Outcome::Cancelled,
        Some(DEADLINE_EXCEEDED | TIMED_OUT) => Outcome::TimedOut,
        _ => Outcome::Failed,
    });
    let actor = said.actor.as_deref().and_then(text);
    let actor = actor.map_or_else(String::new, |actor| format!(" at actor '{actor}'"));
    let error = next.error.as_deref();
    let error = error.map_or_else(String::new, |error| format!(": {error}"));
    next.message = Some(format!("Envelope failed{actor}{error}"));
    next.stored_at = said.stored_at.as_deref().and_then(text).or(next.stored_at.take());
    place
}

/// Takes over route, index and name of a final report. A route that is shorter than what has completed is not this
/// envelope's.
fn take_place(next: &mut Record, actors: &[String], index: Option<i64>, name: Option<&str>) -> Place {
    let completed = usize::try_from(next.actors_completed).unwrap_or(usize::MAX);
    if actors.len() >= completed
        && let Some(actors) = route(actors)
    {
        next.actors = actors;
    }
    let last = (length(&next.actors) - 1).max(0);
    let index = index.map(|index| index.clamp(0, last));
    next.current_actor_idx = next.current_actor_idx.min(last);
    let name = name.and_then(text);
    let name = name.or_else(|| actor_at(&next.actors, index?).cloned());
    if let Some(index) = index {
        next.current_actor_idx = index;
        next.phase = None;
    }
    if let Some(name) = &name {
        next.current_actor_name = Some(name.clone());
    }
    Place { index, actor: name }
}

/// The result of a failure: an object about it if there are details, else what came as a result. Put together as text,
/// so that details keep their bytes; the keys are in the original's order.
fn failed_result(said: &FinalFailure) -> Option<RawJson> {
    let Some(details) = said.details.as_ref().filter(|details| is_told(details)) else {
        return said.result.clone().filter(is_told);
    };
    let mut object = RawObject::new();
    object.insert("details", details);
    let error = said.error.as_deref().unwrap_or_default();
    object.insert("error", &RawJson::from_text(error));
    if let Some(actor) = said.actor.as_deref().filter(|actor| !actor.is_empty()) {
        object.insert("failed_actor", &RawJson::from_text(actor));
    }
    if let Some(index) = said.actor_index {
        object.insert("failed_actor_idx", &json(&index));
    }
    if !said.actors.is_empty() {
        object.insert("route", &json(&said.actors));
    }
    Some(object.into_raw())
}

/// `null` says nothing (contract gateway §4.3).
fn is_told(value: &RawJson) -> bool {
    !value.is_null()
}

/// Integers and lists of strings always have a JSON form.
fn json(value: &(impl serde::Serialize + ?Sized)) -> RawJson {
    RawJson::from_value(value).unwrap_or_else(|_| RawJson::null())
}
