//! A call that is cancelled at a real gateway ends everywhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use asya_gateway::auth::Caller;
use asya_gateway_store::Outcome;
use asya_runtime_protocol::{HandlerItem, RequestEnvelope};
use futures::FutureExt as _;
use tokio::sync::Semaphore;

use crate::common::wait_for;
use crate::plant::Plant;

#[tokio::test]
async fn a_cancelled_call_goes_no_further_from_the_queue_and_from_the_handler_and_others_do() {
    let calls = Arc::new(AtomicUsize::new(0));
    let open = Arc::new(Semaphore::new(0));
    let (counted, gate) = (Arc::clone(&calls), Arc::clone(&open));
    let handler = move |request: RequestEnvelope| {
        counted.fetch_add(1, Ordering::SeqCst);
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.expect("never closed").forget();
            Ok(vec![
                HandlerItem::Payload(request.payload()),
                HandlerItem::Payload(request.payload()),
            ])
        }
        .boxed()
    };
    let mut plant = Plant::start(handler).await;
    let runs = plant.call(0).await;
    wait_for("it to run", async || calls.load(Ordering::SeqCst) == 1).await;
    let waits = plant.call(1).await;
    let lives = plant.call(2).await;
    for (count, id) in [(1, &waits), (2, &runs)] {
        let cancelled = plant.gateway().cancel(&Caller::anonymous(), id, "no more").await;
        assert!(cancelled.expect("known").cancelled);
        wait_for("the notice", async || {
            plant.work.reporter.figures().cancelled == count
        })
        .await;
    }
    open.add_permits(1);
    let record = plant.ended(&lives).await;
    assert_eq!(record.outcome, Some(Outcome::Succeeded));
    plant.nothing_is_left().await;
    for id in [&runs, &waits] {
        let record = plant.record(id).await;
        assert_eq!(record.outcome, Some(Outcome::Cancelled), "{record:?}");
        assert_eq!(record.error.as_deref(), Some("cancelled"));
    }
    assert_eq!(calls.load(Ordering::SeqCst), 2, "what waited was not run");
    // A sidecar that comes later is told as well.
    plant.restart_gateway().await;
    let late = plant.call(3).await;
    wait_for("it to run", async || calls.load(Ordering::SeqCst) == 3).await;
    let cancelled = plant.gateway().cancel(&Caller::anonymous(), &late, "").await;
    assert!(cancelled.expect("known").cancelled);
    wait_for("the notice", async || {
        plant.work.reporter.figures().cancelled == 3
    })
    .await;
    open.add_permits(1);
    plant.nothing_is_left().await;
    assert_eq!(plant.record(&late).await.outcome, Some(Outcome::Cancelled));
    plant.end().await;
}
