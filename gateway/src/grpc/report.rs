//! One stream of one sidecar: what it reports is stored, then acknowledged; what it must know is told.
//!
//! The order of things is the order of the stream: a batch is whatever has arrived, it is stored in one piece of work,
//! and nothing more is read before that. So a sidecar is never ahead by more than a batch and what the connection
//! holds, however much it sends.

use std::sync::Arc;

use asya_gateway_store::{Applied, CancelNotice, Created, NewEnvelope, Report, ReportEvent};
use asya_proto::status::v1::{
    self, EnvelopeReport, GoAway, ReportAck, ReportEnvelopesRequest, ReportEnvelopesResponse, ReportRefusal,
    ReportRefusalReason, ReportWelcome, SidecarHello, report_envelopes_request, report_envelopes_response,
};
use chrono::Utc;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Status, Streaming};

use super::GrpcOptions;
use super::convert::{Refused, Told, read_report, timestamp};
use super::errors;
use super::inbox::{Batch, batch};
use super::seats::{Seats, Sitting};
use crate::core::{Gateway, RegisterError, ReportSource};

/// Longest id of a process.
const LONGEST_INSTANCE: usize = 256;

type Outbox = mpsc::Sender<Result<ReportEnvelopesResponse, Status>>;

/// A stream that is open.
pub(super) struct Session {
    pub(super) gateway: Gateway,
    pub(super) options: GrpcOptions,
    pub(super) seats: Arc<Seats>,
    pub(super) inbound: Streaming<ReportEnvelopesRequest>,
    pub(super) outbound: Outbox,
}

/// Where a stream stands.
struct Standing {
    /// The last sequence number that came.
    last: u64,
    sitting: Sitting,
}

impl Session {
    /// Serves the stream to its end.
    pub(super) async fn run(mut self) {
        let Err(end) = self.serve().await else {
            return;
        };
        tracing::debug!(code = ?end.code(), message = end.message(), "stream of a sidecar ends");
        // If the sidecar does not read, or has gone, the end of the stream says enough.
        let _ = timeout(self.options.farewell, self.outbound.send(Err(end))).await;
    }

    async fn serve(&mut self) -> Result<(), Status> {
        let Some(hello) = self.hello().await? else {
            return Ok(());
        };
        let sitting = self.seats.take(&hello.instance_id, self.options.hello).await?;
        tracing::debug!(actor = hello.actor, version = hello.version, "a sidecar reports");
        let mut standing = Standing { last: 0, sitting };
        let welcome = report_envelopes_response::Kind::Welcome(ReportWelcome {
            max_unacknowledged: self.options.max_unacknowledged.max(1),
            max_report_bytes: self.options.max_report_bytes as u64,
        });
        self.say(welcome, &mut standing).await?;
        self.listen(standing).await
    }

    /// The first message.
    async fn hello(&mut self) -> Result<Option<SidecarHello>, Status> {
        let draining = self.gateway.draining();
        let first = tokio::select! {
            first = timeout(self.options.hello, self.inbound.message()) => first,
            () = draining.cancelled() => return Err(errors::closing()),
        };
        let Ok(first) = first else {
            return Err(Status::invalid_argument(
                "hello: it did not come; it is the first message of a stream",
            ));
        };
        let Some(first) = first? else {
            return Ok(None);
        };
        let Some(report_envelopes_request::Kind::Hello(hello)) = first.kind else {
            return Err(Status::invalid_argument(
                "hello: the first message of a stream is something else",
            ));
        };
        if hello.instance_id.is_empty() || hello.instance_id.len() > LONGEST_INSTANCE {
            let problem = format!("hello.instance_id: must have 1 to {LONGEST_INSTANCE} bytes");
            return Err(Status::invalid_argument(problem));
        }
        Ok(Some(hello))
    }

    async fn listen(&mut self, mut standing: Standing) -> Result<(), Status> {
        let mut cancellations = self.gateway.cancellations();
        let draining = self.gateway.draining();
        let mut closes_at = None;
        loop {
            let farewell = async {
                match closes_at {
                    Some(at) => sleep_until(at).await,
                    None => draining.cancelled().await,
                }
            };
            tokio::select! {
                end = standing.sitting.displaced() => return Err(end),
                () = self.outbound.closed() => return Ok(()),
                () = farewell => {
                    if closes_at.is_some() {
                        return Err(errors::closing());
                    }
                    closes_at = Some(Instant::now() + self.options.farewell);
                    self.say(self.go_away(), &mut standing).await?;
                }
                notice = cancellations.next() => self.say(cancel(notice), &mut standing).await?,
                arrived = batch(&mut self.inbound) => {
                    if let Some(end) = self.take_in(arrived, &mut standing).await? {
                        return end;
                    }
                }
            }
        }
    }

    fn go_away(&self) -> report_envelopes_response::Kind {
        let after = prost_types::Duration::try_from(self.options.reconnect_after).unwrap_or_default();
        report_envelopes_response::Kind::GoAway(GoAway {
            reconnect_after: Some(after),
        })
    }

    /// Stores a batch and acknowledges it. What came in order before a mistake is stored all the same.
    async fn take_in(
        &mut self,
        arrived: Batch<ReportEnvelopesRequest>,
        standing: &mut Standing,
    ) -> Result<Option<Result<(), Status>>, Status> {
        let mut reports = Vec::with_capacity(arrived.messages.len());
        let mut end = arrived.end;
        for message in arrived.messages {
            match in_order(message, standing.last) {
                Ok(report) => {
                    standing.last = report.sequence;
                    reports.push(report);
                }
                Err(mistake) => {
                    end = Some(Err(mistake));
                    break;
                }
            }
        }
        if !reports.is_empty() {
            let stored = &mut *standing.sitting.stored;
            let refusals = store(&self.gateway, &self.options, reports, *stored).await?;
            *stored = standing.last.max(*stored);
            let ack = ReportAck {
                sequence: standing.last,
                refusals,
            };
            self.say(report_envelopes_response::Kind::Ack(ack), standing)
                .await?;
        }
        Ok(end)
    }

    /// Says something. Waits while the sidecar does not read, unless it has opened a newer stream; the connection's own
    /// checks end that of a dead one.
    async fn say(
        &self,
        kind: report_envelopes_response::Kind,
        standing: &mut Standing,
    ) -> Result<(), Status> {
        let response = ReportEnvelopesResponse { kind: Some(kind) };
        tokio::select! {
            biased;
            sent = self.outbound.send(Ok(response)) => sent.map_err(|_| Status::cancelled("the sidecar has gone")),
            end = standing.sitting.displaced() => Err(end),
        }
    }
}

fn cancel(notice: CancelNotice) -> report_envelopes_response::Kind {
    report_envelopes_response::Kind::Cancel(v1::CancelNotice {
        envelope_id: notice.envelope_id,
        attempt: notice.attempt,
        keep_until: Some(timestamp(notice.keep_until)),
        reason: notice.reason,
    })
}

/// The report in a message that is not the first one.
fn in_order(message: ReportEnvelopesRequest, last: u64) -> Result<EnvelopeReport, Status> {
    match message.kind {
        Some(report_envelopes_request::Kind::Report(report)) if report.sequence > last => Ok(report),
        Some(report_envelopes_request::Kind::Report(report)) => Err(Status::invalid_argument(format!(
            "report.sequence: {} after {last}; within a stream it rises, beginning with 1 or more",
            report.sequence
        ))),
        Some(report_envelopes_request::Kind::Hello(_)) => Err(Status::invalid_argument(
            "hello: only the first message of a stream may be one",
        )),
        None => Err(Status::invalid_argument(
            "a message that is neither hello nor report",
        )),
    }
}

/// Stores reports in their order; what remains are those that change nothing for good. `known` is the last sequence
/// number of this process that was stored before.
async fn store(
    gateway: &Gateway,
    options: &GrpcOptions,
    reports: Vec<EnvelopeReport>,
    known: u64,
) -> Result<Vec<ReportRefusal>, Status> {
    let now = Utc::now();
    let mut work = Work {
        gateway,
        waiting: Vec::with_capacity(reports.len()),
        refusals: Vec::new(),
    };
    for report in reports {
        let sequence = report.sequence;
        let bytes = report.encoded_len();
        if bytes > options.max_report_bytes {
            work.refuse(
                sequence,
                Refused::too_large(bytes as u64, options.max_report_bytes as u64),
            );
            continue;
        }
        match read_report(report, now) {
            Err(refused) => work.refuse(sequence, refused),
            Ok(Told::Event(report)) if sequence <= known && only_adds(&report.event) => {}
            Ok(Told::Event(report)) => work.waiting.push((sequence, report)),
            Ok(Told::Child(child)) => work.register(sequence, child).await?,
        }
    }
    work.apply().await?;
    work.refusals.sort_by_key(|refusal| refusal.sequence);
    Ok(work.refusals)
}

/// Whether a repeat of it would not be recognised by what is stored.
fn only_adds(event: &ReportEvent) -> bool {
    matches!(
        event,
        ReportEvent::Progress(_) | ReportEvent::Retry(_) | ReportEvent::Partial(_)
    )
}

struct Work<'a> {
    gateway: &'a Gateway,
    /// Read and not yet stored, with their sequence numbers.
    waiting: Vec<(u64, Report)>,
    refusals: Vec<ReportRefusal>,
}

impl Work<'_> {
    fn refuse(&mut self, sequence: u64, refused: Refused) {
        tracing::debug!(sequence, reason = ?refused.reason, message = refused.message, "report refused");
        self.refusals.push(ReportRefusal {
            sequence,
            reason: refused.reason.into(),
            message: refused.message,
        });
    }

    /// Stores what waits.
    async fn apply(&mut self) -> Result<(), Status> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let (sequences, reports): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting).into_iter().unzip();
        let applied = self.gateway.report(ReportSource::Grpc, reports).await;
        let applied = applied.map_err(|error| errors::report(&error))?;
        for (sequence, applied) in sequences.into_iter().zip(applied) {
            if applied == Applied::Unknown {
                self.refuse(sequence, Refused::unknown());
            }
        }
        Ok(())
    }

    /// Stores a further envelope, after what was reported before it.
    async fn register(&mut self, sequence: u64, child: NewEnvelope) -> Result<(), Status> {
        self.apply().await?;
        let parent = child.parent_id.clone();
        let created = self.gateway.register_child(ReportSource::Grpc, child).await;
        match created {
            Err(RegisterError::Store(error)) => return Err(errors::report(&error)),
            Err(RegisterError::NotStorable(problem)) => self.refuse(
                sequence,
                Refused {
                    reason: ReportRefusalReason::Invalid,
                    message: problem.to_string(),
                },
            ),
            Ok(Created::New(_) | Created::Existing(_)) => {}
            // Announced twice with routes that differ, by a handler that answers differently each time, or after the
            // end actor announced it: the first one counts.
            Ok(Created::Conflict(there)) if there.parent_id == parent => {}
            Ok(Created::Conflict(_)) => self.refuse(
                sequence,
                Refused {
                    reason: ReportRefusalReason::Invalid,
                    message: "envelope_id: an envelope with another parent has it".to_owned(),
                },
            ),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn message(sequence: u64) -> ReportEnvelopesRequest {
        ReportEnvelopesRequest {
            kind: Some(report_envelopes_request::Kind::Report(EnvelopeReport {
                sequence,
                ..EnvelopeReport::default()
            })),
        }
    }

    #[test]
    fn sequence_numbers_rise_and_may_leave_gaps() {
        for (sequence, last) in [(1, 0), (9, 0), (9, 4), (u64::MAX, u64::MAX - 1)] {
            assert_eq!(in_order(message(sequence), last).unwrap().sequence, sequence);
        }
        for (sequence, last) in [(0, 0), (4, 4), (3, 4), (u64::MAX, u64::MAX)] {
            assert_eq!(
                in_order(message(sequence), last).unwrap_err().code(),
                Code::InvalidArgument
            );
        }
        let hello = report_envelopes_request::Kind::Hello(SidecarHello::default());
        for kind in [None, Some(hello)] {
            let end = in_order(ReportEnvelopesRequest { kind }, 3).unwrap_err();
            assert_eq!(end.code(), Code::InvalidArgument);
        }
    }
}
