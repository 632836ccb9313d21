//! What a sidecar tells the outside about envelopes: progress on the way, and one final word at the end of a route.
//!
//! Progress is fire and forget and must not block. The final word of an end actor is an *output*: the message is
//! settled only after it was accepted (rulings 6).

use std::sync::Arc;
use std::time::Duration;

use asya_runtime_protocol::{Envelope, RawJson};
use bytes::Bytes;
use futures::future::BoxFuture;

use crate::notices::Notices;

/// Where reports go: a terminal, a gateway, a test.
pub trait Reporter: Send + Sync + 'static {
    /// Takes note of progress. Called on the hot path: must return at once, and may drop what it cannot keep.
    fn progress(&self, progress: Progress);

    /// Accepts the final word about an envelope. While this fails, the message stays in the end actor's queue.
    fn finish(&self, report: FinalReport) -> BoxFuture<'static, Result<(), ReportError>>;

    /// The sidecar begins to drain: from now on [`finish`](Self::finish) should fail rather than wait for long.
    fn draining(&self) {}

    /// Where it puts up which envelopes nobody wants any more, if it hears of such. Default: it hears of none.
    fn notices(&self) -> Option<Arc<Notices>> {
        None
    }
}

/// One step of one envelope at one actor.
#[derive(Debug, Clone)]
pub struct Progress {
    /// The actor that did it.
    pub actor: Arc<str>,
    /// The envelope as it arrived there.
    pub envelope: Arc<Envelope>,
    /// What happened.
    pub event: Event,
}

/// What happened to an envelope at an actor.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// It was taken from the queue and understood.
    Received {
        /// Size of the message in bytes.
        bytes: usize,
    },
    /// It is handed to the runtime.
    Processing,
    /// An intermediate result of the run under way, for whoever watches; it is published nowhere.
    Partial {
        /// Its number in this run, from 0.
        seq: u64,
        /// What the handler made so far.
        value: RawJson,
    },
    /// What the handler tells about its progress.
    Noted {
        /// How much of the work is done, from 0 to 1.
        fraction: Option<f64>,
        /// In words.
        message: Option<String>,
    },
    /// The runtime has answered well.
    Completed {
        /// Time between handing it to the runtime and the answer.
        took: Duration,
        /// Number of results; 0 means that the route ends here.
        outputs: usize,
        /// The actors of the first result's route, if they are others than before the run.
        rerouted: Option<Arc<[String]>>,
    },
    /// The run failed, and another one follows later. Not the end of anything: the envelope waits in its queue.
    Retrying {
        /// Time in the runtime.
        took: Duration,
        /// Number of the run to come, from 2.
        attempt: u32,
        /// Not before this has passed.
        after: Duration,
        /// What the run failed of, in one line for people.
        error: String,
    },
    /// It failed here and goes to error-end.
    Failed {
        /// Time in the runtime; zero when it was not run.
        took: Duration,
        /// One line for people.
        error: String,
    },
    /// Nobody wants it any more, and whoever said so keeps the record of it: it ends here, and goes nowhere.
    Cancelled {
        /// Time in the runtime; zero when it was not run.
        took: Duration,
        /// Why, for people; may be empty.
        reason: String,
    },
    /// A result of a fan-out that is about to be published as an envelope of its own.
    Child {
        /// Id of the new envelope.
        id: String,
        /// Id of the envelope that it came from.
        parent_id: String,
    },
}

/// How an envelope ended.
#[derive(Debug, Clone)]
pub struct FinalReport {
    /// The end actor that says so.
    pub actor: Arc<str>,
    /// Id of the envelope.
    pub id: String,
    /// Good or bad.
    pub status: FinalStatus,
    /// The result of a successful envelope.
    pub result: Option<RawJson>,
    /// What went wrong, as written into the error envelope.
    pub error: Option<String>,
    /// Details of what went wrong, as written into the error envelope.
    pub error_details: Option<RawJson>,
    /// The message as the end actor received it, byte for byte.
    pub message: Bytes,
}

/// The final word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinalStatus {
    /// It reached the end of its route.
    Succeeded,
    /// It ended in error-end, or in the dead-letter queue of an end actor.
    Failed,
}

/// Why a final report was not accepted.
#[derive(Debug, thiserror::Error)]
#[error("the final report was not accepted: {0}")]
pub struct ReportError(pub String);

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoReporter;

impl Reporter for NoReporter {
    fn progress(&self, _: Progress) {}

    fn finish(&self, _: FinalReport) -> BoxFuture<'static, Result<(), ReportError>> {
        Box::pin(async { Ok(()) })
    }
}
