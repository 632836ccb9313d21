//! The embedded backend: one SQLite file in WAL mode, for one machine.
//!
//! What it is: a [task that writes](writer), in groups that share one transaction, and a pool of connections that read.
//! Everything that was answered is in the file when the process is killed, and what must outlive a power failure is
//! synchronised to the disk before it is answered. What it is not: a way to run several machines; that is PostgreSQL.
//!
//! Several processes may have the file open at once, as during a restart: each transaction takes the write lock when
//! it begins, waits for the other one up to [`SqliteOptions::busy_timeout`], and compares versions when it writes.
//! Changes by another process are noticed within a quarter of a second and told as [`Changed::Everything`]. The file
//! must be on a local disk, because the lock of a network file system is not one.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions};
use tokio::sync::broadcast;

pub use options::SqliteOptions;

use crate::model::{
    ActorRow, Applied, CancelNotice, ChildCounts, Created, FeedCursor, FeedEntry, Filter, ListPage,
    NewEnvelope, OutboxDepth, OutboxEntry, Page, Record, Report, Retention, Unfinished, Update, View,
};
use crate::state::creation;
use crate::store::{Changed, Cleaned, Lead, OutboxOutcome, Result, Store, StoreError};
use error::Failure;
use measure::measured;
use operation::{Answer, Cleaning, Operation, Step, mixed_up};
use writer::{Desk, Hints};

mod error;
mod lead;
mod measure;
mod operation;
mod options;
mod pending;
mod reads;
mod rows;
mod schema;
mod upkeep;
mod work;
mod writer;

/// A store in one SQLite file. See the [module](self).
#[derive(Clone)]
pub struct SqliteStore {
    path: Arc<Path>,
    desk: Desk,
    readers: SqlitePool,
    hints: Hints,
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens the file at `path`, which is made with its directory if it is not there (mode 0600), and brings its tables
    /// to the version of this program. A file of a newer program, or of another one, is [`StoreError::Schema`].
    pub async fn open(path: impl AsRef<Path>, options: SqliteOptions) -> Result<Self> {
        let path: Arc<Path> = Arc::from(path.as_ref());
        let place = Arc::clone(&path);
        tokio::task::spawn_blocking(move || schema::make_file(&place))
            .await
            .map_err(|error| StoreError::Unavailable(error.into()))??;
        let connection = schema::open_writer(&path, &options).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(options.readers.max(1))
            .acquire_timeout(Duration::from_secs(30))
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_lazy_with(schema::connect_options(&path, &options).pragma("query_only", "1"));
        let hints = writer::hints();
        let desk = writer::start(connection, hints.clone());
        Ok(Self {
            path,
            desk,
            readers,
            hints,
        })
    }

    fn told(&self, failure: Failure) -> StoreError {
        failure.told(&self.path)
    }

    async fn run(&self, operation: Operation) -> Result<Answer> {
        let done = self.desk.run(operation).await;
        done.map_err(|failure| self.told(failure))
    }

    /// Does a step of the housekeeping until there is nothing more to do. Others write between the steps.
    async fn clean_all(&self, mut step: impl FnMut(i64) -> Step) -> Result<Cleaned> {
        let mut cleaned = Cleaned::default();
        let mut next = Some(0);
        while let Some(after) = next {
            let Answer::Cleaned(cleaning) = self.run(Operation::Clean(step(after))).await? else {
                return Err(self.told(mixed_up()));
            };
            let Cleaning {
                updates, envelopes, ..
            } = cleaning;
            cleaned.updates += updates;
            cleaned.envelopes += envelopes;
            next = cleaning.next;
        }
        Ok(cleaned)
    }
}

/// An operation of the writer: what it is, and the answer that belongs to it.
macro_rules! write {
    ($store:expr, $operation:expr, $answer:ident) => {{
        let operation = $operation;
        measured(operation.name(), async move {
            match $store.run(operation).await? {
                Answer::$answer(answer) => Ok(answer),
                _ => Err($store.told(mixed_up())),
            }
        })
        .boxed()
    }};
}

/// A question to the readers.
macro_rules! read {
    ($store:expr, $question:ident ( $($argument:expr),* )) => {
        measured(stringify!($question), async move {
            let answer = reads::$question(&$store.readers, $($argument),*).await;
            answer.map_err(|failure| $store.told(failure))
        })
        .boxed()
    };
}

impl Store for SqliteStore {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn ping(&self) -> BoxFuture<'_, Result<()>> {
        let work = async move {
            if !self.desk.is_open() {
                return Err(self.told(Failure::Closed));
            }
            let answer = reads::ping(&self.readers).await;
            answer.map_err(|failure| self.told(failure))
        };
        measured("ping", work).boxed()
    }

    fn create(&self, new: NewEnvelope, lease: Duration) -> BoxFuture<'_, Result<Created>> {
        if let Err(why) = creation::check(&new) {
            let refused = self.told(Failure::Refused(why.to_string().into()));
            return async { Err(refused) }.boxed();
        }
        let new = Box::new(new);
        write!(self, Operation::Create { new, lease }, Created)
    }

    fn apply(&self, reports: Vec<Report>) -> BoxFuture<'_, Result<Vec<Applied>>> {
        write!(self, Operation::Apply { reports }, Applied)
    }

    fn get<'a>(&'a self, id: &'a str, view: View) -> BoxFuture<'a, Result<Option<Record>>> {
        read!(self, get(id, view))
    }

    fn list<'a>(&'a self, filter: &'a Filter, page: Page) -> BoxFuture<'a, Result<ListPage>> {
        read!(self, list(filter, page))
    }

    fn children<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<ChildCounts>> {
        read!(self, children(id))
    }

    fn unfinished_below<'a>(&'a self, id: &'a str, limit: u32) -> BoxFuture<'a, Result<Vec<Unfinished>>> {
        read!(self, unfinished_below(id, limit))
    }

    fn cancelled_above<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<String>>> {
        read!(self, cancelled_above(id))
    }

    fn updates<'a>(&'a self, id: &'a str, after: i64, limit: u32) -> BoxFuture<'a, Result<Vec<Update>>> {
        read!(self, updates(id, after, limit))
    }

    fn feed(&self, after: FeedCursor, limit: u32) -> BoxFuture<'_, Result<Vec<FeedEntry>>> {
        read!(self, feed(after, limit))
    }

    fn feed_bounds(&self) -> BoxFuture<'_, Result<(FeedCursor, FeedCursor)>> {
        read!(self, feed_bounds())
    }

    fn subscribe(&self) -> broadcast::Receiver<Changed> {
        self.hints.subscribe()
    }

    fn claim_outbox(&self, limit: u32, lease: Duration) -> BoxFuture<'_, Result<Vec<OutboxEntry>>> {
        write!(self, Operation::Claim { limit, lease }, Claimed)
    }

    fn settle_outbox(
        &self,
        settled: Vec<(OutboxEntry, OutboxOutcome)>,
    ) -> BoxFuture<'_, Result<Vec<Applied>>> {
        write!(self, Operation::Settle { settled }, Applied)
    }

    fn outbox_depth(&self) -> BoxFuture<'_, Result<OutboxDepth>> {
        read!(self, outbox_depth())
    }

    fn expired(&self, passed: Range<DateTime<Utc>>, limit: u32) -> BoxFuture<'_, Result<Vec<Unfinished>>> {
        read!(self, expired(passed, limit))
    }

    fn cancellations(&self, now: DateTime<Utc>) -> BoxFuture<'_, Result<Vec<CancelNotice>>> {
        read!(self, cancellations(now))
    }

    fn clean(&self, retention: Retention, now: DateTime<Utc>) -> BoxFuture<'_, Result<Cleaned>> {
        let age =
            move |kept: Duration| now.checked_sub_signed(TimeDelta::from_std(kept).unwrap_or(TimeDelta::MAX));
        let work = async move {
            let mut cleaned = Cleaned::default();
            if let Some(before) = retention.updates.and_then(age) {
                cleaned = self.clean_all(|after| Step::Updates { after, before }).await?;
            }
            if let Some(before) = retention.envelopes.and_then(age) {
                let envelopes = self.clean_all(|_| Step::Envelopes { before }).await?;
                cleaned.updates += envelopes.updates;
                cleaned.envelopes = envelopes.envelopes;
            }
            self.clean_all(|_| Step::Cancellations { now }).await?;
            Ok(cleaned)
        };
        measured("clean", work).boxed()
    }

    fn lead(&self) -> BoxFuture<'_, Result<Option<Box<dyn Lead>>>> {
        let path = Arc::clone(&self.path);
        async move {
            tokio::task::spawn_blocking(move || lead::take(&path))
                .await
                .map_err(|error| StoreError::Unavailable(error.into()))?
        }
        .boxed()
    }

    fn put_actors(&self, rows: Vec<ActorRow>) -> BoxFuture<'_, Result<Vec<ActorRow>>> {
        write!(self, Operation::PutActors { rows }, Put)
    }

    fn delete_actor<'a>(
        &'a self,
        cluster: &'a str,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<bool>> {
        let operation = Operation::DeleteActor {
            cluster: cluster.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        write!(self, operation, Deleted)
    }

    fn retain_actors<'a>(
        &'a self,
        cluster: &'a str,
        keep: &'a [(String, String)],
    ) -> BoxFuture<'a, Result<Vec<(String, String)>>> {
        let operation = Operation::RetainActors {
            cluster: cluster.to_owned(),
            keep: keep.to_vec(),
        };
        write!(self, operation, Retained)
    }

    fn actors(&self) -> BoxFuture<'_, Result<Vec<ActorRow>>> {
        read!(self, actors())
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            self.readers.close().await;
            // A second call finds it closed, which is what it asks for.
            if let Err(failure) = self.desk.run(Operation::Close).await {
                tracing::debug!("closing the store: {failure:?}");
            }
        }
        .boxed()
    }
}
