//! Brings the schema to the version of this program.
//!
//! What it is: the scripts of `migrations/postgres` in their order, each in a transaction with its entry in
//! `asya_schema`, under an advisory lock, so that any number of replicas may start at once. The first script accepts
//! what the original's tool (Sqitch) has made; its registry is looked at and left alone. What it is not: there is no
//! way back down. Scripts only add, so that an older program may stop at its own pace.

use chrono::{DateTime, Utc};
use sqlx::{Connection as _, PgConnection, Row as _};
use tokio::time::{Duration, sleep};

use super::address::Address;
use super::database::connect;
use super::failure::{Kind, broken, kind, store_error};
use crate::store::{Result, StoreError};

/// The oldest server: transaction ids of 64 bits (`xid8`) came with it.
const OLDEST_SERVER: u32 = 130_000;

/// Held by whoever changes the schema: "asya" and a number.
const LOCK: i64 = 0x6173_7961_0000_0001;

/// How often a script may wait in vain for tables that others use.
const TRIES: u32 = 24;

struct Script {
    name: &'static str,
    text: &'static str,
}

/// The version of a script is its place, from 1.
const SCRIPTS: &[Script] = &[
    Script {
        name: "original",
        text: include_str!("../../migrations/postgres/0001_original.sql"),
    },
    Script {
        name: "gateway",
        text: include_str!("../../migrations/postgres/0002_gateway.sql"),
    },
    Script {
        name: "indexes",
        text: include_str!("../../migrations/postgres/0003_indexes.sql"),
    },
    Script {
        name: "upkeep",
        text: include_str!("../../migrations/postgres/0004_upkeep.sql"),
    },
];

/// The changes of the original's Sqitch project `asya-gateway`, in their order (contract gateway §7).
const ORIGINAL_CHANGES: &[&str] = &[
    "001_initial_schema",
    "002_add_progress_tracking",
    "003_add_parent_id",
    "004_lowercase_status_values",
];

/// One migration that this program knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// From 1, without gaps.
    pub version: u32,
    /// Its name.
    pub name: &'static str,
    /// When it was applied; `None` while it was not.
    pub applied_at: Option<DateTime<Utc>>,
}

/// Brings the schema up; returns the versions before and after.
pub(super) async fn migrate(address: &Address, connection: &mut PgConnection) -> Result<(u32, u32)> {
    check_server(address, connection)?;
    let before = version(address, connection).await?;
    if before == 0 {
        look_for_original(address, connection).await?;
    }
    let mut present = before;
    while present < known() {
        present = step(address, connection).await?;
    }
    not_newer(address, present)?;
    Ok((before, present))
}

/// Says whether the schema is of the version that this program needs.
pub(super) async fn check(address: &Address, connection: &mut PgConnection) -> Result<()> {
    check_server(address, connection)?;
    let present = version(address, connection).await?;
    if present < known() {
        return Err(StoreError::Schema(format!(
            "the schema of {address} is of version {present}, and this program needs version {}: run \
             `asya-gateway migrate` first, or let the gateway migrate at its start",
            known()
        )));
    }
    not_newer(address, present)
}

/// All migrations that this program knows, and when they were applied.
pub(super) async fn status(address: &Address) -> Result<Vec<Migration>> {
    let mut connection = connect(address).await?;
    not_newer(address, version(address, &mut connection).await?)?;
    let mut migrations = Vec::new();
    for (version, script) in (1..).zip(SCRIPTS) {
        migrations.push(Migration {
            version,
            name: script.name,
            applied_at: applied_at(address, &mut connection, version).await?,
        });
    }
    Ok(migrations)
}

fn known() -> u32 {
    u32::try_from(SCRIPTS.len()).unwrap_or(u32::MAX)
}

fn not_newer(address: &Address, present: u32) -> Result<()> {
    if present <= known() {
        return Ok(());
    }
    Err(StoreError::Schema(format!(
        "the schema of {address} is of version {present}, and this program knows versions up to {}: a newer gateway has \
         migrated it. Run that one, or restore a backup from before",
        known()
    )))
}

fn check_server(address: &Address, connection: &PgConnection) -> Result<()> {
    match connection.server_version_num() {
        Some(number) if number < OLDEST_SERVER => Err(StoreError::Schema(format!(
            "the server of {address} is PostgreSQL {}; version {} or newer is needed",
            number / 10_000,
            OLDEST_SERVER / 10_000
        ))),
        _ => Ok(()),
    }
}

fn reading(address: &Address) -> impl Fn(sqlx::Error) -> StoreError {
    move |error| store_error("reading the version of the schema", address, &error)
}

/// 0 where nothing of ours is there.
async fn version(address: &Address, connection: &mut PgConnection) -> Result<u32> {
    let is_there: bool = sqlx::query_scalar("SELECT to_regclass('asya_schema') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await
        .map_err(reading(address))?;
    if !is_there {
        return Ok(0);
    }
    let version: i32 = sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM asya_schema")
        .fetch_one(connection)
        .await
        .map_err(reading(address))?;
    u32::try_from(version).map_err(|_| broken(format!("the schema of {address} has the version {version}")))
}

async fn applied_at(
    address: &Address,
    connection: &mut PgConnection,
    migration: u32,
) -> Result<Option<DateTime<Utc>>> {
    if version(address, connection).await? < migration {
        return Ok(None);
    }
    sqlx::query_scalar("SELECT applied_at FROM asya_schema WHERE version = $1")
        .bind(i64::from(migration))
        .fetch_optional(connection)
        .await
        .map_err(reading(address))
}

/// The original's registry, where there is one. A change that nobody here has heard of may contradict ours; it is told,
/// and the script then finds out.
async fn look_for_original(address: &Address, connection: &mut PgConnection) -> Result<()> {
    let is_there: bool = sqlx::query_scalar("SELECT to_regclass('sqitch.changes') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await
        .map_err(reading(address))?;
    if !is_there {
        return Ok(());
    }
    let changes: Vec<String> =
        sqlx::query("SELECT change FROM sqitch.changes WHERE project = 'asya-gateway' ORDER BY committed_at")
            .fetch_all(connection)
            .await
            .map_err(reading(address))?
            .iter()
            .map(|row| row.try_get(0))
            .collect::<sqlx::Result<_>>()
            .map_err(reading(address))?;
    let (familiar, strange): (Vec<_>, Vec<_>) = changes
        .iter()
        .map(String::as_str)
        .partition(|change| ORIGINAL_CHANGES.contains(change));
    tracing::info!(
        changes = familiar.join(", "),
        "the original gateway has migrated this database; its tables are taken over, and its replicas may go on running"
    );
    if !strange.is_empty() {
        tracing::warn!(
            changes = strange.join(", "),
            "the registry of the original gateway names changes that are not known here"
        );
    }
    Ok(())
}

/// Applies the next script, if no other replica has; returns the version after it.
async fn step(address: &Address, connection: &mut PgConnection) -> Result<u32> {
    let mut tries = 1;
    loop {
        let error = match try_step(connection).await {
            Ok(version) => {
                return u32::try_from(version).map_err(|_| broken("negative version of the schema"));
            }
            Err(error) => error,
        };
        if kind(&error) != Kind::Again || tries == TRIES {
            return Err(store_error("migrating", address, &error));
        }
        tracing::warn!(tries, "the tables are in use; the migration tries again");
        tries += 1;
        sleep(Duration::from_millis(500)).await;
    }
}

async fn try_step(connection: &mut PgConnection) -> sqlx::Result<i32> {
    let mut transaction = connection.begin().await?;
    // A limit of the role for statements is not about migrations: an index over a long history takes its time.
    sqlx::raw_sql("SET LOCAL statement_timeout = 0")
        .execute(&mut *transaction)
        .await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(LOCK)
        .execute(&mut *transaction)
        .await?;
    sqlx::raw_sql(
        "CREATE TABLE IF NOT EXISTS asya_schema (
             version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
         );
         -- Who waits for a table makes all others wait behind: rather give up and try again.
         SET LOCAL lock_timeout = '5s'; SET LOCAL client_min_messages = warning",
    )
    .execute(&mut *transaction)
    .await?;
    let version: i32 = sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM asya_schema")
        .fetch_one(&mut *transaction)
        .await?;
    let Some(script) = usize::try_from(version).ok().and_then(|place| SCRIPTS.get(place)) else {
        return Ok(version);
    };
    sqlx::raw_sql(script.text).execute(&mut *transaction).await?;
    sqlx::query("INSERT INTO asya_schema (version, name) VALUES ($1, $2)")
        .bind(version + 1)
        .bind(script.name)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    tracing::info!(version = version + 1, name = script.name, "migrated");
    Ok(version + 1)
}
