//! Envelopes that somebody ends.

use std::sync::Arc;

use asya_sidecar::{CancelNotice, FinalReport, Notices, Progress, ReportError, Reporter};
use futures::future::BoxFuture;

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

/// A gateway, as far as the tree sees it: a board with notices.
#[derive(Default)]
struct Board(Arc<Notices>);

impl Board {
    fn cancel(&self, id: &str) {
        self.0.add(CancelNotice {
            envelope_id: id.into(),
            attempt: None,
            keep_until: chrono::Utc::now() + chrono::TimeDelta::hours(1),
            reason: "no more".into(),
        });
    }
}

impl Reporter for Board {
    fn progress(&self, _: Progress) {}

    fn finish(&self, _: FinalReport) -> BoxFuture<'static, Result<(), ReportError>> {
        Box::pin(async { Ok(()) })
    }

    fn notices(&self) -> Option<Arc<Notices>> {
        Some(Arc::clone(&self.0))
    }
}

#[tokio::test]
async fn a_handler_whose_envelope_the_gateway_cancelled_is_asked_to_end_and_nothing_comes_of_it() {
    const MODULE: &str = r#"
import asyncio
async def run(payload):
    try:
        open("calls", "a").write("runs\n")
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        open("calls", "a").write("ended\n")
        raise
"#;
    let bench = Bench::new(MODULE, &[]).await;
    let board = Arc::new(Board::default());
    let sidecar = bench.reporting(Arc::<Board>::clone(&board)).await;
    bench.send("runs", "1").await;
    bench.wait_for_line("calls", "runs").await;
    board.cancel("runs");
    bench.wait_for_line("calls", "ended").await;
    assert_eq!(bench.results().await.len(), 0);
    bench.done(sidecar).await;
}

#[tokio::test]
async fn a_stream_whose_envelope_the_gateway_cancelled_publishes_nothing_more() {
    const MODULE: &str = r#"
import os, time
def run(payload):
    yield 0
    yield 1
    open("calls", "a").write("runs\n")
    while not os.path.exists("open"):
        time.sleep(0.01)
    yield 2
    yield 3
"#;
    let bench = Bench::new(MODULE, &[]).await;
    let board = Arc::new(Board::default());
    let sidecar = bench.reporting(Arc::<Board>::clone(&board)).await;
    bench.send("s", "1").await;
    bench.wait_for_line("calls", "runs").await;
    wait_for("the first items", async || bench.house.depth("sink").await == 2).await;
    board.cancel("s");
    std::fs::write(bench.path("open"), "").unwrap();
    let items = bench.results().await;
    let payloads: Vec<_> = items
        .iter()
        .map(|item| item.envelope().payload.unwrap().as_str().to_owned())
        .collect();
    assert_eq!(payloads, ["0", "1"]);
    bench.done(sidecar).await;
}
