//! The tasks that send what waits in the backlogs. They end when their backlog is closed and empty.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Desk;
use super::backlog::Waiting;
use super::client::Answer;

/// Tries of a registration that the gateway answered with an unclear error.
const TRIES: usize = 3;

/// Pause between them.
const PAUSE: Duration = Duration::from_millis(200);

/// Asks the gateway how it is, so that a wrong URL is known at the start and not with the first message.
pub(super) async fn greet(desk: Arc<Desk>) {
    let Ok(permit) = desk.circuit.permit(Instant::now()) else {
        return; // Somebody has found out already.
    };
    let health = tokio::select! {
        health = desk.client.health() => health,
        () = desk.hurry.cancelled() => return,
    };
    match health {
        Answer::Unavailable(reason) => permit.failed(&reason),
        Answer::Accepted => permit.answered(),
        other => {
            permit.answered();
            tracing::warn!(
                gateway = %desk.options.address, answer = ?other,
                "the gateway does not answer GET /health as a gateway does: is ASYA_GATEWAY_URL right?"
            );
        }
    }
}

/// Sends the progress of one lane, envelope by envelope.
pub(super) async fn send_progress(desk: Arc<Desk>, lane: usize) {
    let backlog = &desk.progress[lane];
    while let Some(reports) = backlog.take().await {
        for report in reports {
            send(&desk, report).await;
        }
        backlog.done();
    }
}

async fn send(desk: &Desk, report: Waiting) {
    let (now, counters) = (Instant::now(), &desk.counters);
    let permit = match desk.circuit.permit(now) {
        Ok(permit) if now < report.until => permit,
        _ => return counters.progress_dropped.one(),
    };
    match desk.client.post_about(&report.id, "progress", report.body).await {
        Answer::Accepted => {
            counters.progress_sent.one();
            permit.answered();
        }
        Answer::Unavailable(reason) => {
            counters.progress_failed.one();
            permit.failed(&reason);
        }
        refused => {
            tracing::debug!(envelope = %report.id, answer = ?refused, "the gateway did not take progress");
            counters.progress_refused.one();
            permit.answered();
        }
    }
}

/// Makes the children of one lane known.
pub(super) async fn register_children(desk: Arc<Desk>, lane: usize) {
    let backlog = &desk.children[lane];
    while let Some(children) = backlog.take().await {
        for child in children {
            let counter = match register(&desk, &child).await {
                Ok(()) => &desk.counters.children_sent,
                Err(reason) => {
                    tracing::debug!(envelope = %child.id, %reason, "the gateway did not take note of a child");
                    &desk.counters.children_lost
                }
            };
            counter.one();
        }
        backlog.done();
    }
}

/// Tries until the gateway has answered for good, or the child is too old.
async fn register(desk: &Desk, child: &Waiting) -> Result<(), String> {
    let mut last = String::from("the gateway is away");
    let mut tries = 0;
    while let Some(permit) = desk.circuit.wait(child.until, &desk.hurry).await {
        match desk.client.post_child(child.body.clone()).await {
            Answer::Accepted => {
                permit.answered();
                return Ok(());
            }
            Answer::Unavailable(reason) => {
                permit.failed(&reason);
                last = reason;
            }
            Answer::Unclear(reason) => {
                permit.answered();
                tries += 1;
                if tries == TRIES {
                    return Err(reason);
                }
                tokio::time::sleep(PAUSE).await;
            }
            refused => {
                permit.answered();
                return Err(format!("{refused:?}"));
            }
        }
    }
    Err(last)
}
