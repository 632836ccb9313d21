//! What becomes of a message, case by case, over a real queue and a real socket.

#![expect(clippy::expect_used, reason = "a test fails where it stands")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use asya_runtime_protocol::{HandlerError, HandlerItem, RawJson, RequestEnvelope};
use asya_sidecar::Role;
use common::{House, PATIENCE, Runtime, echo, envelope, start, wait_for};

async fn fail(_: RequestEnvelope) -> Result<Vec<HandlerItem>, HandlerError> {
    Err(HandlerError::new("no luck").exception("LuckError"))
}

/// Runs one message through one actor with `handler` and returns what came out at `to`.
async fn through(
    handler: impl asya_runtime_protocol::Handler,
    body: &[u8],
    to: &str,
) -> Vec<common::Message> {
    let house = House::new();
    house.declare(&["work", "sink"]).await;
    let config = house.config("work", Role::Step);
    let runtime = Runtime::start(&config.socket_dir, handler);
    let sidecar = start(&house, config).await;
    house.publish("work", body.to_vec()).await;
    house.wait_empty("work").await;
    let expected = usize::try_from(house.depth(to).await).expect("a small number");
    assert!(expected > 0, "nothing came to {to}");
    let messages = house.take(to, expected).await;
    for other in ["sink", "happy-end", "error-end"] {
        assert_eq!(house.depth(other).await, 0, "something went to {other} as well");
    }
    sidecar.drain(PATIENCE).await;
    runtime.stop().await;
    messages
}

#[tokio::test]
async fn payload_headers_and_unknown_members_pass_byte_for_byte() {
    let payload = r#"{"z":1,"a":12345678901234567890,"f":1.50,"e":1e400,"u":"\ud83d\ude00 é","n":[ 1,2 ]}"#;
    let body = format!(
        r#"{{"id":"x","parent_id":"p","route":{{"actors":["work","sink"],"current":0,"note":[1.0]}},"headers":{{"t":1e400}},"payload":{payload},"deadline":"2999-01-01T00:00:00Z","own":{{"k":1.10}}}}"#
    );
    let out = through(echo, body.as_bytes(), "sink").await;
    let text = out[0].text();
    assert!(text.contains(payload), "{text}");
    for part in [
        r#""parent_id":"p""#,
        r#""headers":{"t":1e400}"#,
        r#""own":{"k":1.10}"#,
        r#""note":[1.0]"#,
        r#""deadline":"2999-01-01T00:00:00Z""#,
        r#""current":1"#,
        r#""asya_step":1"#,
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert_eq!(out[0].id, "x/1/1/0");
}

#[tokio::test]
async fn the_end_of_the_route_and_an_empty_answer_lead_to_happy_end() {
    let out = through(echo, envelope("x", &["work"], "1").as_bytes(), "happy-end").await;
    assert_eq!(out[0].envelope().route.current, 1);
    let nothing = async |_: RequestEnvelope| Ok(Vec::new());

    let out = through(
        nothing,
        envelope("x", &["work", "sink"], "1").as_bytes(),
        "happy-end",
    )
    .await;
    assert_eq!(
        out[0].envelope().route.current,
        0,
        "the input goes to happy-end as it was"
    );
    assert_eq!(out[0].envelope().payload.expect("a payload").as_str(), "1");
}

#[tokio::test]
async fn a_fan_out_has_stable_distinct_ids_and_names_its_parent() {
    let three = async |_: RequestEnvelope| Ok((0..3).map(|n| HandlerItem::Payload(number(n))).collect());
    let out = through(three, envelope("x", &["work", "sink"], "0").as_bytes(), "sink").await;
    let seen: Vec<_> = out
        .iter()
        .map(|message| {
            let envelope = message.envelope();
            (envelope.id, envelope.parent_id, message.id.clone())
        })
        .collect();
    let parent = Some(String::from("x"));
    assert_eq!(
        seen,
        [
            ("x".into(), None, "x/1/1/0".into()),
            ("x-1".into(), parent.clone(), "x/1/1/1".into()),
            ("x-2".into(), parent, "x/1/1/2".into()),
        ]
    );
}

fn number(n: i32) -> RawJson {
    RawJson::from_value(&n).expect("a number")
}

#[tokio::test]
async fn a_handler_error_goes_to_error_end_with_the_original_payload() {
    let body = envelope("x", &["work", "sink"], r#"{"a":1e400,"b":18446744073709551616}"#);
    let out = through(fail, body.as_bytes(), "error-end").await;
    let text = out[0].text();
    for part in [
        r#""error":"processing_error""#,
        r#""message":"no luck""#,
        r#""type":"LuckError""#,
        r#""original_payload":{"a":1e400,"b":18446744073709551616}"#,
        r#""actors":["work","sink"],"current":0"#,
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}

#[tokio::test]
async fn bad_messages_go_to_error_end_with_their_original_bytes() {
    let deep = format!(
        r#"{{"id":"x","route":{{"actors":["other"]}},"payload":{}1{}}}"#,
        "[".repeat(1000),
        "]".repeat(1000)
    );
    let cases: [(&[u8], &str, &str); 7] = [
        (
            b"not json",
            "Failed to parse message: ",
            r#""original_body":"not json""#,
        ),
        (b"", "Failed to parse message: ", r#""original_body":"""#),
        (
            b"\xff\xfe{}",
            "Failed to parse message: ",
            r#""original_body_base64":"//57fQ==""#,
        ),
        (b"[1]", "Failed to parse message: ", r#""original_body":"[1]""#),
        (
            br#"{"route":{"actors":["work"]},"payload":1}"#,
            "Envelope missing required 'id' field",
            "original_body",
        ),
        (
            br#"{"id":"x","route":{"actors":["other"]},"payload":{"n":1.10}}"#,
            "Route mismatch: message routed to wrong actor (expected: work, actual: other)",
            r#""original_payload":{"n":1.10}"#,
        ),
        (deep.as_bytes(), "Route mismatch", "[[[[[[[1]]]]]]]"),
    ];
    for (body, error, original) in cases {
        let out = through(echo, body, "error-end").await;
        let text = out[0].text();
        assert!(text.contains(error), "{error} is missing in {text}");
        assert!(text.contains(original), "{original} is missing in {text}");
        assert!(!out[0].envelope().id.is_empty(), "the error envelope has an id");
    }
}

#[tokio::test]
async fn unreadable_messages_keep_their_id_over_redeliveries() {
    let first = through(echo, b"same bytes", "error-end").await;
    let second = through(echo, b"same bytes", "error-end").await;
    assert_eq!(first[0].envelope().id, second[0].envelope().id);
    assert_eq!(first[0].id, second[0].id);
}

#[tokio::test]
async fn a_route_to_nowhere_becomes_an_error_that_names_the_queue_while_others_go_on() {
    let house = House::new();
    house.declare(&["work", "sink"]).await;
    let config = house.config("work", Role::Step);
    let runtime = Runtime::start(&config.socket_dir, echo);
    let sidecar = start(&house, config).await;
    house
        .publish("work", envelope("lost", &["work", "nowhere"], "1"))
        .await;
    house
        .publish("work", envelope("fine", &["work", "sink"], "2"))
        .await;
    assert_eq!(house.take("sink", 1).await[0].envelope().id, "fine");
    let failed = house.take("error-end", 1).await;
    assert!(
        failed[0]
            .text()
            .contains("unroutable: no actor takes messages from queue asya-nowhere")
    );
    assert_eq!(failed[0].envelope().id, "lost");
    house.wait_empty("work").await;
    sidecar.drain(PATIENCE).await;
    runtime.stop().await;
}

#[tokio::test]
async fn an_expired_deadline_fails_without_running_and_a_hop_limit_ends_circles() {
    let body = r#"{"id":"x","route":{"actors":["work"]},"payload":1,"deadline":"2001-01-01T00:00:00Z"}"#;
    let out = through(echo, body.as_bytes(), "error-end").await;
    assert!(out[0].text().contains(r#""error":"Deadline exceeded""#));
    assert!(out[0].text().contains("2001-01-01T00:00:00Z"));
    let body = r#"{"id":"x","route":{"actors":["work"],"metadata":{"asya_step":10000}},"payload":1}"#;
    let out = through(echo, body.as_bytes(), "error-end").await;
    assert!(out[0].text().contains("Hop limit of 10000 reached"));
}

#[tokio::test]
async fn a_call_without_an_answer_times_out_alone_and_the_next_message_runs() {
    let house = House::new();
    house.declare(&["work", "sink"]).await;
    let mut config = house.config("work", Role::Step);
    config.runtime_timeout = Duration::from_millis(300);
    let hang = async |request: RequestEnvelope| {
        if request.payload().as_str() == "\"hang\"" {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        echo(request).await
    };
    let runtime = Runtime::start(&config.socket_dir, hang);
    let sidecar = start(&house, config).await;
    house
        .publish("work", envelope("slow", &["work", "sink"], "\"hang\""))
        .await;
    house
        .publish("work", envelope("next", &["work", "sink"], "2"))
        .await;
    let failed = house.take("error-end", 1).await;
    assert!(
        failed[0].text().contains("Runtime timeout exceeded after 300ms"),
        "{}",
        failed[0].text()
    );
    assert_eq!(house.take("sink", 1).await[0].envelope().id, "next");
    house.wait_empty("work").await;
    sidecar.drain(PATIENCE).await;
    runtime.stop().await;
}

#[tokio::test]
async fn a_runtime_that_is_away_is_waited_for_and_no_message_fails() {
    let house = House::new();
    house.declare(&["work", "sink"]).await;
    let config = house.config("work", Role::Step);
    let socket_dir = config.socket_dir.clone();
    let sidecar = start(&house, config).await;
    house
        .publish("work", envelope("early", &["work", "sink"], "1"))
        .await;
    let runtime = Runtime::start(&socket_dir, echo);
    assert_eq!(house.take("sink", 1).await[0].envelope().id, "early");
    runtime.stop().await;
    house
        .publish("work", envelope("between", &["work", "sink"], "1"))
        .await;
    wait_for("the sidecar to notice", async || {
        !sidecar.snapshot().runtime_ready
    })
    .await;
    let runtime = Runtime::start(&socket_dir, echo);
    assert_eq!(house.take("sink", 1).await[0].envelope().id, "between");
    assert_eq!(house.depth("error-end").await, 0);
    sidecar.drain(PATIENCE).await;
    runtime.stop().await;
}

#[tokio::test]
async fn draining_lets_the_running_call_end_and_returns_the_rest() {
    let house = House::new();
    house.declare(&["work", "sink"]).await;
    let config = house.config("work", Role::Step);
    let go = Arc::new(tokio::sync::Semaphore::new(0));
    let gate = Arc::clone(&go);
    let wait = move |request: RequestEnvelope| {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.expect("open").forget();
            echo(request).await
        }
    };
    let runtime = Runtime::start(&config.socket_dir, wait);
    let sidecar = start(&house, config).await;
    for index in 0..5 {
        house
            .publish("work", envelope(&index.to_string(), &["work", "sink"], "1"))
            .await;
    }
    wait_for("a call to run", async || {
        sidecar.snapshot().stages.get(&asya_sidecar::Stage::Running) == Some(&1)
    })
    .await;
    let draining = tokio::spawn(sidecar.drain(PATIENCE));
    go.add_permits(1);
    assert_eq!(draining.await.expect("drains").returned, 0);
    assert_eq!(house.take("sink", 1).await.len(), 1);
    assert_eq!(
        house.depth("work").await,
        4,
        "what was not running is back in the queue"
    );
    go.add_permits(10);
    runtime.stop().await;
}

#[tokio::test]
async fn a_payload_is_the_same_byte_for_byte_after_ten_native_hops() {
    const PAYLOAD: &str =
        r#"{"z":[1e400,-0.0,1.50,12345678901234567890123],"a":{"\u00e9":"\ud800 é 😀"},"z2" : [ ]}"#;
    let house = House::new();
    let names: Vec<_> = (0..10).map(|hop| format!("hop-{hop}")).collect();
    let actors: Vec<_> = names.iter().map(String::as_str).collect();
    house.declare(&actors).await;
    let mut parts = Vec::new();
    for actor in &actors {
        let config = house.config(actor, Role::Step);
        let runtime = Runtime::start(&config.socket_dir, echo);
        parts.push((start(&house, config).await, runtime));
    }
    house.publish("hop-0", envelope("x", &actors, PAYLOAD)).await;
    let out = house.take("happy-end", 1).await;
    assert!(
        out[0].text().contains(&format!(r#""payload":{PAYLOAD}"#)),
        "{}",
        out[0].text()
    );
    assert_eq!(out[0].id, "x/10/1/0");
    for (sidecar, runtime) in parts {
        sidecar.drain(PATIENCE).await;
        runtime.stop().await;
    }
}

#[tokio::test]
async fn messages_that_were_only_held_are_never_condemned_by_their_deliveries() {
    let house = House::new();
    house.declare(&["work", "sink"]).await;
    let config = house.config("work", Role::Step);
    for id in ["a", "b", "c"] {
        house.publish("work", envelope(id, &["work", "sink"], "1")).await;
    }
    // Twenty times a process takes them and ends without running them.
    let queue = asya_transport::QueueName::for_actor("work");
    for _ in 0..20 {
        let mut consumer = house.transport.consume(&queue).await.expect("opens a consumer");
        assert_eq!(consumer.receive(10).await.expect("receives").len(), 3);
    }
    let runtime = Runtime::start(&config.socket_dir, echo);
    let sidecar = start(&house, config).await;
    house.wait_empty("work").await;
    assert_eq!(house.take("sink", 3).await.len(), 3);
    assert_eq!(house.depth("error-end").await, 0);
    sidecar.drain(PATIENCE).await;
    runtime.stop().await;
}

#[tokio::test]
async fn a_message_over_the_limit_fails_under_its_own_id() {
    let house = House::new();
    house.declare(&["work", "sink"]).await;
    let mut config = house.config("work", Role::Step);
    config.max_message_size = 200;
    let runtime = Runtime::start(&config.socket_dir, echo);
    let sidecar = start(&house, config).await;
    let payload = format!("\"{}\"", "x".repeat(300));
    house
        .publish("work", envelope("large", &["work", "sink"], &payload))
        .await;
    let failed = house.take("error-end", 1).await;
    assert_eq!(failed[0].envelope().id, "large");
    assert!(
        failed[0].text().contains("over the limit of 200 bytes"),
        "{}",
        failed[0].text()
    );
    assert!(failed[0].text().contains(&payload));
    sidecar.drain(PATIENCE).await;
    runtime.stop().await;
}
