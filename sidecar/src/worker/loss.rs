//! What becomes of requests whose worker is lost.

use std::time::Duration;

use asya_runtime_protocol::v2::{Gone, LinkEvent};
use futures::FutureExt as _;
use ractor::ActorProcessingErr;
use tokio::time::timeout;

use super::blame::{Fate, Loss, Unanswered, WorkerEnd, fate, may_have_run};
use super::desk::{Desk, MOST_AT_ONCE, is_expired};
use crate::death::{Death, End};
use crate::ledger::{CallOutcome, Isolation};

/// How long it is waited for that the runtime tells how a worker ended.
const NEWS: Duration = Duration::from_secs(2);

impl Desk<'_> {
    /// The connection is over: each unanswered request gets its outcome or is put back.
    pub(super) async fn settle_loss(mut self, loss: Loss) -> Result<(), ActorProcessingErr> {
        let loss = self.last_words(loss);
        let unread = if self.link.is_newest_unread() {
            self.flights.in_newest_call()
        } else {
            0
        };
        let flights = self.flights.end_all();
        let ran = may_have_run(loss, flights.len(), unread, self.session.window());
        let gone = if ran > 0 { self.news().await } else { None };
        let end = WorkerEnd {
            ran,
            was_killed: self.killed.is_some() || gone.as_ref().is_some_and(|gone| gone.killed),
            of_all: ran > 0 && gone.is_none(),
        };
        let (mut again, mut apart) = (Vec::new(), Vec::new());
        for (before, mut flight) in flights.into_iter().enumerate() {
            let Some(id) = flight.entry else {
                continue; // A ghost is to blame like any other, but nobody waits for it.
            };
            let request = Unanswered {
                before,
                asked: flight.asked(),
                is_expired: is_expired(&flight),
                is_isolated: flight.is_isolated,
            };
            let outcome = match fate(&end, &request) {
                Fate::Again => {
                    again.push(id);
                    continue;
                }
                Fate::AgainAlone => {
                    apart.push(id);
                    continue;
                }
                Fate::Died => CallOutcome::Died(death(gone.as_ref())),
                Fate::TimedOut => CallOutcome::Timeout,
                Fate::Cancelled => CallOutcome::Cancelled,
            };
            let outcome = flight.spoiled.take().unwrap_or(outcome);
            self.finish(id, flight, outcome);
        }
        let (seat, context) = (self.seat, &self.seat.context);
        if !apart.is_empty() {
            tracing::warn!(
                actor = %context.actor, worker = %self.id, requests = apart.len(), whole_runtime = end.of_all,
                "nobody knows which request has ended a worker; each of them runs again alone"
            );
        }
        let isolation = if end.of_all {
            Isolation::Runtime
        } else {
            Isolation::Worker
        };
        // What comes last is the first in line.
        context
            .ledger
            .give_back(seat.index, seat.generation, &again, Isolation::None);
        context
            .ledger
            .give_back(seat.index, seat.generation, &apart, isolation);
        context.doors.wake_slots();
        self.hand_over().await
    }

    /// Takes what the worker has said and nobody has read: it may have been held up when it ended.
    fn last_words(&mut self, loss: Loss) -> Loss {
        for _ in 0..MOST_AT_ONCE {
            match self.link.next().now_or_never() {
                Some(Ok(LinkEvent::Goodbye)) => return Loss::Goodbye,
                Some(Ok(event)) => self.take(event),
                Some(Err(_)) | None => break,
            }
        }
        loss
    }

    /// How the worker ended, if the runtime is there to tell.
    async fn news(&mut self) -> Option<Gone> {
        let told = async {
            loop {
                if let Some(gone) = self.session.gone(self.id) {
                    return Some(gone);
                }
                let mut sessions = self.seat.context.session.subscribe();
                let is_over = sessions.borrow_and_update().is_none();
                if is_over {
                    return None;
                }
                tokio::select! {
                    changed = self.workers.changed() => changed.ok()?,
                    changed = sessions.changed() => changed.ok()?,
                }
            }
        };
        timeout(NEWS, told).await.unwrap_or_default()
    }
}

fn death(gone: Option<&Gone>) -> Death {
    let end = gone.map(|gone| End {
        signal: gone.signal,
        signal_name: gone.signal_name.as_deref(),
        exit_code: gone.exit_code,
        oom: gone.oom,
    });
    Death::of(&end.unwrap_or_default())
}
