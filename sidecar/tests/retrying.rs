//! Retries over a real queue and a real socket: what a person who configured them sees.

#![expect(clippy::expect_used, reason = "a test fails where it stands")]

mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use asya_runtime_protocol::{Handler, HandlerError, HandlerItem, RequestEnvelope};
use asya_sidecar::{
    Config, Event, Faults, FinalReport, Point, Progress, ReportError, Reporter, Role, Sidecar,
};
use common::{House, PATIENCE, Runtime, envelope, start, wait_for};
use futures::future::BoxFuture;
use serde_json::Value;

/// Runs by envelope.
#[derive(Default, Clone)]
struct Runs(Arc<Mutex<HashMap<String, usize>>>);

impl Runs {
    fn of(&self, id: &str) -> usize {
        self.0.lock().expect("a lock").get(id).copied().unwrap_or(0)
    }

    fn count(&self, id: &str) -> usize {
        let mut runs = self.0.lock().expect("a lock");
        let runs = runs.entry(id.to_owned()).or_default();
        *runs += 1;
        *runs
    }
}

/// Fails the first `failures` runs of each envelope, then echoes.
fn failing(failures: usize, runs: &Runs) -> impl Handler + use<> {
    let runs = runs.clone();
    move |request: RequestEnvelope| {
        let run = runs.count(&request.envelope.id);
        async move {
            if run <= failures {
                return Err(HandlerError::new(format!("run {run}"))
                    .exception("app.Outage")
                    .is_a(["OSError"]));
            }
            Ok(vec![HandlerItem::Payload(request.payload())])
        }
    }
}

fn retrying(house: &House, actor: &str, attempts: u32) -> Config {
    let mut config = house.config(actor, Role::Step);
    config.retry.max_attempts = NonZeroU32::new(attempts).expect("at least one");
    config.retry.initial_backoff = Duration::from_millis(20);
    config.retry.max_backoff = Duration::from_millis(50);
    config
}

#[tokio::test]
async fn a_handler_that_fails_at_first_is_run_again_until_it_succeeds() {
    let (house, runs) = (House::new(), Runs::default());
    house.declare(&["work", "sink"]).await;
    let config = retrying(&house, "work", 5);
    let runtime = Runtime::start(&config.socket_dir, failing(2, &runs));
    let sidecar = start(&house, config).await;
    for n in 0..40 {
        let id = format!("x{n}");
        house
            .publish("work", envelope(&id, &["work", "sink"], &n.to_string()))
            .await;
    }
    let out = house.take("sink", 40).await;
    house.wait_empty("work").await;
    assert_eq!(house.depth("error-end").await, 0);
    let ids: BTreeSet<_> = out.iter().map(|message| message.id.clone()).collect();
    let expected: BTreeSet<_> = (0..40).map(|n| format!("x{n}/1/1/0")).collect();
    assert_eq!(ids, expected, "as if the first run had succeeded");
    for message in &out {
        assert!(!message.text().contains("asya_retry"), "{}", message.text());
        assert_eq!(runs.of(&message.envelope().id), 3);
    }
    sidecar.drain(PATIENCE).await;
    runtime.stop().await;
}

#[tokio::test]
async fn a_handler_that_never_succeeds_leaves_its_history_in_error_end() {
    let (house, runs) = (House::new(), Runs::default());
    house.declare(&["work"]).await;
    let config = retrying(&house, "work", 4);
    let runtime = Runtime::start(&config.socket_dir, failing(usize::MAX, &runs));
    let sidecar = start(&house, config).await;
    house
        .publish("work", envelope("x", &["work"], r#"{"k":1e400}"#))
        .await;
    let message = house.take("error-end", 1).await.remove(0);
    house.wait_empty("work").await;
    assert_eq!((runs.of("x"), message.id.as_str()), (4, "x/1/1/0"));
    assert!(message.text().contains(r#""original_payload":{"k":1e400}"#));
    assert!(!message.text().contains("asya_retry"));
    let text = message.text().replace("1e400", "0"); // No number that this reader knows.
    let envelope: Value = serde_json::from_str(&text).expect("JSON");
    let payload = &envelope["payload"];
    assert_eq!(
        (&payload["error"], &payload["attempts"]),
        (&"processing_error".into(), &4.into())
    );
    assert_eq!(payload["details"]["message"], "run 4");
    let history = payload["history"].as_array().expect("a list");
    let told: Vec<_> = history
        .iter()
        .map(|run| {
            (
                run["attempt"].as_u64(),
                run["message"].as_str(),
                run["type"].as_str(),
            )
        })
        .collect();
    let messages = ["run 1", "run 2", "run 3", "run 4"];
    for ((n, told), message) in (1..).zip(told).zip(messages) {
        assert_eq!(told, (Some(n), Some(message), Some("app.Outage")));
    }
    assert_eq!(history[3]["gave_up"], "max_attempts");
    sidecar.drain(PATIENCE).await;
    runtime.stop().await;
}

#[tokio::test]
async fn a_waiting_retry_holds_neither_a_worker_nor_a_credit() {
    let (house, runs) = (House::new(), Runs::default());
    house.declare(&["work", "sink"]).await;
    let mut config = retrying(&house, "work", 2);
    config.credit = asya_sidecar::Credit::Fixed(1);
    config.retry.initial_backoff = Duration::from_hours(1);
    config.retry.max_backoff = Duration::from_hours(1);
    let failing_one = {
        let runs = runs.clone();
        move |request: RequestEnvelope| {
            runs.count(&request.envelope.id);
            async move {
                if request.envelope.id == "bad" {
                    return Err(HandlerError::new("no"));
                }
                Ok(vec![HandlerItem::Payload(request.payload())])
            }
        }
    };
    let runtime = Runtime::start(&config.socket_dir, failing_one);
    let sidecar = start(&house, config).await;
    for id in ["bad", "a", "b"] {
        house.publish("work", envelope(id, &["work", "sink"], "1")).await;
    }
    house.take("sink", 2).await;
    wait_for("all credits to be back", async || {
        sidecar.snapshot().credits_taken == 0
    })
    .await;
    assert_eq!(
        (runs.of("bad"), house.depth("work").await),
        (1, 1),
        "it waits in the queue"
    );
    sidecar.drain(PATIENCE).await;
    runtime.stop().await;
}

#[tokio::test]
async fn what_the_rules_exclude_fails_at_once() {
    for (on, never_on, expected) in [
        ("", "OSError", 1),
        ("TimeoutError", "", 1),
        ("app.Outage", "ValueError", 3),
    ] {
        let (house, runs) = (House::new(), Runs::default());
        house.declare(&["work"]).await;
        let mut config = retrying(&house, "work", 3);
        config.retry.on = on.parse().expect("names");
        config.retry.never_on = never_on.parse().expect("names");
        let runtime = Runtime::start(&config.socket_dir, failing(usize::MAX, &runs));
        let sidecar = start(&house, config).await;
        house.publish("work", envelope("x", &["work"], "1")).await;
        house.take("error-end", 1).await;
        assert_eq!(runs.of("x"), expected, "on {on:?}, never on {never_on:?}");
        sidecar.drain(PATIENCE).await;
        runtime.stop().await;
    }
}

/// Counts events by kind.
#[derive(Default)]
struct Seen(Mutex<BTreeMap<&'static str, usize>>);

impl Reporter for Seen {
    fn progress(&self, progress: Progress) {
        let kind = match progress.event {
            Event::Retrying {
                attempt,
                after,
                error,
                ..
            } => {
                assert!(after <= Duration::from_millis(50));
                assert_eq!(error, format!("processing_error: run {}", attempt - 1));
                "retrying"
            }
            Event::Failed { .. } => "failed",
            Event::Completed { .. } => "completed",
            _ => return,
        };
        *self.0.lock().expect("a lock").entry(kind).or_default() += 1;
    }

    fn finish(&self, _: FinalReport) -> BoxFuture<'static, Result<(), ReportError>> {
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test]
async fn a_retry_is_reported_as_such_and_as_nothing_else() {
    let (house, runs) = (House::new(), Runs::default());
    house.declare(&["work"]).await;
    let config = retrying(&house, "work", 3);
    let runtime = Runtime::start(&config.socket_dir, failing(2, &runs));
    let seen = Arc::new(Seen::default());
    let reporter: Arc<dyn Reporter> = Arc::<Seen>::clone(&seen);
    let sidecar = Sidecar::builder(config, Arc::clone(&house.transport))
        .reporter(reporter)
        .start()
        .await
        .expect("the sidecar starts");
    house.publish("work", envelope("x", &["work"], "1")).await;
    house.take("happy-end", 1).await;
    sidecar.drain(PATIENCE).await;
    runtime.stop().await;
    let seen = seen.0.lock().expect("a lock");
    assert_eq!(*seen, BTreeMap::from([("retrying", 2), ("completed", 1)]));
}

/// Ends the publisher once, between the confirms and the ack.
#[derive(Default)]
struct AfterTheConfirm(AtomicBool, AtomicUsize);

impl Faults for AfterTheConfirm {
    fn at(&self, point: Point) -> BoxFuture<'_, Result<(), ractor::ActorProcessingErr>> {
        Box::pin(async move {
            if point == Point::Confirmed && !self.0.swap(true, Ordering::SeqCst) {
                self.1.fetch_add(1, Ordering::SeqCst);
                return Err("struck after the confirm".into());
            }
            Ok(())
        })
    }
}

#[tokio::test]
async fn a_crash_after_a_retry_was_published_loses_nothing_and_repeats_under_the_same_ids() {
    let (house, runs) = (House::new(), Runs::default());
    house.declare(&["work", "sink"]).await;
    let config = retrying(&house, "work", 5);
    let runtime = Runtime::start(&config.socket_dir, failing(1, &runs));
    let fault = Arc::new(AfterTheConfirm::default());
    let faults: Arc<dyn Faults> = Arc::<AfterTheConfirm>::clone(&fault);
    let sidecar = Sidecar::builder(config, Arc::clone(&house.transport))
        .faults(faults)
        .start()
        .await
        .expect("the sidecar starts");
    house.publish("work", envelope("x", &["work", "sink"], "1")).await;
    house.wait_empty("work").await;
    assert_eq!(fault.1.load(Ordering::SeqCst), 1);
    let out = house.take_all("sink").await;
    assert!((1..=2).contains(&out.len()), "{out:?}");
    assert!(out.iter().all(|message| message.id == "x/1/1/0"), "{out:?}");
    assert_eq!(house.depth("error-end").await, 0);
    sidecar.drain(PATIENCE).await;
    runtime.stop().await;
}

#[tokio::test]
async fn a_retry_whose_queue_is_gone_goes_to_error_end_with_its_history() {
    let (house, runs) = (House::new(), Runs::default());
    house.declare(&["work"]).await;
    let config = retrying(&house, "work", 5);
    let transport = Arc::clone(&house.transport);
    let counted = runs.clone();
    let deleting = move |request: RequestEnvelope| {
        let (transport, run) = (Arc::clone(&transport), counted.count(&request.envelope.id));
        async move {
            use asya_transport::{DeleteMode, QueueName};
            let queue = QueueName::for_actor("work");
            transport
                .administration()
                .delete(&queue, DeleteMode::Always)
                .await
                .expect("deletes");
            Err(HandlerError::new(format!("run {run}")))
        }
    };
    let runtime = Runtime::start(&config.socket_dir, deleting);
    let sidecar = start(&house, config).await;
    house.publish("work", envelope("x", &["work"], "7")).await;
    let message = house.take("error-end", 1).await.remove(0);
    let text = message.text();
    for part in [
        r#""error":"unroutable: "#,
        r#""details":{"message":"run 1","type":"HandlerError"}"#,
        r#""attempts":1,"history":[{"attempt":1,"#,
        r#""original_payload":7"#,
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert!(!text.contains("asya_retry"), "{text}");
    sidecar.drain(PATIENCE).await;
    runtime.stop().await;
}
