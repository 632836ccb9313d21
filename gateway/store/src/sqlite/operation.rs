//! What the writer is asked to do, and what it answers.

use std::time::Duration;

use asya_runtime_protocol::RawJson;
use chrono::{DateTime, Utc};

use super::error::Failure;
use crate::model::{ActorRow, Applied, Created, NewEnvelope, OutboxEntry, Report, ReportEvent};
use crate::store::OutboxOutcome;

/// What the writer is asked to do.
#[derive(Debug)]
pub(super) enum Operation {
    Create {
        new: Box<NewEnvelope>,
        lease: Duration,
    },
    Apply {
        reports: Vec<Report>,
    },
    Claim {
        limit: u32,
        lease: Duration,
    },
    Settle {
        settled: Vec<(OutboxEntry, OutboxOutcome)>,
    },
    Clean(Step),
    PutActors {
        rows: Vec<ActorRow>,
    },
    DeleteActor {
        cluster: String,
        namespace: String,
        name: String,
    },
    RetainActors {
        cluster: String,
        keep: Vec<(String, String)>,
    },
    /// The last one.
    Close,
}

/// One small step of the housekeeping.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// Updates with higher ids, of envelopes that were final before the time.
    Updates { after: i64, before: DateTime<Utc> },
    /// Envelopes that were final before the time.
    Envelopes { before: DateTime<Utc> },
    /// Cancellations that need not be told any more.
    Cancellations { now: DateTime<Utc> },
}

/// What the writer answers.
#[derive(Debug)]
pub(super) enum Answer {
    Created(Created),
    Applied(Vec<Applied>),
    Claimed(Vec<OutboxEntry>),
    Cleaned(Cleaning),
    Put(Vec<ActorRow>),
    Deleted(bool),
    Retained(Vec<(String, String)>),
    Done,
}

/// What one step of the housekeeping did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cleaning {
    pub(super) updates: u64,
    pub(super) envelopes: u64,
    /// Where the next step begins; `None` when there is nothing more to do.
    pub(super) next: Option<i64>,
}

impl Operation {
    /// The method of [`Store`](crate::Store) that asks for it.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Apply { .. } => "apply",
            Self::Claim { .. } => "claim_outbox",
            Self::Settle { .. } => "settle_outbox",
            Self::Clean(_) => "clean",
            Self::PutActors { .. } => "put_actors",
            Self::DeleteActor { .. } => "delete_actor",
            Self::RetainActors { .. } => "retain_actors",
            Self::Close => "close",
        }
    }

    /// Bytes of JSON and bodies in it, about.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Create { new, .. } => {
                let json = [&new.payload, &new.headers, &new.route_metadata];
                let json: usize = json.into_iter().flatten().map(RawJson::len).sum();
                json + new.outbox.as_ref().map_or(0, |message| message.body.len())
            }
            Self::Apply { reports } => reports.iter().map(report_bytes).sum(),
            Self::PutActors { rows } => rows.iter().map(|row| row.body.len()).sum(),
            _ => 0,
        }
    }

    /// Whether somebody relies on it even after a power failure.
    pub(super) fn must_outlive_the_machine(&self) -> bool {
        match self {
            Self::Create { .. } | Self::Settle { .. } => true,
            Self::Apply { reports } => reports.iter().any(|report| is_an_end(&report.event)),
            // A lease that is forgotten is claimed once more; housekeeping and operators say it again.
            Self::Claim { .. }
            | Self::Clean(_)
            | Self::PutActors { .. }
            | Self::DeleteActor { .. }
            | Self::RetainActors { .. }
            | Self::Close => false,
        }
    }
}

const fn is_an_end(event: &ReportEvent) -> bool {
    match event {
        ReportEvent::NotPublished { .. }
        | ReportEvent::Final(_)
        | ReportEvent::TimedOut
        | ReportEvent::Cancelled { .. } => true,
        ReportEvent::Published
        | ReportEvent::Progress(_)
        | ReportEvent::Retry(_)
        | ReportEvent::Partial(_) => false,
    }
}

fn report_bytes(report: &Report) -> usize {
    use crate::model::Final;
    let json = match &report.event {
        ReportEvent::Partial(partial) => Some(&partial.value),
        ReportEvent::Retry(retry) => retry.failure.as_ref(),
        ReportEvent::Final(Final::Succeeded(said)) => said.result.as_ref(),
        ReportEvent::Final(Final::Failed(said)) => said.details.as_ref().or(said.result.as_ref()),
        _ => None,
    };
    json.map_or(64, RawJson::len)
}

/// The writer gave the answer to another question, which only a fault of this program can cause.
pub(super) fn mixed_up() -> Failure {
    Failure::row("the writer answered another question")
}
