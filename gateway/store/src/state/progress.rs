//! What actors report while they work: progress, retries, items.

use std::sync::Arc;

use asya_runtime_protocol::GoDuration;
use chrono::{DateTime, TimeDelta, Utc};

use super::{Draft, actor_at, length, route, text};
use crate::model::{Kind, Partial, Phase, Progress, Record, Retry, Status};

/// Contract gateway §4.2.
const fn weight(phase: Option<Phase>) -> u8 {
    match phase {
        None => 0,
        Some(Phase::Received) => 10,
        Some(Phase::Processing) => 50,
        Some(Phase::Completed) => 100,
    }
}

/// How far a route of `total` actors has come, 0 to 100.
#[expect(
    clippy::cast_precision_loss,
    reason = "no route has 2^53 actors, and the index is one of them"
)]
fn percent(index: i64, phase: Option<Phase>, total: i64) -> f64 {
    if total == 0 {
        return 0.0;
    }
    let hundredths = index as f64 * 100.0 + f64::from(weight(phase));
    (hundredths / total as f64).min(100.0)
}

/// An actor has come further. Late reports, those about a place that was left behind, may only raise the number of
/// actors that have completed.
pub(super) fn progress(standing: &Record, next: &mut Record, said: &Progress) -> Option<Draft> {
    let new_route = new_route(standing, said);
    let total = length(new_route.as_deref().unwrap_or(&standing.actors));
    let index = index_of_work(standing, said, total);
    let here = (index, said.phase);
    if said.phase == Some(Phase::Completed) && total > 0 {
        let completed = u32::try_from(index.saturating_add(1)).unwrap_or(u32::MAX);
        next.actors_completed = next.actors_completed.max(completed);
    }
    let is_late = here < (standing.current_actor_idx, standing.phase);
    if !is_late {
        if let Some(route) = new_route {
            next.actors = route;
        }
        move_to(next, index, said.phase);
        next.progress_percent = standing.progress_percent.max(percent(index, said.phase, total));
        if let Some(message) = said.message.as_deref().and_then(text) {
            next.message = Some(message);
        }
        next.status = Status::Running;
    }
    if !shows_a_change(standing, next) {
        return None;
    }
    next.status = Status::Running;
    Some(Draft {
        message: said.message.as_deref().and_then(text),
        progress_percent: Some(next.progress_percent),
        actor: actor_at(&next.actors, index).cloned(),
        actors: (!next.actors.is_empty()).then(|| Arc::from(next.actors.as_slice())),
        current_actor_idx: Some(index),
        phase: said.phase,
        ..Draft::of(next, Kind::Progress)
    })
}

/// The route that takes the place of the stored one. Reports that are exact always know it; of others a longer one is
/// taken as the original did, and a changed one of the same length too (contract gateway §12, defect 13).
fn new_route(standing: &Record, said: &Progress) -> Option<Vec<String>> {
    let is_known = said.exact || said.actors.len() >= standing.actors.len();
    if !is_known || said.actors == standing.actors {
        return None;
    }
    route(&said.actors)
}

/// The actor that a report is about, as an index into a route of `total` actors. Original sidecars tell of a
/// completion with the index of the *next* actor (contract gateway §4.2); anything may have been said, so it is held
/// within the route.
fn index_of_work(standing: &Record, said: &Progress, total: i64) -> i64 {
    let is_next =
        said.actor_index == standing.current_actor_idx.saturating_add(1) || said.actor_index == total;
    let is_old_form = !said.exact && said.phase == Some(Phase::Completed) && is_next;
    let index = said.actor_index.saturating_sub(i64::from(is_old_form));
    index.clamp(0, (total - 1).max(0))
}

fn move_to(next: &mut Record, index: i64, phase: Option<Phase>) {
    next.current_actor_idx = index;
    next.phase = phase;
    if let Some(name) = actor_at(&next.actors, index) {
        next.current_actor_name = Some(name.clone());
    }
}

/// Whether anybody could tell the two apart, but for version and time.
#[expect(
    clippy::float_cmp,
    reason = "the same number unless it was raised; this is no arithmetic"
)]
fn shows_a_change(standing: &Record, next: &Record) -> bool {
    standing.status != next.status
        || standing.progress_percent != next.progress_percent
        || standing.current_actor_idx != next.current_actor_idx
        || standing.phase != next.phase
        || standing.actors_completed != next.actors_completed
        || standing.message != next.message
        || standing.current_actor_name != next.current_actor_name
        || standing.actors != next.actors
}

/// A hop failed and will run again: a message on `running` (rulings 5), and the actor begins anew. One about an actor
/// that was left behind is late.
pub(super) fn retry(next: &mut Record, said: &Retry, at: DateTime<Utc>) -> Option<Draft> {
    let index = said.actor_index.clamp(0, (length(&next.actors) - 1).max(0));
    let message = retry_message(said, at);
    let is_repeated = next.message.as_deref() == Some(message.as_str()) && next.phase.is_none();
    if index < next.current_actor_idx || (index == next.current_actor_idx && is_repeated) {
        return None;
    }
    move_to(next, index, None);
    next.status = Status::Running;
    next.message = Some(message.clone());
    Some(Draft {
        message: Some(message),
        error: text(&said.error),
        failure: said.failure.clone(),
        progress_percent: Some(next.progress_percent),
        actor: actor_at(&next.actors, index).cloned(),
        current_actor_idx: Some(index),
        next_run_at: said.next_run_at.map(super::microseconds),
        ..Draft::of(next, Kind::Retry)
    })
}

/// `Retrying in 1.5s (attempt 3): <error>`, as sidecars tell it to gateways that know no retries. The pause is by the
/// clock of who reports it.
fn retry_message(said: &Retry, at: DateTime<Utc>) -> String {
    let pause = said.next_run_at.map(|next| next.signed_duration_since(at));
    let pause = pause.map(|pause| rounded(pause.max(TimeDelta::zero())));
    let when = pause.map_or_else(String::new, |pause| format!(" in {}", GoDuration(pause)));
    let run = said.runs.saturating_add(1);
    let error = text(&said.error).map_or_else(String::new, |error| format!(": {error}"));
    format!("Retrying{when} (attempt {run}){error}")
}

/// Whole milliseconds.
fn rounded(pause: TimeDelta) -> std::time::Duration {
    std::time::Duration::from_millis(u64::try_from(pause.num_milliseconds()).unwrap_or(0))
}

/// One item. It is handed on whatever came before it, since no item may be lost, and moves nothing but the status.
pub(super) fn partial(next: &mut Record, said: &Partial) -> Draft {
    next.status = Status::Running;
    Draft {
        actor: actor_at(&next.actors, said.actor_index).cloned(),
        current_actor_idx: Some(said.actor_index),
        partial: Some(said.clone()),
        ..Draft::of(next, Kind::Partial)
    }
}
