//! Queues behind one small trait: what the data plane needs from a broker, and nothing more.
//!
//! What it is: [`Transport`] (consume with credit, publish with confirm, settle) and [`Administration`]
//! (declare, delete, depth), with one module per broker behind a cargo feature. What it is not: it knows no
//! envelopes, routes, actors, retry policies or dead-letter rules. Bytes go in, bytes come out; who gets them and
//! when they are settled is decided by the caller (the sidecar).
//!
//! Start reading at [`Transport`]; the embedded queue is in [`local`].
//!
//! # How the operations map
//!
//! | here | `local` (SQLite) | RabbitMQ | SQS | NATS JetStream |
//! |---|---|---|---|---|
//! | [`Transport::consume`] | a consumer in this process | channel + `basic.consume` | one poller per consumer | pull consumer |
//! | [`Consumer::receive`] with `credit` | claims up to `credit` visible rows | raises `basic.qos` to the credit, then yields what was pushed | `ReceiveMessage` with up to 10 | `fetch(credit)` |
//! | [`Transport::publish`] | one row in the next group commit | `basic.publish` mandatory, future ends at the confirm | `SendMessageBatch` entry | publish, future ends at the ack |
//! | [`Outgoing::delay`] | `visible_at` in the future | a delay queue (TTL, dead-lettered back) | `DelaySeconds` (at most 900 s) | not offered: settle with a delay instead |
//! | [`Outgoing::message_id`] | kept beside the body | property `message_id` | attribute, deduplication id on FIFO | `Nats-Msg-Id` |
//! | [`PublishError::Unroutable`] | queue not declared | `basic.return` | `QueueDoesNotExist` | no stream |
//! | [`Settlement::Ack`] | row deleted | `basic.ack`, coalesced by `multiple` | `DeleteMessageBatch` entry | double ack |
//! | [`Settlement::Retry`] | lease ended, `visible_at` moved | put into a delay queue, then acknowledged; `basic.nack` with requeue when at once | `ChangeMessageVisibility` | nak with delay |
//! | [`Settlement::Return`] | the same, the count taken back | the same, the count of the delay queue's header not raised | the same: SQS counts by itself | the same: the server counts by itself |
//! | [`Delivery::deliveries`] | counted at each claim | `x-delivery-count` + 1, or 2 when only `redelivered` is set | `ApproximateReceiveCount` | delivery metadata |
//! | a receipt dropped unsettled | lease ended at once | `basic.nack` with requeue | visibility 0 | nak |
//! | keeping a long delivery alive | lease of the living process | nothing to do (connection heartbeat) | visibility heartbeat inside the transport | in-progress ack |
//! | [`Administration::depth`] | counted rows | passive declare, management API for unacked | approximate attributes | stream and consumer info |
//!
//! There is no "reject to a dead-letter queue" operation on purpose: a message is dead-lettered by a confirmed
//! publish to [`QueueName::dead_letter`] followed by an ack, so that nothing depends on how a broker is configured.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

mod queue_name;

#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(any(feature = "rabbitmq", feature = "sqs"))]
pub mod keeping;
#[cfg(feature = "local")]
pub mod local;
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;
#[cfg(feature = "sqs")]
pub mod sqs;

pub use queue_name::QueueName;

/// A broker, seen from one process. Cheap to share; every method may be called from any task.
pub trait Transport: Send + Sync + 'static {
    /// Short lower-case name for logs and metric labels, for example `local` or `rabbitmq`.
    fn name(&self) -> &'static str;

    /// Largest body in bytes that one message may have, or `None` when the broker sets no limit.
    fn max_message_size(&self) -> Option<usize>;

    /// Opens a consumer on `queue`. Nothing is delivered before [`Consumer::receive`] asks for it.
    ///
    /// A missing queue is an error at the first `receive`, not here, so that a consumer may outlive its queue.
    fn consume<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<Box<dyn Consumer>, ConsumeError>>;

    /// Hands one message to the broker. The future resolves when the broker has confirmed that it is stored.
    ///
    /// The message is on its way when this function returns, so callers pipeline by collecting futures; dropping
    /// the future does not take the message back.
    fn publish(&self, message: Outgoing) -> BoxFuture<'static, Result<(), PublishError>>;

    /// The administrative half of the same broker.
    fn administration(&self) -> &dyn Administration;
}

/// One consumer of one queue. Dropping it stops consumption; deliveries it handed out stay valid.
pub trait Consumer: Send {
    /// Waits until at least one message is there and returns at most `credit` of them (`credit` ≥ 1).
    ///
    /// Cancel safe: a future that is dropped before it resolves has taken no message out of the queue for
    /// longer than it takes the broker to hand it out again.
    fn receive(&mut self, credit: usize) -> BoxFuture<'_, Result<Vec<Delivery>, ConsumeError>>;
}

/// One message in our hands, unsettled.
#[derive(Debug)]
pub struct Delivery {
    /// The message as it was published, byte for byte.
    pub body: Bytes,
    /// The publisher's message id, if it gave one.
    pub message_id: Option<String>,
    /// How often this message has been handed out, this time included (1 on the first delivery).
    pub deliveries: u32,
    /// Settles this delivery; dropping the last clone unsettled returns the message to its queue.
    pub receipt: SharedReceipt,
}

/// A receipt that several owners may hold, so that a restarted actor can repeat a settle that may have been lost.
pub type SharedReceipt = Arc<dyn Receipt>;

/// The right to settle one delivery.
pub trait Receipt: Send + Sync + fmt::Debug {
    /// Settles the delivery. The future resolves when the broker has taken note.
    ///
    /// Idempotent: settling twice is a success when the first time was.
    fn settle(&self, settlement: Settlement) -> BoxFuture<'static, Result<(), SettleError>>;
}

/// What becomes of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// Done: the message leaves the queue.
    Ack,
    /// The message comes back to the same queue, not before `after` has passed.
    Retry {
        /// Shortest time until it is delivered again; zero means at once.
        after: Duration,
    },
    /// As [`Retry`](Self::Retry), but the message is not to blame: this delivery is not counted, as far as the broker
    /// leaves the counting to us.
    Return {
        /// Shortest time until it is delivered again; zero means at once.
        after: Duration,
    },
}

/// One message on its way to a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Where it goes.
    pub queue: QueueName,
    /// Identity of the message, the same whenever the same step of the same envelope is published again.
    pub message_id: String,
    /// The body, byte for byte.
    pub body: Bytes,
    /// Not to be delivered before this has passed; zero means at once.
    pub delay: Duration,
}

/// Creating, deleting and looking at queues.
pub trait Administration: Send + Sync {
    /// Makes sure that `queue` exists. An existing queue is left as it is.
    fn declare<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<(), AdminError>>;

    /// Deletes `queue` under the given condition.
    fn delete<'a>(&'a self, queue: &'a QueueName, mode: DeleteMode) -> BoxFuture<'a, Result<(), AdminError>>;

    /// Counts the messages of `queue`.
    fn depth<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<Depth, AdminError>>;

    /// All queues whose name starts with the prefix of this installation, in name order.
    fn list(&self) -> BoxFuture<'_, Result<Vec<QueueName>, AdminError>>;
}

/// When a queue may be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteMode {
    /// Only when it holds no message, neither ready, delayed nor unsettled.
    IfEmpty,
    /// In any case, with everything in it.
    Always,
}

/// How many messages a queue holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Waiting to be delivered.
    pub ready: u64,
    /// Delivered and not yet settled.
    pub unsettled: u64,
    /// Waiting for a delay to pass.
    pub delayed: u64,
}

impl Depth {
    /// All messages that the queue is responsible for.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.ready + self.unsettled + self.delayed
    }
}

/// Why a consumer gave no message.
#[derive(Debug, thiserror::Error)]
pub enum ConsumeError {
    /// The queue does not exist (any more). Declaring it mends this.
    #[error("queue {0} does not exist")]
    NoSuchQueue(QueueName),
    /// The broker cannot be reached or refused to work just now. Trying again later may help.
    #[error("the broker is not available: {0}")]
    Unavailable(#[source] BoxError),
}

/// Why a message is not stored.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// No queue of that name takes messages.
    #[error("queue {0} does not exist")]
    Unroutable(QueueName),
    /// The message can never be stored there, however often it is tried.
    #[error("the message is {size} bytes, above the limit of {limit} bytes")]
    TooLarge {
        /// Size of the body in bytes.
        size: usize,
        /// Limit of the broker in bytes.
        limit: usize,
    },
    /// The broker cannot be reached, or refused the message just now. It may or may not be stored.
    #[error("the broker is not available: {0}")]
    Unavailable(#[source] BoxError),
}

/// Why a delivery is not settled.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// The delivery is no longer ours: its lease or channel ended and the broker will deliver it again.
    #[error("the delivery is no longer held by this consumer")]
    Stale,
    /// The broker cannot be reached. Settling again later may help.
    #[error("the broker is not available: {0}")]
    Unavailable(#[source] BoxError),
}

/// Why an administrative operation failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The queue does not exist.
    #[error("queue {0} does not exist")]
    NoSuchQueue(QueueName),
    /// The queue still holds messages and was to be deleted only when empty.
    #[error("queue {queue} still holds {messages} messages")]
    NotEmpty {
        /// The queue.
        queue: QueueName,
        /// How many messages it holds.
        messages: u64,
    },
    /// The broker cannot be reached or refused.
    #[error("the broker is not available: {0}")]
    Unavailable(#[source] BoxError),
}

/// The cause of an error as the broker's client reports it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;
