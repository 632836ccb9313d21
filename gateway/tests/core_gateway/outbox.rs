//! Messages that were not sent at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use asya_gateway::core::Gateway;
use asya_gateway_store::{
    Created, NewEnvelope, OutboxMessage, Outcome, Phase, ReportEvent, Status, Store, View,
};
use asya_runtime_protocol::message_id;
use asya_transport::Transport;
use bytes::Bytes;
use chrono::{TimeDelta, Utc};

use crate::gate::Gate;
use crate::world::{PATIENCE, World, anybody, child, options, progress, report, until};

/// What a gateway leaves behind that dies between the row and the message.
fn left(id: &str, actor: &str) -> NewEnvelope {
    NewEnvelope {
        parent_id: None,
        status: Status::Pending,
        actors: vec![actor.to_owned()],
        route_current: 0,
        outbox: Some(OutboxMessage {
            actor: actor.to_owned(),
            message_id: message_id(id, 0, 1, 0),
            body: Bytes::from(format!(r#"{{"id":"{id}"}}"#)),
        }),
        ..child(id, "")
    }
}

async fn leave(store: &Arc<dyn Store>, new: NewEnvelope) {
    let created = store.create(new, Duration::ZERO).await.unwrap();
    assert!(matches!(created, Created::New(_)));
}

async fn emptied(store: &Arc<dyn Store>) {
    let start = Instant::now();
    while store.outbox_depth().await.unwrap().waiting > 0 {
        assert!(start.elapsed() < PATIENCE, "the outbox is not emptied");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_gateway_left_is_sent_by_the_next_one_with_the_same_identity() {
    let world = World::new().await;
    let store = world.store().await;
    for index in 0..200 {
        leave(&store, left(&format!("e{index}"), "first")).await;
    }
    let gateway = world.gateway_over(&store).await;
    emptied(&store).await;
    assert_eq!(world.waiting("first").await, 200);
    let mut sent = BTreeSet::new();
    for _ in 0..200 {
        sent.insert(world.message("first").await.message_id.unwrap());
    }
    assert_eq!(sent, (0..200).map(|index| format!("e{index}/0/1/0")).collect());
    for index in 0..200 {
        until(&gateway, &format!("e{index}"), |record| {
            record.status == Status::Running
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_send_what_was_left_once() {
    let world = World::new().await;
    let store = world.store().await;
    for index in 0..200 {
        leave(&store, left(&format!("e{index}"), "first")).await;
    }
    let (one, two) = (world.gateway().await, world.gateway().await);
    emptied(&store).await;
    assert_eq!(world.waiting("first").await, 200);
    drop((one, two));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_cancelled_in_the_outbox_is_never_sent() {
    let world = World::new().await;
    let store = world.store().await;
    leave(&store, left("e", "first")).await;
    let cancelled = ReportEvent::Cancelled {
        reason: "changed my mind".to_owned(),
    };
    store.apply(vec![report("e", cancelled)]).await.unwrap();
    let gateway = world.gateway_over(&store).await;
    emptied(&store).await;
    assert_eq!(world.waiting("first").await, 0);
    let record = gateway.get(&anybody(), "e", View::Full).await.unwrap();
    assert_eq!(record.outcome, Some(Outcome::Cancelled));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_overdue_in_the_outbox_is_never_sent() {
    let world = World::new().await;
    let store = world.store().await;
    let overdue = NewEnvelope {
        deadline: Some(Utc::now() - TimeDelta::seconds(1)),
        ..left("e", "first")
    };
    leave(&store, overdue).await;
    let gateway = world.gateway_over(&store).await;
    let record = until(&gateway, "e", |record| record.status.is_final()).await;
    assert_eq!(record.outcome, Some(Outcome::TimedOut));
    emptied(&store).await;
    assert_eq!(world.waiting("first").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_nobody_takes_is_offered_for_a_while() {
    let world = World::new().await;
    let store = world.store().await;
    leave(&store, left("e", "later")).await;
    let gateway = world.gateway_over(&store).await;
    let start = Instant::now();
    while store
        .claim_outbox(1, Duration::ZERO)
        .await
        .unwrap()
        .iter()
        .all(|entry| entry.tries == 0)
    {
        assert!(start.elapsed() < PATIENCE, "it was not tried");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(
        gateway.get(&anybody(), "e", View::Basic).await.unwrap().status,
        Status::Pending
    );
    world.declare("later").await;
    until(&gateway, "e", |record| record.status == Status::Running).await;
    assert_eq!(
        world.message("later").await.message_id.as_deref(),
        Some("e/0/1/0")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_nobody_ever_takes_fails_its_envelope_in_the_end() {
    let world = World::new().await;
    let store = world.store().await;
    leave(&store, left("e", "never")).await;
    let mut options = world.options(&store);
    options.patience.unroutable = Duration::from_millis(300);
    let gateway = asya_gateway::core::Gateway::start(options).await;
    let record = until(&gateway, "e", |record| record.status.is_final()).await;
    assert_eq!(record.outcome, Some(Outcome::Failed));
    assert!(record.error.unwrap().contains("asya-never"));
    emptied(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_under_way_when_a_gateway_ends_is_finished() {
    let world = World::new().await;
    let store = world.store().await;
    for index in 0..3 {
        leave(&store, left(&format!("e{index}"), "first")).await;
    }
    let gate = Gate::before(Arc::clone(&world.transport) as Arc<dyn Transport>);
    let gateway = Gateway::start(options(&store, Arc::clone(&gate) as Arc<dyn Transport>)).await;
    gate.reached(3).await;
    gateway.drain();
    leave(&store, left("late", "first")).await;
    let closing = tokio::spawn(gateway.close(PATIENCE));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!closing.is_finished(), "the broker has not confirmed them");
    gate.open();
    tokio::time::timeout(PATIENCE, closing).await.unwrap().unwrap();
    let store = world.store().await;
    for index in 0..3 {
        let record = store
            .get(&format!("e{index}"), View::Basic)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(record.status, Status::Running, "e{index}");
    }
    assert_eq!(
        store.outbox_depth().await.unwrap().waiting,
        1,
        "what came while it ended is for others"
    );
    assert_eq!((gate.published(), world.waiting("first").await), (3, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_was_sent_and_is_not_sent_again() {
    let world = World::new().await;
    let store = world.store().await;
    leave(&store, left("e", "first")).await;
    // The sidecar has it, whatever became of the one who sent it.
    store
        .apply(vec![progress("e", 0, Phase::Received)])
        .await
        .unwrap();
    let gateway = world.gateway_over(&store).await;
    emptied(&store).await;
    assert_eq!(world.waiting("first").await, 0);
    let record = gateway.get(&anybody(), "e", View::Basic).await.unwrap();
    assert_eq!(record.status, Status::Running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_has_lost_a_task_says_so() {
    let world = World::new().await;
    let store = world.store().await;
    let gate = Gate::before(Arc::clone(&world.transport) as Arc<dyn Transport>);
    let gateway = Gateway::start(options(&store, gate as Arc<dyn Transport>)).await;
    assert!(gateway.health().await.is_ready());
    assert_eq!(gateway.failure(), None);
    let mut new = left("e", "first");
    new.outbox.as_mut().unwrap().body = Bytes::from("panic");
    leave(&store, new).await;
    let reason = tokio::time::timeout(PATIENCE, gateway.failed()).await.unwrap();
    assert!(reason.contains("outbox"), "{reason}");
    assert_eq!(gateway.failure(), Some(reason.clone()));
    let health = gateway.health().await;
    assert_eq!((health.is_ready(), health.tasks), (false, Err(reason)));
    gateway.close(PATIENCE).await;

    let calm = world.gateway().await;
    calm.clone().close(PATIENCE).await;
    assert_eq!(calm.failure(), None, "at the end tasks may end");
}
