//! Envelopes as tasks of the extension `io.modelcontextprotocol/tasks` (contract gateway §8.1).

use std::time::Duration;

use asya_gateway_store::{Outcome, Record, Update, View};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use rmcp::model::{DetailedTask, GetTaskResult, JsonObject, Task, TaskPayload, TaskStatus};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde_json::Value;

use super::answers::Answers;
use super::exchange::Exchange;
use super::message::Era;
use super::options::McpOptions;
use super::outcome;
use super::server::{Server, sign};
use super::told_back;
use crate::core::LookupError;

impl Server {
    /// `tasks/get`.
    pub(super) async fn task(
        &self,
        id: &str,
        context: &RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        let exchange = Exchange::of(&context.extensions)?;
        let record = self.gateway.get(&exchange.caller, id, View::Full).await;
        let record = record.map_err(|error| not_found(id, &error))?;
        let mut result = GetTaskResult::new(detailed(&record, &self.options, &exchange.answers));
        sign(&mut result.meta, exchange.era);
        Ok(result)
    }

    /// `tasks/update`: actors never ask their callers, so there is nothing to answer and every answer is let go.
    pub(super) async fn answer_task(
        &self,
        id: &str,
        context: &RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let exchange = Exchange::of(&context.extensions)?;
        let record = self.gateway.get(&exchange.caller, id, View::Basic).await;
        record.map(drop).map_err(|error| not_found(id, &error))
    }

    /// `tasks/cancel`: cancelling what is final changes nothing, and is answered in the same way.
    pub(super) async fn withdraw_task(
        &self,
        id: &str,
        context: &RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let exchange = Exchange::of(&context.extensions)?;
        let reason = "the client cancelled the task";
        let cancelled = self.gateway.cancel(&exchange.caller, id, reason).await;
        cancelled.map(drop).map_err(|error| not_found(id, &error))
    }
}

fn not_found(id: &str, error: &LookupError) -> ErrorData {
    match error {
        LookupError::Unknown | LookupError::HistoryGone => {
            ErrorData::invalid_params(format!("task {:?} not found", told_back(id)), None)
        }
        LookupError::Store(cause) => {
            tracing::error!(error = %cause, "a task cannot be read");
            ErrorData::internal_error("the store does not answer; try again", None)
        }
    }
}

/// The task as it stands, without its result.
pub(super) fn task(record: &Record, options: &McpOptions) -> Task {
    let status = match outcome::of(record) {
        None => TaskStatus::Working,
        Some(Outcome::Cancelled) => TaskStatus::Cancelled,
        // An actor's error is a result that says so, no JSON-RPC error.
        Some(Outcome::Succeeded | Outcome::Failed | Outcome::TimedOut) => TaskStatus::Completed,
    };
    let mut task = Task::new(
        record.id.clone(),
        status,
        time(record.created_at),
        time(record.updated_at),
    )
    .with_status_message(status_message(record.message.as_deref(), record.progress_percent));
    task.ttl_ms = time_to_live(record, options.keep_tasks);
    task.with_poll_interval_ms(millis(options.poll))
}

/// The task with its result, if it has one.
pub(super) fn detailed(record: &Record, options: &McpOptions, answers: &Answers) -> DetailedTask {
    let task = task(record, options);
    let payload = match task.status {
        TaskStatus::Cancelled => TaskPayload::Cancelled,
        TaskStatus::Completed => TaskPayload::Completed {
            result: call_result(record, answers),
        },
        _ => TaskPayload::Working,
    };
    DetailedTask::new(task, payload)
}

/// The task after an update that is not the last one.
pub(super) fn working(record: &Record, update: &Update, options: &McpOptions) -> DetailedTask {
    let percent = update.progress_percent.unwrap_or(record.progress_percent);
    let mut task = task(record, options);
    task.last_updated_at = time(update.at);
    let task = match &update.message {
        Some(message) => task.with_status_message(status_message(Some(message), percent)),
        None => task.with_status_message(status_message(update.actor.as_deref(), percent)),
    };
    DetailedTask::new(task, TaskPayload::Working)
}

fn call_result(record: &Record, answers: &Answers) -> JsonObject {
    // Tasks are of the stateless era.
    let result = outcome::result(record, Era::Stateless, answers);
    match serde_json::to_value(result) {
        Ok(Value::Object(result)) => result,
        // A result of texts is always an object.
        _ => JsonObject::new(),
    }
}

/// Words and how far it is.
fn status_message(message: Option<&str>, percent: f64) -> String {
    match message {
        Some(message) => format!("{message} ({percent:.0} %)"),
        None => format!("{percent:.0} %"),
    }
}

/// From creation, as the extension counts it; not limited before the task is final, because nobody deletes it then.
fn time_to_live(record: &Record, keep: Option<Duration>) -> Option<u64> {
    outcome::of(record)?;
    let keep = TimeDelta::from_std(keep?).ok()?;
    let lived = record.updated_at.signed_duration_since(record.created_at);
    u64::try_from(lived.checked_add(&keep)?.num_milliseconds()).ok()
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Whole milliseconds; what does not fit is for ever anyway.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
