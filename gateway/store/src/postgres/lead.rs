//! The right to do the housekeeping: an advisory lock on a connection of its own. The server takes it back with the
//! connection, whatever ends that.

use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::address::Address;
use super::database::{Database, Work, connect};
use super::failure::store_error;
use crate::store::{Lead, Result};

/// Held by whoever leads, together with the number of the table: "asya". Each schema of a database has a leader.
const LOCK: i32 = 0x6173_7961;

/// How long the server may take to answer that it is still there.
const PATIENCE: Duration = Duration::from_secs(3);

/// So that the server notices within half a minute that the machine of a leader is gone.
const NOTICE_ABSENCE: &str =
    "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3";

/// The server has no reason to end it for being idle. Version 13 does not know this, nor would it.
const STAY: &str = "SET idle_session_timeout = 0";

/// Whether somebody leads, asked on a connection of the pool: whoever does not lead asks often, and need not open a
/// connection each time.
struct IsTaken;

impl Work for IsTaken {
    type Out = bool;
    const NAME: &'static str = "lead";

    async fn run(&self, connection: &mut PgConnection) -> sqlx::Result<bool> {
        sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
                 WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted \
                     AND l.classid = $1::int::oid AND l.objid = 'envelopes'::regclass)",
        )
        .bind(LOCK)
        .fetch_one(connection)
        .await
    }
}

/// Tries to become the leader.
pub(super) async fn lead(address: &Address, database: &Database) -> Result<Option<Box<dyn Lead>>> {
    if database.run(&IsTaken).await? {
        return Ok(None);
    }
    let mut connection = connect(address).await?;
    let failed = |error| store_error("lead", address, &error);
    sqlx::raw_sql(NOTICE_ABSENCE)
        .execute(&mut connection)
        .await
        .map_err(failed)?;
    if connection
        .server_version_num()
        .is_some_and(|number| number >= 140_000)
    {
        sqlx::raw_sql(STAY)
            .execute(&mut connection)
            .await
            .map_err(failed)?;
    }
    let is_ours: bool =
        sqlx::query_scalar("SELECT pg_try_advisory_lock($1, 'envelopes'::regclass::oid::int)")
            .bind(LOCK)
            .fetch_one(&mut connection)
            .await
            .map_err(failed)?;
    if !is_ours {
        connection.close().await.map_err(failed)?;
        return Ok(None);
    }
    Ok(Some(Box::new(Held(Mutex::new(Some(connection))))))
}

/// Ends with its connection; a connection that did not answer is not asked again.
struct Held(Mutex<Option<PgConnection>>);

impl Lead for Held {
    fn holds(&self) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let mut held = self.0.lock().await;
            let Some(connection) = held.as_mut() else {
                return false;
            };
            let answers = matches!(timeout(PATIENCE, connection.ping()).await, Ok(Ok(())));
            if !answers {
                *held = None;
            }
            answers
        })
    }
}
