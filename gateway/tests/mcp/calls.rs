//! What a call sends into the pipeline, and how it is refused.

use serde_json::{Value, json};

use crate::client::Answer;
use crate::plant::Plant;

fn envelope(answer: &Answer) -> String {
    let handle: Value = serde_json::from_str(&answer.tool_text()).unwrap();
    handle["envelope_id"]
        .as_str()
        .unwrap_or_else(|| panic!("no handle: {handle}"))
        .to_owned()
}

#[tokio::test]
async fn arguments_reach_the_actor_byte_for_byte() {
    let plant = Plant::start().await;
    let client = plant.old_client().await;
    let arguments = r#"{"z": 18446744073709551617, "text":"\ud800\u0000", "a":[1.0, 1e400],"count":-0}"#;
    let answer = client
        .post(format!(
            r#"{{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{{"arguments":{arguments},"name":"echo"}}}}"#
        ))
        .await;
    assert_eq!(answer.json()["id"], "x");
    let record = plant.ended(&envelope(&answer)).await;
    assert_eq!(record.payload.unwrap().as_str(), arguments);
    assert_eq!(record.result.unwrap().as_str(), arguments);
}

#[tokio::test]
async fn results_reach_the_client_byte_for_byte() {
    let plant = Plant::start().await;
    let raw = "[18446744073709551617,\n 1.0, 1e400]";
    let answer = plant.client().call("numbers", json!({})).await;
    let message = answer.messages().pop().unwrap();
    let structured = r#""structuredContent":[18446744073709551617,  1.0, 1e400]"#;
    assert!(message.contains(structured), "{message}");
    // As text it is the very same; a decoder of the whole message would fail on 1e400, so it is looked for.
    let text = Value::from(raw).to_string();
    assert!(message.contains(&format!(r#""text":{text}"#)), "{message}");
    let old = plant.old_client().await.call("numbers", json!({})).await;
    assert!(
        !old.text.contains("structuredContent"),
        "only objects are structured for old clients: {}",
        old.text
    );
    assert_eq!(old.tool_text(), raw);
}

#[tokio::test]
async fn a_repeat_with_the_same_key_makes_no_second_envelope() {
    let plant = Plant::start().await;
    let client = plant.client();
    let call = |text: &str| json!({"name": "echo", "arguments": {"text": text}, "_meta": {"asya.sh/idempotencyKey": "key-1"}});
    let first = envelope(&client.request("tools/call", call("a")).await);
    assert_eq!(envelope(&client.request("tools/call", call("a")).await), first);
    let by_header = plant.old_client().await.with("idempotency-key", "key-1");
    assert_eq!(
        envelope(&by_header.call("echo", json!({"text": "a"})).await),
        first
    );
    assert_eq!(plant.only().await.id, first);
    let other = client.request("tools/call", call("b")).await;
    assert_eq!(other.result()["isError"], true);
    assert!(
        other.tool_text().contains("idempotency key"),
        "{}",
        other.tool_text()
    );
    let wrong = json!({"name": "echo", "arguments": {"text": "a"}, "_meta": {"asya.sh/idempotencyKey": 5}});
    assert_eq!(client.request("tools/call", wrong).await.error_code(), -32602);
}

#[tokio::test]
async fn trace_context_goes_into_the_headers_of_the_envelope() {
    let plant = Plant::start().await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let by_header = plant
        .client()
        .with("traceparent", parent)
        .with("tracestate", "a=1");
    let id = envelope(&by_header.call("echo", json!({"text": "x"})).await);
    let headers = plant.record(&id).await.headers.unwrap();
    assert_eq!(
        headers.as_str(),
        format!(r#"{{"traceparent":"{parent}","tracestate":"a=1"}}"#)
    );

    let own = "00-11111111111111111111111111111111-2222222222222222-01";
    let call = json!({"name": "echo", "arguments": {"text": "x"}, "_meta": {"traceparent": own}});
    let id = envelope(&by_header.request("tools/call", call).await);
    let headers = plant.record(&id).await.headers.unwrap();
    assert_eq!(
        headers.as_str(),
        format!(r#"{{"traceparent":"{own}"}}"#),
        "the call's own comes first"
    );

    let id = envelope(&plant.client().call("echo", json!({"text": "x"})).await);
    assert_eq!(plant.record(&id).await.headers, None);
}

#[tokio::test]
async fn long_words_that_nobody_knows_are_told_back_cut() {
    let plant = Plant::start().await;
    // A client without a session names tool and method in headers, too, where nothing of this size fits.
    let client = plant.old_client().await;
    let long = "é".repeat(1_000_000);
    for answer in [
        client.call(&long, json!({})).await,
        client.request(&long, json!({})).await,
    ] {
        assert!(answer.error_text().contains("ééé…"), "{}", answer.text);
        assert!(answer.text.len() < 1000, "{} bytes", answer.text.len());
    }
}

#[tokio::test]
async fn calls_that_cannot_be_are_refused_and_store_nothing() {
    let plant = Plant::start().await;
    for client in [plant.client(), plant.old_client().await] {
        let answer = client.call("missing", json!({})).await;
        assert_eq!((answer.status, answer.error_code()), (200, -32602));
        assert_eq!(answer.error_text(), "tool 'missing' not found: tool not found");
        let answer = client.call("echo", json!([1])).await;
        assert_eq!(answer.error_code(), -32602, "{}", answer.text);
        let answer = client.request("tools/call", json!({"arguments": {}})).await;
        assert_eq!(answer.error_code(), -32602, "no name: {}", answer.text);
        let mode = json!({"name": "echo", "arguments": {"text": "x"}, "_meta": {"asya.sh/mode": "later"}});
        let answer = client.request("tools/call", mode).await;
        assert_eq!(answer.error_code(), -32602);
        assert!(
            answer.error_text().contains("handle, wait, task"),
            "{}",
            answer.error_text()
        );

        let answer = client.call("echo", json!({"count": "many"})).await;
        assert_eq!(answer.result()["isError"], true);
        assert_eq!(
            answer.tool_text(),
            "parameter count: expected an integer, got a string; missing required parameter: text"
        );
        let answer = client.call("echo", Value::Null).await;
        assert_eq!(answer.tool_text(), "missing required parameter: text");
    }
    let filter = asya_gateway_store::Filter::default();
    let page = asya_gateway_store::Page {
        size: 1,
        after: None,
        view: asya_gateway_store::View::Basic,
    };
    let everybody = asya_gateway::auth::Caller::anonymous();
    assert!(
        plant
            .gateway
            .list(&everybody, filter, page)
            .await
            .unwrap()
            .records
            .is_empty()
    );
}

#[tokio::test]
async fn an_actor_without_a_queue_is_told_to_the_caller() {
    let plant = Plant::start().await;
    let answer = plant.client().call("nowhere", json!({})).await;
    assert_eq!(answer.result()["isError"], true);
    let text = answer.tool_text();
    assert!(text.starts_with("failed to create envelope: "), "{text}");
    assert!(text.contains("nowhere"), "{text}");
    assert!(plant.only().await.error.unwrap().contains("nowhere"));
}

#[tokio::test]
async fn a_draining_gateway_takes_no_calls_and_says_so() {
    let plant = Plant::start().await;
    let client = plant.client();
    plant.gateway.drain();
    let answer = client.call("echo", json!({"text": "x"})).await;
    assert_eq!(answer.result()["isError"], true);
    assert!(
        answer.tool_text().contains("shutting down"),
        "{}",
        answer.tool_text()
    );
}

#[tokio::test]
async fn hostile_bodies_are_refused_or_carried_and_never_an_error_of_ours() {
    let plant = Plant::start().await;
    let call = |arguments: &str, more: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"echo","arguments":{arguments}{more}}}}}"#
        )
    };
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let carried = [
        format!(r#"{{"text":"x","deep":{}}}"#, deep(100_000)),
        format!(r#"{{"text":"x","many":[{}0]}}"#, "0,".repeat(100_000)),
        r#"{"text":"\u0000\ud800 \" asya-raw-"}"#.to_owned(),
    ];
    let client = plant.old_client().await;
    for arguments in &carried {
        let answer = client.post(call(arguments, "")).await;
        let record = plant.ended(&envelope(&answer)).await;
        assert!(
            record
                .payload
                .unwrap()
                .as_str()
                .starts_with(&arguments[..arguments.len() - 1])
        );
    }
    let refused = [
        call("{", ""),
        call(
            "{\"text\":\"x\"}",
            &format!(r#","_meta":{{"x":{}}}"#, deep(100_000)),
        ),
        call("{\"text\":\"x\"}", r#","_meta":{"x":"\ud800"}"#),
        call("{\"text\":\"x\"}", r#","_meta":5"#),
        call("{\"text\":\"x\"}", r#","name":["echo"]"#),
        r#"{"jsonrpc":"2.0","id":99999999999999999999,"method":"ping"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.to_owned(),
        "\u{feff}{}".to_owned(),
        String::new(),
    ];
    for body in refused {
        let shown = &body[..body.len().min(120)];
        let answer = client.post(body.clone()).await;
        assert!(answer.status < 500, "{shown}: {answer:?}");
        let told = answer.json()["error"]["code"].as_i64();
        assert!(told.is_some_and(|code| code <= -32600), "{shown}: {answer:?}");
    }
}
