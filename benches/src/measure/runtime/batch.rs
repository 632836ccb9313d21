//! A batch handler behind a real sidecar: full batches beside what the handler allows, and how long a lone message
//! waits for others.
//!
//! The handler costs 10 ms and 0.2 ms for each of up to 32 items, and notes when it began. Message and handler read
//! the same clock.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::actor::{Actor, Stamp};
use super::client::PATIENCE;
use crate::figures::Row;
use crate::measure::Options;
use crate::meter::{as_f64, hops_in, quantile};
use crate::python::{Script, resolve};

/// The name of this section.
pub const SECTION: &str = "runtime-batch";

const BATCH: u32 = 32;
/// Longest time that the sidecar waits for a batch to fill.
const WINDOW: Duration = Duration::from_millis(20);
/// What `shape_handlers.batch` costs, and for each item.
const COST: (Duration, Duration) = (Duration::from_millis(10), Duration::from_micros(200));

const SCRIPT: Script = Script::Runtime {
    handler: "shape_handlers.batch",
    settings: &[("ASYA_BATCH_SIZE", "32"), ("ASYA_BATCH_WAIT", "20ms")],
};

/// Calls at the beginning and at the end that do not count: the sidecar finds its pace, the queue gets empty.
const EDGE: usize = 5;
/// Mean gap between two messages of the trickle.
const GAP: Duration = Duration::from_millis(10);
/// What the wait may exceed the window by, in ms.
const MARGIN: f64 = 2.0;

/// The rows of this section.
pub async fn measure(options: &Options, say: &dyn Fn(&str)) -> Result<Vec<Row>> {
    let python = resolve(&options.python)?;
    let mut actor = Actor::start(options, &python, SCRIPT, |_| ()).await?;
    let source = actor.source();
    let (first, each) = COST;
    let ideal = f64::from(BATCH) / (first + each * BATCH).as_secs_f64();
    let full = hops_in(ideal, options.stretch * 2);
    let few = hops_in(1.0 / GAP.as_secs_f64(), options.stretch * 2);
    let (mut rates, mut waits) = (Vec::new(), Vec::new());
    let (mut full_sizes, mut few_sizes) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        say(&format!("{SECTION}: round {round} of {}", options.rounds));
        source.fill(full).await?;
        let stamps = actor.results(full, PATIENCE + options.stretch * 4).await?;
        rates.push(rate(&stamps)?);
        full_sizes.extend(sizes(&stamps));
        source.trickle(few, GAP, "").await?;
        let stamps = actor.results(few, PATIENCE).await?;
        waits.extend(stamps.iter().map(Stamp::waited));
        few_sizes.extend(sizes(&stamps));
    }
    actor.stop().await;
    let window = WINDOW.as_secs_f64() * 1e3;
    let ideals = vec![ideal; rates.len()];
    let limit = ("window", window, "ms");
    let wait = |name: &str, part: f64, waits: &mut Vec<f64>| {
        let name = format!("wait for the handler, 100 messages a second: {name}");
        Row::alone(SECTION, name, quantile(waits, part), "ms").beside(limit.0, limit.1, limit.2)
    };
    let size = |mut sizes: Vec<f64>| {
        let middle = quantile(&mut sizes, 0.5);
        Row::alone(SECTION, "  messages in their batch, p50", middle, "")
    };
    Ok(vec![
        Row::rates(SECTION, "queue full, batches of 32", &rates, ("ideal", &ideals)).aim(0.85),
        size(full_sizes),
        wait("p50", 0.5, &mut waits),
        wait("p99", 0.99, &mut waits).limit(window + MARGIN),
        size(few_sizes),
    ])
}

/// In how large a batch each message was.
fn sizes(stamps: &[Stamp]) -> impl Iterator<Item = f64> {
    stamps.iter().map(|stamp| f64::from(stamp.items))
}

/// Messages per second, from the beginning of one call to the beginning of another one, without the edges.
fn rate(stamps: &[Stamp]) -> Result<f64> {
    let calls: BTreeMap<u64, u32> = stamps.iter().map(|stamp| (stamp.started, stamp.items)).collect();
    let calls: Vec<_> = calls.into_iter().collect();
    let counted = calls.len().checked_sub(EDGE).and_then(|end| calls.get(EDGE..end));
    let counted = counted
        .filter(|counted| counted.len() > 1)
        .context("too few batches")?;
    let (Some((begun, _)), Some((ended, last))) = (counted.first(), counted.last()) else {
        anyhow::bail!("too few batches");
    };
    let items = counted.iter().map(|(_, items)| u64::from(*items)).sum::<u64>() - u64::from(*last);
    Ok(as_f64(items) / Duration::from_nanos(ended - begun).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_counts_items_between_the_beginnings_of_calls() {
        let call = |number: u64| {
            let started = number * 10_000_000;
            let stamp = Stamp {
                sent: 0,
                started,
                items: 2,
            };
            [stamp; 2]
        };
        let stamps: Vec<_> = (0..20).flat_map(call).collect();
        assert!((rate(&stamps).unwrap() - 200.0).abs() < 1e-6);
        assert!(rate(&stamps[..20]).is_err(), "all of them are edges");
    }
}
