//! The right to do the housekeeping: an advisory lock on a connection of its own. The server takes it back with the
//! connection, whatever ends that.

use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::address::Address;
use super::database::connect;
use super::failure::store_error;
use crate::store::{Lead, Result};

/// Held by whoever leads: "asya" and a number.
const LOCK: i64 = 0x6173_7961_0000_0002;

/// How long the server may take to answer that it is still there.
const PATIENCE: Duration = Duration::from_secs(3);

/// So that the server notices within half a minute that the machine of a leader is gone.
const NOTICE_ABSENCE: &str = "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; \
     SET tcp_keepalives_count = 3; SET idle_session_timeout = 0";

/// Tries to become the leader.
pub(super) async fn lead(address: &Address) -> Result<Option<Box<dyn Lead>>> {
    let mut connection = connect(address).await?;
    let failed = |error| store_error("lead", address, &error);
    // Of an older server that does not know them all, the lock is as good.
    let _ = sqlx::raw_sql(NOTICE_ABSENCE).execute(&mut connection).await;
    let is_ours: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
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
