//! Envelopes that somebody ends.

use crate::common::wait_for;
use crate::python::Bench;

#[tokio::test]
async fn a_waiting_envelope_and_a_running_one_are_cancelled() {
    const MODULE: &str = r#"
import asyncio
async def run(payload):
    with open("calls", "a") as file:
        file.write("%s\n" % payload)
    await asyncio.sleep(60)
"#;
    let mut bench = Bench::new(MODULE, &[]).await;
    bench.config.credit = asya_sidecar::Credit::Fixed(2);
    let sidecar = bench.sidecar().await;
    assert!(!sidecar.cancel("runs"), "not here yet");
    bench.send("runs", r#""runs""#).await;
    bench.wait_for_line("calls", "runs").await;
    bench.send("waits", r#""waits""#).await;
    wait_for("the second to wait", async || {
        sidecar.snapshot().stages.get(&asya_sidecar::Stage::Ready) == Some(&1)
    })
    .await;
    assert!(sidecar.cancel("waits"));
    let errors = bench.errors(1).await;
    assert_eq!(
        (errors[0].0.as_str(), errors[0].1.as_str()),
        ("waits", "cancelled")
    );
    assert!(sidecar.cancel("runs"));
    let errors = bench.errors(1).await;
    assert_eq!(
        (errors[0].0.as_str(), errors[0].1.as_str()),
        ("runs", "cancelled")
    );
    assert_eq!(bench.lines("calls"), ["runs"]);
    assert_eq!(bench.results().await.len(), 0);
    bench.done(sidecar).await;
}

/// What its handler answers all the same is not published.
#[tokio::test]
async fn a_cancelled_call_that_does_not_listen_is_cancelled_all_the_same() {
    const MODULE: &str = r#"
import os, time
def run(payload):
    open("calls", "w").write("runs\n")
    while not os.path.exists("open"):
        time.sleep(0.01)
    return payload
"#;
    let bench = Bench::new(MODULE, &[]).await;
    let sidecar = bench.sidecar().await;
    bench.send("deaf", "1").await;
    bench.wait_for_line("calls", "runs").await;
    assert!(sidecar.cancel("deaf"));
    std::fs::write(bench.path("open"), "").unwrap();
    let errors = bench.errors(1).await;
    assert_eq!(
        (errors[0].0.as_str(), errors[0].1.as_str()),
        ("deaf", "cancelled")
    );
    assert_eq!(bench.results().await.len(), 0);
    bench.done(sidecar).await;
}
