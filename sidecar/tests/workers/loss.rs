//! Workers that die with requests in their hands.

use std::collections::BTreeSet;

use crate::common::wait_for;
use crate::python::{Bench, ids};

/// Notes each call and dies of one payload.
const MORTAL: &str = r#"
import os, signal
def run(payload):
    with open("calls", "a") as file:
        file.write("%s\n" % payload)
    if payload == "exit":
        os._exit(3)
    if payload == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    return payload
"#;

#[tokio::test]
async fn a_worker_that_dies_costs_its_own_message_and_no_other() {
    let bench = Bench::new(MORTAL, &[]).await;
    for index in 0..300 {
        match index {
            100 => bench.send("exit", r#""exit""#).await,
            200 => bench.send("crash", r#""crash""#).await,
            _ => bench.send(&index.to_string(), &index.to_string()).await,
        }
    }
    let sidecar = bench.sidecar().await;
    let mut errors = bench.errors(2).await;
    errors.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(
        (errors[0].0.as_str(), errors[0].1.as_str()),
        ("crash", "worker_died")
    );
    assert_eq!(errors[0].2["signal"], 11);
    assert_eq!(errors[0].2["type"], "WorkerDied");
    assert!(
        errors[0].2["message"].as_str().unwrap().contains("SIGSEGV"),
        "{errors:?}"
    );
    assert_eq!(
        (errors[1].0.as_str(), &errors[1].2["exit_code"]),
        ("exit", &3.into())
    );
    assert_eq!(ids(&bench.results().await).len(), 298);
    let calls = bench.lines("calls");
    let called: BTreeSet<_> = calls.iter().collect();
    assert_eq!(
        (called.len(), calls.len()),
        (300, 300),
        "each was called once, also what was written ahead"
    );
    assert_eq!(sidecar.snapshot().restarts, 0);
    bench.done(sidecar).await;
}

/// Nobody can tell which of eight concurrent calls has ended the process, so each of them runs again alone.
#[tokio::test]
async fn of_many_in_flight_only_the_one_that_kills_its_worker_fails() {
    const MODULE: &str = r#"
import asyncio, os
async def run(payload):
    await asyncio.sleep(0.02)
    if payload == "exit":
        os._exit(1)
    return payload
"#;
    let bench = Bench::new(MODULE, &[("ASYA_CONCURRENCY", "8")]).await;
    for index in 0..40 {
        bench.send(&index.to_string(), &index.to_string()).await;
        if index == 20 {
            bench.send("exit", r#""exit""#).await;
        }
    }
    let sidecar = bench.sidecar().await;
    let errors = bench.errors(1).await;
    assert_eq!(
        (errors[0].0.as_str(), errors[0].1.as_str()),
        ("exit", "worker_died")
    );
    let results = bench.results().await;
    assert_eq!((ids(&results).len(), results.len()), (40, 40));
    bench.done(sidecar).await;
}

#[tokio::test]
async fn a_dead_worker_holds_up_no_other() {
    const MODULE: &str = r#"
import os, time
def run(payload):
    if payload == "hang":
        open("hangs", "w").write("yes\n")
        while not os.path.exists("open"):
            time.sleep(0.01)
    return payload
"#;
    let bench = Bench::new(MODULE, &[("ASYA_WORKERS", "3")]).await;
    bench.send("hang", r#""hang""#).await;
    let sidecar = bench.sidecar().await;
    bench.wait_for_line("hangs", "yes").await;
    wait_for("all workers", async || sidecar.snapshot().workers_ready == 3).await;
    for index in 0..100 {
        bench.send(&index.to_string(), "1").await;
    }
    wait_for("the others", async || bench.house.depth("sink").await == 100).await;
    assert_eq!((sidecar.snapshot().workers, sidecar.snapshot().calls), (3, 1));
    std::fs::write(bench.path("open"), "").unwrap();
    assert_eq!(bench.results().await.len(), 101);
    bench.done(sidecar).await;
}

/// Whichever of three requests has ended the runtime, two have not, and nobody knows which.
#[tokio::test]
async fn a_runtime_that_ends_as_a_whole_condemns_none_of_those_that_ran_beside_each_other() {
    const MODULE: &str = r#"
import os, time
def run(payload):
    while not os.path.exists("open"):
        time.sleep(0.01)
    return payload
"#;
    let mut bench = Bench::new(MODULE, &[("ASYA_WORKERS", "3")]).await;
    let sidecar = bench.sidecar().await;
    wait_for("all workers", async || sidecar.snapshot().workers_ready == 3).await;
    for index in 0..3 {
        bench.send(&index.to_string(), "1").await;
    }
    wait_for("all calls", async || sidecar.snapshot().calls == 3).await;
    bench.python.signal("KILL");
    bench.python.start_again().await;
    std::fs::write(bench.path("open"), "").unwrap();
    assert_eq!(ids(&bench.results().await).len(), 3);
    bench.done(sidecar).await;
}

/// What may have ended a worker runs alone, but does not wait for what other workers do.
#[tokio::test]
async fn a_lost_worker_s_requests_run_again_while_another_worker_is_busy_for_long() {
    const MODULE: &str = r#"
import asyncio, os
async def run(payload):
    while payload == "long" and not os.path.exists("open"):
        await asyncio.sleep(0.01)
    while not os.path.exists("boom"):
        await asyncio.sleep(0.01)
    if payload == "exit":
        os._exit(1)
    await asyncio.sleep(0.2)
    return payload
"#;
    let bench = Bench::new(MODULE, &[("ASYA_WORKERS", "2"), ("ASYA_CONCURRENCY", "8")]).await;
    let sidecar = bench.sidecar().await;
    wait_for("both workers", async || sidecar.snapshot().workers_ready == 2).await;
    for id in ["long", "exit", "0", "1", "2", "3", "4", "5"] {
        bench.send(id, &format!("\"{id}\"")).await;
    }
    wait_for("all calls", async || sidecar.snapshot().calls == 8).await;
    std::fs::write(bench.path("boom"), "").unwrap();
    wait_for("the others", async || bench.house.depth("sink").await == 6).await;
    let errors = bench.errors(1).await;
    assert_eq!(
        (errors[0].0.as_str(), errors[0].1.as_str()),
        ("exit", "worker_died")
    );
    std::fs::write(bench.path("open"), "").unwrap();
    assert_eq!(ids(&bench.results().await).len(), 7);
    bench.done(sidecar).await;
}
