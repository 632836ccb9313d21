//! Cancelling.

use std::time::Duration;

use asya_gateway_store::{Created, Outcome, Status, View};
use futures::future::join_all;

use crate::world::{PATIENCE, World, all, anybody, child, register, running, say, success, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancellation_ends_the_envelope_and_all_below_and_tells_sidecars() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut notices = gateway.cancellations();
    let id = running(&gateway).await;
    let below = [format!("{id}-1"), format!("{id}-2"), format!("{id}-1-1")];
    register(&gateway, child(&below[0], &id)).await;
    register(&gateway, child(&below[1], &id)).await;
    register(&gateway, child(&below[2], &below[0])).await;
    say(&gateway, vec![success(&below[1], "7")]).await;

    let cancelled = gateway.cancel(&anybody(), &id, "too slow").await.unwrap();
    assert!(cancelled.cancelled);
    assert_eq!(
        (cancelled.record.outcome, cancelled.children),
        (Some(Outcome::Cancelled), 2)
    );
    for id in [&id, &below[0], &below[2]] {
        let record = gateway.get(&anybody(), id, View::Full).await.unwrap();
        assert_eq!(
            (record.status, record.outcome),
            (Status::Failed, Some(Outcome::Cancelled)),
            "{id}"
        );
        assert_eq!(record.error.as_deref(), Some("cancelled"));
        assert_eq!(record.message.as_deref(), Some("Cancelled: too slow"));
        let updates = all(gateway.watch(&anybody(), id, None).await.unwrap()).await;
        assert!(updates.last().unwrap().is_final());
    }
    let kept = gateway.get(&anybody(), &below[1], View::Full).await.unwrap();
    assert_eq!(kept.status, Status::Succeeded, "what is ready stays");

    let mut told = Vec::new();
    for _ in 0..3 {
        let notice = tokio::time::timeout(PATIENCE, notices.next()).await.unwrap();
        assert_eq!((notice.attempt, notice.reason.as_str()), (1, "too slow"));
        told.push(notice.envelope_id);
    }
    told.sort();
    assert_eq!(told, [id.clone(), below[0].clone(), below[2].clone()]);
    let more = tokio::time::timeout(Duration::from_millis(200), notices.next()).await;
    assert!(more.is_err(), "each once: {more:?}");

    let again = gateway.cancel(&anybody(), &id, "").await.unwrap();
    assert!(!again.cancelled);
    assert_eq!(
        (again.record.outcome, again.children),
        (Some(Outcome::Cancelled), 0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_comes_after_the_cancellation_is_cancelled_too() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let id = running(&gateway).await;
    gateway.cancel(&anybody(), &id, "").await.unwrap();
    let late = format!("{id}-1");
    assert!(matches!(
        register(&gateway, child(&late, &id)).await,
        Created::New(_)
    ));
    let record = gateway.get(&anybody(), &late, View::Basic).await.unwrap();
    assert_eq!(record.outcome, Some(Outcome::Cancelled));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_ready_is_not_cancelled_but_its_children_are() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let id = running(&gateway).await;
    let below = format!("{id}-1");
    register(&gateway, child(&below, &id)).await;
    say(&gateway, vec![success(&id, "1")]).await;
    let cancelled = gateway.cancel(&anybody(), &id, "").await.unwrap();
    assert!(!cancelled.cancelled);
    assert_eq!(
        (cancelled.record.outcome, cancelled.children),
        (Some(Outcome::Succeeded), 1)
    );
    until(&gateway, &below, |record| {
        record.outcome == Some(Outcome::Cancelled)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancellations_are_known_after_a_restart_and_on_every_replica() {
    let world = World::new().await;
    let (one, two) = (world.gateway().await, world.gateway().await);
    let mut elsewhere = two.cancellations();
    let id = running(&one).await;
    one.cancel(&anybody(), &id, "").await.unwrap();
    let notice = tokio::time::timeout(PATIENCE, elsewhere.next()).await.unwrap();
    assert_eq!(notice.envelope_id, id);
    drop((one, two));
    let third = world.gateway().await;
    let notice = tokio::time::timeout(PATIENCE, third.cancellations().next())
        .await
        .unwrap();
    assert_eq!(notice.envelope_id, id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_registers_late_below_a_ready_envelope_is_cancelled_too() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let (id, kept) = (running(&gateway).await, running(&gateway).await);
    let below = format!("{id}-1");
    register(&gateway, child(&below, &id)).await;
    say(
        &gateway,
        vec![success(&id, "1"), success(&below, "1"), success(&kept, "1")],
    )
    .await;
    let cancelled = gateway.cancel(&anybody(), &id, "too slow").await.unwrap();
    assert!(!cancelled.cancelled);
    assert_eq!(cancelled.record.outcome, Some(Outcome::Succeeded));
    // A child of what was cancelled, and a child of a child that was ready before.
    for (late, parent) in [(format!("{id}-2"), &id), (format!("{id}-1-1"), &below)] {
        register(&gateway, child(&late, parent)).await;
        let record = gateway.get(&anybody(), &late, View::Basic).await.unwrap();
        assert_eq!(record.outcome, Some(Outcome::Cancelled), "{late}");
        assert_eq!(record.message.as_deref(), Some("Cancelled: too slow"));
    }
    let other = format!("{kept}-1");
    register(&gateway, child(&other, &kept)).await;
    let record = gateway.get(&anybody(), &other, View::Basic).await.unwrap();
    assert_eq!(record.status, Status::Running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancellation_whose_caller_has_gone_reaches_all_the_same() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let id = running(&gateway).await;
    let below: Vec<String> = (0..1200).map(|index| format!("{id}-{index}")).collect();
    join_all(below.iter().map(|below| register(&gateway, child(below, &id)))).await;
    let caller = anybody();
    let root = until(&gateway, &id, |record| record.status.is_final());
    tokio::select! {
        cancelled = gateway.cancel(&caller, &id, "") => panic!("it was to be dropped before: {cancelled:?}"),
        _ = root => {}
    }
    for below in &below {
        until(&gateway, below, |record| {
            record.outcome == Some(Outcome::Cancelled)
        })
        .await;
    }
}
