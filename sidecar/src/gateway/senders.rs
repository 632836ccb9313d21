//! The tasks that send what waits in the backlogs. They end when their backlog is closed and empty.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;

use super::backlog::Waiting;
use super::client::Answer;
use super::grpc::Told;
use super::note::{Fact, Note};
use super::{Desk, bodies};
use crate::notices::CancelNotice;

/// Tries of a registration that the gateway answered with an unclear error.
const TRIES: usize = 3;

/// Pause between them.
const PAUSE: Duration = Duration::from_millis(200);

/// How long it is remembered that an envelope was cancelled, where the gateway does not say.
const KEEP: chrono::TimeDelta = chrono::TimeDelta::hours(24);

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

async fn send(desk: &Desk, report: Waiting<Note>) {
    let Waiting { what, until, .. } = report;
    let mut note = what;
    if let Some(grpc) = desk.grpc.as_ref().filter(|grpc| grpc.is_on()) {
        match grpc.tell(note, until).await {
            (Told::Off, Some(left)) => note = left,
            (Told::Late, _) => return desk.counters.progress_dropped.one(),
            (Told::TooLarge, _) => return desk.counters.progress_refused.one(),
            _ => return,
        }
    }
    send_over_http(desk, &note, until).await;
}

async fn send_over_http(desk: &Desk, note: &Note, until: Instant) {
    let (now, counters) = (Instant::now(), &desk.counters);
    let (Some(body), true) = (bodies::progress(note), now < until) else {
        return counters.progress_dropped.one();
    };
    let Ok(permit) = desk.circuit.permit(now) else {
        return counters.progress_dropped.one();
    };
    let (answer, is_cancelled) = desk.client.post_progress(&note.id, body).await;
    if is_cancelled {
        desk.notices.add(CancelNotice {
            envelope_id: note.id.clone().into(),
            attempt: Some(note.attempt),
            keep_until: Utc::now() + KEEP,
            reason: String::new(),
        });
    }
    match answer {
        Answer::Accepted => {
            counters.progress_sent.one();
            permit.answered();
        }
        Answer::Unavailable(reason) => {
            counters.progress_failed.one();
            permit.failed(&reason);
        }
        refused => {
            tracing::debug!(envelope = %note.id, answer = ?refused, "the gateway did not take progress");
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
            register(&desk, child).await;
        }
        backlog.done();
    }
}

/// Makes a child known, if that is possible before it is too old.
pub(super) async fn register(desk: &Desk, child: Waiting<Note>) {
    let Waiting { what, until, .. } = child;
    let mut note = what;
    let told = loop {
        if let Some(grpc) = desk.grpc.as_ref().filter(|grpc| grpc.is_on()) {
            match grpc.tell(note, until).await {
                (Told::Off, Some(left)) => note = left,
                (Told::Yes(()), _) | (_, None) => return, // What becomes of it is counted with its acknowledgement.
                (_, Some(left)) => {
                    note = left;
                    break Err("the gateway is away".into());
                }
            }
        }
        let turned = async {
            match &desk.grpc {
                Some(grpc) => grpc.on().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            told = register_over_http(desk, &note, until) => break told,
            () = turned => {}
        }
    };
    match told {
        Ok(()) => desk.counters.children_sent.one(),
        Err(reason) => {
            tracing::debug!(envelope = %note.id, %reason, "the gateway did not take note of a child");
            desk.counters.children_lost.one();
        }
    }
}

/// Tries until the gateway has answered for good, or the child is too old.
async fn register_over_http(desk: &Desk, child: &Note, until: Instant) -> Result<(), String> {
    let Fact::Child { parent_id } = &child.fact else {
        return Err("not a child".into());
    };
    let body = bodies::child(child, parent_id);
    let mut last = String::from("the gateway is away");
    let mut tries = 0;
    while let Some(permit) = desk.circuit.wait(until, &desk.hurry).await {
        match desk.client.post_child(body.clone()).await {
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
