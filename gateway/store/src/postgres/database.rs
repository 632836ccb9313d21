//! Runs pieces of work on connections of a pool, again where that may help.

use std::future::Future;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use tokio::time::{Instant, sleep, timeout};

use super::address::Address;
use super::failure::{Kind, connect_error, kind, store_error};
use super::options::PostgresOptions;
use crate::store::Result;

/// How long a connection may take to be free or made.
const ACQUIRE: Duration = Duration::from_secs(5);

/// The first pause before something is tried again; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// Something to be done in the database. It may be run several times, so that what it does must be one statement or
/// one transaction, and fit a state in which it was done already.
pub(super) trait Work: Sync {
    /// What comes of it.
    type Out: Send;

    /// For errors and metrics: the method of [`Store`](crate::Store).
    const NAME: &'static str;

    /// The same, where it depends.
    fn name(&self) -> &'static str {
        Self::NAME
    }

    /// Does it.
    fn run<'c>(
        &'c self,
        connection: &'c mut PgConnection,
    ) -> impl Future<Output = sqlx::Result<Self::Out>> + Send + 'c;
}

/// The pool, and how patient we are with it.
#[derive(Clone)]
pub(super) struct Database {
    pool: PgPool,
    address: Address,
    patience: Duration,
    answer_limit: Duration,
}

impl Database {
    /// Opens no connection yet.
    pub(super) fn new(options: &PostgresOptions) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(options.pool.max_connections.max(1))
            .min_connections(options.pool.min_connections.min(options.pool.max_connections))
            .max_lifetime(options.pool.max_lifetime)
            .idle_timeout(options.pool.max_idle)
            .acquire_timeout(ACQUIRE)
            // A dead connection shows by an error, and what runs into it runs again: no question before each use.
            .test_before_acquire(false)
            .connect_lazy_with(driver_options(&options.address));
        Self {
            pool,
            address: options.address.clone(),
            patience: options.patience,
            answer_limit: options.answer_limit,
        }
    }

    /// Does `work`, again while that may help and patience lasts.
    pub(super) async fn run<W: Work>(&self, work: &W) -> Result<W::Out> {
        let started = Instant::now();
        let mut pause = FIRST_PAUSE;
        let outcome = loop {
            let error = match self.attempt(work).await {
                Ok(out) => break Ok(out),
                Err(error) => error,
            };
            let may_pass = matches!(kind(&error), Kind::Lost | Kind::Again);
            if !may_pass || started.elapsed() + pause > self.patience {
                break Err(store_error(work.name(), &self.address, &error));
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        metrics::histogram!("asya_gateway_store_duration_seconds", "operation" => work.name())
            .record(started.elapsed().as_secs_f64());
        if outcome.is_err() {
            metrics::counter!("asya_gateway_store_errors_total", "operation" => work.name()).increment(1);
        }
        outcome
    }

    async fn attempt<W: Work>(&self, work: &W) -> sqlx::Result<W::Out> {
        let mut connection = self.pool.acquire().await?;
        let outcome = match timeout(self.answer_limit, work.run(&mut connection)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(silent(self.answer_limit)),
        };
        if let Err(error) = &outcome
            && kind(error) == Kind::Lost
        {
            connection.close_on_drop();
        }
        outcome
    }

    /// Closes the connections after what is under way.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

/// The options of every connection.
pub(super) fn driver_options(address: &Address) -> PgConnectOptions {
    // The driver logs statements and slow ones with their text; both are ours to say.
    address.connect_options().disable_statement_logging()
}

/// Opens a connection outside of the pool: one try.
pub(super) async fn connect(address: &Address) -> Result<PgConnection> {
    let options = driver_options(address);
    let opened = match timeout(ACQUIRE, PgConnection::connect_with(&options)).await {
        Ok(opened) => opened,
        Err(_) => Err(silent(ACQUIRE)),
    };
    opened.map_err(|error| connect_error(address, &error))
}

fn silent(limit: Duration) -> sqlx::Error {
    let told = format!("no answer within {} s", limit.as_secs());
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, told))
}
