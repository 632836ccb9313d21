//! What a real gateway knows after sidecars have reported over streams that break.

use std::sync::Arc;
use std::time::Duration;

use asya_gateway::auth::Caller;
use asya_gateway_store::{Kind, Outcome, Phase};
use asya_runtime_protocol::{Envelope, HandlerError, HandlerItem, RawJson, RequestEnvelope, Route};
use asya_sidecar::{Event, Progress, Reporter as _};
use bytes::Bytes;
use futures::FutureExt as _;
use tokio::sync::Semaphore;

use crate::common::{echo, wait_for};
use crate::plant::Plant;

async fn three(request: RequestEnvelope) -> Result<Vec<HandlerItem>, HandlerError> {
    Ok((0..3).map(|_| HandlerItem::Payload(request.payload())).collect())
}

/// Between the streams of two sidecars there is no order, so the last step may come after the final, and then changes
/// nothing.
#[tokio::test]
async fn a_call_is_told_from_its_first_actor_to_its_result() {
    let open = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&open);
    let handler = move |request: RequestEnvelope| {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.expect("never closed").forget();
            echo(request).await
        }
        .boxed()
    };
    let plant = Plant::start(handler).await;
    let id = plant.call(12_345_678_901_234_567_890).await;
    wait_for("the handler to be told about", async || {
        plant.work.reporter.figures().progress_sent == 2
    })
    .await;
    let record = plant.record(&id).await;
    assert_eq!(record.message.as_deref(), Some("Processing in work"));
    assert_eq!(record.current_actor_name.as_deref(), Some("work"));
    open.add_permits(1);
    let record = plant.ended(&id).await;
    assert_eq!(record.outcome, Some(Outcome::Succeeded));
    let result = record.result.clone().expect("a result");
    assert_eq!(result.as_str(), r#"{"number":12345678901234567890}"#);
    assert_eq!(record.actors_completed, 1, "{record:?}");
    let mut watch = plant
        .gateway()
        .watch(&Caller::anonymous(), &id, None)
        .await
        .expect("known");
    let mut phases = Vec::new();
    while let Some(update) = watch.next().await.expect("reads") {
        phases.extend(update.phase.map(Phase::as_str));
    }
    assert_eq!(phases[..2], ["received", "processing"]);
    assert!(matches!(phases[2..], [] | ["completed"]), "{phases:?}");
    plant.nothing_is_left().await;
    plant.end().await;
}

#[tokio::test]
async fn items_of_a_handler_that_goes_on_are_seen_once_by_watchers_over_cuts() {
    let plant = Plant::start(echo).await;
    let id = plant.call(1).await;
    plant.ended(&id).await;
    // Told by the reporter alone, about an envelope that is running: a child.
    let reporter = &plant.work.reporter;
    let about = |id: &str, event| Progress {
        actor: "work".into(),
        envelope: Arc::new(Envelope {
            id: id.into(),
            route: Route::new(["work"]),
            ..Envelope::default()
        }),
        event,
    };
    let child = format!("{id}-1");
    let made = Event::Child {
        id: child.clone(),
        parent_id: id.clone(),
    };
    reporter.progress(about(&id, made));
    wait_for("the child", async || reporter.figures().children_sent == 1).await;
    for seq in 0..50 {
        let value = RawJson::parse(Bytes::from(format!("[{seq}]"))).expect("JSON");
        reporter.progress(about(&child, Event::Partial { seq, value }));
        if seq % 10 == 5 {
            wait_for("it to be told", async || reporter.figures().waiting == 0).await;
            plant.proxy.cut();
        }
    }
    let mut watch = plant
        .gateway()
        .watch(&Caller::anonymous(), &child, None)
        .await
        .expect("known");
    let mut values = Vec::new();
    while values.len() < 50 {
        let update = watch.next().await.expect("reads").expect("not final");
        if update.kind == Kind::Partial {
            values.push(
                update
                    .partial
                    .as_ref()
                    .expect("an item")
                    .value
                    .as_str()
                    .to_owned(),
            );
        }
    }
    let expected: Vec<_> = (0..50).map(|seq| format!("[{seq}]")).collect();
    assert_eq!(values, expected);
    plant.end().await;
}

/// The network breaks again and again; every job and every child of it comes to its end in the gateway.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_final_and_no_child_is_lost_while_streams_are_cut() {
    const JOBS: u64 = 40;
    let plant = Plant::start(three).await;
    let calls = async {
        let mut ids = Vec::new();
        for number in 0..JOBS {
            ids.push(plant.call(number).await);
        }
        for id in &ids {
            plant.ended(id).await;
        }
        ids
    };
    let cuts = async {
        loop {
            tokio::time::sleep(Duration::from_millis(60)).await;
            plant.proxy.cut();
        }
    };
    let ids = tokio::select! {
        ids = calls => ids,
        () = cuts => unreachable!("they go on for ever"),
    };
    for id in &ids {
        let record = plant.record(id).await;
        assert_eq!(record.outcome, Some(Outcome::Succeeded), "{record:?}");
        for n in 1..3 {
            let child = plant.ended(&format!("{id}-{n}")).await;
            assert_eq!(child.outcome, Some(Outcome::Succeeded), "{child:?}");
            assert_eq!(child.parent_id.as_deref(), Some(id.as_str()));
        }
    }
    plant.nothing_is_left().await;
    plant.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_restarted_knows_all_that_happened_meanwhile() {
    let mut plant = Plant::start(three).await;
    let mut ids = Vec::new();
    for number in 0..20 {
        ids.push(plant.call(number).await);
        if number % 7 == 6 {
            plant.restart_gateway().await;
        }
    }
    for id in &ids {
        for id in [id.clone(), format!("{id}-1"), format!("{id}-2")] {
            let record = plant.ended(&id).await;
            assert_eq!(record.outcome, Some(Outcome::Succeeded), "{record:?}");
        }
    }
    plant.nothing_is_left().await;
    plant.end().await;
}
