//! How fast envelopes are stored in PostgreSQL, beside a bare loop of inserts into a bare table of the same columns on
//! the same server, both durable. Prints ratios of one run; asserts nothing about time.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement prints, and ends where it fails"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use asya_gateway_store::postgres::{Address, PostgresOptions, PostgresStore};
use asya_gateway_store::{
    Final, FinalSuccess, NewEnvelope, OutboxMessage, Phase, Progress, Report, ReportEvent, Status, Store,
};
use asya_runtime_protocol::RawJson;
use asya_tests::postgres::{Cluster, Durability};
use bytes::Bytes;
use chrono::Utc;
use futures::future::join_all;
use sqlx::Connection as _;

const EACH: usize = 400;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let cluster = Cluster::start(Durability::Crash);
    let (bare, ours) = (cluster.database(), cluster.database());
    cluster.psql(
        &bare,
        "CREATE TABLE jobs (id text PRIMARY KEY, status text NOT NULL, route text[] NOT NULL, payload text, body bytea,
             created_at timestamptz NOT NULL DEFAULT now())",
    );
    let store = PostgresStore::connect(PostgresOptions::new(Address::parse(&ours).unwrap()))
        .await
        .unwrap();
    let store = Arc::new(store);
    for callers in [1, 8, 32, 128] {
        let bare = pace(callers, insert_loop(&bare, callers)).await;
        let created = pace(callers, create_loop(&store, callers)).await;
        let reported = pace(callers, report_loop(&store, callers)).await;
        println!(
            "{callers:>3} callers: bare inserts {bare:>6.0}/s, creates {created:>6.0}/s ({:.2}), reports {reported:>6.0}/s",
            created / bare
        );
    }
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
async fn pace(callers: usize, work: impl Future<Output = ()>) -> f64 {
    let started = Instant::now();
    work.await;
    (callers * EACH) as f64 / started.elapsed().as_secs_f64()
}

/// One connection for each caller, at most ten, as the pool has.
async fn insert_loop(url: &str, callers: usize) {
    let connections = callers.min(10);
    let each = callers * EACH / connections;
    join_all((0..connections).map(|loop_number| async move {
        let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
        for number in 0..each {
            sqlx::query(
                "INSERT INTO jobs (id, status, route, payload, body) VALUES ($1, 'pending', $2, $3, $4)",
            )
            .bind(format!("{callers}-{loop_number}-{number}"))
            .bind(["one", "two", "three"])
            .bind(PAYLOAD)
            .bind(PAYLOAD.as_bytes())
            .execute(&mut connection)
            .await
            .unwrap();
        }
    }))
    .await;
}

const PAYLOAD: &str =
    r#"{"text":"a few words that somebody wants to have worked on","number":12345678901234567890}"#;

async fn create_loop(store: &Arc<PostgresStore>, callers: usize) {
    join_all((0..callers).map(|caller| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            for number in 0..EACH {
                let new = call(format!("{callers}-{caller}-{number}"));
                store.create(new, Duration::from_mins(1)).await.unwrap();
            }
        })
    }))
    .await;
}

async fn report_loop(store: &Arc<PostgresStore>, callers: usize) {
    join_all((0..callers).map(|caller| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            for number in 0..EACH / 4 {
                let id = format!("{callers}-{caller}-{number}");
                let mut reports: Vec<_> = [Phase::Received, Phase::Processing, Phase::Completed]
                    .map(|phase| progress(&id, phase))
                    .into();
                reports.push(report(
                    &id,
                    ReportEvent::Final(Final::Succeeded(FinalSuccess::default())),
                ));
                store.apply(reports).await.unwrap();
            }
        })
    }))
    .await;
}

fn progress(id: &str, phase: Phase) -> Report {
    let said = Progress {
        phase: Some(phase),
        exact: true,
        ..Progress::default()
    };
    report(id, ReportEvent::Progress(said))
}

fn report(id: &str, event: ReportEvent) -> Report {
    Report {
        envelope_id: id.to_owned(),
        attempt: 1,
        at: Utc::now(),
        event,
    }
}

fn call(id: String) -> NewEnvelope {
    NewEnvelope {
        outbox: Some(OutboxMessage {
            actor: "one".to_owned(),
            message_id: format!("{id}/0/1/0"),
            body: Bytes::from_static(PAYLOAD.as_bytes()),
        }),
        id,
        parent_id: None,
        tenant: None,
        tool: Some("tool".to_owned()),
        status: Status::Pending,
        actors: ["one", "two", "three"].map(String::from).to_vec(),
        route_current: 0,
        route_metadata: None,
        headers: None,
        payload: RawJson::parse(PAYLOAD.as_bytes()).ok(),
        timeout: None,
        deadline: None,
        created_at: Utc::now(),
        idempotency: None,
    }
}
