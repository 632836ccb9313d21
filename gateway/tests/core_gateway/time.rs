//! Deadlines.

use std::time::{Duration, Instant};

use asya_gateway::core::Gateway;
use asya_gateway_store::{Applied, Outcome, Phase, Retention, Status};

use crate::world::{
    PATIENCE, World, all, anybody, call, child, history, progress, register, running, say, submit, success,
    until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_outlives_the_gateway_that_took_the_call() {
    let world = World::new().await;
    let first = world.gateway().await;
    let id = submit(&first, call("short", "{}")).await.unwrap().record.id;
    until(&first, &id, |record| record.status == Status::Running).await;
    first.close(PATIENCE).await;
    let second = world.gateway().await;
    let record = until(&second, &id, |record| record.status.is_final()).await;
    assert_eq!(
        (record.status, record.outcome),
        (Status::Failed, Some(Outcome::TimedOut))
    );
    assert_eq!(record.error.as_deref(), Some("envelope timed out"));
    assert!(
        record.updated_at >= record.deadline.unwrap(),
        "not before its time"
    );
    let late = say(&second, vec![progress(&id, 0, Phase::Received)]).await;
    assert!(matches!(late[0], Applied::Nothing { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_share_the_deadline_and_watchers_learn_of_it() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let id = submit(&gateway, call("short", "{}")).await.unwrap().record.id;
    let below = format!("{id}-1");
    register(&gateway, child(&below, &id)).await;
    for id in [&id, &below] {
        let updates = all(gateway.watch(&anybody(), id, None).await.unwrap()).await;
        assert_eq!(
            updates.last().unwrap().error.as_deref(),
            Some("envelope timed out")
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_housekeeping_goes_to_another_gateway_when_the_first_one_is_gone() {
    let world = World::new().await;
    let (first, second) = (world.gateway().await, world.gateway().await);
    let id = submit(&second, call("short", "{}")).await.unwrap().record.id;
    first.close(PATIENCE).await;
    let later = submit(&second, call("short", "{}")).await.unwrap().record.id;
    for id in [id, later] {
        let record = until(&second, &id, |record| record.status.is_final()).await;
        assert_eq!(record.outcome, Some(Outcome::TimedOut));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_older_than_it_need_be_is_deleted() {
    let world = World::new().await;
    let store = world.store().await;
    let mut options = world.options(&store);
    options.patience.clean = Duration::from_millis(50);
    options.retention = Retention {
        updates: Some(Duration::from_millis(1)),
        envelopes: None,
    };
    let gateway = Gateway::start(options).await;
    let (done, open) = (running(&gateway).await, running(&gateway).await);
    say(&gateway, vec![success(&done, "1")]).await;
    let start = Instant::now();
    while !history(&store, &done).await.is_empty() {
        assert!(start.elapsed() < PATIENCE, "the history is still there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(
        !history(&store, &open).await.is_empty(),
        "what is not final is kept"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ended_in_time_while_nobody_served_is_not_told_as_timed_out() {
    let world = World::new().await;
    let first = world.gateway().await;
    let ended = submit(&first, call("short", "{}")).await.unwrap().record.id;
    let lost = submit(&first, call("short", "{}")).await.unwrap().record.id;
    let record = until(&first, &lost, |record| record.status == Status::Running).await;
    first.close(PATIENCE).await;
    let over = record.deadline.unwrap() - chrono::Utc::now();
    tokio::time::sleep(over.to_std().unwrap_or_default() + Duration::from_millis(50)).await;

    let mut options = world.options(&world.store().await);
    options.patience.late = Duration::from_secs(5);
    let second = Gateway::start(options).await;
    // Whose time is over from now on, is ended at once.
    let prompt = submit(&second, call("short", "{}")).await.unwrap().record.id;
    let record = until(&second, &prompt, |record| record.status.is_final()).await;
    assert_eq!(record.outcome, Some(Outcome::TimedOut));
    // The word that the sidecar had to hold.
    assert!(matches!(
        say(&second, vec![success(&ended, "7")]).await[0],
        Applied::Changed { .. }
    ));
    let record = until(&second, &lost, |record| record.status.is_final()).await;
    assert_eq!(record.outcome, Some(Outcome::TimedOut));
}
