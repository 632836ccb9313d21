//! The same over PostgreSQL: replicas, outages, and what its columns must bear.

use std::sync::Arc;

use asya_gateway::auth::Caller;
use asya_gateway_store::Store;
use asya_gateway_store::postgres::{Address, PostgresOptions, PostgresStore};
use asya_gateway_store::sqlite::{SqliteOptions, SqliteStore};
use asya_proto::status::v1::{
    ChildCreated, EnvelopeState, FailedResult, Failure, FinalReport, HopPhase, HopProgress, HopRetry, Route,
    envelope_report, final_report, watch_envelopes_response,
};
use asya_tests::postgres::{Cluster, Durability};
use prost_types::Timestamp;
use tonic::Code;

use super::harness::{Plan, Said, Server, partial, progress, report, soon, succeeded, watch_ids};

async fn postgres(address: &str) -> Arc<dyn Store> {
    let options = PostgresOptions::new(Address::parse(address).unwrap());
    Arc::new(PostgresStore::connect(options).await.unwrap())
}

async fn database() -> String {
    let database = tokio::task::spawn_blocking(|| Cluster::shared().database());
    database.await.unwrap()
}

async fn over(store: Arc<dyn Store>) -> Server {
    Server::of(Plan {
        store: Some(store),
        ..Plan::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_reported_to_one_replica_is_seen_at_another() {
    let address = database().await;
    let a = over(postgres(&address).await).await;
    let b = over(postgres(&address).await).await;
    a.envelope("x").await;
    let mut sidecar = a.sidecar("one").await;
    let mut watch = watch_ids(&mut b.client().await, &["x"], "").await.unwrap();
    let reports = [
        progress(0, HopPhase::Received),
        partial(0, 0, "[1.0]"),
        succeeded("[2.0]"),
    ];
    for (sequence, event) in (1..).zip(reports) {
        sidecar.send(report(sequence, "x", event)).await;
        sidecar.acked(sequence).await;
        let message = soon("the update", watch.message()).await.unwrap().unwrap();
        let Some(watch_envelopes_response::Event::Update(update)) = message.event else {
            panic!("no update");
        };
        match sequence {
            1 => assert_eq!(update.phase(), HopPhase::Received),
            2 => assert_eq!(update.partial.unwrap().value_json, "[1.0]"),
            _ => assert_eq!(update.result_json.as_deref(), Some("[2.0]")),
        }
    }
    assert!(soon("the end", watch.message()).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_at_one_replica_reaches_the_sidecars_of_another() {
    let address = database().await;
    let a = over(postgres(&address).await).await;
    let b = over(postgres(&address).await).await;
    a.envelope("x").await;
    let mut sidecar = a.sidecar("one").await;
    b.gateway.cancel(&Caller::anonymous(), "x", "").await.unwrap();
    assert_eq!(sidecar.notice().await.envelope_id, "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_extremes_of_every_field_are_taken_by_both_stores() {
    let directory = tempfile::tempdir().unwrap();
    let sqlite = SqliteStore::open(directory.path().join("gateway.db"), SqliteOptions::default());
    let stores: [Arc<dyn Store>; 2] = [Arc::new(sqlite.await.unwrap()), postgres(&database().await).await];
    for store in stores {
        let name = store.name();
        let server = over(store).await;
        server.envelope("x").await;
        let mut sidecar = server.sidecar("one").await;
        let mut sequence = 0;
        for event in extremes() {
            for seconds in [i64::MIN, -62_135_596_800, 253_402_300_799, i64::MAX] {
                sequence += 1;
                let mut told = report(sequence, "x", event.clone());
                if matches!(event, envelope_report::Event::Child(_)) {
                    told.envelope_id = format!("child-{sequence}-\u{10ffff}");
                }
                told.occurred_at = Some(Timestamp {
                    seconds,
                    nanos: 999_999_999,
                });
                sidecar.send(told).await;
            }
        }
        let refusals: Vec<_> = sidecar
            .acked(sequence)
            .await
            .into_iter()
            .flat_map(|ack| ack.refusals)
            .collect();
        assert_eq!(refusals, [], "{name}");
        let shown = server.get("x").await;
        assert_eq!(shown.state(), EnvelopeState::Failed, "{name}");
        assert_eq!(shown.failure.unwrap().error, "a\u{fffd}b", "{name}");
        let items = server
            .history("x")
            .await
            .into_iter()
            .filter_map(|update| update.partial);
        let values: Vec<_> = items.map(|item| (item.index, item.value_json)).collect();
        assert_eq!(
            values,
            vec![(u32::MAX, r#""\u0000\ud800""#.to_owned()); 4],
            "{name}"
        );
    }
}

fn extremes() -> Vec<envelope_report::Event> {
    let failure = Failure {
        error: "a\0b".to_owned(),
        message: "c\0d".to_owned(),
        exception_type: "\0".to_owned(),
        traceback: "\u{202e}\u{feff}".to_owned(),
        actor: "e\0".to_owned(),
        actor_index: Some(u32::MAX),
        details_json: None,
    };
    let route = Route {
        actors: vec!["a\0".to_owned(), String::new(), "ü".repeat(2000)],
        current: u32::MAX,
    };
    vec![
        envelope_report::Event::Progress(HopProgress {
            phase: i32::MAX,
            actors: route.actors.clone(),
            actor_index: u32::MAX,
            message: "\0".repeat(10_000),
            message_bytes: Some(u64::MAX),
            duration: Some(prost_types::Duration {
                seconds: i64::MIN,
                nanos: i32::MIN,
            }),
            fraction: Some(f64::NEG_INFINITY),
        }),
        partial(u32::MAX, u32::MAX, r#""\u0000\ud800""#),
        envelope_report::Event::Retry(HopRetry {
            actor_index: u32::MAX,
            runs: u32::MAX,
            failure: Some(failure.clone()),
            next_run_at: Some(Timestamp {
                seconds: 253_402_300_799,
                nanos: 0,
            }),
        }),
        envelope_report::Event::Child(ChildCreated {
            parent_id: "nobody".to_owned(),
            route: Some(route.clone()),
        }),
        envelope_report::Event::Final(FinalReport {
            result: Some(final_report::Result::Failed(FailedResult {
                failure: Some(failure),
                original_payload_json: Some(r#""\u0000""#.to_owned()),
                stored_at: "\0".to_owned(),
            })),
            route: Some(route),
        }),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_store_ends_the_stream_and_the_reports_count_when_they_come_again() {
    let cluster = tokio::task::spawn_blocking(|| Cluster::start(Durability::Crash))
        .await
        .unwrap();
    let server = over(postgres(&cluster.database()).await).await;
    server.envelope("x").await;
    let mut sidecar = server.sidecar("one").await;
    sidecar
        .send(report(1, "x", progress(0, HopPhase::Received)))
        .await;
    sidecar.acked(1).await;
    cluster.stop();
    sidecar.send(report(2, "x", succeeded("1"))).await;
    assert_eq!(
        sidecar.end().await,
        Code::Unavailable,
        "and no acknowledgement before"
    );
    cluster.run();
    let ack = soon("the store", async {
        loop {
            let mut again = server.sidecar("one").await;
            again.send(report(2, "x", succeeded("1"))).await;
            match again.hear().await {
                Ok(Some(Said::Ack(ack))) => return ack,
                Ok(other) => panic!("{other:?}"),
                Err(status) => assert_eq!(status.code(), Code::Unavailable),
            }
        }
    })
    .await;
    assert!(ack.refusals.is_empty());
    assert_eq!(server.get("x").await.state(), EnvelopeState::Succeeded);
}
