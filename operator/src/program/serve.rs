//! Running, from the first log line to the end.

use std::sync::Arc;
use std::time::Duration;

use asya_program::{Exit, Reading, Signals};
use kube::Client;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::actors::Actors;
use super::arguments::Flags;
use super::endpoints::{self, Endpoint, Phase};
use super::environment::Prepared;
use super::lease::Lease;
use super::{Ending, client, metrics, waiting};
use crate::control;
use crate::queues::{Brokers, KubeSecrets, Owner};
use crate::report::{self, Observer, Reporter};

/// How long passes that have begun may take to end; with the release of the lease well below the 30 s of a pod.
const DRAINING: Duration = Duration::from_secs(18);

/// How long what they began at a broker may take to end after that.
const SETTLING: Duration = Duration::from_secs(5);

/// Says what is wrong, or runs until a signal or a failure ends it.
pub(super) fn start(reading: Reading<Prepared>, flags: &Flags) -> Ending {
    let Some(prepared) = reading.start(env!("CARGO_PKG_VERSION")) else {
        return Ending::Plain(Exit::CannotGoOn);
    };
    tracing::info!(
        transports = prepared.registry.summary(),
        script = prepared.defaults.script.hash,
        "configured"
    );
    // The one provider of TLS; a second call changes nothing.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("failed to start the async runtime: {error}");
            return Ending::Plain(Exit::CannotGoOn);
        }
    };
    let ending = runtime.block_on(live(prepared, flags));
    // Tasks of clients of brokers must not hold the process back.
    runtime.shutdown_background();
    ending.unwrap_or_else(|reason| {
        tracing::error!("{reason}");
        Ending::Plain(Exit::CannotGoOn)
    })
}

/// The error says in one line why it cannot go on.
async fn live(prepared: Prepared, flags: &Flags) -> Result<Ending, String> {
    let mut signals = Signals::listen().map_err(|error| format!("cannot listen for signals: {error}"))?;
    let recorder = metrics::install().map_err(|error| format!("metrics cannot be recorded: {error}"))?;
    let _upkeep = metrics::Upkeep::start(recorder.clone());
    let shutdown = CancellationToken::new();
    let (phase, seen) = watch::channel(Phase::Connecting);
    let actors = Arc::new(Actors::default());
    let render = {
        let actors = Arc::clone(&actors);
        Arc::new(move || recorder.render() + &actors.render())
    };
    let routes = (endpoints::metrics(render), endpoints::health(seen));
    let measured = Endpoint::start(&flags.metrics_bind_address, "--metrics-bind-address", routes.0).await?;
    let probed = Endpoint::start(
        &flags.health_probe_bind_address,
        "--health-probe-bind-address",
        routes.1,
    )
    .await?;
    tracing::info!(
        metrics = measured.as_ref().map(Endpoint::address),
        health = probed.as_ref().map(Endpoint::address),
        "listening"
    );
    let mut operator = Operator {
        phase,
        shutdown,
        actors,
        lease: None,
    };
    let client = tokio::select! {
        connected = operator.connect(&prepared, flags) => connected?,
        signal = signals.next() => {
            tracing::info!(signal = signal.name(), "asked to end before it worked");
            return Ok(Ending::Plain(Exit::Success));
        }
    };
    operator.work(client, prepared, &mut signals).await
}

/// What lives as long as the process.
struct Operator {
    phase: watch::Sender<Phase>,
    shutdown: CancellationToken,
    actors: Arc<Actors>,
    lease: Option<Lease>,
}

/// The cluster, and what it is called.
struct Connected {
    client: Client,
    cluster: String,
}

impl Operator {
    /// Waits until this replica may work.
    async fn connect(&mut self, prepared: &Prepared, flags: &Flags) -> Result<Connected, String> {
        let config = client::config(flags.kubeconfig.as_deref()).await?;
        let namespace = prepared
            .lease_namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        tracing::info!(server = %config.cluster_url, lease_namespace = namespace, "connecting");
        if config.accept_invalid_certs {
            tracing::warn!("the certificate of the API server is not checked (insecure-skip-tls-verify)");
        }
        let client = client::client(config)?;
        waiting::for_definition(&client, &prepared.namespaces, &self.phase).await?;
        let cluster = waiting::for_cluster_name(&client, prepared.cluster.clone()).await?;
        if flags.leader_elect {
            self.phase.send_replace(Phase::WaitingForLease);
            let mut lease = Lease::new(client.clone(), &namespace);
            tracing::info!(identity = lease.identity(), namespace, "waiting for the lease");
            lease.acquire().await;
            tracing::info!(identity = lease.identity(), "this replica leads");
            self.lease = Some(lease);
        }
        Ok(Connected { client, cluster })
    }

    /// Works until it is asked to end, fails, or loses the lease.
    async fn work(
        self,
        connected: Connected,
        prepared: Prepared,
        signals: &mut Signals,
    ) -> Result<Ending, String> {
        let Self {
            phase,
            shutdown,
            actors,
            mut lease,
        } = self;
        phase.send_replace(Phase::Working);
        tracing::info!(
            cluster = connected.cluster,
            namespaces = namespaces(&prepared),
            "working"
        );
        let brokers = match brokers(&connected, &prepared) {
            Ok(brokers) => Arc::new(brokers),
            Err(reason) => {
                if let Some(lease) = lease {
                    lease.release().await;
                }
                return Err(reason);
            }
        };
        let controlling = control(
            connected,
            prepared,
            Arc::clone(&brokers),
            actors,
            shutdown.clone(),
        );
        let mut working = tokio::spawn(controlling);
        let ended = tokio::select! {
            ended = &mut working => Some(ended),
            reason = hold(lease.as_mut()) => return Ok(lost(&reason)),
            signal = signals.next() => {
                tracing::info!(signal = signal.name(), "ending: passes that have begun are finished");
                None
            }
        };
        phase.send_replace(Phase::Ending);
        shutdown.cancel();
        let limit = Instant::now() + DRAINING;
        let ended = if let Some(ended) = ended {
            Some(ended)
        } else {
            tokio::select! {
                ended = &mut working => Some(ended),
                reason = hold(lease.as_mut()) => return Ok(lost(&reason)),
                () = sleep_until(limit) => {
                    tracing::warn!("passes that have begun do not end; they are left");
                    working.abort();
                    None
                }
                again = signals.next() => {
                    tracing::warn!(signal = again.name(), "asked again, ending at once");
                    return Ok(Ending::Plain(Exit::Interrupted(again)));
                }
            }
        };
        // A message that came while its queue was being deleted is put back before anybody else leads.
        tokio::select! {
            settled = timeout(SETTLING, brokers.settled()) => if settled.is_err() {
                tracing::warn!("what has begun at a broker does not end; it is left");
            },
            reason = hold(lease.as_mut()) => return Ok(lost(&reason)),
        }
        if let Some(lease) = lease {
            lease.release().await;
        }
        match ended {
            None | Some(Ok(Ok(()))) => {
                tracing::info!("ended");
                Ok(Ending::Plain(Exit::Success))
            }
            Some(Ok(Err(reason))) => Err(reason),
            Some(Err(panic)) => Err(format!("the controller has failed: {panic}")),
        }
    }
}

fn lost(reason: &str) -> Ending {
    tracing::error!("the lease is lost: {reason}; ending, so that one replica alone works");
    Ending::LostLease
}

/// Holds the lease if there is one; without one nothing is ever lost.
async fn hold(lease: Option<&mut Lease>) -> String {
    match lease {
        Some(lease) => lease.hold().await,
        None => std::future::pending().await,
    }
}

fn namespaces(prepared: &Prepared) -> String {
    if prepared.namespaces.is_empty() {
        "all".into()
    } else {
        prepared.namespaces.join(",")
    }
}

/// All brokers, as this cluster reaches them.
fn brokers(connected: &Connected, prepared: &Prepared) -> Result<Brokers, String> {
    let client = connected.client.clone();
    let cluster = connected.cluster.clone();
    let brokers = Brokers::new(Arc::new(KubeSecrets { client }), Owner { cluster });
    match &prepared.ca_file {
        Some(path) => brokers.trusting(path.clone()),
        None => Ok(brokers),
    }
}

/// The controller with all its parts; returns when it has ended.
async fn control(
    connected: Connected,
    prepared: Prepared,
    brokers: Arc<Brokers>,
    actors: Arc<Actors>,
    shutdown: CancellationToken,
) -> Result<(), String> {
    let Connected { client, cluster } = connected;
    if let Some(address) = prepared.gateway {
        let mut options = report::Options::new(address, cluster);
        options.token = prepared.gateway_token;
        actors.tell(Reporter::start(options, shutdown.clone()));
    }
    let parts = control::Parts {
        queues: brokers,
        observer: actors as Arc<dyn Observer>,
    };
    let settings = control::Settings {
        namespaces: prepared.namespaces,
        runtime_namespace: Some(prepared.runtime_namespace),
        concurrency: prepared.concurrency,
        queue_check_interval: prepared.queue_check_interval,
        status_refresh: prepared.status_refresh,
        deletion_patience: control::DELETION_PATIENCE,
        registry: prepared.registry,
        defaults: prepared.defaults,
        rollouts: prepared.rollouts,
    };
    control::run(client, settings, parts, shutdown)
        .await
        .map_err(|error| client::causes(&error))
}
