//! Envelopes as tasks.

use serde_json::{Value, json};

use crate::plant::Plant;

#[tokio::test]
async fn a_task_is_made_watched_and_read() {
    let plant = Plant::start().await;
    let client = plant.client();
    let n = "18446744073709551617";
    let body = format!(r#"{{"n": {n}}}"#);
    let arguments: Box<serde_json::value::RawValue> = serde_json::from_str(&body).unwrap();
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}},
    });
    let call = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"echo_task","arguments":{arguments},"_meta":{meta}}}}}"#
    );
    let headed = plant
        .client()
        .with("mcp-method", "tools/call")
        .with("mcp-name", "echo_task");
    let task = headed.post(call).await.result();
    assert_eq!(
        (&task["resultType"], &task["status"]),
        (&json!("task"), &json!("working"))
    );
    assert_eq!(
        (&task["ttlMs"], &task["pollIntervalMs"]),
        (&Value::Null, &json!(1000))
    );
    assert!(task["createdAt"].is_string() && task["lastUpdatedAt"].is_string());
    let id = task["taskId"].as_str().unwrap();
    plant.ended(id).await;
    let answer = client.request("tasks/get", json!({"taskId": id})).await;
    let done = answer.result();
    assert_eq!(
        (&done["resultType"], &done["status"]),
        (&json!("complete"), &json!("completed"))
    );
    assert_eq!(done["statusMessage"], "Envelope completed successfully (100 %)");
    assert_eq!(done["result"]["content"][0]["text"], body);
    assert!(
        answer.text.contains(&format!(r#""structuredContent":{body}"#)),
        "{}",
        answer.text
    );
    assert!(done["ttlMs"].as_u64().unwrap() >= 720 * 3600 * 1000);
}

#[tokio::test]
async fn a_task_is_cancelled_and_stays_so() {
    let plant = Plant::start().await;
    let client = plant.client();
    let id = client.call("stuck_task", json!({})).await.result()["taskId"]
        .as_str()
        .unwrap()
        .to_owned();
    let task = json!({"taskId": id});
    let ack = client
        .request("tasks/update", json!({"taskId": id, "inputResponses": {}}))
        .await
        .result();
    assert_eq!(ack, json!({"resultType": "complete"}));
    assert_eq!(
        client.request("tasks/get", task.clone()).await.result()["status"],
        "working"
    );
    for _ in 0..2 {
        let ack = client.request("tasks/cancel", task.clone()).await.result();
        assert_eq!(ack, json!({"resultType": "complete"}));
        let cancelled = client.request("tasks/get", task.clone()).await.result();
        assert_eq!(cancelled["status"], "cancelled");
        assert!(cancelled.get("result").is_none() && cancelled.get("error").is_none());
    }
}

#[tokio::test]
async fn a_failed_envelope_is_a_completed_task_whose_result_says_so() {
    let plant = Plant::start().await;
    let client = plant.client().with("asya-tool-mode", "task");
    let id = client.call("broken", json!({})).await.result()["taskId"]
        .as_str()
        .unwrap()
        .to_owned();
    plant.ended(&id).await;
    let task = client.request("tasks/get", json!({"taskId": id})).await.result();
    assert_eq!(task["status"], "completed");
    assert_eq!(task["result"]["isError"], true);
    assert_eq!(
        task["result"]["content"][0]["text"],
        "the input was not what I wanted"
    );
}

#[tokio::test]
async fn only_clients_that_know_tasks_are_given_one() {
    let plant = Plant::start().await;
    for client in [plant.client().without_tasks(), plant.old_client().await] {
        let answer = client.call("echo_task", json!({})).await;
        assert!(
            answer.tool_text().contains("envelope_id"),
            "the handle instead: {}",
            answer.text
        );
        let answer = client
            .with("asya-tool-mode", "task")
            .call("echo_task", json!({}))
            .await;
        assert_eq!(answer.error_code(), -32021, "{}", answer.text);
        let required = &answer.last()["error"]["data"]["requiredCapabilities"]["extensions"];
        assert!(
            required["io.modelcontextprotocol/tasks"].is_object(),
            "{}",
            answer.text
        );
    }
    let plain = plant.client().without_tasks();
    let answer = plain.request("tasks/get", json!({"taskId": "x"})).await;
    assert_eq!((answer.status, answer.error_code()), (400, -32021));
}

#[tokio::test]
async fn tasks_of_nobody_and_of_other_tenants_are_not_known() {
    let plant = Plant::start().await;
    let (a, b) = (plant.of_tenant("a").await, plant.of_tenant("b").await);
    let id = a.client().call("stuck_task", json!({})).await.result()["taskId"]
        .as_str()
        .unwrap()
        .to_owned();
    for (client, id) in [(a.client(), "no-such-task"), (b.client(), id.as_str())] {
        for method in ["tasks/get", "tasks/cancel", "tasks/update"] {
            let answer = client
                .request(method, json!({"taskId": id, "inputResponses": {}}))
                .await;
            assert_eq!(
                (answer.status, answer.error_code()),
                (200, -32602),
                "{method} {}",
                answer.text
            );
            assert_eq!(answer.error_text(), format!("task {id:?} not found"));
        }
    }
    let task = a
        .client()
        .request("tasks/get", json!({"taskId": id}))
        .await
        .result();
    assert_eq!(task["status"], "working");
}
