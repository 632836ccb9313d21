//! Batches: filled, closed early, and with one item that kills or fails.

use crate::common::wait_for;
use crate::python::{Bench, ids};

/// Notes the size of each batch.
const SIZES: &str = r#"
import os
def run(payloads):
    with open("sizes", "a") as file:
        file.write("%d\n" % len(payloads))
    if "exit" in payloads:
        os._exit(1)
    if "raise" in payloads:
        raise ValueError("poison")
    return payloads
"#;

/// Nobody waits for this long: that a batch runs at all shows that it was closed early.
const FOR_EVER: (&str, &str) = ("ASYA_BATCH_WAIT", "10m");

#[tokio::test]
async fn batches_fill_while_there_is_more_and_close_when_the_queue_is_empty() {
    let bench = Bench::new(SIZES, &[("ASYA_BATCH_SIZE", "8"), FOR_EVER]).await;
    for index in 0..67 {
        bench.send(&index.to_string(), "1").await;
    }
    let sidecar = bench.sidecar().await;
    assert_eq!(ids(&bench.results().await).len(), 67);
    let sizes = bench.lines("sizes");
    let full = sizes.iter().filter(|size| *size == "8").count();
    assert!(full >= 6, "{sizes:?}");
    bench.send("single", "1").await;
    assert_eq!(bench.results().await.len(), 1);
    bench.done(sidecar).await;
}

#[tokio::test]
async fn one_item_that_kills_its_worker_fails_alone() {
    let bench = Bench::new(SIZES, &[("ASYA_BATCH_SIZE", "8"), FOR_EVER]).await;
    for index in 0..15 {
        bench.send(&index.to_string(), "1").await;
        if index == 4 {
            bench.send("exit", r#""exit""#).await;
        }
    }
    let sidecar = bench.sidecar().await;
    let errors = bench.errors(1).await;
    assert_eq!(
        (errors[0].0.as_str(), errors[0].1.as_str()),
        ("exit", "worker_died")
    );
    assert_eq!(ids(&bench.results().await).len(), 15);
    bench.done(sidecar).await;
}

#[tokio::test]
async fn one_item_that_raises_fails_alone() {
    let bench = Bench::new(SIZES, &[("ASYA_BATCH_SIZE", "4"), FOR_EVER]).await;
    for index in 0..10 {
        bench.send(&index.to_string(), "1").await;
        if index == 4 {
            bench.send("raise", r#""raise""#).await;
        }
    }
    let sidecar = bench.sidecar().await;
    let errors = bench.errors(1).await;
    assert_eq!(
        (errors[0].0.as_str(), errors[0].1.as_str()),
        ("raise", "processing_error")
    );
    assert_eq!(ids(&bench.results().await).len(), 10);
    bench.done(sidecar).await;
}

/// A batch that hangs is killed, and then each of it runs alone.
#[tokio::test]
async fn one_item_that_hangs_fails_alone() {
    const MODULE: &str = r#"
import time
def run(payloads):
    while "hang" in payloads:
        time.sleep(1)
    return payloads
"#;
    let environment = [("ASYA_BATCH_SIZE", "4"), FOR_EVER, ("ASYA_CANCEL_GRACE", "200ms")];
    let mut bench = Bench::new(MODULE, &environment).await;
    bench.config.runtime_timeout = std::time::Duration::from_millis(500);
    for index in 0..6 {
        bench.send(&index.to_string(), "1").await;
        if index == 1 {
            bench.send("hang", r#""hang""#).await;
        }
    }
    let sidecar = bench.sidecar().await;
    let errors = bench.errors(1).await;
    assert_eq!(errors[0].0, "hang");
    assert_eq!(errors[0].1, "Runtime timeout exceeded after 500ms");
    assert_eq!(ids(&bench.results().await).len(), 6);
    bench.done(sidecar).await;
}

/// It is too late for one of them, and the others lose nothing by that.
#[tokio::test]
async fn one_item_whose_deadline_passes_does_not_end_the_others() {
    const MODULE: &str = r#"
import os, time
def run(payloads):
    with open("sizes", "a") as file:
        file.write("%d\n" % len(payloads))
    while not os.path.exists("go" if payloads == ["first"] else "open"):
        time.sleep(0.01)
    return payloads
"#;
    let environment = [("ASYA_BATCH_SIZE", "8"), FOR_EVER, ("ASYA_CANCEL_GRACE", "200ms")];
    let mut bench = Bench::new(MODULE, &environment).await;
    bench.config.credit = asya_sidecar::Credit::Fixed(9);
    let sidecar = bench.sidecar().await;
    bench.send("first", r#""first""#).await;
    bench.wait_for_line("sizes", "1").await;
    let deadline = chrono::Utc::now() + chrono::TimeDelta::seconds(3);
    let urgent = format!(
        r#"{{"id":"urgent","route":{{"actors":["work","sink"],"current":0}},"payload":1,"deadline":"{}"}}"#,
        deadline.to_rfc3339()
    );
    bench.house.publish("work", urgent).await;
    for index in 0..7 {
        bench.send(&index.to_string(), "1").await;
    }
    wait_for("all of the batch", async || {
        sidecar.snapshot().stages.get(&asya_sidecar::Stage::Ready) == Some(&8)
    })
    .await;
    std::fs::write(bench.path("go"), "").unwrap();
    bench.wait_for_line("sizes", "8").await;
    // The time in which a worker that hangs would have been killed.
    let killed = deadline + chrono::TimeDelta::seconds(1);
    wait_for("the deadline", async || chrono::Utc::now() > killed).await;
    std::fs::write(bench.path("open"), "").unwrap();
    let errors = bench.errors(1).await;
    assert_eq!(errors[0].0, "urgent");
    assert!(errors[0].1.contains("timeout"), "{errors:?}");
    assert_eq!(ids(&bench.results().await).len(), 8);
    assert_eq!(bench.lines("sizes"), ["1", "8"]);
    bench.done(sidecar).await;
}
