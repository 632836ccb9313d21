//! Reports to a gateway, over [gRPC](grpc) where it offers that and over HTTP (contract data-plane §10) otherwise, beside
//! the path of messages.
//!
//! What it is: a [`Reporter`]. Progress becomes a small [note](note), is put into a bounded [backlog](backlog) and sent by
//! tasks of its own; what is too much, too old, or for a gateway that is [away](circuit) is dropped and counted. The
//! [final word](finals) of an end actor is the one thing that is waited for. It also hears which envelopes nobody wants
//! any more. What it is not: it never holds up a message of another actor, a start or a shutdown.
//!
//! Progress that comes late is worse than none: an original gateway lets it overwrite a final status. So it ages
//! within a second, and what is known to be the last step of a route within a quarter of that.

mod address;
mod backlog;
mod bodies;
mod circuit;
mod client;
mod counters;
mod finals;
mod grpc;
mod note;
mod options;
mod pace;
mod senders;
mod token;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::notices::Notices;
use crate::report::{Event, FinalReport, Progress, ReportError, Reporter};
use backlog::{Backlog, Waiting};
use circuit::Circuit;
use client::GatewayClient;
use counters::{Counters, Present};
use finals::Finals;
use grpc::{Fate, Grpc};
use note::{Fact, Note};
use pace::{Pace, Worth};

pub use address::{AddressError, GatewayAddress};
pub use counters::GatewayFigures;
pub use options::{GatewayOptions, GatewayProtocol};
pub use token::{GatewayToken, TokenError};

/// Progress reports under way at once, each envelope in a lane of its own so that its reports keep their order.
const PROGRESS_LANES: usize = 8;

/// Registrations of children under way at once.
const CHILD_LANES: usize = 4;

/// What is known to be the last step of a route ages so many times faster: its final report is close behind.
const LAST_STEP_AGES: u32 = 4;

/// How long what is kept over an outage stays in memory: children, items of streams, retries.
const KEPT_AGE: Duration = Duration::from_mins(1);

/// Tells a gateway. Dropping it ends its tasks; [`close`](Self::close) gives them time to send what waits.
pub struct GatewayReporter {
    desk: Arc<Desk>,
    /// Take what waits.
    tasks: Mutex<JoinSet<()>>,
    /// Keeps the stream that they hand it to.
    link: Mutex<JoinSet<()>>,
}

/// What the reporter and its tasks share.
struct Desk {
    options: GatewayOptions,
    client: GatewayClient,
    circuit: Circuit,
    pace: Pace,
    progress: Vec<Backlog<Note>>,
    children: Vec<Backlog<Note>>,
    finals: Finals,
    /// The way over gRPC, unless that is switched off.
    grpc: Option<Grpc>,
    notices: Arc<Notices>,
    counters: Counters,
    hasher: RandomState,
    /// The sidecar drains: nothing waits for a gateway that is away any more.
    hurry: CancellationToken,
}

/// The HTTP client could not be built; the gateway has no part in this.
#[derive(Debug, thiserror::Error)]
#[error("failed to prepare connections to the gateway {address}: {reason}")]
pub struct GatewayError {
    address: String,
    reason: String,
}

impl GatewayReporter {
    /// Starts the tasks that send, on the present tokio runtime. Waits for nothing: that the gateway is away is a
    /// warning in the log.
    pub fn start(options: GatewayOptions) -> Result<Self, GatewayError> {
        let client = GatewayClient::new(options.clone()).map_err(|reason| GatewayError {
            address: options.address.to_string(),
            reason,
        })?;
        let lanes = |count: usize| -> Vec<Backlog<Note>> {
            let new = || Backlog::new(options.max_waiting / count, options.max_waiting_bytes / count);
            std::iter::repeat_with(new).take(count).collect()
        };
        let hurry = CancellationToken::new();
        let grpc = (options.protocol == GatewayProtocol::Auto)
            .then(|| Grpc::new(hurry.clone(), options.request_timeout));
        let desk = Arc::new(Desk {
            client,
            circuit: Circuit::new(),
            pace: Pace::new(options.progress_rate),
            progress: lanes(PROGRESS_LANES),
            children: lanes(CHILD_LANES),
            finals: Finals::new(),
            counters: Counters::default(),
            hasher: RandomState::new(),
            grpc,
            notices: Arc::default(),
            hurry,
            options,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(senders::greet(Arc::clone(&desk)));
        for lane in 0..PROGRESS_LANES {
            tasks.spawn(senders::send_progress(Arc::clone(&desk), lane));
        }
        for lane in 0..CHILD_LANES {
            tasks.spawn(senders::register_children(Arc::clone(&desk), lane));
        }
        let mut link = JoinSet::new();
        link.spawn(grpc::link::keep(Arc::clone(&desk)));
        Ok(Self {
            desk,
            tasks: Mutex::new(tasks),
            link: Mutex::new(link),
        })
    }

    /// What it has done so far. For metrics.
    #[must_use]
    pub fn figures(&self) -> GatewayFigures {
        let desk = &self.desk;
        let waiting = desk.progress.iter().chain(&desk.children).map(Backlog::len).sum();
        desk.counters.figures(Present {
            waiting,
            unacknowledged: desk.grpc.as_ref().map_or(0, Grpc::unacknowledged),
            away: desk.circuit.is_away(),
            grpc: desk.grpc.as_ref().is_some_and(Grpc::is_on),
            cancelled: desk.notices.len(),
        })
    }

    /// Sends what waits, at most for `grace`, and ends the tasks. Call it once nothing reports any more.
    pub async fn close(&self, grace: Duration) {
        let desk = &self.desk;
        desk.hurry.cancel();
        for lane in desk.progress.iter().chain(&desk.children) {
            lane.close();
        }
        let take = |tasks: &Mutex<JoinSet<()>>| {
            std::mem::take(&mut *tasks.lock().unwrap_or_else(PoisonError::into_inner))
        };
        let (mut tasks, mut link) = (take(&self.tasks), take(&self.link));
        let ended = tokio::time::timeout(grace, async {
            while tasks.join_next().await.is_some() {}
            if let Some(grpc) = &desk.grpc {
                grpc.close();
            }
            while link.join_next().await.is_some() {}
        });
        if ended.await.is_err() {
            tasks.shutdown().await;
            link.shutdown().await;
        }
        let clear = |lanes: &[Backlog<Note>]| lanes.iter().map(Backlog::clear).sum();
        desk.counters.progress_dropped.add(clear(&desk.progress));
        desk.counters.children_lost.add(clear(&desk.children));
        for note in desk.grpc.as_ref().map(Grpc::off).unwrap_or_default() {
            desk.count(&note, &Fate::Lost);
        }
        let figures = self.figures();
        tracing::debug!(?figures, "reports to the gateway have ended");
    }
}

impl Reporter for GatewayReporter {
    fn progress(&self, progress: Progress) {
        let Progress {
            actor,
            envelope,
            event,
        } = progress;
        let (desk, route) = (&*self.desk, &envelope.route);
        let rerouted = match &event {
            Event::Completed { rerouted, .. } => rerouted.clone(),
            _ => None,
        };
        if let Event::Child { id, parent_id } = event {
            if desk.options.register_children {
                let parent_id = parent_id.into();
                let note = Note::about(&envelope, &route.actors, Fact::Child { parent_id });
                desk.tell_child(Note {
                    id: id.into(),
                    ..note
                });
            }
            return;
        }
        let Some(fact) = Fact::of(event, actor) else {
            return;
        };
        let actors = rerouted.as_deref().unwrap_or(&route.actors);
        let is_last = usize::try_from(route.current).is_ok_and(|at| at + 1 >= actors.len());
        if let Some((worth, age)) = desk.worth(&fact, is_last) {
            desk.tell(worth, age, || Note::about(&envelope, actors, fact));
        }
    }

    fn finish(&self, report: FinalReport) -> BoxFuture<'static, Result<(), ReportError>> {
        Box::pin(finals::finish(Arc::clone(&self.desk), report))
    }

    fn draining(&self) {
        self.desk.hurry.cancel();
    }

    fn notices(&self) -> Option<Arc<Notices>> {
        Some(Arc::clone(&self.desk.notices))
    }
}

impl Desk {
    /// What progress is worth, and for how long; `None` if there is no place for it. `is_last`: the actor is the last one
    /// of the route.
    fn worth(&self, fact: &Fact, is_last: bool) -> Option<(Worth, Duration)> {
        let age = self.options.progress_age;
        let is_grpc = self.grpc.as_ref().is_some_and(Grpc::is_on);
        match fact {
            Fact::Received { .. } | Fact::Processing { .. } | Fact::Noted { .. } => {
                Some((Worth::Passing, age))
            }
            Fact::Completed { .. } if is_last => Some((Worth::Lasting, age / LAST_STEP_AGES)),
            Fact::Retrying { .. } | Fact::Partial { .. } | Fact::Child { .. } if is_grpc => {
                Some((Worth::Kept, KEPT_AGE))
            }
            Fact::Completed { .. } | Fact::Retrying { .. } => Some((Worth::Lasting, age)),
            // Over HTTP there is no place for items, and children have a way of their own.
            Fact::Partial { .. } | Fact::Child { .. } => None,
        }
    }

    /// Puts progress into its lane, or drops it before it costs anything.
    fn tell(&self, worth: Worth, age: Duration, note: impl FnOnce() -> Note) {
        let now = Instant::now();
        let is_worth_it = worth == Worth::Kept || self.circuit.is_open(now);
        if !is_worth_it || !self.pace.admits(worth, now) {
            self.counters.progress_dropped.one();
            return;
        }
        let note = note();
        let key = self.key(&note.id);
        let dropped = lane(&self.progress, key).push(key, Waiting::new(note, worth, now + age));
        self.counters.progress_dropped.add(dropped);
    }

    /// A child that the gateway does not know loses its status, so this one is kept over an outage.
    fn tell_child(&self, note: Note) {
        let key = self.key(&note.id);
        let child = Waiting::child(note, Instant::now() + KEPT_AGE);
        let lost = lane(&self.children, key).push(key, child);
        self.counters.children_lost.add(lost);
    }

    /// The gateway offers no gRPC any more: what it did not acknowledge is told over HTTP, as far as that can be told
    /// late.
    fn fall_back(&self) {
        for note in self.grpc.as_ref().map(Grpc::off).unwrap_or_default() {
            if matches!(note.fact, Fact::Child { .. }) {
                self.tell_child(note);
            } else {
                self.count(&note, &Fate::Lost);
            }
        }
    }

    /// Counts what has become of a note.
    fn count(&self, note: &Note, fate: &Fate) {
        let counters = &self.counters;
        let is_child = matches!(note.fact, Fact::Child { .. });
        let counter = match (fate, is_child) {
            (Fate::Stored, true) => &counters.children_sent,
            (Fate::Refused(..) | Fate::Lost, true) => &counters.children_lost,
            (Fate::Stored, false) => &counters.progress_sent,
            (Fate::Refused(..), false) => &counters.progress_refused,
            (Fate::Lost, false) => &counters.progress_failed,
        };
        counter.one();
        if *fate != Fate::Stored {
            tracing::debug!(envelope = %note.id, ?fate, "the gateway did not take a report");
        }
    }

    fn key(&self, id: &str) -> u64 {
        self.hasher.hash_one(id)
    }
}

/// The lane of an envelope.
fn lane(lanes: &[Backlog<Note>], key: u64) -> &Backlog<Note> {
    // The remainder is below the number of lanes.
    &lanes[usize::try_from(key % lanes.len() as u64).unwrap_or_default()]
}

impl Waiting<Note> {
    fn new(note: Note, worth: Worth, until: Instant) -> Self {
        Self {
            size: note.size(),
            what: note,
            worth,
            until,
        }
    }

    fn child(note: Note, until: Instant) -> Self {
        Self::new(note, Worth::Kept, until)
    }
}
