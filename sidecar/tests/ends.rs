//! What must not repeat itself: an end actor whose report is refused, and a large fan-out to a missing queue.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use asya_runtime_protocol::{HandlerError, HandlerItem, RawJson, RequestEnvelope};
use asya_sidecar::{FinalReport, Progress, ReportError, Reporter, Role, Sidecar};
use common::{House, PATIENCE, Runtime, envelope, start, wait_for};
use futures::future::BoxFuture;

/// Refuses the first reports.
struct Reluctant {
    asked: AtomicUsize,
    refusals: usize,
}

impl Reporter for Reluctant {
    fn progress(&self, _: Progress) {}

    fn finish(&self, _: FinalReport) -> BoxFuture<'static, Result<(), ReportError>> {
        let refused = self.asked.fetch_add(1, Ordering::SeqCst) < self.refusals;
        Box::pin(async move {
            if refused {
                Err(ReportError("not now".into()))
            } else {
                Ok(())
            }
        })
    }
}

#[tokio::test]
async fn a_dead_letter_is_written_once_however_often_its_report_is_refused() {
    const REFUSALS: usize = 2;
    let house = House::new();
    house.declare(&["error-end-dlq"]).await;
    let mut config = house.config("error-end", Role::ErrorEnd);
    config.max_deliveries = 0; // The first failure is one too many.
    let runtime = Runtime::start(&config.socket_dir, async |_: RequestEnvelope| {
        Err::<Vec<HandlerItem>, _>(HandlerError::new("the store is full"))
    });
    let reporter = Arc::new(Reluctant {
        asked: AtomicUsize::new(0),
        refusals: REFUSALS,
    });
    let sidecar = Sidecar::builder(config, Arc::clone(&house.transport))
        .reporter(Arc::clone(&reporter) as _)
        .start()
        .await
        .expect("the sidecar starts");
    house.publish("error-end", envelope("x", &["work"], "1")).await;
    house.wait_empty("error-end").await;
    assert_eq!(reporter.asked.load(Ordering::SeqCst), REFUSALS + 1);
    assert_eq!(house.take_all("error-end-dlq").await.len(), 1);
    sidecar.drain(PATIENCE).await;
    runtime.stop().await;
}

#[tokio::test]
async fn whoever_consumes_the_queue_of_error_end_never_feeds_it() {
    let house = House::new();
    house.declare(&["error-end-dlq"]).await;
    let config = house.config("error-end", Role::Step);
    let runtime = Runtime::start(&config.socket_dir, common::echo);
    let sidecar = start(&house, config).await;
    house.publish("error-end", "not json").await;
    house.publish("error-end", envelope("x", &["work"], "1")).await;
    wait_for("both to be dead letters", async || {
        house.depth("error-end-dlq").await == 2
    })
    .await;
    house.wait_empty("error-end").await;
    sidecar.drain(PATIENCE).await;
    runtime.stop().await;
}

#[tokio::test]
async fn a_large_fan_out_to_nowhere_costs_the_patience_once() {
    // Sixteen windows: with a patience for each they would take longer than the test waits.
    const ITEMS: usize = 1_000;
    let house = House::new();
    house.declare(&["work"]).await;
    let mut config = house.config("work", Role::Step);
    config.unroutable_patience = Duration::from_secs(3);
    let runtime = Runtime::start(&config.socket_dir, async |_: RequestEnvelope| {
        let item = || HandlerItem::Payload(RawJson::null());
        Ok::<_, HandlerError>((0..ITEMS).map(|_| item()).collect())
    });
    let sidecar = start(&house, config).await;
    house
        .publish("work", envelope("x", &["work", "nowhere"], "1"))
        .await;
    wait_for("all items to fail", async || {
        house.depth("error-end").await == u64::try_from(ITEMS).expect("a count")
    })
    .await;
    house.wait_empty("work").await;
    sidecar.drain(PATIENCE).await;
    runtime.stop().await;
}
