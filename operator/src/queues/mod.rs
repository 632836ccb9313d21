//! The brokers' side of an actor: its queue, dead letters and bindings, and who may take them away.
//!
//! What it is: [`Queues`], which keeps one connection for each broker and set of credentials and works through the
//! administrative half of `asya-transport`. What it is not: it decides nothing about an actor; it is asked by
//! [`crate::control`] and answers in facts.

use futures::future::BoxFuture;

use crate::registry::Transport;
use crate::status::QueueDepth;

mod arguments;
mod brokers;
mod credentials;
mod management;
mod rabbitmq;
mod sqs;

pub use arguments::arguments;
pub use brokers::{Brokers, Owner};
pub use credentials::{KubeSecrets, SecretData, Secrets};

/// The queue of one actor on one transport.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueSpec {
    /// Name of the queue.
    pub name: String,
    /// The actor: routing key, tags.
    pub actor: String,
    /// The actor's namespace: where credentials stand; tags.
    pub namespace: String,
    /// Seconds of one call (`timeout.processing`): SQS visibility follows from it.
    pub processing_seconds: u32,
}

/// What [`Queues::ensure`] found or did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ensured {
    /// Everything was there.
    Present,
    /// It was missing and has been made.
    Created,
    /// It exists with other arguments and was left alone; the text says which (contract operator §8.3).
    Drifted(String),
}

/// What became of a deletion (rulings 12).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone, or was never there.
    Gone,
    /// It stays because somebody needs it; the text says who or what (`holds 12 messages`, `2 consumers`,
    /// `another cluster uses it`).
    Kept(String),
    /// Nobody needs it, but on this broker that must be so for a while before it goes (SQS: a minute); the text says
    /// for how long. To be asked again.
    Later(String),
}

/// When a queue may go with its actor (`spec.queue.deletionPolicy`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// Only empty and unused.
    #[default]
    DeleteIfEmpty,
    /// In any case, unless another cluster or namespace owns it too.
    Delete,
    /// Never.
    Retain,
}

/// Why a broker did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// Credentials are missing: names Secret and key.
    #[error("{0}")]
    Credentials(String),
    /// Missing, and the operator may not create it, or was not asked to; names the queue and `autoCreate`.
    #[error("queue {0} does not exist and queues.autoCreate is off")]
    Missing(String),
    /// The broker cannot be reached, or refused. Without secrets.
    #[error("{0}")]
    Broker(String),
    /// AWS lets no queue of this name be created for a minute after a deletion.
    #[error("queue {0} was deleted less than a minute ago; it is created as soon as the broker allows it")]
    RecentlyDeleted(String),
}

/// Queues of all brokers. An object-safe trait so that a dry run has none.
pub trait Queues: Send + Sync + 'static {
    /// Makes sure of queue, dead letters and bindings, and records that this owner uses them.
    fn ensure<'a>(
        &'a self,
        transport: &'a Transport,
        queue: &'a QueueSpec,
    ) -> BoxFuture<'a, Result<Ensured, QueueError>>;
    /// Messages of the queue; [`QueueError::Missing`] if there is no such queue.
    fn depth<'a>(
        &'a self,
        transport: &'a Transport,
        queue: &'a QueueSpec,
    ) -> BoxFuture<'a, Result<QueueDepth, QueueError>>;
    /// Gives the queue up, and deletes it and its own dead letters if `policy` allows and nobody else owns it.
    fn release<'a>(
        &'a self,
        transport: &'a Transport,
        queue: &'a QueueSpec,
        policy: DeletionPolicy,
    ) -> BoxFuture<'a, Result<Deleted, QueueError>>;
}
