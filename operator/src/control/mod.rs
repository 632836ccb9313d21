//! The controller: watches, reconciles, applies, records events, writes status.
//!
//! Inside, from the outside in: [`run`] starts the watches that keep a `view` of the cluster and a `work_queue` of
//! actors to look at; each look is one pass of `reconcile` and `round` (or of `deletion`), which asks `judge`, `collisions`,
//! [`crate::desired`] and [`crate::status`] what should be, and makes it so through `queue_keeping`, `apply`,
//! `status_writer` and `events`. A pass that finds everything as it should be sends nothing.
//!
//! What it is not: it decides neither what objects look like nor what a status says.

mod adoption;
mod apply;
mod backoff;
mod collisions;
mod compare;
mod deletion;
mod events;
mod former_queue;
mod judge;
mod left_behind;
mod memory;
mod metrics;
mod ownership;
mod queue_keeping;
mod reconcile;
mod rollouts;
mod round;
mod status_writer;
mod turns;
mod verdicts;
mod view;
mod work_queue;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::reconcile::Controller;
use self::view::{Scope, Wakes, watch_all};
use crate::desired::Defaults;
use crate::queues::Queues;
use crate::registry::Registry;
use crate::report::Observer;

/// How long the passes under way may take to end at a shutdown.
const FAREWELL: Duration = Duration::from_secs(10);
/// How long the API server may take to say its version.
const GREETING: Duration = Duration::from_secs(10);
/// Pauses until it is asked again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long a deletion waits for a broker that is away, unless [`Settings::deletion_patience`] says otherwise.
pub const DELETION_PATIENCE: Duration = Duration::from_mins(10);

/// What the controller is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Namespaces whose actors it cares for; empty means all.
    pub namespaces: Vec<String>,
    /// Namespace that gets the runtime script even without actors (contract operator §8.5).
    pub runtime_namespace: Option<String>,
    /// Passes at once; 0 counts as 1.
    pub concurrency: u16,
    /// How often each queue is looked after; `None` only when something else gives a reason.
    pub queue_check_interval: Option<Duration>,
    /// How often numbers of messages are asked for.
    pub status_refresh: Duration,
    /// How long the deletion of an actor waits for a broker that is away, before its queue is left where it is
    /// (rulings 12). [`DELETION_PATIENCE`] unless there is a reason.
    pub deletion_patience: Duration,
    /// The transports.
    pub registry: Arc<Registry>,
    /// What shows up in objects.
    pub defaults: Arc<Defaults>,
    /// Most workloads that roll at once because the operator, its script or its defaults changed.
    pub rollouts: u32,
}

/// What the controller works with.
#[derive(Clone)]
pub struct Parts {
    /// The brokers.
    pub queues: Arc<dyn Queues>,
    /// Who is told of every actor.
    pub observer: Arc<dyn Observer>,
}

/// Why the controller ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A watch ended, which only a defect can cause.
    #[error("a watch ended by itself")]
    WatchEnded,
}

/// Cares for all actors until `shutdown`; then ends the passes under way, within some seconds. Errors of the cluster and
/// of brokers do not end it.
pub async fn run(
    client: kube::Client,
    settings: Settings,
    parts: Parts,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    metrics::started(settings.concurrency.max(1));
    let scopes = match settings.namespaces.as_slice() {
        [] => vec![Scope::Cluster],
        names => names.iter().cloned().map(Scope::Namespace).collect(),
    };
    let server_minor = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        minor = server_minor(&client) => minor,
    };
    let controller = Arc::new(Controller::new(client.clone(), settings, parts, server_minor));
    let wakes = Wakes {
        view: controller.view.clone(),
        queue: controller.queue.clone(),
        memory: controller.memory.clone(),
        claims: controller.claims.clone(),
    };
    let mut watches = JoinSet::new();
    let mut synced = watch_all(&client, &scopes, &wakes, &mut watches);
    tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        ended = watches.join_next() => return ended.map_or(Ok(()), |_| Err(Error::WatchEnded)),
        () = synced.wait() => {}
    }
    tracing::info!(actors = controller.view.actors().len(), "watching");
    controller.begin().await;
    tokio::select! {
        _ = watches.join_next() => Err(Error::WatchEnded),
        () = work(&controller, &shutdown) => Ok(()),
    }
}

/// Takes actors from the queue and passes over them, some at once.
async fn work(controller: &Arc<Controller>, shutdown: &CancellationToken) {
    let places = Arc::new(Semaphore::new(controller.settings.concurrency.max(1).into()));
    let mut passes = JoinSet::new();
    loop {
        let place = tokio::select! {
            () = shutdown.cancelled() => break,
            place = places.clone().acquire_owned() => place,
        };
        let key = tokio::select! {
            () = shutdown.cancelled() => break,
            key = controller.queue.next() => key,
        };
        while passes.try_join_next().is_some() {}
        let controller = controller.clone();
        passes.spawn(async move {
            // A defect that one actor brings to light must not silence that actor for ever.
            let outcome = AssertUnwindSafe(controller.look_at(&key)).catch_unwind().await;
            if outcome.is_err() {
                tracing::error!(actor = %key, "a pass panicked and is made again; this is a defect of the operator");
                metrics::panicked();
                controller.queue.done(&key, Some(controller.pause_after_failure(&key)));
                controller.told(&key);
            }
            drop(place);
        });
    }
    let ending = async { while passes.join_next().await.is_some() {} };
    if tokio::time::timeout(FAREWELL, ending).await.is_err() {
        tracing::warn!("some passes did not end in time; they will be done again");
    }
}

/// The minor version of the API server, asked for until it is known: pod templates and disruption budgets depend on it,
/// and must not change to and fro because a server was slow once. 0 if the server never says it to us.
async fn server_minor(client: &kube::Client) -> u32 {
    let mut attempts = 0;
    loop {
        let problem = match tokio::time::timeout(GREETING, client.apiserver_version()).await {
            Ok(Ok(version)) => {
                let digits: String = version.minor.chars().take_while(char::is_ascii_digit).collect();
                return digits.parse().unwrap_or_default();
            }
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 401 | 403 | 404) => {
                tracing::warn!(
                    error = status.message,
                    "the API server does not tell its version (GET /version, role system:public-info-viewer), so the \
                     oldest one is assumed"
                );
                return 0;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {GREETING:?}"),
        };
        attempts += 1;
        tracing::warn!(
            error = problem,
            "the API server does not say its version; asking again"
        );
        tokio::time::sleep(backoff::delay(attempts, FIRST_PAUSE, LONGEST_PAUSE)).await;
    }
}
