//! The final word about an envelope: an output of its end actor, so it is tried until the gateway has it or the message
//! goes back to its queue (rulings 6).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;
use tokio::sync::Semaphore;

use super::backlog::Waiting;
use super::bodies::{self, Detail};
use super::circuit::Permit;
use super::client::Answer;
use super::grpc::{Grpc, Told};
use super::note::{Fact, Note};
use super::{Desk, lane, senders};
use crate::report::{FinalReport, ReportError};
use asya_runtime_protocol::Envelope;

/// Final reports under way at once.
const AT_ONCE: usize = 32;

/// Pauses between the tries after an unclear answer. Short, since an original gateway answers so for every envelope
/// that it does not know, and the message waits.
const PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(100)];

/// Least time between two log lines about final reports that were given up; the figures count all of them.
const QUIET: Duration = Duration::from_mins(1);

/// What all final reports share.
pub(super) struct Finals {
    room: Semaphore,
    complained: Mutex<Option<Instant>>,
}

/// What to do after an answer.
enum Step {
    Done,
    /// Once more, with less in it.
    Shorten,
    /// Once more after a pause.
    Again(Duration),
    /// The gateway has failed or refused for good.
    GiveUp(String),
    /// The gateway is away.
    Wait(String),
}

impl Finals {
    pub(super) fn new() -> Self {
        Self {
            room: Semaphore::new(AT_ONCE),
            complained: Mutex::new(None),
        }
    }

    fn complain(&self, envelope: &str, reason: &str) {
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if complained.is_none_or(|last| now.saturating_duration_since(last) >= QUIET) {
            *complained = Some(now);
            tracing::warn!(
                %envelope, %reason,
                "the gateway does not take a final report, which is given up; others like it are only counted for a minute"
            );
        }
    }
}

/// Tells the final word. An error means: not now, keep the message.
pub(super) async fn finish(desk: Arc<Desk>, report: FinalReport) -> Result<(), ReportError> {
    let deadline = Instant::now() + desk.options.final_patience;
    quiet(&desk, &report.id, deadline).await;
    let told = match desk.finals.room.acquire().await {
        Ok(_room) => tell(&desk, &report, deadline).await,
        Err(_) => Err(ReportError("the reporter has ended".into())),
    };
    if told.is_err() {
        desk.counters.finals_returned.one();
    }
    told
}

/// No progress of an envelope may come after its end. On a stream it is told before. Over HTTP what waits is dropped, and
/// what is under way is waited for, which takes the time of one request; the limit is for a task that has died.
async fn quiet(desk: &Desk, id: &str, deadline: Instant) {
    let key = desk.key(id);
    let lane = lane(&desk.progress, key);
    if desk.grpc.as_ref().is_some_and(Grpc::is_on) {
        tokio::select! {
            () = lane.settled(key) => {}
            () = tokio::time::sleep_until(deadline.into()) => {}
            () = desk.hurry.cancelled() => {}
        }
    } else {
        let quiet = tokio::time::timeout(2 * desk.options.request_timeout, lane.quiet(key)).await;
        desk.counters.progress_dropped.add(quiet.unwrap_or_default());
    }
}

async fn tell(desk: &Desk, report: &FinalReport, deadline: Instant) -> Result<(), ReportError> {
    let mut detail = Detail::Full;
    let mut tries = 0;
    let mut introduced = false;
    let mut last = String::from("the gateway is away");
    while let Some(answer) = ask(desk, report, detail, deadline).await {
        if answer == Answer::Unknown && !introduced && introduce(desk, report, deadline).await {
            introduced = true;
            continue;
        }
        match step(desk, answer, detail, tries) {
            Step::Done => return Ok(()),
            Step::Shorten => detail = Detail::StatusOnly,
            Step::Again(pause) => {
                tries += 1;
                tokio::time::sleep(pause).await;
            }
            Step::GiveUp(reason) => {
                desk.counters.finals_dropped.one();
                desk.finals.complain(&report.id, &reason);
                return Ok(());
            }
            Step::Wait(reason) => last = reason,
        }
    }
    Err(ReportError(last))
}

/// Tells it once, in the protocol of the moment; `None` when the time is over, or there is none to wait.
async fn ask(desk: &Desk, report: &FinalReport, detail: Detail, deadline: Instant) -> Option<Answer> {
    loop {
        if let Some(grpc) = desk.grpc.as_ref().filter(|grpc| grpc.is_on()) {
            match grpc.finish(report, detail, deadline).await {
                Told::Yes(answer) => return Some(answer),
                Told::TooLarge => return Some(Answer::TooLarge),
                Told::Late => return None,
                Told::Off => {}
            }
        }
        let turned = async {
            match &desk.grpc {
                Some(grpc) => grpc.on().await,
                None => std::future::pending().await,
            }
        };
        // Whoever waits for a gateway that is away is not to miss that it speaks gRPC when it is back. A request that is
        // under way is heard to its end.
        let permit = tokio::select! {
            permit = desk.circuit.wait(deadline, &desk.hurry) => permit?,
            () = turned => continue,
        };
        return Some(ask_over_http(desk, permit, report, detail).await);
    }
}

async fn ask_over_http(desk: &Desk, permit: Permit<'_>, report: &FinalReport, detail: Detail) -> Answer {
    let body = bodies::finished(report, detail, Utc::now());
    let answer = desk.client.post_final(&report.id, body).await;
    match &answer {
        Answer::Unavailable(reason) => permit.failed(reason),
        _ => permit.answered(),
    }
    answer
}

/// The gateway does not know the envelope. If it is a child, its registration may have been lost with the sidecar that
/// split it, or may still be on its way: then it is registered here. False if it is no child.
async fn introduce(desk: &Desk, report: &FinalReport, deadline: Instant) -> bool {
    if !desk.options.register_children {
        return false;
    }
    let Ok(parsed) = Envelope::parse(&report.message) else {
        return false;
    };
    let Some(parent_id) = parsed.envelope.parent_id.as_deref() else {
        return false;
    };
    let fact = Fact::Child {
        parent_id: parent_id.into(),
    };
    let note = Note::about(&parsed.envelope, &parsed.envelope.route.actors, fact);
    senders::register(desk, Waiting::child(note, deadline)).await;
    true
}

/// `tries` is the number of unclear answers so far.
fn step(desk: &Desk, answer: Answer, detail: Detail, tries: usize) -> Step {
    match answer {
        Answer::Accepted => {
            desk.counters.finals_accepted.one();
            Step::Done
        }
        Answer::Unknown => {
            desk.counters.finals_unknown.one();
            Step::Done
        }
        Answer::TooLarge if detail == Detail::Full => Step::Shorten,
        Answer::TooLarge => Step::GiveUp("too large even without the result".into()),
        Answer::Unclear(reason) => PAUSES
            .get(tries)
            .map_or(Step::GiveUp(reason), |pause| Step::Again(*pause)),
        Answer::Refused(reason) => Step::GiveUp(reason),
        Answer::Unavailable(reason) => Step::Wait(reason),
    }
}
