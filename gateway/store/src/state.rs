//! The one place that decides what a report changes. Pure; both stores call it inside of a transaction.
//!
//! What it is: [`decide`] for one report, [`plan`](plan::plan) for a batch of them, [`creation`] for new envelopes.
//! What it is not: it reads and writes nothing, and it has no clock.
//!
//! The rules (contract gateway §4.2, §4.3, §6; rulings 5, 10):
//!
//! - A final status stands: the first one wins, and nothing after it changes anything.
//! - A report about another attempt than the stored one changes nothing.
//! - Progress never falls and stays within 0 to 100; the current actor never goes back.
//! - What changes nothing that anybody could see is [`Decision::Nothing`], and is answered like a success.

use std::borrow::Cow;
use std::sync::Arc;

use asya_runtime_protocol::RawJson;
use chrono::{DateTime, SubsecRound, Utc};

use crate::model::{Kind, Outcome, Partial, Phase, Record, Report, ReportEvent, Status, Update};

pub mod creation;
mod ending;
pub mod plan;
mod progress;

/// What one report changes.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// The record after it, with the next version, and the line for the history.
    Change {
        /// The record after it. Its `result` is the one of the report; where that has none, the standing one's.
        record: Box<Record>,
        /// The line for the history.
        update: Box<Draft>,
    },
    /// Late, repeated, or of another attempt.
    Nothing,
}

/// An [`Update`] that has no id yet.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of `Update`")]
pub struct Draft {
    pub kind: Kind,
    pub status: Status,
    pub outcome: Option<Outcome>,
    pub attempt: u32,
    pub message: Option<String>,
    pub result: Option<RawJson>,
    pub error: Option<String>,
    pub failure: Option<RawJson>,
    pub progress_percent: Option<f64>,
    pub actor: Option<String>,
    pub actors: Option<Arc<[String]>>,
    pub current_actor_idx: Option<i64>,
    pub phase: Option<Phase>,
    pub partial: Option<Partial>,
    pub next_run_at: Option<DateTime<Utc>>,
    pub at: DateTime<Utc>,
}

impl Draft {
    /// An update about `record` as it is now, with nothing but its state.
    fn of(record: &Record, kind: Kind) -> Self {
        Self {
            kind,
            status: record.status,
            outcome: record.outcome,
            attempt: record.attempt,
            message: None,
            result: None,
            error: None,
            failure: None,
            progress_percent: None,
            actor: None,
            actors: None,
            current_actor_idx: None,
            phase: None,
            partial: None,
            next_run_at: None,
            at: record.updated_at,
        }
    }

    /// The update, once the database has given it its id.
    pub fn into_update(self, id: i64, envelope_id: Arc<str>) -> Update {
        Update {
            id,
            envelope_id,
            kind: self.kind,
            status: self.status,
            outcome: self.outcome,
            attempt: self.attempt,
            message: self.message,
            result: self.result,
            error: self.error,
            failure: self.failure,
            progress_percent: self.progress_percent,
            actor: self.actor,
            actors: self.actors,
            current_actor_idx: self.current_actor_idx,
            phase: self.phase,
            partial: self.partial,
            next_run_at: self.next_run_at,
            at: self.at,
        }
    }
}

/// Says what `report` makes of the record that stands. `now` is when it is stored; where the record was changed later
/// than that, because clocks differ, the later time stays.
pub fn decide(standing: &Record, report: &Report, now: DateTime<Utc>) -> Decision {
    if standing.status.is_final() || report.attempt.max(1) != standing.attempt {
        return Decision::Nothing;
    }
    // What changes the record starts from this one.
    let mut next = standing.clone();
    next.version = standing.version.saturating_add(1);
    next.updated_at = microseconds(now).max(standing.updated_at);
    let update = match &report.event {
        ReportEvent::Published => ending::published(&mut next),
        ReportEvent::NotPublished { error } => ending::not_published(&mut next, error),
        ReportEvent::Progress(event) => progress::progress(standing, &mut next, event),
        ReportEvent::Retry(event) => progress::retry(&mut next, event, report.at),
        ReportEvent::Partial(event) => Some(progress::partial(&mut next, event)),
        ReportEvent::Final(event) => Some(ending::ended(&mut next, event)),
        ReportEvent::TimedOut => Some(ending::timed_out(&mut next)),
        ReportEvent::Cancelled { reason } => Some(ending::cancelled(&mut next, reason)),
    };
    match update {
        Some(update) => Decision::Change {
            record: Box::new(next),
            update: Box::new(update),
        },
        None => Decision::Nothing,
    }
}

/// An instant as both databases keep it: whole microseconds.
pub fn microseconds(at: DateTime<Utc>) -> DateTime<Utc> {
    at.trunc_subsecs(6)
}

/// A text as both databases can keep it: U+0000, which PostgreSQL cannot hold, is shown as U+FFFD. `None` for an empty
/// one.
fn text(said: &str) -> Option<String> {
    (!said.is_empty()).then(|| without_nul(said).into_owned())
}

fn without_nul(said: &str) -> Cow<'_, str> {
    if said.contains('\0') {
        Cow::Owned(said.replace('\0', "\u{FFFD}"))
    } else {
        Cow::Borrowed(said)
    }
}

/// A route as both databases can keep it; `None` for an empty one.
fn route(said: &[String]) -> Option<Vec<String>> {
    let clean = said.iter().map(|actor| without_nul(actor).into_owned());
    (!said.is_empty()).then(|| clean.collect())
}

/// The length of a route as an index.
fn length(route: &[String]) -> i64 {
    i64::try_from(route.len()).unwrap_or(i64::MAX)
}

/// The actor at an index, if it is in range.
fn actor_at(route: &[String], index: i64) -> Option<&String> {
    route.get(usize::try_from(index).ok()?)
}

#[cfg(test)]
mod tests;
