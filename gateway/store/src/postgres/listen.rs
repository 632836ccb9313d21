//! Tells of changes, whichever replica made them: the database notifies on insert, and one connection listens.
//!
//! Notifications are hints, and are lost while that connection is away; after a gap comes [`Changed::Everything`]. A
//! connection that is silently dead is found out by a question from time to time.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgListener, PgPool, PgPoolOptions};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::address::Address;
use super::database::driver_options;
use super::failure::connect_error;
use crate::store::{Changed, Result};

const CHANNEL: &str = "asya_gateway";

/// How many changes a subscriber may lag behind before it is told that it has missed some.
const BACKLOG: usize = 4096;

/// After so much silence the connection is asked whether it is alive, and must answer as fast.
const SILENCE: Duration = Duration::from_secs(10);

const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Starts to listen, in a task: what is changed after this has returned is told.
pub(super) async fn listen(
    address: &Address,
    stop: CancellationToken,
) -> Result<(broadcast::Sender<Changed>, JoinHandle<()>)> {
    let ear = Ear::open(address)
        .await
        .map_err(|error| connect_error(address, &error))?;
    let (changes, _) = broadcast::channel(BACKLOG);
    let told = changes.clone();
    let address = address.clone();
    let listening = tokio::spawn(async move {
        let _ = stop
            .run_until_cancelled_owned(Box::pin(keep_listening(address, ear, told)))
            .await;
    });
    Ok((changes, listening))
}

/// For ever, over any number of connections.
async fn keep_listening(address: Address, mut ear: Ear, changes: broadcast::Sender<Changed>) {
    loop {
        let error = ear.listen(&changes).await;
        tracing::warn!(%address, error = said(&error), "the connection that tells of changes is gone");
        drop(ear);
        ear = reopen(&address).await;
        tracing::info!(%address, "changes are told again");
        // Nobody is there to be told: that is no error.
        let _ = changes.send(Changed::Everything);
    }
}

async fn reopen(address: &Address) -> Ear {
    let mut pause = Duration::from_millis(50);
    loop {
        match Ear::open(address).await {
            Ok(ear) => return ear,
            Err(error) => tracing::debug!(%address, error = said(&error), "still no connection for changes"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn said(error: &sqlx::Error) -> String {
    error.to_string()
}

/// One connection that listens. The driver wants a pool for it, of which it is the only one.
struct Ear {
    listener: PgListener,
    _pool: PgPool,
}

impl Ear {
    async fn open(address: &Address) -> sqlx::Result<Self> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(Duration::from_secs(5))
            .connect_lazy_with(driver_options(address));
        let mut listener = PgListener::connect_with(&pool).await?;
        // A connection that is replaced in secret would hide the gap.
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        Ok(Self {
            listener,
            _pool: pool,
        })
    }

    /// Passes on what comes until the connection ends.
    async fn listen(&mut self, changes: &broadcast::Sender<Changed>) -> sqlx::Error {
        loop {
            match timeout(SILENCE, self.listener.try_recv()).await {
                Ok(Ok(Some(notification))) => {
                    let _ = changes.send(change(notification.payload()));
                }
                Ok(Ok(None)) => return ended("the server has closed it"),
                Ok(Err(error)) => return error,
                Err(_) => match timeout(SILENCE, sqlx::query("SELECT 1").execute(&mut self.listener)).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => return error,
                    Err(_) => return ended("it does not answer"),
                },
            }
        }
    }
}

fn ended(what: &str) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::ConnectionAborted, what))
}

/// What a notification says; `migrations/postgres` writes them. What is not understood may be anything.
fn change(payload: &str) -> Changed {
    match payload.split_once(' ') {
        None if payload == "a" => Changed::Actors,
        None if payload == "c" => Changed::Cancellation,
        Some(("u", rest)) => rest
            .split_once(' ')
            .and_then(|(update, id)| {
                let update = update.parse().ok()?;
                Some(Changed::Envelope {
                    id: Arc::from(id),
                    update,
                })
            })
            .unwrap_or(Changed::Everything),
        _ => Changed::Everything,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notifications_are_read_and_strange_ones_mean_anything() {
        let envelope = |id: &str, update| Changed::Envelope {
            id: Arc::from(id),
            update,
        };
        assert_eq!(change("u 12 a b  c"), envelope("a b  c", 12));
        assert_eq!(change("a"), Changed::Actors);
        assert_eq!(change("c"), Changed::Cancellation);
        for strange in ["", "*", "u", "u x y", "u 12", "b", "x 1 2"] {
            assert_eq!(change(strange), Changed::Everything, "{strange}");
        }
    }
}
