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
