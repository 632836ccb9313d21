//! What is told about an envelope on its way, before it is known in which protocol: small, without the payload.

use std::sync::Arc;
use std::time::Duration;

use asya_runtime_protocol::{Envelope, RawJson};
use chrono::{DateTime, Utc};

use crate::report::Event;

/// One thing to tell about one envelope.
#[derive(Debug, Clone)]
pub(super) struct Note {
    /// Which envelope.
    pub(super) id: Box<str>,
    /// Which attempt at the whole of it.
    pub(super) attempt: u32,
    /// Hops that it had finished when this one began.
    pub(super) step: u64,
    /// The route: after the run in [`Fact::Completed`], of the child in [`Fact::Child`], else as it arrived.
    pub(super) actors: Box<[String]>,
    /// Index of the actor that does the work; of a child, of the one whose turn it is.
    pub(super) index: i64,
    /// When it happened.
    pub(super) at: DateTime<Utc>,
    /// What happened.
    pub(super) fact: Fact,
}

/// What happened.
#[derive(Debug, Clone)]
pub(super) enum Fact {
    /// Taken from the queue.
    Received { bytes: usize },
    /// Handed to the runtime of this actor.
    Processing { actor: Arc<str> },
    /// The handler tells how far it is.
    Noted {
        fraction: Option<f64>,
        message: Option<String>,
    },
    /// An item of a handler that goes on.
    Partial { seq: u64, value: RawJson },
    /// The runtime has answered well.
    Completed { took: Duration },
    /// The run failed, and number `attempt` follows.
    Retrying {
        attempt: u32,
        after: Duration,
        error: String,
    },
    /// A result of a fan-out becomes an envelope of its own.
    Child { parent_id: Box<str> },
}

impl Note {
    /// About `envelope`, which is at its present actor, on its way along `actors`.
    pub(super) fn about(envelope: &Envelope, actors: &[String], fact: Fact) -> Self {
        let route = &envelope.route;
        Self {
            id: envelope.id.as_str().into(),
            attempt: route.attempt(),
            step: route.step(),
            actors: actors.into(),
            index: route.current,
            at: Utc::now(),
            fact,
        }
    }

    /// What it takes of the memory that is granted to reports, in bytes: its texts.
    pub(super) fn size(&self) -> usize {
        let actors: usize = self.actors.iter().map(String::len).sum();
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let fact = match &self.fact {
            Fact::Received { .. } | Fact::Completed { .. } => 0,
            Fact::Processing { actor } => actor.len(),
            Fact::Noted { message, .. } => text(message),
            // The value may be a part of a larger answer, which it keeps in memory; answers are bounded elsewhere.
            Fact::Partial { value, .. } => value.len(),
            Fact::Retrying { error, .. } => error.len(),
            Fact::Child { parent_id } => parent_id.len(),
        };
        self.id.len() + actors + fact + OVERHEAD
    }
}

impl Fact {
    /// What is told about an event at `actor`, if anything is.
    pub(super) fn of(event: Event, actor: Arc<str>) -> Option<Self> {
        Some(match event {
            Event::Received { bytes } => Self::Received { bytes },
            Event::Processing => Self::Processing { actor },
            Event::Noted { fraction, message } => Self::Noted { fraction, message },
            Event::Partial { seq, value } => Self::Partial { seq, value },
            // Nothing is said about an empty answer; its end actor says the next thing. A gateway that cancelled an
            // envelope knows that it is over.
            Event::Completed { outputs: 0, .. } | Event::Failed { .. } | Event::Cancelled { .. } => {
                return None;
            }
            Event::Completed { took, .. } => Self::Completed { took },
            Event::Retrying {
                attempt,
                after,
                error,
                ..
            } => Self::Retrying {
                attempt,
                after,
                error,
            },
            Event::Child { parent_id, .. } => Self::Child {
                parent_id: parent_id.into(),
            },
        })
    }
}

/// Bytes of a note beside its texts, about.
const OVERHEAD: usize = 128;
