//! Rows to words and back.

use std::sync::Arc;
use std::time::Duration;

use asya_runtime_protocol::RawJson;
use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::error::Failure;
use crate::model::{
    ActorRow, CancelNotice, Kind, OutboxEntry, OutboxMessage, Outcome, Partial, Phase, Record, Status, Update,
};

/// The columns of [`record`] in [`View::Basic`](crate::View::Basic), of `envelopes AS e`.
pub(super) const BASIC: &str = "e.id, e.parent_id, e.tenant, e.tool, e.status, e.outcome, e.attempt, e.actors, \
    e.route_current, e.error, e.timeout_ms, e.deadline, e.progress_percent, e.current_actor_idx, \
    e.current_actor_name, e.phase, e.message, e.actors_completed, e.stored_at, e.created_at, e.updated_at, e.version";

/// And those of [`View::Full`](crate::View::Full), with `contents AS c` joined.
pub(super) const FULL: &str = ", c.payload, c.headers, c.route_metadata, \
    (SELECT r.result FROM results AS r WHERE r.envelope = e.n ORDER BY r.attempt DESC LIMIT 1)";

/// The columns of [`update`], of `updates AS u` joined with `envelopes AS e`.
pub(super) const UPDATE: &str = "u.id, e.id, u.kind, u.status, u.outcome, u.attempt, u.message, \
    CASE WHEN u.has_result THEN (SELECT r.result FROM results AS r WHERE r.envelope = u.envelope AND r.attempt = u.attempt) END, \
    u.error, u.failure, u.progress_percent, u.actor, u.actors, u.current_actor_idx, u.phase, u.partial_actor_idx, \
    u.partial_index, u.partial_value, u.next_run_at, u.at";

type Result<T> = std::result::Result<T, Failure>;

/// Reads one column after the other.
struct Columns<'a> {
    row: &'a SqliteRow,
    next: usize,
}

impl<'a> Columns<'a> {
    const fn of(row: &'a SqliteRow) -> Self {
        Self { row, next: 0 }
    }

    fn take<T>(&mut self) -> Result<T>
    where
        T: sqlx::Decode<'a, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
    {
        let column = self.next;
        self.next += 1;
        Ok(self.row.try_get(column)?)
    }

    fn number<N: TryFrom<i64>>(&mut self) -> Result<N> {
        in_range(self.take()?)
    }

    fn word<T>(&mut self, parse: impl Fn(&str) -> Option<T>) -> Result<T> {
        let word: &str = self.take()?;
        known(word, parse)
    }

    fn maybe_word<T>(&mut self, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>> {
        let word: Option<&str> = self.take()?;
        word.map(|word| known(word, parse)).transpose()
    }

    fn time(&mut self) -> Result<DateTime<Utc>> {
        instant(self.take()?)
    }

    fn maybe_time(&mut self) -> Result<Option<DateTime<Utc>>> {
        let micros: Option<i64> = self.take()?;
        micros.map(instant).transpose()
    }

    fn json(&mut self) -> Result<Option<RawJson>> {
        let text: Option<String> = self.take()?;
        text.map(raw).transpose()
    }

    fn actors(&mut self) -> Result<Option<Vec<String>>> {
        let text: Option<&str> = self.take()?;
        text.map(|text| {
            serde_json::from_str(text)
                .map_err(|error| Failure::row(format!("a route is unreadable: {error}")))
        })
        .transpose()
    }
}

fn in_range<N: TryFrom<i64>>(number: i64) -> Result<N> {
    N::try_from(number).map_err(|_| Failure::row(format!("the number {number} is out of range")))
}

fn known<T>(word: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T> {
    parse(word).ok_or_else(|| Failure::row(format!("the word {word:?} is not known")))
}

fn instant(micros: i64) -> Result<DateTime<Utc>> {
    DateTime::from_timestamp_micros(micros)
        .ok_or_else(|| Failure::row(format!("the time {micros} is out of range")))
}

fn raw(text: String) -> Result<RawJson> {
    RawJson::parse(text).map_err(|error| Failure::row(format!("a JSON text is unreadable: {error}")))
}

/// An instant as it is stored.
pub(super) fn micros(at: DateTime<Utc>) -> i64 {
    at.timestamp_micros()
}

/// A route as it is stored. Strings always have a JSON form.
pub(super) fn route_text(actors: &[String]) -> String {
    serde_json::to_string(actors).unwrap_or_else(|_| "[]".to_owned())
}

/// A timeout as it is stored, in milliseconds.
pub(super) fn timeout_ms(timeout: Option<Duration>) -> Option<i64> {
    timeout.map(|timeout| i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX))
}

/// A row of [`BASIC`], or with `is_full` of both.
pub(super) fn record(row: &SqliteRow, is_full: bool) -> Result<Record> {
    let mut columns = Columns::of(row);
    let mut record = Record {
        id: columns.take()?,
        parent_id: columns.take()?,
        tenant: columns.take()?,
        tool: columns.take()?,
        status: columns.word(Status::parse)?,
        outcome: columns.maybe_word(Outcome::parse)?,
        attempt: columns.number()?,
        actors: columns.actors()?.unwrap_or_default(),
        route_current: columns.take()?,
        error: columns.take()?,
        timeout: timeout(columns.take()?)?,
        deadline: columns.maybe_time()?,
        progress_percent: columns.take()?,
        current_actor_idx: columns.take()?,
        current_actor_name: columns.take()?,
        phase: columns.maybe_word(Phase::parse)?,
        message: columns.take()?,
        actors_completed: columns.number()?,
        stored_at: columns.take()?,
        created_at: columns.time()?,
        updated_at: columns.time()?,
        version: columns.take()?,
        payload: None,
        headers: None,
        route_metadata: None,
        result: None,
    };
    if is_full {
        record.payload = columns.json()?;
        record.headers = columns.json()?;
        record.route_metadata = columns.json()?;
        record.result = columns.json()?;
    }
    Ok(record)
}

fn timeout(millis: Option<i64>) -> Result<Option<Duration>> {
    let millis: Option<u64> = millis.map(in_range).transpose()?;
    Ok(millis.map(Duration::from_millis))
}

/// A row of [`UPDATE`].
pub(super) fn update(row: &SqliteRow) -> Result<Update> {
    let mut columns = Columns::of(row);
    Ok(Update {
        id: columns.take()?,
        envelope_id: Arc::from(columns.take::<&str>()?),
        kind: columns.word(Kind::parse)?,
        status: columns.word(Status::parse)?,
        outcome: columns.maybe_word(Outcome::parse)?,
        attempt: columns.number()?,
        message: columns.take()?,
        result: columns.json()?,
        error: columns.take()?,
        failure: columns.json()?,
        progress_percent: columns.take()?,
        actor: columns.take()?,
        actors: columns.actors()?.map(Arc::from),
        current_actor_idx: columns.take()?,
        phase: columns.maybe_word(Phase::parse)?,
        partial: partial(columns.take()?, columns.take()?, columns.json()?)?,
        next_run_at: columns.maybe_time()?,
        at: columns.time()?,
    })
}

fn partial(actor_index: Option<i64>, index: Option<i64>, value: Option<RawJson>) -> Result<Option<Partial>> {
    let (Some(actor_index), Some(index), Some(value)) = (actor_index, index, value) else {
        return Ok(None);
    };
    Ok(Some(Partial {
        actor_index,
        index: in_range(index)?,
        value,
    }))
}

/// A row of envelope id, attempt, actor, message id, tries, time, deadline and body.
pub(super) fn outbox_entry(row: &SqliteRow) -> Result<OutboxEntry> {
    let mut columns = Columns::of(row);
    let (envelope_id, attempt) = (columns.take()?, columns.number()?);
    let (actor, message_id) = (columns.take()?, columns.take()?);
    let (tries, created_at, deadline) = (columns.number()?, columns.time()?, columns.maybe_time()?);
    let body: Vec<u8> = columns.take()?;
    Ok(OutboxEntry {
        envelope_id,
        attempt,
        message: OutboxMessage {
            actor,
            message_id,
            body: body.into(),
        },
        tries,
        created_at,
        deadline,
    })
}

/// A row of envelope id, attempt, time and reason.
pub(super) fn notice(row: &SqliteRow) -> Result<CancelNotice> {
    let mut columns = Columns::of(row);
    Ok(CancelNotice {
        envelope_id: columns.take()?,
        attempt: columns.number()?,
        keep_until: columns.time()?,
        reason: columns.take()?,
    })
}

/// A row of cluster, namespace, name, time and body.
pub(super) fn actor(row: &SqliteRow) -> Result<ActorRow> {
    let mut columns = Columns::of(row);
    Ok(ActorRow {
        cluster: columns.take()?,
        namespace: columns.take()?,
        name: columns.take()?,
        observed_at: columns.time()?,
        body: columns.take::<Vec<u8>>()?.into(),
    })
}
