//! Keeps the queue of each actor: makes it, looks after it now and then, asks how full it is. A broker that is away
//! holds nothing else up: what it said is one verdict among others (contract operator §8.1, O-13).

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::{delay, jittered};
use super::events::Note;
use super::metrics;
use super::reconcile::locked;
use super::work_queue::Key;
use crate::queues::{Ensured, QueueError, QueueSpec, Queues};
use crate::registry::Transport;
use crate::resource::Actor;
use crate::status::{QueueDepth, QueueReference, Verdict};

/// Pauses after failures of a broker.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_mins(2);
/// A broker that let somebody wait this long for nothing ...
const SLOW: Duration = Duration::from_secs(2);
/// ... is not asked by others for this long, so that it holds up as few passes as possible.
const SPARED: Duration = Duration::from_secs(15);
/// AWS makes no queue of a name for a minute after it was deleted (contract operator §8.4).
const RECENTLY_DELETED: Duration = Duration::from_secs(65);

/// See the module.
pub(super) struct QueueKeeper {
    queues: Arc<dyn Queues>,
    /// `ASYA_DISABLE_QUEUE_MANAGEMENT` turns it off.
    manages: bool,
    check_interval: Option<Duration>,
    refresh: Duration,
    state: Mutex<HashMap<Key, Kept>>,
    /// Transports whose broker let somebody wait in vain: until when it is spared, and what it said.
    silent: Mutex<HashMap<String, (Instant, String)>>,
}

/// What is known of one queue.
#[derive(Debug, Clone, Default)]
struct Kept {
    queue: Option<(String, QueueSpec)>,
    /// When it was there last, and the difference of its arguments, if any.
    found: Option<(Instant, Option<String>)>,
    /// When to look again.
    check_at: Option<Instant>,
    failure: Option<BrokerFailure>,
    /// Why it is not known to be there, if the last question for its depth told so.
    misses: Option<String>,
    depth: Option<QueueDepth>,
    depth_at: Option<Instant>,
}

#[derive(Debug, Clone)]
struct BrokerFailure {
    attempts: u32,
    message: String,
    until: Instant,
}

/// What one pass learnt.
#[derive(Debug)]
pub(super) struct Seen {
    /// `TransportReady`.
    pub(super) verdict: Verdict,
    /// Messages, as far as known.
    pub(super) depth: Option<QueueDepth>,
    /// Whether the queue is known to be there.
    pub(super) is_there: bool,
    /// What a user should see.
    pub(super) note: Option<Note>,
    /// When to look again.
    pub(super) again: Duration,
}

/// The queue of an actor on a transport.
pub(super) fn queue_spec(actor: &Actor, transport: &Transport) -> QueueSpec {
    QueueSpec {
        name: transport.queue_name(&actor.namespace, &actor.name),
        actor: actor.name.clone(),
        namespace: actor.namespace.clone(),
        processing_seconds: actor.spec.timeout.processing,
    }
}

impl QueueKeeper {
    /// A keeper that asks `queues`.
    pub(super) fn new(
        queues: Arc<dyn Queues>,
        manages: bool,
        check_interval: Option<Duration>,
        refresh: Duration,
    ) -> Self {
        Self {
            queues,
            manages,
            check_interval,
            refresh,
            state: Mutex::default(),
            silent: Mutex::default(),
        }
    }

    /// Makes sure of the queue, if it is time, and asks how full it is. `recorded` is the queue that the status names.
    pub(super) async fn keep(
        &self,
        key: &Key,
        actor: &Actor,
        transport: &Transport,
        recorded: Option<&QueueReference>,
    ) -> Seen {
        let queue = queue_spec(actor, transport);
        let identity = Some((transport.name.clone(), queue.clone()));
        let mut kept = self.take(key);
        if kept.queue != identity {
            kept = Kept {
                queue: identity,
                ..Kept::default()
            };
        }
        let existed =
            recorded.is_some_and(|known| known.transport == transport.name && known.name == queue.name);
        let mut note = None;
        if self.manages && kept.is_due() {
            note = self.ensure(&mut kept, transport, &queue, existed).await;
        }
        self.ask_depth(&mut kept, transport, &queue).await;
        // Whoever deleted it since the last check left the actor without a way to get messages.
        if self.manages && kept.misses.is_some() && kept.failure.is_none() {
            note = self.ensure(&mut kept, transport, &queue, true).await.or(note);
            self.ask_depth(&mut kept, transport, &queue).await;
        }
        let seen = Seen {
            verdict: self.verdict(&kept),
            depth: kept.depth,
            is_there: kept.found.is_some(),
            note,
            again: self.next(&kept),
        };
        self.put(key, kept);
        seen
    }

    async fn ensure(
        &self,
        kept: &mut Kept,
        transport: &Transport,
        queue: &QueueSpec,
        existed: bool,
    ) -> Option<Note> {
        if let Some((until, message)) = self.silence(&transport.name) {
            let attempts = kept.failure.as_ref().map_or(0, |failure| failure.attempts);
            kept.failure = Some(BrokerFailure {
                attempts,
                message,
                until: until + jittered(FIRST_PAUSE),
            });
            return None;
        }
        let asked = Instant::now();
        match self.queues.ensure(transport, queue).await {
            Ok(ensured) => {
                kept.failure = None;
                if kept.misses.take().is_some() {
                    kept.depth_at = None;
                }
                kept.check_at = self
                    .check_interval
                    .map(|interval| Instant::now() + jittered(interval));
                let drift = if let Ensured::Drifted(text) = &ensured {
                    Some(text.clone())
                } else {
                    None
                };
                let was_known = existed || kept.found.is_some();
                kept.found = Some((Instant::now(), drift));
                if ensured != Ensured::Created {
                    return None;
                }
                kept.depth_at = None;
                let name = &queue.name;
                if was_known {
                    metrics::queue_recreated();
                    return Some(Note::warning(
                        "QueueRecreated",
                        format!("queue {name:?} was missing and has been made again"),
                    ));
                }
                Some(Note::normal(
                    "QueueCreated",
                    format!("made queue {name:?} on transport {:?}", transport.name),
                ))
            }
            Err(error) => {
                if asked.elapsed() > SLOW && matches!(error, QueueError::Broker(_)) {
                    let silence = (Instant::now() + SPARED, error.to_string());
                    locked(&self.silent).insert(transport.name.clone(), silence);
                }
                let attempts = kept.failure.as_ref().map_or(0, |failure| failure.attempts) + 1;
                let pause = match error {
                    QueueError::RecentlyDeleted(_) => RECENTLY_DELETED,
                    _ => delay(attempts, FIRST_PAUSE, LONGEST_PAUSE),
                };
                kept.failure = Some(BrokerFailure {
                    attempts,
                    message: error.to_string(),
                    until: Instant::now() + pause,
                });
                None
            }
        }
    }

    fn silence(&self, transport: &str) -> Option<(Instant, String)> {
        locked(&self.silent)
            .get(transport)
            .filter(|(until, _)| *until > Instant::now())
            .cloned()
    }

    /// Asks how full the queue is, if it is time. A broker that does not say keeps what it said last; whether it is well
    /// is asked at the next pass.
    async fn ask_depth(&self, kept: &mut Kept, transport: &Transport, queue: &QueueSpec) {
        let is_time = kept.depth_at.is_none_or(|at| at.elapsed() >= self.refresh);
        if kept.failure.is_some() || !is_time {
            return;
        }
        kept.depth_at = Some(Instant::now());
        match self.queues.depth(transport, queue).await {
            Ok(depth) => {
                kept.depth = Some(depth);
                kept.misses = None;
            }
            Err(QueueError::Missing(name)) => {
                kept.depth = None;
                kept.found = None;
                kept.misses = Some(format!("queue {name:?} does not exist"));
            }
            Err(error) => {
                tracing::debug!(queue = queue.name, %error, "the broker does not say how full the queue is");
                kept.check_at = Some(Instant::now());
                kept.misses = (!self.manages).then(|| error.to_string());
            }
        }
    }

    fn next(&self, kept: &Kept) -> Duration {
        let now = Instant::now();
        let depth = kept.depth_at.map_or(self.refresh, |at| {
            (at + self.refresh).saturating_duration_since(now)
        });
        let check = kept.check_at.filter(|_| self.manages);
        let due = kept.failure.as_ref().map(|failure| failure.until).or(check);
        let due = due.map(|at| at.saturating_duration_since(now));
        // Never at once: whatever is due now has just been tried.
        due.map_or(depth, |due| {
            if kept.failure.is_some() {
                due
            } else {
                due.min(depth)
            }
        })
        .max(Duration::from_millis(500))
    }

    fn verdict(&self, kept: &Kept) -> Verdict {
        if let Some(failure) = &kept.failure {
            return Verdict {
                holds: false,
                reason: "QueueError",
                message: failure.message.clone(),
            };
        }
        let drift = kept.found.as_ref().and_then(|(_, drift)| drift.clone());
        if let Some(drift) = drift {
            return Verdict {
                holds: true,
                reason: "QueueConfigDrift",
                message: drift,
            };
        }
        let (holds, message) = match (&kept.misses, self.manages) {
            (None, true) => (true, "the transport and its queue are there".to_owned()),
            // It was made and has gone at once.
            (Some(problem), true) => (false, problem.clone()),
            // Where queues are somebody else's, no more is promised than that the transport is known.
            (None, false) => (
                true,
                "the transport is known; its queue is not managed by the operator".to_owned(),
            ),
            (Some(problem), false) => (
                true,
                format!("the transport is known; its queue is not managed by the operator: {problem}"),
            ),
        };
        let reason = if holds { "TransportValidated" } else { "QueueError" };
        Verdict {
            holds,
            reason,
            message,
        }
    }

    /// The actor is gone.
    pub(super) fn forget(&self, key: &Key) {
        self.take(key);
    }

    fn take(&self, key: &Key) -> Kept {
        locked(&self.state).remove(key).unwrap_or_default()
    }

    fn put(&self, key: &Key, kept: Kept) {
        locked(&self.state).insert(key.clone(), kept);
    }
}

impl Kept {
    fn is_due(&self) -> bool {
        let now = Instant::now();
        match &self.failure {
            Some(failure) => failure.until <= now,
            None => self.found.is_none() || self.check_at.is_some_and(|at| at <= now),
        }
    }
}
