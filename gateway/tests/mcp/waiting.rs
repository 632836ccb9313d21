//! Calls that are held until the envelope is final.

use std::time::Duration;

use asya_gateway::mcp::McpOptions;
use asya_gateway_store::{Outcome, Status};
use serde_json::{Value, json};

use crate::client::{read, read_until};
use crate::plant::Plant;

#[tokio::test]
async fn progress_rises_strictly_and_partial_results_come_as_messages() {
    let plant = Plant::start().await;
    for client in [plant.client(), plant.old_client().await] {
        let call = json!({"name": "steps", "arguments": {}, "_meta": {"progressToken": "t-1"}});
        let answer = client.request("tools/call", call).await;
        assert!(answer.header("content-type").starts_with("text/event-stream"));
        let messages = answer.messages();
        let told: Vec<Value> = messages[..messages.len() - 1]
            .iter()
            .map(|message| serde_json::from_str::<Value>(message).unwrap())
            .inspect(|message| assert_eq!(message["method"], "notifications/progress"))
            .map(|message| message["params"].clone())
            .collect();
        assert!(
            told.iter()
                .all(|told| told["progressToken"] == "t-1" && told["total"] == 100.0)
        );
        let progress: Vec<f64> = told
            .iter()
            .map(|told| told["progress"].as_f64().unwrap())
            .collect();
        assert!(progress.is_sorted_by(|a, b| a < b), "{progress:?}");
        assert_eq!(progress.last(), Some(&100.0));
        let said: Vec<&str> = told
            .iter()
            .map(|told| told["message"].as_str().unwrap())
            .collect();
        let partials = said
            .iter()
            .filter(|said| **said == r#"{"n": 18446744073709551617}"#)
            .count();
        assert_eq!(partials, 3, "{said:?}");
        assert_eq!(
            said.iter().filter(|said| **said == "half-way").count(),
            3,
            "{said:?}"
        );
        assert_eq!(answer.tool_text(), "all steps done");
        assert!(answer.result().get("isError").is_none());
    }
}

#[tokio::test]
async fn a_client_that_reads_no_events_gets_one_object() {
    let plant = Plant::start().await;
    let client = plant.old_client().await.with("accept", "application/json");
    let call = json!({"name": "steps", "arguments": {}, "_meta": {"progressToken": 1}});
    let answer = client.request("tools/call", call).await;
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.json()["result"]["content"][0]["text"], "all steps done");
}

#[tokio::test]
async fn the_mode_may_be_chosen_by_the_call() {
    let plant = Plant::start().await;
    let by_meta = json!({"name": "echo", "arguments": {"text": "x"}, "_meta": {"asya.sh/mode": "wait"}});
    let answer = plant.client().request("tools/call", by_meta).await;
    assert_eq!(answer.tool_text(), r#"{"text":"x","count":3}"#);
    let result = answer.result();
    assert_eq!(result["structuredContent"], json!({"text": "x", "count": 3}));
    assert_eq!(result["_meta"]["asya.sh/envelopeId"], plant.only().await.id);
    let by_header = plant.old_client().await.with("asya-tool-mode", "handle");
    let answer = by_header.call("echo_wait", json!({})).await;
    assert!(answer.tool_text().contains("envelope_id"), "{}", answer.text);
}

#[tokio::test]
async fn an_actors_failure_is_a_result_that_says_so() {
    let plant = Plant::start().await;
    let result = plant.client().call("broken", json!({})).await.result();
    assert_eq!(result["isError"], true);
    assert_eq!(result["content"][0]["text"], "the input was not what I wanted");
}

#[tokio::test]
async fn a_held_call_is_answered_with_the_handle_at_the_limit_and_the_envelope_goes_on() {
    let options = McpOptions {
        wait_limit: Duration::from_millis(300),
        ..McpOptions::default()
    };
    let plant = Plant::with(options).await;
    let answer = plant.client().call("stuck", json!({})).await;
    let handle: Value = serde_json::from_str(&answer.tool_text()).unwrap();
    let record = plant.record(handle["envelope_id"].as_str().unwrap()).await;
    assert!(!record.status.is_final(), "{}", record.status);
}

#[tokio::test]
async fn a_held_call_is_answered_with_the_handle_when_the_gateway_shuts_down() {
    let plant = Plant::start().await;
    let call = json!({"name": "stuck", "arguments": {}, "_meta": {"progressToken": 1}});
    let mut stream = plant.client().open("tools/call", call).await;
    read_until(&mut stream, "working").await;
    plant.gateway.drain();
    let answer = read(stream).await;
    assert!(answer.text.contains("envelope_id"), "{}", answer.text);
    assert!(!plant.only().await.status.is_final());
}

#[tokio::test]
async fn closing_the_stream_of_a_stateless_request_cancels_the_envelope() {
    let plant = Plant::start().await;
    let call = json!({"name": "stuck", "arguments": {}, "_meta": {"progressToken": 1}});
    let mut stream = plant.client().open("tools/call", call).await;
    read_until(&mut stream, "working").await;
    let id = plant.only().await.id;
    drop(stream);
    let record = plant.ended(&id).await;
    assert_eq!(
        (record.status, record.outcome),
        (Status::Failed, Some(Outcome::Cancelled))
    );
}

#[tokio::test]
async fn an_old_client_cancels_by_a_notification_and_may_lose_its_connection() {
    let plant = Plant::start().await;
    let client = plant.old_client().await;
    let call = json!({"name": "stuck", "arguments": {}, "_meta": {"progressToken": 1}});
    let mut stream = client.open("tools/call", call.clone()).await;
    read_until(&mut stream, "working").await;
    let id = plant.only().await.id;
    // Of other requests and sessions nothing is known.
    let stranger = plant.old_client().await;
    for (who, request) in [(&client, json!(8)), (&client, json!("7")), (&stranger, json!(7))] {
        let answer = who
            .notify("notifications/cancelled", json!({"requestId": request}))
            .await;
        assert_eq!(answer.status, 202);
        assert!(!plant.record(&id).await.status.is_final());
    }
    client
        .notify("notifications/cancelled", json!({"requestId": 7}))
        .await;
    let record = plant.ended(&id).await;
    assert_eq!(record.outcome, Some(Outcome::Cancelled));
    drop(stream);

    let key = json!({"name": "stuck", "arguments": {}, "_meta": {"progressToken": 1, "asya.sh/idempotencyKey": "k"}});
    let mut stream = client.open("tools/call", key.clone()).await;
    read_until(&mut stream, "working").await;
    drop(stream);
    // It comes back and finds its call as it was: a lost connection is no word to cancel.
    let mut again = client.open("tools/call", key).await;
    read_until(&mut again, "working").await;
    client
        .notify("notifications/cancelled", json!({"requestId": 7}))
        .await;
    let answer = read(again).await;
    assert!(answer.text.contains("envelope_id"), "{}", answer.text);
}
