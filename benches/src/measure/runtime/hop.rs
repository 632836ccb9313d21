//! One hop through a sidecar tree on the embedded queue with all defaults, over v2 and over v1.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use asya_sidecar::{Config, Protocol, Role, Sidecar};
use asya_transport::local::{LocalOptions, LocalTransport};
use asya_transport::{Administration, ConsumeError, Consumer, Outgoing, PublishError, QueueName, Transport};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::time::timeout;

use super::client::PATIENCE;
use crate::figures::Row;
use crate::measure::Options;
use crate::measure::hop::{NEXT, STEP};
use crate::meter::{Meter, hops_in};
use crate::python::{Script, Server, resolve};
use crate::stage::{Echo, Stage, envelope};

/// The name of this section.
pub const SECTION: &str = "runtime-hop";

/// Hops before the stretch that counts: until the sidecar has found its credit.
const WARM: u64 = 2_000;
/// Hops of the run that finds out how many a stretch needs.
const PILOT: u64 = 1_000;
/// Messages that are still there when the last hop counts.
const AFTER: u64 = 1_200;
/// Bytes of one message.
const SIZE: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runtime {
    Native,
    Python,
}

/// The rows of this section.
pub async fn measure(options: &Options, say: &dyn Fn(&str)) -> Result<Vec<Row>> {
    let python = resolve(&options.python)?;
    let mut rows = Vec::new();
    for runtime in [Runtime::Python, Runtime::Native] {
        let mut protocols = [Protocol::Auto, Protocol::V1];
        let mut counts = [PILOT; 2];
        for (protocol, count) in protocols.iter().zip(&mut counts) {
            let pilot = once(options, &python, runtime, *protocol, PILOT).await?;
            *count = hops_in(pilot, options.stretch).max(PILOT);
        }
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for round in 1..=options.rounds {
            say(&format!(
                "{SECTION}: {runtime:?}, round {round} of {}",
                options.rounds
            ));
            for (protocol, count) in protocols.into_iter().zip(counts) {
                let rate = once(options, &python, runtime, protocol, count).await?;
                match protocol {
                    Protocol::V1 => first.push(rate),
                    Protocol::Auto => second.push(rate),
                }
            }
            protocols.reverse();
            counts.reverse();
        }
        let name = format!("{runtime:?} echo, all defaults, v2");
        rows.push(Row::rates(SECTION, name, &second, ("the same over v1", &first)));
    }
    Ok(rows)
}

/// Hops per second.
async fn once(
    options: &Options,
    python: &Path,
    runtime: Runtime,
    protocol: Protocol,
    count: u64,
) -> Result<f64> {
    let stage = Stage::new(&options.directory, &LocalOptions::default())?;
    stage.declare(&[STEP, NEXT, "error-end"]).await?;
    let meter = Arc::new(Meter::new(WARM, count));
    stage
        .fill(STEP, meter.needed() + AFTER, |number| {
            envelope(number, r#""work""#, SIZE)
        })
        .await?;
    let mut config = Config::new(STEP, Role::Step);
    config.socket_dir = stage.path("socket");
    config.protocol = protocol;
    let (echo, _server) = match runtime {
        Runtime::Native => (Some(Echo::start(&config.socket_dir, config.slots, None)), None),
        Runtime::Python => {
            let server = Server::start(Script::ECHO, python, &config.socket_dir, None).await?;
            (None, Some(server))
        }
    };
    let counted = Counted {
        inner: stage.transport.clone(),
        meter: Arc::clone(&meter),
    };
    let sidecar = Sidecar::builder(config, Arc::new(counted)).start().await?;
    let sample = tokio::select! {
        sample = meter.finished() => sample?,
        cause = sidecar.failed() => return Err(anyhow!("the sidecar gave up: {cause}")),
    };
    sidecar.drain(PATIENCE).await;
    if let Some(echo) = echo {
        timeout(PATIENCE, echo.stop())
            .await
            .context("the echo does not end")??;
    }
    Ok(sample.rate)
}

/// The queue, with a tick for each message that is stored in the queue of the next actor.
struct Counted {
    inner: LocalTransport,
    meter: Arc<Meter>,
}

impl Transport for Counted {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn max_message_size(&self) -> Option<usize> {
        self.inner.max_message_size()
    }

    fn consume<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<Box<dyn Consumer>, ConsumeError>> {
        self.inner.consume(queue)
    }

    fn publish(&self, message: Outgoing) -> BoxFuture<'static, Result<(), PublishError>> {
        let result = message.queue.actor() == NEXT;
        let publishing = self.inner.publish(message);
        let meter = Arc::clone(&self.meter);
        publishing
            .inspect(move |published| {
                if result && published.is_ok() {
                    meter.tick();
                }
            })
            .boxed()
    }

    fn administration(&self) -> &dyn Administration {
        self.inner.administration()
    }
}
