//! Several sidecars on one queue: who gets how much, with credit that tunes itself.

#![expect(clippy::expect_used, reason = "a test fails where it stands")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use asya_runtime_protocol::{Handler, HandlerItem, RequestEnvelope};
use asya_sidecar::{Config, Role, Sidecar};
use common::{House, PATIENCE, Runtime, envelope, start, wait_for};
use tokio::sync::Semaphore;

/// Counts its calls; a payload of `"slow"` waits at the gate.
#[derive(Clone)]
struct Counting {
    calls: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
    /// How long every call takes.
    takes: Duration,
}

impl Counting {
    fn new(takes: Duration) -> Self {
        Self {
            calls: Arc::default(),
            gate: Arc::new(Semaphore::new(0)),
            takes,
        }
    }

    fn handler(&self) -> impl Handler + use<> {
        let counting = self.clone();
        move |request: RequestEnvelope| {
            let counting = counting.clone();
            async move {
                counting.calls.fetch_add(1, Ordering::SeqCst);
                if request.payload().as_str() == "\"slow\"" {
                    counting.gate.acquire().await.expect("the gate stays").forget();
                }
                tokio::time::sleep(counting.takes).await;
                Ok(vec![HandlerItem::Payload(request.payload())])
            }
        }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

/// A replica of actor `work` with a runtime of its own.
async fn replica(house: &House, number: usize, counting: &Counting) -> (Sidecar, Runtime) {
    let config = Config {
        socket_dir: house.directory.path().join(format!("replica-{number}")),
        ..house.config("work", Role::Step)
    };
    let runtime = Runtime::start(&config.socket_dir, counting.handler());
    let sidecar = start(house, config).await;
    sidecar.ready().await;
    (sidecar, runtime)
}

async fn end(replicas: Vec<(Sidecar, Runtime)>) {
    for (sidecar, runtime) in replicas {
        assert_eq!(sidecar.drain(PATIENCE).await.returned, 0);
        runtime.stop().await;
    }
}

#[tokio::test]
async fn two_replicas_with_a_slow_handler_share_evenly() {
    let house = House::new();
    house.declare(&["work"]).await;
    let slow = [
        Counting::new(Duration::from_millis(600)),
        Counting::new(Duration::from_millis(600)),
    ];
    let replicas = vec![
        replica(&house, 0, &slow[0]).await,
        replica(&house, 1, &slow[1]).await,
    ];
    for index in 0..10 {
        house
            .publish("work", envelope(&index.to_string(), &["work"], "1"))
            .await;
    }
    wait_for("all ten to be done", async || {
        house.depth("happy-end").await == 10
    })
    .await;
    assert_eq!([slow[0].calls(), slow[1].calls()], [5, 5]);
    end(replicas).await;
}

#[tokio::test]
async fn what_waits_behind_a_call_that_hangs_goes_to_another_replica() {
    const MANY: usize = 200;
    const BEHIND: usize = 20;
    let house = House::new();
    house.declare(&["work"]).await;
    let (first, second) = (Counting::new(Duration::ZERO), Counting::new(Duration::ZERO));
    let (stuck, stuck_runtime) = replica(&house, 0, &first).await;
    for index in 0..MANY {
        house
            .publish("work", envelope(&index.to_string(), &["work"], "1"))
            .await;
    }
    wait_for("the first replica to warm up", async || {
        first.calls() == MANY && house.depth("work").await == 0
    })
    .await;
    assert!(stuck.snapshot().credit > BEHIND, "its credit has grown");

    house
        .publish("work", envelope("slow", &["work"], "\"slow\""))
        .await;
    wait_for("the slow call to run", async || first.calls() == MANY + 1).await;
    for index in 0..BEHIND {
        house
            .publish("work", envelope(&format!("behind-{index}"), &["work"], "1"))
            .await;
    }
    wait_for(
        "the first replica to hold what waits, or to have given it back",
        async || {
            let snapshot = stuck.snapshot();
            snapshot.credits_taken == BEHIND + 1 || snapshot.credit == 1
        },
    )
    .await;
    let other = replica(&house, 1, &second).await;
    wait_for("the second replica to do the rest", async || {
        second.calls() == BEHIND
    })
    .await;
    assert_eq!(
        first.calls(),
        MANY + 1,
        "the slow call still runs and nothing else was run"
    );
    assert_eq!(stuck.snapshot().credit, 1);
    first.gate.add_permits(1);
    house.wait_empty("work").await;
    end(vec![(stuck, stuck_runtime), other]).await;
    assert_eq!(house.take_all("happy-end").await.len(), MANY + BEHIND + 1);
    assert_eq!(house.depth("error-end").await, 0);
}
