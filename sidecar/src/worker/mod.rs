//! Serving one worker of a runtime that speaks protocol v2: many requests on one lasting connection.
//!
//! What it is: the task behind a slot. It connects to its worker whenever that takes requests, gives it work, watches
//! the time, takes in streamed items, and says what becomes of requests whose worker is lost. What it is not: it keeps
//! nothing that the ledger does not know; when it ends, what it had in hand is put back.
//!
//! The loop is in [`desk`]; the decisions are pure: [`ahead`], [`gather`], [`blame`]; [`flights`] is the bookkeeping.

mod ahead;
mod blame;
mod desk;
mod flights;
mod gather;
mod giving;
mod loss;
mod streaming;
mod watching;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use asya_runtime_protocol::v2::{ConnectError, WorkerId, WorkerLink};
use ractor::ActorProcessingErr;
use tokio::sync::watch;

use crate::context::{Context, SlotDoor, backoff};
use crate::ledger::Generation;
use crate::session::Session;
use desk::Desk;

pub(crate) use ahead::share;

/// First and longest pause before a worker that did not greet is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// How much longer than the grace of a cancelled request a worker may take to greet: it may still be ending the
/// requests of an earlier connection.
const GREETING: Duration = Duration::from_secs(2);

/// The place of one slot.
pub(crate) struct Seat {
    pub(crate) context: Arc<Context>,
    pub(crate) index: usize,
    pub(crate) generation: Generation,
    pub(crate) door: Arc<SlotDoor>,
}

/// Serves the worker of this seat for ever, whichever process that is. An error is a fault of the slot.
pub(crate) async fn serve(seat: Seat) -> Result<(), ActorProcessingErr> {
    let door = Arc::clone(&seat.door);
    let _place = door.place.lock().await;
    door.is_linked.store(false, Ordering::Release);
    let mut sessions = seat.context.session.subscribe();
    let mut failures = 0;
    loop {
        let (session, id) = next_worker(&seat, &mut sessions).await?;
        match connect(&seat, &session, id).await {
            Ok(link) => {
                failures = 0;
                Desk::new(&seat, session, id, link).run().await?;
            }
            Err(error) => {
                let wait = backoff(RETRY.0, RETRY.1, failures);
                tracing::debug!(actor = %seat.context.actor, worker = %id, %error, ?wait, "the worker does not greet");
                failures = failures.saturating_add(1);
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// Waits until the worker takes requests, and was not told to end.
async fn next_worker(
    seat: &Seat,
    sessions: &mut watch::Receiver<Option<Arc<Session>>>,
) -> Result<(Arc<Session>, WorkerId), ActorProcessingErr> {
    loop {
        let session = sessions.borrow_and_update().clone();
        let Some(session) = session else {
            sessions.changed().await?;
            continue;
        };
        let mut workers = session.workers.subscribe();
        if let Some(id) = session.ready_worker(seat.index) {
            if !seat.door.was_killed(&session.advert.nonce, id) {
                return Ok((session, id));
            }
            // The session that was to pass it on may have ended before.
            kill(seat, &session, id, seat.door.oldest.load(Ordering::Relaxed));
        }
        tokio::select! {
            changed = sessions.changed() => changed?,
            changed = workers.changed() => changed?,
        }
    }
}

async fn connect(seat: &Seat, session: &Session, id: WorkerId) -> Result<WorkerLink, ConnectError> {
    let most = seat.context.config.max_message_size;
    let limit = session.welcome.cancel_grace + GREETING;
    let mut connected = WorkerLink::connect(&session.advert, id, most, limit).await;
    match &mut connected {
        // Commands that were meant for requests of an earlier connection may still be on their way.
        Ok(link) => link.tags_after(seat.door.newest.load(Ordering::Relaxed)),
        // It hangs in a request that a slot before this one has sent.
        Err(ConnectError::TimedOut { .. }) => {
            kill(seat, session, id, seat.door.oldest.load(Ordering::Relaxed));
        }
        Err(_) => {}
    }
    connected
}

/// Has a worker replaced because of a request. It is not used again.
fn kill(seat: &Seat, session: &Session, id: WorkerId, tag: u32) {
    seat.door.note_killed(&session.advert.nonce, id);
    session.kill(id, tag);
}
