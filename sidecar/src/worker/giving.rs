//! Giving work to the worker: at once what it may run, ahead what it will run soon, in batches what runs together.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use asya_runtime_protocol::v2::Request;
use ractor::ActorProcessingErr;

use super::ahead::ahead;
use super::desk::Desk;
use super::flights::Flight;
use super::gather::{Gather, Gathering, Supply, decide};
use crate::admission::{Work, deadline};
use crate::context::{Context, Point};
use crate::ledger::{Assignment, CallOutcome, Ended, Isolation, RunQueue, Streamed};
use crate::report::{Event, Progress};

impl Desk<'_> {
    /// Gives the worker what it can take and what is there.
    pub(super) async fn give_work(&mut self) -> Result<(), ActorProcessingErr> {
        self.gather_until = None;
        if !self.takes_work() {
            return Ok(());
        }
        let size = usize::try_from(self.session.welcome.batch_size).unwrap_or(1);
        if size > 1 {
            return self.give_batches(size).await;
        }
        let concurrency = usize::try_from(self.session.welcome.concurrency).unwrap_or(1);
        let seat = self.seat;
        let workers = self.session.ready();
        let mut was_given = false;
        loop {
            let now = self.flights.free();
            let later = if self.session.is_stopping() {
                0
            } else {
                ahead(concurrency, size, self.expected_call()).saturating_sub(self.flights.ahead())
            };
            if now + later == 0 {
                break;
            }
            let ledger = &seat.context.ledger;
            let work = ledger.assign_many(seat.index, seat.generation, now, later, workers);
            was_given |= !work.is_empty();
            if !self.send(work).await? {
                break;
            }
        }
        if was_given && workers > 1 && self.flights.free() > 0 {
            // It took its share. What the others leave it takes when they have had their turn.
            seat.context.doors.wake_slots();
        }
        Ok(())
    }

    /// How long a call takes: as usual, or longer if the present one does.
    fn expected_call(&self) -> Option<Duration> {
        let present = self.flights.first_began().map(|began| began.elapsed());
        Some(self.call.known()?.max(present.unwrap_or_default()))
    }

    async fn give_batches(&mut self, size: usize) -> Result<(), ActorProcessingErr> {
        let concurrency = usize::try_from(self.session.welcome.concurrency).unwrap_or(1);
        let seat = self.seat;
        let ledger = &seat.context.ledger;
        while self.flights.calls() < concurrency {
            let queue = ledger.run_queue(size);
            if !queue.alone {
                // Before it is asked whether there is more, so that the news cannot fall in between.
                seat.context.supply.gathers();
                let gathering = Gathering {
                    ready: queue.ready,
                    size,
                    since: queue.since,
                    wait: self.session.welcome.batch_wait,
                    supply: supply(&seat.context, queue),
                };
                match decide(&gathering, Instant::now()) {
                    Gather::Nothing => break,
                    Gather::Run => {}
                    Gather::WaitUntil(end) => {
                        self.gather_until = Some(end);
                        break;
                    }
                }
            }
            let work = ledger.assign_many(seat.index, seat.generation, size, 0, 1);
            if work.is_empty() {
                break; // Something runs alone, or waits to.
            }
            self.send(work).await?;
        }
        Ok(())
    }

    /// Sends what was assigned; in one batch if the worker takes batches. True if some of it had expired, so that there
    /// is room for more.
    async fn send(&mut self, work: Vec<Assignment>) -> Result<bool, ActorProcessingErr> {
        if work.is_empty() {
            return Ok(false);
        }
        let seat = self.seat;
        let context = &seat.context;
        context.checkpoint(Point::Assigned).await?;
        let mut expired = Vec::new();
        let mut requests = Vec::with_capacity(work.len());
        for assigned in work {
            match budget(context, &assigned.work) {
                Some(budget) => requests.push((assigned, budget)),
                None => expired.push(Ended {
                    id: assigned.id,
                    outcome: CallOutcome::Expired,
                    streamed: Streamed::default(),
                    took: Duration::ZERO,
                }),
            }
        }
        self.queue(requests);
        // The ledger counts what runs at once from its assignment on.
        let started = self.flights.begin(Instant::now());
        let some_expired = !expired.is_empty();
        if some_expired {
            let one_was_alone = context
                .ledger
                .hand_over(seat.index, seat.generation, expired, &started);
            context.doors.router.wake();
            if one_was_alone {
                context.doors.wake_slots(); // They kept still meanwhile.
            }
        }
        self.note_oldest();
        Ok(some_expired)
    }

    fn queue(&mut self, requests: Vec<(Assignment, Duration)>) {
        let is_batch = self.session.welcome.batch_size > 1;
        // One call, one time limit: one of a batch that is in a hurry must not end the others, and its answer is late.
        let longest = requests.iter().map(|(_, budget)| *budget).max();
        let longest = longest.filter(|_| is_batch);
        let count = requests.len();
        let runs_one = self.session.slots() * self.session.window() == 1;
        let call = self.flights.next_call();
        for (number, (assigned, budget)) in requests.into_iter().enumerate() {
            report_processing(&self.seat.context, &assigned.work);
            let tag = self.link.send(Request {
                budget: Some(budget),
                attempt: assigned.work.runs.attempt(),
                more: is_batch && number + 1 < count,
                envelope: assigned.work.request.clone(),
            });
            self.seat.door.newest.store(tag, Ordering::Relaxed);
            let mut flight = Flight::new(assigned.id, assigned.work, tag, longest.unwrap_or(budget));
            flight.late_after = budget;
            flight.is_isolated = assigned.isolation == Isolation::Runtime || runs_one;
            flight.in_batch = is_batch && count > 1;
            flight.call = call;
            self.flights.push(flight);
        }
    }
}

fn report_processing(context: &Context, work: &Work) {
    if !context.config.role.is_end() {
        context.reporter.progress(Progress {
            actor: Arc::clone(&context.actor),
            envelope: Arc::clone(&work.envelope),
            event: Event::Processing,
        });
    }
}

/// How long a request that is sent now may run; `None` when its deadline has passed while it waited.
fn budget(context: &Context, work: &Work) -> Option<Duration> {
    let limit = context.config.runtime_timeout;
    match deadline(&work.envelope) {
        Some(deadline) if !context.config.role.is_end() => {
            let left = (deadline - chrono::Utc::now()).to_std().ok()?;
            (!left.is_zero()).then(|| left.min(limit))
        }
        _ => Some(limit),
    }
}

/// Where more for a batch could come from.
fn supply(context: &Context, queue: RunQueue) -> Supply {
    if queue.more {
        return Supply::Arriving;
    }
    let (held, limit) = (context.credits.taken(), context.credits.limit());
    if held >= limit {
        // What is on its way out makes room soon; what waits or runs does not.
        return if held > queue.waiting + queue.running {
            Supply::Open
        } else {
            Supply::Exhausted
        };
    }
    match context.supply.asked() {
        Some(since) => Supply::Asked(since),
        None => Supply::Open,
    }
}
