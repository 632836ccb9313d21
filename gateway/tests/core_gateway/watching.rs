//! Watching one envelope.

use std::sync::Arc;
use std::time::Duration;

use asya_gateway::core::Gateway;
use asya_gateway_store::{Kind, NewEnvelope, Phase, Retention, Status, Store};
use chrono::{TimeDelta, Utc};
use futures::future::join_all;
use tokio::runtime::Handle;

use crate::world::{
    PATIENCE, World, all, anybody, child, history, ids, item, postgres_pair, progress, running, say, success,
};

/// Many watchers on both replicas, updates from both at once, late joiners at every place: all see the same.
async fn everybody_sees_everything(
    world: &World,
    stores: [Arc<dyn Store>; 2],
    updates: u32,
    watchers: usize,
) {
    let gateways = [
        world.gateway_over(&stores[0]).await,
        world.gateway_over(&stores[1]).await,
    ];
    let id = running(&gateways[0]).await;
    let watching = |gateway: &Gateway| {
        let (gateway, id) = (gateway.clone(), id.clone());
        async move { all(gateway.watch(&anybody(), &id, None).await.unwrap()).await }
    };
    let early: Vec<_> = (0..watchers)
        .map(|one| tokio::spawn(watching(&gateways[one % 2])))
        .collect();
    let writing = (0..4_u32).map(|writer| {
        let (gateway, id) = (gateways[writer as usize % 2].clone(), id.clone());
        async move {
            for index in 0..updates / 4 {
                say(&gateway, vec![item(&id, writer * 1_000_000 + index)]).await;
            }
        }
    });
    let joining = async {
        let mut late = Vec::new();
        for one in 0..50_usize {
            late.push(tokio::spawn(watching(&gateways[one % 2])));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        late
    };
    let (_, late) = tokio::join!(join_all(writing), joining);
    say(&gateways[1], vec![success(&id, "1")]).await;

    let expected = history(&stores[0], &id).await;
    assert_eq!(expected.len(), updates as usize + 2);
    for watcher in early.into_iter().chain(late) {
        let seen = watcher.await.unwrap();
        assert_eq!(ids(&seen), expected);
        assert!(seen.last().unwrap().is_final());
    }
    for (gateway, at) in [(&gateways[0], 0), (&gateways[1], 1)] {
        for place in (at..expected.len()).step_by(2) {
            let rest = all(gateway
                .watch(&anybody(), &id, Some(expected[place]))
                .await
                .unwrap())
            .await;
            assert_eq!(ids(&rest), expected[place + 1..], "after {}", expected[place]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_watchers_see_every_update_once_and_in_order_from_any_place() {
    let world = World::new().await;
    let store = world.store().await;
    everybody_sees_everything(&world, [Arc::clone(&store), store], 200, 1000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_on_two_processes_over_one_file_see_the_same() {
    let world = World::new().await;
    let stores = [world.store().await, world.store().await];
    everybody_sees_everything(&world, stores, 200, 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_on_two_replicas_over_postgresql_see_the_same() {
    let world = World::new().await;
    everybody_sees_everything(&world, postgres_pair().await, 200, 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_longer_than_what_is_kept_is_read_whole() {
    let world = World::new().await;
    let store = world.store().await;
    everybody_sees_everything(&world, [Arc::clone(&store), store], 1200, 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_take_no_tasks_and_leave_nothing_behind() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut envelopes = Vec::new();
    for _ in 0..20 {
        envelopes.push(running(&gateway).await);
    }
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let mut watchers = Vec::new();
    for one in 0..2000 {
        let mut watch = gateway
            .watch(&anybody(), &envelopes[one % 20], None)
            .await
            .unwrap();
        assert_eq!(watch.next().await.unwrap().unwrap().kind, Kind::Sent);
        let pending = tokio::time::timeout(Duration::ZERO, watch.next()).await;
        assert!(pending.is_err());
        watchers.push(watch);
    }
    // Calls that have just ended may still count; watchers would be two thousand.
    assert!(tasks() <= before + 20, "{} tasks, {before} before", tasks());
    drop(watchers);
    assert!(tasks() <= before + 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_was_dropped_while_it_waited_loses_nothing() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let id = running(&gateway).await;
    let mut watch = gateway.watch(&anybody(), &id, None).await.unwrap();
    let mut seen = Vec::new();
    let writing = async {
        for index in 0..100 {
            say(&gateway, vec![item(&id, index)]).await;
        }
        say(&gateway, vec![success(&id, "1")]).await;
    };
    let reading = async {
        loop {
            // Far too short for most of them: nearly every future is dropped half way.
            match tokio::time::timeout(Duration::from_micros(50), watch.next()).await {
                Ok(Ok(Some(update))) => seen.push(update),
                Ok(Ok(None)) => break,
                Ok(Err(error)) => panic!("{error}"),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, async { tokio::join!(writing, reading) })
        .await
        .unwrap();
    assert_eq!(seen.len(), 102);
    let again = watch.next().await.unwrap();
    assert_eq!(again, None, "the end stays the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_was_never_given_out_starts_at_the_beginning() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let id = running(&gateway).await;
    let mut watch = gateway.watch(&anybody(), &id, Some(i64::MAX)).await.unwrap();
    let first = tokio::time::timeout(PATIENCE, watch.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(first.kind, Kind::Sent);
    say(&gateway, vec![success(&id, "1")]).await;
    let rest = all(watch).await;
    assert!(rest.last().unwrap().is_final());
    let negative = all(gateway.watch(&anybody(), &id, Some(-5)).await.unwrap()).await;
    assert_eq!(negative.len(), 2);
    let done = all(gateway
        .watch(&anybody(), &id, Some(negative[1].id))
        .await
        .unwrap())
    .await;
    assert!(done.is_empty(), "who has seen the end gets nothing more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_is_told_when_the_history_is_gone() {
    let world = World::new().await;
    let store = world.store().await;
    let gateway = world.gateway_over(&store).await;
    let id = running(&gateway).await;
    say(
        &gateway,
        vec![progress(&id, 0, Phase::Received), success(&id, "[1.0]")],
    )
    .await;
    let retention = Retention {
        updates: Some(Duration::from_secs(1)),
        envelopes: None,
    };
    let cleaned = store
        .clean(retention, Utc::now() + TimeDelta::hours(1))
        .await
        .unwrap();
    assert!(cleaned.updates > 0);
    for after in [None, Some(1), Some(i64::MAX)] {
        let told = all(gateway.watch(&anybody(), &id, after).await.unwrap()).await;
        assert_eq!(told.len(), 1, "{after:?}");
        assert_eq!((told[0].kind, told[0].status), (Kind::Final, Status::Succeeded));
        assert_eq!(told[0].result.as_ref().unwrap().as_str(), "[1.0]");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_begins_before_anything_has_happened() {
    let world = World::new().await;
    let store = world.store().await;
    let gateway = world.gateway_over(&store).await;
    let new = NewEnvelope {
        parent_id: None,
        ..child("e", "")
    };
    store.create(new, Duration::ZERO).await.unwrap();
    let watch = gateway.watch(&anybody(), "e", None).await.unwrap();
    let watching = tokio::spawn(all(watch));
    // Not through the gateway: as another process writes.
    store.apply(vec![item("e", 0), success("e", "1")]).await.unwrap();
    assert_eq!(watching.await.unwrap().len(), 2);
}
