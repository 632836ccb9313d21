//! What a transaction has decided and not yet written.

use std::collections::HashMap;
use std::mem;

use asya_runtime_protocol::RawJson;
use chrono::{DateTime, Utc};
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{AssertSqlSafe, Row, Sqlite};

use super::error::Failure;
use super::rows::{micros, route_text, timeout_ms};
use crate::model::{CancelNotice, Idempotency, OutboxMessage, Record};
use crate::state::Draft;
use crate::state::plan::Write;

type Result<T> = std::result::Result<T, Failure>;
type Query = sqlx::query::Query<'static, Sqlite, SqliteArguments>;

/// Most rows in one statement. Smaller numbers are put together of powers of two, so that few statements are prepared.
const MOST_ROWS: usize = 32;

/// A new envelope that is still to be written.
#[derive(Debug)]
pub(super) struct NewRow {
    pub(super) n: i64,
    pub(super) record: Record,
    pub(super) idempotency: Option<Idempotency>,
}

/// A message of the outbox that is still to be written.
#[derive(Debug)]
pub(super) struct NewMessage {
    pub(super) n: i64,
    pub(super) attempt: u32,
    pub(super) message: OutboxMessage,
    pub(super) put_at: DateTime<Utc>,
    pub(super) leased_until: DateTime<Utc>,
}

#[derive(Debug)]
struct NewUpdate {
    id: i64,
    n: i64,
    draft: Draft,
}

/// What a transaction has decided and not yet written. Numbers of rows and updates are given out here: nobody else
/// writes meanwhile.
#[derive(Debug, Default)]
pub(super) struct Pending {
    created: Vec<NewRow>,
    messages: Vec<NewMessage>,
    /// The last state of each changed row, with the version that must stand.
    changed: HashMap<i64, Write>,
    updates: Vec<NewUpdate>,
    taken_out: Vec<(i64, u32)>,
    pub(super) notices: Vec<CancelNotice>,
    last_row: Option<i64>,
    last_update: Option<i64>,
}

impl Pending {
    pub(super) async fn next_row(&mut self, connection: &mut SqliteConnection) -> Result<i64> {
        let sql = "SELECT coalesce(max(n), 0) FROM envelopes";
        next(&mut self.last_row, connection, sql).await
    }

    pub(super) async fn next_update(&mut self, connection: &mut SqliteConnection) -> Result<i64> {
        let sql = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'updates'";
        next(&mut self.last_update, connection, sql).await
    }

    pub(super) fn create(&mut self, row: NewRow, message: Option<NewMessage>) {
        self.created.push(row);
        self.messages.extend(message);
    }

    /// Id and hash of what was created under a key in this transaction.
    pub(super) fn created_under(&self, tenant: &str, key: &str) -> Option<(&str, &[u8])> {
        self.created.iter().find_map(|row| {
            let idempotency = row.idempotency.as_ref()?;
            let is_it = idempotency.key == key && row.record.tenant.as_deref().unwrap_or_default() == tenant;
            is_it.then_some((row.record.id.as_str(), idempotency.fingerprint.as_slice()))
        })
    }

    /// A row gets another state; of several in one transaction the last is written.
    pub(super) fn change(&mut self, n: i64, write: Write) {
        match self.changed.get_mut(&n) {
            Some(before) => {
                before.result = write.result.or(before.result.take());
                before.record = write.record;
            }
            None => {
                self.changed.insert(n, write);
            }
        }
    }

    pub(super) fn update(&mut self, id: i64, n: i64, draft: Draft) {
        self.updates.push(NewUpdate { id, n, draft });
    }

    /// A message leaves the outbox.
    pub(super) fn take_out(&mut self, n: i64, attempt: u32) {
        self.taken_out.push((n, attempt));
    }

    /// Writes all of it.
    pub(super) async fn write(&mut self, connection: &mut SqliteConnection) -> Result<()> {
        let created = mem::take(&mut self.created);
        insert(connection, &ENVELOPES, &created).await?;
        insert(connection, &CONTENTS, &created).await?;
        insert(connection, &OUTBOX, &mem::take(&mut self.messages)).await?;
        let mut results = Vec::new();
        for (n, write) in mem::take(&mut self.changed) {
            write_record(connection, &write).await?;
            if write.record.status.is_final() {
                // What is final is not to be published any more.
                self.taken_out.push((n, write.record.attempt));
            }
            if let Some(result) = write.result {
                results.push((n, write.record.attempt, result));
            }
        }
        insert(connection, &RESULTS, &results).await?;
        insert(connection, &UPDATES, &mem::take(&mut self.updates)).await?;
        insert(connection, &CANCELLATIONS, &mem::take(&mut self.notices)).await?;
        for (n, attempt) in mem::take(&mut self.taken_out) {
            sqlx::query("DELETE FROM outbox WHERE envelope = ?1 AND attempt = ?2")
                .bind(n)
                .bind(i64::from(attempt))
                .execute(&mut *connection)
                .await?;
        }
        Ok(())
    }
}

async fn next(last: &mut Option<i64>, connection: &mut SqliteConnection, sql: &'static str) -> Result<i64> {
    let known = match *last {
        Some(known) => known,
        None => sqlx::query(sql).fetch_one(connection).await?.try_get(0)?,
    };
    *last = Some(known + 1);
    Ok(known + 1)
}

/// Writes a changed record, if its version has not moved.
async fn write_record(connection: &mut SqliteConnection, write: &Write) -> Result<()> {
    let record = &write.record;
    let sql =
        "UPDATE envelopes SET status = ?, outcome = ?, attempt = ?, actors = ?, error = ?, deadline = ?,
        progress_percent = ?, current_actor_idx = ?, current_actor_name = ?, phase = ?, message = ?,
        actors_completed = ?, stored_at = ?, turn = coalesce(?, turn), updated_at = ?, version = ?
        WHERE id = ? AND version = ?";
    let done = sqlx::query(sql)
        .bind(record.status.as_str())
        .bind(record.outcome.map(|outcome| outcome.as_str()))
        .bind(i64::from(record.attempt))
        .bind(route_text(&record.actors))
        .bind(record.error.as_deref())
        .bind(record.deadline.map(micros))
        .bind(record.progress_percent)
        .bind(record.current_actor_idx)
        .bind(record.current_actor_name.as_deref())
        .bind(record.phase.map(|phase| phase.as_str()))
        .bind(record.message.as_deref())
        .bind(i64::from(record.actors_completed))
        .bind(record.stored_at.as_deref())
        .bind(record.current_actor_name.as_deref())
        .bind(micros(record.updated_at))
        .bind(record.version)
        .bind(record.id.as_str())
        .bind(write.base)
        .execute(connection)
        .await?;
    match done.rows_affected() {
        1 => Ok(()),
        _ => Err(Failure::Moved),
    }
}

/// How rows of one kind are inserted.
struct Insert<T> {
    head: &'static str,
    columns: usize,
    tail: &'static str,
    bind: fn(Query, &T) -> Query,
}

/// Inserts rows, many in one statement.
async fn insert<T>(connection: &mut SqliteConnection, how: &Insert<T>, mut rows: &[T]) -> Result<()> {
    while !rows.is_empty() {
        // The largest power of two that is not more.
        let count = (1 << rows.len().ilog2()).min(MOST_ROWS);
        let (these, rest) = rows.split_at(count);
        let row = format!("({})", vec!["?"; how.columns].join(", "));
        let sql = format!("{} VALUES {}{}", how.head, vec![row; count].join(", "), how.tail);
        let query = these.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, row| {
            (how.bind)(query, row)
        });
        query.execute(&mut *connection).await?;
        rows = rest;
    }
    Ok(())
}

fn text(json: Option<&RawJson>) -> Option<&str> {
    json.map(RawJson::as_str)
}

const ENVELOPES: Insert<NewRow> = Insert {
    head: "INSERT INTO envelopes (n, id, parent_id, tenant, tool, status, attempt, actors, route_current, timeout_ms, \
        deadline, progress_percent, current_actor_idx, actors_completed, turn, created_at, updated_at, version, \
        idempotency_key, idempotency_hash)",
    columns: 20,
    tail: "",
    bind: |query, row| {
        let record = &row.record;
        let turn = usize::try_from(record.route_current);
        let turn = turn.ok().and_then(|turn| record.actors.get(turn));
        let idempotency = row.idempotency.as_ref();
        query
            .bind(row.n)
            .bind(record.id.as_str())
            .bind(record.parent_id.as_deref())
            .bind(record.tenant.as_deref())
            .bind(record.tool.as_deref())
            .bind(record.status.as_str())
            .bind(i64::from(record.attempt))
            .bind(route_text(&record.actors))
            .bind(record.route_current)
            .bind(timeout_ms(record.timeout))
            .bind(record.deadline.map(micros))
            .bind(record.progress_percent)
            .bind(record.current_actor_idx)
            .bind(i64::from(record.actors_completed))
            .bind(turn.map(String::as_str))
            .bind(micros(record.created_at))
            .bind(micros(record.updated_at))
            .bind(record.version)
            .bind(idempotency.map(|idempotency| idempotency.key.as_str()))
            .bind(idempotency.map(|idempotency| idempotency.fingerprint.to_vec()))
    },
};

const CONTENTS: Insert<NewRow> = Insert {
    head: "INSERT INTO contents (envelope, payload, headers, route_metadata)",
    columns: 4,
    tail: "",
    bind: |query, row| {
        query
            .bind(row.n)
            .bind(text(row.record.payload.as_ref()))
            .bind(text(row.record.headers.as_ref()))
            .bind(text(row.record.route_metadata.as_ref()))
    },
};

const OUTBOX: Insert<NewMessage> = Insert {
    head: "INSERT INTO outbox (envelope, attempt, actor, message_id, created_at, leased_until, body)",
    columns: 7,
    tail: "",
    bind: |query, row| {
        query
            .bind(row.n)
            .bind(i64::from(row.attempt))
            .bind(row.message.actor.as_str())
            .bind(row.message.message_id.as_str())
            .bind(micros(row.put_at))
            .bind(micros(row.leased_until))
            .bind(row.message.body.to_vec())
    },
};

const RESULTS: Insert<(i64, u32, RawJson)> = Insert {
    head: "INSERT INTO results (envelope, attempt, result)",
    columns: 3,
    tail: " ON CONFLICT (envelope, attempt) DO UPDATE SET result = excluded.result",
    bind: |query, (n, attempt, result)| query.bind(*n).bind(i64::from(*attempt)).bind(result.as_str()),
};

const UPDATES: Insert<NewUpdate> = Insert {
    head: "INSERT INTO updates (id, envelope, kind, status, outcome, attempt, message, has_result, error, failure, \
        progress_percent, actor, actors, current_actor_idx, phase, partial_actor_idx, partial_index, partial_value, \
        next_run_at, at)",
    columns: 20,
    tail: "",
    bind: |query, update| {
        let draft = &update.draft;
        let partial = draft.partial.as_ref();
        query
            .bind(update.id)
            .bind(update.n)
            .bind(draft.kind.as_str())
            .bind(draft.status.as_str())
            .bind(draft.outcome.map(|outcome| outcome.as_str()))
            .bind(i64::from(draft.attempt))
            .bind(draft.message.as_deref())
            .bind(draft.result.is_some())
            .bind(draft.error.as_deref())
            .bind(text(draft.failure.as_ref()))
            .bind(draft.progress_percent)
            .bind(draft.actor.as_deref())
            .bind(draft.actors.as_deref().map(route_text))
            .bind(draft.current_actor_idx)
            .bind(draft.phase.map(|phase| phase.as_str()))
            .bind(partial.map(|partial| partial.actor_index))
            .bind(partial.map(|partial| i64::from(partial.index)))
            .bind(partial.map(|partial| partial.value.as_str()))
            .bind(draft.next_run_at.map(micros))
            .bind(micros(draft.at))
    },
};

const CANCELLATIONS: Insert<CancelNotice> = Insert {
    head: "INSERT INTO cancellations (envelope_id, attempt, keep_until, reason)",
    columns: 4,
    tail: " ON CONFLICT (envelope_id, attempt) DO NOTHING",
    bind: |query, notice| {
        query
            .bind(notice.envelope_id.as_str())
            .bind(i64::from(notice.attempt))
            .bind(micros(notice.keep_until))
            .bind(notice.reason.as_str())
    },
};
