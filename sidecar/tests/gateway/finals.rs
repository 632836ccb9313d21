//! The final word of end actors: what is said, and that the message is kept until it is heard.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use asya_runtime_protocol::{RawJson, RequestEnvelope, Route};
use asya_sidecar::gateway::{GatewayOptions, GatewayReporter};
use asya_sidecar::{Event, FinalReport, FinalStatus, Progress, Reporter as _, Role};
use bytes::Bytes;

use crate::Scene;
use crate::common::{echo, wait_for};
use crate::server::{Gateway, Reply, Request};

const FINAL: &str = "POST /envelopes/x/final";

async fn happy_end(options: GatewayOptions) -> Scene {
    Scene::start("happy-end", Role::HappyEnd, options, echo).await
}

/// A body without its time stamp, which must be one.
fn without_time(body: &str) -> String {
    let (before, time) = body.rsplit_once(r#","timestamp":""#).expect("a time stamp");
    let time = time.strip_suffix("\"}").expect("the last member");
    assert!(chrono::DateTime::parse_from_rfc3339(time).is_ok(), "{time}");
    format!("{before}}}")
}

#[tokio::test]
async fn a_success_is_told_with_its_result_byte_for_byte() {
    let gateway = Gateway::friendly().await;
    let scene = happy_end(gateway.options()).await;
    let payload = r#"{"n": 12345678901234567890,"f":1.50,"e":1e400,"s":"\ud83d\ude00"}"#;
    let body = format!(r#"{{"id":"x","route":{{"actors":["a"],"current":1}},"payload":{payload}}}"#);
    scene.house.publish("happy-end", body).await;
    gateway.wait_told(1).await;
    scene.house.wait_empty("happy-end").await;
    let figures = scene.reporter.figures();
    scene.end().await;
    let told = gateway.told_at(FINAL);
    assert_eq!(gateway.told().len(), 1, "end actors report no progress");
    assert_eq!(
        without_time(&told[0]),
        format!(r#"{{"id":"x","status":"succeeded","progress":1.0,"result":{payload}}}"#)
    );
    assert_eq!(figures.finals_accepted, 1);
}

#[tokio::test]
async fn a_failure_is_told_with_what_its_input_says() {
    let gateway = Gateway::friendly().await;
    let scene = Scene::start("error-end", Role::ErrorEnd, gateway.options(), echo).await;
    let details = r#"{"message":"no luck","type":"LuckError","n":1e400}"#;
    let body = format!(
        r#"{{"id":"x","route":{{"actors":["a","b"],"current":1}},"payload":{{"error":"processing_error","details":{details},"original_payload":1}}}}"#
    );
    scene.house.publish("error-end", body).await;
    gateway.wait_told(1).await;
    scene.house.wait_empty("error-end").await;
    scene.end().await;
    assert_eq!(
        without_time(&gateway.told_at(FINAL)[0]),
        format!(
            r#"{{"id":"x","status":"failed","error":"processing_error","error_details":{details},"actors":["a","b"],"current_actor_idx":1,"current_actor_name":"b"}}"#
        )
    );
}

/// One message through happy-end; what was told about it, and the reporter's figures.
async fn told_until_settled(
    behaviour: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> (Vec<String>, asya_sidecar::gateway::GatewayFigures) {
    let gateway = Gateway::start(behaviour).await;
    let scene = happy_end(gateway.options()).await;
    scene
        .house
        .publish("happy-end", r#"{"id":"x","payload":[1]}"#)
        .await;
    scene.house.wait_empty("happy-end").await;
    let figures = scene.reporter.figures();
    scene.end().await;
    (gateway.told_at(FINAL), figures)
}

#[tokio::test]
async fn an_unknown_envelope_is_no_reason_to_keep_the_message() {
    let (told, figures) = told_until_settled(|_| Reply::Status(404)).await;
    assert_eq!((told.len(), figures.finals_unknown), (1, 1));
}

#[tokio::test]
async fn an_unclear_answer_is_tried_three_times_and_a_refusal_once() {
    let (told, figures) = told_until_settled(|_| Reply::Status(500)).await;
    assert_eq!((told.len(), figures.finals_dropped), (3, 1));
    let (told, figures) = told_until_settled(|_| Reply::Status(400)).await;
    assert_eq!((told.len(), figures.finals_dropped), (1, 1));
}

#[tokio::test]
async fn a_result_that_is_too_large_for_the_gateway_leaves_its_status() {
    let limited = |request: &Request| {
        let is_full = request.body.contains("result");
        Reply::Status(if is_full { 413 } else { 200 })
    };
    let (told, figures) = told_until_settled(limited).await;
    assert_eq!(told.len(), 2);
    assert!(told[0].contains(r#""result":[1]"#));
    assert_eq!(
        without_time(&told[1]),
        r#"{"id":"x","status":"succeeded","progress":1.0}"#
    );
    assert_eq!((figures.finals_accepted, figures.finals_dropped), (1, 0));
}

#[tokio::test]
async fn what_the_gateway_cannot_take_now_is_told_again_until_it_does() {
    for bad in [
        Reply::Status(502),
        Reply::Status(503),
        Reply::Status(504),
        Reply::Status(429),
        Reply::HangUp,
        Reply::Elsewhere,
    ] {
        let count = AtomicUsize::new(0);
        let twice = move |request: &Request| {
            let is_final = request.line == FINAL;
            // For a connection that breaks these are the two tries of one request.
            if is_final && count.fetch_add(1, Ordering::Relaxed) < 2 {
                bad
            } else {
                Reply::Status(200)
            }
        };
        let (told, figures) = told_until_settled(twice).await;
        assert_eq!(told.len(), 3, "{bad:?}");
        assert_eq!(
            (figures.finals_accepted, figures.finals_dropped),
            (1, 0),
            "{bad:?}"
        );
    }
}

#[tokio::test]
async fn the_message_is_kept_in_its_queue_until_the_gateway_is_there() {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let handler = move |request: RequestEnvelope| {
        counted.fetch_add(1, Ordering::Relaxed);
        echo(request)
    };
    let mut gateway = Gateway::absent().await;
    let mut options = gateway.options();
    options.final_patience = Duration::from_millis(20);
    let scene = Scene::start("happy-end", Role::HappyEnd, options, handler).await;
    scene
        .house
        .publish("happy-end", r#"{"id":"x","payload":1}"#)
        .await;
    let returned = || scene.reporter.figures().finals_returned;
    wait_for("the message to go back", async || returned() >= 2).await;
    assert_eq!(scene.house.depth("happy-end").await, 1);
    gateway.appear(|_| Reply::Status(200)).await;
    scene.house.wait_empty("happy-end").await;
    assert!(runs.load(Ordering::Relaxed) >= 3, "each delivery is a run");
    scene.end().await;
    assert_eq!(gateway.told_at(FINAL).len(), 1);
}

#[tokio::test]
async fn a_drain_does_not_wait_for_a_gateway_that_hangs() {
    let gateway = Gateway::start(|_| Reply::Never).await;
    let mut options = gateway.options();
    options.request_timeout = Duration::from_millis(300);
    options.final_patience = Duration::from_hours(1);
    let scene = happy_end(options).await;
    for n in 0..5 {
        let body = format!(r#"{{"id":"x-{n}","payload":1}}"#);
        scene.house.publish("happy-end", body).await;
    }
    wait_for("a report to be under way", async || !gateway.told().is_empty()).await;
    let (house, drained) = scene.end().await;
    assert_eq!(drained.returned, 0, "all were given back in time");
    assert_eq!(house.depth("happy-end").await, 5);
}

#[tokio::test]
async fn no_progress_comes_after_the_end() {
    let slow_progress = |request: &Request| {
        if request.line.ends_with("progress") {
            Reply::After(Duration::from_millis(300))
        } else {
            Reply::Status(200)
        }
    };
    let gateway = Gateway::start(slow_progress).await;
    let reporter = GatewayReporter::start(gateway.options()).expect("a reporter");
    for _ in 0..10 {
        reporter.progress(Progress {
            actor: "work".into(),
            envelope: Arc::new(asya_runtime_protocol::Envelope {
                id: "x".into(),
                route: Route::new(["work"]),
                ..Default::default()
            }),
            event: Event::Processing,
        });
    }
    gateway.wait_told(1).await;
    let report = FinalReport {
        actor: "happy-end".into(),
        id: "x".into(),
        status: FinalStatus::Succeeded,
        result: Some(RawJson::null()),
        error: None,
        error_details: None,
        message: Bytes::new(),
    };
    reporter.finish(report).await.expect("accepted");
    reporter.close(Duration::from_secs(20)).await;
    let told = gateway.told();
    assert_eq!(told.last().map(|request| request.line.as_str()), Some(FINAL));
    let figures = reporter.figures();
    assert_eq!(
        figures.progress_sent + figures.progress_dropped,
        10,
        "{figures:?}"
    );
    assert_eq!(figures.progress_sent, told.len() as u64 - 1);
}
