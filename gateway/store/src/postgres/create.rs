//! New envelopes: each with its message for the outbox, all that wait at one time in one statement.
//!
//! A statement is a transaction by itself, so that a batch costs one round trip and one flush of the log. An insert
//! whose answer was lost runs again: what is there already, and is ours to the microsecond, was stored by the first run.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use asya_runtime_protocol::RawJson;
use futures::future::join_all;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::columns::int32;
use super::database::Database;
use super::failure::broken;
use super::insert::{Adopt, Find, Inherited, Insert, Row};
use crate::model::{Created, NewEnvelope};
use crate::state::creation::{check, record_of};
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

impl Desk {
    /// Opens the desk; it closes with its last handle.
    pub(super) fn open(database: Database, mirror: bool) -> Self {
        let (waiting, orders) = mpsc::unbounded_channel();
        tokio::spawn(serve(database, mirror, orders));
        Self { waiting }
    }

    /// Whether somebody works at it.
    pub(super) fn is_open(&self) -> bool {
        !self.waiting.is_closed()
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
        let payload = self.record.payload.as_ref().map_or(0, RawJson::len);
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
                outcome
                    .pop()
                    .unwrap_or_else(|| Err(broken("no answer to an insert")))
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
    let work = Insert::new(rows, mirror);
    let mut inserted = database.run(&work).await?;
    adopt(database, rows, &mut inserted).await?;
    let was_repeated = work.was_repeated();
    let outcomes = rows.iter().map(|row| async {
        match inserted.get(row.record.id.as_str()) {
            Some(inherited) => Ok(Created::New(Box::new(inherited.complete(&row.record)))),
            None => what_stands(database, mirror, row, was_repeated).await,
        }
    });
    Ok(join_all(outcomes).await)
}

/// Of a child and its parent that are stored at the same moment neither sees the other. Each looks once more when it is
/// there, so that whoever comes last sees both.
async fn adopt(database: &Database, rows: &[Row], inserted: &mut HashMap<String, Inherited>) -> Result<()> {
    // What has a message was called, and nothing can have come of it yet.
    let registered = rows.iter().filter(|row| row.new.outbox.is_none());
    let mut ids: Vec<_> = registered.map(|row| row.record.id.clone()).collect();
    while !ids.is_empty() {
        let adopted = database.run(&Adopt(&ids)).await?;
        ids = adopted.keys().cloned().collect();
        for (id, inherited) in adopted {
            if let Some(row) = inserted.get_mut(&id) {
                *row = inherited;
            }
        }
    }
    Ok(())
}

/// What is there instead of a row that was not inserted.
async fn what_stands(database: &Database, mirror: bool, row: &Row, was_repeated: bool) -> Result<Created> {
    for _ in 0..TRIES {
        if let Some(found) = database.run(&Find(row)).await? {
            return Ok(found.judge(row, was_repeated));
        }
        // What was in the way has been deleted since.
        let work = Insert::new(std::slice::from_ref(row), mirror);
        if let Some(inherited) = database.run(&work).await?.get(row.record.id.as_str()) {
            return Ok(Created::New(Box::new(inherited.complete(&row.record))));
        }
    }
    Err(broken("an envelope could neither be inserted nor found"))
}
