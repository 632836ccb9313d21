//! New envelopes: each with its message for the outbox, all that wait at one time in one statement.
//!
//! A statement is a transaction by itself, so that a batch costs one round trip and one flush of the log. An insert
//! whose answer was lost runs again: what is there already, and is ours to the microsecond, was stored by the first run.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::join_all;
use sqlx::{PgConnection, Row as _};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::columns::{array_literal, int32, json_text, microseconds, milliseconds, seconds};
use super::database::{Database, Work};
use super::failure::broken;
use super::rows::{full_columns, full_record};
use crate::model::{Created, NewEnvelope, Record};
use crate::state::creation::{check, is_same, record_of};
use crate::store::{Result, StoreError};

/// Most envelopes of one statement, and most bytes of their messages.
const LARGEST_BATCH: usize = 256;
const HEAVIEST_BATCH: usize = 4 << 20;

/// Statements under way at one time: while one is flushed, the next is gathered and sent.
const LANES: usize = 2;

/// How often an envelope is tried that was in the way of the insert and gone at the look.
const TRIES: u32 = 5;

/// Takes new envelopes from all tasks and stores them in batches.
#[derive(Clone)]
pub(super) struct Desk {
    waiting: mpsc::UnboundedSender<Order>,
}

/// One new envelope, and who waits for it.
struct Order {
    row: Row,
    answer: oneshot::Sender<Result<Created>>,
}

/// One new envelope as it is to be stored.
#[derive(Clone)]
struct Row {
    new: Arc<NewEnvelope>,
    /// As it begins, before its parent was looked at.
    record: Record,
    lease: Duration,
}

impl Desk {
    /// Opens the desk; it closes with its last handle.
    pub(super) fn open(database: Database, mirror: bool) -> Self {
        let (waiting, orders) = mpsc::unbounded_channel();
        tokio::spawn(serve(database, mirror, orders));
        Self { waiting }
    }

    /// Stores one envelope.
    pub(super) async fn create(&self, new: NewEnvelope, lease: Duration) -> Result<Created> {
        check(&new).map_err(|error| StoreError::Broken(Box::new(error)))?;
        let mut record = record_of(&new, None);
        record.route_current = i64::from(int32(record.route_current));
        let row = Row {
            new: Arc::new(new),
            record,
            lease,
        };
        let (answer, answered) = oneshot::channel();
        let closed = || StoreError::Unavailable("the store is closed".into());
        // Without a bound: whoever waits holds a request of a listener that has one.
        self.waiting.send(Order { row, answer }).map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }
}

async fn serve(database: Database, mirror: bool, mut orders: mpsc::UnboundedReceiver<Order>) {
    let lanes = Arc::new(Semaphore::new(LANES));
    let mut first = None;
    loop {
        let order = match first.take() {
            Some(order) => order,
            None => match orders.recv().await {
                Some(order) => order,
                None => return,
            },
        };
        // Whoever comes while no lane is free, comes along.
        let Ok(lane) = Arc::clone(&lanes).acquire_owned().await else {
            return;
        };
        let (batch, left_over) = gather(order, &mut orders);
        first = left_over;
        let database = database.clone();
        tokio::spawn(async move {
            store(&database, mirror, batch).await;
            drop(lane);
        });
    }
}

/// What waits, up to the limits; and one that must wait for the next batch, because it is about the same envelope.
fn gather(first: Order, orders: &mut mpsc::UnboundedReceiver<Order>) -> (Vec<Order>, Option<Order>) {
    let mut keys = HashSet::new();
    let mut weight = first.row.weight();
    first.row.keys(&mut keys);
    let mut batch = vec![first];
    while batch.len() < LARGEST_BATCH && weight < HEAVIEST_BATCH {
        let Ok(order) = orders.try_recv() else { break };
        if !order.row.keys(&mut keys) {
            return (batch, Some(order));
        }
        weight += order.row.weight();
        batch.push(order);
    }
    (batch, None)
}

impl Row {
    fn weight(&self) -> usize {
        let body = self.new.outbox.as_ref().map_or(0, |message| message.body.len());
        let payload = self.record.payload.as_ref().map_or(0, |payload| payload.len());
        body + payload
    }

    /// Adds what no other row of a batch may have; false if one has it.
    fn keys(&self, keys: &mut HashSet<String>) -> bool {
        let is_new = keys.insert(format!("i{}", self.record.id));
        let Some(idempotency) = &self.new.idempotency else {
            return is_new;
        };
        let tenant = self.new.tenant.as_deref().unwrap_or_default();
        // A tenant has no say in where its name ends.
        is_new && keys.insert(format!("k{}:{tenant}{}", tenant.len(), idempotency.key))
    }
}

/// Stores a batch and answers everybody in it.
async fn store(database: &Database, mirror: bool, batch: Vec<Order>) {
    let (rows, answers): (Vec<_>, Vec<_>) = batch.into_iter().map(|order| (order.row, order.answer)).unzip();
    let outcomes = match insert(database, mirror, &rows).await {
        Ok(outcomes) => outcomes,
        // One that cannot be stored must not keep the others from it.
        Err(StoreError::Broken(_)) if rows.len() > 1 => {
            let alone = rows.iter().map(|row| async move {
                let mut outcome = insert(database, mirror, std::slice::from_ref(row)).await?;
                outcome.pop().unwrap_or_else(|| Err(broken("no answer to an insert")))
            });
            join_all(alone).await
        }
        Err(error) => rows.iter().map(|_| Err(again(&error))).collect(),
    };
    for (answer, outcome) in answers.into_iter().zip(outcomes) {
        // Who has gone does not want to know.
        let _ = answer.send(outcome);
    }
}

/// The same error for one more who waits.
fn again(error: &StoreError) -> StoreError {
    match error {
        StoreError::Unavailable(source) => StoreError::Unavailable(source.to_string().into()),
        StoreError::Broken(source) => StoreError::Broken(source.to_string().into()),
        StoreError::Schema(told) => StoreError::Schema(told.clone()),
    }
}

/// Inserts rows; one outcome for each. The outer error is about all of them.
async fn insert(database: &Database, mirror: bool, rows: &[Row]) -> Result<Vec<Result<Created>>> {
    let work = Insert {
        rows,
        mirror,
        runs: AtomicU32::new(0),
    };
    let inserted = database.run(&work).await?;
    let was_repeated = work.runs.load(Ordering::Relaxed) > 1;
    let outcomes = rows.iter().map(|row| async {
        match inserted.get(row.record.id.as_str()) {
            Some(inherited) => Ok(Created::New(Box::new(inherited.complete(&row.record)))),
            None => what_stands(database, mirror, row, was_repeated).await,
        }
    });
    Ok(join_all(outcomes).await)
}

/// What is there instead of a row that was not inserted.
async fn what_stands(database: &Database, mirror: bool, row: &Row, was_repeated: bool) -> Result<Created> {
    for _ in 0..TRIES {
        if let Some(found) = database.run(&Find(row)).await? {
            return Ok(found.judge(row, was_repeated));
        }
        // What was in the way has been deleted since.
        let work = Insert {
            rows: std::slice::from_ref(row),
            mirror,
            runs: AtomicU32::new(0),
        };
        if let Some(inherited) = database.run(&work).await?.get(row.record.id.as_str()) {
            return Ok(Created::New(Box::new(inherited.complete(&row.record))));
        }
    }
    Err(broken("an envelope could neither be inserted nor found"))
}

/// What a row took from its parent.
struct Inherited {
    tenant: Option<String>,
    deadline: Option<DateTime<Utc>>,
}

impl Inherited {
    fn complete(&self, record: &Record) -> Record {
        Record {
            tenant: self.tenant.clone(),
            deadline: self.deadline,
            ..record.clone()
        }
    }
}

/// Inserts rows and their messages; those that are there already are left out.
struct Insert<'a> {
    rows: &'a [Row],
    mirror: bool,
    runs: AtomicU32,
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
        RETURNING id, tenant, deadline \
    ), waiting AS ( \
        INSERT INTO asya_outbox (envelope_id, attempt, actor, message_id, body, leased_until) \
        SELECT g.id, 1, g.actor, g.message_id, g.body, clock_timestamp() + g.lease * interval '1 microsecond' \
        FROM given g JOIN added a ON a.id = g.id WHERE g.actor IS NOT NULL \
    ) \
    SELECT id, tenant, deadline FROM added";

impl Work for Insert<'_> {
    type Out = HashMap<String, Inherited>;
    const NAME: &'static str = "create";

    async fn run(&self, connection: &mut PgConnection) -> sqlx::Result<Self::Out> {
        self.runs.fetch_add(1, Ordering::Relaxed);
        let of_records = |column: fn(&Record) -> Option<&str>| -> Vec<Option<&str>> {
            self.rows.iter().map(|row| column(&row.record)).collect()
        };
        let records = || self.rows.iter().map(|row| &row.record);
        let news = || self.rows.iter().map(|row| &*row.new);
        let message = || news().map(|new| new.outbox.as_ref());
        let key = || news().map(|new| new.idempotency.as_ref());
        let rows = sqlx::query(INSERT)
            .bind(records().map(|record| record.id.as_str()).collect::<Vec<_>>())
            .bind(of_records(|record| record.parent_id.as_deref()))
            .bind(of_records(|record| record.tenant.as_deref()))
            .bind(of_records(|record| record.tool.as_deref()))
            .bind(of_records(|record| Some(record.status.as_str())))
            .bind(records().map(|record| array_literal(&record.actors)).collect::<Vec<_>>())
            .bind(records().map(|record| int32(record.route_current)).collect::<Vec<_>>())
            .bind(of_records(|record| json_text(record.payload.as_ref())))
            .bind(of_records(|record| json_text(record.headers.as_ref())))
            .bind(of_records(|record| json_text(record.route_metadata.as_ref())))
            .bind(records().map(|record| record.timeout.map(seconds)).collect::<Vec<_>>())
            .bind(records().map(|record| record.timeout.map(milliseconds)).collect::<Vec<_>>())
            .bind(records().map(|record| record.deadline).collect::<Vec<_>>())
            .bind(records().map(|record| record.created_at).collect::<Vec<_>>())
            .bind(key().map(|key| key.map(|key| key.key.as_str())).collect::<Vec<_>>())
            .bind(key().map(|key| key.map(|key| &key.fingerprint[..])).collect::<Vec<_>>())
            .bind(message().map(|message| message.map(|message| message.actor.as_str())).collect::<Vec<_>>())
            .bind(message().map(|message| message.map(|message| message.message_id.as_str())).collect::<Vec<_>>())
            .bind(message().map(|message| message.map(|message| &message.body[..])).collect::<Vec<_>>())
            .bind(self.rows.iter().map(|row| microseconds(row.lease)).collect::<Vec<_>>())
            .bind(self.mirror)
            .fetch_all(connection)
            .await?;
        let inherited = |row: &sqlx::postgres::PgRow| {
            let inherited = Inherited {
                tenant: row.try_get(1)?,
                deadline: row.try_get(2)?,
            };
            Ok((row.try_get(0)?, inherited))
        };
        rows.iter().map(inherited).collect()
    }
}

/// Looks for what is in the way of a row: the same id first, then the same idempotency key.
struct Find<'a>(&'a Row);

/// What was in the way.
enum Found {
    Id(Record),
    Key { record: Record, fingerprint: Option<Vec<u8>> },
}

impl Found {
    fn judge(self, row: &Row, was_repeated: bool) -> Created {
        match self {
            // The first run has stored it, and its answer was lost.
            Self::Id(record)
                if was_repeated && record.created_at == row.record.created_at && is_same(&record, &row.new) =>
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
