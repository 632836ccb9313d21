//! What a transaction has decided and not yet written.

use std::collections::HashMap;
use std::mem;

use asya_runtime_protocol::RawJson;
use chrono::{DateTime, Utc};
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{AssertSqlSafe, Sqlite};

use super::error::Failure;
use super::rows::{micros, route_text, timeout_ms};
use crate::model::{CancelNotice, Idempotency, OutboxMessage, Outcome, Phase, Record};
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
    /// Tells the last numbers that were given out, as read in this transaction; what was told first stands.
    pub(super) fn last_numbers(&mut self, row: i64, update: i64) {
        self.last_row.get_or_insert(row);
        self.last_update.get_or_insert(update);
    }

    /// The number of a new row.
    pub(super) fn next_row(&mut self) -> Result<i64> {
        next(&mut self.last_row)
    }

    /// The id of a new update.
    pub(super) fn next_update(&mut self) -> Result<i64> {
        next(&mut self.last_update)
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
        bulk(connection, &ENVELOPES, &created).await?;
        bulk(connection, &CONTENTS, &created).await?;
        bulk(connection, &OUTBOX, &mem::take(&mut self.messages)).await?;
        let changed: Vec<_> = mem::take(&mut self.changed).into_iter().collect();
        let written = bulk(connection, &CHANGES, &changed).await?;
        if written != changed.len() {
            return Err(Failure::Moved);
        }
        let mut results = Vec::new();
        for (n, write) in changed {
            if write.record.status.is_final() {
                // What is final is not to be published any more.
                self.taken_out.push((n, write.record.attempt));
            }
            if let Some(result) = write.result {
                results.push((n, write.record.attempt, result));
            }
        }
        bulk(connection, &RESULTS, &results).await?;
        bulk(connection, &UPDATES, &mem::take(&mut self.updates)).await?;
        bulk(connection, &CANCELLATIONS, &mem::take(&mut self.notices)).await?;
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

fn next(last: &mut Option<i64>) -> Result<i64> {
    let next = last.ok_or_else(|| Failure::row("numbers were given out before they were read"))? + 1;
    *last = Some(next);
    Ok(next)
}

/// A statement over rows of one kind.
struct Bulk<T> {
    /// Before `VALUES`.
    head: &'static str,
    columns: usize,
    /// After the rows.
    tail: &'static str,
    bind: fn(Query, &T) -> Query,
}

/// Runs a statement over all rows, many at once; how many rows it has written.
async fn bulk<T>(connection: &mut SqliteConnection, how: &Bulk<T>, mut rows: &[T]) -> Result<usize> {
    let mut written = 0;
    while !rows.is_empty() {
        // The largest power of two that is not more.
        let count = (1 << rows.len().ilog2()).min(MOST_ROWS);
        let (these, rest) = rows.split_at(count);
        let row = format!("({})", vec!["?"; how.columns].join(", "));
        let sql = format!("{} VALUES {}{}", how.head, vec![row; count].join(", "), how.tail);
        let query = these.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, row| {
            (how.bind)(query, row)
        });
        let done = query.execute(&mut *connection).await?;
        written += usize::try_from(done.rows_affected()).unwrap_or(usize::MAX);
        rows = rest;
    }
    Ok(written)
}

fn text(json: Option<&RawJson>) -> Option<&str> {
    json.map(RawJson::as_str)
}

const ENVELOPES: Bulk<NewRow> = Bulk {
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

/// Each only if its version has not moved.
const CHANGES: Bulk<(i64, Write)> = Bulk {
    head: "WITH new (n, base, status, outcome, attempt, actors, error, deadline, progress_percent, current_actor_idx, \
        current_actor_name, phase, message, actors_completed, stored_at, updated_at, version) AS (",
    columns: 17,
    tail: ") UPDATE envelopes SET status = new.status, outcome = new.outcome, attempt = new.attempt, \
        actors = new.actors, error = new.error, deadline = new.deadline, progress_percent = new.progress_percent, \
        current_actor_idx = new.current_actor_idx, current_actor_name = new.current_actor_name, phase = new.phase, \
        message = new.message, actors_completed = new.actors_completed, stored_at = new.stored_at, \
        turn = coalesce(new.current_actor_name, turn), updated_at = new.updated_at, version = new.version \
        FROM new WHERE envelopes.n = new.n AND envelopes.version = new.base",
    bind: |query, (n, write)| {
        let record = &write.record;
        query
            .bind(*n)
            .bind(write.base)
            .bind(record.status.as_str())
            .bind(record.outcome.map(Outcome::as_str))
            .bind(i64::from(record.attempt))
            .bind(route_text(&record.actors))
            .bind(record.error.as_deref())
            .bind(record.deadline.map(micros))
            .bind(record.progress_percent)
            .bind(record.current_actor_idx)
            .bind(record.current_actor_name.as_deref())
            .bind(record.phase.map(Phase::as_str))
            .bind(record.message.as_deref())
            .bind(i64::from(record.actors_completed))
            .bind(record.stored_at.as_deref())
            .bind(micros(record.updated_at))
            .bind(record.version)
    },
};

const CONTENTS: Bulk<NewRow> = Bulk {
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

const OUTBOX: Bulk<NewMessage> = Bulk {
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

const RESULTS: Bulk<(i64, u32, RawJson)> = Bulk {
    head: "INSERT INTO results (envelope, attempt, result)",
    columns: 3,
    tail: " ON CONFLICT (envelope, attempt) DO UPDATE SET result = excluded.result",
    bind: |query, (n, attempt, result)| query.bind(*n).bind(i64::from(*attempt)).bind(result.as_str()),
};

const UPDATES: Bulk<NewUpdate> = Bulk {
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
            .bind(draft.outcome.map(Outcome::as_str))
            .bind(i64::from(draft.attempt))
            .bind(draft.message.as_deref())
            .bind(draft.result.is_some())
            .bind(draft.error.as_deref())
            .bind(text(draft.failure.as_ref()))
            .bind(draft.progress_percent)
            .bind(draft.actor.as_deref())
            .bind(draft.actors.as_deref().map(route_text))
            .bind(draft.current_actor_idx)
            .bind(draft.phase.map(Phase::as_str))
            .bind(partial.map(|partial| partial.actor_index))
            .bind(partial.map(|partial| i64::from(partial.index)))
            .bind(partial.map(|partial| partial.value.as_str()))
            .bind(draft.next_run_at.map(micros))
            .bind(micros(draft.at))
    },
};

const CANCELLATIONS: Bulk<CancelNotice> = Bulk {
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
