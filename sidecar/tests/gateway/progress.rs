//! Progress and children: what is said, when, in which order.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use asya_runtime_protocol::{
    EnvelopeItem, HandlerError, HandlerItem, HeadersField, RawJson, RawObject, RequestEnvelope, Route,
};

use crate::Scene;
use crate::common::{echo, envelope, wait_for};
use crate::server::{Gateway, Reply, Request};

fn progress_of(id: &str) -> String {
    format!("POST /envelopes/{id}/progress")
}

/// What was said about one envelope, without the time that it took, which must be the same in both places.
fn steps(gateway: &Gateway, id: &str) -> Vec<String> {
    let without_time = |body: String| match body.split_once(r#""duration_ms":"#) {
        None => body,
        Some((before, time)) => {
            let time = time.trim_end_matches('}');
            let message = format!("Completed processing in {time}ms");
            assert!(before.contains(&message), "{message} is missing in {before}");
            format!("{}*", before.replace(&message, "Completed processing in *ms"))
        }
    };
    gateway
        .told_at(&progress_of(id))
        .into_iter()
        .map(without_time)
        .collect()
}

#[tokio::test]
async fn a_message_is_told_step_by_step() {
    let gateway = Gateway::friendly().await;
    let scene = Scene::step(gateway.options(), echo).await;
    let payload = format!("\"{}\"", "x".repeat(2000));
    let body = envelope("x", &["work", "sink"], &payload);
    let size = body.len();
    scene.house.publish("work", body).await;
    let told = gateway.wait_told(3).await;
    assert!(
        told.iter()
            .all(|request| request.content_type == "application/json" && request.index == "exact")
    );
    let route = r#""actors":["work","sink"],"current_actor_idx":0"#;
    let kilobytes = f64::from(u32::try_from(size).expect("small")) / 1024.0;
    let received = format!(
        r#"{{{route},"status":"received","message":"Received message ({kilobytes:.2} KB)","message_size_kb":{kilobytes}}}"#
    );
    assert_eq!(
        steps(&gateway, "x"),
        [
            received,
            format!(r#"{{{route},"status":"processing","message":"Processing in work"}}"#),
            format!(r#"{{{route},"status":"completed","message":"Completed processing in *ms",*"#),
        ]
    );
    wait_for("the health check", async || gateway.health_checks() == 1).await;
    assert_eq!(scene.reporter.figures().progress_sent, 3);
    scene.end().await;
    assert_eq!(gateway.told().len(), 3);
}

/// Goes on to `more` and then `sink`, as a handler does that writes its own route.
async fn reroute(request: RequestEnvelope) -> Result<Vec<HandlerItem>, HandlerError> {
    Ok(vec![HandlerItem::Envelope(EnvelopeItem {
        payload: Some(request.payload()),
        route: Some(Route::new(["first", "work", "more", "sink"])),
        headers: HeadersField::Absent,
        extra: RawObject::new(),
    })])
}

#[tokio::test]
async fn completed_names_the_actor_that_did_the_work_and_the_route_after_it() {
    let gateway = Gateway::friendly().await;
    let scene = Scene::step(gateway.options(), reroute).await;
    let body = r#"{"id":"x","route":{"actors":["first","work"],"current":1},"payload":1}"#;
    scene.house.publish("work", body).await;
    gateway.wait_told(3).await;
    let told = steps(&gateway, "x");
    assert!(told[1].starts_with(r#"{"actors":["first","work"],"current_actor_idx":1,"status":"processing""#));
    let completed = r#"{"actors":["first","work","more","sink"],"current_actor_idx":1,"status":"completed""#;
    assert!(told[2].starts_with(completed), "{}", told[2]);
    scene.end().await;
}

async fn three(_: RequestEnvelope) -> Result<Vec<HandlerItem>, HandlerError> {
    Ok((0..3)
        .map(|n| HandlerItem::Payload(RawJson::from_value(&n).expect("a number")))
        .collect())
}

#[tokio::test]
async fn children_are_made_known_and_completed_is_said_once() {
    let gateway = Gateway::friendly().await;
    let scene = Scene::step(gateway.options(), three).await;
    scene
        .house
        .publish("work", envelope("x", &["work", "sink"], "0"))
        .await;
    gateway.wait_told(5).await;
    let mut children = gateway.told_at("POST /envelopes");
    children.sort();
    let child = |n| format!(r#"{{"id":"x-{n}","parent_id":"x","actors":["work","sink"],"current":1}}"#);
    assert_eq!(children, [child(1), child(2)]);
    assert_eq!(steps(&gateway, "x").len(), 3);
    assert_eq!(scene.house.take("sink", 3).await.len(), 3);
    assert_eq!(scene.reporter.figures().children_sent, 2);
    scene.end().await;
    assert_eq!(gateway.told().len(), 5);
}

#[tokio::test]
async fn children_are_not_made_known_when_that_is_switched_off() {
    let gateway = Gateway::friendly().await;
    let mut options = gateway.options();
    options.register_children = false;
    let scene = Scene::step(options, three).await;
    scene
        .house
        .publish("work", envelope("x", &["work", "sink"], "0"))
        .await;
    scene.house.take("sink", 3).await;
    scene.end().await;
    assert_eq!(gateway.told().len(), 3);
    assert!(gateway.told_at("POST /envelopes").is_empty());
}

#[tokio::test]
async fn a_child_is_made_known_once_the_gateway_is_back() {
    let mut gateway = Gateway::absent().await;
    let scene = Scene::step(gateway.options(), three).await;
    scene
        .house
        .publish("work", envelope("x", &["work", "sink"], "0"))
        .await;
    scene.house.take("sink", 3).await;
    gateway.appear(|_| Reply::Status(201)).await;
    let children = async || gateway.told_at("POST /envelopes").len() == 2;
    wait_for("both children", children).await;
    scene.end().await;
}

#[tokio::test]
async fn failures_empty_answers_and_wrong_actors_have_no_completed() {
    let gateway = Gateway::friendly().await;
    let by_payload = async |request: RequestEnvelope| match request.payload().as_str() {
        "1" => Err(HandlerError::new("no luck")),
        _ => Ok(Vec::new()),
    };
    let scene = Scene::step(gateway.options(), by_payload).await;
    for (id, actors, payload) in [
        ("failed", ["work", "sink"], "1"),
        ("empty", ["work", "sink"], "2"),
        ("strayed", ["other", "sink"], "3"),
    ] {
        scene.house.publish("work", envelope(id, &actors, payload)).await;
    }
    scene.house.publish("work", "unreadable").await;
    gateway.wait_told(5).await;
    scene.house.wait_empty("work").await;
    scene.end().await;
    let status = |body: &String| {
        let (_, rest) = body.split_once(r#""status":""#).expect("a status");
        rest.split('"').next().unwrap_or_default().to_owned()
    };
    let said = |id| steps(&gateway, id).iter().map(status).collect::<Vec<_>>();
    assert_eq!(said("failed"), ["received", "processing"]);
    assert_eq!(said("empty"), ["received", "processing"]);
    assert_eq!(said("strayed"), ["received"]);
    assert_eq!(gateway.told().len(), 5);
}

#[tokio::test]
async fn ids_are_escaped_and_credentials_are_sent_as_basic_authentication() {
    let gateway = Gateway::friendly().await;
    let scene = Scene::step(gateway.options_with("us%40er:p%2Fss@"), echo).await;
    scene
        .house
        .publish("work", envelope("a/b?c#d é%", &["work", "sink"], "1"))
        .await;
    let told = gateway.wait_told(3).await;
    for request in told {
        assert_eq!(request.line, progress_of("a%2Fb%3Fc%23d%20%C3%A9%25"));
        assert_eq!(request.authorization, "Basic dXNAZXI6cC9zcw==");
    }
    // No URL can hold this one; it must still pass.
    scene
        .house
        .publish("work", envelope("..", &["work", "sink"], "1"))
        .await;
    scene.house.take("sink", 2).await;
    scene.end().await;
    assert_eq!(gateway.told().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_used_again_and_each_envelope_is_told_in_order() {
    // Answers that overtake each other, were they for the same envelope.
    let count = AtomicU64::new(0);
    let uneven = move |_: &Request| match count.fetch_add(1, Ordering::Relaxed) % 4 {
        0 => Reply::Status(200),
        1 => Reply::InParts,
        n => Reply::After(Duration::from_millis(n)),
    };
    let gateway = Gateway::start(uneven).await;
    let scene = Scene::step(gateway.options(), echo).await;
    for n in 0..100 {
        let payload = format!("\"{}\"", "x".repeat(n));
        scene
            .house
            .publish("work", envelope(&format!("id-{n}"), &["work", "sink"], &payload))
            .await;
    }
    scene.house.take("sink", 100).await;
    let reporter = std::sync::Arc::clone(&scene.reporter);
    scene.end().await;
    let mut last = HashMap::new();
    let order = ["received", "processing", "completed"];
    for request in gateway.told() {
        let at = order
            .iter()
            .position(|status| request.body.contains(&format!(r#""status":"{status}""#)));
        let before = last.insert(request.line.clone(), at);
        assert!(
            before.is_none_or(|before| before < at),
            "out of order: {request:?}"
        );
    }
    let completed = Some(2);
    assert_eq!(last.values().filter(|at| **at == completed).count(), 100);
    let figures = reporter.figures();
    assert_eq!(figures.progress_sent, gateway.told().len() as u64);
    assert_eq!(
        figures.progress_sent + figures.progress_dropped,
        300,
        "{figures:?}"
    );
    // One per lane and one for the health check; the client may open a second one while the first becomes free.
    assert!(
        gateway.connections() <= 18,
        "{} connections",
        gateway.connections()
    );
}
