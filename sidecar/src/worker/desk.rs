//! The loop that serves one connection to one worker.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use asya_runtime_protocol::v2::{LinkError, LinkEvent, WorkerId, WorkerLink};
use asya_runtime_protocol::{RawJson, Reply, ReplyItem};
use bytes::Bytes;
use futures::FutureExt as _;
use ractor::ActorProcessingErr;
use tokio::sync::watch;

use super::Seat;
use super::blame::Loss;
use super::flights::{Asked, Flight, Flights};
use crate::context::Point;
use crate::ledger::{CallOutcome, Ended, EntryId, Isolation, Streamed};
use crate::report::{Event, Progress};
use crate::session::{Session, Worker};
use crate::tuning::Average;

/// How long a killed worker may take to be gone before the runtime as a whole counts as lost.
pub(super) const KILLED: Duration = Duration::from_secs(5);

/// Frames taken before what they say is handed on.
pub(super) const MOST_AT_ONCE: usize = 256;

pub(super) struct Desk<'a> {
    pub(super) seat: &'a Seat,
    pub(super) session: Arc<Session>,
    pub(super) sessions: watch::Receiver<Option<Arc<Session>>>,
    pub(super) workers: watch::Receiver<Vec<Worker>>,
    pub(super) id: WorkerId,
    pub(super) link: WorkerLink,
    pub(super) flights: Flights,
    /// Since when the worker is held up because too much is being published.
    pub(super) held_up: Option<Instant>,
    /// What has begun or ended and is not handed over yet.
    started: Vec<EntryId>,
    ended: Vec<Ended>,
    /// Not run, or not to an end: they wait again, or run again alone.
    pub(super) again: Vec<EntryId>,
    alone: Vec<EntryId>,
    /// How long calls take, or how long after each other they end.
    pub(super) call: Average,
    /// When a batch that waits for more is run.
    pub(super) gather_until: Option<Instant>,
    /// When the connection of a worker that has ended is given up.
    pub(super) give_up_at: Option<Instant>,
    /// When the runtime was first told to replace the worker. That holds whatever has been answered since.
    pub(super) killed: Option<Instant>,
}

impl<'a> Desk<'a> {
    pub(super) fn new(seat: &'a Seat, session: Arc<Session>, id: WorkerId, link: WorkerLink) -> Self {
        let flights = Flights::new(session.window(), session.welcome.cancel_grace, KILLED);
        Self {
            seat,
            sessions: seat.context.session.subscribe(),
            workers: session.workers.subscribe(),
            session,
            id,
            link,
            flights,
            held_up: None,
            started: Vec::new(),
            ended: Vec::new(),
            again: Vec::new(),
            alone: Vec::new(),
            call: Average::default(),
            gather_until: None,
            give_up_at: None,
            killed: None,
        }
    }

    /// Serves the worker until it is lost, and says what becomes of its requests.
    pub(super) async fn run(mut self) -> Result<(), ActorProcessingErr> {
        self.seat.door.is_linked.store(true, Ordering::Release);
        let loss = self.exchange().await;
        self.seat.door.is_linked.store(false, Ordering::Release);
        self.settle_loss(loss?).await
    }

    async fn exchange(&mut self) -> Result<Loss, ActorProcessingErr> {
        let seat = self.seat;
        loop {
            self.hold_up();
            self.give_work().await?;
            let due = self.next_due();
            tokio::select! {
                // Answers first: one that is here already must not lose against a timer.
                biased;
                event = listen(&mut self.link, self.held_up.is_some()) => {
                    let lost = self.take_all(event);
                    self.hand_over().await?;
                    if let Some(loss) = lost {
                        return Ok(loss);
                    }
                }
                () = seat.door.unconfirmed.fewer() => {}
                () = seat.door.news.notified() => {
                    self.ask_cancelled();
                    self.hand_over().await?;
                }
                () = sleep_until(due), if due.is_some() => {
                    if self.watch_time() {
                        return Ok(Loss::Broken);
                    }
                    self.hand_over().await?;
                }
                changed = self.workers.changed() => {
                    changed?;
                    self.look_at_worker();
                }
                changed = self.sessions.changed() => {
                    changed?;
                    if self.look_at_session() {
                        return Ok(Loss::Broken);
                    }
                }
            }
        }
    }

    /// Takes an event and those that came with it. Tells if the connection is over.
    fn take_all(&mut self, first: Result<LinkEvent, LinkError>) -> Option<Loss> {
        let mut event = first;
        for _ in 0..MOST_AT_ONCE {
            match event {
                Ok(LinkEvent::Goodbye) => return Some(Loss::Goodbye),
                Ok(event) => self.take(event),
                Err(error) => {
                    tracing::debug!(actor = %self.seat.context.actor, worker = %self.id, %error, "connection ended");
                    return Some(Loss::Broken);
                }
            }
            if self.held_up.is_some() {
                return None;
            }
            event = self.link.next().now_or_never()?;
        }
        // The last one was not looked at, so it must not be lost.
        self.take_last(event)
    }

    fn take_last(&mut self, event: Result<LinkEvent, LinkError>) -> Option<Loss> {
        match event {
            Ok(LinkEvent::Goodbye) => Some(Loss::Goodbye),
            Ok(event) => {
                self.take(event);
                None
            }
            Err(_) => Some(Loss::Broken),
        }
    }

    pub(super) fn take(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Reply { tag, items } => self.answered(tag, CallOutcome::Reply(items)),
            LinkEvent::TooLarge { tag, length, limit } => {
                let text = format!(
                    "failed to read response from runtime: answer of {length} bytes is over the limit of {limit} \
                     bytes (ASYA_MAX_MESSAGE_SIZE of the sidecar)"
                );
                self.answered(tag, CallOutcome::Unusable(text));
            }
            LinkEvent::Items { tag, items } => self.streamed(tag, items),
            LinkEvent::ItemsTooLarge { tag, length, limit } => {
                let text = format!(
                    "failed to read response from runtime: items of {length} bytes are over the limit of {limit} \
                     bytes (ASYA_MAX_MESSAGE_SIZE of the sidecar)"
                );
                self.spoil(tag, text);
            }
            LinkEvent::Partial { tag, value } => self.partial(tag, value),
            LinkEvent::Progress {
                tag,
                fraction,
                message,
            } => self.report(tag, |_| Some(Event::Noted { fraction, message })),
            LinkEvent::Goodbye => {}
        }
    }

    fn partial(&mut self, tag: u32, value: Bytes) {
        self.report(tag, |flight| {
            let value = RawJson::parse(value).ok()?; // Nobody depends on it; what is no JSON is dropped.
            flight.partials += 1;
            Some(Event::Partial {
                seq: flight.partials - 1,
                value,
            })
        });
    }

    fn report(&mut self, tag: u32, event: impl FnOnce(&mut Flight) -> Option<Event>) {
        let context = &self.seat.context;
        if context.config.role.is_end() {
            return;
        }
        if let Some(flight) = self.flights.get_mut(tag)
            && flight.entry.is_some()
            && let Some(event) = event(flight)
        {
            context.reporter.progress(Progress {
                actor: Arc::clone(&context.actor),
                envelope: Arc::clone(&flight.work.envelope),
                event,
            });
        }
    }

    /// A request has ended, in whatever way.
    pub(super) fn answered(&mut self, tag: u32, outcome: CallOutcome) {
        let Some(mut flight) = self.flights.end(tag) else {
            return; // The connection knows its tags.
        };
        let Some(id) = flight.entry else {
            return; // A ghost, which nobody waits for.
        };
        let spoiled = flight.spoiled.take();
        match flight.asked() {
            None if self.is_unasked(&flight) && is_cancelled(&outcome) => self.again.push(id),
            None if flight.is_late() => self.finish(id, flight, CallOutcome::Timeout),
            None => self.finish(id, flight, spoiled.unwrap_or(outcome)),
            Some(Asked::Cancelled) => self.finish(id, flight, spoiled.unwrap_or(CallOutcome::Cancelled)),
            Some(Asked::Deadline) if flight.in_batch && !is_expired(&flight) => {
                // Nobody knows who of the batch took so long. What came all the same is good.
                if spoiled.is_none() && is_good(&outcome) {
                    self.finish(id, flight, outcome);
                } else {
                    self.alone.push(id);
                }
            }
            Some(Asked::Deadline) => self.finish(id, flight, CallOutcome::Timeout),
        }
    }

    /// Whether a request may have been ended without its having been asked to: it was called back, or the runtime thinks
    /// that we are gone.
    fn is_unasked(&self, flight: &Flight) -> bool {
        let present = self.seat.context.session();
        flight.recalled.is_some() || present.is_none_or(|present| !Arc::ptr_eq(&present, &self.session))
    }

    /// A request has an outcome.
    pub(super) fn finish(&mut self, id: EntryId, flight: Flight, outcome: CallOutcome) {
        self.ended.push(Ended {
            id,
            outcome,
            streamed: flight.streamed,
            took: flight.began.map(|began| began.elapsed()).unwrap_or_default(),
        });
    }

    /// A request that has not begun is cancelled. Nothing to wait for: whatever its worker does with it, that is its
    /// outcome.
    pub(super) fn cancel_waiting(&mut self, tag: u32) {
        if let Some(id) = self.flights.release(tag) {
            self.ended.push(Ended {
                id,
                outcome: CallOutcome::Cancelled,
                streamed: Streamed::default(),
                took: Duration::ZERO,
            });
        }
    }

    /// Notes that requests have begun in the places of those that have ended.
    pub(super) fn begin(&mut self) {
        self.started.extend(self.flights.begin(Instant::now()));
    }

    /// Hands what has ended to the ledger, and lets what follows begin.
    pub(super) async fn hand_over(&mut self) -> Result<(), ActorProcessingErr> {
        let (context, seat) = (&self.seat.context, self.seat);
        if !self.again.is_empty() || !self.alone.is_empty() {
            let (again, alone) = (&mut self.again, &mut self.alone);
            for (ids, isolation) in [(again, Isolation::None), (alone, Isolation::Worker)] {
                let ids = std::mem::take(ids);
                let ledger = &context.ledger;
                ledger.give_back(seat.index, seat.generation, &ids, isolation);
            }
            context.doors.wake_slots();
        }
        self.begin();
        if self.ended.is_empty() && self.started.is_empty() {
            return Ok(());
        }
        if !self.ended.is_empty() {
            context.checkpoint(Point::Replied).await?;
        }
        let mut ended = std::mem::take(&mut self.ended);
        self.time_calls(&mut ended);
        for call in &ended {
            context.pulse.slots.step();
            context.credits.called(call.took);
            context.meters.called(call.took, &call.outcome);
            if matches!(call.outcome, CallOutcome::Timeout) {
                tracing::warn!(actor = %context.actor, worker = %self.id, "no answer from the runtime in time");
            }
        }
        let started = std::mem::take(&mut self.started);
        let one_ran_alone = context
            .ledger
            .hand_over(seat.index, seat.generation, ended, &started);
        self.note_oldest();
        context.doors.router.wake();
        if one_ran_alone {
            context.doors.wake_slots(); // They kept still while it ran.
        }
        Ok(())
    }

    /// Of calls that run one after the other and whose answers were read together, each took its part of the time.
    fn time_calls(&mut self, ended: &mut [Ended]) {
        if self.session.welcome.concurrency == 1 {
            let calls = u32::try_from(ended.len()).unwrap_or(u32::MAX).max(1);
            let all = ended.iter().map(|call| call.took).max().unwrap_or_default();
            if self.session.welcome.batch_size == 1 {
                for call in ended.iter_mut() {
                    call.took = all / calls;
                }
            }
        }
        if let Some(call) = ended.first() {
            self.call.add(call.took);
        }
    }

    /// Remembers the request that hangs if any does, for the slot that comes after this one.
    pub(super) fn note_oldest(&self) {
        if let Some(tag) = self.flights.first_tag() {
            self.seat.door.oldest.store(tag, Ordering::Relaxed);
        }
    }
}

/// Whether nobody waits for the envelope any more.
pub(super) fn is_expired(flight: &Flight) -> bool {
    let deadline = crate::admission::deadline(&flight.work.envelope);
    deadline.is_some_and(|deadline| deadline <= chrono::Utc::now())
}

fn is_good(outcome: &CallOutcome) -> bool {
    let CallOutcome::Reply(reply) = outcome else {
        return false;
    };
    let items = Reply::parse(reply.clone()).unwrap_or_default();
    !items.is_empty() && items.iter().all(|item| matches!(item, ReplyItem::Output { .. }))
}

/// Whether the worker has said that it did not run it.
fn is_cancelled(outcome: &CallOutcome) -> bool {
    let CallOutcome::Reply(reply) = outcome else {
        return false;
    };
    let items = Reply::parse(reply.clone()).unwrap_or_default();
    matches!(items.as_slice(), [ReplyItem::Error { code, .. }] if code == "cancelled")
}

/// The next event. While the worker is held up there is none: only what is queued is written, since the worker must not
/// wait for the rest of a request.
async fn listen(link: &mut WorkerLink, is_held_up: bool) -> Result<LinkEvent, LinkError> {
    if is_held_up {
        link.flush().await;
        return std::future::pending().await;
    }
    link.next().await
}

async fn sleep_until(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due.into()).await;
    }
}
