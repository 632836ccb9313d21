//! The task that keeps the stream: finds out whether the gateway offers gRPC, opens the stream, hears answers, opens the
//! next one.
//!
//! Reports go over HTTP until a stream was welcomed. From then on they wait for a stream, until the gateway shows that
//! it answers HTTP and offers no gRPC any more: then what was not acknowledged is told over HTTP.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use asya_proto::status::v1::{GoAway, ReportEnvelopesResponse, report_envelopes_response::Kind as Heard};

use tonic::{Code, Status};

use super::dial::{self, Line, Problem};
use super::wire;
use crate::context::backoff;
use crate::gateway::Desk;
use crate::gateway::client::Answer;
use crate::notices::CancelNotice;

/// First and longest pause after a stream that brought nothing, before jitter.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));

/// A stream that lived so long was a good one, even without anything to acknowledge.
const GOOD: Duration = Duration::from_secs(10);

/// Longest time that a gateway can keep us away.
const LONGEST_AWAY: Duration = Duration::from_mins(1);

/// Longest pause, by chance, after what the gateway asked for when it went away.
const AFTER_GO_AWAY: Duration = Duration::from_secs(1);

/// Times in a row that a gateway may answer HTTP and nothing in gRPC, after it did: a network that comes and goes looks
/// the same.
const MOST_SILENCES: u32 = 3;

/// Streams in a row that the gateway may end for what was sent, before reports go over HTTP.
const MOST_OFFENCES: u32 = 3;

/// How long a notice is kept that does not say so.
const KEEP: chrono::TimeDelta = chrono::TimeDelta::hours(24);

/// Why a stream is over.
enum End {
    /// This side has closed it.
    Closed,
    /// The gateway goes away; not to come back before.
    GoAway(Duration),
    /// It broke.
    Broken(String, Blame),
}

/// Who is to blame for a stream that broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blame {
    /// Nobody, or the network, or a gateway that cannot now.
    Nobody,
    /// The gateway says that something sent can never be taken: sending it again would end the next stream, too.
    Report,
}

/// Keeps the stream until this side is closed.
pub(in crate::gateway) async fn keep(desk: Arc<Desk>) {
    let Some(grpc) = &desk.grpc else {
        return;
    };
    let mut history = History::default();
    loop {
        let dialling = dial::dial(&desk.options, &grpc.instance, &grpc.window);
        let dialled = tokio::select! {
            dialled = dialling => dialled,
            () = grpc.closed.cancelled(), if grpc.window.is_empty() => return,
        };
        let pause = match dialled {
            Ok(line) => {
                let began = Instant::now();
                let (end, was_good) = serve(&desk, line).await;
                if was_good || began.elapsed() > GOOD {
                    history = History::default();
                }
                match end {
                    End::Closed => return,
                    End::GoAway(after) => after.min(LONGEST_AWAY) + jitter(AFTER_GO_AWAY),
                    End::Broken(reason, blame) => after_break(&desk, &mut history, &reason, blame),
                }
            }
            Err(problem) => {
                history.failures += 1;
                after_problem(&desk, &mut history, problem).await
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = grpc.closed.cancelled(), if !history.is_last => {
                // What is here may still be told, if the gateway is there.
                if grpc.window.is_empty() {
                    return;
                }
                history.is_last = true;
            }
        }
        if history.is_last && history.failures > 1 {
            return;
        }
    }
}

/// What has happened since the last good stream.
#[derive(Default)]
struct History {
    failures: u32,
    /// Streams in a row that the gateway ended for what was sent on them.
    offences: u32,
    /// Times in a row that it answered HTTP and nothing in gRPC.
    silences: u32,
    /// This side ends, and tries no more.
    is_last: bool,
}

/// What to do after a stream broke; returns how long to wait before the next one.
fn after_break(desk: &Desk, history: &mut History, reason: &str, blame: Blame) -> Duration {
    tracing::debug!(%reason, "the stream to the gateway is over");
    history.failures += 1;
    match blame {
        Blame::Nobody => history.offences = 0,
        Blame::Report => history.offences += 1,
    }
    if history.offences >= MOST_OFFENCES {
        tracing::warn!(%reason, "the gateway takes no reports over gRPC: they go over HTTP for a while");
        desk.fall_back();
        history.offences = 0;
        return desk.options.probe_every;
    }
    // The first time at once: a stream may end for reasons of the network alone.
    match history.failures {
        1 => Duration::ZERO,
        failures => next_pause(failures - 2),
    }
}

/// What to do without a stream; returns how long to wait before the next try.
async fn after_problem(desk: &Desk, history: &mut History, problem: Problem) -> Duration {
    let Some(grpc) = &desk.grpc else {
        return desk.options.probe_every;
    };
    let was_on = grpc.window.is_on();
    let (reason, speaks_http) = match problem {
        Problem::Refused(reason) => (reason, false),
        Problem::NotOffered(reason) => (reason, true),
        Problem::Silent(reason) => {
            let answers_http = !matches!(desk.client.health().await, Answer::Unavailable(_));
            history.silences = if answers_http { history.silences + 1 } else { 0 };
            (
                reason,
                answers_http && (!was_on || history.silences >= MOST_SILENCES),
            )
        }
    };
    if speaks_http {
        if was_on {
            tracing::info!(gateway = %desk.options.address, %reason, "the gateway offers no gRPC any more: reports go over HTTP");
            desk.fall_back();
        } else {
            tracing::debug!(%reason, "the gateway offers no gRPC");
        }
        return desk.options.probe_every + jitter(desk.options.probe_every / 10);
    }
    if was_on {
        desk.circuit.lost(&reason);
    } else {
        tracing::debug!(%reason, "whether the gateway offers gRPC is not known");
    }
    next_pause(history.failures - 1).min(desk.options.probe_every)
}

/// Hears what comes on a stream, to its end; also tells whether anything was acknowledged.
async fn serve(desk: &Desk, line: Line) -> (End, bool) {
    let Some(grpc) = &desk.grpc else {
        return (End::Closed, false);
    };
    if !grpc.window.is_on() && !grpc.closed.is_cancelled() {
        tracing::info!(gateway = %desk.options.address, "reports go over gRPC");
    }
    let Line {
        welcome,
        mut answers,
        go,
    } = line;
    let number = grpc
        .window
        .open(welcome.max_unacknowledged, welcome.max_report_bytes);
    desk.circuit.restored();
    if go.send(number).is_err() {
        grpc.window.down();
        let reason = "it ended before its first report";
        return (End::Broken(reason.into(), Blame::Nobody), false);
    }
    let mut was_good = false;
    let mut away: Option<(Duration, Instant)> = None;
    let end = loop {
        let answer = tokio::select! {
            answer = answers.message() => answer,
            () = silence(desk, away.map(|(_, until)| until)) => {
                break End::Broken("no acknowledgement in time".into(), Blame::Nobody);
            }
            () = grpc.closed.cancelled(), if !grpc.window.is_closing() => {
                grpc.window.close();
                continue;
            }
        };
        match answer {
            Ok(Some(answer)) => match hear(desk, answer) {
                ControlFlow::Continue(acknowledged) => was_good |= acknowledged,
                ControlFlow::Break(after) => {
                    away = Some((after, Instant::now() + desk.options.request_timeout));
                }
            },
            Ok(None) if grpc.window.is_closing() && grpc.window.is_empty() => break End::Closed,
            Ok(None) => break End::Broken("the gateway ended it".into(), Blame::Nobody),
            Err(status) => break End::Broken(dial::explain(&status), blame(&status)),
        }
    };
    grpc.window.down();
    let end = match (end, away) {
        (End::Broken(..), Some((after, _))) => End::GoAway(after),
        (end, _) => end,
    };
    (end, was_good)
}

fn blame(status: &Status) -> Blame {
    match status.code() {
        Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition => Blame::Report,
        _ => Blame::Nobody,
    }
}

/// One message of the gateway: breaks with the time that it wants to be left alone, else tells whether something was
/// acknowledged.
fn hear(desk: &Desk, answer: ReportEnvelopesResponse) -> ControlFlow<Duration, bool> {
    let Some(grpc) = &desk.grpc else {
        return ControlFlow::Continue(false);
    };
    match answer.kind {
        Some(Heard::Ack(ack)) => {
            for (note, fate) in grpc.window.acknowledge(ack) {
                desk.count(&note, &fate);
            }
            return ControlFlow::Continue(true);
        }
        Some(Heard::Cancel(notice)) => desk.notices.add(CancelNotice {
            envelope_id: notice.envelope_id,
            attempt: (notice.attempt > 0).then_some(notice.attempt),
            keep_until: notice
                .keep_until
                .as_ref()
                .and_then(wire::time)
                .unwrap_or_else(|| chrono::Utc::now() + KEEP),
            reason: notice.reason,
        }),
        Some(Heard::GoAway(GoAway { reconnect_after })) => {
            grpc.window.leave();
            let after = reconnect_after.and_then(|after| Duration::try_from(after).ok());
            return ControlFlow::Break(after.unwrap_or_default());
        }
        // A second welcome says nothing new, and what is not known yet is ignored.
        Some(Heard::Welcome(_)) | None => {}
    }
    ControlFlow::Continue(false)
}

/// Resolves when a report has waited for its acknowledgement for as long as one request may take, or at `end`.
async fn silence(desk: &Desk, end: Option<Instant>) {
    let Some(grpc) = &desk.grpc else {
        return std::future::pending().await;
    };
    let patience = desk.options.request_timeout;
    loop {
        let now = Instant::now();
        let due = grpc.window.oldest().unwrap_or(now) + patience;
        let due = end.map_or(due, |end| due.min(end));
        if due <= now {
            return;
        }
        tokio::time::sleep_until(due.into()).await;
    }
}

/// Half of it at least; the rest by chance, so that the sidecars of a gateway do not come back together.
fn next_pause(failures: u32) -> Duration {
    let full = backoff(PAUSE.0, PAUSE.1, failures);
    full / 2 + jitter(full / 2)
}

fn jitter(most: Duration) -> Duration {
    most.mul_f64(rand::random_range(0.0..1.0))
}
