//! What is to be done about one delivery: the messages to publish, the report to make, and how to settle after that.
//!
//! A plan is complete before anything of it is carried out, so that a restarted publisher can carry it out again with
//! the same message ids.

use std::time::Duration;

use asya_runtime_protocol::{Envelope, Route};
use asya_transport::{QueueName, Settlement};
use bytes::Bytes;

use crate::report::FinalReport;

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Published together, in this order. Empty at the end of a route.
    pub(crate) messages: Vec<Planned>,
    /// The final word about the envelope, from end actors only.
    pub(crate) report: Option<FinalReport>,
    /// What becomes of the delivery once all messages are confirmed and the report is accepted.
    pub(crate) settlement: Settlement,
    /// The outcome in one word, for reports and metrics.
    pub(crate) verdict: Verdict,
}

impl Plan {
    /// The delivery returns to its queue, not before `after`.
    pub(crate) fn retry(after: Duration) -> Self {
        Self {
            messages: Vec::new(),
            report: None,
            settlement: Settlement::Retry { after },
            verdict: Verdict::Returned,
        }
    }

    /// Nobody wants the envelope any more, and whoever said so keeps the record of it: it ends here.
    pub(crate) fn cancelled(reason: String) -> Self {
        Self {
            messages: Vec::new(),
            report: None,
            settlement: Settlement::Ack,
            verdict: Verdict::Cancelled { reason },
        }
    }

    /// The envelope that it is about, or a child that was split from it; the id is that of the envelope. `None` where no
    /// message tells.
    pub(crate) fn subject(&self) -> Option<(&str, &Envelope)> {
        self.messages.iter().find_map(|message| match &message.content {
            Content::Envelope(envelope) => {
                Some((message.child_of.as_deref().unwrap_or(&envelope.id), &**envelope))
            }
            Content::Raw(_) => None,
        })
    }

    /// The actors of the first result's route, if it goes on along others than `before`.
    pub(crate) fn rerouted(&self, before: &Route) -> Option<&[String]> {
        let first = self.messages.first()?;
        match (&first.content, first.kind) {
            (Content::Envelope(envelope), Kind::Routing | Kind::HappyEnd) => Some(&*envelope.route.actors),
            _ => None,
        }
        .filter(|actors| *actors != before.actors)
    }

    /// Whether the run led to no good end.
    pub(crate) const fn is_failure(&self) -> bool {
        match self.verdict {
            Verdict::Success { .. } | Verdict::Consumed | Verdict::Cancelled { .. } => false,
            Verdict::Failed { .. } | Verdict::Retried { .. } | Verdict::Returned => true,
        }
    }

    /// The delivery failed: `message` tells error-end.
    pub(crate) fn failed(message: Planned, reason: Reason, error: String) -> Self {
        Self {
            messages: vec![message],
            report: None,
            settlement: Settlement::Ack,
            verdict: Verdict::Failed { reason, error },
        }
    }
}

/// One message of a plan.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    /// Why it is sent.
    pub(crate) kind: Kind,
    /// Where it goes.
    pub(crate) queue: QueueName,
    /// Its identity, the same whenever this plan is made again (rulings 3).
    pub(crate) message_id: String,
    /// What it says. Encoded only when it is sent, so that a large fan-out is not held twice.
    pub(crate) content: Content,
    /// Set on items of a fan-out that become envelopes of their own: the id of the envelope they came from.
    pub(crate) child_of: Option<String>,
    /// Not handed out before this has passed; zero for all but retries.
    pub(crate) delay: Duration,
}

/// What a message says.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// An envelope of ours.
    Envelope(Box<Envelope>),
    /// Bytes passed on as they came.
    Raw(Bytes),
}

impl Content {
    pub(crate) fn to_bytes(&self) -> Bytes {
        match self {
            Self::Envelope(envelope) => envelope.to_bytes(),
            Self::Raw(bytes) => bytes.clone(),
        }
    }
}

/// Why a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// To the next actor of its route.
    Routing,
    /// To the end of successful routes.
    HappyEnd,
    /// To the end of failed envelopes.
    ErrorEnd,
    /// To the dead-letter queue of this actor.
    DeadLetter,
    /// Back to the queue of this actor, to be run again.
    Retry,
}

/// The outcome of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The runtime answered; 0 outputs end the route.
    Success { outputs: usize },
    /// An end actor has done its work.
    Consumed,
    /// It failed for good.
    Failed { reason: Reason, error: String },
    /// It failed and is run again.
    Retried {
        /// Number of the run to come, from 2.
        attempt: u32,
        /// Not before this has passed.
        after: Duration,
        /// One line for people.
        error: String,
    },
    /// It goes back to its queue to be tried again.
    Returned,
    /// Nobody wants it any more.
    Cancelled {
        /// Why, for people; may be empty.
        reason: String,
    },
}

/// Why an envelope failed; the label of the metric and of log lines (contract data-plane §7.2, §11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Not JSON, or not an envelope.
    Parse,
    /// No usable id, over the size limit, too many hops.
    Validation,
    /// Its route names another actor.
    RouteMismatch,
    /// Its deadline had passed when it arrived.
    Deadline,
    /// The handler, the runtime or the socket failed.
    Runtime,
    /// It was delivered, or crashed a part of the sidecar, too often.
    Poison,
}

impl Reason {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Parse => "parse_error",
            Self::Validation => "validation_error",
            Self::RouteMismatch => "route_mismatch",
            Self::Deadline => "deadline_exceeded",
            Self::Runtime => "runtime_error",
            Self::Poison => "poison",
        }
    }
}
