//! What sidecars say.

use asya_gateway::core::{RegisterError, ReportSource};
use asya_gateway_store::{Applied, Created, Phase, Status, View};
use futures::future::join_all;

use crate::world::{World, anybody, child, item, progress, register, running, say, success};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_come_to_those_who_asked_in_their_order() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut known = Vec::new();
    for _ in 0..8 {
        known.push(running(&gateway).await);
    }
    let reporters = (0..200_u32).map(|reporter| {
        let (gateway, id) = (gateway.clone(), known[reporter as usize % known.len()].clone());
        async move {
            let reports = vec![
                item(&id, reporter),
                progress("unknown", 0, Phase::Received),
                item(&id, reporter),
            ];
            let applied = say(&gateway, reports).await;
            let [
                Applied::Changed { update: one, .. },
                Applied::Unknown,
                Applied::Changed { update: two, .. },
            ] = &applied[..]
            else {
                panic!("{applied:?}");
            };
            for update in [one, two] {
                assert_eq!(*update.envelope_id, *id);
                assert_eq!(update.partial.as_ref().unwrap().index, reporter);
            }
            assert!(one.id < two.id);
        }
    });
    join_all(reporters).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_report_changes_nothing_and_is_answered() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let id = running(&gateway).await;
    say(&gateway, vec![success(&id, "1")]).await;
    let late = say(
        &gateway,
        vec![progress(&id, 0, Phase::Received), success(&id, "2")],
    )
    .await;
    for one in &late {
        let Applied::Nothing { record } = one else {
            panic!("{one:?}")
        };
        assert_eq!(
            (record.status, record.progress_percent),
            (Status::Succeeded, 100.0)
        );
    }
    let record = gateway.get(&anybody(), &id, View::Full).await.unwrap();
    assert_eq!(record.result.unwrap().as_str(), "1");
    assert!(say(&gateway, Vec::new()).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_is_recorded_once_and_never_published() {
    let world = World::new().await;
    world.declare("second").await;
    let gateway = world.gateway().await;
    let id = running(&gateway).await;
    let below = child(&format!("{id}-1"), &id);
    assert!(matches!(register(&gateway, below.clone()).await, Created::New(_)));
    assert!(matches!(
        register(&gateway, below.clone()).await,
        Created::Existing(_)
    ));
    let other = asya_gateway_store::NewEnvelope {
        actors: vec!["elsewhere".to_owned()],
        ..below
    };
    assert!(matches!(register(&gateway, other).await, Created::Conflict(_)));
    let counts = gateway.children(&anybody(), &id).await.unwrap();
    assert_eq!((counts.running, counts.total()), (1, 1));
    assert_eq!(world.waiting("second").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_no_store_can_keep_is_refused_and_not_taken_for_an_outage() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    for (id, parent) in [
        ("", "p"),
        ("a\0b", "p"),
        ("a", "p\0"),
        (&"x".repeat(1025), "p"),
        ("a", &"x".repeat(1025)),
    ] {
        let refused = gateway
            .register_child(ReportSource::Grpc, child(id, parent))
            .await;
        assert!(
            matches!(refused, Err(RegisterError::NotStorable(_))),
            "{refused:?}"
        );
    }
}
