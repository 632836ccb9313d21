//! What operators say of their actors.

use std::sync::Arc;
use std::time::Duration;

use asya_gateway::core::{ActorEvent, ActorKey, ActorWatch};
use asya_gateway_store::ActorRow;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};

use crate::world::{PATIENCE, World};

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap() + TimeDelta::seconds(seconds)
}

fn row(name: &str, seconds: i64) -> ActorRow {
    ActorRow {
        cluster: "c".to_owned(),
        namespace: "n".to_owned(),
        name: name.to_owned(),
        observed_at: at(seconds),
        body: Bytes::from(format!("{name}@{seconds}")),
    }
}

fn key(name: &str) -> ActorKey {
    ActorKey {
        cluster: "c".to_owned(),
        namespace: "n".to_owned(),
        name: name.to_owned(),
    }
}

async fn next(watch: &mut ActorWatch) -> ActorEvent {
    tokio::time::timeout(PATIENCE, watch.next())
        .await
        .expect("nothing comes")
}

fn put(name: &str, seconds: i64) -> ActorEvent {
    ActorEvent::Put(Arc::new(row(name, seconds)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_has_what_is_there_a_mark_and_what_happens_on_any_replica() {
    let world = World::new().await;
    let (one, two) = (world.gateway().await, world.gateway().await);
    let mut empty = one.actors().watch();
    assert_eq!(next(&mut empty).await, ActorEvent::Synced);
    one.actors().put(vec![row("a", 1), row("b", 1)]).await.unwrap();
    for expected in [put("a", 1), put("b", 1)] {
        assert_eq!(next(&mut empty).await, expected);
    }
    let mut watches = [one.actors().watch(), two.actors().watch()];
    for watch in &mut watches {
        let mut seen = Vec::new();
        while seen.len() < 3 {
            seen.push(next(watch).await);
        }
        // The other replica may learn of them before or after its mark.
        for expected in [put("a", 1), put("b", 1), ActorEvent::Synced] {
            assert!(seen.contains(&expected), "{seen:?}");
        }
    }
    two.actors().put(vec![row("a", 0), row("b", 2)]).await.unwrap();
    for watch in &mut watches {
        assert_eq!(next(watch).await, put("b", 2), "an older sight is no news");
    }
    assert!(two.actors().delete(&key("a")).await.unwrap());
    assert!(!two.actors().delete(&key("a")).await.unwrap());
    for watch in &mut watches {
        assert_eq!(next(watch).await, ActorEvent::Deleted(key("a")));
    }
    one.actors().put(vec![row("d", 3)]).await.unwrap();
    for watch in &mut watches {
        assert_eq!(next(watch).await, put("d", 3));
    }
    one.actors()
        .retain("c", &[("n".to_owned(), "d".to_owned())])
        .await
        .unwrap();
    for watch in &mut watches {
        assert_eq!(next(watch).await, ActorEvent::Deleted(key("b")));
    }
    let left: Vec<String> = two
        .actors()
        .list()
        .await
        .unwrap()
        .into_iter()
        .map(|row| row.name)
        .collect();
    assert_eq!(left, ["d"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_watcher_gets_the_newest_state_alone() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut fast = gateway.actors().watch();
    let mut slow = gateway.actors().watch();
    for watch in [&mut fast, &mut slow] {
        assert_eq!(next(watch).await, ActorEvent::Synced);
    }
    for second in 1..=20 {
        gateway.actors().put(vec![row("a", second)]).await.unwrap();
    }
    // What the fast one has seen is there for the slow one, too.
    while next(&mut fast).await != put("a", 20) {}
    assert_eq!(next(&mut slow).await, put("a", 20));
    let more = tokio::time::timeout(Duration::from_millis(100), slow.next()).await;
    assert!(more.is_err(), "{more:?}");
}
