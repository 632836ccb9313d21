//! The statement that stores new envelopes with their messages, and the look at what was in its way.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::columns::{array_literal, column, int32, json_text, microseconds, milliseconds, seconds};
use super::database::Work;
use super::rows::{full_columns, full_record};
use crate::model::{Created, NewEnvelope, Record};
use crate::state::creation::is_same;

/// One new envelope as it is to be stored.
#[derive(Clone)]
pub(super) struct Row {
    pub(super) new: Arc<NewEnvelope>,
    /// As it begins, before its parent was looked at.
    pub(super) record: Record,
    pub(super) lease: Duration,
}

/// What a row took from its parent.
pub(super) struct Inherited {
    tenant: Option<String>,
    deadline: Option<DateTime<Utc>>,
    version: i64,
}

impl Inherited {
    /// The record as it was stored.
    pub(super) fn complete(&self, record: &Record) -> Record {
        Record {
            tenant: self.tenant.clone(),
            deadline: self.deadline,
            version: self.version,
            ..record.clone()
        }
    }
}

/// Inserts rows and their messages; those that are there already are left out.
pub(super) struct Insert<'a> {
    rows: &'a [Row],
    mirror: bool,
    runs: AtomicU32,
}

impl<'a> Insert<'a> {
    pub(super) fn new(rows: &'a [Row], mirror: bool) -> Self {
        Self {
            rows,
            mirror,
            runs: AtomicU32::new(0),
        }
    }

    /// Whether it ran more than once, so that an earlier run may have stored what the last one found.
    pub(super) fn was_repeated(&self) -> bool {
        self.runs.load(Ordering::Relaxed) > 1
    }
}

const INSERT: &str = "\
    WITH given AS ( \
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::int[], \
            $8::text[], $9::text[], $10::text[], $11::int[], $12::bigint[], $13::timestamptz[], $14::timestamptz[], \
            $15::text[], $16::bytea[], $17::text[], $18::text[], $19::bytea[], $20::bigint[]) \
        AS g (id, parent_id, tenant, tool, status, actors, current, payload, headers, metadata, timeout_sec, \
            timeout_ms, deadline, created_at, key, hash, actor, message_id, body, lease) \
    ), added AS ( \
        INSERT INTO envelopes (id, parent_id, tenant, tool, status, route_actors, route_current, total_actors, \
            payload, payload_json, headers_json, route_metadata_json, timeout_sec, timeout_ms, deadline, created_at, \
            updated_at, progress_exact, idempotency_key, idempotency_hash) \
        SELECT g.id, g.parent_id, CASE WHEN p.id IS NULL THEN g.tenant ELSE p.tenant END, g.tool, g.status, \
            g.actors::text[], g.current, cardinality(g.actors::text[]), CASE WHEN $21 THEN asya_jsonb(g.payload) END, \
            g.payload, g.headers, g.metadata, g.timeout_sec, g.timeout_ms, coalesce(g.deadline, p.deadline), \
            g.created_at, g.created_at, 0, g.key, g.hash \
        FROM given g LEFT JOIN envelopes p ON p.id = g.parent_id \
        ON CONFLICT DO NOTHING \
        RETURNING id, tenant, deadline, version \
    ), waiting AS ( \
        INSERT INTO asya_outbox (envelope_id, attempt, actor, message_id, body, leased_until) \
        SELECT g.id, 1, g.actor, g.message_id, g.body, clock_timestamp() + g.lease * interval '1 microsecond' \
        FROM given g JOIN added a ON a.id = g.id WHERE g.actor IS NOT NULL \
    ) \
    SELECT id, tenant, deadline, version FROM added";

impl Work for Insert<'_> {
    type Out = HashMap<String, Inherited>;
    const NAME: &'static str = "create";

    async fn run<'c>(&'c self, connection: &'c mut PgConnection) -> sqlx::Result<Self::Out> {
        self.runs.fetch_add(1, Ordering::Relaxed);
        let rows = self.rows;
        let key = |row: &'c Row| row.new.idempotency.as_ref();
        let message = |row: &'c Row| row.new.outbox.as_ref();
        let inserted = sqlx::query(INSERT)
            .bind(column(rows, |row| row.record.id.as_str()))
            .bind(column(rows, |row| row.record.parent_id.as_deref()))
            .bind(column(rows, |row| row.record.tenant.as_deref()))
            .bind(column(rows, |row| row.record.tool.as_deref()))
            .bind(column(rows, |row| row.record.status.as_str()))
            .bind(column(rows, |row| array_literal(&row.record.actors)))
            .bind(column(rows, |row| int32(row.record.route_current)))
            .bind(column(rows, |row| json_text(row.record.payload.as_ref())))
            .bind(column(rows, |row| json_text(row.record.headers.as_ref())))
            .bind(column(rows, |row| json_text(row.record.route_metadata.as_ref())))
            .bind(column(rows, |row| row.record.timeout.map(seconds)))
            .bind(column(rows, |row| row.record.timeout.map(milliseconds)))
            .bind(column(rows, |row| row.record.deadline))
            .bind(column(rows, |row| row.record.created_at))
            .bind(column(rows, |row| key(row).map(|key| key.key.as_str())))
            .bind(column(rows, |row| key(row).map(|key| &key.fingerprint[..])))
            .bind(column(rows, |row| {
                message(row).map(|message| message.actor.as_str())
            }))
            .bind(column(rows, |row| {
                message(row).map(|message| message.message_id.as_str())
            }))
            .bind(column(rows, |row| message(row).map(|message| &message.body[..])))
            .bind(column(rows, |row| microseconds(row.lease)))
            .bind(self.mirror)
            .fetch_all(connection)
            .await?;
        inserted.iter().map(inherited).collect()
    }
}

fn inherited(row: &PgRow) -> sqlx::Result<(String, Inherited)> {
    let inherited = Inherited {
        tenant: row.try_get(1)?,
        deadline: row.try_get(2)?,
        version: row.try_get(3)?,
    };
    Ok((row.try_get(0)?, inherited))
}

/// Lets children take after their parents: among these envelopes, and what is right below them. A child that comes
/// together with its parent, or before it, finds none when it is inserted.
pub(super) struct Adopt<'a>(pub(super) &'a [String]);

impl Work for Adopt<'_> {
    type Out = HashMap<String, Inherited>;
    const NAME: &'static str = "create";

    async fn run(&self, connection: &mut PgConnection) -> sqlx::Result<Self::Out> {
        let adopted = sqlx::query(
            "UPDATE envelopes c SET tenant = coalesce(c.tenant, p.tenant), deadline = coalesce(c.deadline, p.deadline), \
                 version = c.version + 1 \
             FROM envelopes p WHERE p.id = c.parent_id AND (c.id = ANY($1) OR c.parent_id = ANY($1)) \
                 AND (c.tenant IS NULL AND p.tenant IS NOT NULL OR c.deadline IS NULL AND p.deadline IS NOT NULL \
                     AND c.status NOT IN ('succeeded', 'failed')) \
             RETURNING c.id, c.tenant, c.deadline, c.version",
        )
        .bind(self.0)
        .fetch_all(connection)
        .await?;
        adopted.iter().map(inherited).collect()
    }
}

/// Looks for what is in the way of a row: the same id first, then the same idempotency key.
pub(super) struct Find<'a>(pub(super) &'a Row);

/// What was in the way.
pub(super) enum Found {
    Id(Record),
    Key {
        record: Record,
        fingerprint: Option<Vec<u8>>,
    },
}

impl Found {
    /// What that means for the row.
    pub(super) fn judge(self, row: &Row, was_repeated: bool) -> Created {
        match self {
            // The first run has stored it, and its answer was lost.
            Self::Id(record)
                if was_repeated
                    && record.created_at == row.record.created_at
                    && is_same(&record, &row.new) =>
            {
                Created::New(Box::new(record))
            }
            Self::Id(record) if is_same(&record, &row.new) => Created::Existing(Box::new(record)),
            Self::Key { record, fingerprint }
                if row
                    .new
                    .idempotency
                    .as_ref()
                    .is_some_and(|asked| fingerprint.as_deref() == Some(&asked.fingerprint[..])) =>
            {
                Created::Existing(Box::new(record))
            }
            Self::Id(record) | Self::Key { record, .. } => Created::Conflict(Box::new(record)),
        }
    }
}

impl Work for Find<'_> {
    type Out = Option<Found>;
    const NAME: &'static str = "create";

    async fn run(&self, connection: &mut PgConnection) -> sqlx::Result<Option<Found>> {
        let by_id = concat!("SELECT ", full_columns!(), " FROM envelopes e WHERE e.id = $1");
        let found = sqlx::query(by_id)
            .bind(&self.0.record.id)
            .fetch_optional(&mut *connection)
            .await?;
        if let Some(row) = found {
            return Ok(Some(Found::Id(full_record(&row)?)));
        }
        let Some(idempotency) = &self.0.new.idempotency else {
            return Ok(None);
        };
        let by_key = concat!(
            "SELECT ",
            full_columns!(),
            ", e.idempotency_hash FROM envelopes e WHERE coalesce(e.tenant, '') = $1 AND e.idempotency_key = $2"
        );
        let found = sqlx::query(by_key)
            .bind(self.0.new.tenant.as_deref().unwrap_or_default())
            .bind(&idempotency.key)
            .fetch_optional(connection)
            .await?;
        let Some(row) = found else { return Ok(None) };
        Ok(Some(Found::Key {
            record: full_record(&row)?,
            fingerprint: row.try_get("idempotency_hash")?,
        }))
    }
}
