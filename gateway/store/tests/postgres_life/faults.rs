//! The server goes away while many write: what was answered is there, and the store heals by itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use asya_gateway_store::postgres::{PostgresOptions, PostgresStore};
use asya_gateway_store::{Applied, Changed, Created, Phase, Store, StoreError, View};
use asya_tests::Proxy;
use asya_tests::postgres::{Cluster, Durability};
use futures::future::join_all;

use crate::words::{PATIENCE, address, apply, call, create, get, open, progress, success, until};

/// Writers that create envelopes and bring them to their end, one after the other, until they are told to stop. Each
/// returns the envelopes of which the store has said that they are there, and those of which it has said their end.
struct Writers {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<(BTreeSet<String>, BTreeSet<String>)>>,
}

impl Writers {
    fn start(store: &Arc<PostgresStore>, count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let write = |writer: usize| {
            let (store, stop, answered) = (Arc::clone(store), Arc::clone(&stop), Arc::clone(&answered));
            tokio::spawn(async move {
                let (mut created, mut ended) = (BTreeSet::new(), BTreeSet::new());
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let id = format!("w{writer}-{number}");
                    match store.create(call(&id), Duration::from_hours(1)).await {
                        // An id is used once: whatever the faults, nobody else can have created it.
                        Ok(Created::New(_)) => created.insert(id.clone()),
                        Ok(other) => panic!("not new: {other:?}"),
                        Err(StoreError::Unavailable(_)) => continue,
                        Err(error) => panic!("{error}"),
                    };
                    answered.fetch_add(1, Ordering::Relaxed);
                    match store
                        .apply(vec![progress(&id, 1, Phase::Received), success(&id, "[1]")])
                        .await
                    {
                        Ok(answers) => {
                            let changed = |answer: &Applied| matches!(answer, Applied::Changed { .. });
                            assert!(answers.iter().all(changed), "{id}: {answers:?}");
                            ended.insert(id);
                        }
                        Err(StoreError::Unavailable(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                (created, ended)
            })
        };
        Self {
            tasks: (0..count).map(write).collect(),
            stop,
            answered,
        }
    }

    /// Until so many more have been answered.
    async fn answer(&self, more: usize) {
        let target = self.answered.load(Ordering::Relaxed) + more;
        until("writers go on", async || {
            self.answered.load(Ordering::Relaxed) >= target
        })
        .await;
    }

    /// Stops them and holds the database to what was answered.
    async fn check(self, store: &PostgresStore) {
        self.stop.store(true, Ordering::Relaxed);
        for done in join_all(self.tasks).await {
            let (created, ended) = done.unwrap();
            for id in &created {
                let record = store.get(id, View::Basic).await.unwrap();
                let record = record.unwrap_or_else(|| panic!("{id} was answered and is lost"));
                assert!(
                    record.status.is_final() || !ended.contains(id),
                    "{id}: {record:?}"
                );
                let history = store.updates(id, 0, 100).await.unwrap();
                let expected = if record.status.is_final() { 2 } else { 0 };
                assert_eq!(history.len(), expected, "{id}: {history:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_in_the_middle_heals_and_loses_nothing_answered() {
    let cluster = Cluster::start(Durability::Crash);
    let store = Arc::new(open(&cluster.database()).await);
    let mut changes = store.subscribe();
    let writers = Writers::start(&store, 8);
    for _ in 0..2 {
        writers.answer(50).await;
        tokio::task::block_in_place(|| cluster.restart());
    }
    writers.answer(50).await;
    writers.check(&store).await;
    // After the gap watchers are told to look for themselves, and then of each change again.
    let told = async {
        while !matches!(
            changes.recv().await,
            Ok(Changed::Everything) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_))
        ) {}
    };
    tokio::time::timeout(PATIENCE, told).await.unwrap();
    let mut changes = store.subscribe();
    until("changes are told again", async || {
        let id = format!("after-{}", chrono::Utc::now().timestamp_micros());
        create(&*store, call(&id)).await;
        apply(&*store, progress(&id, 0, Phase::Received)).await;
        tokio::time::timeout(Duration::from_millis(300), changes.recv())
            .await
            .is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_during_creates_loses_nothing_answered() {
    let cluster = Cluster::start(Durability::Crash);
    let store = Arc::new(open(&cluster.database()).await);
    let writers = Writers::start(&store, 16);
    for _ in 0..3 {
        writers.answer(100).await;
        tokio::task::block_in_place(|| {
            cluster.kill();
            cluster.run();
        });
    }
    writers.answer(50).await;
    writers.check(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_for_long_is_unavailable_and_comes_back() {
    let cluster = Cluster::start(Durability::None);
    let url = cluster.database();
    let options = PostgresOptions {
        patience: Duration::from_millis(200),
        ..PostgresOptions::new(address(&url))
    };
    let store = PostgresStore::connect(options).await.unwrap();
    create(&store, call("before")).await;
    let lead = store.lead().await.unwrap().unwrap();
    assert!(lead.holds().await);
    assert!(store.lead().await.unwrap().is_none());
    cluster.stop();
    assert!(!lead.holds().await);
    let error = store.ping().await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    let error = store.create(call("during"), Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    cluster.run();
    until("it answers again", async || store.ping().await.is_ok()).await;
    assert_eq!(get(&store, "before").await.id, "before");
    assert!(!lead.holds().await, "the lead ended with its connection");
    assert!(store.lead().await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_swallows_everything_is_noticed() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    let proxy = Proxy::before(cluster.port).await;
    let through = url.replace(&format!(":{}/", cluster.port), &format!(":{}/", proxy.port));
    let options = PostgresOptions {
        patience: Duration::from_millis(100),
        answer_limit: Duration::from_millis(500),
        ..PostgresOptions::new(address(&through))
    };
    let store = PostgresStore::connect(options).await.unwrap();
    create(&store, call("e")).await;
    let lead = store.lead().await.unwrap().unwrap();
    let mut changes = store.subscribe();
    proxy.swallow();
    let error = store.ping().await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(!lead.holds().await);
    proxy.heal();
    until("it answers again", async || store.ping().await.is_ok()).await;
    let told = async { while changes.recv().await != Ok(Changed::Everything) {} };
    tokio::time::timeout(PATIENCE, told).await.unwrap();
}
