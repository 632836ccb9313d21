//! What is told on a stream, kept as it is until it is acknowledged.

use asya_proto::status::v1::{EnvelopeReport, ReportRefusalReason};
use asya_runtime_protocol::RawJson;
use tokio::sync::oneshot;

use super::wire;
use crate::gateway::bodies::Detail;
use crate::gateway::note::{Fact, Note};
use crate::report::FinalReport;

/// Bytes that a route takes at most, as far as sizes are estimated.
const MOST_ROUTE: usize = 4096;

/// What is told. Kept as it is until it is acknowledged.
#[derive(Debug)]
pub(super) enum Parcel {
    Note(Box<Note>),
    Final {
        report: Box<FinalReport>,
        detail: Detail,
        heard: oneshot::Sender<Fate>,
    },
}

/// What has become of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::gateway) enum Fate {
    /// The gateway has it.
    Stored,
    /// It changed nothing, for a reason that sending again would not cure.
    Refused(ReportRefusalReason, String),
    /// Nobody knows; it has to be told in another way.
    Lost,
}

impl Parcel {
    pub(super) fn is_urgent(&self) -> bool {
        match self {
            Self::Note(note) => matches!(note.fact, Fact::Child { .. }),
            Self::Final { .. } => true,
        }
    }

    /// About how many bytes it has on the wire.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Note(note) => note.size(),
            Self::Final { report, detail, .. } => {
                let raw = |value: &Option<RawJson>| value.as_ref().map_or(0, RawJson::len);
                let told = match detail {
                    Detail::Full => raw(&report.result) + raw(&report.error_details),
                    Detail::StatusOnly => 0,
                };
                // The message has the route, beside a payload that is not told.
                let route = report.message.len().min(MOST_ROUTE);
                report.id.len() + report.error.as_ref().map_or(0, String::len) + told + route
            }
        }
    }

    /// How many bytes it holds in memory.
    pub(super) fn held(&self) -> usize {
        match self {
            Self::Note(note) => note.size(),
            Self::Final { report, .. } => self.size() + report.message.len(),
        }
    }

    pub(super) fn encode(&self, sequence: u64) -> EnvelopeReport {
        match self {
            Self::Note(note) => wire::note(note, sequence),
            Self::Final { report, detail, .. } => {
                wire::finished(report, *detail, sequence, chrono::Utc::now())
            }
        }
    }
}
