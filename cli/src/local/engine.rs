//! Everything of a local pipeline that runs: runtimes, sidecars, end actors.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use asya_crew::{End, EndHandler, serve_end_actor};
use asya_objects::{Durability, Results};
use asya_runtime_protocol::ServerOptions;
use asya_sidecar::{Event, FinalReport, Progress, ReportError, Reporter, Role, Sidecar};
use asya_transport::local::LocalTransport;
use asya_transport::{Depth, Transport};
use bytes::Bytes;
use futures::future::{BoxFuture, join_all, select_all};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::gateway::{LocalGateway, Port};
use super::preflight::Project;
use super::runtime::{Answered, Runtime};
use super::state::{Lock, State};
use super::{ERROR_END, HAPPY_END, Input, settings};
use crate::view::{Screen, Told, Tracker};

/// Results that an end actor stores at the same time.
const END_CONCURRENCY: usize = 4;

/// Final envelopes that may wait for standard output; more are waited for by the end actors.
const FINALS: usize = 64;

/// What is left of the grace for results that need only be stored or printed, if the running calls took all of it.
pub(crate) const LEAST_GRACE: Duration = Duration::from_millis(500);

/// How long a drained queue may take to say what it holds.
const LAST_COUNT: Duration = Duration::from_secs(1);

/// A running pipeline. Dropping it ends every process that it started.
pub(crate) struct Engine {
    transport: Arc<LocalTransport>,
    steps: Vec<Step>,
    ends: Vec<EndActor>,
    reports: Arc<Reports>,
    gateway: Option<LocalGateway>,
    results: PathBuf,
    // Held until everything that uses the sockets has ended.
    sockets: tempfile::TempDir,
    _lock: Lock,
}

struct Step {
    sidecar: Sidecar,
    runtime: Arc<Runtime>,
}

struct EndActor {
    sidecar: Sidecar,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

/// Where reports of all sidecars come together. Outlives the engine, so that the last word is said after the drain.
pub(crate) struct Watch {
    tracker: Mutex<Tracker>,
    changed: Notify,
}

/// What is left after the drain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drained {
    /// Messages whose call did not end in time.
    pub(crate) returned: usize,
    /// Messages queued for this directory's actors and both ends; `None` if the queue could not tell.
    pub(crate) queued: Option<u64>,
}

/// Messages by actor, dead letters not among them.
type Depths = BTreeMap<String, Depth>;

/// What the sidecars report to.
struct Reports {
    watch: Arc<Watch>,
    screen: Arc<Screen>,
    /// By actor.
    answered: BTreeMap<String, Answered>,
    /// Taken away at the end, so that whoever prints the finals sees that there will be no more.
    finals: Mutex<Option<mpsc::Sender<Bytes>>>,
}

impl Watch {
    /// Looks at the figures of this run.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Tracker) -> T) -> T {
        look(&self.tracker())
    }

    fn tracker(&self) -> MutexGuard<'_, Tracker> {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reports {
    fn finals(&self) -> MutexGuard<'_, Option<mpsc::Sender<Bytes>>> {
        self.finals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reporter for Reports {
    fn progress(&self, progress: Progress) {
        if matches!(progress.event, Event::Completed { .. })
            && let Some(answered) = self.answered.get(&*progress.actor)
        {
            answered.store(true, Ordering::Relaxed);
        }
        let (actor, id) = (&progress.actor, &progress.envelope.id);
        let is_over = {
            let mut tracker = self.watch.tracker();
            tracker.progress(actor, id, &progress.event);
            tracker.is_over()
        };
        if is_over {
            // A generator has ended after all that it yielded.
            self.watch.changed.notify_one();
        }
        if let Some(told) = Told::of(&progress.event) {
            self.screen.tell(actor, id, &told);
        }
    }

    fn finish(&self, report: FinalReport) -> BoxFuture<'static, Result<(), ReportError>> {
        let (watch, finals) = (Arc::clone(&self.watch), self.finals().clone());
        Box::pin(async move {
            // Room first, so that what counts as ended is sure to be printed, however slow the reader is. Without a
            // reader there is no room either, and the result is stored, which is what counts.
            let room = match &finals {
                Some(finals) => finals.reserve().await.ok(),
                None => None,
            };
            let is_news = watch.tracker().finish(&report);
            watch.changed.notify_one();
            if let Some(room) = room
                && is_news
            {
                room.send(report.message);
            }
            Ok(())
        })
    }
}

impl Engine {
    /// Starts all actors of `project`, and a gateway if one is wanted; what handlers tell is shown on `screen`. Final
    /// envelopes of the run come out of the receiver, as they are stored.
    pub(crate) async fn start(
        project: &Project,
        state: &State,
        tracker: Tracker,
        screen: Arc<Screen>,
        gateway: Option<Port>,
    ) -> anyhow::Result<(Self, mpsc::Receiver<Bytes>)> {
        let lock = state.lock()?;
        let names = || project.actors.iter().map(|(actor, _)| actor.name.as_str());
        let transport = state.open_queue(names()).await?;
        let sockets = state.sockets()?;
        let results_dir = state.results();
        let results = Results::open_directory(&results_dir, Durability::Process)
            .context("failed to open the directory for results")?;
        let (finals, receiver) = mpsc::channel(FINALS);
        let watch = Arc::new(Watch {
            tracker: Mutex::new(tracker),
            changed: Notify::new(),
        });
        let mut engine = Self {
            transport,
            steps: Vec::new(),
            ends: Vec::new(),
            reports: Arc::new(Reports {
                watch,
                screen,
                answered: names()
                    .map(|name| (name.to_owned(), Answered::default()))
                    .collect(),
                finals: Mutex::new(Some(finals)),
            }),
            gateway: None,
            results: results_dir,
            sockets,
            _lock: lock,
        };
        if let Some(port) = gateway {
            let (dir, transport) = (&project.directory.path, engine.transport());
            engine.gateway = Some(LocalGateway::start(port, state.directory(), dir, transport).await?);
        }
        let results = Arc::new(results);
        for (end, name) in [(End::Happy, HAPPY_END), (End::Error, ERROR_END)] {
            engine.start_end(end, name, Arc::clone(&results)).await?;
        }
        engine.start_steps(project, state).await?;
        Ok((engine, receiver))
    }

    async fn start_steps(&mut self, project: &Project, state: &State) -> anyhow::Result<()> {
        for (index, (actor, runtime)) in project.actors.iter().enumerate() {
            // Numbers, not names: the path of a socket has 107 bytes at most.
            let socket_dir = self.sockets.path().join(index.to_string());
            let log = state.log(&actor.name);
            let runtime = Arc::new(Runtime::start(
                runtime.clone(),
                socket_dir.clone(),
                log,
                self.reports
                    .answered
                    .get(&actor.name)
                    .cloned()
                    .unwrap_or_default(),
            ));
            let sidecar = Sidecar::builder(settings::sidecar(actor, socket_dir), self.transport())
                .reporter(self.reporter()?)
                .runtime_control(Arc::clone(&runtime) as _)
                .start()
                .await?;
            self.steps.push(Step { sidecar, runtime });
        }
        Ok(())
    }

    async fn start_end(&mut self, end: End, name: &str, results: Arc<Results>) -> anyhow::Result<()> {
        let socket_dir = self.sockets.path().join(name);
        let role = if end == End::Happy {
            Role::HappyEnd
        } else {
            Role::ErrorEnd
        };
        let mut config = settings::base(name, role, socket_dir.clone());
        config.max_message_size = self
            .transport
            .max_message_size()
            .unwrap_or(config.max_message_size);
        config.slots = END_CONCURRENCY;
        let options = ServerOptions {
            max_frame: config.max_message_size,
            concurrency: NonZeroUsize::new(END_CONCURRENCY).unwrap_or(NonZeroUsize::MIN),
            ..ServerOptions::new(socket_dir)
        };
        let watch = self.watch();
        let observer = move |ended: &asya_crew::Ended<'_>| {
            if let Some(stored) = ended.stored {
                let place = stored
                    .path
                    .as_ref()
                    .map_or_else(|| stored.url.clone(), |path| path.display().to_string());
                watch.tracker().stored(&ended.request.envelope.id, place);
            }
        };
        let handler = EndHandler::new(end, Some(results), Some(Arc::new(observer)));
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let server = tokio::spawn(async move {
            if let Err(error) = serve_end_actor(options, handler, stopped).await {
                // Its sidecar finds the socket gone and waits; nothing is lost.
                tracing::error!(%error, "an end actor stopped serving");
            }
        });
        let sidecar = Sidecar::builder(config, self.transport())
            .reporter(self.reporter()?)
            .start()
            .await?;
        self.ends.push(EndActor {
            sidecar,
            stop,
            server,
        });
        Ok(())
    }

    fn transport(&self) -> Arc<dyn Transport> {
        Arc::<LocalTransport>::clone(&self.transport)
    }

    fn reporter(&self) -> anyhow::Result<Arc<dyn Reporter>> {
        let reports: Arc<dyn Reporter> = Arc::<Reports>::clone(&self.reports);
        match &self.gateway {
            Some(gateway) => gateway.reporter(reports),
            None => Ok(reports),
        }
    }

    /// Where its gateway listens, if it has one.
    pub(crate) fn gateway_url(&self) -> Option<&str> {
        self.gateway.as_ref().map(LocalGateway::url)
    }

    /// Queues inputs and counts them as part of this run.
    pub(crate) async fn submit(&self, inputs: Vec<Input>) -> anyhow::Result<()> {
        for input in &inputs {
            self.reports.watch.tracker().sent(&input.id);
        }
        let published = join_all(
            inputs
                .into_iter()
                .map(|input| self.transport.publish(input.message)),
        )
        .await;
        published
            .into_iter()
            .collect::<Result<(), _>>()
            .context("failed to queue the input")
    }

    /// Resolves when something may have come to its end.
    pub(crate) async fn changed(&self) {
        self.reports.watch.changed.notified().await;
    }

    /// The figures of this run.
    pub(crate) fn watch(&self) -> Arc<Watch> {
        Arc::clone(&self.reports.watch)
    }

    /// Messages of this directory's actors and of both ends.
    pub(crate) async fn depths(&self) -> anyhow::Result<Depths> {
        Ok(self.all_depths().await?.0)
    }

    /// Messages of actors that this directory does not have: nothing here takes them.
    pub(crate) async fn strangers(&self) -> anyhow::Result<Depths> {
        let mut strangers = self.all_depths().await?.1;
        strangers.retain(|_, depth| depth.total() > 0);
        Ok(strangers)
    }

    async fn all_depths(&self) -> anyhow::Result<(Depths, Depths)> {
        let depths = self.transport.depths().await?;
        let actors = &self.reports.answered;
        Ok(depths
            .into_iter()
            .filter(|(queue, _)| !queue.as_str().ends_with("-dlq"))
            .map(|(queue, depth)| (queue.actor().to_owned(), depth))
            .partition(|(name, _)| {
                [HAPPY_END, ERROR_END].contains(&name.as_str()) || actors.contains_key(name)
            }))
    }

    /// Resolves with the reason when a part cannot go on.
    pub(crate) async fn failed(&self) -> String {
        let sidecars = self
            .steps
            .iter()
            .map(|step| &step.sidecar)
            .chain(self.ends.iter().map(|end| &end.sidecar));
        let sidecars = sidecars.map(|sidecar| -> BoxFuture<'_, String> { Box::pin(sidecar.failed()) });
        let runtimes = self
            .steps
            .iter()
            .map(|step| -> BoxFuture<'_, String> { Box::pin(step.runtime.failed()) });
        let gateway = self
            .gateway
            .iter()
            .map(|gateway| -> BoxFuture<'_, String> { Box::pin(gateway.failed()) });
        select_all(runtimes.chain(sidecars).chain(gateway)).await.0
    }

    /// Stops pulling, lets running calls end until `deadline`, and ends every process.
    pub(crate) async fn drain(mut self, deadline: Instant) -> Drained {
        let left = move || deadline.saturating_duration_since(Instant::now());
        let steps = std::mem::take(&mut self.steps)
            .into_iter()
            .map(|step| async move {
                let drained = step.sidecar.drain(left()).await;
                step.runtime.stop().await;
                drained.returned
            });
        let returned: usize = join_all(steps).await.into_iter().sum();
        let ends = std::mem::take(&mut self.ends).into_iter().map(|end| async move {
            let drained = end.sidecar.drain(left().max(LEAST_GRACE)).await;
            end.stop.cancel();
            if let Err(error) = end.server.await {
                tracing::error!(%error, "an end actor did not end cleanly");
            }
            drained.returned
        });
        let returned = returned + join_all(ends).await.into_iter().sum::<usize>();
        if let Some(gateway) = self.gateway.take() {
            gateway.close().await;
        }
        let queued = match tokio::time::timeout(LAST_COUNT, self.depths()).await {
            Ok(Ok(depths)) => Some(depths.values().map(Depth::total).sum()),
            Ok(Err(_)) | Err(_) => None,
        };
        self.reports.finals().take();
        Drained { returned, queued }
    }

    /// Where results are stored.
    pub(crate) fn results(&self) -> &Path {
        &self.results
    }
}
