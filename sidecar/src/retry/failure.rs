//! What a failed run is called: the code and the exception names that retry rules match.

use std::fmt;

use asya_runtime_protocol::ErrorDetails;

use crate::ledger::CallOutcome;

/// No answer within the time limit.
const TIMEOUT: &str = "timeout";
/// Somebody asked to end it.
const CANCELLED: &str = "cancelled";
/// The process that ran it died, or closed the connection after it had read the request.
const WORKER_DIED: &str = "worker_died";
/// The runtime closed the connection unread, again and again.
const CONNECTION: &str = "connection";
/// An answer that is none, or is too large.
const BAD_ANSWER: &str = "bad_answer";
/// The sidecar itself crashed with the message in hand.
const SIDECAR_CRASHED: &str = "sidecar_crashed";
/// The runtime could not read the request; its own code (contract data-plane §6.5).
const NOT_READ: &str = "msg_parsing_error";

/// One failed run, as retry rules and the history see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunFailure {
    /// The code that the runtime gave, or one of those above.
    pub(crate) code: String,
    /// Classes of the exception, the most special first; empty when there was none.
    pub(crate) exceptions: Vec<String>,
    /// One line for people.
    pub(crate) message: String,
    /// Whether the runtime itself said so, and so has outlived the message.
    pub(crate) is_reported: bool,
}

impl RunFailure {
    /// A failure that the runtime reported.
    pub(crate) fn reported(code: &str, details: Option<&ErrorDetails>) -> Self {
        let message = details.and_then(ErrorDetails::message).unwrap_or_default();
        Self {
            code: code.to_owned(),
            exceptions: details.map(ErrorDetails::exceptions).unwrap_or_default(),
            message: first_line(&message),
            is_reported: true,
        }
    }

    /// A call that brought no usable answer; `message` says why.
    pub(crate) fn of_call(outcome: &CallOutcome, message: &str) -> Self {
        let code = match outcome {
            CallOutcome::Timeout | CallOutcome::SlotStuck | CallOutcome::Expired => TIMEOUT,
            CallOutcome::Died(death) => death.code(),
            CallOutcome::Cancelled | CallOutcome::Revoked => CANCELLED,
            CallOutcome::Broken(_) => WORKER_DIED,
            CallOutcome::Unread(_) => CONNECTION,
            CallOutcome::Reply(_) | CallOutcome::Unusable(_) => BAD_ANSWER,
            CallOutcome::SlotCrashed => SIDECAR_CRASHED,
        };
        let (exceptions, message) = match outcome {
            CallOutcome::Died(death) => (vec![death.exception().to_owned()], death.message.as_str()),
            _ => (Vec::new(), message),
        };
        Self {
            code: code.to_owned(),
            exceptions,
            message: first_line(message),
            is_reported: false,
        }
    }

    /// Whether a run with the same input cannot end otherwise, or must not be tried.
    pub(super) fn is_permanent(&self) -> bool {
        [BAD_ANSWER, SIDECAR_CRASHED, NOT_READ, CANCELLED].contains(&self.code.as_str())
    }
}

/// The code, and the message if there is one.
impl fmt::Display for RunFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message.as_str() {
            "" => f.write_str(&self.code),
            message => write!(f, "{}: {message}", self.code),
        }
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
