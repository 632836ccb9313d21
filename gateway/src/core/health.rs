//! Whether the gateway can do its work: the store answers, the broker can be reached, it is not about to stop.

use std::sync::Arc;
use std::time::Duration;

use asya_gateway_store::Store;
use asya_transport::{AdminError, QueueName, Transport};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::options::{BrokerProbe, GatewayOptions};
use super::tool_book::ToolBook;

/// How the gateway is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Whether the store answers; else why not, for people, without secrets.
    pub store: Result<(), String>,
    /// Whether the broker can be reached; else why not.
    pub broker: Result<(), String>,
    /// Whether all of its tasks work; else which one does not. It never does again: start it anew.
    pub tasks: Result<(), String>,
    /// Whether it is about to stop.
    pub draining: bool,
}

impl Health {
    /// Whether it should be given work.
    pub fn is_ready(&self) -> bool {
        self.store.is_ok() && self.broker.is_ok() && self.tasks.is_ok() && !self.draining
    }

    /// What is known without asking anybody.
    pub(super) fn with(self, failure: Option<String>, draining: bool) -> Self {
        let tasks = failure.map_or(Ok(()), Err);
        Self {
            tasks,
            draining,
            ..self
        }
    }
}

/// Asks for health; many who ask at once, or soon after each other, share one answer.
pub(super) struct Examiner {
    store: Arc<dyn Store>,
    transport: Arc<dyn Transport>,
    tools: ToolBook,
    probe: Option<BrokerProbe>,
    limit: Duration,
    last: Mutex<Option<(Instant, Health)>>,
}

impl Examiner {
    pub(super) fn new(options: &GatewayOptions) -> Self {
        Self {
            store: Arc::clone(&options.store),
            transport: Arc::clone(&options.transport),
            tools: options.tools.clone(),
            probe: options.broker_probe.clone(),
            limit: options.patience.probe,
            last: Mutex::default(),
        }
    }

    /// How those are whom one has to ask.
    pub(super) async fn examine(&self) -> Health {
        let mut last = self.last.lock().await;
        if let Some((at, health)) = &*last
            && at.elapsed() < self.limit
        {
            return health.clone();
        }
        let (store, broker) = tokio::join!(self.store(), self.broker());
        let health = Health {
            store,
            broker,
            tasks: Ok(()),
            draining: false,
        };
        *last = Some((Instant::now(), health.clone()));
        health
    }

    async fn store(&self) -> Result<(), String> {
        match tokio::time::timeout(self.limit, self.store.ping()).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("the store did not answer within {:?}", self.limit)),
        }
    }

    async fn broker(&self) -> Result<(), String> {
        if let Some(probe) = &self.probe {
            return probe();
        }
        // A queue that is there costs the broker least; one that is missing is an answer, too.
        let tools = self.tools.tools();
        let actor = tools.tools.first().and_then(|tool| tool.route().first());
        let queue = QueueName::for_actor(actor.map_or("gateway-probe", String::as_str));
        let asking = self.transport.administration().depth(&queue);
        match tokio::time::timeout(self.limit, asking).await {
            Ok(Ok(_) | Err(AdminError::NoSuchQueue(_))) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("the broker did not answer within {:?}", self.limit)),
        }
    }
}
