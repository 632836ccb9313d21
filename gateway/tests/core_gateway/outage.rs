//! A store that goes away and comes back.

use std::sync::Arc;
use std::time::Duration;

use asya_gateway::core::{Gateway, ReportSource, SubmitError};
use asya_gateway_store::postgres::{Address, PostgresOptions, PostgresStore};
use asya_gateway_store::{Status, Store};
use asya_tests::postgres::{Cluster, Durability};
use asya_transport::Transport;

use crate::gate::Gate;
use crate::world::{PATIENCE, World, all, anybody, call, item, options, running, submit, success, until};

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_outlive_a_store_that_is_away_and_miss_nothing() {
    let cluster = Arc::new(blocking(|| Cluster::start(Durability::Crash)).await);
    let world = World::new().await;
    let url = {
        let cluster = Arc::clone(&cluster);
        blocking(move || cluster.database()).await
    };
    let mut settings = PostgresOptions::new(Address::parse(&url).unwrap());
    settings.patience = std::time::Duration::from_millis(200);
    let store: Arc<dyn Store> = Arc::new(PostgresStore::connect(settings).await.unwrap());
    let gateway = world.gateway_over(&store).await;
    let id = running(&gateway).await;
    let watching = {
        let watch = gateway.watch(&anybody(), &id, None).await.unwrap();
        tokio::spawn(all(watch))
    };
    gateway
        .report(ReportSource::Http, vec![item(&id, 0)])
        .await
        .unwrap();

    let killed = Arc::clone(&cluster);
    blocking(move || killed.kill()).await;
    let refused = submit(&gateway, call("free", "{}")).await;
    assert!(matches!(refused, Err(SubmitError::Store(_))), "{refused:?}");
    assert!(
        gateway
            .report(ReportSource::Http, vec![item(&id, 1)])
            .await
            .is_err()
    );
    let health = gateway.health().await;
    assert!(health.store.is_err() && health.broker.is_ok(), "{health:?}");
    assert!(!watching.is_finished());

    let revived = Arc::clone(&cluster);
    blocking(move || revived.run()).await;
    // As a sidecar does: again until it is taken.
    let reporting = async {
        for report in [item(&id, 1), success(&id, "1")] {
            while gateway
                .report(ReportSource::Http, vec![report.clone()])
                .await
                .is_err()
            {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    };
    tokio::time::timeout(PATIENCE, reporting).await.unwrap();
    let seen = watching.await.unwrap();
    let items: Vec<u32> = seen
        .iter()
        .filter_map(|update| Some(update.partial.as_ref()?.index))
        .collect();
    assert_eq!(items, [0, 1]);
    assert!(seen.last().unwrap().is_final());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_published_while_the_store_was_away_is_published_once() {
    let cluster = Arc::new(blocking(|| Cluster::start(Durability::Crash)).await);
    let world = World::new().await;
    let url = {
        let cluster = Arc::clone(&cluster);
        blocking(move || cluster.database()).await
    };
    let mut settings = PostgresOptions::new(Address::parse(&url).unwrap());
    settings.patience = Duration::from_millis(200);
    let store: Arc<dyn Store> = Arc::new(PostgresStore::connect(settings).await.unwrap());
    let gate = Gate::before(Arc::clone(&world.transport) as Arc<dyn Transport>);
    let mut options = options(&store, Arc::clone(&gate) as Arc<dyn Transport>);
    options.patience.lease = Duration::from_millis(1500);
    let lease = options.patience.lease;
    let gateway = Gateway::start(options).await;
    let calling = {
        let gateway = gateway.clone();
        tokio::spawn(async move { submit(&gateway, call("free", "{}")).await })
    };
    gate.reached(1).await;
    let killed = Arc::clone(&cluster);
    blocking(move || killed.kill()).await;
    gate.open();
    let id = calling.await.unwrap().unwrap().record.id;
    // The claim runs out while nobody can renew it.
    tokio::time::sleep(lease + Duration::from_millis(500)).await;
    let revived = Arc::clone(&cluster);
    blocking(move || revived.run()).await;

    let settling = async {
        while !matches!(store.outbox_depth().await, Ok(depth) if depth.waiting == 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, settling).await.unwrap();
    until(&gateway, &id, |record| record.status == Status::Running).await;
    assert_eq!((gate.published(), world.waiting("first").await), (1, 1));
}
