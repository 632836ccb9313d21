//! Keeping queues for their owners: the words that the administration of every broker answers in.
//!
//! An *owner* is one namespace of one cluster. Several may own one queue on purpose (clusters that share a broker), and
//! then a queue goes with the last of them. The brokers' halves are [`crate::rabbitmq::RabbitMqKeeper`] and
//! [`crate::sqs::SqsKeeper`]; they know no actors and no Kubernetes.

use std::fmt;

/// Who uses a queue, as it is recorded at the queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct QueueOwner {
    /// Tells one cluster from another.
    pub cluster: String,
    /// The namespace in that cluster.
    pub namespace: String,
}

impl fmt::Display for QueueOwner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.cluster, self.namespace)
    }
}

/// What was found, and done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ensured {
    /// The queue was there.
    Present,
    /// The queue was missing and has been made.
    Created,
    /// The queue was there with other arguments, and was left as it is; the text says which.
    Drifted(String),
}

/// What became of a queue that its owner gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Released {
    /// It is gone, or was never there.
    Gone,
    /// It stays; the text says why (`asya-x holds 12 messages`).
    Kept(String),
    /// It is empty and unused, but that must be so for a while; the text says for how long. To be asked again.
    Later(String),
}

/// When a queue goes with its last owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseMode {
    /// Only when it is empty and nobody uses it.
    IfEmpty,
    /// In any case, with everything in it.
    Always,
    /// Never: only the record of the owner is removed.
    Never,
}

/// Why a broker did not do what it was asked. One line each, without secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeepError {
    /// The queue does not exist and was not to be made.
    #[error("queue {0} does not exist")]
    Missing(String),
    /// The broker does not accept the credentials.
    #[error("{0}")]
    Login(String),
    /// The broker cannot be reached, or refused.
    #[error("{0}")]
    Refused(String),
    /// A queue of this name was deleted a moment ago, and cannot be made yet.
    #[error("queue {0} was deleted less than a minute ago")]
    RecentlyDeleted(String),
}
