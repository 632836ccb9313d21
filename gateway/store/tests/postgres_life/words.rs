//! What the tests say again and again.

use std::time::{Duration, Instant};

use asya_gateway_store::postgres::{Address, PostgresOptions, PostgresStore};
use asya_gateway_store::{
    Applied, Created, Final, FinalSuccess, NewEnvelope, OutboxMessage, Phase, Progress, Record, Report,
    ReportEvent, Status, Store, View,
};
use asya_runtime_protocol::RawJson;
use bytes::Bytes;
use chrono::Utc;

/// How long something may take that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn address(url: &str) -> Address {
    Address::parse(url).unwrap()
}

pub(crate) async fn open(url: &str) -> PostgresStore {
    PostgresStore::connect(PostgresOptions::new(address(url)))
        .await
        .unwrap()
}

pub(crate) fn raw(text: &str) -> RawJson {
    RawJson::parse(text.as_bytes().to_vec()).unwrap()
}

/// A call of a tool, with its message in the outbox.
pub(crate) fn call(id: &str) -> NewEnvelope {
    NewEnvelope {
        id: id.to_owned(),
        parent_id: None,
        tenant: None,
        tool: Some("tool".to_owned()),
        status: Status::Pending,
        actors: ["one", "two", "three"].map(String::from).to_vec(),
        route_current: 0,
        route_metadata: None,
        headers: None,
        payload: Some(raw(r#"{"n": 1}"#)),
        timeout: None,
        deadline: None,
        created_at: Utc::now(),
        idempotency: None,
        outbox: Some(OutboxMessage {
            actor: "one".to_owned(),
            message_id: format!("{id}/0/1/0"),
            body: Bytes::from_static(b"body"),
        }),
    }
}

pub(crate) fn report(id: &str, event: ReportEvent) -> Report {
    Report {
        envelope_id: id.to_owned(),
        attempt: 1,
        at: Utc::now(),
        event,
    }
}

pub(crate) fn progress(id: &str, index: i64, phase: Phase) -> Report {
    let said = Progress {
        phase: Some(phase),
        actor_index: index,
        exact: true,
        ..Progress::default()
    };
    report(id, ReportEvent::Progress(said))
}

pub(crate) fn success(id: &str, result: &str) -> Report {
    let said = FinalSuccess {
        result: Some(raw(result)),
        ..FinalSuccess::default()
    };
    report(id, ReportEvent::Final(Final::Succeeded(said)))
}

pub(crate) async fn create(store: &dyn Store, new: NewEnvelope) -> Record {
    match store.create(new, Duration::from_hours(1)).await.unwrap() {
        Created::New(record) => *record,
        other => panic!("it is not new: {other:?}"),
    }
}

pub(crate) async fn apply(store: &dyn Store, report: Report) -> Applied {
    store.apply(vec![report]).await.unwrap().remove(0)
}

pub(crate) async fn get(store: &dyn Store, id: &str) -> Record {
    store.get(id, View::Full).await.unwrap().unwrap()
}

/// Asks again until it is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let limit = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < limit, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
