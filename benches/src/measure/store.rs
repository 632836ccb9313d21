//! The embedded queue under group commit, beside bare SQLite transactions that move the same messages.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use asya_transport::local::LocalOptions;
use rusqlite::{Connection, TransactionBehavior, params};

use super::Options;
use super::hop::{self, NEXT, STEP, Shape};
use crate::figures::Row;
use crate::meter::{Meter, as_f64, hops_in};
use crate::stage::{Stage, envelope};

/// The name of this section.
pub const SECTION: &str = "store";

/// Messages in flight, and messages in one bare transaction.
const BATCHES: [usize; 2] = [1, 100];
/// Bytes of one message.
const SIZE: usize = 1024;

const TABLE: &str =
    "CREATE TABLE messages (id INTEGER PRIMARY KEY, queue INTEGER, leased INTEGER, body BLOB);
     CREATE INDEX ready ON messages (queue, id) WHERE leased IS NULL;";
const INSERT: &str = "INSERT INTO messages (queue, body) VALUES (?1, ?2)";
const CLAIM: &str = "UPDATE messages SET leased = 1 WHERE id IN (SELECT id FROM messages \
     WHERE queue = 1 AND leased IS NULL ORDER BY id LIMIT ?1) RETURNING id, body";
const DELETE: &str = "DELETE FROM messages WHERE id = ?1";

/// The rows of this section.
pub async fn measure(options: &Options, say: &dyn Fn(&str)) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for batch in BATCHES {
        let least = 1_000 + 10 * u64::try_from(batch)?;
        let count = |rate| hops_in(rate, options.stretch).max(least);
        let our_count = count(queue(options, batch, least).await?);
        let bare_count = count(bare(options, batch, least).await?);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 1..=options.rounds {
            say(&format!(
                "store: {batch} in flight, round {round} of {}",
                options.rounds
            ));
            ours.push(queue(options, batch, our_count).await?);
            theirs.push(bare(options, batch, bare_count).await?);
        }
        let name = format!("embedded queue, hops with {batch} in flight");
        rows.push(Row::rates(
            SECTION,
            name,
            &ours,
            ("bare SQLite, as many in a transaction", &theirs),
        ));
    }
    Ok(rows)
}

/// Hops per second through the transport.
async fn queue(options: &Options, credit: usize, count: u64) -> Result<f64> {
    let stage = Stage::new(&options.directory, &LocalOptions::default())?;
    stage.declare(&[STEP, NEXT]).await?;
    let meter = Arc::new(Meter::new(u64::try_from(credit)?, count));
    let messages = meter.needed() + 2 * u64::try_from(credit)?;
    stage
        .fill(STEP, messages, |number| envelope(number, r#""work""#, SIZE))
        .await?;
    Ok(hop::bare(&stage, Shape { credit, slots: 1 }, &meter, false)
        .await?
        .rate)
}

/// Hops per second of bare transactions: one claims `batch` messages, one moves them.
async fn bare(options: &Options, batch: usize, count: u64) -> Result<f64> {
    let directory = tempfile::Builder::new()
        .prefix("asya-bench-")
        .tempdir_in(&options.directory)?;
    let batches = count.div_ceil(u64::try_from(batch)?);
    let time = tokio::task::spawn_blocking(move || transactions(directory.path(), batch, batches)).await??;
    Ok(as_f64(batches) * as_f64(u64::try_from(batch)?) / time.as_secs_f64())
}

fn transactions(directory: &Path, batch: usize, batches: u64) -> Result<Duration> {
    let mut connection = Connection::open(directory.join("bare.db"))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.execute_batch(TABLE)?;
    let body = vec![b'x'; SIZE];
    let filling = connection.transaction()?;
    for _ in 0..batches * u64::try_from(batch)? {
        filling.prepare_cached(INSERT)?.execute(params![1, body])?;
    }
    filling.commit()?;
    let limit = i64::try_from(batch)?;
    let started = Instant::now();
    for _ in 0..batches {
        let claiming = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let claimed: Vec<(i64, Vec<u8>)> = claiming
            .prepare_cached(CLAIM)?
            .query_map([limit], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        claiming.commit()?;
        let moving = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (id, body) in claimed {
            moving.prepare_cached(INSERT)?.execute(params![2, body])?;
            moving.prepare_cached(DELETE)?.execute([id])?;
        }
        moving.commit()?;
    }
    Ok(started.elapsed())
}
