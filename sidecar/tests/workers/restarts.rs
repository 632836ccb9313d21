//! Runtimes that end as a whole and come back.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use asya_sidecar::{Credit, Fault, Part, Sidecar};

use crate::common::{PATIENCE, wait_for};
use crate::python::{Bench, ids};

const COUNT: &str = r#"
def run(payload):
    with open("calls", "a") as file:
        file.write("%s\n" % payload)
    return payload
"#;

#[tokio::test]
async fn a_killed_runtime_that_comes_back_costs_at_most_the_message_in_its_hands() {
    let mut bench = Bench::new(COUNT, &[]).await;
    let sidecar = bench.sidecar().await;
    for round in 0..3 {
        let done = bench.house.depth("sink").await + bench.house.depth("error-end").await;
        for index in 0..200 {
            bench
                .send(&format!("{round}-{index}"), &format!("\"{round}-{index}\""))
                .await;
        }
        wait_for("some of it", async || bench.house.depth("sink").await > done + 20).await;
        bench.python.signal("KILL");
        bench.python.start_again().await;
    }
    bench.house.wait_empty("work").await;
    let errors = bench.house.take_all("error-end").await;
    let results = bench.results().await;
    assert!(errors.len() <= 3, "{} errors", errors.len());
    assert_eq!(ids(&results).len() + errors.len(), 600, "each has one end");
    assert_eq!(results.len() + errors.len(), 600, "and only one");
    bench.done(sidecar).await;
}

/// Does not return before it is told.
const HELD: &str = r#"
import os, time
def run(payload):
    with open("calls", "a") as file:
        file.write("%s\n" % payload)
    while not os.path.exists("go-on"):
        time.sleep(0.01)
    return payload
"#;

/// A container that is restarted, or a native sidecar, which is told only after the runtime has ended.
#[tokio::test]
async fn a_runtime_that_is_asked_to_end_alone_answers_what_it_runs_and_gets_nothing_more() {
    let mut bench = Bench::new(HELD, &[("ASYA_SHUTDOWN_GRACE", "1h")]).await;
    bench.config.credit = Credit::Fixed(10);
    let sidecar = bench.sidecar().await;
    for index in 0..5 {
        bench.send(&index.to_string(), &index.to_string()).await;
    }
    wait_for("the first call", async || !bench.lines("calls").is_empty()).await;
    bench.python.signal("TERM");
    wait_for("the end of pulling", async || !sidecar.snapshot().runtime_ready).await;
    bench.send("later", "5").await;
    wait_for("the rest to go back", async || {
        sidecar.snapshot().credits_taken <= 2
    })
    .await;
    std::fs::write(bench.path("go-on"), "").unwrap();
    assert_eq!(bench.python.ended().await, Some(0), "it was told that it may end");
    let before = bench.lines("calls").len();
    assert!(before <= 2, "what runs and what was written ahead: {before}");
    bench.python.start_again().await;
    assert_eq!(bench.results().await.len(), 6, "the next runtime does the rest");
    assert_eq!(bench.lines("calls").len(), 6, "nothing ran twice");
    bench.done(sidecar).await;
}

#[tokio::test]
async fn a_runtime_that_is_asked_to_end_with_its_sidecar_serves_until_that_has_drained() {
    let mut bench = Bench::new(HELD, &[("ASYA_SHUTDOWN_GRACE", "1h")]).await;
    let sidecar = bench.sidecar().await;
    bench.send("only", "1").await;
    wait_for("the call", async || !bench.lines("calls").is_empty()).await;
    let draining = tokio::spawn(sidecar.drain(PATIENCE));
    bench.python.signal("TERM");
    std::fs::write(bench.path("go-on"), "").unwrap();
    assert_eq!(draining.await.unwrap().returned, 0);
    assert_eq!(bench.python.ended().await, Some(0));
    assert_eq!(bench.house.depth("sink").await, 1);
}

/// Workers and actors are killed at once while eight calls are under way.
#[tokio::test]
async fn a_storm_over_workers_and_actors_loses_nothing_and_condemns_nothing() {
    const MODULE: &str = r#"
import asyncio, os
with open("pids", "a") as file:
    file.write("%d\n" % os.getpid())
async def run(payload):
    await asyncio.sleep(0.002)
    return payload
"#;
    const MESSAGES: usize = 1_000;
    const PARTS: [Part; 4] = [Part::Slot, Part::Probe, Part::Router, Part::Publisher];
    let mut bench = Bench::new(MODULE, &[("ASYA_WORKERS", "2"), ("ASYA_CONCURRENCY", "4")]).await;
    bench.config.retry.max_attempts = NonZeroU32::new(10).unwrap();
    bench.config.retry.initial_backoff = Duration::from_millis(10);
    let sidecar = Sidecar::builder(bench.config.clone(), Arc::clone(&bench.house.transport))
        .budget_factor(10_000)
        .start()
        .await
        .unwrap();
    sidecar.ready().await;
    for index in 0..MESSAGES {
        if index % 25 == 24 {
            sidecar.inject(PARTS[index / 25 % PARTS.len()], Fault::Kill);
        }
        if index % 100 == 99 {
            bench.kill_last_worker("pids");
        }
        bench.send(&index.to_string(), "1").await;
    }
    let results = bench.results().await;
    assert_eq!(ids(&results).len(), MESSAGES);
    let unique: BTreeSet<_> = results.iter().map(|message| &message.id).collect();
    assert_eq!(unique.len(), MESSAGES, "a repeated message has another id");
    bench.done(sidecar).await;
}
