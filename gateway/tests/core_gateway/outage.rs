//! A store that goes away and comes back.

use std::sync::Arc;

use asya_gateway::core::{ReportSource, SubmitError};
use asya_gateway_store::Store;
use asya_gateway_store::postgres::{Address, PostgresOptions, PostgresStore};
use asya_tests::postgres::{Cluster, Durability};

use crate::world::{PATIENCE, World, all, anybody, call, item, running, submit, success};

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
