//! Where the gateway keeps envelopes: the record of each one, what happened to it, and what must still be published.
//!
//! What it is: the [words](model) for an envelope's fate, the [pure state machine](state) that alone decides what a
//! report changes, and [`Store`] with two backends, [`sqlite`] (embedded) and [`postgres`] (any number of replicas).
//! Both pass the suite in [`suite`](crate::suite). What it is not: it publishes nothing, knows no HTTP, no callers and
//! no rights; that is `asya-gateway`.
//!
//! Start reading at [`Store`], then [`state::decide`].

pub mod model;
pub mod postgres;
pub mod sqlite;
pub mod state;
#[cfg(feature = "suite")]
pub mod suite;

mod store;

pub use model::{
    ActorRow, Applied, CancelNotice, ChildCounts, Created, FeedCursor, FeedEntry, Filter, Final,
    FinalFailure, FinalSuccess, Idempotency, Key, Kind, ListPage, NewEnvelope, OutboxDepth, OutboxEntry,
    OutboxMessage, Outcome, Page, Partial, Phase, Progress, Record, Report, ReportEvent, Retention, Retry,
    Status, Unfinished, Update, View,
};
pub use store::{Changed, Cleaned, Lead, OutboxOutcome, Store, StoreError};
