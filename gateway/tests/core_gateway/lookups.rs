//! Reading, and what belongs to others.

use std::time::{Duration, Instant};

use asya_gateway_store::{Filter, Page, Status, View};

use crate::world::{PATIENCE, World, anybody, call, child, is_unknown, of, register, running, say, success};

fn page(size: u32) -> Page {
    Page {
        size,
        after: None,
        view: View::Basic,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_belongs_to_others_is_unknown() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mine = gateway
        .submit(&of("acme"), call("free", "{}"))
        .await
        .unwrap()
        .record
        .id;
    let theirs = gateway
        .submit(&of("other"), call("free", "{}"))
        .await
        .unwrap()
        .record
        .id;
    let nobodys = gateway
        .submit(&anybody(), call("free", "{}"))
        .await
        .unwrap()
        .record
        .id;
    register(&gateway, child(&format!("{theirs}-1"), &theirs)).await;
    let me = of("acme");
    for id in [&theirs, &nobodys, &format!("{theirs}-1"), &"none".to_owned()] {
        assert!(is_unknown(&gateway.get(&me, id, View::Full).await), "{id}");
        assert!(is_unknown(&gateway.watch(&me, id, None).await), "{id}");
        assert!(is_unknown(&gateway.wait(&me, id, Duration::ZERO).await), "{id}");
        assert!(is_unknown(&gateway.children(&me, id).await), "{id}");
        assert!(is_unknown(&gateway.cancel(&me, id, "").await), "{id}");
    }
    let asked = Filter {
        tenant: Some("other".to_owned()),
        ..Filter::default()
    };
    let seen = gateway.list(&me, asked, page(10)).await.unwrap().records;
    assert_eq!(seen.iter().map(|record| &record.id).collect::<Vec<_>>(), [&mine]);
    let seen = gateway
        .list(&anybody(), Filter::default(), page(10))
        .await
        .unwrap()
        .records;
    assert_eq!(seen.len(), 4, "who has no tenant sees all");
    let theirs = gateway.get(&anybody(), &theirs, View::Basic).await.unwrap();
    assert!(!theirs.status.is_final());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_of_one_to_a_thousand() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    for _ in 0..3 {
        running(&gateway).await;
    }
    for (asked, found) in [(0, 1), (2, 2), (u32::MAX, 3)] {
        let listed = gateway
            .list(&anybody(), Filter::default(), page(asked))
            .await
            .unwrap();
        assert_eq!(listed.records.len(), found);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_ends_with_the_envelope_or_with_its_limit() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let id = running(&gateway).await;
    let early = gateway
        .wait(&anybody(), &id, Duration::from_millis(50))
        .await
        .unwrap();
    assert_eq!(early.status, Status::Running);
    let waiting = {
        let (gateway, id) = (gateway.clone(), id.clone());
        tokio::spawn(async move { gateway.wait(&anybody(), &id, PATIENCE).await })
    };
    let start = Instant::now();
    say(&gateway, vec![success(&id, "[1.0]")]).await;
    let record = waiting.await.unwrap().unwrap();
    assert!(start.elapsed() < PATIENCE, "it ended with the envelope");
    assert_eq!(record.status, Status::Succeeded);
    assert_eq!(record.result.unwrap().as_str(), "[1.0]");
    let again = gateway.wait(&anybody(), &id, PATIENCE).await.unwrap();
    assert_eq!(again.status, Status::Succeeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_does_not_hold_up_a_shutdown() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let id = running(&gateway).await;
    let waiting = {
        let gateway = gateway.clone();
        tokio::spawn(async move { gateway.wait(&anybody(), &id, Duration::from_hours(1)).await })
    };
    gateway.drain();
    let record = tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(record.status, Status::Running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_that_of_the_store_and_the_broker() {
    let world = World::new().await;
    let store = world.store().await;
    let gateway = world.gateway_over(&store).await;
    let health = gateway.health().await;
    assert!(health.is_ready(), "{health:?}");
    let mut options = world.options(&store);
    options.broker_probe = Some(std::sync::Arc::new(|| Err("it is away".to_owned())));
    let other = asya_gateway::core::Gateway::start(options).await;
    let health = other.health().await;
    assert_eq!(
        (health.store.clone(), health.broker.clone()),
        (Ok(()), Err("it is away".to_owned()))
    );
    assert!(!health.is_ready());
}
