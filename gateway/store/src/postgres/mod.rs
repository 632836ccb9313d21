//! PostgreSQL: the store for any number of replicas, on a database of its own or on one that the original migrated.
//!
//! What it is: [`PostgresStore`]. Every change is one transaction with rows locked in one order; JSON is kept as text,
//! byte for byte, beside the `jsonb` columns that replicas of the original read and write during a rolling upgrade;
//! triggers hold everybody to the rules (`migrations/postgres`). Changes are told by `LISTEN`, so that any replica
//! streams any envelope. What it is not: it decides nothing about envelopes; that is [`state`](crate::state).
//!
//! What the database must offer: version 13 or newer, the right to make tables in the first schema of the search path,
//! and sessions of its own. A pooler that hands a session to somebody else after each transaction (pgbouncer with
//! `pool_mode = transaction`) breaks `LISTEN`, the lead and prepared statements; connect past it, or use its session
//! mode.
//!
//! Start reading at [`PostgresStore`], then `database.rs` (how work is run and run again), then `apply.rs`.

mod actors;
mod address;
mod apply;
mod clean;
mod columns;
mod create;
mod database;
mod failure;
mod feed;
mod history;
mod insert;
mod lead;
mod listen;
mod migrate;
mod options;
mod outbox;
mod reads;
mod rows;

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use sqlx::Connection as _;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use address::{Address, AddressError};
pub use migrate::Migration;
pub use options::{AtStart, Pool, PostgresOptions};

use self::apply::Apply;
use self::columns::can_exist;
use self::create::Desk;
use self::database::{Database, Work};
use self::failure::broken;
use crate::model::{
    ActorRow, Applied, CancelNotice, ChildCounts, Created, FeedCursor, FeedEntry, Filter, ListPage,
    NewEnvelope, OutboxDepth, OutboxEntry, Page, Record, Report, Retention, Unfinished, Update, View,
};
use crate::store::{Changed, Cleaned, Lead, OutboxOutcome, Result, Store};

/// A store in a PostgreSQL database.
pub struct PostgresStore {
    address: Address,
    database: Database,
    desk: Desk,
    mirror: bool,
    changes: broadcast::Sender<Changed>,
    listening: JoinHandle<()>,
    stop: CancellationToken,
    _stops_with_us: DropGuard,
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresStore({})", self.address)
    }
}

impl PostgresStore {
    /// Connects, brings the schema up or checks it, and begins to listen for changes. One try:
    /// [`StoreError::Unavailable`](crate::StoreError::Unavailable) where the server cannot be reached or is starting,
    /// [`Broken`](crate::StoreError::Broken) where it refuses the login or the database,
    /// [`Schema`](crate::StoreError::Schema) where the schema is not one for this program.
    pub async fn connect(options: PostgresOptions) -> Result<Self> {
        let mut connection = database::connect(&options.address).await?;
        match options.at_start {
            AtStart::Migrate => {
                migrate::migrate(&options.address, &mut connection).await?;
            }
            AtStart::Check => migrate::check(&options.address, &mut connection).await?,
        }
        close(connection).await;
        let stop = CancellationToken::new();
        let (changes, listening) = listen::listen(&options.address, stop.clone()).await?;
        let database = Database::new(&options);
        Ok(Self {
            desk: Desk::open(database.clone(), options.mirror),
            database,
            mirror: options.mirror,
            changes,
            listening,
            _stops_with_us: stop.clone().drop_guard(),
            stop,
            address: options.address,
        })
    }

    /// Brings the schema to the version of this program; returns the versions before and after. Any number of programs
    /// may do so at once.
    pub async fn migrate(address: &Address) -> Result<(u32, u32)> {
        let mut connection = database::connect(address).await?;
        let versions = migrate::migrate(address, &mut connection).await?;
        close(connection).await;
        Ok(versions)
    }

    /// All migrations that this program knows, and when they were applied.
    pub async fn status(address: &Address) -> Result<Vec<Migration>> {
        migrate::status(address).await
    }

    /// Does work that changes something: once begun, it is done, whether or not somebody waits for it.
    fn change<W>(&self, work: W) -> BoxFuture<'_, Result<W::Out>>
    where
        W: Work + Send + 'static,
        W::Out: 'static,
    {
        let database = self.database.clone();
        let task = async move { database.run(&work).await };
        Box::pin(async move {
            let done = tokio::spawn(task).await;
            done.unwrap_or_else(|error| Err(broken(format!("a task of the store ended early: {error}"))))
        })
    }
}

/// Says goodbye; a server that does not hear it has gone by itself.
async fn close(connection: sqlx::PgConnection) {
    if let Err(error) = connection.close().await {
        tracing::debug!(%error, "closing a connection");
    }
}

impl Store for PostgresStore {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn ping(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if self.listening.is_finished() || !self.desk.is_open() {
                return Err(broken(
                    "the store is closed, or a task of it has ended before its time",
                ));
            }
            self.database.run(&reads::Ping).await
        })
    }

    fn create(&self, new: NewEnvelope, lease: Duration) -> BoxFuture<'_, Result<Created>> {
        Box::pin(self.desk.create(new, lease))
    }

    fn apply(&self, reports: Vec<Report>) -> BoxFuture<'_, Result<Vec<Applied>>> {
        self.change(Apply::reports(reports, self.mirror))
    }

    fn get<'a>(&'a self, id: &'a str, view: View) -> BoxFuture<'a, Result<Option<Record>>> {
        Box::pin(async move {
            if !can_exist(id) {
                return Ok(None);
            }
            self.database.run(&reads::Get { id, view }).await
        })
    }

    fn list<'a>(&'a self, filter: &'a Filter, page: Page) -> BoxFuture<'a, Result<ListPage>> {
        Box::pin(async move {
            let texts = [&filter.tenant, &filter.tool, &filter.actor, &filter.parent_id];
            let mut sought = texts
                .into_iter()
                .flatten()
                .chain(page.after.as_ref().map(|key| &key.id));
            if !sought.all(|text| can_exist(text)) {
                return Ok(ListPage {
                    records: Vec::new(),
                    next: None,
                });
            }
            let work = reads::List { filter, page: &page };
            self.database.run(&work).await
        })
    }

    fn children<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<ChildCounts>> {
        Box::pin(async move {
            if !can_exist(id) {
                return Ok(ChildCounts::default());
            }
            self.database.run(&reads::Children(id)).await
        })
    }

    fn unfinished_below<'a>(&'a self, id: &'a str, limit: u32) -> BoxFuture<'a, Result<Vec<Unfinished>>> {
        Box::pin(async move {
            if !can_exist(id) {
                return Ok(Vec::new());
            }
            self.database.run(&reads::UnfinishedBelow { id, limit }).await
        })
    }

    fn cancelled_above<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<String>>> {
        Box::pin(async move {
            if !can_exist(id) {
                return Ok(None);
            }
            self.database.run(&reads::CancelledAbove(id)).await
        })
    }

    fn updates<'a>(&'a self, id: &'a str, after: i64, limit: u32) -> BoxFuture<'a, Result<Vec<Update>>> {
        Box::pin(async move {
            if !can_exist(id) {
                return Ok(Vec::new());
            }
            self.database.run(&reads::Updates { id, after, limit }).await
        })
    }

    fn feed(&self, after: FeedCursor, limit: u32) -> BoxFuture<'_, Result<Vec<FeedEntry>>> {
        Box::pin(async move { self.database.run(&feed::Feed { after, limit }).await })
    }

    fn feed_bounds(&self) -> BoxFuture<'_, Result<(FeedCursor, FeedCursor)>> {
        Box::pin(self.database.run(&feed::Bounds))
    }

    fn subscribe(&self) -> broadcast::Receiver<Changed> {
        self.changes.subscribe()
    }

    fn claim_outbox(&self, limit: u32, lease: Duration) -> BoxFuture<'_, Result<Vec<OutboxEntry>>> {
        self.change(outbox::Claim { limit, lease })
    }

    fn settle_outbox(
        &self,
        settled: Vec<(OutboxEntry, OutboxOutcome)>,
    ) -> BoxFuture<'_, Result<Vec<Applied>>> {
        self.change(Apply::settled(settled, self.mirror))
    }

    fn outbox_depth(&self) -> BoxFuture<'_, Result<OutboxDepth>> {
        Box::pin(self.database.run(&outbox::Depth))
    }

    fn expired(&self, passed: Range<DateTime<Utc>>, limit: u32) -> BoxFuture<'_, Result<Vec<Unfinished>>> {
        Box::pin(async move { self.database.run(&reads::Expired { passed, limit }).await })
    }

    fn cancellations(&self, now: DateTime<Utc>) -> BoxFuture<'_, Result<Vec<CancelNotice>>> {
        Box::pin(async move { self.database.run(&reads::Cancellations(now)).await })
    }

    fn clean(&self, retention: Retention, now: DateTime<Utc>) -> BoxFuture<'_, Result<Cleaned>> {
        Box::pin(clean::clean(&self.database, retention, now))
    }

    fn lead(&self) -> BoxFuture<'_, Result<Option<Box<dyn Lead>>>> {
        Box::pin(lead::lead(&self.address, &self.database))
    }

    fn put_actors(&self, rows: Vec<ActorRow>) -> BoxFuture<'_, Result<Vec<ActorRow>>> {
        self.change(actors::Put(rows))
    }

    fn delete_actor<'a>(
        &'a self,
        cluster: &'a str,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<bool>> {
        if ![cluster, namespace, name].into_iter().all(can_exist) {
            return Box::pin(async { Ok(false) });
        }
        self.change(actors::Delete {
            cluster: cluster.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    fn retain_actors<'a>(
        &'a self,
        cluster: &'a str,
        keep: &'a [(String, String)],
    ) -> BoxFuture<'a, Result<Vec<(String, String)>>> {
        if !can_exist(cluster) {
            return Box::pin(async { Ok(Vec::new()) });
        }
        let can_be_kept = |(namespace, name): &&(String, String)| can_exist(namespace) && can_exist(name);
        self.change(actors::Retain {
            cluster: cluster.to_owned(),
            keep: keep.iter().filter(can_be_kept).cloned().collect(),
        })
    }

    fn actors(&self) -> BoxFuture<'_, Result<Vec<ActorRow>>> {
        Box::pin(self.database.run(&actors::All))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.stop.cancel();
            self.database.close().await;
        })
    }
}
