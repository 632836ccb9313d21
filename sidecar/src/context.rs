//! What all actors of one tree share, and how they find each other.
//!
//! Actors never keep each other's references: a reference is dead for ever once its actor has ended. They wake each
//! other through the [`Doorbell`]s here, which always ring at the present incarnation.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use asya_runtime_protocol::v2::WorkerId;
use asya_runtime_protocol::{Envelope, RuntimeClient};
use asya_transport::{QueueName, Transport};
use futures::future::BoxFuture;
use ractor::ActorRef;
use tokio::sync::{Notify, watch};

use crate::actors::Message;
use crate::config::{Config, Credit};
use crate::credit::Credits;
use crate::ledger::{Cancelled, Ledger};
use crate::meters::Meters;
use crate::notices::Notices;
use crate::outbox::{Outbox, Unconfirmed};
use crate::pulse::Pulse;
use crate::report::Reporter;
use crate::session::Session;
use crate::supply::Supplies;

/// Shared by the whole tree; survives every restart in it.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) actor: Arc<str>,
    pub(crate) queue: QueueName,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) reporter: Arc<dyn Reporter>,
    /// Which envelopes nobody wants any more.
    pub(crate) notices: Arc<Notices>,
    pub(crate) client: RuntimeClient,
    pub(crate) runtime_control: Option<Arc<dyn RuntimeControl>>,
    pub(crate) ledger: Ledger,
    pub(crate) credits: Arc<Credits>,
    pub(crate) doors: Doors,
    /// Items of streams that are being published.
    pub(crate) outbox: Outbox,
    pub(crate) readiness: watch::Sender<Readiness>,
    /// The session with a runtime of protocol v2, while there is one.
    pub(crate) session: watch::Sender<Option<Arc<Session>>>,
    /// Slots that are there: as many as calls of v1, or workers of v2, may be under way, whichever was more so far.
    pub(crate) slots: AtomicUsize,
    pub(crate) supply: Supplies,
    /// Whether it was said that batches cannot fill.
    pub(crate) warned: AtomicBool,
    pub(crate) consuming: watch::Sender<bool>,
    /// Whether all was taken in that is to be taken in ([`RunUntil::One`](crate::RunUntil::One)).
    pub(crate) enough: watch::Sender<bool>,
    /// The nonce of the last runtime that was left because it was asked to end; there is nothing to look for at it.
    pub(crate) left: Mutex<Option<String>>,
    /// Whether the own queue is there, as far as consuming it has shown.
    pub(crate) queue_state: watch::Sender<QueueState>,
    pub(crate) restarts: AtomicU64,
    pub(crate) meters: Meters,
    pub(crate) pulse: Pulse,
    pub(crate) fatal: Fatal,
    pub(crate) faults: Option<Arc<dyn Faults>>,
    /// Multiplies all restart budgets; 1 outside tests that kill on purpose.
    pub(crate) budget_factor: usize,
}

/// Whether the runtime takes calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// It has not answered yet, or has gone away.
    NotReady,
    /// It is there but has not answered in time; it must prove that it is free before it gets work again.
    Suspended,
    /// It takes calls.
    Ready,
}

/// Whether the queue of the actor is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueState {
    /// Nothing has come of it yet, neither messages nor an error.
    Unknown,
    /// It was there when it was last looked at.
    Found,
    /// The broker does not know it.
    Missing,
}

/// Makes a runtime fresh after it failed to answer in time. Whoever started the runtime may offer it.
pub trait RuntimeControl: Send + Sync + 'static {
    /// Ends the present runtime, whatever it does, and starts a new one. Resolves when the old one is gone.
    fn restart(&self) -> BoxFuture<'static, ()>;
}

impl Context {
    pub(crate) fn is_ready(&self) -> bool {
        *self.readiness.borrow() == Readiness::Ready
    }

    /// The session with a runtime of protocol v2, if there is one.
    pub(crate) fn session(&self) -> Option<Arc<Session>> {
        self.session.borrow().clone()
    }

    /// Sets the readiness and tells whether it was another one before.
    pub(crate) fn set_readiness(&self, readiness: Readiness) -> bool {
        self.readiness
            .send_if_modified(|present| std::mem::replace(present, readiness) != readiness)
    }

    /// Makes room for what a runtime of protocol v2 runs at once.
    pub(crate) fn settle_in(&self, session: &Session) {
        let workers = session.slots();
        self.slots.fetch_max(workers, Ordering::Relaxed);
        let at_once = workers.saturating_mul(session.window());
        self.credits.set_slots(at_once);
        let batch = usize::try_from(session.welcome.batch_size).unwrap_or(usize::MAX);
        if let Credit::Fixed(prefetch) = self.config.credit
            && prefetch < batch
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                actor = %self.actor, prefetch, batch,
                "batches cannot fill: ASYA_RABBITMQ_PREFETCH is below the batch size of the runtime"
            );
        }
    }

    /// Remembers a runtime that was asked to end and gets no more work.
    pub(crate) fn leave(&self, nonce: &str) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(nonce.to_owned());
    }

    /// Whether this runtime was left.
    pub(crate) fn has_left(&self, nonce: &str) -> bool {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.as_deref() == Some(nonce)
    }

    /// A session is over; the probe looks for the next.
    pub(crate) fn end_session(&self, session: &Arc<Session>) {
        let is_present = |present: &Option<Arc<Session>>| {
            present
                .as_ref()
                .is_some_and(|present| Arc::ptr_eq(present, session))
        };
        let ended = self.session.send_if_modified(|present| {
            let ends = is_present(present);
            if ends {
                *present = None;
            }
            ends
        });
        if ended {
            let readiness = *self.readiness.borrow();
            if readiness == Readiness::Ready {
                self.set_readiness(Readiness::NotReady);
            }
            self.doors.probe.wake();
        }
    }

    /// Tells a runtime of protocol v2 that nothing more comes, and waits until that is on its way.
    pub(crate) async fn say_goodbye(&self) {
        if let Some(session) = self.session() {
            session.goodbye();
            let mut sessions = self.session.subscribe();
            let over =
                sessions.wait_for(|present| present.as_ref().is_none_or(|now| !Arc::ptr_eq(now, &session)));
            // Without an answer the end of the connection says the same.
            let _told = tokio::time::timeout(Duration::from_millis(500), over).await;
        }
    }

    /// Ends an envelope that nobody wants any more, wherever it waits or runs here. False if it is not here.
    pub(crate) fn cancel(&self, is_meant: impl Fn(&Envelope) -> bool, why: Cancelled) -> bool {
        let found = self.ledger.cancel(is_meant, why);
        self.doors.wake_slots();
        self.doors.router.wake();
        found
    }

    /// Notes whether the queue is there and tells whether that is news.
    pub(crate) fn set_queue_state(&self, state: QueueState) -> bool {
        self.queue_state
            .send_if_modified(|present| std::mem::replace(present, state) != state)
    }

    /// The place where faults may be injected; a no-op outside fault tests.
    pub(crate) async fn checkpoint(&self, point: Point) -> Result<(), ractor::ActorProcessingErr> {
        match &self.faults {
            None => Ok(()),
            Some(faults) => faults.at(point).await,
        }
    }
}

/// One doorbell per actor.
#[derive(Default)]
pub(crate) struct Doors {
    pub(crate) probe: Doorbell,
    pub(crate) router: Doorbell,
    slots: RwLock<Vec<Arc<SlotDoor>>>,
    pub(crate) publisher: Doorbell,
    pub(crate) acker: Doorbell,
    pub(crate) consumer: Doorbell,
    pub(crate) reaper: Doorbell,
}

impl Doors {
    /// Does something with the bell of a part; of the slots, with the first.
    pub(crate) fn with<T>(&self, part: Part, act: impl FnOnce(&Doorbell) -> T) -> T {
        match part {
            Part::Consumer => act(&self.consumer),
            Part::Router => act(&self.router),
            Part::Slot => act(&self.slot(0).bell),
            Part::Publisher => act(&self.publisher),
            Part::Acker => act(&self.acker),
            Part::Probe => act(&self.probe),
            Part::Reaper => act(&self.reaper),
        }
    }

    /// The door of a slot, which is there as soon as somebody asks for it.
    pub(crate) fn slot(&self, index: usize) -> Arc<SlotDoor> {
        let known = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(door) = known.get(index) {
            return Arc::clone(door);
        }
        drop(known);
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        while slots.len() <= index {
            slots.push(Arc::default());
        }
        Arc::clone(&slots[index])
    }

    /// Wakes as many idle slots as there may be work for; a slot with nothing to do goes back to sleep.
    pub(crate) fn wake_slots(&self) {
        for slot in &*self.slots.read().unwrap_or_else(PoisonError::into_inner) {
            slot.wake();
        }
    }
}

/// How a slot is reached: its actor by a bell, and the pump that serves a worker directly.
#[derive(Default)]
pub(crate) struct SlotDoor {
    pub(crate) bell: Doorbell,
    /// Held by the pump for as long as it lives. One that is aborted goes on to its next await, and in that moment must
    /// not take the worker, or the ears, of its successor.
    pub(crate) place: tokio::sync::Mutex<()>,
    /// There may be work, or something to cancel, for the pump.
    pub(crate) news: Notify,
    /// Whether the pump serves a worker and waits for news.
    pub(crate) is_linked: AtomicBool,
    /// The oldest request that the worker was sent; a successor whose worker hangs in it needs to name it.
    pub(crate) oldest: AtomicU32,
    /// The tag of the newest request that a worker was sent.
    pub(crate) newest: AtomicU32,
    /// The worker that was last told to end, and the nonce of its runtime.
    killed: Mutex<Option<(String, WorkerId)>>,
    /// Items of its streams that are being published.
    pub(crate) unconfirmed: Unconfirmed,
}

impl SlotDoor {
    /// Notes that a worker of the runtime with this nonce was told to end.
    pub(crate) fn note_killed(&self, nonce: &str, id: WorkerId) {
        *self.killed.lock().unwrap_or_else(PoisonError::into_inner) = Some((nonce.to_owned(), id));
    }

    /// Whether it was the last one that was told to.
    pub(crate) fn was_killed(&self, nonce: &str, id: WorkerId) -> bool {
        let killed = self.killed.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(&*killed, Some((of, killed)) if of == nonce && *killed == id)
    }

    /// Makes the slot look for work.
    pub(crate) fn wake(&self) {
        if self.is_linked.load(Ordering::Acquire) {
            self.news.notify_one();
        } else {
            self.bell.wake();
        }
    }
}

/// Rings at the present incarnation of an actor. Rings collapse: at most one wake-up waits in a mailbox.
#[derive(Default)]
pub(crate) struct Doorbell {
    present: RwLock<Option<ActorRef<Message>>>,
    rung: AtomicBool,
}

impl Doorbell {
    /// Connects the bell to a new incarnation, which is woken once to look for work that waited.
    pub(crate) fn connect(&self, actor: ActorRef<Message>) {
        *self.present.write().unwrap_or_else(PoisonError::into_inner) = Some(actor);
        self.rung.store(false, Ordering::Release);
        self.wake();
    }

    /// Makes the actor look for work, unless it has been told already.
    pub(crate) fn wake(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) && !self.send(Message::Look) {
            self.rung.store(false, Ordering::Release);
        }
    }

    /// The actor is looking now; whatever comes after this must ring again. Call it *before* looking.
    pub(crate) fn answered(&self) {
        self.rung.store(false, Ordering::Release);
    }

    /// Sends another message than a wake-up. False when nobody is there; the caller repairs that by the ledger.
    pub(crate) fn send(&self, message: Message) -> bool {
        let present = self.present.read().unwrap_or_else(PoisonError::into_inner);
        present.as_ref().is_some_and(|actor| actor.cast(message).is_ok())
    }

    /// Kills the present incarnation. False when there is none yet.
    pub(crate) fn kill(&self) -> bool {
        let present = self.present.read().unwrap_or_else(PoisonError::into_inner);
        present.as_ref().inspect(|actor| actor.kill()).is_some()
    }
}

/// The first reason why the tree cannot go on, and a bell for whoever waits for it.
#[derive(Default)]
pub(crate) struct Fatal {
    cause: Mutex<Option<String>>,
    raised: Notify,
}

impl Fatal {
    /// Records the cause if it is the first one.
    pub(crate) fn raise(&self, cause: String) {
        self.cause
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(cause);
        self.raised.notify_waiters();
    }

    /// Waits for a cause.
    pub(crate) async fn wait(&self) -> String {
        loop {
            let raised = self.raised.notified();
            tokio::pin!(raised);
            raised.as_mut().enable();
            if let Some(cause) = &*self.cause.lock().unwrap_or_else(PoisonError::into_inner) {
                return cause.clone();
            }
            raised.await;
        }
    }
}

/// Actors that do the work of a sidecar, as seen from fault tests and the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// Takes messages from the queue.
    Consumer,
    /// Parses arrivals and routes replies.
    Router,
    /// Calls the runtime.
    Slot,
    /// Publishes and waits for confirms.
    Publisher,
    /// Settles deliveries.
    Acker,
    /// Watches whether the runtime is there.
    Probe,
    /// Repairs what was lost and ends what is late.
    Reaper,
}

/// A moment in an actor's work at which a fault test may strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Point {
    /// The consumer has written deliveries into the ledger.
    Received,
    /// The router holds a new arrival.
    Admitting,
    /// A slot has taken a delivery and not called the runtime.
    Assigned,
    /// A slot has the reply and has not written it down.
    Replied,
    /// The router holds a reply.
    Routing,
    /// The publisher holds a plan and has published nothing.
    Planned,
    /// Everything is confirmed and the publisher has not written it down.
    Confirmed,
    /// The acker holds a settlement and has not settled.
    Settling,
    /// The delivery is settled and the acker has not written it down.
    Settled,
}

/// Fault injection for tests: decides at each [`Point`] whether the actor goes on, fails, panics or waits.
pub trait Faults: Send + Sync + 'static {
    /// Return `Err` to fail the actor, panic to make it panic, wait to hold it there.
    fn at(&self, point: Point) -> BoxFuture<'_, Result<(), ractor::ActorProcessingErr>>;
}

/// How a test makes an actor end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Cancelled at its next await.
    Kill,
    /// Panics in its handler.
    Panic,
    /// Returns an error from its handler.
    Error,
}

impl Fault {
    /// What an actor does when this fault is sent to it.
    pub(crate) fn strike(self) -> Result<(), ractor::ActorProcessingErr> {
        match self {
            Self::Panic => std::panic::resume_unwind(Box::new("an injected panic")),
            Self::Error | Self::Kill => Err("an injected error".into()),
        }
    }
}

/// How long a restarted or refused operation waits: doubling from `initial`, at most `max`, for the n-th try (from 0).
pub(crate) fn backoff(initial: Duration, max: Duration, tries: u32) -> Duration {
    initial.saturating_mul(1_u32 << tries.min(16)).min(max)
}
