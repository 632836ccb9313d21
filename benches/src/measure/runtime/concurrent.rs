//! An `async` handler that sleeps, in four workers, beside the rate at which that many sleepers wake.

use std::time::Duration;

use anyhow::{Result, ensure};
use asya_runtime_protocol::v2::{WorkerId, WorkerLink};
use bytes::Bytes;
use futures::future::try_join_all;

use super::client::{self, Links};
use crate::figures::Row;
use crate::measure::Options;
use crate::python::{Script, Server, resolve};
use crate::stage::envelope;

/// The name of this section.
pub const SECTION: &str = "runtime-async";

const WORKERS: u32 = 4;
/// What `shape_handlers.nap` sleeps.
const NAP: Duration = Duration::from_millis(50);
/// Bytes of one message.
const SIZE: usize = 1024;

const SIXTY_FOUR: Script = Script::Runtime {
    handler: "shape_handlers.nap",
    settings: &[("ASYA_WORKERS", "4"), ("ASYA_CONCURRENCY", "64")],
};
const SIXTEEN: Script = Script::Runtime {
    handler: "shape_handlers.nap",
    settings: &[("ASYA_WORKERS", "4"), ("ASYA_CONCURRENCY", "16")],
};

/// The rows of this section.
pub async fn measure(options: &Options, say: &dyn Fn(&str)) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (script, concurrency) in [(SIXTY_FOUR, 64), (SIXTEEN, 16)] {
        let name = format!("{WORKERS} workers of {concurrency}, each call sleeps 50 ms");
        say(&format!("{SECTION}: {name}, {} rounds", options.rounds));
        let ideal = f64::from(WORKERS * concurrency) / NAP.as_secs_f64();
        let rates = rounds(script, concurrency, options).await?;
        let ideals = vec![ideal; rates.len()];
        rows.push(Row::rates(SECTION, name, &rates, ("ideal", &ideals)).aim(0.9));
    }
    Ok(rows)
}

async fn rounds(script: Script, concurrency: u32, options: &Options) -> Result<Vec<f64>> {
    let directory = tempfile::Builder::new().prefix("asya-bench-").tempdir()?;
    let python = resolve(&options.python)?;
    let server = Server::start(script, &python, directory.path(), None).await?;
    let mut links = Links::open(server.directory()).await?;
    let (workers, window) = (links.welcome.workers, links.welcome.window());
    ensure!(
        (workers, window) == (WORKERS, concurrency),
        "the runtime has {workers} workers of {window} at once"
    );
    let request = envelope(0, r#""work""#, SIZE);
    for (_, link) in &mut links.workers {
        client::call(link, &request).await?;
    }
    // A quarter more is written ahead, so that a worker with room need not wait for us.
    let depth = usize::try_from(window + window / 4)?;
    let mut rates = Vec::new();
    for _ in 0..options.rounds {
        rates.push(all(&mut links.workers, &request, depth, options.stretch * 3).await?);
    }
    Ok(rates)
}

/// Calls per second of all workers together.
async fn all(
    links: &mut [(WorkerId, WorkerLink)],
    request: &Bytes,
    depth: usize,
    time: Duration,
) -> Result<f64> {
    let calling = links
        .iter_mut()
        .map(|(_, link)| client::rate(link, request, depth, time));
    Ok(try_join_all(calling).await?.iter().sum())
}
