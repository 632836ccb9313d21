//! Why something was not done. The texts are for callers: what was wrong, and what to do.

use asya_gateway_store::StoreError;
use asya_gateway_store::state::creation::NotStorable;
use asya_manifest::ArgumentProblems;

/// Why a call made no envelope that is on its way.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// There is no such tool. Nothing was stored.
    #[error("tool {0:?} not found")]
    UnknownTool(String),
    /// The arguments are not what the tool takes. Nothing was stored.
    #[error(transparent)]
    Arguments(#[from] ArgumentProblems),
    /// The idempotency key cannot be one; the text says why. Nothing was stored.
    #[error("the idempotency key {0}")]
    IdempotencyKey(&'static str),
    /// The idempotency key was used for another request, the one of this envelope.
    #[error("the idempotency key was used for another request, which made envelope {id}; use a new key")]
    Conflict {
        /// What the other request made.
        id: String,
    },
    /// The broker takes no message of this size. Nothing was stored.
    #[error(
        "the message would be {size} bytes, above the broker's limit of {limit} bytes; send less, or a reference to it"
    )]
    TooLarge {
        /// Size of the whole message in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The tool's first actor has no queue. The envelope is stored, and has failed.
    #[error("{}", unroutable(.actor, .queue))]
    Unroutable {
        /// The envelope.
        id: String,
        /// The actor.
        actor: String,
        /// Its queue.
        queue: String,
    },
    /// The broker refused the message for good, or did so for an earlier call with the same idempotency key. The
    /// envelope is stored, and has failed.
    #[error("failed to send envelope: {error}")]
    NotSent {
        /// The envelope.
        id: String,
        /// Why, in words.
        error: String,
    },
    /// The gateway is about to stop and takes no more calls. Another replica does.
    #[error("the gateway is shutting down; call again")]
    Draining,
    /// The store did not take it. Nothing was stored, or nobody knows; with an idempotency key calling again is safe.
    #[error("failed to create envelope: {0}")]
    Store(#[from] StoreError),
}

/// The words for an actor without a queue, in answers and in the error of the envelope.
pub(super) fn unroutable(actor: &str, queue: &str) -> String {
    format!(
        "actor {actor:?} takes no messages: queue {queue} does not exist; start the actor, or mend the tool's route"
    )
}

/// Why a child was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// No store can keep it, however often it is tried: its id is empty, too long, or has U+0000.
    #[error(transparent)]
    NotStorable(#[from] NotStorable),
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why nothing can be said about an envelope.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// There is none of this id, or it belongs to somebody else.
    #[error("Envelope not found")]
    Unknown,
    /// The history of all envelopes does not reach back to the given cursor.
    #[error("the history does not reach back to this cursor; start without one")]
    HistoryGone,
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}
