//! An actor with a Python handler: runtime, sidecar tree, and an embedded queue of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use asya_sidecar::{Config, Role, Sidecar};
use asya_tests::Chance;
use asya_transport::local::{LocalOptions, LocalTransport};
use asya_transport::{Consumer, Outgoing, QueueName, Settlement, Transport as _};
use bytes::Bytes;
use futures::future::try_join_all;
use serde::Deserialize;
use tokio::time::{Instant, sleep_until, timeout};

use super::client::PATIENCE;
use crate::measure::Options;
use crate::measure::hop::{NEXT, STEP};
use crate::meter::monotonic;
use crate::python::{Script, Server};
use crate::stage::{Stage, fill};

/// Where failures go.
const ERRORS: &str = "error-end";
/// Results taken off the queue at once.
const TAKEN: usize = 512;

/// What the handlers of `shape_handlers.py` say of a call. Times are nanoseconds on one clock.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Stamp {
    /// When the message was published.
    pub(super) sent: u64,
    /// When the handler began.
    pub(super) started: u64,
    /// Messages in that call.
    pub(super) items: u32,
}

impl Stamp {
    /// What the message waited until the handler began, in ms.
    pub(super) fn waited(&self) -> f64 {
        Duration::from_nanos(self.started.saturating_sub(self.sent)).as_secs_f64() * 1e3
    }
}

#[derive(Deserialize)]
struct Done {
    payload: Stamp,
}

/// A running actor.
pub(super) struct Actor {
    stage: Stage,
    sidecar: Sidecar,
    results: Box<dyn Consumer>,
    errors: Box<dyn Consumer>,
    // After the sidecar, which is to find it alive when it ends.
    _server: Server,
}

impl Actor {
    /// Starts it on an empty queue; `settle` changes what differs from the defaults of a sidecar.
    pub(super) async fn start(
        options: &Options,
        python: &Path,
        script: Script,
        settle: impl FnOnce(&mut Config),
    ) -> Result<Self> {
        let stage = Stage::new(&options.directory, &LocalOptions::default())?;
        stage.declare(&[STEP, NEXT, ERRORS]).await?;
        let server = Server::start(script, python, &stage.path("socket"), None).await?;
        let mut config = Config::new(STEP, Role::Step);
        server.directory().clone_into(&mut config.socket_dir);
        settle(&mut config);
        let sidecar = Sidecar::builder(config, Arc::new(stage.transport.clone()))
            .start()
            .await?;
        timeout(PATIENCE, sidecar.ready())
            .await
            .context("the sidecar is not ready")?;
        let consume = async |actor| stage.transport.consume(&QueueName::for_actor(actor)).await;
        let (results, errors) = (consume(NEXT).await?, consume(ERRORS).await?);
        Ok(Self {
            stage,
            sidecar,
            results,
            errors,
            _server: server,
        })
    }

    /// What publishes to it.
    pub(super) fn source(&self) -> Source {
        Source(self.stage.transport.clone())
    }

    /// The stamps of the next `count` results; fails at the first that goes to error-end.
    pub(super) async fn results(&mut self, count: u64, limit: Duration) -> Result<Vec<Stamp>> {
        let count = usize::try_from(count)?;
        let mut stamps = Vec::new();
        let receiving = async {
            while stamps.len() < count {
                let deliveries = tokio::select! {
                    arrived = self.results.receive(TAKEN) => arrived?,
                    failed = self.errors.receive(1) => {
                        let bodies = failed?.into_iter().map(|failure| failure.body);
                        let bodies: Vec<_> = bodies.map(|body| String::from_utf8_lossy(&body).into_owned()).collect();
                        return Err(anyhow!("a message failed: {}", bodies.concat()));
                    }
                    cause = self.sidecar.failed() => return Err(anyhow!("the sidecar gave up: {cause}")),
                };
                for delivery in &deliveries {
                    stamps.push(serde_json::from_slice::<Done>(&delivery.body)?.payload);
                }
                let settling = deliveries
                    .iter()
                    .map(|delivery| delivery.receipt.settle(Settlement::Ack));
                try_join_all(settling).await?;
            }
            Ok(())
        };
        let received = timeout(limit, receiving).await;
        received.with_context(|| format!("only {} of {count} results came in {limit:?}", stamps.len()))??;
        Ok(stamps)
    }

    /// The body of the next message in error-end.
    pub(super) async fn error(&mut self) -> Result<Bytes> {
        let delivery = timeout(PATIENCE, self.errors.receive(1))
            .await
            .context("nothing fails")??;
        let delivery = delivery.into_iter().next().context("an empty delivery")?;
        delivery.receipt.settle(Settlement::Ack).await?;
        Ok(delivery.body)
    }

    /// Ends it.
    pub(super) async fn stop(self) {
        self.sidecar.drain(PATIENCE).await;
    }
}

/// Publishes to an actor messages that know when they were made.
#[derive(Debug, Clone)]
pub(super) struct Source(LocalTransport);

impl Source {
    /// Publishes `count` messages as fast as the queue takes them.
    pub(super) async fn fill(&self, count: u64) -> Result<()> {
        fill(&self.0, STEP, count, |number| {
            (number.to_string(), message(number, ""))
        })
        .await
    }

    /// Publishes one message, whose payload has `members` beside the time.
    pub(super) async fn send(&self, number: u64, members: &str) -> Result<()> {
        let message = Outgoing {
            queue: QueueName::for_actor(STEP),
            message_id: number.to_string(),
            body: message(number, members),
            delay: Duration::ZERO,
        };
        Ok(self.0.publish(message).await?)
    }

    /// Publishes `count` such messages, with random gaps of `mean` on average.
    pub(super) async fn trickle(&self, count: u64, mean: Duration, members: &str) -> Result<()> {
        let mut chance = Chance::new(count);
        let mut due = Instant::now();
        for number in 0..count {
            sleep_until(due).await;
            self.send(number, members).await?;
            due += mean.mul_f64(2.0 * chance.next());
        }
        Ok(())
    }
}

/// An envelope that knows when it was made.
fn message(number: u64, members: &str) -> Bytes {
    let sent = monotonic();
    Bytes::from(format!(
        r#"{{"id":"bench-{number:08}","route":{{"actors":["{STEP}"],"current":0}},"payload":{{"sent":{sent}{members}}}}}"#
    ))
}
