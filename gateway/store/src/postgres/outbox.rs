//! Messages that wait for the broker: taken under a lease, by the clock of the database. What became of them is said
//! together with what that means for their envelopes, in [`apply`](super::apply).

use std::time::Duration;

use bytes::Bytes;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::columns::microseconds;
use super::database::Work;
use crate::model::{OutboxDepth, OutboxEntry, OutboxMessage};

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
    let count = |column| row.try_get::<i32, _>(column).map(|number| u32::try_from(number).unwrap_or_default());
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
        let row = sqlx::query("SELECT count(*), min(created_at) FROM asya_outbox").fetch_one(connection).await?;
        Ok(OutboxDepth {
            waiting: u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or_default(),
            oldest: row.try_get(1)?,
        })
    }
}
