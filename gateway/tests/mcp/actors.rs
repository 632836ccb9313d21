//! Actors: each takes the messages of its queue and reports about the envelopes, as sidecars and end actors do.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use asya_gateway::core::{Gateway, ReportSource};
use asya_gateway_store::{Final, FinalFailure, FinalSuccess, Partial, Phase, Progress, Report, ReportEvent};
use asya_runtime_protocol::{Envelope, RawJson};
use asya_transport::local::LocalTransport;
use asya_transport::{QueueName, Settlement, Transport};
use chrono::Utc;
use tokio::task::JoinSet;

/// What the suites' `test_simple_text` says.
const SIMPLE: &str = "This is a simple text response for testing.";
/// What their `test_error_handling` says.
const INTENDED: &str = "This tool intentionally returns an error for testing";

/// Running actors; they end when this is dropped.
pub(crate) struct Actors(#[expect(dead_code, reason = "ends them when dropped")] JoinSet<()>);

impl Actors {
    /// `tools` is the tool file, which one of them changes.
    pub(crate) async fn start(gateway: &Gateway, transport: &Arc<LocalTransport>, tools: &Path) -> Self {
        let mut running = JoinSet::new();
        for actor in [
            "echo",
            "steps",
            "broken",
            "stuck",
            "numbers",
            "simple-text",
            "intended-error",
            "half",
            "greet",
            "compute",
            "trigger",
        ] {
            let queue = QueueName::for_actor(actor);
            transport.administration().declare(&queue).await.unwrap();
            let (gateway, transport) = (gateway.clone(), Arc::clone(transport));
            running.spawn(work(actor, queue, gateway, transport, tools.to_owned()));
        }
        Self(running)
    }
}

async fn work(
    actor: &'static str,
    queue: QueueName,
    gateway: Gateway,
    transport: Arc<LocalTransport>,
    tools: PathBuf,
) {
    let mut consumer = transport.consume(&queue).await.unwrap();
    let mut handlers = JoinSet::new();
    while let Ok(deliveries) = consumer.receive(10).await {
        for delivery in deliveries {
            let message = Envelope::parse(&delivery.body).unwrap().envelope;
            let desk = Desk {
                gateway: gateway.clone(),
                id: message.id.clone(),
                actors: message.route.actors.clone(),
                tools: tools.clone(),
            };
            handlers.spawn(async move {
                let payload = message.payload.unwrap_or_else(RawJson::null);
                handle(actor, &desk, payload).await;
                delivery.receipt.settle(Settlement::Ack).await.unwrap();
            });
        }
    }
}

async fn handle(actor: &str, desk: &Desk, payload: RawJson) {
    match actor {
        "echo" => desk.succeed(payload).await,
        "steps" => {
            for (index, _) in desk.actors.iter().enumerate() {
                desk.progress(index, Phase::Processing, "").await;
                desk.partial(index, 0, "{\"n\": 18446744073709551617}").await;
                desk.partial(index, 1, "\"half-way\"").await;
                desk.progress(index, Phase::Completed, "done").await;
            }
            desk.succeed(RawJson::from_text("all steps done")).await;
        }
        "broken" => desk.fail("the input was not what I wanted").await,
        "stuck" => desk.progress(0, Phase::Processing, "working").await,
        "numbers" => {
            desk.succeed(RawJson::parse("[18446744073709551617,\n 1.0, 1e400]").unwrap())
                .await;
        }
        "simple-text" => desk.succeed(RawJson::from_text(SIMPLE)).await,
        "intended-error" => desk.fail(INTENDED).await,
        "half" => {
            desk.progress(0, Phase::Received, "").await;
            desk.progress(0, Phase::Processing, "").await;
            desk.succeed(RawJson::from_text("done")).await;
        }
        "greet" => {
            let arguments: serde_json::Value = payload.to().unwrap();
            let name = arguments["name"].as_str().unwrap_or_default();
            desk.succeed(RawJson::from_text(&format!("Hello, {name}!"))).await;
        }
        "compute" => {
            let arguments: serde_json::Value = payload.to().unwrap();
            let seconds = arguments["seconds"].as_f64().unwrap_or_default();
            // The work itself, not a wait for somebody.
            tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
            desk.succeed(RawJson::from_text("computed")).await;
        }
        "trigger" => {
            let tools = std::fs::read_to_string(&desk.tools).unwrap();
            // There and back again, so that every call is a change.
            let (old, new) = ("Changes this file", "Has changed this file");
            let (old, new) = if tools.contains(old) {
                (old, new)
            } else {
                (new, old)
            };
            replace(&desk.tools, &tools.replace(old, new));
            desk.succeed(RawJson::from_text("changed")).await;
        }
        other => panic!("no actor {other}"),
    }
}

/// In one step, so that the gateway never reads half of it.
pub(crate) fn replace(file: &Path, content: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, content).unwrap();
    std::fs::rename(new, file).unwrap();
}

/// Where an actor reports about one envelope.
struct Desk {
    gateway: Gateway,
    id: String,
    actors: Vec<String>,
    tools: PathBuf,
}

impl Desk {
    async fn report(&self, event: ReportEvent) {
        let report = Report {
            envelope_id: self.id.clone(),
            attempt: 1,
            at: Utc::now(),
            event,
        };
        self.gateway
            .report(ReportSource::Http, vec![report])
            .await
            .unwrap();
    }

    async fn progress(&self, index: usize, phase: Phase, message: &str) {
        self.report(ReportEvent::Progress(Progress {
            phase: Some(phase),
            actors: self.actors.clone(),
            actor_index: i64::try_from(index).unwrap(),
            message: Some(message.to_owned()).filter(|message| !message.is_empty()),
            exact: true,
        }))
        .await;
    }

    async fn partial(&self, actor: usize, index: u32, value: &'static str) {
        self.report(ReportEvent::Partial(Partial {
            actor_index: i64::try_from(actor).unwrap(),
            index,
            value: RawJson::parse(value).unwrap(),
        }))
        .await;
    }

    async fn succeed(&self, result: RawJson) {
        let success = FinalSuccess {
            result: Some(result),
            ..FinalSuccess::default()
        };
        self.report(ReportEvent::Final(Final::Succeeded(success))).await;
    }

    async fn fail(&self, error: &str) {
        let failure = FinalFailure {
            error: Some(error.to_owned()),
            ..FinalFailure::default()
        };
        self.report(ReportEvent::Final(Final::Failed(failure))).await;
    }
}
