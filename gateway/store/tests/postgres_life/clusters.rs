//! Databases that are not alone in their cluster, or come from another one.

use std::time::Duration;

use asya_gateway_store::{FeedCursor, NewEnvelope, Phase, Retention, Store};
use asya_tests::postgres::Cluster;
use chrono::{TimeDelta, Utc};

use crate::words::{apply, call, create, open, progress, success, until};

#[tokio::test]
async fn each_schema_of_a_database_has_a_leader() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    cluster.psql(&url, "CREATE SCHEMA staging");
    let production = open(&url).await;
    let staging = format!("{url}?search_path=staging");
    let (staging, replica) = (open(&staging).await, open(&staging).await);
    let one = production.lead().await.unwrap().unwrap();
    let other = staging.lead().await.unwrap().unwrap();
    assert!(one.holds().await && other.holds().await);
    assert!(replica.lead().await.unwrap().is_none());
    assert!(production.lead().await.unwrap().is_none());
    drop(other);
    until("the other replica leads", async || {
        replica.lead().await.unwrap().is_some()
    })
    .await;
}

/// The history as a dump of a cluster with far more transactions brings it.
const RESTORE: &str = "
    ALTER TABLE envelope_updates DISABLE TRIGGER USER;
    UPDATE envelope_updates SET tx = '5000000000';
    ALTER TABLE envelope_updates ENABLE TRIGGER USER;";

#[tokio::test]
async fn the_feed_goes_on_after_a_dump_was_restored() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    let store = open(&url).await;
    for id in ["old", "older"] {
        create(&store, call(id)).await;
        apply(&store, success(id, "1")).await;
    }
    cluster.psql(&url, RESTORE);
    cluster.psql(&url, "UPDATE asya_feed SET tx = '4999999999', id = 1");
    let (end, oldest) = store.feed_bounds().await.unwrap();
    let of_the_old_cluster = FeedCursor {
        transaction: 5_000_000_000,
        update: 1,
    };
    assert!(oldest <= end && end < of_the_old_cluster, "{oldest:?} {end:?}");

    let shown_after = async |end: FeedCursor, id: &str| {
        create(&store, call(id)).await;
        apply(&store, progress(id, 0, Phase::Received)).await;
        until("what is new is shown", async || {
            let feed = store.feed(end, 10).await.unwrap();
            feed.iter().any(|entry| &*entry.update.envelope_id == id)
        })
        .await;
    };
    shown_after(end, "new").await;
    // What is deleted of the restored history changes nothing for what comes.
    let retention = Retention {
        updates: Some(Duration::from_hours(1)),
        envelopes: None,
    };
    let later = Utc::now() + TimeDelta::hours(2);
    assert_eq!(store.clean(retention, later).await.unwrap().updates, 2);
    let (end, _) = store.feed_bounds().await.unwrap();
    assert!(end < of_the_old_cluster, "{end:?}");
    shown_after(end, "newer").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_never_ends_does_not_keep_the_rest_from_being_deleted() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    let store = open(&url).await;
    let stuck = NewEnvelope {
        outbox: None,
        ..call("stuck")
    };
    create(&store, stuck).await;
    create(&store, call("done")).await;
    // Between the lines of what has ended, and in front of them: far more than one step looks at.
    let lines = |id: &str, from: u32, to: u32, age: &str| {
        format!(
            "INSERT INTO envelope_updates (envelope_id, status, \"timestamp\")
             SELECT '{id}', 'running', now() - interval '{age}' FROM generate_series({from}, {to});"
        )
    };
    cluster.psql(
        &url,
        &[
            lines("stuck", 1, 1700, "4 days"),
            lines("done", 1, 700, "3 days"),
            lines("stuck", 1, 700, "3 days"),
            lines("done", 1, 700, "2 days"),
        ]
        .concat(),
    );
    apply(&store, success("done", "1")).await;
    let retention = Retention {
        updates: Some(Duration::from_hours(1)),
        envelopes: None,
    };
    let later = Utc::now() + TimeDelta::hours(2);
    assert_eq!(store.clean(retention, later).await.unwrap().updates, 1401);
    let left = "SELECT envelope_id, count(*) FROM envelope_updates GROUP BY 1";
    assert_eq!(cluster.psql(&url, left), "stuck|2400");
}
