//! Rows to words: which columns are read, and what stands for what in rows that the original wrote.

use std::sync::Arc;
use std::time::Duration;

use asya_runtime_protocol::RawJson;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::model::{Kind, Outcome, Partial, Phase, Record, Status, Update};

/// The columns of an envelope `e` in the basic view. `progress_exact` counts while it agrees with the column that a
/// replica of the original writes.
macro_rules! basic_columns {
    () => {
        "e.id, e.parent_id, e.tenant, e.tool, e.status, e.outcome, e.attempt, e.route_actors, e.route_current, \
         e.error, e.timeout_sec, e.timeout_ms, e.deadline, e.current_actor_idx, e.current_actor_name, e.phase, \
         e.message, e.actors_completed, e.stored_at, e.created_at, e.updated_at, e.version, \
         CASE WHEN e.progress_exact::numeric(5, 2) = e.progress_percent THEN e.progress_exact \
              ELSE e.progress_percent::double precision END AS progress"
    };
}
pub(super) use basic_columns;

/// The rest: texts that we wrote, else what the original wrote.
macro_rules! full_columns {
    () => {
        concat!(
            super::rows::basic_columns!(),
            ", coalesce(e.payload_json, e.payload::text) AS payload, coalesce(e.result_json, e.result::text) AS result, \
             e.headers_json AS headers, e.route_metadata_json AS route_metadata"
        )
    };
}
pub(super) use full_columns;

/// The columns of an update `u` of an envelope `e`.
macro_rules! update_columns {
    () => {
        "u.id, u.envelope_id, u.kind, u.status, u.outcome, u.attempt, u.message, u.error, u.failure_json, u.actor, \
         u.actors, u.current_actor_idx, u.envelope_state, u.partial_actor_idx, u.partial_index, u.partial_json, \
         u.next_run_at, u.\"timestamp\" AS at, \
         CASE WHEN u.result_shared THEN coalesce(e.result_json, e.result::text) \
              ELSE coalesce(u.result_json, u.result::text) END AS result, \
         CASE WHEN u.progress_exact::numeric(5, 2) = u.progress_percent THEN u.progress_exact \
              ELSE u.progress_percent::double precision END AS progress"
    };
}
pub(super) use update_columns;

/// A record of a row with the basic columns.
pub(super) fn basic_record(row: &PgRow) -> sqlx::Result<Record> {
    let progress: Option<f64> = row.try_get("progress")?;
    Ok(Record {
        id: row.try_get("id")?,
        parent_id: text(row, "parent_id")?,
        tenant: row.try_get("tenant")?,
        tool: row.try_get("tool")?,
        status: word(row, "status", Status::parse)?.unwrap_or(Status::Unknown),
        outcome: word(row, "outcome", Outcome::parse)?,
        attempt: count(row, "attempt")?,
        actors: row.try_get("route_actors")?,
        route_current: i64::from(row.try_get::<i32, _>("route_current")?),
        route_metadata: None,
        headers: None,
        payload: None,
        result: None,
        error: text(row, "error")?,
        timeout: timeout(row)?,
        deadline: row.try_get("deadline")?,
        progress_percent: progress.unwrap_or_default(),
        current_actor_idx: row
            .try_get::<Option<i32>, _>("current_actor_idx")?
            .map_or(0, i64::from),
        current_actor_name: row.try_get("current_actor_name")?,
        phase: word(row, "phase", Phase::parse)?,
        message: text(row, "message")?,
        actors_completed: count(row, "actors_completed")?,
        stored_at: row.try_get("stored_at")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        version: row.try_get("version")?,
    })
}

/// A record of a row with all columns.
pub(super) fn full_record(row: &PgRow) -> sqlx::Result<Record> {
    Ok(Record {
        route_metadata: json(row, "route_metadata")?,
        headers: json(row, "headers")?,
        payload: json(row, "payload")?,
        result: json(row, "result")?,
        ..basic_record(row)?
    })
}

/// An update of a row with those columns.
pub(super) fn update(row: &PgRow) -> sqlx::Result<Update> {
    let status = word(row, "status", Status::parse)?.unwrap_or(Status::Unknown);
    let progress_percent: Option<f64> = row.try_get("progress")?;
    let kind = word(row, "kind", Kind::parse)?;
    let actors: Option<Vec<String>> = row.try_get("actors")?;
    Ok(Update {
        id: row.try_get("id")?,
        envelope_id: Arc::from(row.try_get::<&str, _>("envelope_id")?),
        kind: kind.unwrap_or_else(|| kind_of_original(status, progress_percent)),
        status,
        outcome: word(row, "outcome", Outcome::parse)?,
        attempt: row
            .try_get::<Option<i32>, _>("attempt")?
            .and_then(|attempt| u32::try_from(attempt).ok())
            .unwrap_or(1),
        message: text(row, "message")?,
        result: json(row, "result")?,
        error: text(row, "error")?,
        failure: json(row, "failure_json")?,
        progress_percent,
        actor: if kind.is_some() {
            row.try_get("actor")?
        } else {
            text(row, "actor")?
        },
        actors: actors.map(Arc::from),
        current_actor_idx: row.try_get("current_actor_idx")?,
        phase: word(row, "envelope_state", Phase::parse)?,
        partial: partial(row)?,
        next_run_at: row.try_get("next_run_at")?,
        at: row.try_get("at")?,
    })
}

/// What a line of the original is about: it has no such column.
fn kind_of_original(status: Status, progress: Option<f64>) -> Kind {
    match progress {
        _ if status.is_final() => Kind::Final,
        Some(_) => Kind::Progress,
        None => Kind::Sent,
    }
}

fn partial(row: &PgRow) -> sqlx::Result<Option<Partial>> {
    let Some(value) = json(row, "partial_json")? else {
        return Ok(None);
    };
    let index: Option<i64> = row.try_get("partial_index")?;
    let actor_index: Option<i64> = row.try_get("partial_actor_idx")?;
    Ok(Some(Partial {
        actor_index: actor_index.unwrap_or_default(),
        index: index
            .and_then(|index| u32::try_from(index).ok())
            .unwrap_or_default(),
        value,
    }))
}

/// The original writes `''` for nothing.
fn text(row: &PgRow, column: &str) -> sqlx::Result<Option<String>> {
    let text: Option<String> = row.try_get(column)?;
    Ok(text.filter(|text| !text.is_empty()))
}

/// One of a set of words; `None` where there is none.
fn word<T>(row: &PgRow, column: &str, parse: impl Fn(&str) -> Option<T>) -> sqlx::Result<Option<T>> {
    let Some(word) = row.try_get::<Option<&str>, _>(column)? else {
        return Ok(None);
    };
    match parse(word) {
        Some(value) => Ok(Some(value)),
        None => Err(strange(column, "an unknown word")),
    }
}

fn count(row: &PgRow, column: &str) -> sqlx::Result<u32> {
    let count: Option<i32> = row.try_get(column)?;
    u32::try_from(count.unwrap_or_default()).map_err(|_| strange(column, "a negative number"))
}

fn timeout(row: &PgRow) -> sqlx::Result<Option<Duration>> {
    let exact: Option<i64> = row.try_get("timeout_ms")?;
    let seconds: Option<i32> = row.try_get("timeout_sec")?;
    let milliseconds = exact.or(seconds.map(|seconds| i64::from(seconds) * 1000));
    let milliseconds = milliseconds.and_then(|number| u64::try_from(number).ok());
    Ok(milliseconds
        .filter(|number| *number > 0)
        .map(Duration::from_millis))
}

/// A column with JSON in it.
pub(super) fn json(row: &PgRow, column: &str) -> sqlx::Result<Option<RawJson>> {
    let text: Option<String> = row.try_get(column)?;
    let json = text.map(|text| RawJson::parse(text.into_bytes())).transpose();
    json.map_err(|_| strange(column, "a text that is not JSON"))
}

fn strange(column: &str, what: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("column {column} holds {what}").into())
}
