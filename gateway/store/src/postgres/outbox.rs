//! Messages that wait for the broker: taken under a lease, by the clock of the database. What became of them is written
//! together with what that means for their envelopes, in the transaction of [`apply`](super::apply).

use std::time::Duration;

use bytes::Bytes;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::columns::{column, count, microseconds};
use super::database::Work;
use super::rows::{basic_columns, basic_record};
use crate::model::{Applied, OutboxDepth, OutboxEntry, OutboxMessage};
use crate::state::plan::Plan;
use crate::store::OutboxOutcome;

/// Takes messages that nobody else has. Those of envelopes that are final, or of an earlier attempt, are dropped.
pub(super) struct Claim {
    pub(super) limit: u32,
    pub(super) lease: Duration,
}

const CLAIM: &str = "\
    WITH due AS ( \
        SELECT o.envelope_id, o.attempt, e.deadline, \
            e.status IN ('succeeded', 'failed') OR e.attempt > o.attempt AS is_over \
        FROM asya_outbox o JOIN envelopes e ON e.id = o.envelope_id \
        WHERE o.leased_until <= clock_timestamp() \
        ORDER BY o.created_at LIMIT $1 FOR UPDATE OF o SKIP LOCKED \
    ), dropped AS ( \
        DELETE FROM asya_outbox o USING due d \
        WHERE d.is_over AND o.envelope_id = d.envelope_id AND o.attempt = d.attempt \
    ) \
    UPDATE asya_outbox o SET leased_until = clock_timestamp() + $2 * interval '1 microsecond' \
    FROM due d WHERE NOT d.is_over AND o.envelope_id = d.envelope_id AND o.attempt = d.attempt \
    RETURNING o.envelope_id, o.attempt, o.actor, o.message_id, o.body, o.tries, o.created_at, d.deadline";

impl Work for Claim {
    type Out = Vec<OutboxEntry>;
    const NAME: &'static str = "claim_outbox";

    async fn run(&self, connection: &mut PgConnection) -> sqlx::Result<Vec<OutboxEntry>> {
        let rows = sqlx::query(CLAIM)
            .bind(i64::from(self.limit))
            .bind(microseconds(self.lease))
            .fetch_all(connection)
            .await?;
        let mut entries = rows.iter().map(entry).collect::<sqlx::Result<Vec<_>>>()?;
        entries.sort_by(|one, other| {
            (one.created_at, &one.envelope_id).cmp(&(other.created_at, &other.envelope_id))
        });
        Ok(entries)
    }
}

fn entry(row: &PgRow) -> sqlx::Result<OutboxEntry> {
    let count = |column| {
        row.try_get::<i32, _>(column)
            .map(|number| u32::try_from(number).unwrap_or_default())
    };
    Ok(OutboxEntry {
        envelope_id: row.try_get(0)?,
        attempt: count(1)?,
        message: OutboxMessage {
            actor: row.try_get(2)?,
            message_id: row.try_get(3)?,
            body: Bytes::from(row.try_get::<Vec<u8>, _>(4)?),
        },
        tries: count(5)?,
        created_at: row.try_get(6)?,
        deadline: row.try_get(7)?,
    })
}

/// How much waits.
pub(super) struct Depth;

impl Work for Depth {
    type Out = OutboxDepth;
    const NAME: &'static str = "outbox_depth";

    async fn run(&self, connection: &mut PgConnection) -> sqlx::Result<OutboxDepth> {
        let row = sqlx::query("SELECT count(*), min(created_at) FROM asya_outbox")
            .fetch_one(connection)
            .await?;
        Ok(OutboxDepth {
            waiting: u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or_default(),
            oldest: row.try_get(1)?,
        })
    }
}

type Settled = (OutboxEntry, OutboxOutcome);

/// Takes out what is settled, and what nobody is to publish any more.
pub(super) async fn clear(
    connection: &mut PgConnection,
    plan: &Plan,
    settled: &[Settled],
) -> sqlx::Result<()> {
    let finished: Vec<_> = plan.finished().collect();
    if !finished.is_empty() {
        sqlx::query("DELETE FROM asya_outbox WHERE envelope_id = ANY($1)")
            .bind(finished)
            .execute(&mut *connection)
            .await?;
    }
    let (later, done): (Vec<_>, Vec<_>) = settled.iter().partition(|(_, outcome)| is_postponed(outcome));
    if !done.is_empty() {
        sqlx::query(
            "DELETE FROM asya_outbox o USING unnest($1::text[], $2::int[]) AS d (id, attempt) \
             WHERE o.envelope_id = d.id AND o.attempt = d.attempt",
        )
        .bind(column(&done, |(entry, _)| entry.envelope_id.as_str()))
        .bind(column(&done, |(entry, _)| count(entry.attempt)))
        .execute(&mut *connection)
        .await?;
    }
    postpone(connection, &later).await
}

async fn postpone(connection: &mut PgConnection, later: &[&Settled]) -> sqlx::Result<()> {
    if later.is_empty() {
        return Ok(());
    }
    let said = |outcome: &OutboxOutcome| match outcome {
        OutboxOutcome::Later { after, error } => (microseconds(*after), error.replace('\0', "\u{FFFD}")),
        OutboxOutcome::Published | OutboxOutcome::Failed { .. } => (0, String::new()),
    };
    sqlx::query(
        "UPDATE asya_outbox o SET tries = o.tries + 1, error = l.error, \
             leased_until = clock_timestamp() + l.pause * interval '1 microsecond' \
         FROM unnest($1::text[], $2::int[], $3::bigint[], $4::text[]) AS l (id, attempt, pause, error) \
         WHERE o.envelope_id = l.id AND o.attempt = l.attempt",
    )
    .bind(column(later, |(entry, _)| entry.envelope_id.as_str()))
    .bind(column(later, |(entry, _)| count(entry.attempt)))
    .bind(column(later, |(_, outcome)| said(outcome).0))
    .bind(column(later, |(_, outcome)| said(outcome).1))
    .execute(connection)
    .await?;
    Ok(())
}

/// Puts answers for what is to be tried again between those for what was reported.
pub(super) async fn with_postponed(
    connection: &mut PgConnection,
    settled: &[Settled],
    answers: Vec<Applied>,
) -> sqlx::Result<Vec<Applied>> {
    let postponed: Vec<_> = settled
        .iter()
        .filter(|(_, outcome)| is_postponed(outcome))
        .map(|(entry, _)| entry.envelope_id.as_str())
        .collect();
    if postponed.is_empty() {
        return Ok(answers);
    }
    let statement = concat!(
        "SELECT ",
        basic_columns!(),
        " FROM envelopes e WHERE e.id = ANY($1)"
    );
    let rows = sqlx::query(statement)
        .bind(postponed)
        .fetch_all(connection)
        .await?;
    let records = rows.iter().map(basic_record).collect::<sqlx::Result<Vec<_>>>()?;
    let mut answers = answers.into_iter();
    let answer = |(entry, outcome): &Settled| {
        if !is_postponed(outcome) {
            return answers.next().unwrap_or(Applied::Unknown);
        }
        let record = records.iter().find(|record| record.id == entry.envelope_id);
        record.map_or(Applied::Unknown, |record| Applied::Nothing {
            record: Box::new(record.clone()),
        })
    };
    Ok(settled.iter().map(answer).collect())
}

fn is_postponed(outcome: &OutboxOutcome) -> bool {
    matches!(outcome, OutboxOutcome::Later { .. })
}
