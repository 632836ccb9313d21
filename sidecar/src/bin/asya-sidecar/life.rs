//! The life of the program from its settings to its end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use asya_program::{Exit, Signal, Signals};
use asya_sidecar::gateway::{GatewayOptions, GatewayReporter};
use asya_sidecar::{Config, Meters, RunUntil, Sidecar};
use asya_transport::rabbitmq::RabbitMqTransport;
use asya_transport::{QueueName, Transport as _};
use tokio::task::JoinSet;

use crate::liveness::Watch;
use crate::settings::Settings;
use crate::station::{Running, Station};
use crate::{broker, mark, metrics, server};

/// How long reports to the gateway may still be sent at the end.
const LAST_REPORTS: Duration = Duration::from_secs(2);

/// How long connections may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// Pause between two looks whether the runtime has ended.
const LOOK: Duration = Duration::from_millis(100);

/// Runs until a signal or a failure ends it. The error says in one line why it could not go on.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<Exit> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let socket_dir = settings.config.socket_dir.clone();
    let (socket, grace) = (settings.config.socket(), settings.grace);
    if settings.config.run_until == RunUntil::Stopped {
        mark::remove(&socket_dir, mark::DONE);
    } else if mark::is_there(&socket_dir, mark::DONE) {
        // A kubelet starts a native sidecar again for as long as the pod lives.
        tracing::info!("the work was done by the sidecar before this one");
        await_end(&socket, grace, &mut signals).await;
        return Ok(Exit::Success);
    }
    mark::remove(&socket_dir, mark::DRAINING);
    mark::remove(&socket_dir, mark::DRAINED);
    let end = live(settings, &mut signals).await?;
    if end == End::Done {
        mark::leave(&socket_dir, mark::DONE);
    }
    if end.exit() == Exit::Success {
        mark::leave(&socket_dir, mark::DRAINED);
    }
    if end == End::Done {
        await_end(&socket, grace, &mut signals).await;
    }
    Ok(end.exit())
}

/// Why the tree has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Asked to.
    Asked,
    /// Asked to twice.
    Hurried(Signal),
    /// The work is done.
    Done,
}

impl End {
    const fn exit(self) -> Exit {
        match self {
            Self::Asked | Self::Done => Exit::Success,
            Self::Hurried(signal) => Exit::Interrupted(signal),
        }
    }
}

/// Waits until the runtime has seen that the work is done: a sidecar that ends before it would only be started again.
async fn await_end(socket: &Path, grace: Duration, signals: &mut Signals) {
    let gone = async {
        while socket.exists() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        () = gone => tracing::info!("the runtime has ended"),
        signal = signals.next() => tracing::info!(signal = signal.name(), "asked to end"),
        () = tokio::time::sleep(grace) => tracing::warn!(
            socket = %socket.display(), grace_seconds = grace.as_secs(),
            "the runtime does not end although the work is done; give it ASYA_RUN_UNTIL=done"
        ),
    }
}

async fn live(settings: Settings, signals: &mut Signals) -> anyhow::Result<End> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow!("another TLS provider was installed before"))?;
    // Before the meters: they count with the recorder that is there when they are made.
    let recorder = metrics::install(&settings)?;
    let meters = Meters::new(&settings.namespace, &settings.config.actor, "rabbitmq");
    let station = Station::new(&settings, recorder, &meters);
    let _background = serve(&settings, &station);
    let queue = QueueName::for_actor(&settings.config.actor);
    let auto_create = settings.rabbitmq.queues.auto_create;
    let connecting = broker::connect(settings.rabbitmq, &queue, settings.is_url);
    let transport = tokio::select! {
        connected = connecting => connected?,
        signal = signals.next() => {
            tracing::info!(signal = signal.name(), "asked to end before the broker was reached");
            return Ok(End::Asked);
        }
    };
    let gateway = settings.gateway.filter(|_| settings.reports);
    let socket_dir = settings.config.socket_dir.clone();
    let tree = tokio::select! {
        tree = Tree::start(settings.config, meters, transport, gateway, auto_create) => tree?,
        signal = signals.next() => {
            tracing::info!(signal = signal.name(), "asked to end before anything was consumed");
            return Ok(End::Asked);
        }
    };
    station.runs(tree.running());
    tracing::info!("connected to RabbitMQ, waiting for the runtime");
    let asked = tree.until_asked_or_done(signals).await?;
    station.drains();
    let Some(signal) = asked else {
        tracing::info!("the work is done");
        // Nothing is left to drain.
        tree.end(settings.grace, &station).await;
        return Ok(End::Done);
    };
    mark::leave(&socket_dir, mark::DRAINING);
    let grace_seconds = settings.grace.as_secs();
    tracing::info!(signal = signal.name(), grace_seconds, "draining");
    tokio::select! {
        () = tree.end(settings.grace, &station) => Ok(End::Asked),
        again = signals.next() => {
            tracing::warn!(signal = again.name(), "asked again, ending at once");
            Ok(End::Hurried(again))
        }
    }
}

/// Starts what runs beside the tree; it ends with the value.
fn serve(settings: &Settings, station: &Arc<Station>) -> JoinSet<()> {
    let mut background = JoinSet::new();
    if let Some(address) = settings.listen.clone() {
        background.spawn(server::serve(address, Arc::clone(station)));
    }
    let patience = settings
        .gateway
        .as_ref()
        .map_or(0, |gateway| gateway.final_patience.as_secs());
    let watch = Watch::new(u32::try_from(patience).unwrap_or(u32::MAX));
    let station = Arc::clone(station);
    background.spawn(async move { station.watch(watch).await });
    background
}

/// The tree at work, with what it needs.
struct Tree {
    sidecar: Sidecar,
    transport: RabbitMqTransport,
    gateway: Option<Arc<GatewayReporter>>,
}

impl Tree {
    async fn start(
        mut config: Config,
        meters: Meters,
        transport: RabbitMqTransport,
        gateway: Option<GatewayOptions>,
        auto_create: bool,
    ) -> anyhow::Result<Self> {
        if let Some(limit) = transport.max_message_size() {
            config.publish_limit = limit;
        }
        if config.role.is_end() && auto_create {
            // An end actor publishes what it cannot process there, and nowhere else.
            let dead_letters = QueueName::for_actor(&config.actor).dead_letter();
            if let Err(error) = transport.administration().declare(&dead_letters).await {
                tracing::warn!(queue = %dead_letters, %error, "the dead-letter queue could not be created");
            }
        }
        let gateway = gateway.map(GatewayReporter::start).transpose()?.map(Arc::new);
        let mut builder = Sidecar::builder(config, Arc::new(transport.clone())).meters(meters);
        if let Some(gateway) = &gateway {
            builder = builder.reporter(Arc::clone(gateway) as _);
        }
        Ok(Self {
            sidecar: builder.start().await?,
            transport,
            gateway,
        })
    }

    fn running(&self) -> Running {
        Running {
            monitor: self.sidecar.monitor(),
            transport: self.transport.clone(),
            gateway: self.gateway.clone(),
        }
    }

    /// Waits for a signal, or until the work is done (`None`). An error is the reason why the tree cannot go on.
    async fn until_asked_or_done(&self, signals: &mut Signals) -> anyhow::Result<Option<Signal>> {
        let ready = self.sidecar.ready();
        let done = self.sidecar.done();
        tokio::pin!(ready, done);
        let mut was_ready = false;
        loop {
            tokio::select! {
                () = &mut ready, if !was_ready => {
                    was_ready = true;
                    tracing::info!("the runtime is ready, consuming");
                }
                signal = signals.next() => return Ok(Some(signal)),
                () = &mut done => return Ok(None),
                cause = self.sidecar.failed() => return Err(anyhow!(cause)),
            }
        }
    }

    /// Drains and lets go of everything.
    async fn end(self, grace: Duration, station: &Station) {
        let drained = self.sidecar.drain(grace).await;
        if let Some(gateway) = &self.gateway {
            gateway.close(LAST_REPORTS).await;
        }
        tracing::info!(returned = drained.returned, "drained");
        station.ends();
        drop(self.transport);
        // What was acknowledged is written. A connection that is cut while the broker still sends may take that with
        // it, and a quorum queue hears of many acknowledgements later than the channel: both get a moment.
        tokio::time::sleep(GOODBYE).await;
    }
}
