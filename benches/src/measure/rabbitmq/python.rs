//! A hop with a Python handler and default settings, beside what neither the broker nor the interpreter can exceed.
//!
//! That is the slower of two loops: the bare loop on the broker, and a bare Python echo that is called without any
//! broker, a connection for each call as the socket protocol has it. Here broker, sidecar and interpreter share the
//! same cores, which each of the two loops has for itself.

use std::time::{Duration, Instant};

use anyhow::Result;
use asya_runtime_protocol::{DEFAULT_MAX_FRAME, RuntimeClient};
use bytes::Bytes;

use super::field::{Field, Runtime, SIZE, Shape};
use super::{ENOUGH, OVER_V1, V1};
use crate::broker::Kind;
use crate::figures::Row;
use crate::meter::as_f64;
use crate::python::{Script, Server};
use crate::stage::envelope;

/// The name of this section.
pub const SECTION: &str = "rabbitmq-python";

/// Longest time for one call.
const CALL: Duration = Duration::from_secs(10);
/// Calls between two looks at the clock.
const BATCH: u64 = 50;

/// The rows of this section.
pub async fn measure(field: &Field<'_>) -> Result<Vec<Row>> {
    let (kind, prefetch) = (Kind::Classic, ENOUGH);
    let shape = Shape { kind, prefetch };
    let stretch = field.stretch(shape).await?;
    let (mut ours, mut first) = (Vec::new(), Vec::new());
    let (mut least, mut called) = (Vec::new(), Vec::new());
    for round in 0..field.rounds() {
        field.say(&format!("rabbitmq-python: round {}", round + 1));
        let bare = field.bare(shape, stretch, None).await?;
        least.push(bare.min(bare_calls(field).await?));
        ours.push(field.sidecar(kind, None, Runtime::Python, &[], stretch).await?);
        first.push(field.sidecar(kind, None, Runtime::Python, &V1, stretch).await?);
        called.push(field.bare(shape, stretch, Some(Runtime::BarePython)).await?);
    }
    let name = "Python echo, all defaults";
    let beside = (
        "slower of bare lapin loop and bare Python socket",
        least.as_slice(),
    );
    let both = (
        "bare lapin loop that calls the bare Python echo",
        called.as_slice(),
    );
    Ok(vec![
        Row::rates(SECTION, name, &ours, beside).aim(0.9),
        Row::rates(SECTION, "  the same", &ours, both),
        Row::rates(SECTION, "  the same", &ours, (OVER_V1, &first)),
    ])
}

/// Calls per second of the bare Python echo, one after the other.
async fn bare_calls(field: &Field<'_>) -> Result<f64> {
    let directory = field.directory()?;
    let server = Server::start(Script::BareEcho, &field.python, directory.path(), None).await?;
    let client = RuntimeClient::new(server.socket(), DEFAULT_MAX_FRAME);
    let stretch = field.options.stretch;
    // On a thread of its own, like the bare loop.
    let calling = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(calls_per_second(client, stretch))
    });
    let ended = tokio::task::spawn_blocking(move || calling.join()).await?;
    ended.map_err(|_| anyhow::anyhow!("the calling thread panicked"))?
}

async fn calls_per_second(client: RuntimeClient, stretch: Duration) -> Result<f64> {
    let request: Bytes = envelope(0, r#""work""#, SIZE);
    let (begun, mut calls) = (Instant::now(), 0);
    while begun.elapsed() < stretch {
        for _ in 0..BATCH {
            client.call(request.clone(), CALL).await?;
        }
        calls += BATCH;
    }
    Ok(as_f64(calls) / begun.elapsed().as_secs_f64())
}
