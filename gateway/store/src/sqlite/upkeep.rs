//! Housekeeping and actors, inside of a transaction of the writer.

use std::collections::HashSet;

use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::operation::{Cleaning, Step};
use super::rows::micros;
use super::work::Result;
use crate::model::ActorRow;

/// Updates that one step looks at.
const UPDATES: i64 = 1000;
/// Envelopes that one step deletes, with everything that hangs on them.
const ENVELOPES: i64 = 200;

pub(super) async fn clean(connection: &mut SqliteConnection, step: Step) -> Result<Cleaning> {
    match step {
        Step::Updates { after, before } => clean_updates(connection, after, micros(before)).await,
        Step::Envelopes { before } => clean_envelopes(connection, micros(before)).await,
        Step::Cancellations { now } => {
            let gone = sqlx::query("DELETE FROM cancellations WHERE keep_until < ?1")
                .bind(micros(now))
                .execute(connection)
                .await?;
            tracing::debug!("{} cancellations need not be told any more", gone.rows_affected());
            Ok(Cleaning::default())
        }
    }
}

/// Goes through the updates from the oldest on. Ids are in the order of time, so it can stop at the first that is too
/// young, and never looks at what was cleaned before.
async fn clean_updates(connection: &mut SqliteConnection, after: i64, before: i64) -> Result<Cleaning> {
    let sql = "SELECT max(id), min(at) FROM (SELECT id, at FROM updates WHERE id > ?1 ORDER BY id LIMIT ?2)";
    let row = sqlx::query(sql)
        .bind(after)
        .bind(UPDATES)
        .fetch_one(&mut *connection)
        .await?;
    let (last, oldest): (Option<i64>, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
    let (Some(last), Some(oldest)) = (last, oldest) else {
        return Ok(Cleaning::default());
    };
    if oldest >= before {
        return Ok(Cleaning::default());
    }
    let sql = "DELETE FROM updates WHERE id > ?1 AND id <= ?2 AND EXISTS (
        SELECT 1 FROM envelopes AS e
        WHERE e.n = envelope AND e.status IN ('succeeded', 'failed') AND e.updated_at < ?3) RETURNING id";
    let gone = sqlx::query(sql)
        .bind(after)
        .bind(last)
        .bind(before)
        .fetch_all(&mut *connection)
        .await?;
    let mut newest = 0;
    for row in &gone {
        newest = newest.max(row.try_get(0)?);
    }
    incomplete_up_to(connection, newest).await?;
    Ok(Cleaning {
        updates: u64::try_from(gone.len()).unwrap_or(u64::MAX),
        envelopes: 0,
        next: Some(last),
    })
}

async fn clean_envelopes(connection: &mut SqliteConnection, before: i64) -> Result<Cleaning> {
    let done = "SELECT n FROM envelopes WHERE status IN ('succeeded', 'failed') AND updated_at < ?1
        ORDER BY updated_at LIMIT ?2";
    let rows = sqlx::query(done)
        .bind(before)
        .bind(ENVELOPES)
        .fetch_all(&mut *connection)
        .await?;
    let mut cleaning = Cleaning::default();
    let mut newest = 0;
    for row in &rows {
        let n: i64 = row.try_get(0)?;
        let hanging = sqlx::query("SELECT count(*), coalesce(max(id), 0) FROM updates WHERE envelope = ?1")
            .bind(n)
            .fetch_one(&mut *connection)
            .await?;
        cleaning.updates += u64::try_from(hanging.try_get::<i64, _>(0)?).unwrap_or(0);
        newest = newest.max(hanging.try_get(1)?);
        sqlx::query("DELETE FROM envelopes WHERE n = ?1")
            .bind(n)
            .execute(&mut *connection)
            .await?;
        cleaning.envelopes += 1;
    }
    incomplete_up_to(connection, newest).await?;
    cleaning.next = (!rows.is_empty()).then_some(0);
    Ok(cleaning)
}

/// Lets what is right below an envelope take after it; returns the ids of what has changed.
pub(super) async fn adopt(connection: &mut SqliteConnection, parent: &str) -> Result<Vec<String>> {
    let sql = "UPDATE envelopes AS c SET tenant = coalesce(c.tenant, p.tenant),
            deadline = CASE WHEN c.status IN ('succeeded', 'failed') THEN c.deadline
                ELSE coalesce(c.deadline, p.deadline) END,
            version = c.version + 1
        FROM (SELECT tenant, deadline FROM envelopes WHERE id = ?1) AS p
        WHERE c.parent_id = ?1 AND (c.tenant IS NULL AND p.tenant IS NOT NULL
            OR c.deadline IS NULL AND p.deadline IS NOT NULL AND c.status NOT IN ('succeeded', 'failed'))
        RETURNING id";
    let rows = sqlx::query(sql).bind(parent).fetch_all(connection).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

async fn incomplete_up_to(connection: &mut SqliteConnection, id: i64) -> Result<()> {
    if id > 0 {
        sqlx::query("UPDATE history SET complete_after = max(complete_after, ?1)")
            .bind(id)
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// Those that changed something.
pub(super) async fn put_actors(
    connection: &mut SqliteConnection,
    rows: &[ActorRow],
) -> Result<Vec<ActorRow>> {
    let sql = "INSERT INTO actors (cluster, namespace, name, observed_at, body) VALUES (?, ?, ?, ?, ?)
        ON CONFLICT (cluster, namespace, name) DO UPDATE
        SET observed_at = excluded.observed_at, body = excluded.body
        WHERE excluded.observed_at > observed_at";
    let mut changed = Vec::new();
    for row in rows {
        let done = sqlx::query(sql)
            .bind(row.cluster.as_str())
            .bind(row.namespace.as_str())
            .bind(row.name.as_str())
            .bind(micros(row.observed_at))
            .bind(row.body.to_vec())
            .execute(&mut *connection)
            .await?;
        if done.rows_affected() > 0 {
            changed.push(row.clone());
        }
    }
    Ok(changed)
}

pub(super) async fn delete_actor(
    connection: &mut SqliteConnection,
    cluster: &str,
    namespace: &str,
    name: &str,
) -> Result<bool> {
    let done = sqlx::query("DELETE FROM actors WHERE cluster = ?1 AND namespace = ?2 AND name = ?3")
        .bind(cluster)
        .bind(namespace)
        .bind(name)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Those that are gone.
pub(super) async fn retain_actors(
    connection: &mut SqliteConnection,
    cluster: &str,
    keep: &[(String, String)],
) -> Result<Vec<(String, String)>> {
    let keep: HashSet<_> = keep
        .iter()
        .map(|(namespace, name)| (namespace.as_str(), name.as_str()))
        .collect();
    let rows = sqlx::query("SELECT namespace, name FROM actors WHERE cluster = ?1 ORDER BY namespace, name")
        .bind(cluster)
        .fetch_all(&mut *connection)
        .await?;
    let mut gone = Vec::new();
    for row in rows {
        let (namespace, name): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        if keep.contains(&(namespace.as_str(), name.as_str())) {
            continue;
        }
        delete_actor(connection, cluster, &namespace, &name).await?;
        gone.push((namespace, name));
    }
    Ok(gone)
}
