//! What operators say about actors.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{Connection as _, PgConnection, Row as _};

use super::columns::column;
use super::database::Work;
use crate::model::ActorRow;
use crate::state::microseconds;

type Name = (String, String, String);

/// Stores what an operator says; comes back with what has changed.
pub(super) struct Put(pub(super) Vec<ActorRow>);

impl Work for Put {
    type Out = Vec<ActorRow>;
    const NAME: &'static str = "put_actors";

    async fn run(&self, connection: &mut PgConnection) -> sqlx::Result<Vec<ActorRow>> {
        let newest = newest(&self.0);
        let mut transaction = connection.begin().await?;
        let standing = lock(&mut transaction, &newest).await?;
        let taken: Vec<_> = newest
            .into_iter()
            .filter(|(name, row)| {
                let stands = standing.get(name);
                stands.is_none_or(|(observed_at, _)| *observed_at < microseconds(row.observed_at))
            })
            .collect();
        upsert(&mut transaction, taken.iter().map(|(_, row)| *row)).await?;
        transaction.commit().await?;
        let changed = taken
            .into_iter()
            .filter(|(name, row)| standing.get(name).is_none_or(|(_, body)| *body != row.body));
        Ok(changed.map(|(_, row)| row.clone()).collect())
    }
}

/// What was seen last of each, in the order in which rows are locked.
fn newest(rows: &[ActorRow]) -> BTreeMap<Name, &ActorRow> {
    let mut newest: BTreeMap<Name, &ActorRow> = BTreeMap::new();
    for row in rows {
        let name = (row.cluster.clone(), row.namespace.clone(), row.name.clone());
        let known = newest.entry(name).or_insert(row);
        if known.observed_at < row.observed_at {
            *known = row;
        }
    }
    newest
}

async fn lock(
    connection: &mut PgConnection,
    rows: &BTreeMap<Name, &ActorRow>,
) -> sqlx::Result<HashMap<Name, (DateTime<Utc>, Bytes)>> {
    let found = sqlx::query(
        "SELECT a.cluster, a.namespace, a.name, a.observed_at, a.body FROM asya_actors a \
         JOIN unnest($1::text[], $2::text[], $3::text[]) AS g (cluster, namespace, name) \
             USING (cluster, namespace, name) \
         ORDER BY a.cluster COLLATE \"C\", a.namespace COLLATE \"C\", a.name COLLATE \"C\" FOR UPDATE OF a",
    )
    .bind(
        rows.keys()
            .map(|(cluster, _, _)| cluster.as_str())
            .collect::<Vec<_>>(),
    )
    .bind(
        rows.keys()
            .map(|(_, namespace, _)| namespace.as_str())
            .collect::<Vec<_>>(),
    )
    .bind(rows.keys().map(|(_, _, name)| name.as_str()).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let standing = |row: &PgRow| {
        let row = actor(row)?;
        Ok((
            (row.cluster, row.namespace, row.name),
            (row.observed_at, row.body),
        ))
    };
    found.iter().map(standing).collect()
}

async fn upsert<'a>(
    connection: &mut PgConnection,
    rows: impl Iterator<Item = &'a ActorRow>,
) -> sqlx::Result<()> {
    let rows: Vec<_> = rows.collect();
    sqlx::query(
        "INSERT INTO asya_actors (cluster, namespace, name, observed_at, body) \
         SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::bytea[]) \
         ON CONFLICT (cluster, namespace, name) DO UPDATE SET observed_at = excluded.observed_at, body = excluded.body \
         WHERE asya_actors.observed_at < excluded.observed_at",
    )
    .bind(column(&rows, |row| row.cluster.as_str()))
    .bind(column(&rows, |row| row.namespace.as_str()))
    .bind(column(&rows, |row| row.name.as_str()))
    .bind(column(&rows, |row| microseconds(row.observed_at)))
    .bind(column(&rows, |row| &row.body[..]))
    .execute(connection)
    .await?;
    Ok(())
}

fn actor(row: &PgRow) -> sqlx::Result<ActorRow> {
    Ok(ActorRow {
        cluster: row.try_get(0)?,
        namespace: row.try_get(1)?,
        name: row.try_get(2)?,
        observed_at: row.try_get(3)?,
        body: Bytes::from(row.try_get::<Vec<u8>, _>(4)?),
    })
}

/// Forgets one actor.
pub(super) struct Delete {
    pub(super) cluster: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Work for Delete {
    type Out = bool;
    const NAME: &'static str = "delete_actor";

    async fn run(&self, connection: &mut PgConnection) -> sqlx::Result<bool> {
        let deleted =
            sqlx::query("DELETE FROM asya_actors WHERE cluster = $1 AND namespace = $2 AND name = $3")
                .bind(&self.cluster)
                .bind(&self.namespace)
                .bind(&self.name)
                .execute(connection)
                .await?;
        Ok(deleted.rows_affected() > 0)
    }
}

/// Forgets the actors of a cluster that are not among `keep`.
pub(super) struct Retain {
    pub(super) cluster: String,
    /// Namespace and name.
    pub(super) keep: Vec<(String, String)>,
}

impl Work for Retain {
    type Out = Vec<(String, String)>;
    const NAME: &'static str = "retain_actors";

    async fn run(&self, connection: &mut PgConnection) -> sqlx::Result<Self::Out> {
        let rows = sqlx::query(
            "DELETE FROM asya_actors a WHERE a.cluster = $1 AND NOT EXISTS ( \
                 SELECT FROM unnest($2::text[], $3::text[]) AS k (namespace, name) \
                 WHERE k.namespace = a.namespace AND k.name = a.name \
             ) RETURNING a.namespace, a.name",
        )
        .bind(&self.cluster)
        .bind(column(&self.keep, |(namespace, _)| namespace.as_str()))
        .bind(column(&self.keep, |(_, name)| name.as_str()))
        .fetch_all(connection)
        .await?;
        let name = |row: &PgRow| Ok((row.try_get(0)?, row.try_get(1)?));
        let mut names = rows.iter().map(name).collect::<sqlx::Result<Vec<_>>>()?;
        names.sort_unstable();
        Ok(names)
    }
}

/// All actors.
pub(super) struct All;

impl Work for All {
    type Out = Vec<ActorRow>;
    const NAME: &'static str = "actors";

    async fn run(&self, connection: &mut PgConnection) -> sqlx::Result<Vec<ActorRow>> {
        let rows = sqlx::query(
            "SELECT cluster, namespace, name, observed_at, body FROM asya_actors \
             ORDER BY cluster COLLATE \"C\", namespace COLLATE \"C\", name COLLATE \"C\"",
        )
        .fetch_all(connection)
        .await?;
        rows.iter().map(actor).collect()
    }
}
