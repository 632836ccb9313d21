//! The trait of a store.

use std::ops::Range;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use tokio::sync::broadcast;

use crate::model::{
    ActorRow, Applied, CancelNotice, ChildCounts, Created, FeedCursor, FeedEntry, Filter, ListPage,
    NewEnvelope, OutboxDepth, OutboxEntry, Page, Record, Report, Retention, Unfinished, Update, View,
};

/// A result of a store.
pub(crate) type Result<T> = std::result::Result<T, StoreError>;

/// Keeps envelopes. Cheap to share; every method may be called from any task, by any number of replicas.
///
/// Everything that changes something is one transaction: when the future resolves it is durable, when it fails
/// nothing of it is there. Dropping a future neither undoes nor prevents what it stands for.
pub trait Store: Send + Sync + 'static {
    /// `sqlite` or `postgres`, for logs and metric labels.
    fn name(&self) -> &'static str;

    /// Whether it answers.
    fn ping(&self) -> BoxFuture<'_, Result<()>>;

    // ---- envelopes ----

    /// Stores a new envelope, with its message in the outbox if it has one. A claim of the outbox within `lease` from
    /// now does not find it: whoever creates it publishes it first.
    fn create(&self, new: NewEnvelope, lease: Duration) -> BoxFuture<'_, Result<Created>>;

    /// Applies reports in their order, all in one transaction, each as [`state::decide`](crate::state::decide) says.
    /// The answers are as many, in the same order. Repeats within one call are seen.
    fn apply(&self, reports: Vec<Report>) -> BoxFuture<'_, Result<Vec<Applied>>>;

    /// One envelope.
    fn get<'a>(&'a self, id: &'a str, view: View) -> BoxFuture<'a, Result<Option<Record>>>;

    /// Envelopes that match, newest first.
    fn list<'a>(&'a self, filter: &'a Filter, page: Page) -> BoxFuture<'a, Result<ListPage>>;

    /// Counts all envelopes below one.
    fn children<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<ChildCounts>>;

    /// All envelopes below one that are not final, at most `limit`.
    fn unfinished_below<'a>(&'a self, id: &'a str, limit: u32) -> BoxFuture<'a, Result<Vec<Unfinished>>>;

    /// The reason of a cancellation of this envelope, or of one above it, that counts for the present attempt. It may
    /// be empty. An envelope that was final when somebody cancelled it stays what it was, and counts all the same.
    fn cancelled_above<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<String>>>;

    // ---- history ----

    /// Updates of one envelope after `after` (0 for all), oldest first, at most `limit`.
    fn updates<'a>(&'a self, id: &'a str, after: i64, limit: u32) -> BoxFuture<'a, Result<Vec<Update>>>;

    /// Updates of all envelopes after a cursor, in the order in which they became visible, at most `limit`. Never
    /// skips one that becomes visible later.
    fn feed(&self, after: FeedCursor, limit: u32) -> BoxFuture<'_, Result<Vec<FeedEntry>>>;

    /// The present end of the history of all envelopes, and the oldest cursor from which it is still complete.
    fn feed_bounds(&self) -> BoxFuture<'_, Result<(FeedCursor, FeedCursor)>>;

    /// Tells of changes, those of other replicas included. A hint, not a record: it may come twice, and
    /// [`Changed::Everything`] comes after a gap.
    fn subscribe(&self) -> broadcast::Receiver<Changed>;

    // ---- outbox ----

    /// Takes messages that nobody else has, oldest first, at most `limit`; they are ours for `lease`.
    fn claim_outbox(&self, limit: u32, lease: Duration) -> BoxFuture<'_, Result<Vec<OutboxEntry>>>;

    /// Says what became of messages. Published and failed ones leave the outbox, and their envelopes get
    /// [`ReportEvent::Published`](crate::ReportEvent::Published) or
    /// [`NotPublished`](crate::ReportEvent::NotPublished) in the same transaction.
    fn settle_outbox(
        &self,
        settled: Vec<(OutboxEntry, OutboxOutcome)>,
    ) -> BoxFuture<'_, Result<Vec<Applied>>>;

    /// How much waits.
    fn outbox_depth(&self) -> BoxFuture<'_, Result<OutboxDepth>>;

    // ---- time ----

    /// Envelopes with a deadline within `passed` that are not final, the earliest deadline first, at most `limit`.
    fn expired(&self, passed: Range<DateTime<Utc>>, limit: u32) -> BoxFuture<'_, Result<Vec<Unfinished>>>;

    /// Cancellations that sidecars must still know at `now`.
    fn cancellations(&self, now: DateTime<Utc>) -> BoxFuture<'_, Result<Vec<CancelNotice>>>;

    /// Deletes what is older than it need be: in small steps, so that nobody waits for it.
    fn clean(&self, retention: Retention, now: DateTime<Utc>) -> BoxFuture<'_, Result<Cleaned>>;

    /// Tries to become the one replica that does the housekeeping. `None` while another one is. The lead ends with the
    /// guard, with the process, and with the connection to the database.
    fn lead(&self) -> BoxFuture<'_, Result<Option<Box<dyn Lead>>>>;

    // ---- actors ----

    /// Stores what an operator says; returns those that changed something.
    fn put_actors(&self, rows: Vec<ActorRow>) -> BoxFuture<'_, Result<Vec<ActorRow>>>;

    /// Forgets one actor.
    fn delete_actor<'a>(
        &'a self,
        cluster: &'a str,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<bool>>;

    /// Forgets the actors of a cluster that are not among `keep` (namespace and name).
    fn retain_actors<'a>(
        &'a self,
        cluster: &'a str,
        keep: &'a [(String, String)],
    ) -> BoxFuture<'a, Result<Vec<(String, String)>>>;

    /// All actors, ordered by cluster, namespace and name.
    fn actors(&self) -> BoxFuture<'_, Result<Vec<ActorRow>>>;

    /// Closes connections after what is under way.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// The right to do the housekeeping, as long as it lives.
pub trait Lead: Send + Sync {
    /// Whether it is still ours; false once the connection that holds it is gone.
    fn holds(&self) -> BoxFuture<'_, bool>;
}

/// Something has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// An envelope has an update of this id or later.
    Envelope {
        /// Which one.
        id: std::sync::Arc<str>,
        /// The update.
        update: i64,
    },
    /// An actor was stored or forgotten.
    Actors,
    /// An envelope was cancelled: sidecars want to know.
    Cancellation,
    /// Anything may have: the connection that tells of changes was away.
    Everything,
}

/// What became of a message of the outbox.
#[derive(Debug, Clone, PartialEq)]
pub enum OutboxOutcome {
    /// The broker has confirmed it.
    Published,
    /// Not yet; to be tried again after this time.
    Later {
        /// The pause.
        after: Duration,
        /// Why, in words.
        error: String,
    },
    /// Never.
    Failed {
        /// Why, in words.
        error: String,
    },
}

/// What was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cleaned {
    /// Updates.
    pub updates: u64,
    /// Envelopes.
    pub envelopes: u64,
}

/// Why a store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, is busy or full. Trying again later may help.
    #[error("the store is not available: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It holds what cannot be there, or refused what we wrote.
    #[error("the store refused: {0}")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It is of a version that this program does not know, or was not migrated.
    #[error("{0}")]
    Schema(String),
}
