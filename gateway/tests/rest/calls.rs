//! Calling tools (contract gateway §3, §4).

use asya_gateway::auth::Caller;
use asya_gateway_store::{Filter, Page, View};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::harness::{Answer, Rig};

async fn stored(rig: &Rig) -> usize {
    let page = Page {
        size: 1000,
        after: None,
        view: View::Basic,
    };
    let listed = rig
        .gateway
        .list(&Caller::anonymous(), Filter::default(), page)
        .await;
    listed.unwrap().records.len()
}

fn error_text(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let result = answer.json();
    assert_eq!(result["isError"], true, "{}", answer.text);
    result["content"][0]["text"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_call_is_answered_with_the_contracts_text_and_its_message_is_in_the_queue() {
    let rig = Rig::start().await;
    let answer = rig
        .post(
            "/tools/call",
            r#"{"name":"read","arguments":{"text":"x","n":12345678901234567890,"s":"\ud800"}}"#,
        )
        .await;
    let id = answer.envelope_id();
    let result = answer.json();
    assert_eq!(
        result["content"][0]["text"].as_str().unwrap(),
        format!(
            r#"{{"envelope_id":"{id}","message":"Envelope created successfully","metadata":{{"team":"docs"}},"status_url":"/envelopes/{id}","stream_url":"/envelopes/{id}/stream"}}"#
        )
    );
    assert!(
        answer
            .text
            .starts_with(r#"{"content":[{"type":"text","text":"{\"envelope_id\""#),
        "{}",
        answer.text
    );
    let message = rig.message().await;
    assert_eq!(message.id, id);
    let payload = message.payload.unwrap();
    assert!(
        payload
            .as_str()
            .contains(r#""n":12345678901234567890,"s":"\ud800""#),
        "{}",
        payload.as_str()
    );
    let stored = rig.get(&format!("/envelopes/{id}")).await;
    assert_eq!(stored.raw_member("payload").as_deref(), Some(payload.as_str()));
    assert!(
        payload.as_str().ends_with(r#","pages":1}"#),
        "the default: {}",
        payload.as_str()
    );
}

#[tokio::test]
async fn the_older_path_and_keys_are_understood() {
    let rig = Rig::start().await;
    for path in ["/mcp/tools/call", "/tools/call"] {
        for body in [
            r#"{"tool":"plain","params":{"a":1}}"#,
            r#"{"name":"plain","arguments":null}"#,
            r#"{"name":"plain"} and what follows is ignored"#,
        ] {
            let id = rig.post(path, body).await.envelope_id();
            let record = rig.get(&format!("/envelopes/{id}")).await.json();
            assert_eq!(record["timeout_seconds"], Value::Null, "no limit");
            assert_eq!(record["deadline"], Value::Null);
        }
    }
}

#[tokio::test]
async fn a_call_that_cannot_be_made_is_told_why_and_stores_nothing() {
    let rig = Rig::start().await;
    for (body, status, text) in [
        ("", 400, "Invalid request body\n"),
        ("{", 400, "Invalid request body\n"),
        ("[]", 400, "Invalid request body\n"),
        ("{}", 400, "Tool name is required\n"),
        (r#"{"name":"no such"}"#, 404, "Tool \"no such\" not found\n"),
    ] {
        rig.post("/tools/call", body).await.is_refusal(status, text);
    }
    let answer = rig.post("/tools/call", r#"{"name":"read","arguments":[]}"#).await;
    answer.is_refusal_like(400, "Invalid request body\narguments: expected an object");
    let missing = rig.post("/tools/call", r#"{"name":"read","arguments":{}}"#).await;
    assert_eq!(error_text(&missing), "missing required parameter: text");
    let wrong = rig
        .post(
            "/tools/call",
            r#"{"name":"read","arguments":{"text":5,"pages":"x"}}"#,
        )
        .await;
    let text = error_text(&wrong);
    assert!(text.contains("text") && text.contains("pages"), "{text}");
    assert_eq!(stored(&rig).await, 0);
}

#[tokio::test]
async fn a_call_of_an_actor_that_is_not_there_is_told_so() {
    let rig = Rig::start().await;
    let text = error_text(&rig.post("/tools/call", r#"{"name":"lost"}"#).await);
    assert!(text.starts_with("failed to create envelope: "), "{text}");
    assert!(
        text.contains("\"nobody\"") && text.contains("asya-nobody"),
        "{text}"
    );
    let id = text.rsplit("envelope ").next().unwrap().trim_end_matches(')');
    let record = rig.get(&format!("/envelopes/{id}")).await.json();
    assert_eq!(record["status"], "failed", "{record}");
}

#[tokio::test]
async fn a_repeat_with_the_same_key_makes_nothing_and_gets_the_same_answer() {
    let rig = Rig::start().await;
    let body = r#"{"name":"read","arguments":{"text":"x"}}"#;
    let call = async |key: &str, body: &'static str| {
        rig.send_with(Method::POST, "/tools/call", body, &[("Idempotency-Key", key)])
            .await
    };
    let first = call("k-1", body).await;
    let again = call("k-1", body).await;
    assert_eq!(first.text, again.text);
    assert_eq!(
        (
            first.header("idempotency-replayed"),
            again.header("idempotency-replayed")
        ),
        ("", "true")
    );
    assert_ne!(call("k-2", body).await.envelope_id(), first.envelope_id());
    let other = call("k-1", r#"{"name":"read","arguments":{"text":"y"}}"#).await;
    assert_eq!(other.status, StatusCode::CONFLICT);
    assert!(other.text.contains(&first.envelope_id()), "{}", other.text);
    assert_eq!(stored(&rig).await, 2);
    for key in ["", &"k".repeat(256)] {
        let refused = rig
            .send_with(Method::POST, "/tools/call", body, &[("Idempotency-Key", key)])
            .await;
        refused.is_refusal_like(400, "Invalid Idempotency-Key\n");
    }
}

#[tokio::test]
async fn trace_context_travels_in_the_headers_of_the_envelope() {
    let rig = Rig::start().await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let body = r#"{"name":"plain"}"#;
    let headers = [("traceparent", parent), ("tracestate", "a=1")];
    let answer = rig.send_with(Method::POST, "/tools/call", body, &headers).await;
    let message = rig.message().await;
    let carried = message.headers.unwrap();
    assert_eq!(
        carried.get("traceparent").unwrap().to_text().as_deref(),
        Some(parent)
    );
    assert_eq!(
        carried.get("tracestate").unwrap().to_text().as_deref(),
        Some("a=1")
    );
    let record = rig
        .get(&format!("/envelopes/{}", answer.envelope_id()))
        .await
        .json();
    assert_eq!(record["headers"]["traceparent"], parent);
    let bad = [("traceparent", "00-zero-zero-00")];
    rig.send_with(Method::POST, "/tools/call", body, &bad)
        .await
        .envelope_id();
    assert!(rig.message().await.headers.is_none());
}

#[tokio::test]
async fn tools_are_listed_with_their_schemas() {
    let rig = Rig::start().await;
    let listed = rig.get("/tools").await.json();
    let names: Vec<&str> = listed["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["lost", "plain", "read"]);
    let read = &listed["tools"][2];
    assert_eq!(read["inputSchema"]["properties"]["pages"]["type"], "integer");
    assert_eq!(read["annotations"]["destructiveHint"], true);
    assert_eq!(
        (&read["progress"], &read["timeout_seconds"]),
        (&true.into(), &300.into())
    );
}
