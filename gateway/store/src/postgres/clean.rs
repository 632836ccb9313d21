//! Deletes what is older than it need be, a small transaction at a time: nobody waits for more than one of them.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

use super::database::{Database, Work};
use crate::model::Retention;
use crate::store::{Cleaned, Result};

/// Rows of one transaction.
const STEP: i64 = 500;

/// Deletes all that is due.
pub(super) async fn clean(database: &Database, retention: Retention, now: DateTime<Utc>) -> Result<Cleaned> {
    let before = |kept: Option<std::time::Duration>| now.checked_sub_signed(TimeDelta::from_std(kept?).ok()?);
    let mut cleaned = Cleaned::default();
    if let Some(before) = before(retention.updates) {
        cleaned.updates = history(database, before).await?;
    }
    if let Some(before) = before(retention.envelopes) {
        cleaned.envelopes = all(database, &Envelopes(before)).await?;
    }
    all(database, &Notices(now)).await?;
    Ok(cleaned)
}

/// Deletes history from the oldest line on. Old lines of what has not ended stay, and are passed once.
async fn history(database: &Database, before: DateTime<Utc>) -> Result<u64> {
    let (mut total, mut after) = (0, (DateTime::UNIX_EPOCH, 0));
    loop {
        let (deleted, last) = database.run(&Updates { before, after }).await?;
        total += deleted;
        match last {
            Some(last) => after = last,
            None => return Ok(total),
        }
    }
}

/// Repeats a step until it finds less than it may take.
async fn all<W: Work<Out = u64>>(database: &Database, step: &W) -> Result<u64> {
    let mut total = 0;
    loop {
        let deleted = database.run(step).await?;
        total += deleted;
        if deleted < STEP.unsigned_abs() {
            return Ok(total);
        }
    }
}

async fn delete(
    connection: &mut PgConnection,
    statement: &'static str,
    before: DateTime<Utc>,
) -> sqlx::Result<u64> {
    let deleted = sqlx::query(statement)
        .bind(before)
        .bind(STEP)
        .execute(connection)
        .await?;
    Ok(deleted.rows_affected())
}

/// History of envelopes that have been final for so long, after the last line that the step before has looked at.
struct Updates {
    before: DateTime<Utc>,
    after: (DateTime<Utc>, i64),
}

impl Work for Updates {
    /// How many were deleted, and the last one that was looked at.
    type Out = (u64, Option<(DateTime<Utc>, i64)>);
    const NAME: &'static str = "clean";

    async fn run(&self, connection: &mut PgConnection) -> sqlx::Result<Self::Out> {
        const STATEMENT: &str = "\
            WITH seen AS MATERIALIZED ( \
                SELECT id, \"timestamp\" AS at FROM envelope_updates \
                WHERE \"timestamp\" < $1 AND \"timestamp\" >= $3 AND (\"timestamp\", id) > ($3, $4) \
                ORDER BY \"timestamp\", id LIMIT $2 \
            ), old AS ( \
                SELECT u.id FROM seen JOIN envelope_updates u ON u.id = seen.id \
                JOIN envelopes e ON e.id = u.envelope_id \
                WHERE e.updated_at < $1 AND e.status IN ('succeeded', 'failed') FOR UPDATE OF u SKIP LOCKED \
            ), gone AS (DELETE FROM envelope_updates u USING old WHERE u.id = old.id RETURNING u.id) \
            SELECT at, id, (SELECT count(*) FROM gone) FROM seen ORDER BY at DESC, id DESC LIMIT 1";
        let last = sqlx::query_as::<_, (DateTime<Utc>, i64, i64)>(STATEMENT)
            .bind(self.before)
            .bind(STEP)
            .bind(self.after.0)
            .bind(self.after.1)
            .fetch_optional(connection)
            .await?;
        Ok(last.map_or((0, None), |(at, id, deleted)| {
            (deleted.unsigned_abs(), Some((at, id)))
        }))
    }
}

/// Envelopes that have been final for so long, with their history.
struct Envelopes(DateTime<Utc>);

impl Work for Envelopes {
    type Out = u64;
    const NAME: &'static str = "clean";

    async fn run(&self, connection: &mut PgConnection) -> sqlx::Result<u64> {
        const STATEMENT: &str = "\
            WITH old AS ( \
                SELECT id FROM envelopes WHERE updated_at < $1 AND status IN ('succeeded', 'failed') \
                ORDER BY updated_at LIMIT $2 FOR UPDATE SKIP LOCKED \
            ) DELETE FROM envelopes e USING old WHERE e.id = old.id";
        delete(connection, STATEMENT, self.0).await
    }
}

/// Cancellations that nobody need know any more.
struct Notices(DateTime<Utc>);

impl Work for Notices {
    type Out = u64;
    const NAME: &'static str = "clean";

    async fn run(&self, connection: &mut PgConnection) -> sqlx::Result<u64> {
        const STATEMENT: &str = "\
            WITH old AS ( \
                SELECT envelope_id, attempt FROM asya_cancellations WHERE keep_until <= $1 \
                ORDER BY keep_until LIMIT $2 FOR UPDATE SKIP LOCKED \
            ) DELETE FROM asya_cancellations c USING old \
            WHERE c.envelope_id = old.envelope_id AND c.attempt = old.attempt";
        delete(connection, STATEMENT, self.0).await
    }
}
