//! Reports to a gateway over HTTP (contract data-plane §10), beside the path of messages.
//!
//! What it is: a [`Reporter`]. Progress is encoded, put into a bounded [backlog](backlog) and sent by tasks of its own;
//! what is too much, too old, or for a gateway that is [away](circuit) is dropped and counted. The [final
//! word](finals) of an end actor is the one thing that is waited for. What it is not: it never holds up a message of
//! another actor, a start or a shutdown, and it reads nothing from a gateway but the status of its answers.
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
mod options;
mod pace;
mod senders;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::report::{Event, FinalReport, Progress, ReportError, Reporter};
use backlog::{Backlog, Waiting};
use circuit::Circuit;
use client::GatewayClient;
use counters::Counters;
use finals::Finals;
use pace::{Pace, Worth};

pub use address::{AddressError, GatewayAddress};
pub use counters::GatewayFigures;
pub use options::GatewayOptions;

/// Progress reports under way at once, each envelope in a lane of its own so that its reports keep their order.
const PROGRESS_LANES: usize = 8;

/// Registrations of children under way at once.
const CHILD_LANES: usize = 4;

/// What is known to be the last step of a route ages so many times faster: its final report is close behind.
const LAST_STEP_AGES: u32 = 4;

/// How long a child that the gateway could not be told about stays in memory.
const CHILD_AGE: Duration = Duration::from_mins(1);

/// Tells a gateway. Dropping it ends its tasks; [`close`](Self::close) gives them time to send what waits.
pub struct GatewayReporter {
    desk: Arc<Desk>,
    tasks: Mutex<JoinSet<()>>,
}

/// What the reporter and its tasks share.
struct Desk {
    options: GatewayOptions,
    client: GatewayClient,
    circuit: Circuit,
    pace: Pace,
    progress: Vec<Backlog>,
    children: Vec<Backlog>,
    finals: Finals,
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
        let client =
            GatewayClient::new(options.address.clone(), options.request_timeout).map_err(|reason| {
                GatewayError {
                    address: options.address.to_string(),
                    reason,
                }
            })?;
        let lanes = |count: usize| -> Vec<Backlog> {
            let new = || Backlog::new(options.max_waiting / count, options.max_waiting_bytes / count);
            std::iter::repeat_with(new).take(count).collect()
        };
        let desk = Arc::new(Desk {
            client,
            circuit: Circuit::new(),
            pace: Pace::new(options.progress_rate),
            progress: lanes(PROGRESS_LANES),
            children: lanes(CHILD_LANES),
            finals: Finals::new(),
            counters: Counters::default(),
            hasher: RandomState::new(),
            hurry: CancellationToken::new(),
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
        Ok(Self {
            desk,
            tasks: Mutex::new(tasks),
        })
    }

    /// What it has done so far. For metrics.
    #[must_use]
    pub fn figures(&self) -> GatewayFigures {
        let desk = &self.desk;
        let waiting = desk.progress.iter().chain(&desk.children).map(Backlog::len).sum();
        desk.counters.figures(waiting, desk.circuit.is_away())
    }

    /// Sends what waits, at most for `grace`, and ends the tasks. Call it once nothing reports any more.
    pub async fn close(&self, grace: Duration) {
        let desk = &self.desk;
        desk.hurry.cancel();
        for lane in desk.progress.iter().chain(&desk.children) {
            lane.close();
        }
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let ended = tokio::time::timeout(grace, async { while tasks.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            tasks.shutdown().await;
        }
        let clear = |lanes: &[Backlog]| lanes.iter().map(Backlog::clear).sum();
        desk.counters.progress_dropped.add(clear(&desk.progress));
        desk.counters.children_lost.add(clear(&desk.children));
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
        let (desk, id, route) = (&*self.desk, &envelope.id, &envelope.route);
        let age = desk.options.progress_age;
        match event {
            Event::Received { bytes } => {
                desk.tell(id, Worth::Passing, age, || bodies::received(route, bytes));
            }
            Event::Processing => desk.tell(id, Worth::Passing, age, || bodies::processing(route, &actor)),
            // Nothing is said about an empty answer; its end actor says the next thing. There is no place for partial
            // results.
            Event::Completed { outputs: 0, .. } | Event::Failed { .. } | Event::Partial { .. } => {}
            Event::Noted { fraction, message } => desk.tell(id, Worth::Passing, age, || {
                bodies::noted(route, fraction, message.as_deref())
            }),
            Event::Completed { took, rerouted, .. } => {
                let actors = rerouted.as_deref().unwrap_or(&route.actors);
                let is_last = usize::try_from(route.current).is_ok_and(|at| at + 1 >= actors.len());
                let age = age / if is_last { LAST_STEP_AGES } else { 1 };
                let body = || bodies::completed(actors, route.current, took);
                desk.tell(id, Worth::Lasting, age, body);
            }
            Event::Retrying {
                attempt,
                after,
                error,
                ..
            } => {
                let body = || bodies::retrying(route, attempt, after, &error);
                desk.tell(id, Worth::Lasting, age, body);
            }
            Event::Child { id, parent_id } => {
                if desk.options.register_children {
                    desk.tell_child(&id, bodies::child(&id, &parent_id, route));
                }
            }
        }
    }

    fn finish(&self, report: FinalReport) -> BoxFuture<'static, Result<(), ReportError>> {
        Box::pin(finals::finish(Arc::clone(&self.desk), report))
    }

    fn draining(&self) {
        self.desk.hurry.cancel();
    }
}

impl Desk {
    /// Puts progress into its lane, or drops it before it costs anything.
    fn tell(&self, id: &str, worth: Worth, age: Duration, body: impl FnOnce() -> Bytes) {
        let now = Instant::now();
        if !self.circuit.is_open(now) || !self.pace.admits(worth, now) {
            self.counters.progress_dropped.one();
            return;
        }
        let key = self.key(id);
        let waiting = Waiting {
            id: id.into(),
            body: body(),
            worth,
            until: now + age,
        };
        let dropped = lane(&self.progress, key).push(key, waiting);
        self.counters.progress_dropped.add(dropped);
    }

    /// A child that the gateway does not know loses its status, so this one is kept over an outage.
    fn tell_child(&self, id: &str, body: Bytes) {
        let key = self.key(id);
        let waiting = Waiting {
            id: id.into(),
            body,
            worth: Worth::Lasting,
            until: Instant::now() + CHILD_AGE,
        };
        let lost = lane(&self.children, key).push(key, waiting);
        self.counters.children_lost.add(lost);
    }

    fn key(&self, id: &str) -> u64 {
        self.hasher.hash_one(id)
    }
}

/// The lane of an envelope.
fn lane(lanes: &[Backlog], key: u64) -> &Backlog {
    // The remainder is below the number of lanes.
    &lanes[usize::try_from(key % lanes.len() as u64).unwrap_or_default()]
}
