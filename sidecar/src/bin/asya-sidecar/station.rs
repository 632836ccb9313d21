//! What the HTTP endpoints tell: one place that knows how far the program has come.
//!
//! Ready means that messages are taken from the queue. Alive means progress, see [`liveness`](crate::liveness).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use asya_sidecar::gateway::GatewayReporter;
use asya_sidecar::{Meters, Monitor, QueueState, Snapshot};
use asya_transport::rabbitmq::{BrokerState, RabbitMqTransport};
use asya_transport::{QueueName, Transport as _};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::liveness::{Broker, Watch};
use crate::metrics::Neighbours;
use crate::settings::Settings;

/// Pause between two looks at the tree.
const TICK: Duration = Duration::from_secs(1);

/// How long a look for the queue may take.
const LOOK: Duration = Duration::from_secs(5);

/// Shared by the program and its endpoints.
pub(crate) struct Station {
    queue: QueueName,
    recorder: PrometheusHandle,
    neighbours: Neighbours,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    draining: bool,
    /// Who is stuck.
    stuck: Vec<String>,
}

/// How far the program has come.
enum Phase {
    /// The broker has not been reached yet; its address.
    Connecting(String),
    /// There is a tree.
    Running(Running),
    /// There is none any more.
    Ended,
}

/// What there is to look at while the tree runs.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) monitor: Monitor,
    pub(crate) transport: RabbitMqTransport,
    pub(crate) gateway: Option<Arc<GatewayReporter>>,
}

impl Station {
    pub(crate) fn new(settings: &Settings, recorder: PrometheusHandle, meters: &Meters) -> Arc<Self> {
        Arc::new(Self {
            queue: QueueName::for_actor(&settings.config.actor),
            recorder,
            neighbours: Neighbours::new(meters, settings.gateway.is_some()),
            state: Mutex::new(State {
                phase: Phase::Connecting(settings.rabbitmq.address.to_string()),
                draining: false,
                stuck: Vec::new(),
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; if something did, the state is still the best knowledge there is.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn runs(&self, running: Running) {
        self.state().phase = Phase::Running(running);
    }

    pub(crate) fn drains(&self) {
        self.state().draining = true;
    }

    /// Lets go of everything, so that connections can close.
    pub(crate) fn ends(&self) {
        self.state().phase = Phase::Ended;
    }

    fn running(&self) -> Option<Running> {
        match &self.state().phase {
            Phase::Running(running) => Some(running.clone()),
            Phase::Connecting(_) | Phase::Ended => None,
        }
    }

    /// The text of `/metrics`.
    pub(crate) fn metrics(&self) -> String {
        if let Some(running) = self.running() {
            running.monitor.observe();
            let state = running.transport.state();
            self.neighbours
                .observe_broker(Some(&state), running.transport.counters());
            if let Some(gateway) = &running.gateway {
                self.neighbours.observe_gateway(gateway.figures());
            }
        }
        self.recorder.render()
    }

    /// Why messages are not taken from the queue; nothing when they are.
    pub(crate) fn unready(&self) -> Vec<String> {
        let draining = self.state().draining;
        let mut reasons = match &self.state().phase {
            Phase::Connecting(broker) => vec![format!("no connection to RabbitMQ at {broker} yet")],
            Phase::Ended => vec!["ending".into()],
            Phase::Running(running) => {
                let snapshot = running.monitor.snapshot();
                missing(&self.queue, snapshot.as_ref(), &running.transport.state())
            }
        };
        if draining {
            reasons.insert(0, "draining: asked to end".into());
        }
        reasons
    }

    /// Who is stuck; nobody when all is well.
    pub(crate) fn stuck(&self) -> Vec<String> {
        self.state().stuck.clone()
    }

    /// Looks at the tree once a second, for as long as it is polled.
    pub(crate) async fn watch(&self, mut watch: Watch) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // Histograms collect single values until somebody sums them up.
            self.recorder.run_upkeep();
            let Some(running) = self.running() else {
                continue;
            };
            let Some(snapshot) = running.monitor.snapshot() else {
                continue;
            };
            let state = running.transport.state();
            let broker = match state {
                BrokerState::Connected => Broker::Works,
                BrokerState::Blocked { .. } | BrokerState::Reconnecting { .. } => Broker::Away,
            };
            let stuck = watch.look(&snapshot, broker);
            let known = std::mem::replace(&mut self.state().stuck, stuck.clone());
            if known.is_empty() && !stuck.is_empty() {
                tracing::error!(reasons = stuck.join("; "), "a part of the sidecar is stuck");
            }
            if snapshot.queue != QueueState::Found && broker == Broker::Works {
                self.look_for_queue(&running).await;
            }
        }
    }

    /// An idle queue gives no sign of itself, so it is looked for until it was there once.
    async fn look_for_queue(&self, running: &Running) {
        let looking = running.transport.administration().depth(&self.queue);
        if let Ok(Ok(_)) = tokio::time::timeout(LOOK, looking).await {
            running.monitor.found_queue(QueueState::Found);
        }
    }
}

fn missing(queue: &QueueName, snapshot: Option<&Snapshot>, broker: &BrokerState) -> Vec<String> {
    let mut reasons = Vec::new();
    if let BrokerState::Reconnecting { since, reason } = broker {
        let seconds = since.elapsed().as_secs();
        reasons.push(format!(
            "the connection to RabbitMQ is lost for {seconds} s: {reason}"
        ));
    }
    let Some(snapshot) = snapshot else {
        reasons.push("ending".into());
        return reasons;
    };
    if !snapshot.runtime_ready {
        reasons.push("the runtime does not take calls".into());
    }
    match snapshot.queue {
        QueueState::Found => {}
        QueueState::Unknown => reasons.push(format!("queue {queue} was not found yet")),
        QueueState::Missing => reasons.push(format!(
            "queue {queue} does not exist; create it, or set ASYA_QUEUE_AUTO_CREATE=true"
        )),
    }
    reasons
}
