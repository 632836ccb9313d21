//! Deadlines.

use asya_gateway_store::{Outcome, Status};

use crate::world::{World, all, anybody, call, child, progress, register, say, submit, until};
use asya_gateway_store::Phase;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_outlives_the_gateway_that_took_the_call() {
    let world = World::new().await;
    let first = world.gateway().await;
    let id = submit(&first, call("short", "{}")).await.unwrap().record.id;
    until(&first, &id, |record| record.status == Status::Running).await;
    first.close(crate::world::PATIENCE).await;
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
    assert!(matches!(late[0], asya_gateway_store::Applied::Nothing { .. }));
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
