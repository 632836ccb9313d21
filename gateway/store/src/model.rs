//! The words of the store: records, updates, reports, filters. Plain data without behaviour that matters.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use asya_runtime_protocol::RawJson;
use bytes::Bytes;
use chrono::{DateTime, Utc};

/// Where an envelope is. Only moves forward within an attempt (contract gateway §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// Durable; the broker has not confirmed it yet.
    Pending,
    /// In a queue or in a handler.
    Running,
    /// Final: it reached the end of its route.
    Succeeded,
    /// Final: it failed, its time was over, or it was cancelled. [`Outcome`] says which.
    Failed,
    /// Legal in old databases, never written by us.
    Unknown,
}

impl Status {
    /// The word on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    /// Reads the word, in any letter case: databases before migration 004 have `Pending`.
    pub fn parse(word: &str) -> Option<Self> {
        [
            Self::Pending,
            Self::Running,
            Self::Succeeded,
            Self::Failed,
            Self::Unknown,
        ]
        .into_iter()
        .find(|status| status.as_str().eq_ignore_ascii_case(word))
    }

    /// Whether nothing but a redrive can change it any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How an envelope ended; finer than [`Status`], which old clients read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It reached the end of its route.
    Succeeded,
    /// A handler or a hop failed for good.
    Failed,
    /// Its deadline passed first.
    TimedOut,
    /// Somebody cancelled it or its parent.
    Cancelled,
}

impl Outcome {
    /// The word on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Succeeded, Self::Failed, Self::TimedOut, Self::Cancelled]
            .into_iter()
            .find(|outcome| outcome.as_str() == word)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far one actor is with an envelope (`envelope_state` of the original).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Taken from the queue.
    Received,
    /// Handed to the handler.
    Processing,
    /// The handler returned.
    Completed,
}

impl Phase {
    /// The word on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Processing => "processing",
            Self::Completed => "completed",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Received, Self::Processing, Self::Completed]
            .into_iter()
            .find(|phase| phase.as_str() == word)
    }
}

/// How much of a record is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum View {
    /// Without payload, result, headers and route metadata: those are `None`.
    Basic,
    /// All of it.
    #[default]
    Full,
}

/// One envelope as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Unique; any non-empty text without `/`, at most 1024 bytes.
    pub id: String,
    /// The envelope that it was split from.
    pub parent_id: Option<String>,
    /// Whose it is; `None` when callers have no tenants. Children have the tenant of their parent.
    pub tenant: Option<String>,
    /// The tool whose call made it.
    pub tool: Option<String>,
    /// Where it is.
    pub status: Status,
    /// How it ended; `None` before, and for final rows of the original, whose outcome is their status.
    pub outcome: Option<Outcome>,
    /// Which attempt at the whole envelope this is, from 1; a redrive adds one (rulings 5).
    pub attempt: u32,
    /// The route as last reported.
    pub actors: Vec<String>,
    /// `route.current` at creation; never changes (contract gateway §4.1).
    pub route_current: i64,
    /// `route.metadata` at creation.
    pub route_metadata: Option<RawJson>,
    /// `headers` at creation.
    pub headers: Option<RawJson>,
    /// The payload at creation, byte for byte; `None` for children (and in [`View::Basic`]).
    pub payload: Option<RawJson>,
    /// What came out, byte for byte. Failures have the original's object with `error`, `details`, `failed_actor`…
    pub result: Option<RawJson>,
    /// What went wrong, in words; `None` rather than empty.
    pub error: Option<String>,
    /// How long it may take; `None` for no limit.
    pub timeout: Option<Duration>,
    /// When its time is over.
    pub deadline: Option<DateTime<Utc>>,
    /// 0 to 100; never falls within an attempt. 100 after an end actor had the last word; a timeout or a cancellation
    /// leaves it where it was.
    pub progress_percent: f64,
    /// Index of the actor that was reported last.
    pub current_actor_idx: i64,
    /// Its name.
    pub current_actor_name: Option<String>,
    /// How far it is; `None` before its first report and while it waits for a retry. Tells late reports apart.
    pub phase: Option<Phase>,
    /// What happened last, for people.
    pub message: Option<String>,
    /// How many actors have completed; never falls within an attempt.
    pub actors_completed: u32,
    /// Where the end actor stored it.
    pub stored_at: Option<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it changed last.
    pub updated_at: DateTime<Utc>,
    /// Raised by one with every change, by whoever makes it. What compare-and-set compares.
    pub version: i64,
}

/// A new envelope.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEnvelope {
    /// See [`Record::id`].
    pub id: String,
    /// See [`Record::parent_id`].
    pub parent_id: Option<String>,
    /// See [`Record::tenant`]; of a child it is ignored in favour of its parent's, if the parent is known.
    pub tenant: Option<String>,
    /// See [`Record::tool`].
    pub tool: Option<String>,
    /// `Pending` with a message in the outbox, `Running` for children that a sidecar has registered.
    pub status: Status,
    /// The route.
    pub actors: Vec<String>,
    /// Index of the actor whose turn it is.
    pub route_current: i64,
    /// `route.metadata`.
    pub route_metadata: Option<RawJson>,
    /// `headers`.
    pub headers: Option<RawJson>,
    /// The payload.
    pub payload: Option<RawJson>,
    /// How long it may take.
    pub timeout: Option<Duration>,
    /// When its time is over; children inherit their parent's when they bring none and the parent is known.
    pub deadline: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// The key under which a repeat of the same request is recognised.
    pub idempotency: Option<Idempotency>,
    /// The message to publish, written in the same transaction.
    pub outbox: Option<OutboxMessage>,
}

/// A message that must reach the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxMessage {
    /// Name of the actor, without prefix.
    pub actor: String,
    /// The message id, the same at every attempt to publish it.
    pub message_id: String,
    /// The body, byte for byte.
    pub body: Bytes,
}

/// How a repeated request is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// What the caller said; unique for each tenant.
    pub key: String,
    /// SHA-256 over what was asked for, so that the same key with another request is told.
    pub fingerprint: [u8; 32],
}

/// What came of [`Store::create`](crate::Store::create).
#[derive(Debug, Clone, PartialEq)]
pub enum Created {
    /// Stored.
    New(Box<Record>),
    /// The same id, or the same idempotency key with the same fingerprint, was stored before. Nothing changed.
    Existing(Box<Record>),
    /// The idempotency key was used for another request, or the id for another envelope (other parent or route).
    Conflict(Box<Record>),
}

/// Something that is said about an envelope.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Which one.
    pub envelope_id: String,
    /// See [`Record::attempt`]; 0 means 1. Lower than the stored one changes nothing, higher than it neither.
    pub attempt: u32,
    /// When it happened, by the clock of who says it. The order of reports follows their arrival, not this.
    pub at: DateTime<Utc>,
    /// What happened.
    pub event: ReportEvent,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum ReportEvent {
    /// The broker has confirmed the first message.
    Published,
    /// The first message can never be published.
    NotPublished {
        /// Why, in words.
        error: String,
    },
    /// An actor has come further.
    Progress(Progress),
    /// A hop failed and will run again.
    Retry(Retry),
    /// One item of a handler that yields while it works.
    Partial(Partial),
    /// An end actor has had the last word.
    Final(Final),
    /// The deadline has passed.
    TimedOut,
    /// Somebody does not want it any more.
    Cancelled {
        /// Why, for people; may be empty.
        reason: String,
    },
}

/// Progress of one actor (contract gateway §4.2).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Progress {
    /// How far; `None` weighs nothing.
    pub phase: Option<Phase>,
    /// The route as the actor knows it; empty if it was not said.
    pub actors: Vec<String>,
    /// Index of the actor. Anything may have been said here.
    pub actor_index: i64,
    /// For people.
    pub message: Option<String>,
    /// Whether `actor_index` of a completion is the actor that did the work (our sidecars), or may be the next one
    /// (original sidecars; contract gateway §4.2).
    pub exact: bool,
}

/// A hop failed and will run again.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Index of the actor.
    pub actor_index: i64,
    /// How often the hop has run, this time included.
    pub runs: u32,
    /// What it failed of, in words.
    pub error: String,
    /// Structure of the failure, as JSON.
    pub failure: Option<RawJson>,
    /// When it runs again.
    pub next_run_at: Option<DateTime<Utc>>,
}

/// One item of a handler that yields while it works.
#[derive(Debug, Clone, PartialEq)]
pub struct Partial {
    /// Index of the actor.
    pub actor_index: i64,
    /// Counts from 0 within one run of the hop; 0 again voids what came before.
    pub index: u32,
    /// The item, byte for byte.
    pub value: RawJson,
}

/// The last word of an end actor.
#[derive(Debug, Clone, PartialEq)]
pub enum Final {
    /// Good.
    Succeeded(FinalSuccess),
    /// Bad.
    Failed(FinalFailure),
}

/// The good end.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FinalSuccess {
    /// The result; `None` keeps what is stored.
    pub result: Option<RawJson>,
    /// Where the envelope is stored.
    pub stored_at: Option<String>,
    /// The route at the end, where it was said.
    pub actors: Vec<String>,
    /// Index and name of the last actor, where they were said.
    pub actor_index: Option<i64>,
    /// Name of the last actor, where it was said.
    pub actor: Option<String>,
}

/// The bad end.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FinalFailure {
    /// What went wrong, in words.
    pub error: Option<String>,
    /// Details, as JSON.
    pub details: Option<RawJson>,
    /// A result that came with it; used where there are no details (contract gateway §4.3).
    pub result: Option<RawJson>,
    /// Where the error envelope is stored.
    pub stored_at: Option<String>,
    /// The route at the end, where it was said.
    pub actors: Vec<String>,
    /// Index of the actor in which it failed, where it was said.
    pub actor_index: Option<i64>,
    /// Name of the actor in which it failed, where it was said.
    pub actor: Option<String>,
}

/// What came of one report.
#[derive(Debug, Clone, PartialEq)]
pub enum Applied {
    /// It changed the record and made this update.
    Changed {
        /// The record after it, [`View::Basic`].
        record: Box<Record>,
        /// What watchers see.
        update: Arc<Update>,
    },
    /// It changed nothing: late, repeated, or of another attempt. Answered like a success.
    Nothing {
        /// The record as it stands, [`View::Basic`].
        record: Box<Record>,
    },
    /// There is no such envelope.
    Unknown,
}

/// What an update is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The broker has confirmed the first message.
    Sent,
    /// An actor has come further.
    Progress,
    /// A hop will run again.
    Retry,
    /// An item of a handler that yields.
    Partial,
    /// The last update of an attempt: succeeded, failed, timed out, cancelled, not published.
    Final,
}

impl Kind {
    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Progress => "progress",
            Self::Retry => "retry",
            Self::Partial => "partial",
            Self::Final => "final",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        [
            Self::Sent,
            Self::Progress,
            Self::Retry,
            Self::Partial,
            Self::Final,
        ]
        .into_iter()
        .find(|kind| kind.as_str() == word)
    }
}

/// One line of the history of an envelope.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// Rises with every update of an envelope; not dense. Where a stream resumes.
    pub id: i64,
    /// Which envelope.
    pub envelope_id: Arc<str>,
    /// What it is about. Rows of the original are `Final` when their status is, else `Progress` or `Sent`.
    pub kind: Kind,
    /// The status after it.
    pub status: Status,
    /// The outcome after it.
    pub outcome: Option<Outcome>,
    /// See [`Record::attempt`].
    pub attempt: u32,
    /// For people.
    pub message: Option<String>,
    /// The result, in the final update.
    pub result: Option<RawJson>,
    /// What went wrong, in words.
    pub error: Option<String>,
    /// Structure of a failure that is retried, as JSON.
    pub failure: Option<RawJson>,
    /// Progress after it.
    pub progress_percent: Option<f64>,
    /// The actor that it is about.
    pub actor: Option<String>,
    /// The route, in updates of progress and in final ones where it is known.
    pub actors: Option<Arc<[String]>>,
    /// Index of the actor.
    pub current_actor_idx: Option<i64>,
    /// How far the actor is.
    pub phase: Option<Phase>,
    /// The item, in updates of that kind.
    pub partial: Option<Partial>,
    /// When the hop runs again, in updates about retries.
    pub next_run_at: Option<DateTime<Utc>>,
    /// When it was stored.
    pub at: DateTime<Utc>,
}

impl Update {
    /// Whether a stream of this envelope ends after it.
    pub fn is_final(&self) -> bool {
        self.kind == Kind::Final && self.status.is_final()
    }
}

/// What is looked for; all that is set must match.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter {
    /// Only this tenant's.
    pub tenant: Option<String>,
    /// Any of these; empty for all.
    pub statuses: BTreeSet<Status>,
    /// Any of these; empty for all. `Succeeded` and `Failed` also match final rows without an outcome.
    pub outcomes: Vec<Outcome>,
    /// Whose turn it is with this actor.
    pub actor: Option<String>,
    /// Made by a call of this tool.
    pub tool: Option<String>,
    /// Direct children of this envelope.
    pub parent_id: Option<String>,
    /// Made at this instant or later.
    pub created_from: Option<DateTime<Utc>>,
    /// Made before this instant.
    pub created_before: Option<DateTime<Utc>>,
}

/// Which page of a list, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// At most so many, 1 to 1000.
    pub size: u32,
    /// After this one.
    pub after: Option<Key>,
    /// How much of each.
    pub view: View,
}

/// The place of an envelope in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// [`Record::created_at`], in microseconds since the epoch.
    pub created_us: i64,
    /// [`Record::id`].
    pub id: String,
}

/// An envelope that is not final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// See [`Record::id`].
    pub id: String,
    /// See [`Record::attempt`].
    pub attempt: u32,
}

/// One page.
#[derive(Debug, Clone, PartialEq)]
pub struct ListPage {
    /// Newest first.
    pub records: Vec<Record>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<Key>,
}

/// All envelopes below one, children of children included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChildCounts {
    /// Not yet confirmed by the broker.
    pub pending: u64,
    /// In a queue or in a handler.
    pub running: u64,
    /// Ended well.
    pub succeeded: u64,
    /// Ended badly.
    pub failed: u64,
}

impl ChildCounts {
    /// All of them.
    pub const fn total(&self) -> u64 {
        self.pending + self.running + self.succeeded + self.failed
    }
}

/// A place in the history of all envelopes. Opaque; ordered as changes became visible, without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct FeedCursor {
    /// Transaction (PostgreSQL), 0 (SQLite).
    pub transaction: i64,
    /// Id of the update.
    pub update: i64,
}

/// One update in the history of all envelopes.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedEntry {
    /// Where to go on after it.
    pub cursor: FeedCursor,
    /// What happened.
    pub update: Arc<Update>,
}

/// A message that was claimed for publishing.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxEntry {
    /// Which envelope.
    pub envelope_id: String,
    /// See [`Record::attempt`].
    pub attempt: u32,
    /// What to publish.
    pub message: OutboxMessage,
    /// How often it was tried before.
    pub tries: u32,
    /// When it was put there.
    pub created_at: DateTime<Utc>,
    /// When the envelope's time is over.
    pub deadline: Option<DateTime<Utc>>,
}

/// How much waits for the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutboxDepth {
    /// Messages.
    pub waiting: u64,
    /// When the oldest one was put there.
    pub oldest: Option<DateTime<Utc>>,
}

/// Tells sidecars that nobody wants an envelope any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelNotice {
    /// Which one.
    pub envelope_id: String,
    /// This attempt and lower ones.
    pub attempt: u32,
    /// May be forgotten then: its deadline, or 24 h after the cancellation where there is none.
    pub keep_until: DateTime<Utc>,
    /// For people.
    pub reason: String,
}

/// How long things are kept after they were final; `None` for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The history of an envelope. 24 h, as the original.
    pub updates: Option<Duration>,
    /// The envelope itself.
    pub envelopes: Option<Duration>,
}

/// What an operator says of one actor, opaque to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActorRow {
    /// Which cluster.
    pub cluster: String,
    /// Which namespace.
    pub namespace: String,
    /// Which name.
    pub name: String,
    /// When the operator saw it; older than the stored one changes nothing.
    pub observed_at: DateTime<Utc>,
    /// The encoded message `asya.status.v1.Actor`.
    pub body: Bytes,
}
