//! Sidecars that do not run for ever: until their queue is empty, or for one message.
#![expect(clippy::expect_used, reason = "a test fails where it stands")]

mod common;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use asya_runtime_protocol::{HandlerError, HandlerItem, RequestEnvelope};
use asya_sidecar::{Config, Fault, Part, Protocol, Role, RunUntil, Sidecar};
use common::{House, PATIENCE, Runtime, echo, envelope, start, wait_for};

async fn house(actor: &str, messages: usize) -> House {
    let house = House::new();
    house.declare(&[actor, "sink"]).await;
    for index in 0..messages {
        let id = index.to_string();
        house.publish(actor, envelope(&id, &[actor, "sink"], "1")).await;
    }
    house
}

fn until(house: &House, run_until: RunUntil) -> Config {
    Config {
        run_until,
        ..house.config("work", Role::Step)
    }
}

async fn finish(sidecar: Sidecar) {
    tokio::time::timeout(PATIENCE, sidecar.done())
        .await
        .expect("the work is done");
    assert_eq!(sidecar.snapshot().credits_taken, 0, "nothing is in hand");
    assert_eq!(
        sidecar.drain(Duration::ZERO).await.returned,
        0,
        "there is nothing to drain"
    );
}

#[tokio::test]
async fn the_work_is_done_when_the_queue_is_empty_and_everything_is_settled() {
    let house = house("work", 50).await;
    let config = until(&house, RunUntil::Empty);
    let _runtime = Runtime::start(&config.socket_dir, echo);
    finish(start(&house, config).await).await;
    assert_eq!((house.depth("work").await, house.depth("sink").await), (0, 50));
}

#[tokio::test]
async fn an_empty_queue_is_work_done_at_once() {
    for run_until in [RunUntil::Empty, RunUntil::One] {
        let house = house("work", 0).await;
        let config = until(&house, run_until);
        let _runtime = Runtime::start(&config.socket_dir, echo);
        finish(start(&house, config).await).await;
    }
}

#[tokio::test]
async fn one_message_is_taken_and_no_other_over_both_protocols() {
    for protocol in [Protocol::Auto, Protocol::V1] {
        let house = House {
            protocol,
            ..house("work", 3).await
        };
        let config = until(&house, RunUntil::One);
        let _runtime = Runtime::start(&config.socket_dir, echo);
        finish(start(&house, config).await).await;
        assert_eq!(
            (house.depth("work").await, house.depth("sink").await),
            (2, 1),
            "{protocol:?}"
        );
    }
}

/// The consumer that comes after one that crashed must know that there was a message already.
#[tokio::test]
async fn a_restart_of_the_consumer_takes_no_second_message() {
    let house = house("work", 3).await;
    let config = until(&house, RunUntil::One);
    let (open, gate) = tokio::sync::watch::channel(false);
    let _runtime = Runtime::start(&config.socket_dir, move |request: RequestEnvelope| {
        let mut gate = gate.clone();
        async move {
            gate.wait_for(|open| *open).await.unwrap();
            Ok::<_, HandlerError>(vec![HandlerItem::Payload(request.payload())])
        }
    });
    let sidecar = start(&house, config).await;
    wait_for("the call", async || sidecar.snapshot().calls == 1).await;
    let restarts = sidecar.snapshot().restarts;
    assert!(sidecar.inject(Part::Consumer, Fault::Kill));
    wait_for("the restart", async || sidecar.snapshot().restarts > restarts).await;
    open.send_replace(true);
    finish(sidecar).await;
    assert_eq!((house.depth("work").await, house.depth("sink").await), (2, 1));
}

/// A retry that waits in the queue itself is work that is left.
#[tokio::test]
async fn retries_that_the_queue_knows_of_are_waited_for() {
    let house = house("work", 2).await;
    let mut config = until(&house, RunUntil::Empty);
    config.retry.max_attempts = NonZeroU32::new(2).unwrap();
    config.retry.initial_backoff = Duration::from_secs(2);
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let _runtime = Runtime::start(&config.socket_dir, move |request: RequestEnvelope| {
        let call = counted.fetch_add(1, Ordering::Relaxed);
        async move {
            if call < 2 {
                return Err(HandlerError::new("not yet"));
            }
            Ok(vec![HandlerItem::Payload(request.payload())])
        }
    });
    finish(start(&house, config).await).await;
    assert_eq!(calls.load(Ordering::Relaxed), 4);
    assert_eq!((house.depth("work").await, house.depth("sink").await), (0, 2));
}

#[tokio::test]
async fn a_sidecar_that_runs_until_it_is_stopped_is_never_done() {
    let house = house("work", 1).await;
    let config = until(&house, RunUntil::Stopped);
    let _runtime = Runtime::start(&config.socket_dir, echo);
    let sidecar = start(&house, config).await;
    house.wait_empty("work").await;
    let done = tokio::time::timeout(Duration::from_secs(2), sidecar.done()).await;
    assert!(done.is_err(), "there may always come another one");
    sidecar.drain(PATIENCE).await;
}
