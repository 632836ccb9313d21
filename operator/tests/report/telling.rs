//! What arrives at a gateway.

use std::collections::BTreeMap;
use std::time::Duration;

use asya_proto::status::v1::{ActorState, ConditionStatus, WatchActorsRequest, watch_actors_response::Event};

use crate::stage::{Hub, Operator, all, soon, until};

#[tokio::test]
async fn what_is_seen_is_listed_by_the_gateway() {
    let hub = Hub::start().await;
    let operator = Operator::start(hub.options());
    operator.sees_in("Napping", "b", "no pod is needed");
    operator.sees_in("RuntimeError", "a", "it crashes");
    operator.synced();
    operator.done().await;
    let actors = hub.actors().await;
    let states: Vec<_> = actors
        .iter()
        .map(|actor| (actor.key.clone().unwrap(), actor.state()))
        .collect();
    assert_eq!(states.len(), 2);
    assert_eq!(
        (states[0].0.cluster.as_str(), states[0].0.namespace.as_str()),
        ("here", "models")
    );
    assert_eq!(
        (states[0].0.name.as_str(), states[0].1),
        ("a", ActorState::RuntimeError)
    );
    assert_eq!(
        (states[1].0.name.as_str(), states[1].1),
        ("b", ActorState::Napping)
    );
    let first = &actors[0];
    assert_eq!(
        (first.uid.as_str(), first.generation, first.observed_generation),
        ("uid-a", 3, 3)
    );
    assert_eq!(
        (first.message.as_str(), first.transport.as_str()),
        ("it crashes", "rabbitmq")
    );
    assert_eq!(first.conditions[0].status(), ConditionStatus::True);
    assert_eq!(first.replicas.unwrap().ready, 2);
    assert_eq!(first.queue.unwrap().queued, Some(5));
    assert_eq!(first.scaling.as_ref().unwrap().max_replicas, 9);
    assert!(first.observed_at.is_some());
}

#[tokio::test]
async fn changes_and_deletions_follow() {
    let hub = Hub::start().await;
    let operator = Operator::start(hub.options());
    operator.sees("a", "1");
    operator.sees("b", "1");
    operator.synced();
    operator.done().await;
    operator.sees("a", "2");
    operator.deletes("b");
    operator.sees("c", "2");
    operator.done().await;
    assert_eq!(hub.told().await, all(&["a", "c"], "2"));
    assert_eq!(operator.reporter.progress().streams, 1);
}

#[tokio::test]
async fn what_is_seen_again_unchanged_is_not_told_again() {
    let hub = Hub::start().await;
    let operator = Operator::start(hub.options());
    operator.synced();
    for _ in 0..50 {
        operator.sees("a", "1");
        operator.done().await;
    }
    let progress = operator.reporter.progress();
    assert_eq!(progress.acknowledged, 3, "hello, synced, and the actor once");
}

#[tokio::test]
async fn a_storm_of_changes_leaves_the_newest_of_each() {
    let hub = Hub::start().await;
    let mut watch = {
        let request = WatchActorsRequest::default();
        hub.client().await.watch(request).await.unwrap().into_inner()
    };
    let operator = Operator::start(hub.options());
    let names: Vec<_> = (0..300).map(|number| format!("actor-{number:03}")).collect();
    for round in 0..40 {
        for name in &names {
            operator.sees(name, &round.to_string());
        }
        tokio::task::yield_now().await;
    }
    operator.synced();
    operator.done().await;
    let mut newest: BTreeMap<String, u32> = BTreeMap::new();
    while newest.len() < 300 || newest.values().any(|round| *round < 39) {
        let event = soon("a change", watch.message())
            .await
            .unwrap()
            .unwrap()
            .event
            .unwrap();
        if let Event::Actor(actor) = event {
            let round = actor.message.parse().unwrap();
            let name = actor.key.unwrap().name;
            let before = newest.insert(name.clone(), round);
            assert!(
                before.is_none_or(|before| before < round),
                "{name}: {before:?}, then {round}"
            );
        }
    }
    let told = operator.reporter.progress();
    assert!(
        told.acknowledged < 300 * 40,
        "{told:?}: changes that nobody could read are not sent"
    );
    assert_eq!((told.waiting, told.unacknowledged), (0, 0));
}

#[tokio::test]
async fn what_others_took_away_comes_back() {
    let hub = Hub::start().await;
    let mut options = hub.options();
    options.repeat = Duration::from_millis(50);
    let operator = Operator::start(options);
    operator.sees("a", "1");
    operator.synced();
    operator.done().await;
    let other = Operator::start(hub.options());
    other.synced();
    other.done().await;
    until("the actor to be there again", async || {
        hub.told().await == all(&["a"], "1")
    })
    .await;
}
