//! Tools that change while the gateway runs.

use std::fs;
use std::time::Duration;

use asya_gateway::core::{Gateway, GatewayOptions, SubmitError, ToolBook};

use crate::world::{PATIENCE, World, call, submit};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_that_is_added_to_the_file_can_be_called_and_one_that_is_removed_cannot() {
    let world = World::new().await;
    let store = world.store().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tools.yaml");
    fs::write(&file, "tools: [{name: old, route: [first]}]").unwrap();
    let tools = ToolBook::open(&file).unwrap();
    let mut options = GatewayOptions {
        tools,
        ..world.options(&store)
    };
    options.patience.tools = Duration::from_millis(10);
    let gateway = Gateway::start(options).await;
    let mut changed = gateway.tools_changed();
    submit(&gateway, call("old", "{}")).await.unwrap();
    assert!(matches!(
        submit(&gateway, call("new", "{}")).await,
        Err(SubmitError::UnknownTool(_))
    ));

    // In one step, as an editor or a mounted ConfigMap does.
    let next = directory.path().join("next");
    fs::write(&next, "tools: [{name: new, route: [first]}]").unwrap();
    fs::rename(&next, &file).unwrap();
    tokio::time::timeout(PATIENCE, changed.changed())
        .await
        .unwrap()
        .unwrap();
    submit(&gateway, call("new", "{}")).await.unwrap();
    assert!(matches!(
        submit(&gateway, call("old", "{}")).await,
        Err(SubmitError::UnknownTool(_))
    ));
    assert_eq!(gateway.tools().tools.len(), 1);
}
