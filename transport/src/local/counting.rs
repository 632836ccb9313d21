//! Counting beside the writer: a second connection, so that a long count does not hold up messages.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::task::{self, JoinError};

/// A connection that only reads, for one query at a time.
#[derive(Debug)]
pub(super) struct Counter {
    connection: Arc<Mutex<Connection>>,
}

/// Why a count failed.
#[derive(Debug)]
pub(super) enum CountError {
    Sqlite(rusqlite::Error),
    /// The runtime is shutting down, or the query panicked.
    Task(JoinError),
}

impl Counter {
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            connection: Arc::new(Mutex::new(connection)),
        }
    }

    /// Runs `query` on a thread for blocking work.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, CountError> {
        let connection = Arc::clone(&self.connection);
        let counted = task::spawn_blocking(move || {
            // A query leaves no state behind in the connection, so one that panicked does not spoil the next.
            query(&connection.lock().unwrap_or_else(PoisonError::into_inner))
        });
        counted
            .await
            .map_err(CountError::Task)?
            .map_err(CountError::Sqlite)
    }
}
