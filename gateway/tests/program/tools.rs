//! Tool files that change while it serves.

use serde_json::Value;

use crate::setup::{Place, eventually, get};

async fn names(url: &str) -> Vec<String> {
    let (_, body) = get(url, "/tools").await;
    let tools: Value = serde_json::from_str(&body).unwrap();
    let tools = tools["tools"].as_array().unwrap();
    tools
        .iter()
        .map(|tool| tool["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_is_taken_and_a_broken_one_refused_with_its_mistakes() {
    let place = Place::new();
    let gateway = place.start(&[("ASYA_TRANSPORT", "local")]);
    let url = gateway.url().await;
    assert_eq!(names(&url).await, ["short", "slow"]);

    place.write("tools.yaml", "tools:\n- {name: other, route: [first]}\n");
    eventually("the other tool", || async {
        (names(&url).await == ["other"]).then_some(())
    })
    .await;

    place.write("tools.yaml", "tools:\n- {name: other, route: nowhere}\n");
    gateway.says("nowhere").await;
    assert!(gateway.log().contains("tools.yaml:2:"), "{}", gateway.log());
    assert_eq!(names(&url).await, ["other"]);

    place.write("tools.yaml", "tools: []\n");
    eventually("no tools", || async {
        names(&url).await.is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_do_wrong_is_not_written_into_the_log() {
    let place = Place::new();
    let gateway = place.start(&[("ASYA_TRANSPORT", "local")]);
    let url = gateway.url().await;
    let client = reqwest::Client::new();
    let long = "M".repeat(1_000_000);
    for body in [
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"foo/{long}"}}"#),
        format!(r#"{{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{{"name":"{long}"}}}}"#),
    ] {
        let request = client.post(format!("{url}/mcp"));
        let request = request.header("content-type", "application/json").header(
            "mcp-session-id",
            "mcp-session-11111111-1111-4111-8111-111111111111",
        );
        let answer = request.body(body).send().await.unwrap();
        assert!(answer.text().await.unwrap().contains("not found"));
    }
    // Something that comes later is there.
    place.write("tools.yaml", "tools:\n- {name: other, route: nowhere}\n");
    gateway.says("nowhere").await;
    let written = gateway.log();
    assert!(!written.contains("MMM"), "{} bytes of log", written.len());
}
