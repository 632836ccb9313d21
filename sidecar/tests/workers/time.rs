//! Calls that take too long.

use std::time::{Duration, Instant};

use crate::common::wait_for;
use crate::python::{Bench, ids};

const SHORT: Duration = Duration::from_millis(400);

#[tokio::test]
async fn a_call_that_ends_when_it_is_asked_to_costs_no_worker() {
    const MODULE: &str = r#"
import asyncio, os
async def run(payload):
    with open("pids", "a") as file:
        file.write("%d\n" % os.getpid())
    if payload == "slow":
        await asyncio.sleep(60)
    return payload
"#;
    let mut bench = Bench::new(MODULE, &[("ASYA_CONCURRENCY", "4")]).await;
    bench.config.runtime_timeout = SHORT;
    bench.send("slow", r#""slow""#).await;
    for index in 0..20 {
        bench.send(&index.to_string(), "1").await;
    }
    let sidecar = bench.sidecar().await;
    let errors = bench.errors(1).await;
    assert_eq!(errors[0].0, "slow");
    assert_eq!(errors[0].1, "Runtime timeout exceeded after 400ms");
    bench.send("after", "1").await;
    assert_eq!(ids(&bench.results().await).len(), 21);
    let pids = bench.lines("pids");
    assert!(
        pids.iter().all(|pid| *pid == pids[0]),
        "one process for all: {pids:?}"
    );
    bench.done(sidecar).await;
}

#[tokio::test]
async fn a_worker_that_hangs_is_replaced_and_only_its_own_message_fails() {
    const MODULE: &str = r#"
import os, time
def run(payload):
    with open("calls", "a") as file:
        file.write("%s\n" % payload)
    if payload == "hang":
        while True:
            time.sleep(1)
    return payload
"#;
    let mut bench = Bench::new(MODULE, &[("ASYA_CANCEL_GRACE", "200ms")]).await;
    bench.config.runtime_timeout = SHORT;
    for index in 0..60 {
        bench.send(&index.to_string(), &index.to_string()).await;
        if index == 30 {
            bench.send("hang", r#""hang""#).await;
        }
    }
    let sidecar = bench.sidecar().await;
    let errors = bench.errors(1).await;
    assert_eq!(errors[0].1, "Runtime timeout exceeded after 400ms", "{errors:?}");
    assert_eq!(ids(&bench.results().await).len(), 60);
    assert_eq!(bench.lines("calls").len(), 61, "each was called once");
    bench.done(sidecar).await;
}

/// With eight calls in one process nobody knows which of them blocks it: each runs again alone, and the blocker fails.
#[tokio::test]
async fn a_blocked_event_loop_fails_only_the_call_that_blocks_it() {
    const MODULE: &str = r#"
import asyncio, time
async def run(payload):
    await asyncio.sleep(0.05)
    if payload == "block":
        time.sleep(60)
    return payload
"#;
    let environment = [("ASYA_CONCURRENCY", "8"), ("ASYA_CANCEL_GRACE", "200ms")];
    let mut bench = Bench::new(MODULE, &environment).await;
    bench.config.runtime_timeout = SHORT;
    for index in 0..8 {
        bench.send(&index.to_string(), "1").await;
        if index == 3 {
            bench.send("block", r#""block""#).await;
        }
    }
    let sidecar = bench.sidecar().await;
    let errors = bench.errors(1).await;
    assert_eq!(errors[0].0, "block");
    assert_eq!(errors[0].1, "Runtime timeout exceeded after 400ms");
    assert_eq!(ids(&bench.results().await).len(), 8);
    bench.done(sidecar).await;
}

#[tokio::test]
async fn what_waits_beyond_its_deadline_is_not_run() {
    const MODULE: &str = r#"
import os, time
def run(payload):
    with open("calls", "a") as file:
        file.write("%s\n" % payload)
    while payload == "gate" and not os.path.exists("open"):
        time.sleep(0.01)
    return payload
"#;
    let mut bench = Bench::new(MODULE, &[]).await;
    bench.config.credit = asya_sidecar::Credit::Fixed(2);
    bench.send("gate", r#""gate""#).await;
    let sidecar = bench.sidecar().await;
    bench.wait_for_line("calls", "gate").await;
    let deadline = chrono::Utc::now() + chrono::TimeDelta::milliseconds(300);
    let late = format!(
        r#"{{"id":"late","route":{{"actors":["work","sink"],"current":0}},"payload":"late","deadline":"{}"}}"#,
        deadline.to_rfc3339()
    );
    bench.house.publish("work", late).await;
    wait_for("the deadline", async || {
        let waits = sidecar.snapshot().credits_taken == 2;
        waits && chrono::Utc::now() > deadline
    })
    .await;
    std::fs::write(bench.path("open"), "").unwrap();
    let errors = bench.errors(1).await;
    assert_eq!(
        (errors[0].0.as_str(), errors[0].1.as_str()),
        ("late", "Deadline exceeded")
    );
    assert_eq!(bench.results().await.len(), 1);
    assert_eq!(bench.lines("calls"), ["gate"]);
    bench.done(sidecar).await;
}

/// Each of them is done at once, and none costs a round of the reaper.
#[tokio::test]
async fn what_has_expired_holds_nobody_up() {
    const MODULE: &str = r#"
import os, time
def run(payload):
    while payload == "gate" and not os.path.exists("open"):
        time.sleep(0.01)
    return payload
"#;
    const LATE: usize = 80;
    let mut bench = Bench::new(MODULE, &[]).await;
    bench.config.credit = asya_sidecar::Credit::Fixed(2 * LATE);
    let sidecar = bench.sidecar().await;
    bench.send("gate", r#""gate""#).await;
    wait_for("the gate", async || sidecar.snapshot().calls == 1).await;
    let deadline = (chrono::Utc::now() + chrono::TimeDelta::milliseconds(300)).to_rfc3339();
    for index in 0..LATE {
        let late = format!(
            r#"{{"id":"late{index}","route":{{"actors":["work","sink"],"current":0}},"payload":1,"deadline":"{deadline}"}}"#
        );
        bench.house.publish("work", late).await;
    }
    bench.send("after", "1").await;
    wait_for("all to be here", async || {
        sidecar.snapshot().credits_taken == LATE + 2
    })
    .await;
    tokio::time::sleep(Duration::from_millis(400)).await; // The deadline itself.
    let opened = Instant::now();
    std::fs::write(bench.path("open"), "").unwrap();
    wait_for("both results", async || bench.house.depth("sink").await == 2).await;
    assert!(
        opened.elapsed() < Duration::from_secs(10),
        "{:?}",
        opened.elapsed()
    );
    assert_eq!(bench.results().await.len(), 2);
    let errors = bench.errors(LATE).await;
    assert!(
        errors.iter().all(|(_, error, _)| error == "Deadline exceeded"),
        "{errors:?}"
    );
    bench.done(sidecar).await;
}

/// A worker may answer while the command to kill it is on its way. It is killed all the same, and with it whatever it was
/// given since.
#[tokio::test]
async fn what_comes_after_a_killed_request_is_not_killed_with_it() {
    const MODULE: &str = r#"
import os, time
def run(payload):
    with open("calls", "a") as file:
        file.write("%s\n" % payload)
    while payload == "slow" and not os.path.exists("open"):
        time.sleep(0.01)
    if payload == "healthy":
        time.sleep(0.5)
    return payload
"#;
    let mut bench = Bench::new(MODULE, &[("ASYA_CANCEL_GRACE", "200ms")]).await;
    bench.config.runtime_timeout = Duration::from_secs(1);
    let sidecar = bench.sidecar().await;
    bench.send("slow", r#""slow""#).await;
    bench.wait_for_line("calls", "slow").await;
    bench.send("healthy", r#""healthy""#).await;
    bench.python.signal("STOP");
    // Until it was asked to end, and then killed: nothing shows that, since nobody reads the commands.
    tokio::time::sleep(Duration::from_secs(2)).await;
    std::fs::write(bench.path("open"), "").unwrap();
    let errors = bench.errors(1).await;
    assert_eq!(
        (errors[0].0.as_str(), errors[0].1.as_str()),
        ("slow", "Runtime timeout exceeded after 1s")
    );
    bench.python.signal("CONT");
    assert_eq!(ids(&bench.results().await).len(), 1);
    bench.done(sidecar).await;
}
