//! Clients of the revisions up to 2025-11-25, the original's own among them.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::{Client, initialize, read, read_until};
use crate::plant::{Plant, TOOLS};

#[tokio::test]
async fn the_bundled_client_of_the_original_is_served_as_it_was() {
    let plant = Plant::start().await;
    // No Accept, no version header, no notifications/initialized.
    let mut client = Client::bare(plant.url());
    let answer = client.request("initialize", initialize("2024-11-05")).await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, "application/json")
    );
    let session = answer.header("mcp-session-id").to_owned();
    assert!(session.starts_with("mcp-session-"), "{session}");
    assert_eq!(session.len(), "mcp-session-".len() + 36);
    let result = answer.json()["result"].clone();
    assert_eq!(result["protocolVersion"], "2024-11-05");
    assert_eq!(
        result["serverInfo"],
        json!({"name": "asya-gateway", "version": "0.1.0"})
    );
    assert!(result["capabilities"]["tools"].is_object());
    client.set("mcp-session-id", &session);

    let answer = client.request("tools/list", json!({})).await;
    assert_eq!(answer.header("content-type"), "application/json");
    let tools = answer.json()["result"]["tools"].clone();
    let names: Vec<&str> = tools
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    assert!(names.is_sorted(), "{names:?}");

    let answer = client.call("echo", json!({"text": "hi"})).await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, "application/json")
    );
    let result = answer.json()["result"].clone();
    assert!(result.get("isError").is_none(), "{result}");
    assert!(result.get("resultType").is_none(), "{result}");
    let text = answer.tool_text();
    let handle: Value = serde_json::from_str(&text).unwrap();
    let id = handle["envelope_id"].as_str().unwrap();
    assert_eq!(
        text,
        format!(
            r#"{{"envelope_id":"{id}","message":"Envelope created successfully","status_url":"/envelopes/{id}","stream_url":"/envelopes/{id}/stream"}}"#
        )
    );
    assert_eq!(result["structuredContent"], handle);
    assert_eq!(
        plant.ended(id).await.payload.unwrap().as_str(),
        r#"{"text":"hi","count":3}"#
    );
}

#[tokio::test]
async fn every_revision_with_a_handshake_is_negotiated() {
    let plant = Plant::start().await;
    let client = Client::bare(plant.url());
    for (asked, answered) in [
        ("2025-11-25", "2025-11-25"),
        ("2025-06-18", "2025-06-18"),
        ("2025-03-26", "2025-03-26"),
        ("2024-11-05", "2024-11-05"),
        ("2026-07-28", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
    ] {
        let answer = client.request("initialize", initialize(asked)).await;
        assert_eq!(answer.json()["result"]["protocolVersion"], answered, "{asked}");
        assert!(
            answer.json()["result"]["capabilities"]
                .get("extensions")
                .is_none()
        );
    }
}

#[tokio::test]
async fn what_is_wrong_is_told_as_the_original_tells_it() {
    let plant = Plant::start().await;
    let client = plant.old_client().await;

    let answer = Client::bare(plant.url())
        .with("content-type", "text/plain")
        .post("{}")
        .await;
    assert_eq!(answer.status, 400);
    assert!(
        answer
            .text
            .starts_with("Invalid content type: must be 'application/json'")
    );

    for body in ["nonsense", "[]", r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#] {
        let answer = client.post(body).await;
        assert_eq!((answer.status, answer.error_code()), (400, -32700), "{body}");
        assert_eq!(answer.error_text(), "request body is not valid json");
        assert_eq!(answer.json()["id"], Value::Null);
    }
    for session in [
        "",
        "other",
        "mcp-session-",
        "mcp-session-nonsense",
        "mcp-session-../../x",
    ] {
        let lost = Client::bare(plant.url()).with("mcp-session-id", session);
        let answer = lost.request("tools/list", json!({})).await;
        assert_eq!(answer.status, 400, "{session}");
        assert!(answer.text.starts_with("Invalid session ID"), "{}", answer.text);
    }
    let answer = client.post(r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#).await;
    assert_eq!((answer.status, answer.error_code()), (200, -32600));
    assert_eq!(answer.error_text(), "Invalid JSON-RPC version");

    for (method, text) in [
        ("nonsense/x", "Method nonsense/x not found"),
        ("resources/list", "resources not supported"),
        ("prompts/list", "prompts not supported"),
        ("tasks/list", "Method tasks/list not found"),
    ] {
        let answer = client.request(method, json!({})).await;
        assert_eq!((answer.status, answer.error_code()), (200, -32601), "{method}");
        assert_eq!(answer.error_text(), text);
    }
    let answer = client.request("tools/call", json!({"name": 5})).await;
    assert_eq!(
        (answer.status, answer.error_code()),
        (200, -32602),
        "{}",
        answer.text
    );
    let answer = client.request("ping", json!({})).await;
    assert_eq!((answer.status, answer.json()["result"].clone()), (200, json!({})));
    let answer = client.request("server/discover", json!({})).await;
    assert_eq!(
        answer.status, 400,
        "a request of the other era needs its parameters: {}",
        answer.text
    );
}

#[tokio::test]
async fn bodies_above_the_limit_are_refused_and_nothing_is_stored() {
    let options = asya_gateway::mcp::McpOptions {
        max_body: 2048,
        ..Default::default()
    };
    let plant = Plant::with(options).await;
    let client = plant.old_client().await;
    let answer = client.call("echo", json!({"text": "x".repeat(3000)})).await;
    assert_eq!(answer.status, 413, "{}", answer.text);
    assert!(answer.text.contains("2048 bytes"), "{}", answer.text);
    let answer = client.call("echo", json!({"text": "x".repeat(1000)})).await;
    assert_eq!(answer.status, 200);
    plant.only().await;
}

#[tokio::test]
async fn a_body_that_never_comes_is_not_waited_for() {
    let options = asya_gateway::mcp::McpOptions {
        body_timeout: std::time::Duration::from_millis(200),
        ..Default::default()
    };
    let plant = Plant::with(options).await;
    let mut socket = tokio::net::TcpStream::connect(plant.address).await.unwrap();
    let head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{";
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 408");
}

#[tokio::test]
async fn any_replica_serves_any_session() {
    let first = Plant::start().await;
    let second = first.beside().await;
    let session = first.old_client().await.headers["mcp-session-id"].clone();
    let moved = Client::bare(second.url()).with("mcp-session-id", session.to_str().unwrap());
    assert_eq!(moved.request("tools/list", json!({})).await.status, 200);
    let invented = format!("mcp-session-{}", uuid::Uuid::new_v4());
    let invented = Client::bare(second.url()).with("mcp-session-id", &invented);
    assert_eq!(invented.request("tools/list", json!({})).await.status, 200);
}

#[tokio::test]
async fn the_stream_of_an_old_client_tells_when_the_tools_change() {
    let plant = Plant::start().await;
    let client = plant.old_client().await;
    let mut stream = client.bodyless("GET", "/mcp").await;
    assert_eq!(stream.status(), 200);
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    plant.write_tools(&TOOLS.replace("Answers with what it was given", "Says it again"));
    let read = read_until(&mut stream, "\n\n").await;
    let data = read.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(data).unwrap(),
        json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
    );
    let tools = client.request("tools/list", json!({})).await;
    assert!(tools.text.contains("Says it again"), "{}", tools.text);
    plant.gateway.drain();
    read_until(&mut stream, "retry: 1000").await;
    assert_eq!(stream.chunk().await.unwrap(), None, "it ends");
}

#[tokio::test]
async fn other_methods_and_the_oldest_transport_are_refused_with_a_way_out() {
    let plant = Plant::start().await;
    let client = Client::bare(plant.url());
    // Nothing is kept for a session, so nothing can be ended: as the specification has it for such servers.
    for method in ["DELETE", "PUT", "PATCH"] {
        let answer = read(client.bodyless(method, "/mcp").await).await;
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, "GET, POST"),
            "{method}"
        );
    }
    for method in ["GET", "POST"] {
        let answer = read(client.bodyless(method, "/mcp/sse").await).await;
        assert_eq!(answer.status, 410);
        assert!(answer.text.contains("/mcp"), "{}", answer.text);
    }
    let page = Client::bare(plant.url()).with("accept", "text/html");
    assert_eq!(page.bodyless("GET", "/mcp").await.status(), 406);
}

#[tokio::test]
async fn tools_are_shown_with_their_schemas_and_hints() {
    let plant = Plant::start().await;
    let client = plant.old_client().await;
    let tools = client.request("tools/list", json!({})).await.result()["tools"].clone();
    let tool = |name: &str| {
        let found = tools.as_array().unwrap().iter().find(|tool| tool["name"] == name);
        found.unwrap().clone()
    };
    assert_eq!(
        tool("echo"),
        json!({
            "name": "echo",
            "description": "Answers with what it was given",
            "inputSchema": {
                "type": "object",
                "properties": {"text": {"type": "string"}, "count": {"type": "integer", "default": 3}},
                "required": ["text"]
            },
            "annotations": {
                "readOnlyHint": false, "destructiveHint": true, "idempotentHint": false, "openWorldHint": true
            }
        })
    );
    let waiting = tool("echo_wait");
    assert_eq!(
        (&waiting["title"], &waiting["annotations"]["readOnlyHint"]),
        (&json!("Echo"), &json!(true))
    );
    assert_eq!(waiting["_meta"], json!({"asya.sh/mode": "wait"}));
    assert_eq!(waiting["outputSchema"]["type"], "object");
    assert_eq!(
        waiting["outputSchema"]["$defs"],
        json!({"any": {}}),
        "references count from the root"
    );
    assert_eq!(
        waiting["outputSchema"]["anyOf"][0]["properties"],
        json!({"n": {"$ref": "#/$defs/any"}})
    );
    assert_eq!(waiting["outputSchema"]["anyOf"][1]["title"], "Handle");
    assert!(
        tool("numbers").get("outputSchema").is_none(),
        "old clients know objects alone"
    );
}
