//! Clients of 2026-07-28: every request stands for itself.

use serde_json::{Value, json};

use crate::client::{Client, read, read_until};
use crate::plant::{Plant, TOOLS};

#[tokio::test]
async fn a_server_is_discovered_and_its_tools_listed_without_a_handshake() {
    let plant = Plant::start().await;
    let client = plant.client();
    let discovered = client.request("server/discover", json!({})).await.result();
    assert_eq!(discovered["resultType"], "complete");
    assert_eq!(discovered["capabilities"]["tools"], json!({"listChanged": true}));
    assert_eq!(
        discovered["capabilities"]["extensions"],
        json!({"io.modelcontextprotocol/tasks": {}})
    );
    let versions = discovered["supportedVersions"].as_array().unwrap();
    assert!(versions.contains(&json!("2026-07-28")) && versions.contains(&json!("2024-11-05")));
    let info = json!({"name": "asya-gateway", "version": "0.1.0"});
    assert_eq!(discovered["_meta"]["io.modelcontextprotocol/serverInfo"], info);

    let listed = client.request("tools/list", json!({})).await;
    assert!(listed.headers.get("mcp-session-id").is_none());
    let listed = listed.result();
    assert_eq!(
        (&listed["resultType"], &listed["ttlMs"]),
        (&json!("complete"), &json!(30_000))
    );
    assert_eq!(listed["cacheScope"], "private");
    assert_eq!(listed["_meta"]["io.modelcontextprotocol/serverInfo"], info);
    let tools = listed["tools"].as_array().unwrap();
    let numbers = tools.iter().find(|tool| tool["name"] == "numbers").unwrap();
    assert_eq!(numbers["outputSchema"]["anyOf"][0], json!({"type": "number"}));
}

#[tokio::test]
async fn headers_must_say_what_the_body_says() {
    let plant = Plant::start().await;
    let call = json!({"name": "echo", "arguments": {"text": "x"}});
    for (header, value) in [
        ("mcp-protocol-version", "2025-11-25"),
        ("mcp-method", "tools/list"),
        ("mcp-name", "other"),
    ] {
        let body =
            json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": meta(&call, "2026-07-28")});
        let client = plant
            .client()
            .with("mcp-method", "tools/call")
            .with("mcp-name", "echo");
        let answer = client.with(header, value).post(body.to_string()).await;
        assert_eq!(
            (answer.status, answer.error_code()),
            (400, -32020),
            "{header}: {}",
            answer.text
        );
    }
    let body =
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": meta(&call, "2026-07-28")});
    let answer = plant.client().post(body.to_string()).await;
    assert_eq!(
        (answer.status, answer.error_code()),
        (400, -32020),
        "headers are missing"
    );
}

#[tokio::test]
async fn unknown_versions_and_methods_and_missing_parameters_have_their_codes() {
    let plant = Plant::start().await;
    let client = plant.client().with("mcp-protocol-version", "2031-01-01");
    let answer = client.request("tools/list", meta(&json!({}), "2031-01-01")).await;
    assert_eq!(
        (answer.status, answer.error_code()),
        (400, -32022),
        "{}",
        answer.text
    );
    let supported = answer.last()["error"]["data"]["supported"].clone();
    assert!(
        supported.as_array().unwrap().contains(&json!("2026-07-28")),
        "{supported}"
    );

    let client = plant.client();
    let answer = client.request("nonsense/x", json!({})).await;
    assert_eq!((answer.status, answer.error_code()), (404, -32601));
    let answer = client.request("ping", json!({})).await;
    assert_eq!(
        (answer.status, answer.error_code()),
        (404, -32601),
        "the handshake's"
    );
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#;
    let answer = plant.client().with("mcp-method", "tools/list").post(body).await;
    assert_eq!(
        (answer.status, answer.error_code()),
        (400, -32602),
        "{}",
        answer.text
    );
    let answer = plant
        .client()
        .notify("notifications/cancelled", json!({"requestId": 1}))
        .await;
    assert_eq!((answer.status, answer.text.as_str()), (202, ""));
    for method in ["GET", "DELETE"] {
        assert_eq!(
            plant.client().bodyless(method, "/mcp").await.status(),
            405,
            "{method}"
        );
    }
}

#[tokio::test]
async fn a_page_of_another_origin_and_a_rebound_name_are_refused() {
    let plant = Plant::start().await;
    for (header, value) in [("origin", "https://evil.example"), ("host", "evil.example")] {
        for client in [plant.client(), Client::bare(plant.url())] {
            let answer = client
                .with(header, value)
                .request("server/discover", json!({}))
                .await;
            assert_eq!(answer.status, 403, "{header}: {}", answer.text);
        }
    }
    let local = format!("http://{}", plant.address);
    let answer = plant
        .client()
        .with("origin", &local)
        .request("server/discover", json!({}))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[tokio::test]
async fn a_subscription_tells_when_the_tools_change_and_ends_with_the_gateway() {
    let plant = Plant::start().await;
    let params = json!({"notifications": {"toolsListChanged": true, "promptsListChanged": true}});
    let mut stream = plant.client().open("subscriptions/listen", params).await;
    assert_eq!(stream.status(), 200);
    let first = data(&read_until(&mut stream, "\n\n").await);
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(
        first["params"]["notifications"],
        json!({"toolsListChanged": true})
    );
    plant.write_tools(&TOOLS.replace("Answers with what it was given", "Says it again"));
    let second = data(&read_until(&mut stream, "\n\n").await);
    assert_eq!(second["method"], "notifications/tools/list_changed");
    assert_eq!(
        second["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"],
        7
    );
    plant.gateway.drain();
    let last = data(&read(stream).await.text);
    assert_eq!(
        (&last["id"], &last["result"]["resultType"]),
        (&json!(7), &json!("complete"))
    );
}

#[tokio::test]
async fn a_subscription_follows_the_tasks_that_its_client_may_see() {
    let plant = Plant::start().await;
    let client = plant.client();
    let task = client.call("stuck_task", json!({})).await.result();
    let id = task["taskId"].as_str().unwrap();
    let params = json!({"notifications": {"taskIds": [id, "no-such-task"]}});
    let mut stream = client.open("subscriptions/listen", params).await;
    let first = data(&read_until(&mut stream, "\n\n").await);
    assert_eq!(
        first["params"]["notifications"],
        json!({"taskIds": [id]}),
        "what is not there is not promised"
    );
    let working = read_until(&mut stream, "working (").await;
    assert!(working.contains("notifications/tasks"), "{working}");
    client
        .request("tasks/cancel", json!({"taskId": id}))
        .await
        .result();
    let cancelled = read_until(&mut stream, "\"cancelled\"").await;
    let last = cancelled
        .lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .next_back()
        .unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["method"], "notifications/tasks");
    assert_eq!(
        (&last["params"]["taskId"], &last["params"]["status"]),
        (&json!(id), &json!("cancelled"))
    );
    assert_eq!(
        last["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"],
        7
    );
}

#[tokio::test]
async fn more_streams_than_allowed_are_told_to_come_back() {
    let options = asya_gateway::mcp::McpOptions {
        max_streams: 1,
        ..Default::default()
    };
    let plant = Plant::with(options).await;
    let params = json!({"notifications": {"toolsListChanged": true}});
    let mut first = plant.client().open("subscriptions/listen", params.clone()).await;
    read_until(&mut first, "acknowledged").await;
    let second = plant
        .client()
        .request("subscriptions/listen", params.clone())
        .await;
    assert_eq!(
        (second.status, second.header("retry-after")),
        (503, "10"),
        "{}",
        second.text
    );
    // A call is answered all the same.
    let answer = plant.client().call("stuck", json!({})).await;
    assert!(answer.tool_text().contains("envelope_id"), "{}", answer.text);
    drop(first);
    for _ in 0..600 {
        let mut next = plant.client().open("subscriptions/listen", params.clone()).await;
        if next.status() == 200 {
            read_until(&mut next, "acknowledged").await;
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the place was not given back");
}

/// The parameters with what a stateless request must have.
fn meta(params: &Value, version: &str) -> Value {
    let mut params = params.clone();
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    params
}

/// The first message of a text of events.
fn data(text: &str) -> Value {
    let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
    let data = data.map(str::trim).find(|data| !data.is_empty());
    serde_json::from_str(data.unwrap_or_else(|| panic!("no event: {text}"))).unwrap()
}
