//! The final word about an envelope: an output of its end actor, so it is tried until the gateway has it or the message
//! goes back to its queue (rulings 6).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;
use tokio::sync::Semaphore;

use super::bodies::{self, Detail};
use super::client::Answer;
use super::{Desk, lane};
use crate::report::{FinalReport, ReportError};

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
    // No progress of this envelope may come after its end. The time is that of one request, so this limit is only
    // for a task that has died.
    let key = desk.key(&report.id);
    let quiet = lane(&desk.progress, key).quiet(key);
    if let Ok(dropped) = tokio::time::timeout(2 * desk.options.request_timeout, quiet).await {
        desk.counters.progress_dropped.add(dropped);
    }
    let told = match desk.finals.room.acquire().await {
        Ok(_room) => tell(&desk, &report, deadline).await,
        Err(_) => Err(ReportError("the reporter has ended".into())),
    };
    if told.is_err() {
        desk.counters.finals_returned.one();
    }
    told
}

async fn tell(desk: &Desk, report: &FinalReport, deadline: Instant) -> Result<(), ReportError> {
    let mut detail = Detail::Full;
    let mut tries = 0;
    let mut last = String::from("the gateway is away");
    while let Some(permit) = desk.circuit.wait(deadline, &desk.hurry).await {
        let body = bodies::finished(report, detail, Utc::now());
        let answer = desk.client.post_about(&report.id, "final", body).await;
        match &answer {
            Answer::Unavailable(reason) => permit.failed(reason),
            _ => permit.answered(),
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
