//! What a desk does besides exchanging frames: it watches the time, its worker, the session, and what is cancelled.

use std::time::{Duration, Instant};

use asya_runtime_protocol::v2::CancelReason;

use super::desk::{Desk, KILLED};
use super::flights::{Asked, Overdue};
use crate::context::Readiness;

/// What a worker has written before it ended is read for so long after its end was told: a process that it has left
/// behind may keep the connection open.
const LAST_WORDS: Duration = Duration::from_millis(250);

impl Desk<'_> {
    pub(super) fn ask_cancelled(&mut self) {
        let now = Instant::now();
        for id in self.seat.context.ledger.take_cancelled(self.seat.index) {
            let Some(tag) = self.flights.tag_of(id) else {
                continue;
            };
            if self.flights.ask(tag, Asked::Cancelled, now) {
                self.session.cancel(self.id, tag, CancelReason::Asked);
            } else if !self.flights.has_begun(tag) {
                self.session.cancel(self.id, tag, CancelReason::Asked);
                self.cancel_waiting(tag);
            }
        }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        let flights = self.flights.next_due().filter(|_| self.held_up.is_none());
        let replaced = self.killed.map(|at| at + KILLED);
        [flights, self.gather_until, self.give_up_at, replaced]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due. True when the connection is to be given up.
    pub(super) fn watch_time(&mut self) -> bool {
        let now = Instant::now();
        if self.held_up.is_none() {
            for overdue in self.flights.overdue(now) {
                match overdue {
                    Overdue::Ask(tag) => self.session.cancel(self.id, tag, CancelReason::Deadline),
                    Overdue::Drop(tag) => self.again.extend(self.flights.release(tag)),
                    Overdue::Kill(tag) => {
                        self.killed.get_or_insert(now);
                        super::kill(self.seat, &self.session, self.id, tag);
                    }
                    Overdue::Lost => {
                        if self.seat.context.runtime_control.is_some() {
                            self.seat.context.set_readiness(Readiness::Suspended);
                        }
                        self.session.give_up("a worker that was to be killed lives on");
                        return true;
                    }
                }
            }
        }
        for tag in self.flights.recall(now) {
            self.session.cancel(self.id, tag, CancelReason::Withdrawn);
        }
        let ends = [self.give_up_at, self.killed.map(|at| at + KILLED)];
        ends.into_iter().flatten().any(|end| end <= now)
    }

    pub(super) fn look_at_worker(&mut self) {
        if self.give_up_at.is_none() && self.session.gone(self.id).is_some() {
            self.give_up_at = Some(Instant::now() + LAST_WORDS);
        }
    }

    /// Goes over to a new session with the same runtime. True when there is another runtime.
    pub(super) fn look_at_session(&mut self) -> bool {
        let present = self.sessions.borrow_and_update().clone();
        match present {
            None => false,
            Some(session) if session.advert.nonce == self.session.advert.nonce => {
                self.workers = session.workers.subscribe();
                self.session = session;
                self.look_at_worker();
                false
            }
            Some(_) => true,
        }
    }

    /// Whether the worker is to get more work; not if it was ever told to end, even if the request that it should end for
    /// was answered since.
    pub(super) fn takes_work(&self) -> bool {
        let lives_on = self.give_up_at.is_none() && self.killed.is_none();
        lives_on && self.held_up.is_none() && self.seat.context.is_ready()
    }
}
